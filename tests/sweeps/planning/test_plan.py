from collections.abc import Mapping
from typing import Any

import pytest

from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.planning.plan import MethodTaskPlan, make_task_plans
from safesweep.sweeps.planning.summaries import summarize
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import ADAPTIVE_METHODS, SweepSpec

TASK = "BoatNavigation-v0"


def spec(**changes: Any) -> SweepSpec:
    content = {
        "name": "example",
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 100,
        "seeds": [0, 1, 2],
        "space": {"tau_h": [0.6, 0.7, 0.8, 0.9]},
    }
    return SweepSpec.from_mapping({**content, **changes})


def task_plan(
    example: SweepSpec,
    store: Mapping[str, RunOutcome] | None = None,
    previous: list[str] | None = None,
    configs: Mapping[str, dict[str, Any]] | None = None,
) -> MethodTaskPlan:
    return MethodTaskPlan(example, "flrp", TASK, "data", store, previous or [], configs)


def completed(run_id: str, reward: float = 0.5, cost: float = 0.5) -> RunOutcome:
    scores = {
        "normalized_reward": reward,
        "reward_return_mean": reward,
        "normalized_cost": cost,
        "cost_return_mean": cost,
        "violation_rate": 0.0,
    }
    return RunOutcome(run_id, "completed", "trial", "example", scores)


def all_trials(planned: MethodTaskPlan) -> list[PlannedTrial]:
    trials = []
    while (trial := planned.next_trial()) is not None:
        trials.append(trial)
    return trials


def score(trial: PlannedTrial) -> list[RunOutcome]:
    return [
        completed(run.run_id, run.config["feasibility_expectile"] + 0.01 * run.seed)
        for run in trial.runs
    ]


def finish(planned: MethodTaskPlan) -> list[PlannedTrial]:
    """Run a plan to its end, two trials at a time, the later one ending first."""
    done: list[PlannedTrial] = []
    running: list[PlannedTrial] = []
    while not planned.exhausted or running:
        while len(running) < 2 and (trial := planned.next_trial()) is not None:
            running.append(trial)
        ended = running.pop()
        planned.record(score(ended))
        done.append(ended)
    return done


def test_a_trial_holds_all_seeds_of_a_configuration() -> None:
    trials = all_trials(task_plan(spec()))
    assert [trial.seeds for trial in trials] == [(0, 1, 2)] * 4
    assert [len(trial.config_ids) for trial in trials] == [1] * 4
    assert len({trial.trial_id for trial in trials}) == 4


def test_configurations_are_packed_with_all_their_seeds() -> None:
    trials = all_trials(task_plan(spec(configs_per_trial=3)))
    assert [len(trial.config_ids) for trial in trials] == [3, 1]
    assert [len(trial.runs) for trial in trials] == [9, 3]


def test_runs_of_a_trial_agree_in_every_static_field() -> None:
    space = {"tau_h": [0.6, 0.9], "T": [1, 3], "lambda_r": [1.0, 2.0]}
    trials = all_trials(task_plan(spec(space=space, configs_per_trial=3)))
    for trial in trials:
        assert len({run.config["refinement_steps"] for run in trial.runs}) == 1
    assert sorted(len(trial.config_ids) for trial in trials) == [1, 1, 3, 3]


def test_identity_covers_configuration_task_data_and_budget() -> None:
    example = spec()
    reference = task_plan(example)
    all_trials(reference)
    others = [
        MethodTaskPlan(example, "flrp", TASK, "other data"),
        MethodTaskPlan(example, "flrp", "BoatNavigationHard-v0", "data"),
        MethodTaskPlan(spec(steps=101), "flrp", TASK, "data"),
        MethodTaskPlan(spec(fixed={"T": 1}), "flrp", TASK, "data"),
    ]
    for other in others:
        all_trials(other)
        assert not set(reference.run_ids) & set(other.run_ids)
    again = task_plan(spec(name="another", resources={"cpu": 2}))
    all_trials(again)
    assert again.run_ids == reference.run_ids


@pytest.mark.parametrize(
    ("algorithm", "fixed", "changes"),
    [
        ("flp", {"safety": "off"}, False),
        ("flp", {"safety": "lagrangian"}, True),
        ("bc", {"data": "all"}, False),
        ("bc", {"data": "safe"}, True),
        ("r2pac", {"threshold": "quantile"}, False),
        ("r2pac", {"threshold": "cost_limit"}, True),
        ("r2pac", {"threshold": "cost_limit", "safety_metric": "feasibility"}, False),
    ],
)
def test_the_cost_limit_is_part_of_identity_where_it_changes_what_is_learned(
    algorithm: str, fixed: dict[str, str], changes: bool
) -> None:
    identities = []
    for limit in (None, 1.0, 20.0):
        example = spec(
            algorithm=algorithm, fixed=fixed, search={"method": "grid"},
            space={"learning_rate": [1e-3]}, cost_limit=limit,
        )  # fmt: skip
        planned = MethodTaskPlan(example, algorithm, TASK, "data")
        trial = planned.next_trial()
        assert trial is not None
        identities.append(trial.config_ids)
    # The boat's own limit is 1, so saying so changes nothing.
    assert identities[0] == identities[1]
    assert (identities[1] != identities[2]) is changes


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_finished_runs_are_left_out(status: str) -> None:
    whole = task_plan(spec())
    first = all_trials(whole)[0]
    store = {run.run_id: RunOutcome(run.run_id, status, "t", "other") for run in first.runs}
    resumed = task_plan(spec(), store)
    assert first.trial_id not in {trial.trial_id for trial in all_trials(resumed)}
    assert resumed.skipped == [run.run_id for run in first.runs]
    assert resumed.run_ids == whole.run_ids


def test_failed_runs_are_tried_again() -> None:
    first = all_trials(task_plan(spec()))[0]
    store = {run.run_id: RunOutcome(run.run_id, "failed", "t", "example") for run in first.runs}
    resumed = task_plan(spec(), store)
    assert all_trials(resumed)[0].trial_id == first.trial_id
    assert set(resumed.failed_before) == {run.run_id for run in first.runs}


def test_only_the_missing_seeds_are_run() -> None:
    store = {run: completed(run) for run in _run_ids(spec(seeds=[0, 1]))}
    trials = all_trials(task_plan(spec(seeds=[0, 1, 2, 3]), store))
    assert [trial.seeds for trial in trials] == [(2, 3)] * 4


def test_an_interrupted_trial_keeps_its_members() -> None:
    example = spec(configs_per_trial=2)
    first, second = all_trials(task_plan(example))
    store = {run.run_id: completed(run.run_id) for run in first.runs}
    assert [trial.trial_id for trial in all_trials(task_plan(example, store))] == [second.trial_id]


def _run_ids(example: SweepSpec) -> list[str]:
    planned = task_plan(example)
    all_trials(planned)
    return planned.run_ids


def test_adaptive_search_hands_out_what_it_can_and_waits() -> None:
    example = spec(
        space={"tau_h": {"low": 0.6, "high": 0.95}},
        search={"method": "tpe", "num_configs": 7, "parallel": 4},
        configs_per_trial=2,
    )
    planned = task_plan(example)
    first = all_trials(planned)
    assert [len(trial.config_ids) for trial in first] == [2, 2]
    assert not planned.exhausted
    planned.record(score(first[1]))
    assert planned.next_trial() is None
    planned.record(score(first[0]))
    assert len(all_trials(planned)) == 2
    assert planned.exhausted


def searched(method: str = "tpe", num_configs: int = 14, **changes: Any) -> SweepSpec:
    return spec(
        space={"tau_h": {"low": 0.6, "high": 0.95}, "T": [0, 3]},
        search={"method": method, "num_configs": num_configs},
        **changes,
    )


def stored(
    planned: MethodTaskPlan, keep: float = 1.0
) -> tuple[dict[str, RunOutcome], dict[str, Any]]:
    """The store after the first part of a plan's configurations has ended."""
    runs = planned.suggested[: int(len(planned.suggested) * keep)]
    outcomes = {run.run_id: planned.outcomes[run.run_id] for group in runs for run in group}
    return outcomes, {group[0].config_id: group[0].config for group in runs}


every_search = pytest.mark.parametrize("method", ["random", *ADAPTIVE_METHODS])


@every_search
def test_a_killed_search_walks_the_same_path(method: str) -> None:
    undisturbed = task_plan(searched(method))
    finish(undisturbed)
    store, configs = stored(undisturbed, keep=0.5)
    resumed = task_plan(searched(method), store, undisturbed.run_ids[: 3 * 9], configs)
    finish(resumed)
    assert resumed.run_ids == undisturbed.run_ids
    assert len(resumed.skipped) == len(store)


@every_search
def test_more_configurations_add_to_a_search(method: str) -> None:
    short = task_plan(searched(method, 10))
    finish(short)
    store, configs = stored(short)
    extended = task_plan(searched(method, 14), store, short.run_ids, configs)
    assert len(finish(extended)) == 4
    assert extended.run_ids[: len(short.run_ids)] == short.run_ids


@every_search
def test_more_seeds_keep_the_configurations_of_a_search(method: str) -> None:
    before = task_plan(searched(method))
    finish(before)
    store, configs = stored(before)
    extended = task_plan(searched(method, seeds=[0, 1, 2, 7]), store, before.run_ids, configs)
    trials = finish(extended)
    assert all(trial.seeds == (7,) for trial in trials)
    assert {runs[0].config_id for runs in extended.suggested} == set(configs)


def test_more_choices_add_to_a_grid() -> None:
    before = task_plan(spec())
    finish(before)
    store, configs = stored(before)
    more = spec(space={"tau_h": [0.65, 0.6, 0.7, 0.8, 0.9]}, seeds=[0, 1, 2, 7])
    trials = finish(task_plan(more, store, before.run_ids, configs))
    assert sorted(trial.seeds for trial in trials) == [(0, 1, 2, 7), (7,), (7,), (7,), (7,)]


@every_search
def test_points_that_are_added_to_a_finished_search_are_run_first(method: str) -> None:
    before = task_plan(searched(method))
    finish(before)
    store, configs = stored(before)
    search = {"method": method, "num_configs": 15, "points": [{"tau_h": 0.625}]}
    extended = task_plan(
        spec(space=searched().space, search=search), store, before.run_ids, configs
    )
    (trial,) = finish(extended)
    assert trial.runs[0].config["feasibility_expectile"] == 0.625
    assert extended.suggested[0] == list(trial.runs)
    assert set(before.run_ids) < set(extended.run_ids)


@every_search
def test_the_best_configuration_of_a_search_is_safe(method: str) -> None:
    """Rewarded for what makes it unsafe, a search suggests unsafe ones, and reports none."""
    planned, unsafe = task_plan(searched(method, 24)), 0
    while not planned.exhausted:
        trial = planned.next_trial()
        assert trial is not None
        level = trial.runs[0].config["feasibility_expectile"]
        planned.record(completed(run.run_id, level, level / 0.8) for run in trial.runs)
        unsafe += level > 0.8
    best = planned.best_safe()
    assert unsafe > 0 and best is not None
    assert best[1]["normalized_cost"] <= 1
    best_safe = max(
        outcome.scores["normalized_reward"]
        for outcome in planned.outcomes.values()
        if outcome.scores["normalized_cost"] <= 1
    )
    assert best[1]["normalized_reward"] == pytest.approx(best_safe)


def test_history_of_another_space_is_not_adopted() -> None:
    before = task_plan(searched())
    finish(before)
    store, configs = stored(before)
    changed = searched(fixed={"hidden_dim": 64})
    fresh, resumed = task_plan(changed), task_plan(changed, store, before.run_ids, configs)
    finish(fresh)
    finish(resumed)
    assert resumed.run_ids == fresh.run_ids


def test_best_safe_configuration_is_known() -> None:
    planned = task_plan(spec())
    assert planned.best_safe() is None
    for trial in all_trials(planned):
        level = trial.runs[0].config["feasibility_expectile"]
        planned.record(completed(run.run_id, level, 2.0 * level) for run in trial.runs)
        if level == 0.6:
            assert planned.best_safe() is None
    planned = task_plan(spec())
    trials = all_trials(planned)
    for trial in trials:
        level = trial.runs[0].config["feasibility_expectile"]
        planned.record(completed(run.run_id, level, 1.2 * level) for run in trial.runs)
    best = planned.best_safe()
    assert best is not None
    assert best[0] == trials[2].config_ids[0]
    assert best[1]["normalized_reward"] == pytest.approx(0.8)


def test_summary_is_a_mean_over_seeds_and_never_over_survivors() -> None:
    example = spec()
    outcome = summarize(example, [completed("a", 0.2, 0.5), completed("b", 0.4, 2.5)])
    assert outcome.objective == pytest.approx(0.3)
    assert outcome.constraints == {"normalized_cost": pytest.approx(0.5)}
    assert not outcome.safe
    for status in ("failed", "diverged"):
        lost = RunOutcome("b", status, "t", "example")
        assert summarize(example, [completed("a"), lost]).status == "failed"
    stopped = completed("b")
    stopped = RunOutcome("b", "stopped", "t", "example", stopped.scores, steps=40)
    pruned = summarize(example, [completed("a"), stopped])
    assert (pruned.status, pruned.step) == ("pruned", 40)


def test_a_sweep_of_two_methods_is_resumed() -> None:
    example = spec(algorithm=["flrp", "bc"], space={"learning_rate": [1e-3, 1e-4]})
    before = make_task_plans(example, lambda task: "data")
    for planned in before:
        for trial in all_trials(planned):
            planned.record(completed(run.run_id) for run in trial.runs)
    store = {run: outcome for planned in before for run, outcome in planned.outcomes.items()}
    configs = {
        runs[0].config_id: runs[0].config for task_plan in before for runs in task_plan.suggested
    }
    run_ids = [run for planned in before for run in planned.run_ids]
    for planned in make_task_plans(example, lambda task: "data", store, run_ids, configs):
        assert not all_trials(planned)
        assert len(planned.skipped) == 6


def test_there_is_one_plan_for_every_task() -> None:
    example = spec(tasks=[TASK, "BoatNavigationHard-v0"])
    task_plans = make_task_plans(example, {TASK: "a", "BoatNavigationHard-v0": "b"}.__getitem__)
    assert [(planned.task, planned.dataset_id) for planned in task_plans] == [
        (TASK, "a"),
        ("BoatNavigationHard-v0", "b"),
    ]


def test_halves_keep_the_seeds_of_a_configuration_together_while_they_can() -> None:
    (trial,) = all_trials(task_plan(spec(configs_per_trial=4, space={"tau_h": [0.6, 0.7, 0.8]})))
    one, other = trial.halves()
    assert (one.config_ids, other.config_ids) == (trial.config_ids[:2], trial.config_ids[2:])
    assert one.seeds == other.seeds == (0, 1, 2)
    first, last = other.halves()
    assert (first.seeds, last.seeds) == ((0, 1), (2,))
    assert (trial.memory_splits, one.memory_splits, last.memory_splits) == (0, 1, 2)
    assert one.runs + first.runs + last.runs == trial.runs
    with pytest.raises(ValueError, match="no halves"):
        last.halves()


def test_what_is_put_back_comes_next() -> None:
    planned = task_plan(spec())
    first = planned.next_trial()
    assert first is not None
    rest = all_trials(planned)
    assert planned.exhausted
    halves = first.halves()
    planned.put_back(halves)
    assert not planned.exhausted
    assert all_trials(planned) == list(halves)
    assert first not in rest


def test_an_interrupted_half_is_planned_with_the_members_that_it_had() -> None:
    (trial,) = all_trials(task_plan(spec(configs_per_trial=4)))
    done, left = trial.halves()
    store = {outcome.run_id: outcome for outcome in score(done)}
    (resumed,) = all_trials(task_plan(spec(configs_per_trial=4), store))
    assert resumed.trial_id == left.trial_id


@pytest.mark.parametrize("method", ["random", *(m for m in ADAPTIVE_METHODS if m != "cmaes")])
def test_a_search_of_more_than_the_space_holds_says_so(method: str) -> None:
    small = {"tau_h": [0.6, 0.7], "T": [1, 3]}
    planned = task_plan(spec(search={"method": method, "num_configs": 9}, space=small))
    if method != "random":
        assert planned.configurations == 4
    finish(planned)
    assert planned.exhausted and planned.configurations == 4
    said = f"flrp on {TASK}: 4 configurations instead of 9; the space holds no more"
    assert planned.shortfall == said
    exact = task_plan(spec(search={"method": method, "num_configs": 4}, space=small))
    finish(exact)
    assert exact.shortfall is None
    assert task_plan(spec()).shortfall is None


def test_a_search_of_ranges_has_no_shortfall_before_its_end() -> None:
    content = {"method": "tpe", "num_configs": 30}
    planned = task_plan(spec(search=content, space={"tau_h": {"low": 0.6, "high": 0.9}}))
    assert planned.configurations == 30
    assert planned.shortfall is None
