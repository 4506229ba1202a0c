import numpy as np
import numpy.typing as npt
import pytest
from scipy import optimize, special, stats

from safesweep.trainables.store.shared_estimates import (
    Costs,
    Prior,
    Process,
    Replicates,
    Rewards,
    replicates,
)

FloatArray = npt.NDArray[np.float64]


def nowhere(count: int) -> tuple[FloatArray, FloatArray]:
    """Exchangeable configurations."""
    return np.zeros((count, 0)), np.arange(count, dtype=np.float64)


def test_means_counts_and_squares_of_seeds() -> None:
    found = replicates([np.array([1.0, 3.0]), np.array([5.0])])
    assert found.means.tolist() == [2.0, 5.0]
    assert found.counts.tolist() == [2.0, 1.0]
    assert (found.within, found.freedom) == (2.0, 1.0)


def test_the_gradient_is_that_of_the_loss() -> None:
    generator = np.random.default_rng(0)
    features = generator.random((9, 2))
    seen = replicates([generator.standard_normal(n) for n in (1, 2, 3, 1, 2, 3, 1, 2, 3)])
    process = Process(features, seen, Prior(noise=(0.0, 1.0)))
    means, deviations = process._priors()
    for point in generator.normal(means, 0.5, (5, len(means))):
        slopes = process._loss(point, means, deviations)[1]
        numeric = optimize.approx_fprime(
            point, lambda x: process._loss(x, means, deviations)[0], 1e-6
        )
        assert slopes == pytest.approx(numeric, rel=1e-3, abs=1e-3)


def test_known_parameters_give_the_textbook_posterior() -> None:
    """Two exchangeable values with own deviation 1 and noise 1 about a common, nearly free mean."""
    features, rows = nowhere(2)
    seen = Replicates(np.array([0.0, 2.0]), np.ones(2), variances=np.ones(2))
    parameters = np.array([0.0, 0.0])  # Scale is of no account without features; own is 1.
    mean, covariance = Process(features, seen, Prior(), parameters).posterior(features, rows)
    # Of the difference, whose prior and noise variances are 2 each, a half remains.
    assert mean[1] - mean[0] == pytest.approx(1.0)
    difference = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert difference == pytest.approx(1.0, abs=1e-6)
    assert mean.mean() == pytest.approx(1.0)


def test_alike_configurations_share_what_seeds_say_and_unlike_ones_do_not() -> None:
    generator = np.random.default_rng(1)
    alike = [generator.exponential(1.0, 3) for _ in range(30)]
    features, rows = nowhere(30)
    bounds = Costs(features, alike).upper_bounds(features, rows, 0.9)
    # Alone three exponential seeds bound their mean by 2.7 times it, in the median.
    assert np.median(bounds) < 1.6
    unlike = [
        scale * seeds for scale, seeds in zip(np.geomspace(0.01, 100, 30), alike, strict=True)
    ]
    means, _ = Costs(features, unlike).posterior(features, rows)
    assert stats.spearmanr(means, np.geomspace(0.01, 100, 30)).statistic > 0.95


@pytest.mark.parametrize("seeds", [5, 10, 40])
def test_few_exponential_seeds_bound_their_mean_as_is_known(seeds: int) -> None:
    """Their sum is gamma distributed. Each configuration is judged alone."""
    features, rows = nowhere(1)
    costs = -np.log((np.arange(seeds) + 0.5) / seeds)
    known = costs.mean() * seeds / special.gammaincinv(seeds, 0.1)
    found = Costs(features, [costs]).upper_bounds(features, rows, 0.9)
    assert found[0] == pytest.approx(known, rel=0.11)
    mean, variance = Costs(features, [costs]).marginal(features, rows)
    assert found[0] > np.exp(mean + stats.norm.ppf(0.9) * np.sqrt(variance))[0]


def test_the_expected_cost_of_many_seeds_is_their_mean() -> None:
    generator = np.random.default_rng(2)
    chances = np.array([0.05, 0.3, 0.9])
    costs = [(generator.random(4000) < p) * generator.exponential(2.0, 4000) for p in chances]
    features, rows = nowhere(3)
    mean, covariance = Costs(features, costs).posterior(features, rows)
    assert np.exp(mean) == pytest.approx([c.mean() for c in costs], rel=0.05)
    assert np.sqrt(np.diag(covariance)).max() < 0.12


def test_seeds_that_never_cost_anything_and_such_that_always_do() -> None:
    features, rows = nowhere(4)
    never = Costs(features, [np.zeros(5)] * 4)
    bounds = never.upper_bounds(features, rows, 0.9)
    assert (bounds < 1).all() and (bounds > 0).all()
    always = Costs(features, [np.full(5, 0.5)] * 4)
    assert always.frequency is None
    assert np.exp(always.posterior(features, rows)[0]) == pytest.approx(0.5, rel=0.02)


def test_a_smooth_reward_is_known_between_what_was_tried() -> None:
    features = np.linspace(0, 1, 9)[:, None]
    rewards = Rewards(features, [np.sin(4 * x) + np.zeros(2) for x in features[:, 0]])
    between = np.array([[0.31], [0.77]])
    mean, covariance = rewards.posterior(between, np.full(2, -1.0))
    assert mean == pytest.approx(np.sin(4 * between[:, 0]), abs=0.05)
    assert np.sqrt(np.diag(covariance)).max() < 0.3


def test_draws_have_the_moments_that_are_said() -> None:
    generator = np.random.default_rng(3)
    features = generator.random((12, 2))
    costs = Costs(features, [generator.exponential(1.0, 8) for _ in range(12)])
    rows = np.arange(12, dtype=np.float64)
    mean, covariance = costs.posterior(features, rows)
    drawn = costs.draws(features, rows, 20_000, generator)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.02)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.02)
