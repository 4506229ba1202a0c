"""Makers of claims over results of `analysis.ablations.engine.settings`, and over printed numbers.

A claim has one finding a task and, over several tasks, one for their mean: the pairs of a seed are
averaged over the tasks first.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.settings import COST, REWARD
from safesweep.analysis.claims import (
    CONTRADICTED,
    SUPPORTED,
    Claim,
    Finding,
    judge_paired,
    judge_range,
    judge_trend,
)

ALL_TASKS = "all tasks"
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
    name: str, statement: str, metric: str, *, series: str = "", falls: bool = False
) -> Claim:
    """The metric rises (or falls) along the varied number: a permutation test of the trend."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        chosen = results[(results["metric"] == metric) & (results["series"] == series)]
        findings = []
        for task, rows in chosen.sort_values("step").groupby("task"):
            last = rows.groupby(["seed", "x"])["value"].last().unstack("x")
            settings = [float(value) for value in last.columns]
            findings.append(judge_trend(str(task), last.to_numpy(), settings, not falls))
        return findings

    return Claim(name, statement, judge)


def larger(
    name: str,
    statement: str,
    metric: str,
    one: str,
    other: str,
    *,
    series: str = "",
    other_series: str | None = None,
) -> Claim:
    """Setting `one` has the larger value than `other`, paired by seed."""
    second = series if other_series is None else other_series

    def judge(results: pandas.DataFrame) -> list[Finding]:
        return judge_pairs(
            results,
            metric,
            (one, series),
            (other, second),
            lambda task, values, remark: judge_paired(task, values, remark),
        )

    return Claim(name, statement, judge)


def close(
    name: str, statement: str, metric: str, one: str, other: str, margin: float, series: str = ""
) -> Claim:
    """The settings differ by no more than the margin either way: an equivalence test."""
    return at_most_better(
        name, statement, metric, one, other, low=-margin, high=margin, series=series
    )


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
) -> Claim:
    """The difference of `one` from `other`, paired by seed, lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        return judge_pairs(
            results,
            metric,
            (one, series),
            (other, series),
            lambda task, values, remark: judge_range(task, values, low, high, remark),
        )

    return Claim(name, statement, judge)


def judge_pairs(
    results: pandas.DataFrame,
    metric: str,
    one: tuple[str, str],
    other: tuple[str, str],
    judge: Callable[[str, np.ndarray, str], Finding],
) -> list[Finding]:
    """Judge the differences of two settings (name, series): a finding a task, and their mean's."""
    findings, by_task = [], {}
    for task in dict.fromkeys(results["task"]):
        first = seed_values(results, task, metric, *one)
        second = seed_values(results, task, metric, *other)
        differences = (first - second).dropna()
        if differences.empty:
            continue
        by_task[task] = differences
        remark = f"{first.mean():.3g} against {second.mean():.3g}"
        findings.append(judge(task, differences.to_numpy(), remark))
    if len(by_task) > 1:
        mean = pandas.DataFrame(by_task).dropna().mean(axis=1)
        findings.append(judge(ALL_TASKS, mean.to_numpy(), f"mean of {len(by_task)} tasks"))
    return findings


def ratio_within(
    name: str, statement: str, metric: str, one: str, other: str, low: float, high: float
) -> Claim:
    """The ratio of two settings, paired by seed, lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in tasks_with(results, metric, one, other):
            first = seed_values(results, task, metric, one)
            ratio = (first / seed_values(results, task, metric, other)).dropna()
            findings.append(judge_range(task, ratio.to_numpy(), low, high, "a ratio"))
        return findings

    return Claim(name, statement, judge)


def within_limit(
    name: str, statement: str, settings: Sequence[str], *, series: str = "", metric: str = COST
) -> Claim:
    """The mean cost of each setting is within the limit."""
    return value_within(name, statement, settings, metric, high=1.0, series=series)


def beyond_limit(name: str, statement: str, setting: str, *, series: str = "") -> Claim:
    """The mean cost of a setting exceeds the limit."""
    return value_within(name, statement, [setting], COST, low=1.0, series=series)


def value_within(
    name: str,
    statement: str,
    settings: Sequence[str],
    metric: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    series: str = "",
) -> Claim:
    """The mean of each setting lies within [low, high]."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for setting in settings:
            for task in tasks_with(results, metric, setting):
                values = seed_values(results, task, metric, setting, series)
                if len(values):
                    remark = setting if len(settings) > 1 else ""
                    findings.append(judge_range(task, values.to_numpy(), low, high, remark))
        return findings

    return Claim(name, statement, judge)


def deviation_smaller(
    name: str, statement: str, metric: str, steady: str, other: str, series: str = ""
) -> Claim:
    """A setting varies less over seeds than another, over the tasks: an F test's exact form is not
    worth its assumptions with three seeds, so tasks are what is sampled (a sign test's mean)."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        gaps = []
        for task in tasks_with(results, metric, steady, other):
            deviations = [
                seed_values(results, task, metric, setting, series).std(ddof=1)
                for setting in (other, steady)
            ]
            gaps.append(deviations[0] - deviations[1])
        if not gaps:
            return []
        return [judge_paired(ALL_TASKS, gaps, "difference of deviations over seeds, a task each")]

    return Claim(name, statement, judge)


def printed_claim(name: str, statement: str, judge: Callable[[], list[Finding]]) -> Claim:
    """A claim about the printed numbers alone."""
    return Claim(name, f"Printed: {statement}", lambda _: judge(), about="print")


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


def metric_word(metric: str) -> str:
    """A metric as a word in a sentence."""
    return _UNITS.get(metric, metric)
