import numpy as np

from safesweep.trainables.measurements.lspc import share_in_hull


def test_the_share_within_a_square() -> None:
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    points = np.array([[0.5, 0.5], [0.9, 0.1], [1.5, 0.5], [-0.1, 0.2]])
    assert share_in_hull(points, square) == 0.5
    assert np.isnan(share_in_hull(points, square[[0, 0, 0]]))
