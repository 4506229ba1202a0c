"""Whose turn it is, decided without any worker."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.execution import scheduler
from safesweep.sweeps.execution.failures import Failure
from safesweep.sweeps.execution.scheduler import SweepRun, SweepScheduler
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path, heartbeat_path

TASK = "BoatNavigation-v0"


@dataclass
class KnownData:
    """Every task's data are the same."""

    asked: list[str] = field(default_factory=list)

    def dataset_ids(self, spec: SweepSpec) -> dict[str, str]:
        self.asked.append(spec.name)
        return {task: "data" for task in spec.tasks}


def spec(name: str, levels: tuple[float, ...], **changes: object) -> SweepSpec:
    content = {
        "name": name,
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 20,
        "evaluate": {"every": 10},
        "space": {"tau_h": list(levels)},
    }
    return SweepSpec.from_mapping({**content, **changes})


def adaptive(name: str) -> SweepSpec:
    search = {"method": "tpe", "num_configs": 3}
    return spec(name, (), search=search, space={"tau_h": {"low": 0.6, "high": 0.9}})


def queue(tmp_path: Path, *specs: SweepSpec) -> SweepScheduler:
    made = SweepScheduler(dict(enumerate(specs)), str(tmp_path), KnownData(), False)
    made.advance()
    return made


def complete(launch: SweepRun, trial: PlannedTrial) -> None:
    """What a worker and the searcher do at the end of a trial."""
    runs = [
        {
            "run_id": run.run_id,
            "config_id": run.config_id,
            "trial_id": trial.trial_id,
            "algorithm": trial.algorithm,
            "task": trial.task,
            "seed": run.seed,
            "status": "completed",
            "population": 1,
            "config": run.config,
        }
        for run in trial.runs
    ]
    scores = dict.fromkeys(("normalized_reward", "normalized_cost", "violation_rate"), 0.5)
    evaluations = [
        {**{key: run[key] for key in ("run_id", "config_id", "algorithm", "task", "seed")},
         "step": 20, "policy": "flrp", **scores, "reward_return_mean": 1.0,
         "cost_return_mean": 1.0}
        for run in runs
    ]  # fmt: skip
    ResultWriter(launch.writer.storage, launch.spec.name).write_trial(
        trial.trial_id, runs, evaluations
    )
    launch.ended(trial, None)


def test_the_next_sweep_starts_while_the_last_trial_of_the_one_before_runs(
    tmp_path: Path,
) -> None:
    made = queue(tmp_path, spec("first", (0.7,)), spec("second", (0.8,)))
    turns = [made.next_trial(), made.next_trial()]
    assert [launch.spec.name for launch, _ in filter(None, turns)] == ["first", "second"]
    assert made.next_trial() is None
    assert not made.over
    for launch, trial in filter(None, turns):
        complete(launch, trial)
    assert made.next_trial() is None
    assert made.over
    assert [made.summaries[place].completed for place in (0, 1)] == [1, 1]


def test_a_shared_run_is_waited_for_and_later_sweeps_go_first(tmp_path: Path) -> None:
    made = queue(
        tmp_path,
        spec("first", (0.7,)),
        spec("same", (0.7, 0.8)),
        spec("other", (0.9,)),
    )
    first = made.next_trial()
    other = made.next_trial()
    assert first is not None
    assert other is not None
    assert other[0].spec.name == "other"
    assert made.next_trial() is None
    complete(*first)
    same = made.next_trial()
    assert same is not None
    assert same[0].spec.name == "same"
    assert [run.config["feasibility_expectile"] for run in same[1].runs] == [0.8]


@pytest.mark.parametrize("adaptive_first", [True, False])
def test_an_adaptive_search_has_the_workers_to_itself(tmp_path: Path, adaptive_first: bool) -> None:
    specs = [adaptive("searched"), spec("grid", (0.75,))]
    made = queue(tmp_path, *(specs if adaptive_first else reversed(specs)))
    names = []
    while not made.over:
        turn = made.next_trial()
        if turn is None:
            break
        names.append(turn[0].spec.name)
        complete(*turn)
        assert len(made.open) == 1
    made.advance()
    searched, grid = ["searched"] * 3, ["grid"]
    assert names == (searched + grid if adaptive_first else grid + searched)


def test_nothing_to_do_opens_nothing(tmp_path: Path) -> None:
    made = queue(tmp_path, spec("first", (0.7,)))
    turn = made.next_trial()
    assert turn is not None
    complete(*turn)
    assert made.next_trial() is None
    again = queue(tmp_path, spec("first", (0.7,)), spec("second", (0.7,)))
    assert again.over
    assert [again.summaries[place].skipped for place in (0, 1)] == [1, 1]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LOOK_SECONDS", 0.01)


def until(made: SweepScheduler, seconds: float = 5.0) -> tuple[SweepRun, PlannedTrial] | None:
    """The next trial, or None once nothing is left or so many seconds are over."""
    deadline = time.monotonic() + seconds
    while True:
        turn = made.next_trial()
        if turn is not None or made.over or time.monotonic() > deadline:
            return turn
        time.sleep(0.02)


@pytest.mark.usefixtures("quick")
def test_two_drivers_share_a_sweep_and_train_each_run_once(tmp_path: Path) -> None:
    drivers = [queue(tmp_path, spec("first", (0.7, 0.8, 0.9))) for _ in range(2)]
    turns = [made.next_trial() for made in (*drivers, *drivers)]
    trials = [turn[1].trial_id for turn in turns if turn is not None]
    assert len(trials) == len(set(trials)) == 3
    for turn in turns:
        if turn is not None:
            complete(*turn)
    assert [until(made) for made in drivers] == [None, None]
    for made in drivers:
        assert made.over
        assert made.summaries[0].completed == 3  # type: ignore[union-attr]
    assert sorted(made.summaries[0].trials for made in drivers) == [1, 2]  # type: ignore[union-attr]
    runs = ResultStore(tmp_path).runs()
    assert len(runs) == 3 and runs["run_id"].is_unique
    assert ResultStore(tmp_path).sweeps()["status"].tolist() == ["completed"]
    assert not list(tmp_path.glob("leases/*.json"))


@pytest.mark.usefixtures("quick")
def test_sweeps_with_equal_runs_share_them_whatever_their_populations(tmp_path: Path) -> None:
    first = queue(tmp_path, spec("first", (0.7, 0.8)))
    second = queue(tmp_path, spec("second", (0.7, 0.8, 0.9), configs_per_trial=3, seeds=[0]))
    turns = [first.next_trial(), first.next_trial()]
    assert until(second, 0.2) is None and not second.over
    for turn in turns:
        assert turn is not None
        complete(*turn)
    assert first.next_trial() is None and first.over
    rest = until(second)
    assert rest is not None
    # Of its population the run is left that the other sweep does not have.
    assert [run.config["feasibility_expectile"] for run in rest[1].runs] == [0.9]
    complete(*rest)
    assert until(second) is None and second.over
    runs = ResultStore(tmp_path).runs()
    assert len(runs) == 3 and runs["run_id"].is_unique
    assert second.summaries[0].completed == 3  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
def test_what_a_driver_leaves_unfinished_another_takes(tmp_path: Path) -> None:
    first = queue(tmp_path, spec("first", (0.7, 0.8)))
    second = queue(tmp_path, spec("first", (0.7, 0.8)))
    assert first.next_trial() is not None
    other = second.next_trial()
    assert other is not None
    assert until(second, 0.1) is None
    first.interrupt()
    # The sweep goes on.
    assert ResultStore(tmp_path).sweeps()["status"].tolist() == ["running"]
    taken = until(second)
    assert taken is not None
    assert taken[1].trial_id != other[1].trial_id
    complete(*other)
    complete(*taken)
    assert until(second) is None
    assert second.summaries[0].completed == 2  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
def test_a_run_that_fails_elsewhere_has_failed(tmp_path: Path) -> None:
    first, second = (queue(tmp_path, spec("first", (0.7,))) for _ in range(2))
    turn = first.next_trial()
    assert turn is not None
    assert second.next_trial() is None
    turn[0].ended(turn[1], Failure("error", "out of luck"))
    assert until(first) is None and until(second) is None
    assert [made.summaries[0].failed for made in (first, second)] == [1, 1]  # type: ignore[union-attr]


@pytest.mark.usefixtures("quick")
def test_a_driver_that_ends_leaves_what_another_has(tmp_path: Path) -> None:
    first = queue(tmp_path, spec("first", (0.7,)))
    second = queue(tmp_path, spec("first", (0.7, 0.8)))
    one, other = first.next_trial(), second.next_trial()
    assert one is not None and other is not None
    writer = ResultWriter(str(tmp_path), "first")
    run_ids = [run.run_id for run in other[1].runs]
    for trial, runs in ((other[1].trial_id, run_ids), ("stale", ["a-0"])):
        beat = {"trial_id": trial, "sweep": "first", "task": TASK, "run_ids": runs, "step": 1,
                "steps": 2}  # fmt: skip
        writer.write_bytes(heartbeat_path(trial), json.dumps(beat).encode())
        writer.write_bytes(checkpoint_path(trial), b"state")
    complete(*one)
    assert until(first) is None and first.over
    assert [path.stem for path in tmp_path.glob("heartbeats/*.json")] == [other[1].trial_id]
    assert [path.parent.name for path in tmp_path.glob("checkpoints/*/latest.pt")] == [
        other[1].trial_id
    ]
    second.interrupt()


@pytest.mark.usefixtures("quick")
def test_an_adaptive_search_is_one_drivers_and_the_other_reads_what_it_made(
    tmp_path: Path,
) -> None:
    first, second = (queue(tmp_path, adaptive("searched")) for _ in range(2))
    while (turn := first.next_trial()) is not None:
        assert second.next_trial() is None and not second.over
        complete(*turn)
    assert first.over
    assert until(second) is None and second.over
    assert second.summaries[0].skipped == 3  # type: ignore[union-attr]
    assert len(ResultStore(tmp_path).runs()) == 3


@pytest.mark.usefixtures("quick")
def test_a_driver_that_was_stopped_for_long_leaves_its_trial_to_who_has_it(
    tmp_path: Path,
) -> None:
    made, other = (queue(tmp_path, spec("first", (0.7,))) for _ in range(2))
    turn = made.next_trial()
    assert turn is not None
    launch, trial = turn
    assert launch.lease is not None
    made.check_leases()
    assert made.problem is None
    # What the other finds when this one has not renewed its lease.
    launch.lease.free(trial.trial_id)
    taken = until(other)
    assert taken is not None
    holder = launch.lease.elsewhere()[trial.runs[0].run_id]
    launch.lease.lost[trial.trial_id] = holder
    launch.ended(trial, None)
    assert made.next_trial() is None and not made.over
    complete(*taken)
    assert until(made) is None
    assert made.summaries[0].completed == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "sizes"), [("memory", [1, 1]), ("starved", [1, 1]), ("lost", [2])]
)
def test_for_lack_of_memory_a_population_is_halved_and_for_a_lost_worker_not(
    tmp_path: Path, kind: str, sizes: list[int]
) -> None:
    made = queue(tmp_path, spec("first", (0.7,), seeds=[0, 1]))
    turn = made.next_trial()
    assert turn is not None
    turn[0].ended(turn[1], Failure(kind, "gone"))
    again = [turn for turn in iter(made.next_trial, None) if turn is not None]
    assert [len(trial.runs) for _, trial in again] == sizes
    for launch, trial in again:
        complete(launch, trial)
    assert made.next_trial() is None
    assert made.summaries[0].completed == 2  # type: ignore[union-attr]


def test_a_single_run_whose_worker_was_killed_for_memory_is_tried_as_one_that_was_lost(
    tmp_path: Path,
) -> None:
    made = queue(tmp_path, spec("first", (0.7,), seeds=[0]))
    for _ in range(scheduler.WORKER_LOSSES + 1):
        turn = made.next_trial()
        assert turn is not None
        turn[0].ended(turn[1], Failure("starved", "its node ran out of memory"))
    assert made.next_trial() is None
    assert made.summaries[0].failed == 1  # type: ignore[union-attr]
    (error,) = ResultStore(tmp_path).runs()["error"]
    assert error == "its node ran out of memory, 4 times"
