"""What a sweep's search is told of a store before it begins, and that it stays what it was."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution.progress import Progress
from safesweep.sweeps.execution.scheduler import SweepRun, make_plan
from safesweep.sweeps.planning import warm_start
from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.rounds import BudgetRounds
from safesweep.sweeps.planning.search import OptunaSearch, Outcome
from safesweep.sweeps.planning.study import StudyJournal
from safesweep.sweeps.planning.warm_start import (
    WarmStart,
    by_average_rank,
    read_warm_starts,
    warm_start_path,
)
from safesweep.sweeps.spec.sweep_spec import ADAPTIVE_METHODS, SweepSpec
from safesweep.trainables.store.writer import ResultWriter

TASK, HARD, COARSE = "BoatNavigation-v0", "BoatNavigationHard-v0", "BoatNavigationCoarse-v0"
LEVEL = "feasibility_expectile"
SPACE = {"tau_h": {"low": 0.6, "high": 0.95}, "T": [1, 3]}
OLD: dict[str, Any] = {"search": {"method": "grid"}, "space": {"tau_h": [0.6, 0.7, 0.8, 0.9]}}
BUDGET: dict[str, Any] = {"budget": {"runs": 20}, "search": {"warm_start": True}}
Cost = Callable[[Mapping[str, Any]], float]


def spec(name: str = "new", method: str = "tpe", num_configs: int = 6, **changes: Any) -> SweepSpec:
    content = {
        "name": name,
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 100,
        "fixed": {"hidden_dim": 64},
        "space": SPACE,
        "search": {"method": method, "num_configs": num_configs, "warm_start": True},
    }
    return SweepSpec.from_mapping({**content, **changes})


def usual_cost(config: Mapping[str, Any]) -> float:
    """Above the limit from a level of 0.8 on."""
    return float(config[LEVEL]) / 0.8


def launch(
    store: Path,
    example: SweepSpec,
    cost: Cost = usual_cost,
    data: str = "data",
    stop_after: int | None = None,
    status: Callable[[Any], str] = lambda run: "completed",
) -> MethodTaskPlan:
    """Run a sweep of one task, or so many of its trials, as a driver and its workers would."""
    (task,) = example.tasks
    plan = make_plan(example, str(store), {task: data})
    writer = ResultWriter(str(store), example.name)
    run = SweepRun(plan, writer, Progress(False))
    run.start()
    (planned,) = plan.task_plans
    trials = 0
    while trials != stop_after and (trial := run.next_trial()) is not None:
        rows, evaluations = [], []
        for one in trial.runs:
            keys = {"run_id": one.run_id, "config_id": one.config_id, "seed": one.seed}
            keys |= {"algorithm": trial.algorithm, "task": task}
            row = {**keys, "trial_id": trial.trial_id, "status": status(one)}
            rows.append({**row, "steps": example.steps, "dataset_id": data, "config": one.config})
            reward, limit = one.config[LEVEL] + 0.01 * one.seed, example.cost_limit_of(task)
            evaluations.append(
                {
                    **keys,
                    "step": example.steps,
                    "policy": "flrp",
                    "normalized_reward": reward,
                    "reward_return_mean": reward,
                    "normalized_cost": cost(one.config),
                    "cost_return_mean": cost(one.config) * limit,
                    "violation_rate": 0.0,
                    "cost_limit": limit,
                    "episodes": 2,
                }
            )
        writer.write_trial(trial.trial_id, rows, evaluations)
        run.ended(trial, None)
        trials += 1
    if trials == stop_after:
        run.interrupt()
    else:
        run.finish()
    return planned


def told(planned: MethodTaskPlan) -> WarmStart:
    assert planned.warm_start is not None
    return planned.warm_start


def begun(store: Path, example: SweepSpec, data: str = "data") -> MethodTaskPlan:
    """The plan of a sweep that has not begun."""
    return make_plan(example, str(store), {example.tasks[0]: data}).task_plans[0]


def levels(planned: MethodTaskPlan) -> list[float]:
    return [runs[0].config[LEVEL] for runs in planned.suggested]


@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_a_search_is_told_every_configuration_with_the_means_over_its_seeds(
    method: str, tmp_path: Path
) -> None:
    launch(tmp_path, spec("old", **OLD, seeds=2))
    planned = begun(tmp_path, spec(method=method))
    search = planned.search
    assert isinstance(search, OptunaSearch)
    trials = search.study.trials
    assert sorted(trial.params[LEVEL] for trial in trials) == [0.6, 0.7, 0.8, 0.9]
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    if method in ("tpe", "gp", "nsga2"):
        for trial in trials:
            assert trial.values[0] == pytest.approx(trial.params[LEVEL] + 0.005)
            assert (trial.constraints["normalized_cost"] <= 0) == (trial.params[LEVEL] <= 0.8)
    assert told(planned).describe() == (
        f"warm start: 4 configurations of flrp on {TASK} from sweep old (8 runs)"
    )
    finished = launch(tmp_path, spec(method=method))
    assert len(finished.suggested) == 6
    # The default, 0.9, is known, and so are the others.
    assert not {0.6, 0.7, 0.8, 0.9} & {
        runs[0].config[LEVEL]
        for runs in finished.suggested
        if runs[0].config["refinement_steps"] == 3
    }


def test_points_of_the_file_are_tried_whatever_is_known(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD))
    search = {"method": "tpe", "num_configs": 3, "warm_start": True, "points": [{"tau_h": 0.7}]}
    planned = begun(tmp_path, spec(search=search))
    assert isinstance(planned.search, OptunaSearch)
    assert len(planned.search.study.trials) == 3  # Its own outcome will be the fourth.
    trial = planned.next_trial()
    assert trial is not None and trial.runs[0].config[LEVEL] != 0.7
    assert levels(planned)[0] == 0.7
    assert planned.skipped == [planned.suggested[0][0].run_id]  # The store holds its run.


def test_what_is_known_is_suggested_where_the_space_holds_nothing_else(tmp_path: Path) -> None:
    space = {"tau_h": [0.6, 0.7, 0.8], "T": [3]}
    launch(tmp_path, spec("old", search={"method": "grid"}, space={"tau_h": [0.6, 0.7]}))
    planned = launch(tmp_path, spec(num_configs=3, space=space))
    assert levels(planned)[0] == 0.8 and sorted(levels(planned)) == [0.6, 0.7, 0.8]


@pytest.mark.parametrize("changes", [{}, {"search": {**BUDGET["search"]}, "budget": {"runs": 20}}])
def test_a_sweep_repeats_whatever_the_store_holds_later(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    stores = [tmp_path / "undisturbed", tmp_path / "disturbed"]
    for store in stores:
        launch(store, spec("old", **OLD))
    undisturbed = launch(stores[0], spec(**changes))
    launch(stores[1], spec(**changes), stop_after=3)
    launch(stores[1], spec("later", **{**OLD, "space": {"tau_h": [0.65, 0.75, 0.79, 0.85]}}))
    resumed = launch(stores[1], spec(**changes))
    assert resumed.run_ids == undisturbed.run_ids
    assert told(resumed) == told(undisturbed)
    assert told(begun(stores[1], spec("another"))) != told(resumed)
    contents = [StudyJournal([planned]).content() for planned in (undisturbed, resumed)]
    assert contents[0].count(b'"op_code":4') == contents[1].count(b'"op_code":4')


def test_what_an_empty_store_gave_stands_too(tmp_path: Path) -> None:
    first = launch(tmp_path, spec(), stop_after=2)
    assert told(first).describe() == f"warm start: nothing of flrp on {TASK} in the store"
    launch(tmp_path, spec("later", **OLD))
    assert told(begun(tmp_path, spec())) == told(first)
    assert len(told(begun(tmp_path, spec("another"))).told) > 4


def test_more_configurations_follow_the_same_warm_start(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD))
    before = launch(tmp_path, spec())
    launch(tmp_path, spec("later", **{**OLD, "space": {"tau_h": [0.65, 0.75]}}))
    after = launch(tmp_path, spec(num_configs=9))
    assert told(after) == told(before)
    assert after.run_ids[: len(before.run_ids)] == before.run_ids and len(after.suggested) == 9


def test_what_does_not_compare_is_left_out_by_its_reason(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD))
    launch(tmp_path, spec("longer", **OLD, steps=200))
    launch(tmp_path, spec("larger", **OLD, fixed={"hidden_dim": 32}))
    launch(tmp_path, spec("strict", **OLD, cost_limit=5))
    lost = {**OLD, "space": {"tau_h": [0.61, 0.62]}}
    launch(tmp_path, spec("lost", **lost, seeds=2), status=lambda run: ["diverged", "completed"][
        run.seed
    ])  # fmt: skip
    launch(tmp_path, spec("wider", **{**OLD, "space": {"tau_h": [0.5, 0.97]}}))
    launch(tmp_path, spec("other-data", **OLD), data="other")
    found = told(begun(tmp_path, spec()))
    assert [one.config[LEVEL] for one in sorted(found.told, key=lambda one: one.config[LEVEL])] == [
        0.6, 0.7, 0.8, 0.9,
    ]  # fmt: skip
    assert found.sources == ("old",)
    # flrp trains to no limit, so the runs of `strict` are those of `old`.
    assert found.left_out == {
        "of other gradient steps": 4, "outside of its space": 6, "not complete": 2
    }  # fmt: skip
    assert "4 of other gradient steps" in found.describe()


FLP: dict[str, Any] = {
    "algorithm": "flp",
    "fixed": {"safety": "lagrangian"},
    "space": {"kl_coefficient": {"low": 0.01, "high": 1.0, "log": True}},
}


def flp_store(store: Path, cost_limit: float, coefficient: float) -> None:
    """A sweep of one run, which trains to its limit."""
    space = {"kl_coefficient": [coefficient]}
    example = spec(
        f"limit-{cost_limit:g}", **{**FLP, "space": space}, search={}, cost_limit=cost_limit
    )
    planned = begun(store, example)
    trial = planned.next_trial()
    assert trial is not None
    keys: dict[str, Any] = {
        "run_id": trial.runs[0].run_id, "config_id": trial.runs[0].config_id, "seed": 0,
        "algorithm": "flp", "task": TASK,
    }  # fmt: skip
    row = {**keys, "trial_id": trial.trial_id, "status": "completed", "steps": 100}
    row |= {"dataset_id": "data", "config": trial.runs[0].config}
    scores = {"normalized_reward": 0.5, "reward_return_mean": 0.5, "cost_return_mean": 1.0}
    scores |= {"normalized_cost": 1 / cost_limit, "cost_limit": cost_limit}
    writer = ResultWriter(str(store), example.name)
    writer.write_trial(trial.trial_id, [row], [{**keys, "step": 100, "policy": "flp", **scores}])
    writer.write_sweep(example.to_yaml(), planned.run_ids, "completed")


def test_another_limit_is_refused_and_where_there_are_both_its_own_is_taken(
    tmp_path: Path,
) -> None:
    flp_store(tmp_path, 5, 0.1)
    with pytest.raises(InvalidInput) as refusal:
        begun(tmp_path, spec(**FLP, cost_limit=20))
    assert refusal.value.lines == (
        f"search.warm_start: the store's runs of flp on {TASK} have the cost limit 5, and this "
        "sweep has 20; costs do not compare. Set cost_limit, or leave warm_start out",
    )
    flp_store(tmp_path, 20, 0.2)
    found = told(begun(tmp_path, spec(**FLP, cost_limit=20)))
    assert [one.config["kl_coefficient"] for one in found.told] == [0.2]
    assert found.left_out == {"of another cost limit": 1}


def test_a_limit_that_methods_do_not_train_to_is_refused_too(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD, cost_limit=5))
    with pytest.raises(InvalidInput, match=r"have the cost limit 5, and this sweep has 1;"):
        begun(tmp_path, spec())


def safe(objective: float) -> Outcome:
    return Outcome("complete", objective, {"normalized_cost": -0.1})


def unsafe(objective: float, excess: float) -> Outcome:
    return Outcome("complete", objective, {"normalized_cost": excess})


def test_average_ranks_put_safe_ones_first() -> None:
    one = [(safe(0.2), "a"), (unsafe(0.9, 0.1), "b"), (safe(0.5), "c"), (unsafe(0.1, 0.05), "d")]
    # Ranks in the first: c 1, a 2, d 3, b 4; in the second: b 1, a and c 2, e 4.
    other = [(safe(0.7), "b"), (safe(0.3), "a"), (safe(0.3), "c"), (safe(0.1), "e")]
    assert by_average_rank([one]) == ["c", "a", "d", "b"]
    assert by_average_rank([one, other]) == ["c", "a", "b", "d", "e"]
    # Equal averages: what was tried more often first.
    assert by_average_rank([[(safe(1.0), "a"), (safe(0.5), "z")], [(safe(1.0), "z")],
                            [(safe(1.0), "b"), (safe(0.5), "x"), (safe(0.4), "y")],
                            [(safe(1.0), "b")]]) == ["b", "a", "z", "x", "y"]  # fmt: skip


def test_what_was_best_on_other_tasks_comes_first_where_the_task_is_new(tmp_path: Path) -> None:
    """Reward rises with the level. On one task 0.7 is the best safe level, on the other 0.8."""
    launch(tmp_path, spec("hard", **OLD, tasks=[HARD]), cost=lambda c: c[LEVEL] / 0.75)
    launch(tmp_path, spec("coarse", **OLD, tasks=[COARSE]), cost=lambda c: c[LEVEL] / 0.85)
    # Ranks: 0.6: 2, 3; 0.7: 1, 2; 0.8: 3, 1; 0.9: 4, 4.
    search = {"method": "tpe", "num_configs": 8, "warm_start": True, "points": [{"tau_h": 0.65}]}
    planned = launch(tmp_path, spec(search=search))
    assert levels(planned)[:5] == [0.65, 0.7, 0.8, 0.6, 0.9]
    assert not told(planned).told
    assert told(planned).describe() == (
        f"warm start: first points of flrp on {TASK} from {COARSE}, {HARD}: "
        + "; ".join(f"{LEVEL}={level}, refinement_steps=3" for level in (0.7, 0.8, 0.6, 0.9))
    )
    # What the task has of its own goes before what others have.
    assert len(told(begun(tmp_path, spec("after"))).told) == 8
    budget = begun(tmp_path, spec("hard-data", **BUDGET, tasks=[HARD]), data="other")
    assert f"other data of {HARD}" in told(budget).describe()
    while budget.next_trial() is not None:
        pass
    assert len(told(budget).points) == 5 and len(budget.suggested) == 12
    assert levels(budget)[:5] == [point[LEVEL] for point in told(budget).points]


def test_first_points_lie_in_the_space_of_the_sweep(tmp_path: Path) -> None:
    launch(tmp_path, spec("hard", **OLD, tasks=[HARD]))
    narrow = {"tau_h": {"low": 0.65, "high": 0.85}, "T": [3]}
    points = told(begun(tmp_path, spec(space=narrow))).points
    assert sorted(point[LEVEL] for point in points) == [0.7, 0.8]


def test_a_budget_goes_on_from_what_is_known_with_seeds_of_its_own(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD, seeds=3))
    space = {"tau_h": [0.6, 0.7, 0.8, 0.9, 0.95], "T": [1, 3]}
    planned = launch(tmp_path, spec(**BUDGET, space=space))
    runs = [run for group in planned.suggested for run in group]
    # Seeds 0 to 2 are known.
    assert sorted(run.seed for run in runs) == list(range(3, 23)) and not planned.skipped
    assert planned.rounds is not None and not planned.rounds.spent["start"]
    tried = planned._tried()
    known = told(planned).told
    suggested = {group[0].config_id: place for place, group in enumerate(planned.suggested)}
    chosen = planned.chosen()
    assert chosen is not None and chosen.index < len(planned.suggested)
    # Each row is evidence once, of the configuration that was suggested or beside it.
    assert sum(len(one.rewards) for one in tried) == 20 + 12
    taken = [one for one in known if one.config_id in suggested]
    assert taken and len(tried) == len(planned.suggested) + len(known) - len(taken)
    for one in taken:
        place = suggested[one.config_id]
        assert len(tried[place].rewards) == len(planned.suggested[place]) + 3


def test_a_budget_first_tries_the_points_and_the_default_if_it_is_new(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", search={}, space={"tau_h": [0.6, 0.7, 0.8]}))
    search = {"warm_start": True, "points": [{"tau_h": 0.64}]}
    planned = begun(tmp_path, spec(budget={"runs": 20}, search=search))
    while planned.next_trial() is not None:
        pass
    assert levels(planned) == [0.64, 0.9]
    assert isinstance(planned.rounds, BudgetRounds)
    assert planned.rounds.spent == {"start": 2}


def test_without_the_key_nothing_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD))
    cold = {"method": "tpe", "num_configs": 6}
    planned = launch(tmp_path, spec(search=cold))
    assert planned.warm_start is None
    assert not (tmp_path / warm_start_path("new")).exists()
    assert levels(planned) == levels(launch(tmp_path / "alone", spec(search=cold)))
    assert "warm_start" not in spec(search=cold).to_yaml()
    assert "warm_start: true" in spec().to_yaml()


@pytest.mark.parametrize("changes", [{"method": "gp"}, BUDGET])
def test_gaussian_processes_are_told_the_best_alone(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_start, "MOST_MODELLED", 2)
    launch(tmp_path, spec("old", **OLD))
    found = told(begun(tmp_path, spec(**changes)))
    assert sorted(one.config[LEVEL] for one in found.told) == [0.7, 0.8]
    assert found.left_out == {"behind the best 2": 2}
    assert len(told(begun(tmp_path, spec())).told) == 4


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    launch(tmp_path, spec("old", **OLD))
    launch(tmp_path, spec())
    path = tmp_path / warm_start_path("new")
    (found,) = read_warm_starts(path.read_bytes(), "new")
    assert len(found.told) == 4
    for content in (b"{", b"[1]", path.read_bytes()[:-20]):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=r"warm_starts/new\.json in the store") as refusal:
            begun(tmp_path, spec())
        assert len(refusal.value.lines) == 1
