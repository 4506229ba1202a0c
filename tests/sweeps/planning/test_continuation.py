"""Which planned trials carry shorter ones on, and what is said of the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from safesweep.sweeps.execution.scheduler import make_plan
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.source_digest import code_digest
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path

TASK = "BoatNavigation-v0"


def spec(steps: int, **changes: Any) -> SweepSpec:
    content = {
        "name": "example",
        "algorithm": "lspc",
        "tasks": [TASK],
        "steps": steps,
        "seeds": [0, 1],
        "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": {"method": "tpe", "num_configs": 6},
        "evaluate": {"every": 10, "episodes": 2},
    }
    return SweepSpec.from_mapping({**content, **changes})


def planned(example: SweepSpec, store: Path) -> list[PlannedTrial]:
    task_plan = make_plan(example, str(store), {TASK: "data"}).task_plans[0]
    return list(iter(task_plan.next_trial, None))  # type: ignore[arg-type]


def finish(example: SweepSpec, store: Path, **changes: Any) -> None:
    """Write what the trials of a sweep would, in as many rounds as its search needs."""
    writer = ResultWriter(str(store), example.name)
    run_ids: list[str] = []
    written: set[str] = set()
    # Stopped runs are planned again, to be trained on.
    while trials := [t for t in planned(example, store) if t.trial_id not in written]:
        for trial in trials:
            write(writer, trial, example, **changes)
            written.add(trial.trial_id)
        task_plan = make_plan(example, str(store), {TASK: "data"}).task_plans[0]
        assert task_plan.search is not None
        task_plan.next_trial()
        run_ids = task_plan.run_ids
        writer.write_sweep(example.to_yaml(), run_ids, "completed")


def write(
    writer: ResultWriter,
    trial: PlannedTrial,
    example: SweepSpec,
    code: str | None = None,
    status: str = "completed",
    checkpoint: bool = True,
    episodes: int = 2,
) -> None:
    runs, evaluations = [], []
    for run in trial.runs:
        keys = {"run_id": run.run_id, "config_id": run.config_id, "seed": run.seed}
        keys |= {"algorithm": trial.algorithm, "task": trial.task}
        runs.append(
            {
                **keys,
                "trial_id": trial.trial_id,
                "status": status,
                "steps": example.steps,
                "dataset_id": "data",
                "code_digest": code or code_digest(trial.algorithm, trial.task),
                "config": run.config,
            }
        )
        for step in range(example.evaluate_every, example.steps + 1, example.evaluate_every):
            score = run.config["learning_rate"] * step
            evaluations.append(
                {
                    **keys,
                    "step": step,
                    "policy": "lspc_o",
                    "normalized_reward": score,
                    "reward_return_mean": score,
                    "normalized_cost": 0.5,
                    "cost_return_mean": 0.5,
                    "violation_rate": 0.0,
                    "cost_limit": 1.0,
                    "episodes": episodes,
                }
            )
    writer.write_trial(trial.trial_id, runs, evaluations)
    if checkpoint:
        writer.write_bytes(checkpoint_path(trial.trial_id), b"state")


def test_a_longer_sweep_carries_every_configuration_of_an_adaptive_search_on(
    tmp_path: Path,
) -> None:
    finish(spec(20), tmp_path)
    short = make_plan(spec(20), str(tmp_path), {TASK: "data"}).task_plans[0]
    assert short.next_trial() is None and len(short.suggested) == 6
    longer = spec(50)
    carried = {}
    while trials := planned(longer, tmp_path):
        for trial in trials:
            assert trial.from_step == 20 and trial.continuation.trial is not None
            carried[trial.trial_id] = trial.continuation.trial.run_ids
            write(ResultWriter(str(tmp_path), "example"), trial, longer)
    assert sorted(run for runs in carried.values() for run in runs) == sorted(short.run_ids)
    long = make_plan(longer, str(tmp_path), {TASK: "data"}).task_plans[0]
    assert long.next_trial() is None
    assert [runs[0].config for runs in long.suggested] == [r[0].config for r in short.suggested]
    assert not set(long.run_ids) & set(short.run_ids)


GRID = {"search": {"method": "grid"}, "space": {"learning_rate": [1e-3]}}


@pytest.mark.parametrize(
    ("written", "longer", "reason"),
    [
        ({"code": "other"}, {}, "the code has changed since the run of 20 steps"),
        ({"checkpoint": False}, {}, "the run of 20 steps has no checkpoint"),
        ({"episodes": 5}, {}, "the run of 20 steps was evaluated on other terms"),
        ({}, {"cost_limit": 5}, "the run of 20 steps was evaluated on other terms"),
        ({}, {"evaluate": {"every": 5, "episodes": 2}}, "was evaluated at other steps"),
        ({}, {"evaluate": {"every": 40, "episodes": 2}}, "was evaluated at other steps"),
        ({}, {"seeds": [0, 1, 2]}, "its runs were not trained together for 20 steps"),
        ({"status": "stopped"}, {}, None),
        ({}, {"fixed": {"hidden_dim": 8}}, None),
    ],
)
def test_what_would_not_be_the_longer_run_is_trained_anew(
    written: dict[str, Any], longer: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    finish(spec(20, **GRID), tmp_path, **written)
    (trial,) = planned(spec(50, **{**GRID, **longer}), tmp_path)
    assert trial.from_step == 0
    found = trial.continuation.reason
    assert found is None if reason is None else reason in str(found)


def test_a_method_whose_phases_move_is_carried_on_where_the_shares_hold_them(
    tmp_path: Path,
) -> None:
    two_phases = {"algorithm": "bc", **GRID}
    finish(spec(20, **two_phases), tmp_path / "bc")
    (trial,) = planned(spec(50, **two_phases), tmp_path / "bc")
    assert trial.from_step == 20
    two_phases = {"algorithm": "safefql", **GRID}
    finish(spec(20, **two_phases), tmp_path)
    (trial,) = planned(spec(50, **two_phases), tmp_path)
    assert trial.continuation.reason == "phase 'critics' ends at step 10 of 20, and at 25 of 50"
    (trial,) = planned(spec(50, fixed={"critic_share": 0.2}, **two_phases), tmp_path)
    assert trial.from_step == 20


def test_the_plan_says_what_is_carried_on_and_why_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safesweep.sweeps.cli import main
    from safesweep.sweeps.commands import run

    monkeypatch.setattr(run, "_local_dataset_id", lambda task, source: "data")
    for algorithm in ("lspc", "safefql"):
        finish(spec(20, algorithm=algorithm, **GRID), tmp_path / "store")
    both = spec(50, algorithm=["lspc", "safefql"], **GRID)
    path = tmp_path / "sweep.yaml"
    path.write_text(both.to_yaml())
    arguments = ["run", str(path), "--storage", str(tmp_path / "store"), "--dry-run"]
    assert main([*arguments, "--format", "json"]) == 0
    captured = capsys.readouterr()
    rows = {row["algorithm"]: row for row in json.loads(captured.out)}
    assert (rows["lspc"]["from_step"], rows["lspc"]["gradient_steps"]) == (20, 2 * 30)
    assert (rows["safefql"]["from_step"], rows["safefql"]["gradient_steps"]) == (0, 2 * 50)
    assert "trained from the start, not continued: 1 trials (phase 'critics' ends" in captured.err
