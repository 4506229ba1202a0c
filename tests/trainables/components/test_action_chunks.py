"""Chunks against a table made by hand, at the ends of episodes above all."""

import pytest
import torch
from torch import Tensor

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.action_chunks import (
    chunk_columns,
    chunk_feasibility_target,
    chunk_target,
)

# Step t has observation t, next observation t + 1 (its own, not the next episode's), action t + 0.5
# and reward 2^t. Episode A: steps 0 to 3, then a time-out. B: 4 to 6, then a terminal. C: 7 and 8,
# where the data stop.
COUNT = 9
HALF = torch.tensor(0.5)


def table() -> dict[str, Tensor]:
    steps = torch.arange(COUNT, dtype=torch.float32)
    return {
        "observations": steps.unsqueeze(-1),
        "next_observations": (steps + 1).unsqueeze(-1),
        "actions": (steps + 0.5).unsqueeze(-1),
        "rewards": 2**steps,
        "costs": torch.tensor([0, 0, 0, 1, 0, 1, 0, 0, 1], dtype=torch.float32),
        "terminals": (steps == 6).float(),
        "timeouts": (steps == 3).float(),
    }


def starts(columns: dict[str, Tensor]) -> list[int]:
    return columns["observations"].squeeze(-1).int().tolist()


def test_only_done_episodes_have_chunks_cut_short() -> None:
    columns = chunk_columns(table(), 2, timeouts_are_done=False)
    # 3 and 8 would need a step beyond a cut; 6 is followed by nothing.
    assert starts(columns) == [0, 1, 2, 4, 5, 6, 7]
    assert columns["actions"].tolist() == [
        [0.5, 1.5], [1.5, 2.5], [2.5, 3.5], [4.5, 5.5], [5.5, 6.5], [6.5, 0.0], [7.5, 8.5],
    ]  # fmt: skip
    assert columns["rewards"].tolist() == [
        [1, 2], [2, 4], [4, 8], [16, 32], [32, 64], [64, 0], [128, 256],
    ]  # fmt: skip
    assert columns["dones"].tolist() == [
        [0, 0], [0, 0], [0, 0], [0, 0], [0, 1], [1, 0], [0, 0],
    ]  # fmt: skip
    assert columns["next_observations"].squeeze(-1)[:4].tolist() == [2, 3, 4, 6]
    assert columns["costs"].sum(-1).tolist() == [0, 0, 1, 1, 1, 0, 1]


def test_a_time_out_may_count_as_done() -> None:
    columns = chunk_columns(table(), 3, timeouts_are_done=True)
    assert starts(columns) == [0, 1, 2, 3, 4, 5, 6]
    assert columns["rewards"].tolist() == [
        [1, 2, 4], [2, 4, 8], [4, 8, 0], [8, 0, 0], [16, 32, 64], [32, 64, 0], [64, 0, 0],
    ]  # fmt: skip
    assert columns["dones"].tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("timeouts_are_done", "expected"),
    [
        # Value 100 after every chunk that is not done: 0.25 * 100 on top.
        (False, {0: 2 + 25, 1: 4 + 25, 2: 8 + 25, 4: 32 + 25, 5: 64, 6: 64, 7: 256 + 25}),
        (True, {0: 2 + 25, 1: 4 + 25, 2: 8, 3: 8, 4: 32 + 25, 5: 64, 6: 64, 7: 256 + 25}),
    ],
)
def test_returns_count_from_the_chunks_start(
    timeouts_are_done: bool, expected: dict[int, float]
) -> None:
    columns = chunk_columns(table(), 2, timeouts_are_done)
    target = chunk_target(
        columns["rewards"], torch.full((len(columns["rewards"]),), 100.0), columns["dones"], HALF
    )
    assert dict(zip(starts(columns), target.tolist(), strict=True)) == expected


def test_one_step_chunks_are_the_transitions() -> None:
    data = table()
    columns = chunk_columns(data, 1, timeouts_are_done=False)
    for name in ("observations", "next_observations", "actions"):
        torch.testing.assert_close(columns[name], data[name])
    for name, source in (("rewards", "rewards"), ("costs", "costs"), ("dones", "terminals")):
        torch.testing.assert_close(columns[name].squeeze(-1), data[source])


def test_actions_keep_their_order_and_their_dimensions() -> None:
    data = table()
    data["actions"] = torch.stack((data["actions"][:, 0], -data["actions"][:, 0]), dim=-1)
    columns = chunk_columns(data, 3, timeouts_are_done=False)
    assert columns["actions"][0].tolist() == [0.5, -0.5, 1.5, -1.5, 2.5, -2.5]


def test_chunks_longer_than_every_episode_are_refused() -> None:
    data = {**table(), "terminals": torch.zeros(COUNT), "timeouts": torch.zeros(COUNT)}
    data["timeouts"][[3, 6]] = 1
    assert len(chunk_columns(data, 4, timeouts_are_done=False)["rewards"]) == 1
    with pytest.raises(InvalidInput, match=r"chunk_length: 5 .* 4 steps"):
        chunk_columns(data, 5, timeouts_are_done=False)


def test_feasibility_over_a_chunk_is_the_one_step_target_repeated() -> None:
    signals = torch.tensor([[-1.0, -1.0], [-1.0, 25.0], [-1.0, -1.0], [25.0, -1.0]])
    next_value = torch.tensor([3.0, -1.0, 3.0, -1.0])
    dones = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    target = chunk_feasibility_target(signals, next_value, dones, HALF)
    # Last step first: -0.5 + 1.5 = 1, then -0.5 + 0.5 = 0; 25, then -0.5 + 12.5; -1 at a done
    # step, then -1; -1, then 25.
    torch.testing.assert_close(target, torch.tensor([0.0, 12.0, -1.0, 25.0]))
    single = chunk_feasibility_target(signals[:, :1], next_value, dones[:, :1], HALF)
    torch.testing.assert_close(single, torch.tensor([1.0, -1.0, 1.0, 25.0]))
