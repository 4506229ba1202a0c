"""A race of seeds and a budget as a plan hands them out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec

TASK = "BoatNavigation-v0"
RACE = {"seeds": {"from": 2, "to": 8}}
BUDGET: dict[str, Any] = {
    "budget": {"runs": 30},
    "search": {},
    "space": {"tau_h": {"low": 0.5, "high": 0.99}, "T": [1, 3]},
}


def spec(**changes: Any) -> SweepSpec:
    content = {
        "name": "example",
        "algorithm": "flrp",
        "tasks": [TASK],
        "steps": 100,
        "space": {"tau_h": [0.6, 0.7, 0.8, 0.9, 0.95]},
    }
    return SweepSpec.from_mapping({**content, **changes})


def scored(run: Any, diverged: bool = False) -> RunOutcome:
    """Reward and cost rise with the expectile; a run's noise follows from its identity."""
    expectile = run.config["feasibility_expectile"]
    generator = np.random.default_rng([run.seed, int(1e6 * expectile)])
    cost = max(0.0, (expectile / 0.8) ** 4 * (1 + 0.1 * generator.standard_normal()))
    reward = expectile + 0.05 * generator.standard_normal()
    scores = {
        "normalized_reward": reward,
        "reward_return_mean": reward,
        "normalized_cost": cost,
        "cost_return_mean": cost,
        "violation_rate": 0.0,
    }
    if diverged:
        return RunOutcome(run.run_id, "diverged", "trial", "example")
    return RunOutcome(run.run_id, "completed", "trial", "example", scores)


def plan(example: SweepSpec, store: Mapping[str, RunOutcome] | None = None) -> MethodTaskPlan:
    return MethodTaskPlan(example, "flrp", TASK, "data", store)


def finish(planned: MethodTaskPlan, stop_after: int | None = None) -> list[PlannedTrial]:
    """Run a plan, three trials at a time, the last one ending first; `stop_after` trials."""
    done: list[PlannedTrial] = []
    running: list[PlannedTrial] = []
    while not planned.exhausted or running:
        while len(running) < 3 and (trial := planned.next_trial()) is not None:
            running.append(trial)
        ended = running.pop()
        planned.record([scored(run) for run in ended.runs])
        done.append(ended)
        if len(done) == stop_after:
            break
    return done


SEARCHES = [
    {},
    {"search": {"method": "random", "num_configs": 4}},
    {"search": {"method": "tpe", "num_configs": 6}},
]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_race_gives_more_seeds_to_what_may_be_chosen_alone(search: dict[str, Any]) -> None:
    planned = plan(spec(**RACE, **search))
    finish(planned)
    seeds = [len(runs) for runs in planned.suggested]
    assert min(seeds) == 2 and max(seeds) == 8
    # Those above the limit by far have no more than they began with.
    for runs in planned.suggested:
        assert [run.seed for run in runs] == list(range(len(runs)))
        if runs[0].config["feasibility_expectile"] >= 0.95:
            assert len(runs) == 2
    assert planned.rounds is not None
    assert sum(planned.rounds.spent.values()) == len(planned.run_ids) == planned.planned_runs


@pytest.mark.parametrize("changes", [RACE, BUDGET])
@pytest.mark.parametrize("stop_after", [1, 6, 9])
def test_rounds_after_a_kill_are_those_of_an_undisturbed_sweep(
    changes: dict[str, Any], stop_after: int
) -> None:
    undisturbed = plan(spec(**changes))
    finish(undisturbed)
    killed = plan(spec(**changes))
    finish(killed, stop_after)
    resumed = plan(spec(**changes), killed.outcomes)
    left = finish(resumed)
    assert resumed.run_ids == undisturbed.run_ids
    assert {run.run_id for trial in left for run in trial.runs}.isdisjoint(killed.outcomes)
    assert resumed.chosen() == undisturbed.chosen()
    assert resumed.rounds is not None and undisturbed.rounds is not None
    assert resumed.rounds.spent == undisturbed.rounds.spent


@pytest.mark.parametrize("changes", [RACE, BUDGET])
def test_populations_change_no_decision(changes: dict[str, Any]) -> None:
    alone, together = plan(spec(**changes)), plan(spec(**changes, configs_per_trial=3))
    assert len(finish(alone)) > len(finish(together))
    assert alone.run_ids == together.run_ids


def test_a_race_begins_with_the_runs_of_a_sweep_without_one() -> None:
    raced, plain = plan(spec(**RACE)), plan(spec(seeds=2))
    while raced.next_trial() is not None:
        pass
    finish(plain)
    assert raced.run_ids == plain.run_ids


def test_a_race_waits_for_rungs_and_leaves_out_what_they_stopped() -> None:
    example = spec(
        **RACE,
        steps=400,
        fixed={"pretrain_share": 0.25},
        evaluate={"every": 100},
        early_stopping={"min_steps": 200},
    )
    planned = plan(example)
    stopped = set()
    while (trial := planned.next_trial()) is not None or not planned.exhausted:
        assert trial is not None
        found = []
        for run in trial.runs:
            outcome = scored(run)
            if run.run_id in trial.stop:
                stopped.add(run.config_id)
                found.append(RunOutcome(run.run_id, "stopped", "t", "e", outcome.scores, 200))
            elif trial.until:
                scores = {200: outcome.scores}
                found.append(RunOutcome(run.run_id, "paused", "t", "e", {}, 200, scores))
            else:
                found.append(outcome)
        if trial.until:
            planned.wait(trial.going)
        planned.record(found)
    seeds = {runs[0].config_id: len(runs) for runs in planned.suggested}
    assert stopped and all(seeds[config] == 2 for config in stopped)
    assert max(seeds.values()) > 2


def test_a_budget_takes_as_many_runs_as_it_says_with_no_seed_twice() -> None:
    planned = plan(spec(**BUDGET))
    assert planned.planned_runs == 30
    finish(planned)
    runs = [run for group in planned.suggested for run in group]
    assert len(runs) == 30
    assert sorted(run.seed for run in runs) == list(range(30))
    chosen = planned.chosen()
    assert chosen is not None and chosen.bound > 0


def test_a_budget_of_steps_is_one_of_runs() -> None:
    changes = {**BUDGET, "budget": {"gradient_steps": 3050}}
    assert spec(**changes).budget_runs == 30


def test_a_budget_goes_on_without_what_diverged() -> None:
    planned = plan(spec(**BUDGET))
    first = True
    while not planned.exhausted:
        trial = planned.next_trial()
        assert trial is not None
        planned.record([scored(run, diverged=first) for run in trial.runs])
        first = False
    assert len(planned.run_ids) == 30
    chosen = planned.chosen()
    assert chosen is not None and chosen.index != 0


def test_a_small_space_gets_its_budget_as_seeds() -> None:
    planned = plan(spec(**{**BUDGET, "space": {"T": [1, 3], "tau_h": [0.6, 0.8]}}))
    finish(planned)
    assert len(planned.suggested) <= 4 and len(planned.run_ids) == 30
