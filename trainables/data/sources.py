"""Datasets by their sources: found here, fetched or collected, and loaded."""

import os
from pathlib import Path

from safesweep.search_spaces.validation import (
    InvalidInput,
    did_you_mean,
    expanded,
    shown,
)
from safesweep.trainables.data.cache import (
    cache_folder,
    collected_file,
    published_file,
    require_cache,
)
from safesweep.trainables.data.dataset import Dataset, Progress, read_dataset, write_dataset
from safesweep.trainables.data.minari_datasets import (
    MinariArrays,
    is_minari_folder,
    minari_dataset_in,
    named_minari_dataset,
)
from safesweep.trainables.tasks.registry import get_task, simulator_installed
from safesweep.trainables.tasks.task import Task

SOURCES = ("auto", "fetch", "collect")
MINARI_PREFIX = "minari:"
"""Before the name of a Minari dataset, which the extra `minari` finds or downloads."""


def is_dataset_place(source: str) -> bool:
    """Whether `source` names a file, the folder of a Minari dataset, or one by its name."""
    if source.startswith(MINARI_PREFIX):
        return len(source) > len(MINARI_PREFIX)
    path = expanded(source)
    return os.path.isfile(path) or is_minari_folder(path)


def find_dataset(task: Task | str, source: str = "auto", progress: Progress | None = None) -> Path:
    """The dataset file of `task`, obtained first where necessary.

    Args:
        source: "fetch" (DSRL's file, from a cache or a mirror), "collect" (ours, from the cache or
            the simulator), "auto" (cached, else fetched, else collected), a path of a file or of a
            Minari dataset's folder, or "minari:<name>".

    Raises:
        InvalidInput: no such file, or it cannot be obtained.
    """
    from safesweep.trainables.data.collect import collect_dataset
    from safesweep.trainables.data.fetch import QUICK_TIMEOUT, FetchFailed, fetch_dataset

    task = get_task(task) if isinstance(task, str) else task
    found = local_dataset(task, source)
    if found is not None:
        return found
    require_cache()
    if source.startswith(MINARI_PREFIX):
        downloaded = _in_a_file(named_minari_dataset(source.removeprefix(MINARI_PREFIX)))
        assert downloaded is not None
        return downloaded
    if source == "fetch":
        return fetch_dataset(task, progress=progress)
    if source == "auto" and task.dataset_urls:
        try:
            return fetch_dataset(task, progress=progress, timeout=QUICK_TIMEOUT)
        except FetchFailed:
            if not simulator_installed(task):
                raise
    return collect_dataset(task, path=collected_file(task), progress=progress)


def local_dataset(task: Task, source: str) -> Path | None:
    """The file that `find_dataset` gives, where it is on this machine; None where it is not.

    Raises:
        InvalidInput: `source` is none, or a path at which nothing is.
    """
    if source.startswith(MINARI_PREFIX):
        name = source.removeprefix(MINARI_PREFIX)
        return _in_a_file(named_minari_dataset(name, download=False))
    if source not in SOURCES:
        path = expanded(source)
        if os.path.isdir(path) and is_minari_folder(path):
            return _in_a_file(minari_dataset_in(path))
        if os.path.exists(path):
            return path
        hint = did_you_mean(source, SOURCES)
        raise InvalidInput(
            f"dataset: {shown(source)} is neither {', '.join(SOURCES)} nor a file that exists{hint}"
        )
    if source == "auto" and task.dataset_path is not None:
        if not os.path.isfile(task.dataset_path):
            raise InvalidInput(
                f"dataset: {shown(task.dataset_path)}, the data of {task.name}, is not there"
            )
        return Path(task.dataset_path)
    if source != "collect":
        published = published_file(task)
        if published is not None:
            return published
    collected = collected_file(task)
    return collected if source != "fetch" and collected.is_file() else None


def _in_a_file(found: Path | MinariArrays | None) -> Path | None:
    """The file of a Minari dataset. What is in none is written into the cache folder, anew each
    time: the dataset may have grown."""
    if not isinstance(found, MinariArrays):
        return found
    path = cache_folder() / f"minari-{found.name.replace('/', '-')}.hdf5"
    return write_dataset(path, found.arrays, found.provenance)


def load_dataset(task: Task | str, source: str = "auto") -> Dataset:
    """Find (or fetch, or collect) and read the dataset of `task`; see `find_dataset`.

    Raises:
        InvalidInput: unknown task, no such file, or a file that violates the layout.
    """
    task = get_task(task) if isinstance(task, str) else task
    return read_dataset(find_dataset(task, source), task)
