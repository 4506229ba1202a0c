"""DSRL's constants of its tasks (Liu et al., 2024), as in its `infos` tables.

The smallest and largest episode return in a task's dataset (they normalise rewards), the largest
episode cost, and the number of trajectories.
"""

from collections.abc import Iterable
from typing import Any

from safesweep.trainables.tasks.task import Task

# The host in DSRL 0.1.0 (second) no longer answers; the mirror that its repository now names is
# tried first.
_MIRRORS = (
    "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/",
    "https://data.offline-saferl.org/download/",
)

INSTALLATION = "install the extra simulators (uv pip install -e '.[simulators]')"
DATA_LICENCE = "CC BY 4.0 (DSRL); data collected by safesweep itself is free of it"


def dsrl_tasks(rows: Iterable[tuple[Any, ...]], name: str, stem: str) -> tuple[Task, ...]:
    """The tasks of some rows.

    Args:
        rows: key, observation_dim, action_dim, horizon, min_return, max_return, max_cost, and from
            the file's name the cost bound and the number of trajectories.
        name: of a task, with `{key}`.
        stem: of its file, with `{key}`.
    """
    return tuple(_dsrl_task(row, name, stem) for row in rows)


def _dsrl_task(row: tuple[Any, ...], name: str, stem: str) -> Task:
    key, observations, actions, horizon, low, high, max_cost, cost_bound, trajectories = row
    file = f"{stem.format(key=key)}-{cost_bound}-{trajectories}.hdf5"
    return Task(
        name=name.format(key=key),
        key=key,
        observation_dim=observations,
        action_dim=actions,
        horizon=horizon,
        min_return=low,
        max_return=high,
        max_cost=max_cost,
        dataset_file=file,
        dataset_urls=tuple(mirror + file for mirror in _MIRRORS),
        trajectories=trajectories,
    )
