"""OGBench's single-task environments and data (Park et al., 2025), the extra `ogbench`.

They know no costs: every cost is 0. In a simulator the reward is 1 at success, which ends the
episode, and 0 before, so that an episode's return is whether it succeeded; in the data it is
OGBench's own, 0 at success and below before.
"""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

FloatArray = NDArray[np.floating[Any]]


class OGBenchSimulator:
    """An environment, made anew for each episode: a used one repeats it up to rounding alone.

    Its reset draws the start from numpy's global generator, too, which is put back afterwards;
    steps draw nothing.

    Args:
        own_rewards: OGBench's own, those of the data, instead of whether the goal is reached.
    """

    def __init__(self, task: Task, own_rewards: bool = False) -> None:
        self._name, self._own_rewards = task.name, own_rewards
        self._environment: Any = None

    def reset(self, seed: int) -> FloatArray:
        import ogbench

        self.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._environment = ogbench.make_env_and_datasets(self._name, env_only=True)
        outside = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002
            observation, _ = self._environment.reset(seed=seed)
        finally:
            np.random.set_state(outside)  # noqa: NPY002
        return np.asarray(observation)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        observation, own, terminated, _, information = self._environment.step(action)
        success = bool(information["success"])
        reward = float(own) if self._own_rewards else float(success)
        return observation, reward, 0.0, bool(terminated) or success

    def close(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None


def fetch_ogbench(task: Task, folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, object]]:
    """The data of a task in our layout and where it comes from, by OGBench's own download.

    Args:
        folder: where OGBench keeps its files.

    Raises:
        OSError: it cannot be downloaded.
    """
    import ogbench

    _, data, _ = ogbench.make_env_and_datasets(task.name, dataset_dir=str(folder))
    return as_episodes(data, task.horizon), {"source": "ogbench", "task": task.name}


def as_episodes(data: dict[str, NDArray[Any]], horizon: int) -> dict[str, NDArray[Any]]:
    """OGBench's relabelled transitions in DSRL's layout.

    A step after which nothing is to be expected (`masks` 0: the goal is reached) is terminal. What
    is longer than the horizon is cut there by a timeout; next observations stay the true ones.

    Args:
        data: `observations, next_observations, actions, rewards, masks, terminals`, where the last
            marks the end of a recorded trajectory.
    """
    terminals = data["masks"] == 0
    ends = terminals | (data["terminals"] > 0)
    ends[-1] = True
    starts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1])
    within = np.arange(len(ends)) - np.repeat(starts, np.diff([*starts, len(ends)]))
    timeouts = (ends | (within % horizon == horizon - 1)) & ~terminals
    return {
        "observations": data["observations"].astype(np.float32),
        "next_observations": data["next_observations"].astype(np.float32),
        "actions": data["actions"].astype(np.float32),
        "rewards": data["rewards"].astype(np.float32),
        "costs": np.zeros(len(ends), dtype=np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


# FLP's name of an environment, OGBench's, observations, actions, horizon, and which of the five
# tasks `singletask-v0` stands for.
_OGBENCH = (
    ("antmaze-large", "antmaze-large-navigate", 29, 8, 1000, 1),
    ("antmaze-giant", "antmaze-giant-navigate", 29, 8, 1000, 1),
    ("humanoid-m", "humanoidmaze-medium-navigate", 69, 21, 2000, 1),
    ("humanoid-l", "humanoidmaze-large-navigate", 69, 21, 2000, 1),
    ("antsoccer", "antsoccer-arena-navigate", 42, 8, 1000, 4),
    ("cube-single", "cube-single-play", 28, 5, 200, 2),
    ("cube-double", "cube-double-play", 37, 5, 500, 2),
    ("scene", "scene-play", 40, 5, 750, 2),
    ("puzzle-3x3", "puzzle-3x3-play", 55, 5, 500, 4),
    ("puzzle-4x4", "puzzle-4x4-play", 83, 5, 500, 4),
)
TASKS_AN_ENVIRONMENT = 5


def _ogbench_tasks(
    key: str, environment: str, observations: int, actions: int, horizon: int, default: int
) -> tuple[Task, ...]:
    """The default task, under the names without a number, and the four others."""
    others = [n for n in range(1, TASKS_AN_ENVIRONMENT + 1) if n != default]
    names = {key: f"{environment}-singletask-v0"}
    names |= {f"{key}-task{n}": f"{environment}-singletask-task{n}-v0" for n in others}
    return tuple(
        Task(
            name=name,
            key=own_key,
            observation_dim=observations,
            action_dim=actions,
            horizon=horizon,
            # An episode's return is whether it succeeded.
            min_return=0.0,
            max_return=1.0,
            max_cost=0.0,
            # 1: rewards reach losses as they are; they were scaled by the range of returns before.
            revision=1,
            dataset_file=f"{name}.hdf5",
            dataset_urls=(f"https://rail.eecs.berkeley.edu/datasets/ogbench/{environment}-v0.npz",),
        )
        for own_key, name in names.items()
    )


OGBENCH_ENVIRONMENTS = tuple(row[0] for row in _OGBENCH)
"""FLP's names of the environments, which are the keys of their default tasks."""


def ogbench_environment(key: str) -> str:
    """The environment of a task of this key; the key itself of any other task."""
    environment, task, _ = key.rpartition("-task")
    return environment if task and environment in OGBENCH_ENVIRONMENTS else key


OGBENCH = Suite(
    name="ogbench",
    tasks=tuple(task for row in _OGBENCH for task in _ogbench_tasks(*row)),
    cost_limits=(1.0,),
    simulator=OGBenchSimulator,
    online_simulator=partial(OGBenchSimulator, own_rewards=True),
    packages=("ogbench", "mujoco"),
    installation="install the extra ogbench (uv pip install -e '.[ogbench]')",
    # The memory is guessed, and guessed high.
    simulators_a_process=16,
    simulator_megabytes=50,
    collectable=False,
    fetch=fetch_ogbench,
    # OGBench's rewards, -1 to 0 a step (a step's count of unsolved parts in puzzles and scenes),
    # are what FLP's and FQL's coefficients are printed for; an episode's return here is success.
    reward_scale=1.0,
    trajectory_pieces=True,
)
