"""A disk that fills up, and one that becomes read-only, in the middle of a sweep."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.execution.ray_tune import ray_session
from safesweep.sweeps.planning import history
from tests.sweeps.tiny_sweep import assert_same, files, train_here, write_spec


def mount(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        done = mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    except FileNotFoundError:
        pytest.skip("there is no mount on this machine")
    if done.returncode:
        pytest.skip(f"this user may not mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    with ray_session():
        yield


@pytest.fixture(scope="module")
def undisturbed(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = tmp_path_factory.mktemp("undisturbed")
    train_here(spec, storage)
    return str(storage)


def fill(disk: Path, left: int) -> None:
    """Leave `left` bytes of space."""
    with (disk / "other").open("wb", buffering=0) as stream:
        with contextlib.suppress(OSError):
            while True:
                stream.write(b"0" * 4096)
        stream.truncate(stream.tell() - left)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_the_sweep_stops_in_one_line_and_resumes_after_the_cure(
    fault: str,
    disk: Path,
    session: None,
    undisturbed: str,
    spec: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = str(disk / "store")
    read_trial = history.read_trial

    def then_break(*arguments: Any) -> Any:
        found = read_trial(*arguments)
        if fault == "full":
            if not (disk / "other").exists():
                fill(disk, left=2 * 4096)
        else:
            # It is busy while a worker has a file open for writing.
            while mount("-o", "remount,ro", str(disk)).returncode:
                time.sleep(0.05)
        return found

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(history, "read_trial", then_break)
        assert main(["run", str(spec), "--storage", storage]) == 2
    captured = capsys.readouterr()
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[fault]
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"safesweep: storage: '{storage}' cannot be written ([Errno ")
    assert reason in last and last.endswith("once it can, the same command resumes the sweep")
    assert "Traceback" not in captured.err and captured.out == ""
    # What there is, is whole.
    assert not [name for name in files(storage) if name.startswith(".partial/")]
    for name in files(storage):
        if name.endswith(".parquet"):
            assert pq.read_table(f"{storage}/{name}").num_rows
    assert set(ResultStore(storage).runs()["status"]) == {"completed"}
    assert len(ResultStore(storage).runs()) < 6

    if fault == "full":
        (disk / "other").unlink()
    else:
        assert mount("-o", "remount,rw", str(disk)).returncode == 0
    assert main(["run", str(spec), "--storage", storage]) == 0
    assert_same(undisturbed, storage)
    assert not [name for name in files(storage) if name.startswith((".partial/", "heartbeats/"))]
