import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from safesweep import run_sweep
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution import ray_tune as launch
from safesweep.sweeps.execution import scheduler as queue
from safesweep.sweeps.execution.failures import FirstFailure
from safesweep.sweeps.execution.interruption import Terminated
from safesweep.sweeps.execution.ray_tune import max_concurrent, trial_resources
from safesweep.sweeps.execution.scheduler import make_plan
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.store.writer import (
    ResultWriter,
    StoreProblem,
    checkpoint_path,
    heartbeat_path,
    log_path,
)
from safesweep.trainables.tasks.registry import get_task
from tests.fixture_store import train_sweep
from tests.sweeps.drivers import local_session

TASK = "BoatNavigation-v0"
RAISES, DIES_ONCE, DIES_ALWAYS, ILL_FORMED = 0.61, 0.62, 0.63, 0.64
LARGE, TOO_LARGE, STORE_GONE = 0.65, 0.66, 0.67


@dataclass
class StandInData:
    """What the launch needs of a dataset."""

    dataset_id: str = "data"
    observations: Any = field(default_factory=lambda: np.arange(6.0))


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    import ray

    with local_session(num_cpus=2):
        # Workers cannot import this module.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield


def stand_in_trainable() -> type[Any]:
    """A trainable that fails, dies or scores as tau_h says, and writes rows as the real one."""
    import ray
    from ray import tune

    class StandIn(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.plan, self.at = config, 0
            assert ray.get(config["dataset"]).observations.sum() == 15.0
            if any(c["feasibility_expectile"] == ILL_FORMED for c in config["configs"]):
                raise ValueError("bad data\nin two lines")

        def step(self) -> dict[str, Any]:
            self.at += self.plan["evaluate_every"]
            levels = [config["feasibility_expectile"] for config in self.plan["configs"]]
            print(f"trying {levels[0]}", flush=True)
            if RAISES in levels:
                print("looks bad", file=sys.stderr)
            tries = 0
            if levels[0] in (RAISES, DIES_ONCE, DIES_ALWAYS) and self.at == 10:
                tries = self.count_tries(levels[0])
            if (LARGE in levels and len(levels) > 1) or TOO_LARGE in levels:
                raise MemoryError(f"no room for {len(levels)}")
            if STORE_GONE in levels:
                raise StoreProblem("storage: 'there' cannot be written (it is gone)")
            if RAISES in levels and not Path(self.plan["storage"], "mended").exists():
                raise RuntimeError("out of luck")
            if DIES_ALWAYS in levels or (DIES_ONCE in levels and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            done = self.at >= self.plan["steps"]
            if done:
                self.write()
            return {"step": self.at, "done": done}

        def count_tries(self, level: float) -> int:
            old = Path(self.plan["storage"], f"tried-{level}-1")
            if not old.exists():
                old.touch()
                return 1
            old.rename(old.with_name(f"tried-{level}-2"))
            return 2

        def write(self) -> None:
            runs, evaluations = [], []
            plan = self.plan
            for config, seed, run_id in zip(
                plan["configs"], plan["seeds"], plan["run_ids"], strict=True
            ):
                keys = {"run_id": run_id, "config_id": run_id.rsplit("-", 1)[0], "seed": seed}
                keys |= {"algorithm": plan["algorithm"], "task": plan["task"]}
                runs.append(
                    {
                        **keys,
                        "trial_id": plan["trial_id"],
                        "status": "completed",
                        "population": len(plan["seeds"]),
                        "memory_splits": plan["memory_splits"],
                        "config": config,
                    }
                )
                level = config["feasibility_expectile"]
                evaluations.append(
                    {
                        **keys,
                        "step": plan["steps"],
                        "policy": "flrp",
                        "normalized_reward": level + 0.001 * seed,
                        "reward_return_mean": level,
                        "normalized_cost": 1.25 * level,
                        "cost_return_mean": 1.25 * level,
                        "violation_rate": 0.0,
                    }
                )
            ResultWriter(plan["storage"], plan["sweep"]).write_trial(
                plan["trial_id"], runs, evaluations
            )

    return StandIn


def spec(levels: Any = (0.7, 0.8, 0.9), **changes: Any) -> SweepSpec:
    content = {
        "name": "example",
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 20,
        "evaluate": {"every": 10},
        "seeds": [0, 1],
        "space": {"tau_h": list(levels)},
    }
    return SweepSpec.from_mapping({**content, **changes})


@pytest.fixture
def sweep(ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs a sweep with the stand-in on `tmp_path`."""
    monkeypatch.setattr(
        launch,
        "_load_dataset",
        lambda task, source, progress: StandInData(),
    )

    def run(example: SweepSpec) -> launch.SweepSummary:
        return run_sweep(example, str(tmp_path), progress=False, trainable=stand_in_trainable())

    return run


@pytest.fixture
def several(sweep: Any, tmp_path: Path) -> Any:
    """A function that runs several sweeps in one session with the stand-in on `tmp_path`."""

    def run(*examples: SweepSpec) -> list[launch.SweepSummary | InvalidInput]:
        return launch.run_sweeps(
            examples, str(tmp_path), progress=False, trainable=stand_in_trainable()
        )

    return run


def statuses(storage: Path) -> dict[float, list[str]]:
    """Status of every row of `runs` by tau_h."""
    found: dict[float, list[str]] = {}
    for row in ResultStore(storage).runs().itertuples():
        found.setdefault(row.hp_feasibility_expectile, []).append(row.status)
    return found


@pytest.mark.ray
def test_a_grid_runs_once_and_then_never_again(
    sweep: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, trial in (("example", "stale"), ("other", "alive")):
        writer = ResultWriter(str(tmp_path), name)
        writer.write_bytes(heartbeat_path(trial), json.dumps({"sweep": name}).encode())
        writer.write_bytes(checkpoint_path(trial), b"state")
    summary = sweep(spec())
    assert (summary.completed, summary.failed, summary.trials, summary.skipped) == (6, 0, 3, 0)
    assert summary.exit_code == 0
    assert summary.storage == str(tmp_path)

    store = ResultStore(tmp_path)
    row = store.sweeps().iloc[0]
    runs = store.runs().sort_values(["hp_feasibility_expectile", "seed"])
    assert row["status"] == "completed"
    assert list(row["run_ids"]) == list(runs["run_id"])
    assert SweepSpec.from_yaml(row["spec"]) == spec()
    # What trials of this sweep left behind that are no longer planned is gone.
    assert [path.name for path in tmp_path.glob("heartbeats/*.json")] == ["alive.json"]
    assert len(list(tmp_path.glob("checkpoints/*/*"))) == 1

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*.parquet")}
    again = sweep(spec())
    assert (again.completed, again.skipped, again.trials) == (6, 6, 0)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/*.parquet")}
    assert store.sweeps().iloc[0]["created_at"] == row["created_at"]
    assert capfd.readouterr().out == ""


@pytest.mark.ray
def test_failures_are_recorded_lost_workers_replaced_and_the_sweep_goes_on(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "WORKER_LOSSES", 1)
    summary = sweep(spec([RAISES, ILL_FORMED, DIES_ONCE, DIES_ALWAYS, 0.7]))
    assert (summary.completed, summary.failed, summary.exit_code) == (4, 6, 1)
    runs = ResultStore(tmp_path).runs()
    texts = runs[["error", "traceback"]].fillna("")
    errors = dict(zip(runs["hp_feasibility_expectile"], texts["error"], strict=True))
    assert errors == {
        RAISES: "RuntimeError: out of luck",
        ILL_FORMED: "ValueError: bad data",
        DIES_ALWAYS: "its worker was lost 2 times",
        DIES_ONCE: "",
        0.7: "",
    }
    # All of what was raised is kept, and what the worker printed, and the first of a kind is said.
    kept = dict(zip(runs["hp_feasibility_expectile"], texts["traceback"], strict=True))
    assert kept[RAISES].startswith("Traceback") and "in step" in kept[RAISES]
    assert "bad data\nin two lines" in kept[ILL_FORMED] and "in setup" in kept[ILL_FORMED]
    assert "worker process has died" in kept[DIES_ALWAYS]
    assert kept[0.7] == ""
    trials = dict(zip(runs["hp_feasibility_expectile"], runs["trial_id"], strict=True))
    output = (tmp_path / log_path(trials[RAISES])).read_text()
    assert "[standard output]\ntrying 0.61\n" in output
    assert "[standard error]\nlooks bad" in output
    assert "trying 0.63" in (tmp_path / log_path(trials[DIES_ALWAYS])).read_text()
    assert not (tmp_path / log_path(trials[0.7])).exists()
    # An error in code or data is not tried again; a lost worker is.
    tries = {path.name for path in tmp_path.glob("tried-*")}
    assert tries == {f"tried-{RAISES}-1", f"tried-{DIES_ONCE}-2", f"tried-{DIES_ALWAYS}-2"}
    assert ResultStore(tmp_path).sweeps().iloc[0]["status"] == "failed"


@pytest.mark.slow
@pytest.mark.ray
def test_failures_of_a_kind_are_said_once_and_a_run_that_succeeds_later_leaves_no_log(
    ray_session: None, sweep: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = spec([RAISES, 0.7, ILL_FORMED], seeds=[0, 1], configs_per_trial=1)
    trainable = stand_in_trainable()
    assert run_sweep(first, str(tmp_path), trainable=trainable).failed == 4
    said = capfd.readouterr().err
    assert said.count("flrp on BoatNavigation-v0 has failed: RuntimeError: out of luck") == 1
    assert said.count("has failed: ValueError: bad data") == 1
    assert 'raise RuntimeError("out of luck")' in said
    run = ResultStore(tmp_path).runs(status="failed")["run_id"]
    assert any(f"safesweep logs {name} --storage {tmp_path}" in said for name in run)
    assert len(list((tmp_path / "logs").iterdir())) == 1
    # As a code that has been mended would.
    (tmp_path / "mended").touch()
    assert run_sweep(first, str(tmp_path), progress=False, trainable=trainable).failed == 2
    assert list((tmp_path / "logs").iterdir()) == []
    assert list(ResultStore(tmp_path).runs(status="completed")["traceback"].dropna()) == []


@pytest.mark.slow
@pytest.mark.ray
def test_fail_fast_ends_at_the_first_failure_and_the_same_sweep_goes_on(
    sweep: Any, tmp_path: Path
) -> None:
    levels = [0.7, RAISES, *(0.8 + 0.01 * number for number in range(10))]
    one_at_a_time = spec(levels, seeds=[0], resources={"cpu": 2})
    with pytest.raises(FirstFailure, match="RuntimeError: out of luck"):
        run_sweep(
            one_at_a_time,
            str(tmp_path),
            progress=False,
            trainable=stand_in_trainable(),
            fail_fast=True,
        )
    found = [status for several in statuses(tmp_path).values() for status in several]
    assert found.count("failed") == 1
    assert len(found) < len(levels)
    assert ResultStore(tmp_path).sweeps().iloc[0]["status"] == "interrupted"
    (tmp_path / "mended").touch()
    again = sweep(one_at_a_time)
    assert (again.completed, again.failed) == (len(levels), 0)
    assert again.skipped == found.count("completed")


@pytest.mark.slow
@pytest.mark.ray
def test_populations_that_do_not_fit_are_halved_and_the_rows_say_so(
    sweep: Any, tmp_path: Path
) -> None:
    summary = sweep(spec([LARGE, 0.7, TOO_LARGE], seeds=[0, 1, 2], configs_per_trial=2))
    assert (summary.completed, summary.failed, summary.exit_code) == (6, 3, 1)
    runs = ResultStore(tmp_path).runs().sort_values(["hp_feasibility_expectile", "seed"])
    assert runs["run_id"].is_unique
    # Six runs: halved to one configuration each; three of LARGE to two and one, two to one each.
    large = runs[runs["hp_feasibility_expectile"] == LARGE]
    assert list(large["population"]) == [1, 1, 1]
    assert list(large["memory_splits"]) == [3, 3, 2]
    fitting = runs[runs["hp_feasibility_expectile"] == 0.7]
    assert list(zip(fitting["population"], fitting["memory_splits"], strict=True)) == [(3, 1)] * 3
    hopeless = runs[runs["hp_feasibility_expectile"] == TOO_LARGE]
    assert list(hopeless["population"]) == [1, 1, 1]
    assert list(hopeless["memory_splits"]) == [2, 2, 1]
    assert set(hopeless["error"]) == {"MemoryError: no room for 1"}


@pytest.mark.slow
@pytest.mark.ray
def test_a_store_that_fails_a_worker_ends_the_sweep_and_fails_no_run(
    sweep: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoreProblem, match="'there' cannot be written"):
        sweep(spec([0.7, STORE_GONE]))
    assert "failed" not in [status for found in statuses(tmp_path).values() for status in found]
    assert ResultStore(tmp_path).sweeps().iloc[0]["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.ray
def test_halved_populations_have_the_results_of_whole_ones(
    ray_session: None, tmp_path: Path
) -> None:
    from safesweep.trainables.trainable import SafeRLTrainable

    class Hungry(SafeRLTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config)
            self.fits = len(config["seeds"]) <= 2

        def step(self) -> dict[str, Any]:
            result = super().step()
            if not self.fits:
                raise MemoryError
            return result

    dataset = tmp_path / "boat.hdf5"
    collect_dataset(get_task(TASK), episodes=4, path=dataset)
    example = spec(
        algorithm="bc",
        space={"learning_rate": [0.001, 0.01]},
        dataset=str(dataset),
        seeds=[0, 1, 2, 3],
        evaluate={"every": 10, "episodes": 2},
        fixed={"hidden_dim": 8, "batch_size": 16},
    )
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train_sweep(example, whole, {TASK: read_dataset(dataset, TASK)}, make_task=get_task)
    assert run_sweep(example, str(halved), progress=False, trainable=Hungry).completed == 8
    frames = []
    for storage, population, splits in ((whole, 4, 0), (halved, 2, 1)):
        runs = ResultStore(storage).runs()
        assert set(runs["population"]) == {population}
        assert set(runs["memory_splits"]) == {splits}
        found = ResultStore(storage).evaluations().drop(columns="act_latency_ms")
        frames.append(found.sort_values(["run_id", "step"], ignore_index=True))
        assert len(list(storage.glob("checkpoints/*/*"))) == runs["trial_id"].nunique()
    assert not list(halved.glob("heartbeats/*"))
    pandas.testing.assert_frame_equal(frames[0], frames[1], check_exact=False, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.ray
def test_failed_runs_are_retried_and_leave_no_second_row(sweep: Any, tmp_path: Path) -> None:
    def write_failed(sweep: str, levels: list[float]) -> None:
        task_plan = make_plan(spec(levels), str(tmp_path / "none"), {TASK: "data"}).task_plans[0]
        trials = iter(task_plan.next_trial, None)
        rows = [
            {
                "run_id": run.run_id,
                "config_id": run.config_id,
                "trial_id": sweep,
                "status": "failed",
                "config": run.config,
            }
            for trial in trials
            if trial is not None
            for run in trial.runs
        ]
        ResultWriter(str(tmp_path), sweep).write_trial(sweep, rows)

    # Another grouping and another sweep's partition: what is retried leaves them, the rest stays.
    write_failed("first", [0.66, 0.7])
    write_failed("second", [0.8])
    summary = sweep(spec([0.7, 0.8]))
    assert (summary.completed, summary.failed) == (4, 0)
    assert statuses(tmp_path) == {
        0.66: ["failed"] * 2,
        0.7: ["completed"] * 2,
        0.8: ["completed"] * 2,
    }
    assert sorted(path.parent.name for path in tmp_path.glob("runs/*/*.parquet")) == [
        "sweep=example",
        "sweep=example",
        "sweep=first",
    ]


@pytest.mark.slow
@pytest.mark.ray
def test_adaptive_sweeps_start_at_the_default_and_repeat(sweep: Any, tmp_path: Path) -> None:
    example = spec(
        space={"tau_h": {"low": 0.65, "high": 0.95}},
        search={"method": "tpe", "num_configs": 6},
    )
    assert sweep(example).completed == 12
    runs = ResultStore(tmp_path).runs()
    assert runs["run_id"].is_unique and runs["config_id"].nunique() == 6
    order = list(ResultStore(tmp_path).sweeps().iloc[0]["run_ids"])
    default = runs[runs["hp_feasibility_expectile"] == 0.9]
    assert set(order[:2]) == set(default["run_id"])
    study = tmp_path / "studies" / "example.log"
    assert study.read_text().count('"state":1') == 6
    study.unlink()
    again = sweep(example)
    assert (again.completed, again.skipped, again.trials) == (12, 12, 0)
    assert list(ResultStore(tmp_path).sweeps().iloc[0]["run_ids"]) == order
    assert study.read_text().count('"state":1') == 6


@pytest.mark.ray
def test_an_error_of_ours_is_not_lost_in_tune(
    sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("the store is gone")

    monkeypatch.setattr(queue.history, "read_trial", broken)
    with pytest.raises(OSError, match="the store is gone"):
        sweep(spec([0.7]))
    assert ResultStore(tmp_path).sweeps().iloc[0]["status"] == "interrupted"


def test_plan_of_a_store_that_does_not_exist(tmp_path: Path) -> None:
    plan = make_plan(spec(), str(tmp_path / "store"), {TASK: "data"})
    assert plan.previous is None and len(plan.task_plans) == 1
    assert not (tmp_path / "store").exists()


def test_resources_follow_the_machine() -> None:
    example = spec(resources={"cpu": 2, "gpu": 0.25})
    assert trial_resources(example, {"CPU": 4.0}) == {"cpu": 2.0, "gpu": 0.0}
    with_gpu = trial_resources(example, {"CPU": 4.0, "GPU": 1.0})
    assert with_gpu == {"cpu": 2.0, "gpu": 0.25}
    with pytest.raises(InvalidInput, match=r"resources\.cpu: 2 is not allowed; there are 1"):
        trial_resources(example, {"CPU": 1.0})


@pytest.mark.parametrize(
    ("request_", "available", "trials"),
    [
        ({"cpu": 1.0, "gpu": 0.0}, {"CPU": 2.0}, 2),
        ({"cpu": 1.0, "gpu": 0.25}, {"CPU": 16.0, "GPU": 1.0}, 4),
        ({"cpu": 0.1, "gpu": 0.0}, {"CPU": 1.0}, 10),
        ({"cpu": 3.0, "gpu": 0.0}, {"CPU": 4.0}, 1),
    ],
)
def test_as_many_trials_as_fit(
    request_: dict[str, float], available: dict[str, float], trials: int
) -> None:
    assert max_concurrent(request_, available) == trials


@pytest.mark.slow
@pytest.mark.ray
def test_sweeps_share_a_session_and_their_runs(several: Any, tmp_path: Path) -> None:
    first, second = spec((0.7, 0.8), name="first"), spec((0.8, 0.9), name="second")
    third = spec((0.55, 0.6), name="third", resources={"cpu": 2})
    summaries = several(first, second, third)
    assert [entry.sweep for entry in summaries] == ["first", "second", "third"]
    assert [(entry.completed, entry.failed) for entry in summaries] == [(4, 0)] * 3
    assert [(entry.skipped, entry.trials) for entry in summaries] == [(0, 2), (2, 1), (0, 2)]
    assert statuses(tmp_path) == {level: ["completed"] * 2 for level in (0.55, 0.6, 0.7, 0.8, 0.9)}
    again = several(first, second, third)
    assert [(entry.skipped, entry.trials) for entry in again] == [(4, 0)] * 3


@pytest.mark.ray
def test_a_sweep_that_cannot_be_started_leaves_the_others_be(
    several: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "gone.hdf5"
    missing.touch()

    def load(task: str, source: str, progress: bool) -> StandInData:
        if source == str(missing):
            raise InvalidInput("dataset: nowhere to be found")
        return StandInData()

    monkeypatch.setattr(launch, "_load_dataset", load)
    lost = spec(name="lost", dataset=str(missing))
    large = spec(name="large", resources={"cpu": 99})
    summaries = several(lost, spec((0.7,), name="kept"), large)
    assert str(summaries[0]) == "dataset: nowhere to be found"
    assert summaries[1].completed == 2
    assert "resources.cpu: 99" in str(summaries[2])
    with pytest.raises(InvalidInput, match="nowhere"):
        run_sweep(lost, str(tmp_path), progress=False)


def test_sigterm_while_ray_starts_is_the_same_interrupt() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), launch._own_termination():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(SystemExit), launch._own_termination():
        sys.exit(3)


def test_a_start_of_ray_that_fails_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import ray

    program = tmp_path / "ray" / "head.py"
    program.parent.mkdir()
    program.write_text("input()")
    waiting = {"stdin": subprocess.PIPE}
    others = subprocess.Popen([sys.executable, "-c", "input()"], **waiting)
    children: list[subprocess.Popen[bytes]] = []

    def init(**options: object) -> None:
        if len(children) == 2:
            raise KeyboardInterrupt
        children.append(subprocess.Popen([sys.executable, str(program)], **waiting))
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch._init({})
        assert [child.wait(timeout=60) for child in children] == [-signal.SIGKILL] * 2
        assert others.poll() is None
    finally:
        for child in (*children, others):
            child.kill()
            child.communicate()


def test_where_a_busy_machine_starts_ray_too_late_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    said = [Exception("The current node timed out during startup. This could happen because"), None]
    ends: list[str] = []

    def init(**options: object) -> None:
        problem = said.pop(0)
        if problem is not None:
            raise problem

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: ends.append("shutdown"))
    launch._init({})
    assert said == [] and ends == ["shutdown"]
    assert "trying again" in capsys.readouterr().err
    said.append(ValueError("num_cpus"))
    with pytest.raises(ValueError, match="num_cpus"):
        launch._init({})
