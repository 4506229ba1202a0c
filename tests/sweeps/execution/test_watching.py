import json
import shutil
from pathlib import Path

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution.watching import SweepWatch
from safesweep.trainables.store.leases import Lease
from safesweep.trainables.store.planned import planned_path
from safesweep.trainables.store.writer import ResultWriter, heartbeat_path
from tests.conftest import WriteSweep

TASK = "OfflineBallRun-v0"


@pytest.fixture
def writer(write_sweep: WriteSweep, tmp_path: Path) -> ResultWriter:
    """Six runs of twelve have ended, one of them badly, and a trial of three is half done."""
    levels = [{"feasibility_expectile": level} for level in (0.6, 0.9)]
    run_ids = write_sweep("first", levels, also=[f"open-{number}" for number in range(6)])
    found = ResultWriter(str(tmp_path / "store"), "first")
    tasks = [{"algorithm": "flrp", "task": TASK, "planned": 12}]
    found.write_bytes(planned_path("first"), json.dumps(tasks).encode())
    beat = {"trial_id": "t", "sweep": "first", "algorithm": "flrp", "task": TASK,
            "run_ids": [f"open-{number}" for number in range(3)], "step": 1000, "steps": 2000,
            "seconds": 100.0, "host": "node", "time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    found.write_bytes(heartbeat_path("t"), json.dumps(beat).encode())
    found.write_sweep(
        f"name: first\nalgorithm: flrp\ntasks: [{TASK}]\nsteps: 2000\n",
        [*run_ids, *(f"open-{number}" for number in range(6))],
        "running",
    )
    return found


def test_how_a_sweep_stands_that_runs(writer: ResultWriter, tmp_path: Path) -> None:
    lease = Lease(writer)
    lease.acquire()
    try:
        standing = SweepWatch(ResultStore(tmp_path / "store"), "first").standing()
    finally:
        lease.release()
    (task,) = standing.tasks
    assert standing.state == "running" and "run by process" in standing.remark
    assert (task.done, task.planned, task.running) == (6, 12, 3)
    # Six runs of 2000 steps took 66 s each, and 3 x 1000 steps 100 s.
    rate = (6 * 2000 + 3 * 1000) / (6 * 66 + 100)
    assert task.steps_per_second == pytest.approx(rate)
    assert task.seconds_left == pytest.approx((6 * 2000 - 3000) / rate)
    assert standing.seconds_left == pytest.approx(task.seconds_left)
    assert task.best == "reward 0.910 at cost 0.95 with feasibility_expectile=0.9"


def test_before_the_first_evaluation_the_rate_is_what_the_trial_says(
    writer: ResultWriter, tmp_path: Path
) -> None:
    path = tmp_path / "store" / heartbeat_path("t")
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 0.0, "rate": 20.0}))
    for runs in (tmp_path / "store" / "runs").rglob("*.parquet"):
        runs.unlink()
    lease = Lease(writer)
    lease.acquire()
    try:
        (task,) = SweepWatch(ResultStore(tmp_path / "store"), "first").standing().tasks
    finally:
        lease.release()
    assert task.steps_per_second == pytest.approx(3 * 20)


def test_a_sweep_whose_driver_has_gone(writer: ResultWriter, tmp_path: Path) -> None:
    standing = SweepWatch(ResultStore(tmp_path / "store"), "first").standing()
    assert standing.state == "dead" and "nobody runs it" in standing.remark
    assert standing.tasks[0].running == 0 and standing.tasks[0].seconds_left is None


def test_new_runs_are_seen(writer: ResultWriter, write_sweep: WriteSweep, tmp_path: Path) -> None:
    watched = SweepWatch(ResultStore(tmp_path / "store"), "first")
    assert watched.standing().tasks[0].statuses == {"completed": 6}
    more = write_sweep("first", [{"feasibility_expectile": 0.8}], statuses={1: "failed"})
    writer.write_sweep("name: first\nsteps: 2000\n", more, "completed")
    standing = watched.standing()
    assert standing.tasks[0].statuses == {"completed": 2, "failed": 1}
    assert standing.state == "completed"
    # Of a sweep that has ended, the best configuration is the last word.
    assert standing.tasks[0].best == ""


def test_the_driver_says_how_many_runs_each_method_has_on_each_task(full_store: Path) -> None:
    for sweep, runs in (("methods", 4), ("shared", 6), ("troubled", 8)):
        standing = SweepWatch(ResultStore(full_store), sweep).standing()
        assert {(task.done, task.planned) for task in standing.tasks} == {(runs, runs)}
    assert standing.tasks[0].statuses == {
        "completed": 3, "stopped": 2, "diverged": 1, "failed": 2
    }  # fmt: skip


def test_without_what_the_driver_writes_the_plan_is_shared_out(store_copy: Path) -> None:
    shutil.rmtree(store_copy / "planned")
    for sweep, tasks in (("methods", 6), ("troubled", 1), ("elsewhere", 1)):
        standing = SweepWatch(ResultStore(store_copy), sweep).standing()
        assert len(standing.tasks) == tasks
        assert all(task.done == task.planned for task in standing.tasks)


def test_an_unknown_sweep(full_store: Path) -> None:
    with pytest.raises(InvalidInput, match="troubled"):
        SweepWatch(ResultStore(full_store), "trubled")
