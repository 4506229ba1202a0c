"""Augmentation: fronts of hand-made episodes, and what a relabelled one may be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from safesweep.trainables.components.return_augmentation import pareto_front, relabelled, thinned

SCORES = st.lists(
    st.tuples(st.floats(-50, 50), st.integers(0, 60).map(float)), min_size=1, max_size=40
)


def test_a_front_holds_what_no_other_episode_beats() -> None:
    returns = np.array([1.0, 3.0, 2.0, 3.0, 5.0, 4.0])
    costs = np.array([0.0, 2.0, 1.0, 4.0, 6.0, 6.0])
    assert pareto_front(returns, costs).tolist() == [0, 2, 1, 4]


@given(SCORES)
def test_every_episode_is_on_the_front_or_beaten_by_one_that_is(
    scores: list[tuple[float, float]],
) -> None:
    returns, costs = np.array(scores).T
    front = pareto_front(returns, costs)
    for episode in range(len(returns)):
        beaten = (returns[front] >= returns[episode]) & (costs[front] <= costs[episode])
        assert beaten.any()
    assert (np.diff(costs[front]) > 0).all() and (np.diff(returns[front]) > 0).all()


def test_full_cells_are_thinned_and_nearly_empty_ones_left_out() -> None:
    returns = np.concatenate((np.full(30, 0.0), np.full(5, 10.0), np.full(2, 5.0)))
    costs = np.concatenate((np.full(30, 0.0), np.full(5, 10.0), np.full(2, 5.0)))
    kept = thinned(returns, costs, np.random.default_rng(0))
    assert ((kept < 30).sum(), (kept >= 35).sum(), len(kept)) == (10, 0, 15)
    # A few episodes, each alone in its cell, are all kept.
    few = np.arange(4.0)
    assert thinned(few, few, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]


@given(SCORES, st.floats(0, 2), st.integers(0, 4), st.integers(0, 5))
def test_pairs_lie_above_the_front_and_are_shown_with_episodes_that_cost_no_more(
    scores: list[tuple[float, float]], share: float, degree: int, seed: int
) -> None:
    returns, costs = np.array(scores).T
    found = relabelled(returns, costs, share, degree, 1.0, 60.0, 5.0, seed)
    again = relabelled(returns, costs, share, degree, 1.0, 60.0, 5.0, seed)
    assert len(found.episodes) <= share * len(returns)
    assert (costs[found.episodes] <= found.costs + 1e-9).all()
    assert (found.costs >= costs.min()).all() and (found.costs <= costs.max()).all()
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_the_nearest_episode_is_taken_once() -> None:
    """Two episodes on a flat front; pairs at costs 0, 1 and 2 are nearest to the first, the first
    and the second, and the one that is left over may take either that costs no more."""
    found = relabelled(np.array([10.0, 10.0]), np.array([0.0, 2.0]), 1.5, 0, 0.0, 10.0, 1.0, seed=0)
    assert found.returns.tolist() == [10.0, 10.0, 10.0] and found.costs.tolist() == [0.0, 1.0, 2.0]
    assert found.episodes.tolist() == [0, 0, 1]
