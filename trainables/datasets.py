"""Offline datasets in DSRL's HDF5 layout: found, checked and loaded.

A file is flat: observations, next_observations, actions, rewards, costs, terminals, timeouts, one
row a step, episodes one after the other; an episode ends where terminals or timeouts is true.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.validation import InvalidInput, nearest
from trainables.tasks import Task, get_task

if TYPE_CHECKING:
    import h5py

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

Progress = Callable[[int, int], None]
"""Called with what is done and the total (0 when unknown): bytes of a download, or episodes."""

_VECTORS = ("observations", "next_observations", "actions")
_SCALARS = ("rewards", "costs")
_FLAGS = ("terminals", "timeouts")
KEYS = (*_VECTORS, *_SCALARS, *_FLAGS)

MARGIN_KEY = "safety_margins"
PROVENANCE_ATTRIBUTE = "provenance"

SOURCES = ("auto", "fetch", "collect")

# Stored float32 values of the same state may differ in the last digits when a file was converted.
_CONSISTENCY_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Dataset:
    """Validated transitions of one task, N steps; arrays are C-contiguous.

    Attributes:
        task: canonical task id.
        dataset_id: first 12 hex digits of a SHA-256 over the arrays as stored (before clipping).
        observations: float32 [N, o].
        next_observations: float32 [N, o].
        actions: float32 [N, a], clipped to [-1, 1].
        rewards: float32 [N].
        costs: float32 [N], not negative.
        terminals: bool [N], the environment ended here.
        timeouts: bool [N], the episode was cut off here.
        safety_margins: float32 [N], exact h(s_t) (positive is unsafe), where the file has it.
        clipped_actions: steps of which the stored action lay outside [-1, 1].
        unfinished: the file's last step ends no episode; `timeouts[-1]` was set to True.
        provenance: how the data was collected; empty when the file does not say.
    """

    task: str
    dataset_id: str
    observations: FloatArray
    next_observations: FloatArray
    actions: FloatArray
    rewards: FloatArray
    costs: FloatArray
    terminals: BoolArray
    timeouts: BoolArray
    safety_margins: FloatArray | None = None
    clipped_actions: int = 0
    unfinished: bool = False
    provenance: dict[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def episode_ends(self) -> IntArray:
        """One past each episode's last step, int64 [episodes]."""
        return np.flatnonzero(self.terminals | self.timeouts).astype(np.int64) + 1

    @cached_property
    def episode_starts(self) -> IntArray:
        """Each episode's first step, int64 [episodes]."""
        return np.concatenate([np.zeros(1, np.int64), self.episode_ends[:-1]])

    @property
    def episode_lengths(self) -> IntArray:
        """Steps of each episode, int64 [episodes]."""
        return self.episode_ends - self.episode_starts

    def returns(self) -> NDArray[np.float64]:
        """Undiscounted reward of each episode, float64 [episodes]."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.episode_starts)

    def cost_returns(self) -> NDArray[np.float64]:
        """Undiscounted cost of each episode, float64 [episodes]."""
        return np.add.reduceat(self.costs.astype(np.float64), self.episode_starts)


def read_dataset(path: str | os.PathLike[str], task: Task | str) -> Dataset:
    """Read and check one DSRL-layout HDF5 file for `task`.

    Actions outside [-1, 1] are clipped and counted. A last step that ends no episode is taken as
    cut off there (`unfinished`).

    Raises:
        InvalidInput: one line that lists every violation: missing file or keys, shapes, types,
            lengths, values that are not finite, negative costs, flags other than 0 and 1, episodes
            longer than the task's horizon, next_observations that are not the next observations.
    """
    import h5py

    task = get_task(task) if isinstance(task, str) else task
    path = require_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            raw, problems = _read_arrays(file)
            provenance = _read_provenance(file)
    except OSError as problem:
        reason = " ".join(str(problem).split())
        raise InvalidInput(f"dataset: {str(path)!r} cannot be read: {reason}") from problem

    problems += _shape_problems(raw, task)
    if not problems:
        arrays = _typed(raw)
        problems += _value_problems(arrays, task)
    if problems:
        raise InvalidInput(f"dataset {str(path)!r}: " + "; ".join(problems))

    dataset_id = _digest(arrays)
    outside = np.abs(arrays["actions"]) > 1.0
    np.clip(arrays["actions"], -1.0, 1.0, out=arrays["actions"])
    unfinished = not (arrays["terminals"][-1] or arrays["timeouts"][-1])
    if unfinished:
        arrays["timeouts"][-1] = True
    return Dataset(
        task=task.name,
        dataset_id=dataset_id,
        **{key: arrays[key] for key in KEYS},
        safety_margins=arrays.get(MARGIN_KEY),
        clipped_actions=int(outside.any(axis=1).sum()),
        unfinished=unfinished,
        provenance=provenance,
    )


def require_hdf5(path: str | os.PathLike[str]) -> Path:
    """The path, if an HDF5 file can be read there.

    Raises:
        InvalidInput: it does not exist, is a folder, is not readable or is not an HDF5 file.
    """
    import h5py

    path = Path(path).expanduser()
    if not path.exists():
        raise InvalidInput(f"dataset: {str(path)!r} does not exist")
    if path.is_dir():
        raise InvalidInput(f"dataset: {str(path)!r} is a folder, not an HDF5 file")
    if not os.access(path, os.R_OK):
        raise InvalidInput(f"dataset: {str(path)!r} is not readable")
    if not h5py.is_hdf5(path):
        raise InvalidInput(f"dataset: {str(path)!r} is not an HDF5 file")
    return path


def write_dataset(
    path: str | os.PathLike[str],
    arrays: dict[str, NDArray[Any]],
    provenance: dict[str, object],
) -> Path:
    """Write arrays in DSRL's layout; the same content always gives the same bytes.

    The file appears under its name only when it is complete.

    Args:
        arrays: the seven keys, and `safety_margins` where it is known.
        provenance: how the data was made; stored as JSON.

    Raises:
        InvalidInput: the place is not writable.
    """
    import h5py

    path = Path(path).expanduser()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with h5py.File(partial, "w", libver="latest", track_order=True) as file:
                for key in (*KEYS, MARGIN_KEY):
                    if key in arrays:
                        values = arrays[key]
                        file.create_dataset(
                            key,
                            data=values.astype(bool if key in _FLAGS else np.float32),
                            chunks=(min(len(values), 65536), *values.shape[1:]),
                            compression="gzip",
                            compression_opts=1,
                            shuffle=True,
                            track_times=False,
                        )
                file.attrs[PROVENANCE_ATTRIBUTE] = json.dumps(provenance, sort_keys=True)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as problem:
        reason = problem.strerror or " ".join(str(problem).split())
        raise InvalidInput(f"output: {str(path)!r} cannot be written: {reason}") from problem
    return path


def _read_arrays(file: "h5py.File") -> tuple[dict[str, NDArray[Any]], list[str]]:
    import h5py

    raw: dict[str, NDArray[Any]] = {}
    problems = []
    for key in (*KEYS, MARGIN_KEY):
        item = file.get(key)
        if item is None:
            if key != MARGIN_KEY:
                present = ", ".join(sorted(file)) or "none"
                problems.append(f"{key}: missing (the file's keys are {present})")
        elif not isinstance(item, h5py.Dataset):
            problems.append(f"{key}: a group, not an array")
        elif item.dtype.kind not in "fiub":
            problems.append(f"{key}: type {item.dtype}, not numbers")
        else:
            raw[key] = np.asarray(item[()])
    return raw, problems


def _read_provenance(file: "h5py.File") -> dict[str, object]:
    text = file.attrs.get(PROVENANCE_ATTRIBUTE)
    try:
        content = json.loads(text) if isinstance(text, str | bytes) else {}
    except ValueError:
        content = {}
    return content if isinstance(content, dict) else {}


def _shape_problems(raw: dict[str, NDArray[Any]], task: Task) -> list[str]:
    columns = {
        "observations": (task.observation_dim, "observation"),
        "next_observations": (task.observation_dim, "observation"),
        "actions": (task.action_dim, "action"),
    }
    problems = []
    for key, array in raw.items():
        if key in columns:
            width, kind = columns[key]
            if array.ndim != 2:
                problems.append(f"{key}: shape {array.shape}, not [steps, {width}]")
            elif array.shape[1] != width:
                problems.append(
                    f"{key}: {array.shape[1]} columns, but {task.name} has {width} {kind} "
                    "dimensions"
                )
        elif array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
            problems.append(f"{key}: shape {array.shape}, not [steps]")
    lengths = {key: len(array) for key, array in raw.items() if array.ndim}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
        problems.append(f"steps: the arrays have different lengths ({listed})")
    elif lengths and not next(iter(lengths.values())):
        problems.append("steps: the arrays are empty")
    return problems


def _typed(raw: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for key, array in raw.items():
        flat = array if key in _VECTORS else array.reshape(-1)
        # Flags are compared with 0 and 1 before they become bool.
        kind = flat.dtype if key in _FLAGS else np.dtype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            arrays[key] = np.ascontiguousarray(flat, dtype=kind)
    return arrays


def _value_problems(arrays: dict[str, NDArray[Any]], task: Task) -> list[str]:
    problems = []
    for key, array in arrays.items():
        if key in _FLAGS:
            if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
                problems.append(f"{key}: values other than 0 and 1")
            arrays[key] = array.astype(np.bool_)
            continue
        finite = np.isfinite(array)
        if not finite.all():
            rows = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
            problems.append(
                f"{key}: not finite at {len(rows)} of {len(array)} steps (first at step {rows[0]})"
            )
    if (arrays["costs"] < 0).any():
        first = int(np.flatnonzero(arrays["costs"] < 0)[0])
        problems.append(f"costs: {arrays['costs'][first]:g} at step {first} is negative")
    if problems:
        return problems

    ends = arrays["terminals"] | arrays["timeouts"]
    last_steps = np.flatnonzero(ends)
    bounds = np.concatenate([[-1], last_steps, [] if ends[-1] else [len(ends) - 1]])
    lengths = np.diff(bounds).astype(int)
    if lengths.max() > task.horizon:
        longest = int(lengths.argmax())
        problems.append(
            f"terminals, timeouts: episode {longest} has {lengths[longest]} steps, but episodes of "
            f"{task.name} end after {task.horizon} at the latest"
        )
    inside = ~ends[:-1]
    expected, stored = arrays["observations"][1:], arrays["next_observations"][:-1]
    same = np.isclose(
        stored, expected, rtol=_CONSISTENCY_TOLERANCE, atol=_CONSISTENCY_TOLERANCE
    ).all(axis=1)
    wrong = np.flatnonzero(inside & ~same)
    if len(wrong):
        problems.append(
            f"next_observations: differ from the following observation at {len(wrong)} of "
            f"{int(inside.sum())} steps inside episodes (first at step {wrong[0]})"
        )
    return problems


def _digest(arrays: dict[str, NDArray[Any]]) -> str:
    content = hashlib.sha256()
    for key in sorted(arrays):
        content.update(f"{key}{arrays[key].shape}".encode())
        content.update(arrays[key].data.cast("B"))
    return content.hexdigest()[:12]


def file_provenance(path: str | os.PathLike[str]) -> dict[str, object]:
    """What a file says about how it was made; empty when it says nothing or is no HDF5 file."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return _read_provenance(file)
    except OSError:
        return {}


def cache_folder() -> Path:
    """Where datasets are kept: $SAFESWEEP_DATA_DIR, else ~/.cache/safesweep/datasets."""
    chosen = os.environ.get("SAFESWEEP_DATA_DIR")
    return Path(chosen or "~/.cache/safesweep/datasets").expanduser()


def published_file(task: Task) -> Path | None:
    """DSRL's own file of `task` if it lies in our cache or in DSRL's, else None."""
    if task.dataset_file is None:
        return None
    dsrl_folder = Path(os.environ.get("DSRL_DATASET_DIR") or "~/.dsrl/datasets").expanduser()
    for folder in (cache_folder(), dsrl_folder):
        if (folder / task.dataset_file).is_file():
            return folder / task.dataset_file
    return None


def collected_file(task: Task, episodes: int | None = None, seed: int = 0) -> Path:
    """Where our own collection of `task` is kept, whether or not it exists yet."""
    from trainables.collect import collector_version, default_episodes

    count = default_episodes(task) if episodes is None else episodes
    name = f"{task.name}-collected-{count}-{seed}-v{collector_version(task)}.hdf5"
    return cache_folder() / name


def find_dataset(task: Task | str, source: str = "auto", progress: Progress | None = None) -> Path:
    """The dataset file of `task`, obtained first where necessary.

    Args:
        source: "fetch" (DSRL's file, from a cache or a mirror), "collect" (ours, from the cache or
            the simulator), "auto" (cached, else fetched, else collected) or a path.

    Raises:
        InvalidInput: no such file, or it cannot be obtained.
    """
    from trainables.collect import collect_dataset
    from trainables.dsrl_compatibility import simulator_installed
    from trainables.fetch import QUICK_TIMEOUT, FetchFailed, fetch_dataset

    task = get_task(task) if isinstance(task, str) else task
    if source not in SOURCES:
        path = Path(source).expanduser()
        if path.exists():
            return path
        close = nearest(source, SOURCES)
        hint = f"; did you mean {close!r}?" if close else ""
        raise InvalidInput(
            f"dataset: {source!r} is neither {', '.join(SOURCES)} nor a file that exists{hint}"
        )
    collected = collected_file(task)
    if source != "collect":
        published = published_file(task)
        if published is not None:
            return published
        if source == "fetch":
            return fetch_dataset(task, progress=progress)
    if collected.is_file():
        return collected
    if source == "auto" and task.dataset_urls:
        try:
            return fetch_dataset(task, progress=progress, timeout=QUICK_TIMEOUT)
        except FetchFailed:
            if not simulator_installed(task):
                raise
    return collect_dataset(task, path=collected, progress=progress)


def load_dataset(task: Task | str, source: str = "auto") -> Dataset:
    """Find (or fetch, or collect) and read the dataset of `task`; see `find_dataset`.

    Raises:
        InvalidInput: unknown task, no such file, or a file that violates the layout.
    """
    task = get_task(task) if isinstance(task, str) else task
    return read_dataset(find_dataset(task, source), task)
