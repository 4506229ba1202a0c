"""Makers of claims over results of `analysis.ablations.engine.settings`, and over printed numbers.

A claim has one finding a task; `analysis.claims.decide` puts them together. The makers take the
claim's quantifier, and the tasks that it is about where these are not all of the results.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.settings import COST, REWARD, task_id
from safesweep.analysis.claims import (
    CONTRADICTED,
    EVERY_TASK,
    ON_AVERAGE,
    PRINT,
    RESULTS,
    SUPPORTED,
    Claim,
    Finding,
    judge_contrast,
    judge_range,
    judge_spread,
    judge_trend,
)

COST_METRICS = (COST, "cost_return_mean")
Published = Callable[[], pandas.DataFrame]

_UNITS = {REWARD: "reward", COST: "cost"}


def seed_values(
    results: pandas.DataFrame, task: str, metric: str, setting: str, series: str = ""
) -> pandas.Series:
    """The value of each seed at its last step."""
    chosen = results[
        (results["task"] == task)
        & (results["metric"] == metric)
        & (results["setting"] == setting)
        & (results["series"] == series)
    ].sort_values("step")
    return chosen.groupby("seed")["value"].last()


def tasks_with(results: pandas.DataFrame, metric: str, *settings: str) -> list[str]:
    """Tasks in which every one of the settings has a value."""
    chosen = results[(results["metric"] == metric) & results["setting"].isin(settings)]
    counts = chosen.groupby("task")["setting"].nunique()
    return sorted(counts.index[counts == len(set(settings))])


def rises(
    name: str,
    statement: str,
    metric: str,
    *,
    series: str = "",
    falls: bool = False,
    quantifier: str = ON_AVERAGE,
    tasks: Sequence[str] = (),
) -> Claim:
    """The mean of a metric rises (or falls) along the varied number: a linear contrast."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        chosen = results[(results["metric"] == metric) & (results["series"] == series)]
        findings = []
        for task, rows in chosen.sort_values("step").groupby("task"):
            last = rows.groupby(["seed", "x"])["value"].last().unstack("x")
            settings = [float(value) for value in last.columns]
            findings.append(
                judge_trend(
                    str(task), last.to_numpy(), settings, not falls, cost=metric in COST_METRICS
                )
            )
        return findings

    estimand = f"change of {metric_word(metric)} along the settings (fitted line)"
    margin = (-np.inf, 0.0) if falls else (0.0, np.inf)
    return Claim(name, statement, judge, RESULTS, quantifier, estimand, margin, task_ids(tasks))


def larger(
    name: str,
    statement: str,
    metric: str,
    one: str,
    other: str,
    *,
    series: str = "",
    other_series: str | None = None,
    quantifier: str = ON_AVERAGE,
    tasks: Sequence[str] = (),
) -> Claim:
    """AblationSetting `one` has the larger mean than `other`, paired by seed."""
    second = series if other_series is None else other_series
    return difference_within(
        name, statement, metric, (one, series), (other, second), low=0.0,
        quantifier=quantifier, tasks=tasks,
    )  # fmt: skip


def close(
    name: str,
    statement: str,
    metric: str,
    one: str,
    other: str,
    margin: float,
    series: str = "",
    *,
    quantifier: str = ON_AVERAGE,
    tasks: Sequence[str] = (),
) -> Claim:
    """The settings differ by no more than the margin either way: an equivalence test."""
    return at_most_better(
        name, statement, metric, one, other, low=-margin, high=margin, series=series,
        quantifier=quantifier, tasks=tasks,
    )  # fmt: skip


def at_most_better(
    name: str,
    statement: str,
    metric: str,
    one: str,
    other: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    series: str = "",
    quantifier: str = ON_AVERAGE,
    tasks: Sequence[str] = (),
) -> Claim:
    """The difference of `one` from `other`, paired by seed, lies within [low, high]."""
    return difference_within(
        name, statement, metric, (one, series), (other, series), low, high,
        quantifier=quantifier, tasks=tasks,
    )  # fmt: skip


def difference_within(
    name: str,
    statement: str,
    metric: str,
    one: tuple[str, str],
    other: tuple[str, str],
    low: float = -np.inf,
    high: float = np.inf,
    *,
    quantifier: str = ON_AVERAGE,
    tasks: Sequence[str] = (),
) -> Claim:
    """The difference of two settings (name, series), paired by seed, lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        return judge_pairs(results, metric, one, other, low, high)

    estimand = f"mean difference of {metric_word(metric)}, paired by seed"
    return Claim(
        name, statement, judge, RESULTS, quantifier, estimand, (low, high), task_ids(tasks)
    )


def judge_pairs(
    results: pandas.DataFrame,
    metric: str,
    one: tuple[str, str],
    other: tuple[str, str],
    low: float = -np.inf,
    high: float = np.inf,
    part: str = "",
) -> list[Finding]:
    """Judge the difference of two settings (name, series) on each task."""
    findings = []
    for task in dict.fromkeys(results["task"]):
        first = seed_values(results, task, metric, *one)
        second = seed_values(results, task, metric, *other)
        both = pandas.DataFrame({"one": first, "other": second}).dropna()
        if both.empty:
            continue
        remark = f"{first.mean():.3g} against {second.mean():.3g}"
        findings.append(
            judge_contrast(
                str(task), both["one"], both["other"], low, high, remark, part,
                cost=metric in COST_METRICS,
            )
        )  # fmt: skip
    return findings


def ratio_within(
    name: str,
    statement: str,
    metric: str,
    one: str,
    other: str,
    low: float,
    high: float,
    *,
    quantifier: str = ON_AVERAGE,
) -> Claim:
    """The ratio of two settings, paired by seed, lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in tasks_with(results, metric, one, other):
            first = seed_values(results, task, metric, one)
            ratio = (first / seed_values(results, task, metric, other)).dropna()
            findings.append(judge_range(task, ratio.to_numpy(), low, high, "a ratio"))
        return findings

    estimand = f"mean ratio of {metric_word(metric)}, paired by seed"
    return Claim(name, statement, judge, RESULTS, quantifier, estimand, (low, high))


def within_limit(
    name: str,
    statement: str,
    settings: Sequence[str],
    *,
    series: str = "",
    metric: str = COST,
    quantifier: str = EVERY_TASK,
    tasks: Sequence[str] = (),
) -> Claim:
    """The mean cost of each setting is within the limit."""
    return value_within(
        name, statement, settings, metric, high=1.0, series=series,
        quantifier=quantifier, tasks=tasks,
    )  # fmt: skip


def beyond_limit(
    name: str, statement: str, setting: str, *, series: str = "", quantifier: str = EVERY_TASK
) -> Claim:
    """The mean cost of a setting exceeds the limit."""
    return value_within(
        name, statement, [setting], COST, low=1.0, series=series, quantifier=quantifier
    )


def value_within(
    name: str,
    statement: str,
    settings: Sequence[str],
    metric: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    series: str = "",
    quantifier: str = EVERY_TASK,
    tasks: Sequence[str] = (),
) -> Claim:
    """The mean of each setting lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for setting in settings:
            for task in tasks_with(results, metric, setting):
                values = seed_values(results, task, metric, setting, series)
                if len(values):
                    part = setting if len(settings) > 1 else ""
                    findings.append(
                        judge_range(
                            task, values.to_numpy(), low, high, part=part,
                            cost=metric in COST_METRICS,
                        )
                    )  # fmt: skip
        return findings

    estimand = f"mean {metric_word(metric)}"
    return Claim(
        name, statement, judge, RESULTS, quantifier, estimand, (low, high), task_ids(tasks)
    )


def deviation_smaller(
    name: str,
    statement: str,
    metric: str,
    steady: str,
    other: str,
    series: str = "",
    *,
    quantifier: str = ON_AVERAGE,
) -> Claim:
    """A setting varies less over seeds than another (Brown and Forsythe's test)."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in tasks_with(results, metric, steady, other):
            values = [
                seed_values(results, task, metric, setting, series) for setting in (steady, other)
            ]
            deviations = [float(sample.std(ddof=1)) for sample in values]
            remark = f"deviations over seeds {deviations[1]:.3g} against {deviations[0]:.3g}"
            steadier, looser = (sample.to_numpy() for sample in values)
            findings.append(judge_spread(task, steadier, looser, remark))
        return findings

    estimand = f"difference of the absolute deviations of {metric_word(metric)} from the median"
    return Claim(name, statement, judge, RESULTS, quantifier, estimand, (0.0, np.inf))


def printed_claim(name: str, statement: str, judge: Callable[[], list[Finding]]) -> Claim:
    """A claim about the printed numbers alone."""
    return Claim(
        name, f"Printed: {statement}", lambda _: judge(), about=PRINT, estimand="printed numbers"
    )


def printed_values(published: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """Printed values of a metric, [tasks, settings]."""
    chosen = published[published["metric"] == metric]
    return chosen.pivot_table(index="task", columns="setting", values="value", sort=False)


def printed_larger(
    name: str,
    statement: str,
    published: Published,
    metric: str,
    one: str,
    other: str,
    *,
    or_equal: bool = False,
) -> Claim:
    """On every task the number printed for `one` exceeds that for `other`."""

    def judge() -> list[Finding]:
        table = printed_values(published(), metric)
        findings = []
        for task, row in table[[one, other]].dropna().iterrows():
            gap = round(float(row[one] - row[other]), 6)
            verdict = SUPPORTED if gap > 0 or (or_equal and gap == 0) else CONTRADICTED
            remark = f"{row[one]:g} against {row[other]:g}"
            findings.append(Finding(str(task), verdict, gap, remark=remark))
        return findings

    return printed_claim(name, statement, judge)


def printed_within(
    name: str,
    statement: str,
    published: Published,
    setting: str,
    *,
    metric: str = COST,
    low: float = -np.inf,
    high: float = 1.0,
) -> Claim:
    """On every task the number printed for a setting lies within [low, high]; one finding, which
    names the tasks where it does not."""

    def judge() -> list[Finding]:
        values = printed_values(published(), metric)[setting].dropna()
        outside = values[(values < low) | (values > high)]
        named = ", ".join(f"{task} {value:g}" for task, value in outside.items())
        return [printed_count(len(values) - len(outside), len(values), named and f"not {named}")]

    return printed_claim(name, statement, judge)


def printed_count(holds: int, total: int, remark: str = "", needed: int | None = None) -> Finding:
    """A printed statement that holds in so many of all cases, and is needed in `needed` (all)."""
    verdict = SUPPORTED if holds >= (total if needed is None else needed) else CONTRADICTED
    counted = f"holds in {holds} of {total}"
    return Finding(
        "as printed", verdict, float(holds), remark="; ".join(filter(None, [counted, remark]))
    )


def printed_equal(
    name: str, statement: str, printed: float, recomputed: Callable[[], Mapping[str, float]]
) -> Claim:
    """A printed number equals what follows from the other numbers, to its two digits."""

    def judge() -> list[Finding]:
        findings = []
        for task, value in recomputed().items():
            verdict = SUPPORTED if abs(value - printed) <= 0.0051 else CONTRADICTED
            remark = f"printed {printed:g}, recomputed {value:.4f}"
            findings.append(Finding(task, verdict, value - printed, remark=remark))
        return findings

    return printed_claim(name, statement, judge)


def printed_averages(published: pandas.DataFrame, metric: str) -> pandas.Series:
    """The mean over tasks of what is printed for each setting."""
    return printed_values(published, metric).mean()


def task_ids(names: Sequence[str]) -> tuple[str, ...]:
    """Ids of tasks given by their keys or ids."""
    return tuple(task_id(name) for name in names)


def metric_word(metric: str) -> str:
    """A metric as a word in a sentence."""
    return _UNITS.get(metric, metric.replace("_", " "))
