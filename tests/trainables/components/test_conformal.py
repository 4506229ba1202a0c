"""Conformal calibration: exact quantiles, and coverage on synthetic scores and on the boat."""

import numpy as np
import pytest
import torch
from torch.func import vmap

from safesweep.trainables.components.conformal import (
    calibrated_threshold,
    calibration_split,
    calibration_weights,
    episode_numbers,
    violation_ahead,
)
from safesweep.trainables.tasks import boat

DRAWS = 500


def threshold(scores: np.ndarray, level: float, episodes: np.ndarray | None = None) -> float:
    groups = torch.arange(len(scores)) if episodes is None else torch.as_tensor(episodes)
    weights = calibration_weights(torch.ones(len(scores), dtype=torch.bool), groups)
    values = torch.as_tensor(scores, dtype=torch.float32)
    return float(calibrated_threshold(values, weights, torch.tensor(level)))


@pytest.mark.parametrize(
    ("count", "level", "rank"),
    [(9, 0.1, 1), (19, 0.1, 2), (99, 0.05, 5), (95, 0.1, 9), (8, 0.1, 0), (3, 0.5, 2)],
)
def test_single_states_give_the_split_conformal_quantile(
    count: int, level: float, rank: int
) -> None:
    """t lies between the scores of rank floor(level (n + 1)) - 1 and floor(level (n + 1))."""
    scores = np.random.default_rng(count).permutation(count) + 1.0
    found = threshold(scores, level)
    if rank == 0:
        assert found == -np.inf
    else:
        assert rank - 1 <= found < rank
        assert found == pytest.approx(rank)


def test_without_unsafe_states_nothing_is_certified() -> None:
    nothing = calibrated_threshold(torch.zeros(0), torch.zeros(0), torch.tensor(0.1))
    assert float(nothing) == -np.inf


def test_ties_are_all_kept_on_the_unsafe_side() -> None:
    assert threshold(np.array([1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), 0.3) < 2.0


def test_long_episodes_weigh_no_more_than_short_ones() -> None:
    """19 episodes of one state at 5, and one of 1,000 states at 1: the quantile ignores length."""
    scores = np.concatenate([np.full(1000, 1.0), np.full(19, 5.0)])
    episodes = np.concatenate([np.zeros(1000, dtype=int), np.arange(1, 20)])
    assert threshold(scores, 0.1, episodes) == pytest.approx(5.0)
    assert threshold(scores, 0.1) == pytest.approx(1.0)


def test_members_of_a_population_may_differ_in_their_level() -> None:
    scores = torch.arange(1.0, 100.0)
    weights = calibration_weights(torch.ones(99, dtype=torch.bool), torch.arange(99))
    levels = torch.tensor([0.05, 0.1, 0.25])
    lifted = vmap(lambda level: calibrated_threshold(scores, weights, level))(levels)
    torch.testing.assert_close(lifted, torch.tensor([5.0, 10.0, 25.0]))


def test_violations_ahead_stay_within_the_window_and_the_episode() -> None:
    costs = torch.tensor([0.0, 0, 0, 1, 0, 0, 1, 0, 0, 0])
    terminals = torch.zeros(10)
    timeouts = torch.tensor([0.0, 0, 0, 0, 1, 0, 0, 0, 0, 1])
    episodes = episode_numbers(terminals, timeouts)
    assert episodes.tolist() == [0] * 5 + [1] * 5

    def labels(window: int) -> list[int]:
        return violation_ahead(costs, episodes, window).int().tolist()

    assert labels(0) == costs.int().tolist()
    assert labels(1) == [0, 0, 1, 1, 0, 1, 1, 0, 0, 0]
    assert labels(100) == [1, 1, 1, 1, 0, 1, 1, 0, 0, 0]
    assert not violation_ahead(torch.zeros(10), episodes, 3).any()


def test_the_split_takes_whole_episodes_with_violations() -> None:
    episodes = torch.arange(40).repeat_interleave(5)
    unsafe = (episodes % 2 == 0) & (torch.arange(200) % 5 == 3)

    def split(count: int, seed: int = 0) -> torch.Tensor:
        return calibration_split(unsafe, episodes, count, seed).reshape(40, 5)

    marked = split(4)
    assert (marked == marked[:, :1]).all()
    assert int(marked[:, 0].sum()) == 4
    assert float(marked[1::2].sum()) == 0
    assert int(split(100)[:, 0].sum()) == 20 // 3
    assert not torch.equal(marked, split(4, seed=1))
    none = calibration_split(torch.zeros(200, dtype=torch.bool), episodes, 4, 0)
    assert float(none.sum()) == 0


# With these counts the expected coverage exceeds 1 - delta by more than the error of 500 draws.
@pytest.mark.parametrize("level", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("count", [47, 147])
def test_coverage_over_500_draws_of_synthetic_scores(level: float, count: int) -> None:
    """Exact coverage of a threshold on exponential scores; its law is known: Beta(n + 1 - k, k)."""
    rng = np.random.default_rng(0)
    covered = [
        np.exp(-max(threshold(rng.exponential(size=count), level), 0.0)) for _ in range(DRAWS)
    ]
    rank = int(level * (count + 1) + 1e-9)
    expected = 1 - rank / (count + 1)
    error = np.std(covered) / DRAWS**0.5
    assert np.mean(covered) >= 1 - level
    assert np.mean(covered) == pytest.approx(expected, abs=4 * error)
    variance = rank * (count + 1 - rank) / ((count + 1) ** 2 * (count + 2))
    assert np.std(covered) == pytest.approx(variance**0.5, rel=0.15)


def test_coverage_over_500_draws_of_dependent_episodes() -> None:
    """States of an episode share most of their score: counting them as independent would fail."""
    rng = np.random.default_rng(1)
    level, groups = 0.1, 30

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        # Reckless episodes are long and their states look safe.
        centres = rng.normal(size=count)
        lengths = np.where(centres < -1, 1, 40)
        episodes = np.repeat(np.arange(count), lengths)
        return centres[episodes] + 0.1 * rng.normal(size=len(episodes)), episodes

    test_scores, test_episodes = draw(4000)
    per_episode = 1 / np.bincount(test_episodes)[test_episodes] / 4000
    hierarchical: list[float] = []
    pooled: list[float] = []
    for _ in range(DRAWS):
        scores, episodes = draw(groups)
        for found, cut in (
            (hierarchical, threshold(scores, level, episodes)),
            (pooled, threshold(scores, level)),
        ):
            found.append(float(per_episode[test_scores > cut].sum()))
    assert np.mean(hierarchical) >= 1 - level
    assert np.mean(pooled) < 1 - level


@pytest.mark.parametrize("level", [0.05, 0.1])
def test_coverage_over_500_draws_on_the_boats_true_feasible_set(level: float) -> None:
    """A critic that is blind to the current and too sure of itself declares more than a tenth of
    the truly infeasible states feasible; calibrated on draws of these, it misses at most delta."""
    rng = np.random.default_rng(0)
    truth = boat.true_feasible_set("BoatNavigation-v0")
    states = rng.uniform(boat.LOW, boat.HIGH, size=(200_000, 2))
    critic = boat.safety_margin(states) - 0.05 + 0.05 * rng.normal(size=len(states))
    feasible = truth.feasible(states)
    infeasible_scores, feasible_scores = critic[~feasible], critic[feasible]
    assert (infeasible_scores > 0).mean() < 0.9
    # floor(delta (n + 1)) / (n + 1) is below delta by several standard errors of the mean of 500.
    count = 148
    covered, certified = [], []
    for _ in range(DRAWS):
        cut = threshold(rng.choice(infeasible_scores, count), level)
        covered.append((infeasible_scores > cut).mean())
        certified.append((feasible_scores <= cut).mean())
    expected = 1 - int(level * (count + 1)) / (count + 1)
    assert np.mean(covered) >= 1 - level
    assert np.mean(covered) == pytest.approx(expected, abs=4 * np.std(covered) / DRAWS**0.5)
    # Not by declaring everything infeasible.
    assert np.mean(certified) > 0.3
