"""Windows of hand-made episodes."""

import torch

from safesweep.trainables.components.windows import steps_left, sums_to_go, windows

# Episodes of 3 steps (ends), 2 (cut off) and 2 (the data stop).
TERMINALS = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
TIMEOUTS = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0])


def test_steps_left_count_to_the_end_of_the_episode() -> None:
    assert steps_left(TERMINALS, TIMEOUTS).tolist() == [3, 2, 1, 2, 1, 2, 1]


def test_a_window_stops_at_the_end_of_its_episode() -> None:
    steps = torch.arange(1.0, 8.0)
    columns = {
        "number": steps,
        "pair": torch.stack((steps, -steps), dim=-1),
        "steps_left": steps_left(TERMINALS, TIMEOUTS),
    }
    found = windows(columns, torch.tensor([1, 3, 6]), 3)
    assert found["mask"].tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert found["number"].tolist() == [[2, 3, 0], [4, 5, 0], [7, 0, 0]]
    assert found["pair"][..., 1].tolist() == [[-2, -3, 0], [-4, -5, 0], [-7, 0, 0]]


def test_members_rows_give_members_windows() -> None:
    columns = {"number": torch.arange(7.0), "steps_left": steps_left(TERMINALS, TIMEOUTS)}
    rows = torch.tensor([[0, 3], [5, 1]])
    together = windows(columns, rows, 2)
    for member in range(2):
        alone = windows(columns, rows[member], 2)
        assert all(torch.equal(together[name][member], alone[name]) for name in alone)


def test_sums_go_to_the_end_of_the_episode() -> None:
    left = steps_left(TERMINALS, TIMEOUTS)
    values = torch.arange(1.0, 8.0)
    assert sums_to_go(values, left).tolist() == [6, 5, 3, 9, 5, 13, 7]
    assert sums_to_go(values, left, 0.5).tolist() == [2.75, 3.5, 3, 6.5, 5, 9.5, 7]
