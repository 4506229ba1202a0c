"""What the figures of R2PAC show of trained networks."""

import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec

import numpy as np

from safesweep.trainables.components.critics import state_value
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.measuring import (
    Array,
    Row,
    measured_rows,
    only_member,
    states_of_the_data,
)
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.training.population import Population


def r2pac_values(
    population: Population, dataset: Dataset, request: MeasurementRequest
) -> Iterator[Row]:
    """R2PAC's figures 3 and 8: V_r, V_c and the threshold at `size` states of the data, with the
    states' place on their first two principal components (their own coordinates if they have two),
    and `umap_*` where the extra `umap` is installed and they have more.
    """
    state, hp = only_member(population)
    states = states_of_the_data(dataset, request.size)
    method = population.method
    value = state_value(state["params"]["reward_v"], states, method.critic_activation)
    margin = method.feasibility_value(state, states, hp)
    assert margin is not None
    places = principal_components(states.numpy())
    yield from measured_rows(
        "states",
        place_1=places[:, 0],
        place_2=places[:, 1],
        reward_v=value,
        safety_v=margin + state["threshold"],
        unsafe=(margin > 0).double(),
    )
    embedded = umap_places(states.numpy())
    if embedded is not None:
        yield from measured_rows("states", umap_1=embedded[:, 0], umap_2=embedded[:, 1])


def principal_components(states: Array) -> Array:
    """Scores [n, 2] on the first two principal components of standardised columns [n, o]."""
    if states.shape[1] == 2:
        return states
    left, scales, _ = np.linalg.svd(_standardised(states), full_matrices=False)
    scores: Array = left[:, :2] * scales[:2]
    return scores


def umap_places(states: Array) -> Array | None:
    """Places [n, 2] of standardised columns [n, o] by UMAP (McInnes et al., 2018) with its defaults
    and a fixed seed; None where the extra `umap` is not installed or states have two columns."""
    if states.shape[1] == 2 or find_spec("umap") is None:
        return None
    columns = np.ascontiguousarray(_standardised(states), dtype=np.float32)
    return _embedded(columns.tobytes(), columns.shape[1]).copy()


@lru_cache(maxsize=4)
def _embedded(content: bytes, columns: int) -> Array:
    """Runs of a task share its states, and an embedding takes seconds."""
    from umap import UMAP

    with warnings.catch_warnings():
        # A seed rules out threads, which it says each time.
        warnings.simplefilter("ignore", UserWarning)
        model = UMAP(n_components=2, random_state=0)
        places: Array = model.fit_transform(np.frombuffer(content, np.float32).reshape(-1, columns))
    return places


def _standardised(states: Array) -> Array:
    deviation = states.std(axis=0)
    scaled: Array = (states - states.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled
