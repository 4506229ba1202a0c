"""Whose turn it is, decided without any worker."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution.lease import Holder
from safesweep.sweeps.execution.scheduler import SweepRun, SweepScheduler, require_not_running
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.writer import ResultWriter

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


def test_a_sweep_that_another_driver_runs_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    first = queue(tmp_path, spec("first", (0.7,)))
    assert first.next_trial() is not None
    second = queue(tmp_path, spec("first", (0.7,)), spec("other", (0.9,)))
    refused = second.summaries[0]
    assert isinstance(refused, InvalidInput)
    assert str(refused).startswith("sweep: 'first' is being run by process")
    with pytest.raises(InvalidInput, match="'first' is being run by"):
        require_not_running(str(tmp_path), "first")
    turn = second.next_trial()
    assert turn is not None
    assert turn[0].spec.name == "other"
    second.interrupt()
    first.interrupt()
    require_not_running(str(tmp_path), "first")
    assert queue(tmp_path, spec("first", (0.7,))).next_trial() is not None


def test_a_driver_whose_sweep_was_taken_over_ends(tmp_path: Path) -> None:
    made = queue(tmp_path, spec("first", (0.7, 0.8)))
    assert made.next_trial() is not None
    made.check_leases()
    assert made.problem is None
    launch = made.open[0]
    assert launch.lease is not None
    launch.lease.taken_by = Holder.here()
    made.check_leases()
    assert "'first' is being run by process" in str(made.problem)
