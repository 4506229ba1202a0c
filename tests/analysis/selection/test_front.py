import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.selection.front import non_dominated


def test_the_front_of_known_points() -> None:
    reward = np.array([1.0, 2.0, 2.0, 0.5, 3.0, np.nan, 9.0])
    cost = np.array([0.0, 1.0, 2.0, 0.5, 4.0, 0.0, np.nan])
    # The third has no more reward than the second at more cost; the fourth less than the first at
    # more cost; the last two miss a score.
    assert list(non_dominated(reward, cost)) == [0, 1, 4]


def test_of_equal_points_the_first_is_on_the_front() -> None:
    assert list(non_dominated(np.array([0.5, 0.5]), np.array([1.0, 1.0]))) == [0]


def test_nothing_has_no_front() -> None:
    assert len(non_dominated(np.array([]), np.array([]))) == 0


def test_costs_that_differ_by_rounding_are_equal() -> None:
    cost = np.array([0.44999999999999996, 0.45])
    assert list(non_dominated(np.array([0.62, 0.72]), cost)) == [1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_no_point_of_the_front_is_beaten_and_every_other_one_is(
    points: list[tuple[int, int]],
) -> None:
    reward, cost = np.array(points, np.float64).T
    front = non_dominated(reward, cost)
    assert (np.diff(cost[front]) > 0).all() and (np.diff(reward[front]) > 0).all()
    for place in range(len(points)):
        beats = (reward >= reward[place]) & (cost <= cost[place])
        assert beats[front].any()
        beats &= (reward > reward[place]) | (cost < cost[place])
        assert place not in front or not beats.any()
