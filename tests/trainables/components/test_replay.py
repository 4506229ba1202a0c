"""What is kept of the environment, and how often it is learned from."""

import pytest
import torch

from safesweep.trainables.components.replay import (
    add_to_totals,
    empty_replay,
    no_totals,
    replace_oldest,
    with_replayed,
)


def test_minibatches_hold_the_share_that_the_environment_has() -> None:
    """300 of the data and 100 of the environment: a quarter is replayed, all of it evenly."""
    replay = {"rewards": 1 + torch.arange(100.0), "observations": torch.ones(100, 2)}
    batch = {"rewards": torch.zeros(8000), "observations": torch.zeros(8000, 2)}
    generator = torch.Generator().manual_seed(1)
    replayed, place = (torch.rand(8000, generator=generator) for _ in range(2))
    mixed = with_replayed(batch, replay, torch.tensor(100.0), 300, replayed, place)
    rewards = mixed["rewards"]
    own = rewards[rewards > 0]
    # Standard errors: 0.005 of the share, 0.65 of the mean.
    assert len(own) / 8000 == pytest.approx(0.25, abs=0.02)
    assert float(own.mean()) == pytest.approx(50.5, abs=3)
    assert torch.equal(mixed["observations"][:, 1] > 0, rewards > 0)


def test_nothing_is_replayed_before_something_was_seen() -> None:
    replay = empty_replay(4, {"rewards": ()})
    batch = {"rewards": torch.ones(50)}
    mixed = with_replayed(batch, replay, torch.tensor(0.0), 10, torch.zeros(50), torch.rand(50))
    assert torch.equal(mixed["rewards"], batch["rewards"])


def test_the_oldest_give_way() -> None:
    replay = empty_replay(4, {"rewards": (), "actions": (1,)})

    def seen(first: int, count: int) -> dict[str, torch.Tensor]:
        rewards = torch.arange(float(first), first + count)
        return {"rewards": rewards, "actions": rewards[:, None], "more": rewards}

    replay = replace_oldest(replay, seen(0, 3), 0)
    assert replay["rewards"].tolist() == [0, 1, 2, 0]
    replay = replace_oldest(replay, seen(3, 2), 3)
    assert replay["rewards"].tolist() == [4, 1, 2, 3]
    replay = replace_oldest(replay, seen(5, 9), 5)
    assert sorted(replay["rewards"].tolist()) == [10, 11, 12, 13]
    assert torch.equal(replay["actions"][:, 0], replay["rewards"])


def test_totals_grow_by_what_was_seen() -> None:
    round_of = {
        "rewards": torch.tensor([1.0, 2.0]),
        "costs": torch.tensor([0.0, 1.0]),
        "begun": torch.tensor(1.0),
    }
    totals = add_to_totals(add_to_totals(no_totals(), round_of), round_of)
    expected = {"steps": 4.0, "episodes": 2.0, "cost": 2.0, "reward": 6.0}
    assert {name: float(total) for name, total in totals.items()} == expected
