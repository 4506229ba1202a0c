"""Which configurations can be chosen, and what they are judged by.

A candidate has an evaluation of every seed at the step that is judged. A configuration that lost a
seed (the run diverged or failed, or has no finite score there) is none, and neither is one with a
run that was stopped early, whose last evaluation is not a final one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.selection.goal import Goal
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput, require_choice, require_number
from safesweep.trainables.store.scores import (
    acts_to_own_limit,
    at_cost_limit,
    last_evaluations,
    total_excess,
    within_limit,
)
from safesweep.trainables.tasks.task import Task

FloatArray = npt.NDArray[np.float64]

GROUP_COLUMNS = ("algorithm", "task", "policy")
IDENTITY_COLUMNS = ("algorithm", "task", "config_id", "seed")
STATUS_COLUMNS = ("run_status", "status")
LOST_STATUSES = ("diverged", "failed", "incomplete")
STEPS = ("last", "best")

_LIMIT_PREFIX = "of its limit: "
_RUN_COLUMNS = ("run_id", "config_id", "algorithm", "task", "seed")


@dataclass(frozen=True)
class JudgedRows:
    """What of a store is judged.

    Attributes:
        evaluations: of runs that ended as planned, or were stopped.
        lost: a row for each run that diverged, failed or lacks rows.
        incomplete: of these the last, with `sweep` and `lacks` (what is missing, in words).
        any_runs: whether there are runs of what was asked for at all.
        codes: the code of each run that is judged, by method and task.
    """

    evaluations: pandas.DataFrame
    lost: pandas.DataFrame
    incomplete: pandas.DataFrame
    any_runs: bool
    codes: Mapping[str, list[str | None]]


def rows_to_judge(store: ResultStore, step: str | int = "last", **filters: object) -> JudgedRows:
    """What a store holds of `sweep`, `algorithm` and `task`, to choose from.

    Runs that were trained to confirm a choice are no candidates, unless their sweep is asked for.

    Raises:
        InvalidInput: an unknown sweep.
    """
    evaluations = store.to_judge(step, **filters)
    states = store.run_states(**filters)
    lost = states[states["status"].isin(LOST_STATUSES)]
    orphans = store.left_behind(**filters)
    orphans = orphans.assign(sweep="select", lacks="rows of runs are missing")
    incomplete = pandas.concat([states[states["lacks"].notna()], orphans])
    incomplete = incomplete[[*_RUN_COLUMNS, "sweep", "lacks"]]
    lost = pandas.concat([lost[list(_RUN_COLUMNS)], orphans[list(_RUN_COLUMNS)]])
    if filters.get("sweep") is None:
        fresh = store.confirmations(columns=["run_id"], kind="retrained")["run_id"].unique()
        evaluations = evaluations[~evaluations["run_id"].isin(fresh)]
        lost = lost[~lost["run_id"].isin(fresh)]
    evaluations = evaluations[~evaluations["run_id"].isin(lost["run_id"])]
    judged = states[states["run_id"].isin(evaluations["run_id"])]
    codes = {
        f"{algorithm} on {name}": rows["code"].tolist()
        for (algorithm, name), rows in judged.groupby(["algorithm", "task"])
    }
    return JudgedRows(evaluations, lost, incomplete, bool(len(states) or len(evaluations)), codes)


def with_lost_runs(evaluations: pandas.DataFrame, runs: pandas.DataFrame) -> pandas.DataFrame:
    """`evaluations` with one row without scores for each run that diverged or failed.

    A run that diverged may have no evaluation at all; without such a row its configuration would
    be judged by the seeds that went well. Both frames have the columns of a `ResultStore`.
    """
    lost = runs[runs["status"].isin(LOST_STATUSES)]
    return _with_rows_of(evaluations, lost)


def with_rows_of_lost(rows: JudgedRows) -> pandas.DataFrame:
    """The evaluations, with one row without scores for each run that was lost."""
    return _with_rows_of(rows.evaluations, rows.lost)


def _with_rows_of(evaluations: pandas.DataFrame, lost: pandas.DataFrame) -> pandas.DataFrame:
    if lost.empty:
        return evaluations
    rows = lost[list(_RUN_COLUMNS)].copy()
    if "policy" in evaluations:
        policies = evaluations[["algorithm", "task", "policy"]].drop_duplicates()
        rows = rows.merge(policies, on=["algorithm", "task"], how="left")
    # A frozen run's evaluations are of a policy that is no longer trained: they do not count.
    kept = evaluations[~evaluations["run_id"].isin(rows["run_id"])]
    return pandas.concat([kept, rows], ignore_index=True)


def without_stopped_runs(evaluations: pandas.DataFrame) -> pandas.DataFrame:
    """The evaluations of runs that were not stopped early.

    The last evaluation of a stopped run is not a final one. The column `run_status` (or `status`)
    says so; a frame without it is taken to hold no such run.
    """
    return evaluations[~_has_status(evaluations, ("stopped",))]


def _has_status(frame: pandas.DataFrame, statuses: Sequence[str]) -> "pandas.Series[bool]":
    found = pandas.Series(False, index=frame.index)
    for name in STATUS_COLUMNS:
        if name in frame:
            found |= frame[name].isin(statuses)
    return found


def prepare(
    evaluations: pandas.DataFrame,
    goal: Goal,
    cost_limit: float | Mapping[str, float] | None,
    step: str | int,
    episodes: pandas.DataFrame | None,
) -> pandas.DataFrame:
    """The columns that judging needs, checked, with costs at the limit asked for.

    Raises:
        InvalidInput: a missing column, an identity that is missing, text for a number, or a step
            at which there is no evaluation.
    """
    frame = evaluations
    if cost_limit is not None and episodes is not None:
        frame = _with_episode_costs(frame, episodes, cost_limit)
    if isinstance(step, str):
        require_choice("step", step, STEPS)
    else:
        require_number("step", step, 0, integer=True)
    cost = "normalized_cost" if cost_limit is None else "cost_return_mean"
    steps_matter = [] if step == "last" else ["step"]
    wanted = [goal.maximize, *(name for name in goal.subject_to if name != "normalized_cost")]
    needed = [*IDENTITY_COLUMNS, "normalized_reward", cost, *wanted, *steps_matter]
    _require_columns("evaluations", frame, list(dict.fromkeys(needed)))
    for name in IDENTITY_COLUMNS:
        if frame[name].isna().any():
            raise InvalidInput(f"{name}: a row has none; every row must say its {name}")
    columns = (*GROUP_COLUMNS, "config_id", "seed", "step")
    kept = [name for name in columns if name in frame]
    result = frame[kept].copy()
    result["stopped"] = _has_status(frame, ("stopped",))
    # Numbered in the order of their names as text, the order that breaks ties.
    names, distinct = pandas.factorize(frame["config_id"])
    ranks = np.argsort(np.argsort([str(name) for name in distinct], kind="stable"))
    result["candidate"] = ranks[names] if len(names) else names
    optional = ("cost_return_mean", "violation_rate", "episodes", "normalized_cost", "cost_limit")
    for name in dict.fromkeys(("normalized_reward", cost, *wanted, *optional)):
        if name in frame:
            try:
                result[name] = pandas.to_numeric(frame[name]).astype(np.float64)
            except (ValueError, TypeError) as error:
                raise InvalidInput(f"{name}: holds values that are not numbers") from error
    if cost_limit is not None:
        before = result.get("cost_limit", np.nan)
        result = at_cost_limit(result, cost_limit, keep_own=True)
        moved = result["cost_limit"].notna() & (result["cost_limit"] != before)
        if "violation_rate" in result and episodes is None and moved.any():
            if "violation_rate" in goal.subject_to:
                raise InvalidInput("violation_rate: at another limit it needs the single episodes")
            result = result.drop(columns="violation_rate")
    # What a lost run was evaluated at is of a policy that is no longer trained.
    lost = _has_status(frame, LOST_STATUSES)
    scores = [name for name in (*goal.subject_to, goal.maximize, "normalized_reward",
                                "normalized_cost") if name in result]  # fmt: skip
    if lost.any():
        result.loc[lost.to_numpy(), list(dict.fromkeys(scores))] = np.nan
    result["objective"] = result[goal.maximize]
    for name, limit in goal.subject_to.items():
        result[_LIMIT_PREFIX + name] = Task.normalize_cost(result[name], limit)
    if not isinstance(step, str) and len(result) and not (result["step"] == step).any():
        steps = ", ".join(f"{number:g}" for number in np.unique(result["step"].dropna()))
        raise InvalidInput(f"step: nothing was evaluated at {step}; there are {steps}")
    return result.reset_index(drop=True)


def _with_episode_costs(
    evaluations: pandas.DataFrame,
    episodes: pandas.DataFrame,
    cost_limit: float | Mapping[str, float],
) -> pandas.DataFrame:
    """Mean cost and share of violations at `cost_limit`, from the single episodes."""
    keys = ["run_id", "step"]
    if "policy" in evaluations and "policy" in episodes:
        keys.append("policy")
    _require_columns("evaluations", evaluations, keys)
    _require_columns("episodes", episodes, [*keys, "cost_return"])
    limit: float | pandas.Series
    if isinstance(cost_limit, Mapping):
        tasks = evaluations.drop_duplicates("run_id").set_index("run_id")["task"]
        limit = episodes["run_id"].map(tasks).map(cost_limit).astype(np.float64)
        if "policy" in episodes:
            limit = limit.mask(acts_to_own_limit(episodes["policy"]))
        episodes, limit = episodes[limit.notna()], limit[limit.notna()]
    else:
        limit = cost_limit
    violating = episodes["cost_return"] > limit
    means = (
        episodes.assign(violation_rate=violating.astype(np.float64))
        .groupby(keys, dropna=False)
        .agg(
            cost_return_mean=("cost_return", "mean"),
            violation_rate=("violation_rate", "mean"),
            episodes=("cost_return", "size"),
        )
        .reset_index()
    )
    replaced = [name for name in means.columns if name not in keys]
    kept = evaluations.drop(columns=replaced, errors="ignore")
    merged = kept.merge(means, on=keys, how="left")
    if isinstance(cost_limit, Mapping):
        # Of tasks without a limit in the mapping the rows say it themselves.
        for name in replaced:
            if name in evaluations:
                merged[name] = merged[name].fillna(evaluations[name].reset_index(drop=True))
    return merged


def _require_columns(name: str, frame: pandas.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InvalidInput(f"{name}: missing column {', '.join(missing)}")


def find_candidates(
    group: pandas.DataFrame, goal: Goal, step: str | int, min_seeds: int
) -> tuple[pandas.DataFrame, list[str]]:
    """One row a configuration that can be judged (and step, for `best`), as rules see them, and
    remarks about the others.

    Args:
        group: of `prepare`, of one algorithm, task and policy.
    """
    notes = [] if goal.usual else [str(goal)]
    if isinstance(step, str):
        stopped = group.loc[group["stopped"], "candidate"].unique()
        if len(stopped):
            notes.append(f"{len(stopped)} left out: stopped early")
            group = group[~group["candidate"].isin(stopped)]
    configurations = group["candidate"].nunique()
    expected = group.groupby("candidate")["seed"].nunique()
    limited = [_LIMIT_PREFIX + name for name in goal.subject_to]
    judged = group[np.isfinite(group[["objective", *limited]]).all(axis=1)]
    unit = ["candidate"]
    if "step" in group:
        unit = ["candidate", "step"]
        if step == "last":
            # Of the whole group: a seed that has no score at the last step is lost.
            judged = judged.loc[judged.index.intersection(_last_steps(group))]
        else:
            judged = judged[judged["step"].notna() if step == "best" else judged["step"] == step]
    units = _averaged(judged, goal, unit)
    complete = units["seeds"].to_numpy() == expected.reindex(units["candidate"]).to_numpy()
    whole = units[complete]
    enough = whole[whole["seeds"] >= min_seeds]
    lost = configurations - whole["candidate"].nunique()
    few = whole["candidate"].nunique() - enough["candidate"].nunique()
    if lost:
        notes.append(f"{lost} left out: lost a seed (no finite score at the step)")
    if few:
        notes.append(f"{few} left out: fewer than {min_seeds} seeds")
    return enough.reset_index(drop=True), notes


def _last_steps(group: pandas.DataFrame) -> "pandas.Index[int]":
    """Of the rows with a step, those at their configuration's last one."""
    last = last_evaluations(group, ("candidate",))
    return last.index[last["step"].notna()]


def budget(group: pandas.DataFrame, step: str | int) -> dict[str, Any]:
    """What was evaluated in the simulator for a choice: `online_episodes`, and `budget` in words.

    Every evaluation at an eligible step counts, also of candidates that were left out.
    """
    looked_at = group[group["normalized_reward"].notna() | group["normalized_cost"].notna()]
    keys = ["candidate", "seed"]
    if "step" in group:
        keys.append("step")
        if step == "last":
            looked_at = last_evaluations(looked_at, ("candidate", "seed"))
        elif step != "best":
            looked_at = looked_at[looked_at["step"] == step]
    looked_at = looked_at.drop_duplicates(keys)
    configurations = looked_at["candidate"].nunique()
    if "episodes" not in looked_at or looked_at["episodes"].isna().any() or looked_at.empty:
        words = f"{configurations} configurations, {len(looked_at)} evaluations"
        return {"online_episodes": pandas.NA, "budget": f"{words} online, episodes not known"}
    episodes = looked_at["episodes"].astype(np.int64)
    total = int(episodes.sum())
    factors = [(configurations, "configurations"), (looked_at["seed"].nunique(), "seeds")]
    if step == "best" and "step" in group:
        factors.append((looked_at["step"].nunique(), "steps"))
    least, most = int(episodes.min()), int(episodes.max())
    factors.append((most, "episodes"))
    if least == most and int(np.prod([number for number, _ in factors])) == total:
        words = " x ".join(f"{number:,} {name if number != 1 else name[:-1]}"
                           for number, name in factors)  # fmt: skip
    else:
        each = f"{least:,} episodes" if least == most else f"{least:,} to {most:,} episodes"
        words = f"{configurations:,} configurations, {len(looked_at):,} evaluations of {each}"
    return {"online_episodes": total, "budget": f"{words} = {total:,} online episodes"}


def _averaged(judged: pandas.DataFrame, goal: Goal, unit: list[str]) -> pandas.DataFrame:
    """Means over seeds for each unit, sorted by it; each seed counts once.

    `normalized_reward` and `normalized_cost` are what the rules go by, `shown_reward` and
    `shown_cost` the scores of that name.
    """
    limited = [_LIMIT_PREFIX + name for name in goal.subject_to]
    scores = list(dict.fromkeys(
        ["objective", *limited, "normalized_reward", "normalized_cost", *goal.subject_to]
    ))  # fmt: skip
    scores = [name for name in scores if name in judged]
    has_violations = {"violation_rate", "episodes"} <= set(judged.columns)
    extra = ["cost_return_mean"] if "cost_return_mean" in judged else []
    apart = (*GROUP_COLUMNS, "stopped")
    judged = judged.drop(columns=[name for name in apart if name in judged])
    if has_violations:
        violations = (judged["violation_rate"] * judged["episodes"]).round()
        # Episodes of which it is not known whether they violate are no evidence.
        judged = judged.assign(
            violations=violations.fillna(0.0),
            episodes=judged["episodes"].where(violations.notna(), 0.0),
        )
        extra += ["violations", "episodes"]
    # Sorted, so that sums do not depend on the order in which rows arrive.
    keys, values = [*unit, "seed"], list(dict.fromkeys([*scores, *extra]))
    per_seed = judged[[*keys, "config_id", *values]]
    if per_seed.duplicated(keys).any():
        per_seed = per_seed.drop_duplicates().sort_values([*keys, *values], kind="stable")
        per_seed = per_seed.groupby(keys, sort=True, as_index=False).agg(
            {"config_id": "first", **dict.fromkeys(values, "mean")}
        )
    else:
        per_seed = per_seed.sort_values(keys, kind="stable")
    # Plain array sums from here: a store may hold ten thousands of configurations.
    identities = per_seed[unit].to_numpy()
    changes = (identities[1:] != identities[:-1]).any(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], changes])[: len(per_seed)])
    seeds = np.diff(np.append(starts, len(per_seed)))

    def totals(column: FloatArray) -> FloatArray:
        return np.add.reduceat(column, starts) if len(starts) else column

    def mean_of(name: str) -> FloatArray:
        column = per_seed[name].to_numpy(np.float64)
        known = np.isfinite(column)
        with np.errstate(invalid="ignore"):
            return totals(np.where(known, column, 0.0)) / totals(known.astype(np.float64))

    units = per_seed.iloc[starts][[*unit, "config_id"]].reset_index(drop=True)
    means = {name: mean_of(name) for name in scores}
    units["shown_reward"] = means["normalized_reward"]
    units["shown_cost"] = means.get("normalized_cost", np.full(len(units), np.nan))
    units["normalized_reward"] = means["objective"]
    units["normalized_cost"] = _constraint(means, goal, len(units))
    units["seeds"] = seeds
    costs = per_seed[limited].max(axis=1).to_numpy() if limited else np.zeros(len(per_seed))
    column = np.empty(len(starts), dtype=object)
    column[:] = [np.sort(piece) for piece in np.split(costs, starts[1:])] if len(starts) else []
    units["seed_costs"] = column
    if "cost_return_mean" in extra:
        units["cost_return_mean"] = mean_of("cost_return_mean")
    if has_violations:
        for name in ("violations", "episodes"):
            units[name] = totals(np.nan_to_num(per_seed[name].to_numpy(np.float64)))
    return units


def _constraint(means: Mapping[str, FloatArray], goal: Goal, count: int) -> FloatArray:
    """What must be at most 1: the mean over its limit; of several constraints the largest, or
    beyond 1 by the sum of what they are exceeded by."""
    if not goal.subject_to:
        return np.zeros(count)
    largest = np.max([means[_LIMIT_PREFIX + name] for name in goal.subject_to], axis=0)
    if len(goal.subject_to) == 1:
        return np.asarray(largest)
    excess = total_excess({name: means[name] for name in goal.subject_to}, goal.subject_to)
    return np.where(within_limit(largest), largest, 1.0 + excess)
