"""What the measurements of the papers share.

A measurement takes one run, loaded from its checkpoint, and gives rows (view, point, quantity,
value): a view is one set of points, such as the plane of actions in a state.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.training.population import Population

Row = tuple[str, int, str, float]
Measure = Callable[[Population, Dataset, MeasurementRequest], Iterator[Row]]
Array = NDArray[np.floating[Any]]

GRID = 31
DRAWS = 200
STREAM = 200


def only_member(population: Population) -> tuple[Any, Any]:
    """State and hyperparameters of the single member, without the population axis."""
    state = tree_map(lambda leaf: leaf[0], population.state)
    return state, tree_map(lambda value: value[0], population.hp)


def states_of_the_data(dataset: Dataset, count: int) -> Tensor:
    """Observations [count, o] at even distances along the data."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    return torch.as_tensor(dataset.observations[chosen])


def normal_draws(population: Population, *shape: int) -> Tensor:
    """Standard normal numbers that follow from the seed of the single member."""
    generator = torch.Generator().manual_seed(STREAM + population.seeds[0])
    return torch.randn(shape, generator=generator)


def action_plane(centre: Tensor) -> Tensor:
    """Actions [GRID^2, a] over the first two dimensions, the others as in `centre` [a]."""
    axis = torch.linspace(-1, 1, GRID)
    first, second = torch.meshgrid(axis, axis, indexing="ij")
    actions = centre.expand(GRID * GRID, -1).clone()
    actions[:, 0], actions[:, 1] = first.reshape(-1), second.reshape(-1)
    return actions


def measured_rows(view: str, **columns: Tensor | Array) -> Iterator[Row]:
    """Rows of a view, from its quantities [points]."""
    for quantity, values in columns.items():
        for point, value in enumerate(np.asarray(values, dtype=np.float64)):
            yield view, point, quantity, float(value)
