"""Files that are HDF5, and not what they seem."""

import os
import resource
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.dataset import read_dataset, write_dataset

STEPS = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound file of BallRun."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(STEPS, 7))
    return write_dataset(
        tmp_path / "data.hdf5",
        {
            "observations": observations,
            "next_observations": np.roll(observations, -1, axis=0),
            "actions": generator.uniform(-1, 1, (STEPS, 2)),
            "rewards": generator.normal(size=STEPS),
            "costs": np.ones(STEPS),
            "terminals": np.zeros(STEPS, bool),
            "timeouts": np.arange(STEPS) % 50 == 49,
        },
        {},
    )


def virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout(shape=(STEPS,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "missing.hdf5"), "costs", shape=(STEPS,))
    file.create_virtual_dataset("costs", layout)


def external(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(4 * STEPS))
    file.create_dataset("costs", (STEPS,), "f4", external=[(str(folder / "secret"), 0, 4 * STEPS)])


def linked(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.hdf5", "w") as other:
        other["costs"] = np.zeros(STEPS)
    file["costs"] = h5py.ExternalLink(str(folder / "other.hdf5"), "/costs")


def never_written(file: h5py.File, folder: Path) -> None:
    file.create_dataset("costs", (STEPS,), "f4", chunks=(10,))


def half_written(file: h5py.File, folder: Path) -> None:
    file.create_dataset("costs", (STEPS,), "f4", chunks=(10,))[:50] = 1


def huge(file: h5py.File, folder: Path) -> None:
    """A kilobyte that declares 20 GB."""
    file.create_dataset("costs", (5_000_000_000,), "f4", chunks=(5_000_000,), compression="gzip")


def beside(file: h5py.File, folder: Path) -> None:
    file["costs"] = np.ones(STEPS)
    file["beside"] = h5py.SoftLink("/nowhere")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (virtual, "costs: its values lie in other files"),
        (external, "costs: its values lie in other files"),
        (linked, "costs: a link to elsewhere"),
        (never_written, "costs: was never written"),
        (half_written, "costs: was never written, or not all of it"),
        (huge, "costs: was never written"),
        (beside, "beside: a link to elsewhere"),
    ],
)
def test_what_a_file_has_not_itself_is_refused(
    path: Path, change: Callable[[h5py.File, Path], None], said: str
) -> None:
    read_dataset(path, "BallRun")
    with h5py.File(path, "r+") as file:
        del file["costs"]
        change(file, path.parent)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidInput, match=said) as refusal:
        read_dataset(path, "BallRun")
    assert "\n" not in str(refusal.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_more_than_a_file_can_hold_is_refused_unread(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["costs"]
        item = file.create_dataset(
            "costs", (30_000_000,), "f8", chunks=(30_000_000,), compression="gzip"
        )
        item.id.write_direct_chunk((0,), b"x")
    with pytest.raises(InvalidInput, match=r"229 MiB are declared in a file of 0\.0"):
        read_dataset(path, "BallRun")


def test_a_group_within_itself_ends(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        group = file.create_group("loop")
        group["again"] = group
    assert len(read_dataset(path, "BallRun")) > 0


def test_what_is_no_regular_file_is_never_replaced(path: Path, tmp_path: Path) -> None:
    arrays = {"rewards": np.ones(3)}
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    folder = tmp_path / "folder"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(pipe)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for place in (pipe, folder, link, loop):
        with pytest.raises(InvalidInput, match=r"^output: "):
            write_dataset(place, arrays, {})
    assert pipe.is_fifo() and folder.is_dir() and link.is_symlink() and loop.is_symlink()
    good = tmp_path / "good"
    good.symlink_to(path)
    write_dataset(good, arrays, {})
    assert good.is_symlink()
    with h5py.File(path) as file:
        assert file["rewards"].shape == (3,)
    assert sorted(tmp_path.glob(".*")) == []
