"""Methods, tasks, data and population training. Names load on first use, so that light parts
(tasks, tables, datasets) never pay for importing torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.algorithms import ALGORITHMS
    from trainables.datasets import load_dataset
    from trainables.tasks import TASKS
    from trainables.trial import train

__all__ = ["ALGORITHMS", "TASKS", "load_dataset", "train"]

_HOMES = {
    "ALGORITHMS": "trainables.algorithms",
    "TASKS": "trainables.tasks",
    "load_dataset": "trainables.datasets",
    "train": "trainables.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainables' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
