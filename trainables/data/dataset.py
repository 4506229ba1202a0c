"""Offline datasets: their format, read, checked and written.

DSRL's layout is flat: observations, next_observations, actions, rewards, costs, terminals,
timeouts, one row a step, episodes one after the other; an episode ends where terminals or timeouts
is true. Other layouts are read as this one (`trainables.data.dataset_layouts`).
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
    one_line,
    shown,
)
from safesweep.trainables.data.dataset_layouts import (
    FLAGS,
    KEYS,
    MARGIN_KEY,
    PROVENANCE_ATTRIBUTE,
    VECTORS,
    layout_provenance,
    minari_file,
    read_layout,
    with_successors,
)
from safesweep.trainables.tasks.registry import get_task, suite_of, tasks_named_in
from safesweep.trainables.tasks.task import Task

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

Progress = Callable[[int, int], None]
"""Called with what is done and the total (0 when unknown): bytes of a download, or episodes."""

# Stored float32 values of the same state may differ in the last digits when a file was converted.
_CONSISTENCY_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Dataset:
    """Validated transitions of one task, N steps; arrays are C-contiguous.

    Attributes:
        task: canonical task id.
        dataset_id: first 12 hex digits of a SHA-256 over the arrays as stored (before clipping);
            what could not be used is not in them.
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
        warnings: what whoever uses the data should know, a line each.
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
    warnings: tuple[str, ...] = ()

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
    """Read and check one HDF5 file for `task`: DSRL's layout, D4RL's, or Minari's.

    Actions outside [-1, 1] are clipped and counted. A last step that ends no episode is taken as
    cut off there (`unfinished`). Last steps whose next observation is not there, or is another
    episode's, are left out where they would be bootstrapped (`dataset_layouts.with_successors`).

    Args:
        path: the file, or the folder of a Minari dataset.

    Raises:
        InvalidInput: one line that lists every violation: missing file or keys, shapes, types,
            lengths, values that are not finite, negative costs, flags other than 0 and 1, episodes
            longer than the task's horizon, next_observations that are not the next observations;
            or a file that says it is another task's.
    """
    task = get_task(task) if isinstance(task, str) else task
    path = require_hdf5(path)
    try:
        raw, provenance = read_layout(path), file_provenance(path)
    # h5py's of a damaged file.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        reason = one_line(problem)
        raise InvalidInput(f"dataset: {str(path)!r} cannot be read: {reason}") from problem
    warnings = _task_warnings(path, provenance, task)
    problems = [*raw.problems, *_shape_problems(raw.arrays, task)]
    if not problems:
        arrays = _typed(raw.arrays)
        problems += _value_problems(arrays, task)
    if not problems:
        arrays, said = with_successors(arrays, continuing=suite_of(task).trajectory_pieces)
        warnings += said
        if not len(arrays["rewards"]):
            problems = ["steps: none is left that has a next observation"]
    if problems:
        raise InvalidInput(f"dataset {str(path)!r}: " + "; ".join(problems))

    dataset_id = _digest(arrays)
    outside = np.abs(arrays["actions"]) > 1.0
    np.clip(arrays["actions"], -1.0, 1.0, out=arrays["actions"])
    unfinished = not (arrays["terminals"][-1] or arrays["timeouts"][-1])
    if unfinished:
        arrays["timeouts"][-1] = True
        warnings.append("the last step ends no episode; it is taken as a timeout")
    return Dataset(
        task=task.name,
        dataset_id=dataset_id,
        **{key: arrays[key] for key in KEYS},
        safety_margins=arrays.get(MARGIN_KEY),
        clipped_actions=int(outside.any(axis=1).sum()),
        unfinished=unfinished,
        provenance=provenance,
        warnings=tuple(warnings),
    )


def _task_warnings(path: Path, provenance: dict[str, object], task: Task) -> list[str]:
    """What of a file speaks of another task, short of its own word.

    Raises:
        InvalidInput: the file says that it is another task's.
    """
    stated = provenance.get("task") or provenance.get("environment")
    if stated is not None:
        said = tasks_named_in(str(stated))
        if said and all(other.name != task.name for other in said):
            raise InvalidInput(
                f"dataset: {str(path)!r} was made for {said[0].name}, by its own word, and cannot "
                f"be used for {task.name}"
            )
        if not said:
            return [f"the file says it was made in {shown(stated)}; it is used for {task.name}"]
        return []
    named = tasks_named_in(f"{provenance.get('dataset', '')} {path.name}")
    if named and all(other.name != task.name for other in named):
        return [f"the file's name says {named[0].name}, but it is used for {task.name}"]
    return []


def require_hdf5(path: str | os.PathLike[str]) -> Path:
    """The path, if an HDF5 file can be read there.

    Raises:
        InvalidInput: it does not exist, is a folder, is not readable or is not an HDF5 file.
    """
    import h5py

    path = expanded(path)
    # Unlike its methods, these say no of paths that are too long or may not be looked at.
    if not os.path.exists(path):
        raise InvalidInput(f"dataset: {str(path)!r} does not exist, or may not be read")
    if os.path.isdir(path):
        found = minari_file(path)
        if found is None:
            raise InvalidInput(
                f"dataset: {str(path)!r} is a folder, not an HDF5 file nor a Minari dataset"
            )
        path = found
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

    path = _regular(expanded(path))
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
                            data=values.astype(bool if key in FLAGS else np.float32),
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
        reason = problem.strerror or one_line(problem)
        raise InvalidInput(f"output: {str(path)!r} cannot be written: {reason}") from problem
    return path


def _regular(path: Path) -> Path:
    """Where a file can be put, behind links: at a name of its own or in the place of a file.

    Raises:
        InvalidInput: there is something else, such as a device, which would be gone.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        present = os.path.lexists(target)
    except (OSError, RuntimeError, ValueError) as problem:
        raise InvalidInput(f"output: {str(path)!r} cannot be written: {problem}") from problem
    if present and not target.is_file():
        raise InvalidInput(f"output: {str(path)!r} is not a regular file and is not replaced")
    return target


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
        flat = array if key in VECTORS else array.reshape(-1)
        # Flags are compared with 0 and 1 before they become bool.
        kind = flat.dtype if key in FLAGS else np.dtype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            arrays[key] = np.ascontiguousarray(flat, dtype=kind)
    return arrays


def _value_problems(arrays: dict[str, NDArray[Any]], task: Task) -> list[str]:
    problems = []
    for key, array in arrays.items():
        if key in FLAGS:
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
    if "next_observations" not in arrays:
        return problems
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
    try:
        return layout_provenance(Path(path))
    # h5py's of a damaged file, which whoever reads the data is told of.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return {}


def tasks_of_file(path: str | os.PathLike[str]) -> list[Task]:
    """The tasks that a file says it belongs to, else those that its name does."""
    path = require_hdf5(path)
    provenance = file_provenance(path)
    stated = provenance.get("task") or provenance.get("environment")
    named = tasks_named_in(str(stated)) if stated is not None else []
    return named or tasks_named_in(f"{provenance.get('dataset', '')} {path.name}")
