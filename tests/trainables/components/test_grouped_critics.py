"""Groups of critics: the worst inside a group, a mixture between the two."""

import torch

from safesweep.trainables.components.grouped_critics import mixed_value, worst_value

# Two groups of two networks, three states.
VALUES = torch.tensor([[1.0, 4.0, 0.0], [3.0, 2.0, 0.0], [5.0, 9.0, 0.0], [4.0, 7.0, 0.0]])


def test_of_rewards_the_smallest_is_worst() -> None:
    """Groups: 1 and 4 in the first state, 2 and 7 in the second."""
    found = mixed_value(VALUES, torch.tensor(0.75))
    assert found.tolist() == [0.75 * 1 + 0.25 * 4, 0.75 * 2 + 0.25 * 7, 0.0]
    assert worst_value(VALUES).tolist() == [1.0, 2.0, 0.0]


def test_of_costs_the_largest_is_worst() -> None:
    """Groups: 3 and 5 in the first state, 4 and 9 in the second."""
    found = mixed_value(VALUES, torch.tensor(0.75), largest_is_worst=True)
    assert found.tolist() == [0.75 * 5 + 0.25 * 3, 0.75 * 9 + 0.25 * 4, 0.0]
    assert worst_value(VALUES, largest_is_worst=True).tolist() == [5.0, 9.0, 0.0]


def test_candidates_keep_their_places() -> None:
    values = torch.stack([VALUES, VALUES + 1], dim=1)
    assert mixed_value(values, torch.tensor(1.0)).tolist() == [[1.0, 2.0, 0.0], [2.0, 3.0, 1.0]]
