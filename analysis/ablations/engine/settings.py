"""Ablations that compare settings of methods: their sweeps, results and printed numbers.

Results are tidy, in `COLUMNS`: one row per (task, series, setting, seed, step, metric). The metrics
are `normalized_reward`, `normalized_cost` and whatever an ablation reads beside them.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.budgets import (
    averaged_evaluations,
    cost_limits,
    default_seeds,
    describe_cost,
    make_sweeps,
)
from safesweep.analysis.claims import Claim
from safesweep.analysis.published import load_published
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.scores import last_evaluations
from safesweep.trainables.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("task", "series", "setting", "x", "seed", "step", "metric", "value")
REWARD = "normalized_reward"
"""The score of a figure that rises with the reward."""
COST = "normalized_cost"
"""The score of a figure of which 1 is the limit."""
SCORES = (REWARD, COST)
LATENCY, STEP_TIME = "act_latency_ms", "train_ms_per_step"

_MAIN_POLICIES = {"lspc": "lspc_o"}


@dataclass(frozen=True)
class AblationSetting:
    """One thing that is compared.

    Attributes:
        name: shown in figures and tables, unique within its series.
        algorithm: the method.
        values: the hyperparameters that set it apart, by full name. Settings of one method name
            the same ones, so that each can be told from the others.
        policy: which of the method's policies; the main one by default.
        x: the number that is varied, where it is one.
        series: the line that it belongs to, where there are several.
    """

    name: str
    algorithm: str
    values: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""
    x: float = float("nan")
    series: str = ""

    @property
    def policy_name(self) -> str:
        """The policy as the store names it."""
        return self.policy or _MAIN_POLICIES.get(self.algorithm, self.algorithm)


def along(
    algorithm: str,
    hyperparameter: str,
    values: Sequence[float],
    *,
    beside: Mapping[str, Any] | None = None,
    policy: str = "",
    series: str = "",
) -> tuple[AblationSetting, ...]:
    """A setting for each value of one hyperparameter, the others at `beside`."""
    return tuple(
        AblationSetting(
            f"{value:g}",
            algorithm,
            {**(beside or {}), hyperparameter: value},
            policy,
            float(value),
            series,
        )
        for value in values
    )


def between(
    algorithm: str, reference: Mapping[str, Any], **variants: Mapping[str, Any]
) -> tuple[AblationSetting, ...]:
    """A setting for each variant: the reference values, with the variant's own in their place.

    Underscores of the names become spaces.
    """
    return tuple(
        AblationSetting(name.replace("_", " "), algorithm, {**reference, **values})
        for name, values in variants.items()
    )


def sweeps_of(
    name: str,
    scale: str,
    paper: str,
    settings: Sequence[AblationSetting],
    tasks: Sequence[str],
    **options: Any,
) -> tuple[dict[str, Any], ...]:
    """The sweeps that train every setting on every task.

    One grid a method where its settings are one (all combinations of their values), else a sweep
    for each of its configurations.
    """
    sweeps: list[dict[str, Any]] = []
    for algorithm in dict.fromkeys(setting.algorithm for setting in settings):
        own = [setting for setting in settings if setting.algorithm == algorithm]
        several = any(setting.algorithm != algorithm for setting in settings)
        label = f"{name}-{algorithm}" if several else name
        grids = _grids(own)
        for number, (space, fixed) in enumerate(grids):
            part = f"{label}-{chr(ord('a') + number)}" if len(grids) > 1 else label
            sweeps += make_sweeps(part, scale, paper, algorithm, tasks, space, fixed, **options)
    return tuple(sweeps)


def _grids(
    settings: Sequence[AblationSetting],
) -> list[tuple[dict[str, list[Any]], dict[str, Any]]]:
    """Space and fixed values of the fewest grids that hold exactly the settings: one if all
    combinations of their values are there, else one a series, else one a configuration."""
    whole = _grid([setting.values for setting in settings])
    if whole is not None:
        return [whole]
    grids = []
    for series in dict.fromkeys(setting.series for setting in settings):
        members = [setting.values for setting in settings if setting.series == series]
        grid = _grid(members)
        grids += [grid] if grid is not None else [({}, dict(values)) for values in members]
    return grids


def _grid(
    configurations: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Any]], dict[str, Any]] | None:
    distinct = [
        values
        for place, values in enumerate(configurations)
        if values not in configurations[:place]
    ]
    levels = {key: list(dict.fromkeys(values[key] for values in distinct)) for key in distinct[0]}
    if math.prod(len(values) for values in levels.values()) != len(distinct):
        return None
    space = {key: values for key, values in levels.items() if len(values) > 1}
    return space, {key: values[0] for key, values in levels.items() if len(values) == 1}


def collect_settings(
    store: ResultStore,
    sweeps: Sequence[str],
    settings: Sequence[AblationSetting],
    paper: str,
    metrics: Sequence[str] = SCORES,
    curves: bool = False,
    averaged: int = 1,
) -> pandas.DataFrame:
    """What the completed runs of some sweeps scored, in `COLUMNS`.

    Costs are normalised as the paper does (`cost_limits`), whatever the rows say.

    Args:
        metrics: scores, `LATENCY`, `STEP_TIME`, other columns of evaluations, or names of the
            table of metrics.
        curves: every evaluation, not only the last one.
        averaged: where not, the mean of the last so many evaluations stands for the last one.
    """
    runs = store.runs(sweep=list(sweeps), status="completed")
    if runs.empty:
        return pandas.DataFrame(columns=list(COLUMNS))
    run_ids = list(runs["run_id"])
    long = pandas.concat(
        [
            _evaluation_values(store.evaluations(run_id=run_ids), paper, metrics),
            _recorded_values(store, run_ids, metrics),
        ],
        ignore_index=True,
    )
    if STEP_TIME in metrics:
        long = pandas.concat([long, _step_times(runs)], ignore_index=True)
    if not curves and not long.empty:
        long = last_evaluations(long) if averaged == 1 else mean_of_last(long, averaged)
    parts = []
    for setting in settings:
        chosen = runs[matching_runs(runs, setting)]
        part = long[long["policy"].isin(["", setting.policy_name])].merge(
            chosen[["run_id", "task", "seed"]], on="run_id"
        )
        parts.append(
            part.assign(series=setting.series, setting=setting.name, x=setting.x)[list(COLUMNS)]
        )
    return pandas.concat(parts, ignore_index=True)


def mean_of_last(long: pandas.DataFrame, count: int) -> pandas.DataFrame:
    """Of each run, policy and metric the mean of the last `count` steps, at the last of them.

    Args:
        long: columns `run_id, policy, step, metric, value`.
    """
    keys = ["run_id", "policy", "metric"]
    last = long.sort_values("step").groupby(keys).tail(count)
    return last.groupby(keys, as_index=False).agg(step=("step", "max"), value=("value", "mean"))


def matching_runs(runs: pandas.DataFrame, setting: AblationSetting) -> pandas.Series:
    """Which runs have the setting's method and values."""
    found = runs["algorithm"] == setting.algorithm
    for name, value in setting.values.items():
        column = runs.get(f"hp_{name}")
        if column is None:
            return found & False
        if isinstance(value, str | bool):
            found &= column.astype(str) == str(value)
        else:
            numbers = pandas.to_numeric(column, errors="coerce")
            found &= np.isclose(numbers.to_numpy(np.float64), value)
    return found


def _long(frame: pandas.DataFrame, names: Iterable[str]) -> pandas.DataFrame:
    keys = ["run_id", "policy", "step"]
    names = list(names)
    return frame[keys + names].melt(keys, var_name="metric", value_name="value")


def _evaluation_values(
    evaluations: pandas.DataFrame, paper: str, metrics: Sequence[str]
) -> pandas.DataFrame:
    """The scores of evaluations. Of policies that act to a limit of their own (`name@20`) those of
    the paper's limits count, as one: the mean of their scores, each cost by its own limit."""
    named = evaluations["policy"].str.partition("@")
    limits = [cost_limits(paper, task) for task in evaluations["task"]]
    own = pandas.to_numeric(named[2], errors="coerce")
    judged = [
        of_paper if np.isnan(limit) else (limit,)
        for limit, of_paper in zip(own, limits, strict=True)
    ]
    counts = [set(one) <= set(of_paper) for one, of_paper in zip(judged, limits, strict=True)]
    inverse_limits = [float(np.mean([1 / limit for limit in one])) for one in judged]
    normalized = evaluations["cost_return_mean"] * inverse_limits
    evaluations = evaluations.assign(policy=named[0], normalized_cost=normalized)[counts]
    long = _long(evaluations, [name for name in metrics if name in evaluations])
    keys = ["run_id", "policy", "step", "metric"]
    return long.groupby(keys, sort=False, as_index=False).agg(value=("value", "mean"))


def _recorded_values(
    store: ResultStore, run_ids: Sequence[str], metrics: Sequence[str]
) -> pandas.DataFrame:
    recorded = store.metrics(run_id=list(run_ids), name=list(metrics)).assign(policy="")
    return recorded.rename(columns={"name": "metric"})[
        ["run_id", "policy", "step", "metric", "value"]
    ]


def _step_times(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Milliseconds of training a gradient step of one run, `STEP_TIME`."""
    values = 1000 * runs["train_seconds"] / runs["steps"]
    return pandas.DataFrame(
        {
            "run_id": runs["run_id"],
            "policy": "",
            "step": runs["steps"],
            "metric": STEP_TIME,
            "value": values,
        }
    )


def published_settings(
    paper: str,
    exhibit: str,
    names: Mapping[str, str],
    column: str = "parameter_value",
    metrics: Mapping[str, str] | None = None,
) -> pandas.DataFrame:
    """Printed numbers in the columns of results: `task, series, setting, x, metric, value`.

    Averages over suites and doubtful cells are left out.

    Args:
        names: what `column` holds in print -> the setting's name.
        column: of the table of printed numbers that tells the settings apart.
        metrics: printed metric -> ours, for the ones that are named otherwise.
    """
    printed = load_published(paper, exhibit)
    printed = printed[~printed["ambiguous"] & (printed["task"] != "average")]
    printed = printed[printed[column].isin(list(names))]
    setting = printed[column].map(names)
    return pandas.DataFrame(
        {
            "task": printed["task"].fillna("not stated"),
            "series": "",
            "setting": setting,
            "x": pandas.to_numeric(setting, errors="coerce"),
            "metric": printed["metric"].replace(dict(metrics or {})),
            "value": printed["value"],
        }
    ).reset_index(drop=True)


def nothing_published() -> pandas.DataFrame:
    """For a figure of which no number is printed."""
    return pandas.DataFrame(columns=["task", "series", "setting", "x", "metric", "value"])


def compare_settings(results: pandas.DataFrame, published: pandas.DataFrame) -> pandas.DataFrame:
    """Mean, spread and seeds of ours at the last step beside the printed numbers."""
    keys = ["task", "metric", "series", "setting"]
    order = list(dict.fromkeys([*results["setting"], *published["setting"]]))
    steps = ["task", "metric", "series", "setting", "seed"]
    last = last_evaluations(results, steps)
    ours = last.groupby(keys)["value"].agg(ours="mean", spread="std", seeds="count").reset_index()
    printed = published.rename(columns={"value": "published"})[[*keys, "published"]]
    both = ours.astype({key: object for key in keys}).merge(
        printed.astype({key: object for key in keys}), on=keys, how="outer"
    )
    both["seeds"] = both["seeds"].fillna(0).astype(int)
    rank = {name: place for place, name in enumerate(order)}
    both = both.assign(rank=both["setting"].map(rank))
    both = both.sort_values(["task", "metric", "series", "rank"]).drop(columns="rank")
    return both.reset_index(drop=True)


Draw = Callable[[pandas.DataFrame, pandas.DataFrame, str], "Figure"]


def settings_ablation(
    id: str,
    title: str,
    varies: str,
    settings: Sequence[AblationSetting] | Mapping[str, Sequence[AblationSetting]],
    tasks: Mapping[str, Sequence[str]],
    draw: Draw,
    claims: Sequence[Claim],
    *,
    metrics: Sequence[str] = SCORES,
    published: Callable[[], pandas.DataFrame] = nothing_published,
    curves: bool = False,
    separate_seeds: bool = False,
    steps: Mapping[str, int] | None = None,
    seeds: Mapping[str, Sequence[int]] | None = None,
    evaluations: int | None = None,
) -> Ablation:
    """An ablation that trains every setting on every task, and reads metrics.

    Args:
        settings: what is compared; by scale where what it is compared around differs.
        tasks: scale -> task keys or ids.
        separate_seeds: every run in a population of its own, for measurements of time: within
            one population all runs take the same time.
        steps: scale -> gradient steps, where the ablation's runs are its own and not shared.
        seeds: scale -> seeds, where the scale's own do not decide.
        evaluations: of a run, each of a single episode, where its own runs need finer curves.
    """
    paper = id.split("-")[0]
    sweeps: dict[str, tuple[dict[str, Any], ...]] = {}
    every = settings if isinstance(settings, Mapping) else dict.fromkeys(SCALES, settings)
    for scale in SCALES:
        names = [task_id(name) for name in tasks[scale]]
        budget = (steps or {}).get(scale)
        if separate_seeds:
            sweeps[scale] = tuple(
                {**sweep, "configs_per_trial": 1}
                for seed in default_seeds(scale, paper)
                for sweep in sweeps_of(
                    f"{id}-seed{seed}",
                    scale,
                    paper,
                    every[scale],
                    names,
                    seeds=[seed],
                    steps=budget,
                )
            )
        else:
            sweeps[scale] = sweeps_of(
                id,
                scale,
                paper,
                every[scale],
                names,
                steps=budget,
                seeds=(seeds or {}).get(scale),
            )
        if evaluations:
            sweeps[scale] = tuple(_evaluated_often(sweep, evaluations) for sweep in sweeps[scale])

    def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
        own = [s for s in SCALES if {sweep["name"] for sweep in sweeps[s]} & set(names)]
        scale = (own or list(SCALES))[-1]
        averaged = averaged_evaluations(scale, paper)
        return collect_settings(store, names, every[scale], paper, metrics, curves, averaged)

    return Ablation(
        id=id,
        title=title,
        paper=paper,
        varies=varies,
        sweeps=sweeps,
        costs={scale: describe_cost(scale, sweeps[scale]) for scale in SCALES},
        collect=collect,
        published=published,
        compare=compare_settings,
        draw=draw,
        claims=tuple(claims),
    )


def _evaluated_often(sweep: Mapping[str, Any], evaluations: int) -> dict[str, Any]:
    every = max(1, sweep["steps"] // evaluations)
    return {**sweep, "evaluate": {"every": every, "episodes": 1}}


_TASK_IDS = {task.key: name for name, task in TASKS.items()}


def task_id(name: str) -> str:
    """The canonical id of a task given by its key or id."""
    return _TASK_IDS.get(name, name)
