"""Small made-up datasets for the methods' tests."""

from collections.abc import Callable

import numpy as np
import pytest

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.tasks.registry import Task, get_task

MakeDataset = Callable[..., Dataset]


@pytest.fixture(scope="session")
def boat_task() -> Task:
    return get_task("BoatNavigation-v0")


@pytest.fixture(scope="session")
def make_dataset() -> MakeDataset:
    """The function `random_dataset`."""
    return random_dataset


def random_dataset(task: Task, episodes: int = 8, length: int = 25, seed: int = 0) -> Dataset:
    """Random transitions of a task's shapes, with costs on some steps; one episode in four has
    none."""
    rng = np.random.default_rng(seed)
    count = episodes * length
    observations = rng.normal(size=(count, task.observation_dim)).astype(np.float32)
    safe = np.arange(count) // length % 4 == 0
    observations[safe, 0] = np.minimum(observations[safe, 0], 0.7)
    timeouts = np.arange(count) % length == length - 1
    margins = (observations[:, 0] - 0.8).astype(np.float32)
    return Dataset(
        task=task.name,
        dataset_id=f"random-{seed}-{count}",
        observations=observations,
        next_observations=np.roll(observations, -1, axis=0),
        actions=rng.uniform(-1, 1, size=(count, task.action_dim)).astype(np.float32),
        rewards=rng.normal(size=count).astype(np.float32),
        costs=(margins > 0).astype(np.float32),
        terminals=np.zeros(count, dtype=bool),
        timeouts=timeouts,
        safety_margins=margins,
    )
