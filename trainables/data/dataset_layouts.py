"""Layouts of offline datasets, read as DSRL's: flat files (DSRL, D4RL) and Minari's episodes.

Minari keeps a group an episode, `episode_0, episode_1, ...`, whose observations are one more than
its steps; costs lie in `infos/cost`, with or without an entry for the reset. D4RL's flat files have
no next observations, and name costs as the environment's information does.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import listed

if TYPE_CHECKING:
    import h5py

Arrays = dict[str, NDArray[Any]]

VECTORS = ("observations", "next_observations", "actions")
SCALARS = ("rewards", "costs")
FLAGS = ("terminals", "timeouts")
KEYS = (*VECTORS, *SCALARS, *FLAGS)
MARGIN_KEY = "safety_margins"
PROVENANCE_ATTRIBUTE = "provenance"

COST_NAMES = ("costs", "cost", "infos/cost", "infos/costs")
"""Where costs are looked for, in this order."""

_DEEPEST = 8
_LARGEST_EXPANSION = 200
"""Packed flags and costs of zero shrink by far, states and actions never do."""
_SMALL_BYTES = 64 * 2**20
_PROBLEMS_SAID = 5

_EPISODE = re.compile(r"episode_(\d+)")
_MINARI_FILE = "main_data.hdf5"
_NEEDED = "a cost for each step is needed, as costs or infos/cost"


@dataclass
class RawDataset:
    """What a file holds, by DSRL's names, unchecked but for its layout.

    `next_observations` may be missing where the layout has none; `problems` say what else is.
    """

    arrays: Arrays = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_layout(path: Path) -> RawDataset:
    """Read an HDF5 file in whichever of the layouts it is.

    Raises:
        OSError: it cannot be read.
    """
    import h5py

    with h5py.File(path, "r") as file:
        foreign = _foreign(file)
        if foreign:
            return RawDataset(problems=foreign)
        episodes = _episode_names(file)
        if episodes:
            return join_episodes((name, _group_arrays(file[name])) for name in episodes)
        return _read_flat(file)


def layout_provenance(path: Path) -> dict[str, object]:
    """What an HDF5 file, or the metadata beside it, says about how it was made; else empty.

    Raises:
        OSError: it cannot be read.
    """
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get(PROVENANCE_ATTRIBUTE)
        # Older versions of Minari keep in the file what newer ones keep beside it.
        described = dict(file.attrs)
        is_minari = bool(_episode_names(file))
    try:
        stated = json.loads(text) if isinstance(text, str | bytes) else {}
    except ValueError:
        stated = {}
    origin = (
        minari_provenance({**described, **minari_description(path.parent)}) if is_minari else {}
    )
    return {**origin, **(stated if isinstance(stated, dict) else {})}


def minari_file(folder: Path) -> Path | None:
    """The HDF5 file of a Minari dataset's folder, or of its folder `data`; None without one."""
    places = (folder / "data" / _MINARI_FILE, folder / _MINARI_FILE)
    return next((place for place in places if os.path.isfile(place)), None)


def minari_description(data_folder: Path) -> dict[str, Any]:
    """What Minari's metadata.json beside the data says; empty where there is none."""
    try:
        content = json.loads((data_folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def minari_provenance(description: Mapping[str, Any]) -> dict[str, object]:
    """Origin of a Minari dataset, from its metadata."""
    environment = description.get("env_spec")
    try:
        environment = json.loads(environment)["id"] if environment else None
    except (ValueError, KeyError, TypeError):
        environment = None
    stated = {"dataset": description.get("dataset_id"), "environment": environment}
    return {"source": "minari", **{name: str(said) for name, said in stated.items() if said}}


def join_episodes(episodes: Iterable[tuple[str, Mapping[str, Any]]]) -> RawDataset:
    """Minari's episodes, one after the other.

    Args:
        episodes: name and arrays of each: `observations` [T + 1, o], `actions` [T, a], `rewards,
            terminations, truncations` [T], and a cost under one of `COST_NAMES`, [T] or, with an
            entry for the reset, [T + 1]. Without a flag at its end an episode was cut off there.
    """
    columns: dict[str, list[NDArray[Any]]] = {key: [] for key in KEYS}
    faults: Counter[str] = Counter()
    first: dict[str, str] = {}
    for name, arrays in episodes:
        steps, fault = _episode_steps(arrays)
        if fault:
            faults[fault.split(":")[0]] += 1
            first.setdefault(fault.split(":")[0], f"{name}: {fault}")
            continue
        for key, values in steps.items():
            columns[key].append(values)
    problems = [
        f"{first[kind]}" + (f" (and so in {count - 1:,} more episodes)" if count > 1 else "")
        for kind, count in faults.items()
    ]
    raw = RawDataset(problems=problems)
    if not problems:
        try:
            raw.arrays = {key: np.concatenate(values) for key, values in columns.items()}
        except ValueError:
            raw.problems = [
                "episodes: their observations or actions differ in width, or none has a step"
            ]
    return raw


def _episode_steps(arrays: Mapping[str, Any]) -> tuple[Arrays, str | None]:
    """An episode by DSRL's names, or what is wrong with it."""
    names = ("observations", "actions", "rewards", "terminations", "truncations")
    absent = [name for name in names if name not in arrays]
    if absent:
        return {}, f"{', '.join(absent)}: missing (it holds {listed(arrays)})"
    parts = {name: arrays[name] for name in names}
    for name, values in parts.items():
        if isinstance(values, Mapping):
            return {}, f"{name}: a dictionary ({listed(values)}), not an array"
        if isinstance(values, tuple | list) or not values.ndim or values.dtype.kind not in "fiub":
            return {}, f"{name}: not an array of numbers"
    cost = next((arrays[name] for name in COST_NAMES if name in arrays), None)
    if cost is None:
        return {}, f"costs: not found among {listed(arrays)}; {_NEEDED}"
    steps = len(parts["actions"])
    cost = np.asarray(cost).reshape(-1)
    if cost.dtype.kind not in "fiub":
        return {}, f"costs: type {cost.dtype}, not numbers"
    if len(cost) == steps + 1:
        cost = cost[1:]
    lengths = {**{name: parts[name].size for name in names[2:]}, "costs": len(cost)}
    wrong = [f"{name} {length}" for name, length in lengths.items() if length != steps]
    if len(parts["observations"]) != steps + 1:
        wrong.insert(0, f"observations {len(parts['observations'])} instead of {steps + 1}")
    if wrong:
        return {}, f"lengths: do not fit {steps} actions ({', '.join(wrong)})"
    terminals, timeouts = (
        parts[name].reshape(steps).astype(np.bool_) for name in ("terminations", "truncations")
    )
    if steps and not terminals[-1]:
        timeouts[-1] = True
    return {
        "observations": parts["observations"][:-1],
        "next_observations": parts["observations"][1:],
        "actions": parts["actions"],
        "rewards": parts["rewards"].reshape(steps),
        "costs": cost,
        "terminals": terminals,
        "timeouts": timeouts,
    }, None


def _foreign(file: "h5py.File") -> list[str]:
    """What a file has from elsewhere, or declares without having it.

    A dataset whose source is missing, or that was never written, reads as zeros: costs would be
    none. And a file of some kilobytes may declare more than memory holds.
    """
    import h5py

    problems: list[str] = []
    declared = 0

    def look(group: "h5py.Group", place: str) -> None:
        nonlocal declared
        for name in group:
            path = f"{place}{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                problems.append(f"{path}: a link to elsewhere")
                continue
            item = group.get(name)
            if isinstance(item, h5py.Group):
                # A group may lie within itself; no layout goes deeper than this.
                if place.count("/") < _DEEPEST:
                    look(item, f"{path}/")
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    problems.append(f"{path}: its values lie in other files")
                elif item.size and not _is_written(item):
                    problems.append(f"{path}: was never written, or not all of it")
                elif item.size:
                    declared += item.nbytes

    look(file, "")
    stored = os.stat(file.filename).st_size
    if declared > max(stored * _LARGEST_EXPANSION, _SMALL_BYTES):
        problems.append(
            f"arrays: {declared / 2**20:,.0f} MiB are declared in a file of {stored / 2**20:,.2f}"
        )
    more = len(problems) - _PROBLEMS_SAID
    return [*problems[:_PROBLEMS_SAID], *([f"and {more:,} more"] if more > 0 else [])]


def _is_written(item: "h5py.Dataset") -> bool:
    if item.chunks is None:
        return bool(item.id.get_storage_size())
    chunks = math.prod(
        -(-size // chunk) for size, chunk in zip(item.shape, item.chunks, strict=True)
    )
    return bool(item.id.get_num_chunks() == chunks)


def _episode_names(file: "h5py.File") -> list[str]:
    """The names of Minari's groups, in the order of their numbers."""
    numbered = [(int(match[1]), name) for name in file if (match := _EPISODE.fullmatch(name))]
    return [name for _, name in sorted(numbered)]


def _group_arrays(group: Any) -> dict[str, Any]:
    """Everything in a group: arrays by their path, and groups as dictionaries."""
    import h5py

    found: dict[str, Any] = {}
    if not isinstance(group, h5py.Group):
        return found
    for name, item in group.items():
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]
        elif name == "infos":
            found |= {f"infos/{key}": value for key, value in _costs_of(item)}
        else:
            found[name] = dict.fromkeys(item)
    return found


def _costs_of(infos: "h5py.Group") -> Iterator[tuple[str, Any]]:
    """The costs among an episode's information: the rest may be large, and is only named."""
    import h5py

    for name, item in infos.items():
        wanted = f"infos/{name}" in COST_NAMES and isinstance(item, h5py.Dataset)
        yield name, item[()] if wanted else None


def _read_flat(file: "h5py.File") -> RawDataset:
    import h5py

    raw = RawDataset()
    missing = []
    for key in (*KEYS, MARGIN_KEY):
        names = COST_NAMES if key == "costs" else (key,)
        item = next((found for name in names if (found := file.get(name)) is not None), None)
        if item is None:
            if key not in (MARGIN_KEY, "next_observations"):
                missing.append(key)
        elif not isinstance(item, h5py.Dataset):
            raw.problems.append(f"{key}: a group, not an array")
        elif item.dtype.kind not in "fiub":
            raw.problems.append(f"{key}: type {item.dtype}, not numbers")
        else:
            raw.arrays[key] = np.asarray(item[()])
    if missing:
        present = listed(sorted(file)) or "none"
        hint = f"; {_NEEDED}" if missing == ["costs"] else ""
        raw.problems.insert(
            0, f"{', '.join(missing)}: missing (the file's keys are {present}{hint})"
        )
    return raw


def with_successors(arrays: Arrays, continuing: bool = False) -> tuple[Arrays, list[str]]:
    """Arrays in which every step that may be bootstrapped has its own next observation.

    Where a file has none, a step's is the following observation. The last step of an episode that
    a time-out cut has then none, and one that is stored may be the first observation of another
    episode (`observations[1:]` throughout): to learn from it would bootstrap from a wrong state, so
    this step is left out, and the episode is cut one step before. At a terminal step no next
    observation is used; there it stays, or becomes the step's own.

    Args:
        arrays: by DSRL's names, typed and checked.
        continuing: a time-out does not interrupt: the step after it is truly the next one.

    Returns:
        The arrays, the same where nothing is amiss, and what there is to say.
    """
    terminals, timeouts = arrays["terminals"], arrays["timeouts"]
    observations = arrays["observations"]
    ends = terminals | timeouts
    ends[-1] = True
    arrays = dict(arrays)
    if "next_observations" not in arrays:
        foreign = ends
        following = np.roll(observations, -1, axis=0)
        arrays["next_observations"] = np.where(terminals[:, None], observations, following)
        said = "next_observations: not stored, taken from the following steps"
    elif continuing:
        return arrays, []
    else:
        last = np.flatnonzero(ends)
        following = observations[(last + 1) % len(ends)]
        foreign = np.zeros_like(ends)
        foreign[last] = (arrays["next_observations"][last] == following).all(axis=1)
        if not foreign.any():
            return arrays, []
        said = (
            f"next_observations: belong to another episode at the ends of {int(foreign.sum()):,} "
            f"of {int(ends.sum()):,} episodes (first at step {int(foreign.argmax())})"
        )
    lost = foreign & ~terminals
    if lost.any():
        said += (
            f"; the last step of {int(lost.sum()):,} episodes that a time-out cut has no successor "
            "and is left out"
        )
    # Whoever loses its last step ends one step before, unless there is none.
    before = np.flatnonzero(lost[1:] & ~ends[:-1])
    arrays["timeouts"] = timeouts.copy()
    arrays["timeouts"][before] = True
    return {key: np.ascontiguousarray(values[~lost]) for key, values in arrays.items()}, [said]
