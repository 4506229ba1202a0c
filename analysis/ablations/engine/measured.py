"""Ablations of what is measured on trained networks: planes of actions, maps of states, transfer.

Results: `task, setting, seed, view, point, quantity, value`, one row a number.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.budgets import describe_cost
from safesweep.analysis.ablations.engine.settings import (
    Draw,
    Setting,
    matching_runs,
    nothing_published,
    sweeps_of,
    task_id,
)
from safesweep.analysis.claims import EVERY_TASK, RESULTS, Claim, Finding, judge_paired, judge_range
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.measurements.request import MeasurementRequest

COLUMNS = ("task", "setting", "seed", "view", "point", "quantity", "value")


def collect_measurements(
    store: ResultStore, names: Sequence[str], settings: Sequence[Setting]
) -> pandas.DataFrame:
    """What was measured under some names, with the setting of each run, in `COLUMNS`.

    Without settings it was measured on no runs, and the setting is empty.
    """
    measured = store.measurements(name=list(names))
    if measured.empty:
        return pandas.DataFrame(columns=list(COLUMNS))
    if not settings:
        return measured.assign(setting="")[list(COLUMNS)]
    runs = store.runs(run_id=sorted(set(measured["run_id"])))
    parts = []
    for setting in settings:
        chosen = set(runs.loc[matching_runs(runs, setting), "run_id"])
        part = measured[measured["run_id"].isin(chosen)]
        parts.append(part.assign(setting=setting.name)[list(COLUMNS)])
    return pandas.concat(parts, ignore_index=True)


def table_of(
    results: pandas.DataFrame, task: str, view: str, setting: str = "", seed: int | None = None
) -> pandas.DataFrame:
    """One view as a table [(seed, point), quantities]."""
    chosen = results[
        (results["task"] == task) & (results["view"] == view) & (results["setting"] == setting)
    ]
    if seed is not None:
        chosen = chosen[chosen["seed"] == seed]
    return chosen.pivot_table(index=["seed", "point"], columns="quantity", values="value")


def seed_means(
    results: pandas.DataFrame, task: str, view: str, quantity: str, setting: str = ""
) -> pandas.Series:
    """The mean over points of each seed."""
    chosen = results[
        (results["task"] == task)
        & (results["view"] == view)
        & (results["quantity"] == quantity)
        & (results["setting"] == setting)
    ]
    return chosen.groupby("seed")["value"].mean()


def each_task(
    name: str,
    statement: str,
    judge: Callable[[pandas.DataFrame, str], Finding | None],
    estimand: str,
    margin: tuple[float, float],
) -> Claim:
    """A claim about every task."""

    def judge_all(results: pandas.DataFrame) -> list[Finding]:
        found = [judge(results, task) for task in dict.fromkeys(results.get("task", []))]
        return [finding for finding in found if finding is not None]

    return Claim(name, statement, judge_all, RESULTS, EVERY_TASK, estimand, margin)


def mean_positive(
    name: str, statement: str, view: str, quantity: str, *, setting: str = "", sign: int = 1
) -> Claim:
    """The mean over points is positive (negative for sign -1), by seed."""

    def judge(results: pandas.DataFrame, task: str) -> Finding | None:
        means = seed_means(results, task, view, quantity, setting)
        if means.empty:
            return None
        return judge_paired(task, sign * means.to_numpy(), f"mean {means.mean():.3g}")

    sign_word = "negated " if sign < 0 else ""
    estimand = f"{sign_word}mean of {quantity.replace('_', ' ')} over points"
    return each_task(name, statement, judge, estimand, (0.0, np.inf))


def mean_within(
    name: str,
    statement: str,
    view: str,
    quantity: str,
    *,
    setting: str = "",
    low: float = -np.inf,
    high: float = np.inf,
) -> Claim:
    """The mean over points lies within [low, high], by seed."""

    def judge(results: pandas.DataFrame, task: str) -> Finding | None:
        means = seed_means(results, task, view, quantity, setting)
        return None if means.empty else judge_range(task, means.to_numpy(), low, high)

    estimand = f"mean of {quantity.replace('_', ' ')} over points"
    return each_task(name, statement, judge, estimand, (low, high))


def summarize_measurements(
    results: pandas.DataFrame, published: pandas.DataFrame
) -> pandas.DataFrame:
    """Means over points, by (task, view and quantity, setting). Nothing is printed beside them."""
    named = results.assign(metric=results["view"] + ": " + results["quantity"], series="")
    keys = ["task", "metric", "series", "setting"]
    by_seed = named.groupby([*keys, "seed"], sort=False)["value"].mean().reset_index()
    table = by_seed.groupby(keys, sort=False)["value"].agg(ours="mean", spread="std", seeds="count")
    return table.reset_index().assign(published=np.nan)


def measured_ablation(
    id: str,
    title: str,
    varies: str,
    measurement: str,
    settings: Sequence[Setting],
    tasks: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
    draw: Draw,
    claims: Sequence[Claim],
    *,
    target_tasks: Mapping[str, Sequence[str]] | None = None,
) -> Ablation:
    """An ablation that trains every setting on every task and measures something of each run.

    Args:
        measurement: a name in `trainables.measurements.registry.MEASUREMENTS`, or "bandit", which
            needs no settings.
        sizes: scale -> how many points are measured.
        target_tasks: scale -> tasks to roll out in.
    """
    paper = id.split("-")[0]
    sweeps, measurements, costs = {}, {}, {}
    for scale in SCALES:
        names = [task_id(name) for name in tasks[scale]]
        sweeps[scale] = sweeps_of(id, scale, paper, settings, names) if settings else ()
        targets = tuple(task_id(name) for name in (target_tasks or {}).get(scale, ()))
        measurements[scale] = tuple(
            MeasurementRequest(
                sweep["name"],
                measurement,
                sweep["name"],
                sweep["dataset"],
                sizes[scale],
                targets,
            )
            for sweep in sweeps[scale]
        ) or (MeasurementRequest(f"{id}-{scale}", measurement, "", size=sizes[scale]),)
        costs[scale] = (
            describe_cost(scale, sweeps[scale])
            if settings
            else f"no runs: a toy, {sizes[scale]} steps"
        )

    def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
        return collect_measurements(store, names, settings)

    return Ablation(
        id=id,
        title=title,
        paper=paper,
        varies=varies,
        sweeps=sweeps,
        costs=costs,
        collect=collect,
        published=nothing_published,
        compare=summarize_measurements,
        draw=draw,
        claims=tuple(claims),
        measurements=measurements,
    )
