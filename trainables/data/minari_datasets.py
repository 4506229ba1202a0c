"""Minari's datasets by their names, or in its Arrow files: the extra `minari`.

HDF5 files of Minari are read without it (`trainables.data.dataset_layouts`).
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safesweep.search_spaces.validation import InvalidInput, one_line, shortened, shown
from safesweep.trainables.data.dataset_layouts import (
    Arrays,
    join_episodes,
    minari_description,
    minari_file,
    minari_provenance,
)


def is_minari_folder(folder: Path) -> bool:
    """Whether a folder holds a Minari dataset, in files of HDF5 or Arrow."""
    return minari_file(folder) is not None or _arrow_folder(folder) is not None


@dataclass(frozen=True)
class MinariArrays:
    """A dataset of Minari's that is in no HDF5 file, by DSRL's names (`dataset_layouts`)."""

    name: str
    arrays: Arrays
    provenance: dict[str, object]


def named_minari_dataset(name: str, download: bool = True) -> Path | MinariArrays | None:
    """The dataset that Minari knows as `name`: its HDF5 file, or its arrays.

    Args:
        name: such as "D4RL/pen/human-v2".
        download: whether to get it where it is not on this machine; otherwise None is returned.

    Raises:
        InvalidInput: Minari is not installed, knows no such dataset, or cannot download it.
    """
    if not re.fullmatch(r".+-v\d+", name):
        raise InvalidInput(
            f"dataset: {shown(name)} is no name of Minari's; one ends in a version, as D4RL/pen/"
            "human-v2"
        )
    local = Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser() / name
    found = minari_file(local)
    if found is not None or (not download and _arrow_folder(local) is None):
        return found
    minari = _minari(name)
    try:
        dataset = minari.load_dataset(name, download=True)
    except Exception as problem:  # whatever its storages and its network raise
        raise InvalidInput(
            f"dataset: Minari cannot load {shown(name)}: {_reason(problem)}"
        ) from problem
    folder = Path(dataset.storage.data_path)
    return minari_file(folder) or _arrays(dataset, folder)


def minari_dataset_in(folder: Path) -> Path | MinariArrays | None:
    """The Minari dataset that lies in a folder: its HDF5 file, or its arrays; None without one.

    Raises:
        InvalidInput: it is in Arrow files, and Minari is not installed or cannot read them.
    """
    found = minari_file(folder)
    arrow = _arrow_folder(folder)
    if found is not None or arrow is None:
        return found
    minari = _minari(str(folder))
    try:
        return _arrays(minari.MinariDataset(arrow), arrow)
    except InvalidInput:
        raise
    except Exception as problem:  # as above
        raise InvalidInput(
            f"dataset: {str(folder)!r} cannot be read: {_reason(problem)}"
        ) from problem


def _minari(wanted: str) -> Any:
    try:
        import minari
    except ImportError:
        raise InvalidInput(
            f"dataset: {shown(wanted)} needs Minari, which is not installed; install the extra "
            "minari (uv pip install -e '.[minari]')"
        ) from None
    return minari


def _reason(problem: Exception) -> str:
    return shortened(one_line(problem), 200) or type(problem).__name__


def _arrow_folder(folder: Path) -> Path | None:
    """The folder of a dataset's Arrow files: itself, or its folder `data`."""
    for place in (folder / "data", folder):
        if minari_description(place).get("data_format") == "arrow":
            return place
    return None


def _arrays(dataset: Any, folder: Path) -> MinariArrays:
    raw = join_episodes(_episodes(dataset))
    if raw.problems:
        raise InvalidInput(f"dataset {str(folder)!r}: " + "; ".join(raw.problems))
    description = minari_description(folder)
    name = str(description.get("dataset_id") or folder.resolve().parent.name)
    return MinariArrays(name, raw.arrays, minari_provenance(description))


def _episodes(dataset: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for episode in dataset.iterate_episodes():
        infos = episode.infos or {}
        yield (
            f"episode_{episode.id}",
            {
                **{
                    name: getattr(episode, name)
                    for name in (
                        "observations",
                        "actions",
                        "rewards",
                        "terminations",
                        "truncations",
                    )
                },
                **{f"infos/{name}": np.asarray(values) for name, values in infos.items()},
            },
        )
