"""Deleting and archiving: what other sweeps ask for stays, and what is interrupted is finished."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps import upkeep
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.sweeps.upkeep import (
    archive_sweeps,
    delete_sweeps,
    finish_interrupted,
    plan_deletion,
)
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.store import compaction
from safesweep.trainables.store.labels import note_sweep, read_labels, tag_sweep
from safesweep.trainables.store.leases import Holder, exclusive, lease_path
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path, log_path
from tests.fixture_store import SMALL, train_sweep

WriteSweep = Callable[..., list[str]]
OWN, SHARED, MIXED = ({"feasibility_expectile": value} for value in (0.7, 0.8, 0.9))


class Killed(BaseException):
    """Ends the work on a store as a kill would: what follows does nothing either."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the first `step` changes of files happen and no others; yields how many there were."""
    done = [0]
    put, remove = ResultWriter._put, ResultWriter.remove

    def count() -> None:
        if done[0] >= step:
            raise Killed
        done[0] += 1

    def counted_put(self: ResultWriter, relative: str, content: bytes) -> None:
        if not relative.startswith("leases/"):  # written by time, in a thread of its own
            count()
        put(self, relative, content)

    def counted_remove(self: ResultWriter, relative: str) -> bool:
        if self.read_bytes(relative) is not None and not relative.startswith("leases/"):
            count()
        return remove(self, relative)

    with monkeypatch.context() as patched:
        patched.setattr(ResultWriter, "_put", counted_put)
        patched.setattr(ResultWriter, "remove", counted_remove)
        yield done


@pytest.fixture(params=["as written", "compacted"])
def store(write_sweep: WriteSweep, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """`old` trained three trials: one is its own, one is `new`'s too, and of one `new` asks for a
    run. `new` has a trial of its own."""
    own = write_sweep("old", [OWN], seeds=(0, 1))
    shared = write_sweep("old", [SHARED], seeds=(0, 1))
    mixed = write_sweep("old", [MIXED], seeds=(0, 1), also=[*own, *shared])
    write_sweep("new", [OWN], seeds=(2,), also=[*shared, mixed[0]])
    storage = tmp_path / "store"
    writer = ResultWriter(str(storage), "old")
    for trial in trials_of(storage, "old"):
        writer.write_bytes(checkpoint_path(trial), b"weights")
        writer.write_bytes(log_path(trial), b"output")
    keys = {"algorithm": "flrp", "task": "OfflineBallRun-v0", "seed": 0, "policy": "flrp"}
    writer.write_confirmation(
        "again", [{**keys, "confirmation_id": "again", "run_id": run} for run in (own[0], mixed[0])]
    )
    writer.write_measurements(
        "points", None,
        [{**keys, "view": "", "point": 0, "quantity": "q", "value": 1.0, "run_id": ""}],
    )  # fmt: skip
    if request.param == "compacted":
        compaction.compact(str(storage), grace_seconds=0)
        assert list(storage.glob("runs/sweep=old/compacted-*"))
    return storage


def trials_of(storage: Path, folder: str) -> list[str]:
    runs = ResultStore(storage).runs()
    return sorted(runs.loc[runs["sweep"] == folder, "trial_id"].unique())


def read_back(storage: Path, sweep: str) -> list[pandas.DataFrame]:
    """Everything that a sweep asks for, in one order."""
    found = ResultStore(storage)
    assert found.incomplete(thorough=True).empty
    frames = [found.runs(sweep=sweep), found.evaluations(sweep=sweep), found.episodes(sweep=sweep)]
    keys = ["run_id", "step", "episode"]
    return [
        frame.sort_values([key for key in keys if key in frame], ignore_index=True)
        for frame in frames
    ]


def files(storage: Path) -> set[str]:
    """What a store holds, less what says who works in it."""
    found = {str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()}
    return {
        name
        for name in found
        if not name.startswith((".", "leases/", "index/", "heartbeats/.probe"))
    }


def assert_deleted(storage: Path, before: list[pandas.DataFrame]) -> None:
    """`old` is gone, and what `new` asks for is as it was."""
    found = ResultStore(storage)
    assert list(found.sweeps()["sweep"]) == ["new"]
    assert found.unplanned_sweeps() == []
    with pytest.raises(InvalidInput, match="'old' is not in the store"):
        found.runs(sweep="old")
    assert set(found.runs()["run_id"]) == set(found.runs(sweep="new")["run_id"])
    for one, other in zip(read_back(storage, "new"), before, strict=True):
        pandas.testing.assert_frame_equal(one, other)
    kept = set(found.runs()["run_id"])
    for table in (found.evaluations(), found.episodes(), found.confirmations()):
        assert set(table["run_id"]) <= kept
    assert set(found.hyperparameters()["config_id"]) == set(found.runs()["config_id"])
    assert len(found.confirmations()) == 1 and found.measurements().empty
    trials = set(found.runs()["trial_id"])
    assert {path.parent.name for path in storage.glob("checkpoints/*/latest.pt")} <= trials
    assert {path.stem for path in storage.glob("logs/*.txt")} <= trials


def test_deleting_leaves_what_others_ask_for(store: Path) -> None:
    before = read_back(store, "new")
    planned = plan_deletion(str(store), ["old"])
    assert [(row.sweep, row.runs, row.kept) for row in planned] == [("old", 3, 3)]
    assert delete_sweeps(str(store), ["old", "old"]) == planned
    assert_deleted(store, before)
    assert len(list(store.glob("checkpoints/*/latest.pt"))) == 2
    # Now nobody asks for what was left.
    assert [(row.runs, row.kept) for row in delete_sweeps(str(store), ["new"])] == [(4, 0)]
    assert files(store) == set()
    assert not list(store.glob("*/sweep=*"))


def test_both_at_once_leave_nothing(store: Path) -> None:
    rows = delete_sweeps(str(store), ["old", "new"])
    assert sum(row.runs for row in rows) == 7
    assert files(store) == set()


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_an_interrupted_deletion_is_finished_whatever_was_done_of_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    before = read_back(store, "new")
    whole = tmp_path / "whole"
    shutil.copytree(store, whole)
    delete_sweeps(str(whole), ["old"])
    for step in range(0, 1000, every):
        tried = tmp_path / f"step{step}"
        shutil.copytree(store, tried)
        with killed_at(step, monkeypatch) as done:
            try:
                delete_sweeps(str(tried), ["old"])
            except Killed:
                pass
            else:
                break
        # Whoever reads now finds what `new` asks for.
        for one, other in zip(read_back(tried, "new"), before, strict=True):
            pandas.testing.assert_frame_equal(one, other)
        begun = (tried / upkeep.JOURNAL).exists()
        said = finish_interrupted(str(tried))
        if begun:
            assert said == "finished an interrupted delete of old"
            assert_deleted(tried, before)
            assert files(tried) == files(whole)
        else:
            # Nothing had been done, or all of it.
            assert said is None and files(tried) in (files(store), files(whole))
        assert finish_interrupted(str(tried)) is None
        shutil.rmtree(tried)
    assert done[0] > 15


def test_a_deletion_that_is_killed_twice_is_finished_by_the_next_archive(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_back(store, "new")
    for step in (9, 8):
        with killed_at(step, monkeypatch), pytest.raises(Killed):
            delete_sweeps(str(store), ["old"])
    archive_sweeps(str(store), ["new"])
    assert_deleted(store, before)
    assert read_labels(ResultStore(store))["new"].archived


KILLED = """
import os, signal, sys
from safesweep.sweeps.upkeep import delete_sweeps
from safesweep.trainables.store.writer import ResultWriter
done, remove = [0], ResultWriter.remove
def counted(self, relative):
    done[0] += 1
    if done[0] == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return remove(self, relative)
ResultWriter.remove = counted
delete_sweeps(sys.argv[1], ["old"])
"""


def test_the_same_command_goes_on_with_what_it_had_begun(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_back(store, "new")
    with killed_at(12, monkeypatch), pytest.raises(Killed):
        delete_sweeps(str(store), ["old"])
    # Its row is gone already.
    assert list(ResultStore(store).sweeps()["sweep"]) == ["new"]
    assert [row.sweep for row in delete_sweeps(str(store), ["old"])] == ["old"]
    assert_deleted(store, before)
    with pytest.raises(InvalidInput, match="'old' is not in the store"):
        delete_sweeps(str(store), ["old"])


def test_a_process_that_is_killed_holds_nobody_up(store: Path) -> None:
    before = read_back(store, "new")
    done = subprocess.run([sys.executable, "-c", KILLED, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (store / upkeep.JOURNAL).exists()
    note_sweep(str(store), "new", "still here")
    archive_sweeps(str(store), ["new"])
    assert_deleted(store, before)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_archiving_is_finished_and_touches_no_run_of_others(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    before = [read_back(store, sweep) for sweep in ("old", "new")]
    for step in range(0, 100, every):
        tried = tmp_path / f"step{step}"
        shutil.copytree(store, tried)
        with killed_at(step, monkeypatch):
            try:
                dropped = archive_sweeps(str(tried), ["old"], drop_checkpoints=True)
            except Killed:
                pass
            else:
                break
        begun = (tried / upkeep.JOURNAL).exists()
        assert (finish_interrupted(str(tried)) is not None) == begun
        archived = "old" in read_labels(ResultStore(tried))
        assert archived or not begun
        assert len(list(tried.glob("checkpoints/*/latest.pt"))) == (2 if archived else 3)
        for sweep, frames in zip(("old", "new"), before, strict=True):
            for one, other in zip(read_back(tried, sweep), frames, strict=True):
                pandas.testing.assert_frame_equal(one, other)
    assert dropped == 1 and step > 3
    assert archive_sweeps(str(tried), ["old"], restore=True) == 0
    assert read_labels(ResultStore(tried)) == {}


def hold_elsewhere(store: Path, sweep: str) -> None:
    """As if a driver on another machine had the sweep to itself."""
    taken = exclusive(sweep)
    other = Holder(
        token="theirs", sweep=sweep, host="elsewhere", process=7, process_start="1",
        machine="another kernel", since="2026-01-01T00:00:00+00:00", renewed=time.time(),
        trials={taken: (taken,)},
    )  # fmt: skip
    content = json.dumps(asdict(other)).encode()
    ResultWriter(str(store), sweep).write_bytes(lease_path(other.token), content)


def test_nothing_is_deleted_while_a_sweep_is_run(store: Path) -> None:
    hold_elsewhere(store, "new")
    before = files(store)
    for refused in (
        lambda: delete_sweeps(str(store), ["old"]),
        lambda: archive_sweeps(str(store), ["new"]),
        lambda: archive_sweeps(str(store), ["old"], drop_checkpoints=True),
    ):
        with pytest.raises(InvalidInput, match="'new' is being run by process 7"):
            refused()
    assert files(store) == before
    # A label alone disturbs nobody.
    archive_sweeps(str(store), ["old"])


def test_no_sweep_begins_while_another_process_deletes(store: Path) -> None:
    hold_elsewhere(store, upkeep.CHANGES)
    with pytest.raises(InvalidInput, match="deletes or archives sweeps of it since"):
        finish_interrupted(str(store))
    with pytest.raises(InvalidInput, match="deletes or archives sweeps of it since"):
        delete_sweeps(str(store), ["old"])


@pytest.mark.parametrize("change", [delete_sweeps, archive_sweeps, plan_deletion])
def test_an_unknown_sweep_is_named(change: Callable[..., Any], store: Path) -> None:
    before = files(store)
    with pytest.raises(InvalidInput, match=r"'odl' is not in the store .* did you mean 'old'"):
        change(str(store), ["new", "odl"])
    assert files(store) == before


def test_a_journal_that_is_damaged_is_one_line(store: Path) -> None:
    ResultWriter(str(store), "old").write_bytes(upkeep.JOURNAL, b'{"action": "burn"}')
    with pytest.raises(InvalidInput, match=r"the journal .* cannot be understood") as problem:
        delete_sweeps(str(store), ["old"])
    assert len(problem.value.lines) == 1
    assert "old" in set(ResultStore(store).sweeps()["sweep"])


def test_a_launch_finishes_what_was_interrupted_and_a_deleted_sweep_may_be_run_again(
    tmp_path: Path, boat_datasets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, storage = "BoatNavigation-v0", tmp_path / "store"
    datasets = {task: read_dataset(boat_datasets[task], task)}
    content = {
        "algorithm": "bc", "tasks": [task], "dataset": str(boat_datasets[task]), "fixed": SMALL,
        "steps": 4, "evaluate": {"episodes": 1},
    }  # fmt: skip
    first = SweepSpec.from_mapping(
        {**content, "name": "first", "space": {"learning_rate": [0.001, 0.002]}}
    )
    second = SweepSpec.from_mapping(
        {**content, "name": "second", "space": {"learning_rate": [0.001]}}
    )
    assert train_sweep(first, storage, datasets) == 2
    assert train_sweep(second, storage, datasets) == 0
    with killed_at(5, monkeypatch), pytest.raises(Killed):
        delete_sweeps(str(storage), ["first"])
    assert train_sweep(second, storage, datasets) == 0
    found = ResultStore(storage)
    assert list(found.sweeps()["sweep"]) == ["second"] and len(found.runs()) == 1
    # Of its two runs one was kept, since `second` asks for it.
    assert train_sweep(first, storage, datasets) == 1
    assert sorted(found.sweeps()["sweep"]) == ["first", "second"]
    assert len(found.runs(sweep="first")) == 2
    assert read_labels(found) == {}


def test_notes_and_tags(store: Path) -> None:
    storage = str(store)
    assert tag_sweep(storage, "old", ["night", "a/b:c"]) == ("a/b:c", "night")
    assert tag_sweep(storage, "old", ["later"], ["night"]) == ("a/b:c", "later")
    note_sweep(storage, "old", "  the one\nwith the\tlimit ")
    note_sweep(storage, "new", "x")
    labels = read_labels(ResultStore(store))
    assert labels["old"].note == "the one with the limit"
    assert labels["old"].tags == ("a/b:c", "later") and not labels["old"].archived
    frame = ResultStore(store).sql("SELECT sweep FROM labels WHERE list_contains(tags, 'later')")
    assert list(frame["sweep"]) == ["old"]
    note_sweep(storage, "new", "")
    tag_sweep(storage, "old", remove=["a/b:c", "later"])
    note_sweep(storage, "old", " ")
    assert read_labels(ResultStore(store)) == {}


@pytest.mark.parametrize("tag", ["", " ", "two words", "-x", "a" * 51, "a,b"])
def test_what_cannot_be_a_tag(store: Path, tag: str) -> None:
    with pytest.raises(InvalidInput, match=r"tag: .* it must be 1 to 50"):
        tag_sweep(str(store), "old", [tag])
    with pytest.raises(InvalidInput, match="remove: 'none' is no tag of sweep 'old', which has"):
        tag_sweep(str(store), "old", remove=["none"])
    with pytest.raises(InvalidInput, match="at most 1,000 are allowed"):
        note_sweep(str(store), "old", "x" * 1001)
