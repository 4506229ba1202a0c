"""Transitions of the environment beside those of a dataset, for one run: of the last so many of
them, each a row, the oldest of which gives way to the next."""

from collections.abc import Mapping

import torch
from torch import Tensor


def empty_replay(capacity: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Columns of zeros, each [capacity, ...]."""
    return {name: torch.zeros(capacity, *shape) for name, shape in shapes.items()}


def replace_oldest(
    replay: Mapping[str, Tensor], transitions: Mapping[str, Tensor], seen: int
) -> dict[str, Tensor]:
    """The replay with transitions [T, ...] in time order, `seen` of which came before these."""
    some = next(iter(replay))
    capacity, count = len(replay[some]), len(transitions[some])
    places = seen + torch.arange(count)
    places = places.to(transitions[some].device)[-capacity:] % capacity
    return {
        name: column.index_copy(0, places, transitions[name][-capacity:])
        for name, column in replay.items()
    }


def with_replayed(
    batch: Mapping[str, Tensor],
    replay: Mapping[str, Tensor],
    seen: Tensor,
    samples: int,
    replayed: Tensor,
    place: Tensor,
) -> dict[str, Tensor]:
    """A minibatch with so many of its rows replaced by replayed ones as that has of all rows: all
    that are there are drawn evenly.

    Args:
        batch: of the dataset, [B, ...] by column; the replay's columns are taken.
        seen: how many transitions of the environment there were, [].
        samples: rows of the dataset.
        replayed, place: uniform numbers [B]; whether a row is replaced, and by which.
    """
    capacity = len(next(iter(replay.values())))
    held = seen.clamp(max=capacity)
    chosen = replayed < held / (held + samples)
    rows = (place * held).long().clamp(max=capacity - 1)

    def mixed(name: str) -> Tensor:
        own, column = replay[name][rows], batch[name]
        return torch.where(chosen.reshape(-1, *[1] * (column.dim() - 1)), own, column)

    return {name: mixed(name) for name in replay}


def no_totals() -> dict[str, Tensor]:
    """What acting came to before it began: see `add_to_totals`."""
    return {name: torch.zeros(()) for name in ("steps", "episodes", "cost", "reward")}


def add_to_totals(
    totals: Mapping[str, Tensor], transitions: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Sums over all that a run did in the environment, with those of `Method.take_in`'s
    transitions."""
    further: dict[str, Tensor | float] = {
        "steps": float(len(transitions["rewards"])),
        "episodes": transitions["begun"],
        "cost": transitions["costs"].sum(),
        "reward": transitions["rewards"].sum(),
    }
    return {name: total + further[name] for name, total in totals.items()}
