"""Points of a search space as positions in a unit cube, for what reckons with distances."""

import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value

FloatArray = npt.NDArray[np.float64]

_APART = 0.7
"""How far two unordered choices lie from each other in each of their two coordinates."""


class UnitSpace:
    """A space whose points are positions: a coordinate in [0, 1] an entry.

    A list of numbers is taken in its order, one of anything else without. An entry that takes no
    part lies in the middle.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.entries = list(space.entries.values())
        self._place = {entry.name: place for place, entry in enumerate(self.entries)}

    def values(self, position: FloatArray) -> dict[str, Value]:
        """The point at a position [e]."""
        coordinates = {
            entry.name: _value_at(entry, float(coordinate))
            for entry, coordinate in zip(self.entries, position, strict=True)
        }
        return self.space.active(coordinates)

    def position(self, values: Mapping[str, object]) -> FloatArray:
        """The position [e] of a point of the space."""
        return np.array(
            [
                _coordinate(entry, values[entry.name]) if entry.name in values else 0.5
                for entry in self.entries
            ]
        )

    def features(self, positions: FloatArray) -> FloatArray:
        """[m, f] numbers of positions [m, e], alike for like points."""
        active = self._active(positions)
        columns: list[FloatArray] = []
        for place, entry in enumerate(self.entries):
            coordinate, part = positions[:, place], active[:, place]
            if entry.choices:
                count = len(entry.choices)
                chosen = np.minimum((coordinate * count).astype(int), count - 1)
                if count == 1:
                    continue
                if _ordered(entry):
                    columns.append(np.where(part, self._ranks[entry.name][chosen], 0.5))
                elif count == 2:
                    columns.append(np.where(part, chosen.astype(float), 0.5))
                else:
                    columns += [
                        np.where(part & (chosen == one), _APART, 0.0) for one in range(count)
                    ]
            else:
                if entry.integer:
                    coordinate = np.array(
                        [_coordinate(entry, _value_at(entry, float(u))) for u in coordinate]
                    )
                columns.append(np.where(part, coordinate, 0.5))
        return np.stack(columns, axis=1) if columns else np.zeros((len(positions), 0))

    def draw(self, count: int, generator: np.random.Generator) -> FloatArray:
        """[count, e] positions, anywhere."""
        return np.asarray(generator.random((count, len(self.entries))))

    def around(
        self, position: FloatArray, count: int, reach: float, generator: np.random.Generator
    ) -> FloatArray:
        """[count, e] positions near one: some coordinates moved, by about `reach`."""
        entries = len(self.entries)
        moved = generator.random((count, entries)) < max(0.4, 2 / max(entries, 1))
        steps = reach * generator.standard_normal((count, entries))
        near = np.clip(position + np.where(moved, steps, 0.0), 0.0, 1.0 - 1e-12)
        for place, entry in enumerate(self.entries):
            if entry.choices and not _ordered(entry):
                drawn = generator.random(count)
                again = moved[:, place] & (generator.random(count) < 0.5)
                near[:, place] = np.where(again, drawn, position[place])
        return np.asarray(near)

    @cached_property
    def _ranks(self) -> dict[str, FloatArray]:
        """Of lists of numbers, where each choice stands between 0 and 1."""
        return {
            entry.name: np.argsort(np.argsort(np.array(entry.choices, np.float64)))
            / (len(entry.choices) - 1)
            for entry in self.entries
            if _ordered(entry)
        }

    def _active(self, positions: FloatArray) -> npt.NDArray[np.bool_]:
        """[m, e] which entries take part."""
        active = np.ones((len(positions), len(self.entries)), bool)
        for place, entry in enumerate(self.entries):
            if entry.when is None:
                continue
            parent = self._place[entry.when[0]]
            choices = self.entries[parent].choices
            if choices:
                chosen = np.minimum(
                    (positions[:, parent] * len(choices)).astype(int), len(choices) - 1
                )
                met = np.array([choice in entry.when[1] for choice in choices])[chosen]
            else:
                met = np.array(
                    [
                        _value_at(self.entries[parent], float(u)) in entry.when[1]
                        for u in positions[:, parent]
                    ]
                )
            active[:, place] = active[:, parent] & met
        return active


def _ordered(entry: Hyperparameter) -> bool:
    numbers = all(
        isinstance(choice, int | float) and not isinstance(choice, bool) for choice in entry.choices
    )
    return len(entry.choices) > 2 and numbers


def _value_at(entry: Hyperparameter, coordinate: float) -> Value:
    if entry.choices:
        return entry.choices[min(int(coordinate * len(entry.choices)), len(entry.choices) - 1)]
    assert entry.low is not None and entry.high is not None
    if entry.log:
        value = math.exp(
            math.log(entry.low) + coordinate * (math.log(entry.high) - math.log(entry.low))
        )
    else:
        value = entry.low + coordinate * (entry.high - entry.low)
    value = min(max(value, entry.low), entry.high)
    return round(value) if entry.integer else value


def _coordinate(entry: Hyperparameter, value: object) -> float:
    if entry.choices:
        return (entry.choices.index(value) + 0.5) / len(entry.choices)
    assert entry.low is not None and entry.high is not None and isinstance(value, int | float)
    if entry.log:
        return math.log(value / entry.low) / math.log(entry.high / entry.low)
    return (value - entry.low) / (entry.high - entry.low)
