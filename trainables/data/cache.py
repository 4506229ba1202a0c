"""Where datasets are kept on this machine, and under which names."""

import os
import tempfile
from pathlib import Path

import numpy as np

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
)
from safesweep.trainables.tasks.registry import suite_of
from safesweep.trainables.tasks.task import Task


def cache_folder() -> Path:
    """Where datasets are kept: $SAFESWEEP_DATA_DIR, else `safesweep/datasets` in $XDG_CACHE_HOME,
    which is ~/.cache unless set to an absolute path."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(caches):
        caches = "~/.cache"
    return _at_home(os.environ.get("SAFESWEEP_DATA_DIR") or f"{caches}/safesweep/datasets")


def _at_home(path: str) -> Path:
    """A path whose `~` is the user's home, or a folder that is nobody's where there is no home."""
    try:
        return expanded(path)
    except RuntimeError:
        return Path("/nonexistent", path.removeprefix("~").lstrip("/"))


def require_cache() -> None:
    """Before hours are spent on a dataset that could not be kept.

    Raises:
        InvalidInput: the cache folder cannot be written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InvalidInput(
            f"dataset: none is here, and the folder for datasets, {str(folder)!r}, cannot be "
            f"written ({reason}); set SAFESWEEP_DATA_DIR to one that can"
        ) from problem


def published_file(task: Task) -> Path | None:
    """DSRL's own file of `task` if it lies in our cache or in DSRL's, else None."""
    if task.dataset_file is None:
        return None
    dsrl_folder = _at_home(os.environ.get("DSRL_DATASET_DIR") or "~/.dsrl/datasets")
    for folder in (cache_folder(), dsrl_folder):
        if (folder / task.dataset_file).is_file():
            return folder / task.dataset_file
    return None


def collected_file(task: Task, episodes: int | None = None, seed: int = 0) -> Path:
    """Where our own collection of `task` is kept, whether or not it exists yet."""
    count = default_episodes(task) if episodes is None else episodes
    name = f"{task.name}-collected-{count}-{seed}-v{collector_version(task)}.hdf5"
    return cache_folder() / name


def default_episodes(task: Task) -> int:
    """Episodes collected unless told otherwise: what the task or its suite says, or about 100,000
    steps."""
    count = task.collected_episodes or suite_of(task).collected_episodes
    return int(np.clip(100_000 // task.horizon, 100, 1000)) if count is None else count


def collector_version(task: Task) -> int:
    """Changes when the same arguments would give other data of the task."""
    return suite_of(task).collector_version
