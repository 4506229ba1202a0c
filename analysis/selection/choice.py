"""Choosing the best safe configuration from noisy evaluations.

`choose` does it for a store and `select` for any frame of evaluations, by one of the rules of
`analysis.selection.rules`. Two things hold under every rule:

- a candidate that counts as safe is preferred to one that does not, and among the latter one
  whose mean normalised cost is within the limit to one whose mean is not. "Safe" always includes
  that the mean normalised cost is at most 1, the constraint of all five papers (or that the sweep
  has instead);
- whatever remains tied goes to the lowest `config_id` (as text). Numbers that agree in their
  first 12 significant digits are tied.

Every choice says what it cost in rollouts (`online_episodes`, `budget`): what was chosen by
evaluations in the simulator was not chosen offline.

Choosing the best of many on the evaluations that it is then reported on is optimistic under
every rule: the more candidates, the more so.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.intervals import FEW_SEEDS
from safesweep.analysis.selection.candidates import (
    GROUP_COLUMNS,
    STEPS,
    budget,
    find_candidates,
    prepare,
    rows_to_judge,
    with_lost_runs,
    with_rows_of_lost,
)
from safesweep.analysis.selection.goal import Goal, goal_of_sweeps
from safesweep.analysis.selection.rules import (
    UNSAFE_SHARE,
    Criterion,
    RuleOptions,
    RuleVerdict,
    find_rule,
    judge,
)
from safesweep.analysis.store.reader import ResultStore, varying_values
from safesweep.search_spaces.validation import (
    InvalidInput,
    is_missing,
    require_choice,
    require_number,
)
from safesweep.trainables.store.codes import several_codes
from safesweep.trainables.store.planned import BudgetChoice, chosen_by_budgets, planned_path
from safesweep.trainables.store.reader import as_list
from safesweep.trainables.store.scores import (
    at_cost_limit,
    limits_by_task,
    rounded,
    within_limit,
)
from safesweep.trainables.tasks.registry import get_task

FloatArray = npt.NDArray[np.float64]


def select(
    evaluations: pandas.DataFrame,
    rule: str = "max_reward_safe",
    cost_limit: float | Mapping[str, float] | None = None,
    step: str | int = "last",
    confidence: float = 0.95,
    *,
    reward_margin: float = 0.05,
    violation_share: float = 0.05,
    unsafe_share: float | None = None,
    worst_cost: float | None = None,
    cost_limits: Sequence[float] | None = None,
    episodes: pandas.DataFrame | None = None,
    min_seeds: int = 1,
    runs: pandas.DataFrame | None = None,
    goal: Goal | None = None,
    budget_choices: Mapping[str, BudgetChoice] | None = None,
) -> pandas.DataFrame:
    """Apply a selection rule to every (algorithm, task) of a frame of evaluations.

    Where the frame has a column `policy`, policies are different things to deploy: each
    (algorithm, task, policy) is a group of its own. The input is not changed.

    What happens to data that are not as one would wish:

    - duplicated rows count once; rows that disagree about one (configuration, seed, step) are
      averaged first, so that each seed weighs the same;
    - a seed is *lost* when its run diverged or failed (`run_status` or `status` of its rows, or of
      `runs`), or when its configuration has rows of it, but none with a finite reward and cost at
      the step that is judged. A configuration that lost a seed is left out, and the reason says
      how many were;
    - a configuration with a run that was stopped early (same columns) is left out, and counted in
      the reason: its last evaluation is not a final one. At a step that is asked for by its number
      it is judged like any other;
    - configurations with unequal numbers of seeds are compared by the means over the seeds that
      they have; the reason says so, and `min_seeds` leaves out those with fewer;
    - no candidate: one row without a `config_id`; an empty frame: no rows.

    Args:
        evaluations: columns `algorithm, task, config_id, seed, normalized_reward,
            normalized_cost`, in any order and from anywhere; optionally `policy`, `step`, `run_id`,
            `run_status` or `status`, `cost_return_mean`, `cost_limit`, `violation_rate`,
            `episodes`.
        rule: a name in `RULES`.
        cost_limit: judge by this limit on the episode cost instead of the one that the column
            `normalized_cost` was made with: C / limit, and (C + 1) / (limit + 1) for a limit of 0.
            Needs `cost_return_mean`, or `episodes`. One for all, or by task; then rows
            of other tasks, and of policies that act to a limit of their own (`name@20`), stay as
            they are.
        step: "last": the last evaluation of each configuration. A number: that step. "best": for
            each configuration the step that is best under the rule, which is online checkpoint
            selection and is said in the reason; equal steps go to the later one.
        confidence: level of the bounds of `confident_safe` and `zero_violation`.
        reward_margin: of `safest_within`.
        violation_share: of `zero_violation`.
        unsafe_share: of `confident_safe`: the tolerable share of seeds above the limit (0.25).
        worst_cost: of `confident_safe`, in its place: the largest normalised cost of a seed.
        cost_limits: of `multi_limit`.
        episodes: single episodes, `run_id, step, cost_return` and optionally `policy`, which
            `evaluations` must then be able to match: `run_id` and `step`.
        min_seeds: leave out configurations with fewer seeds.
        runs: of a `ResultStore`. A run that diverged before it was evaluated is in no row of
            `evaluations`; without `runs` its configuration is judged by its other seeds.
        goal: what to maximise under which constraints, in place of the normalised reward with a
            normalised cost of at most 1.
        budget_choices: of `budget`: what budgets chose, by `config_id`.

    Returns:
        One row per (algorithm, task), in that order: `config_id`, `step` (if there are steps),
        `safe`, `normalized_reward` and `normalized_cost` (means over `seeds` seeds), `candidates`,
        `safe_candidates`, `runner_up` (a `config_id`), `margin` (by how much the chosen one beats
        it in what decided between the two), `bound` (of rules with a confidence), `few_seeds`
        (fewer than five: little to call anything safe by), `online_episodes` (of all evaluations
        at the steps that were eligible, whether their candidates could be judged or not; missing
        where `episodes` is), `budget` (how they come together, in words), `reason`; for `pareto`
        also `front`.

    Raises:
        InvalidInput: a missing column, an unknown rule, a bad limit, step or level; or a rule from
            outside that raises or returns no verdict; one line.
    """
    find_rule(rule)
    share, worst = _confident_options(rule, unsafe_share, worst_cost)
    settings = RuleOptions(
        confidence=float(require_number("confidence", confidence, 0.5, 0.999999)),
        reward_margin=float(require_number("reward_margin", reward_margin, 0)),
        violation_share=float(require_number("violation_share", violation_share, 0, 1)),
        unsafe_share=share,
        worst_cost=worst,
        cost_limits=_checked_limits(cost_limits),
        budget_choices=budget_choices or {},
    )
    require_number("min_seeds", min_seeds, 1, integer=True)
    if cost_limit is not None:
        for limit in cost_limit.values() if isinstance(cost_limit, Mapping) else (cost_limit,):
            require_number("cost_limit", limit, 0)
    if runs is not None:
        evaluations = with_lost_runs(evaluations, runs)
    goal = goal or Goal()
    frame = prepare(evaluations, goal, cost_limit, step, episodes)
    groups = [name for name in GROUP_COLUMNS if name in frame]
    rows = []
    for key, group in frame.groupby(groups, sort=True, dropna=False):
        named = dict(zip(groups, key, strict=True))
        at_hand = replace(settings, task=str(named["task"]))
        candidates, notes = find_candidates(group, goal, step, min_seeds)
        if step == "best" and len(candidates):
            candidates = _best_steps(candidates, rule, at_hand)
            notes.append("the step is an online checkpoint selection")
        if candidates["seeds"].nunique() > 1:
            low, high = candidates["seeds"].min(), candidates["seeds"].max()
            notes.append(f"unequal seeds: {low} to {high}")
        row = _row(candidates, rule, at_hand, notes)
        rows.append({**named, **row, **budget(group, step)})
    columns = [*groups, *_RESULT_COLUMNS]
    if "step" not in frame:
        columns.remove("step")
    if rule == "pareto":
        columns.append("front")
    result = pandas.DataFrame(rows).reindex(columns=columns)
    return result.astype({name: kind for name, kind in _RESULT_COLUMNS.items() if name in columns})


_RESULT_COLUMNS: dict[str, Any] = {
    "config_id": "object",
    "step": "Int64",
    "safe": "bool",
    "normalized_reward": "float64",
    "normalized_cost": "float64",
    "seeds": "int64",
    "candidates": "int64",
    "safe_candidates": "int64",
    "runner_up": "object",
    "margin": "float64",
    "bound": "float64",
    "few_seeds": "bool",
    "online_episodes": "Int64",
    "budget": "object",
    "reason": "object",
}


@dataclass(frozen=True)
class Choice:
    """What a rule chose of a store.

    Attributes:
        evaluations: what it judged, with costs at the limit that it judged by.
        chosen: a row per algorithm, task and policy, with the hyperparameters that vary within the
            algorithm.
        goal: what it went after.
        incomplete: runs that were left out since rows of theirs are missing: `sweep`, `lacks`.
        judged: what `select` was given, rows for lost runs among it.
        options: what `select` was told.
        codes: one line where runs that were compared are of several codes, else None.
    """

    evaluations: pandas.DataFrame
    chosen: pandas.DataFrame
    goal: Goal
    incomplete: pandas.DataFrame
    judged: pandas.DataFrame
    options: Mapping[str, Any]
    codes: str | None = None

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return str(self.options["rule"])

    def _repr_html_(self) -> str:
        shown: str = self.chosen.dropna(axis="columns", how="all").to_html(
            index=False, float_format="{:.3g}".format
        )
        return f"<p>The choice {html.escape(str(self.goal))}, by {self.rule}.</p>{shown}"

    def in_order(self, first: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The row of one choice, then what the rule chooses without it, and so on."""
        same = (self.judged["algorithm"] == first["algorithm"]) & (
            self.judged["task"] == first["task"]
        )
        if "policy" in self.judged:
            same &= self.judged["policy"] == first["policy"]
        left, row = self.judged[same], dict(first)
        while not is_missing(row["config_id"]):
            yield row
            left = left[left["config_id"] != row["config_id"]]
            if left.empty:
                return
            row = {str(k): v for k, v in select(left, **self.options).iloc[0].to_dict().items()}


def choose(
    store: ResultStore,
    *,
    sweep: str | Sequence[str] | None = None,
    algorithm: str | None = None,
    task: str | None = None,
    rule: str | None = None,
    step: str | int = "last",
    cost_limit: float | None = None,
    confidence: float = 0.95,
    unsafe_share: float | None = None,
    worst_cost: float | None = None,
    min_seeds: int = 1,
    maximize: str | None = None,
    subject_to: Mapping[str, float] | None = None,
) -> Choice:
    """Apply a rule to what a store holds; what the command line chooses.

    Of a `sweep` its own objective, constraints and cost limit count, where none are given here. Of
    several sweeps they have to be the same.

    Args:
        sweep: only the runs of this sweep, or of these.
        algorithm: only this method.
        task: only this task.
        rule: a name in `RULES`; by default `budget` where `sweep` has one that has ended and
            nothing else is asked for than it went after, else `max_reward_safe`.
        maximize: the score to maximise.
        subject_to: limits by score; empty for no constraint.

    The other arguments are those of `select`.

    Raises:
        InvalidInput: an unknown rule, sweep, algorithm or task, an option out of range, or sweeps
            that go after different things.
    """
    if isinstance(step, str):
        require_choice("step", step, STEPS)
    sweeps = list(dict.fromkeys(as_list(sweep))) if sweep else []
    asked = (maximize, subject_to, cost_limit) != (None, None, None) or step != "last"
    budget_choices = {}
    if rule == "budget" or (rule is None and not asked):
        budget_choices = {
            one.config_id: one
            for name in sweeps
            for one in chosen_by_budgets(store.file(planned_path(name)))
        }
    if rule is None:
        rule = "budget" if budget_choices else "max_reward_safe"
    find_rule(rule)
    filters = {"sweep": sweeps or None, "algorithm": algorithm, "task": _task_name(task)}
    rows = rows_to_judge(store, step, **filters)
    for name in ("algorithm", "task"):
        wanted = filters[name]
        if wanted is not None and not rows.any_runs:
            present = sorted(store.run_states()[name].unique())
            if present:
                require_choice(name, wanted, present)
    given = {"maximize": maximize, "subject_to": subject_to, "cost_limit": cost_limit}
    told = [name for name, value in given.items() if value is not None]
    own = goal_of_sweeps(store, sweeps, told)
    goal = Goal() if own is None else own.goal
    goal = Goal(
        goal.maximize if maximize is None else maximize,
        goal.subject_to if subject_to is None else subject_to,
    )
    limit: float | dict[str, float] | None = cost_limit
    if cost_limit is None and own is not None:
        limit = limits_by_task(list(rows.evaluations["task"].unique()), own.cost_limit) or None
    episodes = None
    violations_matter = rule == "zero_violation" or "violation_rate" in goal.subject_to
    if limit is not None and violations_matter:
        episodes = store.episodes(run_id=rows.evaluations["run_id"].unique())
    judged = with_rows_of_lost(rows)
    options: dict[str, Any] = {
        "rule": rule,
        "cost_limit": limit,
        "step": step,
        "confidence": confidence,
        "unsafe_share": unsafe_share,
        "worst_cost": worst_cost,
        "episodes": episodes,
        "min_seeds": min_seeds,
        "goal": goal,
        "budget_choices": budget_choices,
    }
    chosen = select(judged, **options)
    configurations = store.configurations(**filters)
    varying = varying_values(configurations).set_axis(configurations["config_id"])
    chosen = chosen.join(varying, on="config_id")
    chosen.insert(list(chosen.columns).index("config_id") + 1, "step_choice", str(step))
    evaluations = rows.evaluations
    if limit is not None:
        evaluations = at_cost_limit(evaluations, limit, keep_own=True)
    return Choice(
        evaluations, chosen, goal, rows.incomplete, judged, options, several_codes(rows.codes)
    )


def _task_name(task: str | None) -> str | None:
    """The canonical id of a task that we know by id or short name; any other text as it is."""
    if task is None:
        return None
    try:
        return get_task(task).name
    except InvalidInput:
        return task


def _confident_options(
    rule: str, unsafe_share: float | None, worst_cost: float | None
) -> tuple[float, float | None]:
    """What `confident_safe` alone may be told; another rule would ignore it."""
    for name, value in (("unsafe_share", unsafe_share), ("worst_cost", worst_cost)):
        if value is not None and rule != "confident_safe":
            raise InvalidInput(f"{name}: only confident_safe has it, not {rule}")
    if worst_cost is None:
        share = UNSAFE_SHARE if unsafe_share is None else unsafe_share
        return float(require_number("unsafe_share", share, 0.001, 0.999)), None
    if unsafe_share is not None:
        raise InvalidInput("worst_cost: takes the place of unsafe_share; give one of them")
    return UNSAFE_SHARE, float(require_number("worst_cost", worst_cost, 1, 1e9))


def _checked_limits(limits: Sequence[float] | None) -> tuple[float, ...] | None:
    if limits is None:
        return None
    if len(limits) == 0:
        raise InvalidInput("cost_limits: is empty; it must hold at least one limit")
    return tuple(float(require_number("cost_limits", limit, 0)) for limit in limits)


def _best_steps(candidates: pandas.DataFrame, rule: str, settings: RuleOptions) -> pandas.DataFrame:
    """For each configuration the row of the step that the rule prefers."""
    best = []
    for _, steps in candidates.groupby("candidate", sort=True):
        # Latest first, because whatever is tied goes to the first row.
        steps = steps.sort_values("step", ascending=False).reset_index(drop=True)
        best.append(steps.iloc[[_ranking(steps, judge(rule, steps, settings))[0]]])
    return pandas.concat(best, ignore_index=True)


def _levels(candidates: pandas.DataFrame, judgement: RuleVerdict) -> list[Criterion]:
    """Everything that decides between two candidates, most important first."""
    costs = _costs(candidates, judgement)
    kept = within_limit(costs)
    bound = judgement.bound
    # Of what has no bound yet, by how much it is better is said in the means.
    measure = costs if bound is None or not np.isfinite(bound).all() else bound
    return [
        Criterion("safety", (judgement.safe & kept).astype(np.float64), True, measure),
        Criterion("safety", kept.astype(np.float64), True, costs),
        *judgement.criteria,
    ]


def _costs(candidates: pandas.DataFrame, judgement: RuleVerdict) -> FloatArray:
    if judgement.cost is not None:
        return judgement.cost
    return candidates["normalized_cost"].to_numpy(np.float64)


def _ranking(candidates: pandas.DataFrame, judgement: RuleVerdict) -> npt.NDArray[np.int64]:
    """Positions in order of preference; ties keep the order of the rows."""
    levels = _levels(candidates, judgement)
    keys = [rounded(-level.values if level.maximize else level.values) for level in levels]
    order: npt.NDArray[np.int64] = np.lexsort((np.arange(len(candidates)), *reversed(keys)))
    return order


def _row(
    candidates: pandas.DataFrame, rule: str, settings: RuleOptions, notes: list[str]
) -> dict[str, Any]:
    if candidates.empty:
        return {
            "config_id": None,
            "safe": False,
            "normalized_reward": np.nan,
            "normalized_cost": np.nan,
            "seeds": 0,
            "candidates": 0,
            "safe_candidates": 0,
            "runner_up": None,
            "margin": np.nan,
            "bound": np.nan,
            "few_seeds": True,
            "reason": "; ".join(["no candidate", *notes]),
            "front": [],
        }
    judgement = judge(rule, candidates, settings)
    levels = _levels(candidates, judgement)
    safe = levels[0].values > 0
    order = _ranking(candidates, judgement)
    first = int(order[0])
    shown_costs = candidates["shown_cost"] if judgement.cost is None else judgement.cost
    row: dict[str, Any] = {
        "config_id": candidates["config_id"].iloc[first],
        "safe": bool(safe[first]),
        "normalized_reward": float(candidates["shown_reward"].iloc[first]),
        "normalized_cost": float(np.asarray(shown_costs)[first]),
        "seeds": int(candidates["seeds"].iloc[first]),
        "candidates": len(candidates),
        "safe_candidates": int(safe.sum()),
        "runner_up": None,
        "margin": np.nan,
        "bound": np.nan if judgement.bound is None else float(judgement.bound[first]),
        "few_seeds": int(candidates["seeds"].iloc[first]) < FEW_SEEDS,
    }
    if "step" in candidates:
        row["step"] = int(candidates["step"].iloc[first])
    if judgement.front is not None and rule == "pareto":
        row["front"] = [candidates["config_id"].iloc[position] for position in judgement.front]
    count = f"{int(safe.sum())}" if safe.any() else "none"
    sentence = f"{count} of {len(candidates)} safe"
    if len(order) > 1:
        row["runner_up"] = candidates["config_id"].iloc[int(order[1])]
        name, row["margin"] = _decided(levels, first, int(order[1]))
        if name:
            sentence += f"; beats {row['runner_up']} by {row['margin']:.3g} in {name}"
        else:
            sentence += f"; tied with {row['runner_up']}, first by name"
    remarks = [] if judgement.remark is None else [judgement.remark(first)]
    if row["safe"] and row["few_seeds"]:
        remarks.append(f"few seeds to call it safe by ({row['seeds']})")
    row["reason"] = "; ".join([sentence, *remarks, *notes])
    return row


def _decided(levels: Sequence[Criterion], first: int, second: int) -> tuple[str, float]:
    """The name of what put the first candidate before the second, and by how much."""
    for level in levels:
        one, other = rounded(level.values[[first, second]])
        if one != other:
            measure = level.values if level.measure is None else level.measure
            return level.name, abs(float(measure[first] - measure[second]))
    return "", 0.0
