"""Successive halving: the decision of a rung, and sweeps of made-up learning curves."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.sweeps.planning.early_stopping import (
    Rung,
    RungScore,
    decide,
    expected_share,
    expected_steps,
    make_rungs,
    rank,
    rung_score,
)
from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.trials import PlannedRun, PlannedTrial
from safesweep.sweeps.spec.sweep_spec import EarlyStoppingOptions, SweepSpec

TASK = "BoatNavigation-v0"
STEPS = 900

scores = st.floats(-10, 10, allow_nan=False)
excesses = st.just(0.0) | st.floats(0, 5, allow_nan=False)
standings = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=4),
    st.none() | st.builds(RungScore, scores, excesses),
    max_size=12,
)
rungs = st.builds(Rung, st.integers(1, 1000), st.integers(1, 12))


@given(standings=standings, rung=rungs, seed=st.integers(0, 100))
def test_each_configuration_goes_on_or_is_stopped_for_a_reason(
    standings: dict[str, RungScore | None], rung: Rung, seed: int
) -> None:
    decision = decide(rung, standings, seed)
    healthy = [name for name, place in standings.items() if place is not None]
    assert len(decision.going) == min(rung.keep, len(healthy))
    assert {*decision.going, *decision.stopped} == set(standings)
    assert not set(decision.going) & set(decision.stopped)
    assert all(f"step {rung.step}" in reason for reason in decision.stopped.values())


@given(standings=standings, rung=rungs, seed=st.integers(0, 100))
def test_nothing_that_is_stopped_is_better_than_what_goes_on(
    standings: dict[str, RungScore | None], rung: Rung, seed: int
) -> None:
    decision = decide(rung, standings, seed)
    for name in decision.going:
        kept = standings[name]
        assert kept is not None
        for other in decision.stopped:
            place = standings[other]
            if place is None:
                continue
            assert not (place.excess == 0 and kept.excess > 0)
            if place.excess == kept.excess == 0:
                assert place.objective <= kept.objective
            elif place.excess > 0 and kept.excess > 0:
                assert place.excess >= kept.excess


@given(standings=standings, rung=rungs, seed=st.integers(0, 100), data=st.data())
def test_the_order_of_arrival_decides_nothing(
    standings: dict[str, RungScore | None], rung: Rung, seed: int, data: st.DataObject
) -> None:
    shuffled = dict(data.draw(st.permutations(list(standings.items()))))
    assert decide(rung, shuffled, seed) == decide(rung, standings, seed)


@given(standings=standings, rung=rungs, seed=st.integers(0, 100))
def test_a_smaller_rung_keeps_the_head_of_a_larger_one(
    standings: dict[str, RungScore | None], rung: Rung, seed: int
) -> None:
    more = decide(replace(rung, keep=rung.keep + 1), standings, seed)
    assert more.going[: rung.keep] == decide(rung, standings, seed).going


def test_ties_are_broken_by_the_seed() -> None:
    tied = {name: RungScore(0.5, 0.0) for name in "abcdefgh"}
    orders = {tuple(rank(tied, 100, seed)) for seed in range(8)}
    assert len(orders) > 1
    assert rank(tied, 100, 3) == rank(tied, 100, 3)


@given(
    configurations=st.integers(1, 500),
    reduction=st.integers(2, 6),
    min_steps=st.integers(1, 400),
    steps=st.integers(1, 2000),
)
def test_rungs_narrow_down_to_one_and_save_steps(
    configurations: int, reduction: int, min_steps: int, steps: int
) -> None:
    made = make_rungs(
        EarlyStoppingOptions(reduction=reduction, min_steps=min_steps), steps, configurations
    )
    keeps = [configurations, *(rung.keep for rung in made)]
    assert all(after < before for before, after in pairwise(keeps))
    assert all(min_steps <= rung.step < steps for rung in made)
    assert all(b.step == a.step * reduction for a, b in pairwise(made))
    spent = expected_steps(made, steps, configurations)
    assert steps <= spent <= configurations * steps
    if made:
        assert spent < configurations * steps


def test_steps_spent_are_counted_by_hand() -> None:
    made = make_rungs(EarlyStoppingOptions(reduction=3, min_steps=100), STEPS, 9)
    assert made == (Rung(100, 3), Rung(300, 1))
    assert expected_steps(made, STEPS, 9) == 9 * 100 + 3 * 200 + 600


def test_where_a_configuration_stands_is_a_mean_over_seeds() -> None:
    seeds = [{"reward": 0.2, "cost": 0.5, "rate": 0.3}, {"reward": 0.4, "cost": 2.5, "rate": 0.3}]
    found = rung_score(seeds, "reward", {"cost": 1.0, "rate": 0.1})
    assert found == RungScore(0.3, pytest.approx(0.5 + 0.2))
    assert rung_score(seeds, "reward", {"cost": 1.5}) == RungScore(0.3, 0.0)
    assert rung_score([*seeds, {"reward": math.nan, "cost": 0.0}], "reward", {}) is None
    # 0.1 + 0.2 is not more than 0.3.
    sums = [{"reward": 0.0, "cost": 0.1 + 0.2}]
    assert rung_score(sums, "reward", {"cost": 0.3}) == RungScore(0.0, 0.0)


def spec(**changes: Any) -> SweepSpec:
    levels = [round(0.5 + 0.05 * i, 2) for i in range(9)]
    content = {
        "name": "example",
        "algorithm": "lspc",
        "tasks": [TASK],
        "steps": STEPS,
        "evaluate": {"every": 100},
        "seeds": [0, 1],
        "space": {"expectile": levels},
        "early_stopping": {"method": "halving", "reduction": 3, "min_steps": 100},
    }
    return SweepSpec.from_mapping({**content, **changes})


Curve = Callable[[PlannedRun, int], tuple[float, float]]


def rising(run: PlannedRun, step: int) -> tuple[float, float]:
    """Reward and cost rise with the level, and the cost falls with training: of the levels 0.5 to
    0.9 those above 0.7 are never safe."""
    level = run.config["expectile"]
    progress = step / STEPS
    cost = level / 0.7 + 0.02 * (1 - progress) * (level - 0.7) + 0.001 * (run.seed - 0.5)
    return level * (0.5 + 0.5 * progress) + 0.001 * run.seed, cost


@dataclass
class Cluster:
    """Trains by made-up curves what a plan hands out, and remembers it as a store does."""

    curve: Curve = rising
    slots: int = 2
    fails: Callable[[PlannedTrial], bool] = lambda trial: False
    diverges_at: Mapping[str, int] = field(default_factory=dict)
    rows: dict[str, RunOutcome] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    longest_queue: int = 0

    def outcome(self, run: PlannedRun, status: str, step: int, trial: PlannedTrial) -> RunOutcome:
        at = {}
        for rung in (*range(100, step + 1, 100),):
            reward, cost = self.curve(run, rung)
            at[rung] = {
                "normalized_reward": reward, "reward_return_mean": reward,
                "normalized_cost": cost, "cost_return_mean": cost, "violation_rate": 0.0,
            }  # fmt: skip
        last = at[max(at)] if at else {}
        return RunOutcome(run.run_id, status, trial.trial_id, "example", last, step, at)

    def train(self, task_plan: MethodTaskPlan, trial: PlannedTrial) -> None:
        """What a worker and the launch do with one trial."""
        if self.fails(trial):
            task_plan.record([replace(self.outcome(run, "failed", 0, trial), scores={})
                        for run in trial.runs])  # fmt: skip
            return
        found = []
        going = trial.going
        until = trial.until or STEPS
        for run in trial.stopping.runs:
            step = self.reached[run.run_id]
            found.append(self.outcome(run, "stopped", step, trial.stopping))
        for run in going.runs:
            before = self.reached.get(run.run_id, 0)
            self.steps += max(0, until - before)
            self.reached[run.run_id] = max(until, before)
            broke = self.diverges_at.get(run.run_id, STEPS + 1)
            status = "paused" if trial.until else "completed"
            if broke <= until:
                status = status if trial.until else "diverged"
            step = min(self.reached[run.run_id], broke - 1)
            outcome = self.outcome(run, status, step, going)
            found.append(replace(outcome, steps=self.reached[run.run_id]))
        self.rows |= {row.run_id: row for row in found if row.status != "paused"}
        if trial.until and going.runs:
            task_plan.wait(going)
        task_plan.record(found)

    def run(self, task_plan: MethodTaskPlan, stop_after: int | None = None) -> None:
        """Train everything, the later of `slots` trials first; or so many trials."""
        running: list[PlannedTrial] = []
        done = 0
        while not task_plan.exhausted or running:
            while len(running) < self.slots and (trial := task_plan.next_trial()) is not None:
                running.append(trial)
            assert running, "the task_plan waits for nothing"
            if stop_after is not None and done >= stop_after:
                return
            self.train(task_plan, running.pop())
            done += 1

    def statuses(self) -> dict[str, tuple[str, int]]:
        return {run: (row.status, row.steps) for run, row in self.rows.items()}


def make_task_plan(example: SweepSpec, cluster: Cluster | None = None) -> MethodTaskPlan:
    rows = cluster.rows if cluster else {}
    return MethodTaskPlan(example, "lspc", TASK, "data", rows)


def best_safe(example: SweepSpec, runs: Iterable[list[PlannedRun]], curve: Curve) -> str:
    """By the curves' ends, the configuration that is best among the safe ones."""

    def final(group: list[PlannedRun]) -> tuple[float, float]:
        ends = [curve(run, STEPS) for run in group]
        return tuple(sum(values) / len(ends) for values in zip(*ends, strict=True))  # type: ignore

    safe = [group for group in runs if final(group)[1] <= 1.0]
    return max(safe, key=lambda group: final(group)[0])[0].config_id


@pytest.mark.parametrize("configs_per_trial", [1, 2, 4, 9])
@pytest.mark.parametrize("slots", [1, 3])
def test_the_best_safe_configuration_is_kept_for_less_than_two_fifths(
    configs_per_trial: int, slots: int
) -> None:
    example = spec(configs_per_trial=configs_per_trial)
    task_plan, cluster = make_task_plan(example), Cluster(slots=slots)
    cluster.run(task_plan)
    full = 9 * 2 * STEPS
    assert cluster.steps == pytest.approx(expected_share(example, 9) * full)
    assert cluster.steps <= 0.4 * full
    by_config = {runs[0].config_id: {cluster.rows[run.run_id].status for run in runs}
                 for runs in task_plan.suggested}  # fmt: skip
    (survivor,) = [name for name, found in by_config.items() if found == {"completed"}]
    assert survivor == best_safe(example, task_plan.suggested, rising)
    assert sum(found == {"stopped"} for found in by_config.values()) == 8
    assert sorted(row.steps for row in cluster.rows.values()) == [100] * 12 + [300] * 4 + [900] * 2
    best = task_plan.best_safe()
    assert best is not None and best[0] == survivor


@given(
    stop_after=st.integers(0, 14),
    configs_per_trial=st.sampled_from([1, 2, 4]),
    slots=st.integers(1, 3),
)
def test_a_killed_sweep_decides_the_same(
    stop_after: int, configs_per_trial: int, slots: int
) -> None:
    example = spec(configs_per_trial=configs_per_trial)
    undisturbed = Cluster()
    undisturbed.run(make_task_plan(example))
    disturbed = Cluster(slots=slots)
    disturbed.run(make_task_plan(example), stop_after)
    disturbed.run(make_task_plan(example, disturbed))
    assert disturbed.statuses() == undisturbed.statuses()
    assert disturbed.steps == undisturbed.steps


def test_what_is_done_is_not_done_again() -> None:
    cluster = Cluster()
    cluster.run(make_task_plan(spec()))
    again = make_task_plan(spec(), cluster)
    assert again.exhausted and again.next_trial() is None
    assert set(again.skipped) == set(again.run_ids) == set(cluster.rows)


def test_without_early_stopping_the_stopped_runs_are_trained_to_their_end() -> None:
    cluster = Cluster()
    cluster.run(make_task_plan(spec(configs_per_trial=4)))
    stopped = {run: row for run, row in cluster.rows.items() if row.status == "stopped"}
    task_plan = make_task_plan(spec(configs_per_trial=4, early_stopping=None), cluster)
    planned = list(iter(task_plan.next_trial, None))
    # Each in the trial that it was stopped in, which has its checkpoint.
    for trial in planned:
        assert {stopped[run.run_id].trial_id for run in trial.runs} == {trial.trial_id}
    assert {run.run_id for trial in planned for run in trial.runs} == set(stopped)
    assert len(task_plan.skipped) == 2
    for trial in planned:
        cluster.train(task_plan, trial)
    assert set(cluster.statuses().values()) == {("completed", STEPS)}
    assert cluster.steps == 9 * 2 * STEPS


def test_a_gentler_halving_continues_what_a_harsher_one_stopped() -> None:
    cluster = Cluster()
    cluster.run(make_task_plan(spec(configs_per_trial=3)))
    gentle = {"method": "halving", "reduction": 2, "min_steps": 100}
    again = make_task_plan(spec(configs_per_trial=3, early_stopping=gentle), cluster)
    cluster.run(again)
    fresh = Cluster()
    fresh.run(make_task_plan(spec(configs_per_trial=3, early_stopping=gentle)))
    assert {run: status for run, (status, _) in cluster.statuses().items()} == {
        run: status for run, (status, _) in fresh.statuses().items()
    }
    # Whoever had been further by the first sweep stays so.
    assert all(row.steps >= fresh.rows[run].steps for run, row in cluster.rows.items())


def test_a_lost_seed_stops_its_configuration() -> None:
    example = spec()
    task_plan = make_task_plan(example)
    task_plan.exhausted  # noqa: B018 - it asks for the suggestions
    best = best_safe(example, task_plan.suggested, rising)
    lost = next(runs[1].run_id for runs in task_plan.suggested if runs[0].config_id == best)
    cluster = Cluster(diverges_at={lost: 50})
    reasons: dict[str, str] = {}
    trials: list[PlannedTrial] = []
    while (trial := task_plan.next_trial()) is not None:
        trials.append(trial)
        reasons |= trial.stop
        cluster.train(task_plan, trial)
    other = lost.rsplit("-", 1)[0] + "-0"
    assert reasons[other] == "its configuration had lost a seed by step 100"
    ranked = [reason for reason in reasons.values() if reason.startswith("rank")]
    assert "rank 8 of 8 at step 100, where 3 went on" in ranked
    assert sum(row.status == "completed" for row in cluster.rows.values()) == 2


def test_a_trial_that_failed_holds_nobody_up_and_is_judged_when_it_is_tried_again() -> None:
    example = spec()
    unlucky: list[str] = []

    def fails(trial: PlannedTrial) -> bool:
        if not unlucky:
            unlucky.append(trial.runs[0].config_id)
        return trial.runs[0].config_id in unlucky

    cluster = Cluster(fails=fails)
    cluster.run(make_task_plan(example))
    assert len(cluster.rows) == 16
    cluster.fails = lambda trial: False
    cluster.run(make_task_plan(example, cluster))
    fresh = Cluster()
    fresh.run(make_task_plan(example))
    assert {run: row.status for run, row in cluster.rows.items()} == {
        run: row.status for run, row in fresh.rows.items()
    }


def test_runs_that_were_trained_to_the_end_before_are_not_stopped() -> None:
    whole = Cluster()
    whole.run(make_task_plan(spec(early_stopping=None)))
    task_plan = make_task_plan(spec(), whole)
    assert task_plan.exhausted
    assert {task_plan.outcomes[run].status for run in task_plan.run_ids} == {"completed"}


def tpe(num_configs: int = 11) -> SweepSpec:
    return spec(
        search={"method": "tpe", "num_configs": num_configs, "parallel": 4},
        space={"expectile": {"low": 0.5, "high": 0.95}},
        configs_per_trial=3,
    )


def test_an_adaptive_search_halves_brackets_of_suggestions_in_a_row() -> None:
    task_plan, cluster = make_task_plan(tpe()), Cluster()
    cluster.run(task_plan)
    assert [bracket.size for bracket in task_plan.brackets] == [4, 4, 3]
    for start, size in ((0, 4), (4, 4), (8, 3)):
        groups = task_plan.suggested[start : start + size]
        found = [cluster.rows[runs[0].run_id].status for runs in groups]
        assert sorted(found) == ["completed"] + ["stopped"] * (size - 1)
    assert cluster.steps == pytest.approx(expected_share(tpe(), 11) * 11 * 2 * STEPS)
    # The search is told that they were pruned, and at which step.
    trials = task_plan.search.study.trials  # type: ignore[attr-defined]
    pruned = [trial for trial in trials if trial.state.name == "PRUNED"]
    assert pruned and all(set(trial.intermediate_values) == {100} for trial in pruned)


@pytest.mark.parametrize("stop_after", [1, 3, 5, 8])
def test_a_killed_adaptive_search_suggests_and_stops_the_same(stop_after: int) -> None:
    undisturbed, task_plan = Cluster(), make_task_plan(tpe())
    undisturbed.run(task_plan)
    disturbed = Cluster()
    disturbed.run(make_task_plan(tpe()), stop_after)
    resumed = make_task_plan(tpe(), disturbed)
    disturbed.run(resumed)
    assert resumed.run_ids == task_plan.run_ids
    assert disturbed.statuses() == undisturbed.statuses()


def test_one_configuration_alone_is_never_stopped() -> None:
    for example in (
        spec(space={"expectile": [0.6]}),
        tpe(1).model_copy(update={"population": 1}),
    ):
        cluster = Cluster()
        cluster.run(make_task_plan(example))
        assert set(cluster.statuses().values()) == {("completed", STEPS)}
