"""The file that Optuna's own tools open."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.search import Search
from safesweep.sweeps.planning.study import StudyJournal, study_name
from safesweep.sweeps.spec.sweep_spec import SweepSpec

TASK = "BoatNavigation-v0"
SPACE = {"tau_h": {"low": 0.6, "high": 0.95}, "T": [0, 3]}


def spec(method: str = "tpe", **changes: Any) -> SweepSpec:
    content = {
        "name": "example",
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 100,
        "seeds": [0, 1],
        "space": SPACE,
        "search": {"method": method, "num_configs": 8},
    }
    return SweepSpec.from_mapping({**content, **changes})


def ended(run_id: str, level: float, status: str = "completed") -> RunOutcome:
    scores = {
        "normalized_reward": level,
        "reward_return_mean": 100 * level,
        "normalized_cost": 1.25 * level,
        "cost_return_mean": 12.5 * level,
        "violation_rate": 0.5,
    }
    return RunOutcome(run_id, status, "trial", "example", scores if status != "diverged" else {})


def advance(planned: MethodTaskPlan, trials: int, statuses: dict[int, str] | None = None) -> None:
    """Run that many trials; `statuses` says how those ended that did not complete."""
    for number in range(trials):
        trial = planned.next_trial()
        assert trial is not None
        status = (statuses or {}).get(number, "completed")
        planned.record(
            ended(run.run_id, run.config["feasibility_expectile"] + 0.01 * run.seed, status)
            for run in trial.runs
        )


def load(content: bytes, folder: Path, name: str | None = None) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = folder / "study.log"
    path.write_bytes(content)
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def numbers(study: Any) -> list[Any]:
    return [
        (trial.number, trial.state, trial.values, trial.params, trial.constraints, trial.user_attrs)
        for trial in study.trials
    ]


def test_optuna_reads_parameters_values_constraints_and_states(tmp_path: Path) -> None:
    from optuna.trial import TrialState

    planned = MethodTaskPlan(spec(), "flrp", TASK, "data")
    advance(planned, 4, {1: "diverged", 2: "stopped"})
    assert planned.next_trial() is not None
    study = load(StudyJournal([planned]).content(), tmp_path)
    assert study.study_name == study_name("example", "flrp", TASK)
    assert study.metric_names == ["normalized_reward"]
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert [trial.state for trial in study.trials[:5]] == [*states, TrialState.RUNNING]
    first, runs = study.trials[0], planned.suggested[0]
    # The default comes first: the mean over seeds is 0.9 + 0.005, and its cost 1.25 times that.
    assert first.params == {"feasibility_expectile": 0.9, "refinement_steps": 3}
    assert first.value == pytest.approx(0.905)
    excess = pytest.approx(1.25 * 0.905 - 1)
    assert first.constraints["normalized_cost"] == excess
    # What optuna-dashboard reads.
    assert first.system_attrs["constraints"] == [excess]
    assert first.user_attrs["config_id"] == runs[0].config_id
    assert first.user_attrs["cost_return_mean"] == pytest.approx(12.5 * 0.905)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best = study.best_trial
    safe = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    safe = [trial for trial in safe if trial.constraints["normalized_cost"] <= 0]
    assert [best.number] == [t.number for t in safe if t.value == max(t.value for t in safe)]


@pytest.mark.parametrize("method", ["random", "tpe", "nsga2", "cmaes"])
def test_a_resumed_search_writes_the_same_study_without_duplicates(
    method: str, tmp_path: Path
) -> None:
    whole = MethodTaskPlan(spec(method), "flrp", TASK, "data")
    growing, before = StudyJournal([whole]), b""
    for _ in range(8):
        advance(whole, 1)
        content = growing.content()
        # A dashboard that has read the beginning can go on from there.
        assert content.startswith(before)
        before = content
    store = dict(list(whole.outcomes.items())[: 2 * 5])
    configs = {runs[0].config_id: runs[0].config for runs in whole.suggested}
    resumed = MethodTaskPlan(spec(method), "flrp", TASK, "data", store, whole.run_ids, configs)
    while not resumed.exhausted:
        advance(resumed, 1)
    expected = numbers(load(before, tmp_path))
    assert len(expected) == 8
    assert numbers(load(StudyJournal([resumed]).content(), tmp_path)) == expected


def test_nsga2_shows_reward_and_cost(tmp_path: Path) -> None:
    planned = MethodTaskPlan(spec("nsga2"), "flrp", TASK, "data")
    advance(planned, 8)
    study = load(StudyJournal([planned]).content(), tmp_path)
    assert study.metric_names == ["normalized_reward", "normalized_cost"]
    assert study.trials[0].values == pytest.approx([0.905, 1.25 * 0.905])
    assert all(trial.constraints["normalized_cost"] <= 0 for trial in study.best_trials)


def test_every_task_plan_has_a_study_grids_too(tmp_path: Path) -> None:
    space = {"learning_rate": [1e-3, 1e-4]}
    example = spec(algorithm=["flrp", "bc"], space=space, search={"method": "grid"})
    task_plans = [MethodTaskPlan(example, name, TASK, "data") for name in example.algorithms]
    for planned in task_plans:
        while (trial := planned.next_trial()) is not None:
            planned.record(ended(run.run_id, 0.5) for run in trial.runs)
    content = StudyJournal(task_plans).content()
    for name in example.algorithms:
        study = load(content, tmp_path, study_name("example", name, TASK))
        assert [trial.params for trial in study.trials] == [
            {"learning_rate": 1e-3},
            {"learning_rate": 1e-4},
        ]


def test_searches_do_not_know_the_file() -> None:
    first, second = (
        MethodTaskPlan(spec(), "flrp", TASK, "data"),
        MethodTaskPlan(spec(), "flrp", TASK, "data"),
    )
    journal = StudyJournal([first])
    for _ in range(8):
        advance(first, 1)
        journal.content()
        advance(second, 1)
    assert first.run_ids == second.run_ids
    assert isinstance(first.search, Search)


def test_making_studies_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    planned = MethodTaskPlan(spec(), "flrp", TASK, "data")
    advance(planned, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StudyJournal([planned]).content()
    assert capfd.readouterr() == ("", "")
