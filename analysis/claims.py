"""What a paper claims, reduced to statements that data can support or contradict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas
from scipy import stats

from safesweep.analysis.intervals import mean_interval

FloatArray = npt.NDArray[np.float64]

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
LEVEL = 0.05
_PERMUTATIONS = 20_000


@dataclass(frozen=True)
class Finding:
    """What the data say about a claim on one task.

    Attributes:
        task: the task, or the tasks compared.
        verdict: supported, contradicted or undecided.
        effect: the size of what is claimed, in the units of the quantity.
        low: lower end of the 95 % interval of the effect over seeds; NaN for fewer than two.
        high: its upper end.
        p_value: one-sided, in the direction claimed; NaN where nothing is tested.
        seeds: how many seeds went in.
        remark: the numbers behind the verdict, in words.
    """

    task: str
    verdict: str
    effect: float
    low: float = float("nan")
    high: float = float("nan")
    p_value: float = float("nan")
    seeds: int = 0
    remark: str = ""


@dataclass(frozen=True)
class Claim:
    """A checkable statement.

    Attributes:
        name: short, unique within its ablation.
        statement: what is claimed, so that a number can decide it.
        judge: results, in the ablation's own tidy form, -> one finding per task; none where the
            results do not bear on the claim.
        about: "results": of our runs; "print": of the numbers that the paper prints.
    """

    name: str
    statement: str
    judge: Callable[[pandas.DataFrame], list[Finding]]
    about: str = "results"


def trend_p_values(table: npt.ArrayLike) -> tuple[float, float]:
    """One-sided p-values (rising, falling) of a monotone trend along the columns.

    Page's statistic, the sum over seeds of the correlation of ranks with the order of the columns,
    against random permutations of each seed's own row; ties share ranks. The permutations are
    fixed, so the same table always gives the same values.

    Args:
        table: [seeds, settings], a seed's row holds what it gave at each setting.
    """
    ranks = stats.rankdata(np.asarray(table, np.float64), axis=1)
    order = np.arange(ranks.shape[1], dtype=np.float64)
    observed = float((ranks @ order).sum())
    generator = np.random.default_rng(0)
    drawn = np.zeros(_PERMUTATIONS)
    for row in ranks:
        drawn += generator.permuted(np.tile(row, (_PERMUTATIONS, 1)), axis=1) @ order
    rising = (1 + int((drawn >= observed - 1e-9).sum())) / (1 + _PERMUTATIONS)
    falling = (1 + int((drawn <= observed + 1e-9).sum())) / (1 + _PERMUTATIONS)
    return rising, falling


def judge_trend(
    task: str, table: npt.ArrayLike, settings: Sequence[float], rising: bool = True
) -> Finding:
    """Whether a quantity rises (or falls) along the settings.

    Supported or contradicted when the trend, or its reverse, is significant at 5 % and there are
    two seeds at least. The effect is the last setting's value minus the first's. Seeds that lack a
    value at a setting are left out.

    Args:
        task: named in the finding.
        table: [seeds, settings], NaN where there is no value.
        settings: the values along the columns, ascending.
        rising: the direction claimed.
    """
    values = np.asarray(table, np.float64).reshape(-1, len(settings))
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) == 0 or len(settings) < 2:
        return Finding(task, UNDECIDED, float("nan"), remark="no seed has every setting")
    effect, low, high = mean_interval(values[:, -1] - values[:, 0])
    claimed, reverse = trend_p_values(values if rising else -values)
    verdict = UNDECIDED
    if len(values) > 1 and claimed < LEVEL:
        verdict = SUPPORTED
    elif len(values) > 1 and reverse < LEVEL:
        verdict = CONTRADICTED
    means = values.mean(axis=0)
    steps = np.diff(means) if rising else -np.diff(means)
    inversions = int((steps < -1e-9).sum())
    remark = f"{means[0]:.2f} at {settings[0]:g}, {means[-1]:.2f} at {settings[-1]:g}"
    remark += f"; {inversions} inversion{'' if inversions == 1 else 's'} of the means"
    return Finding(task, verdict, effect, low, high, claimed, len(values), remark)


def judge_difference(task: str, larger: npt.ArrayLike, smaller: npt.ArrayLike) -> Finding:
    """Whether one unpaired sample over seeds has the larger mean (Welch's test at 5 %)."""
    one, other = np.asarray(larger, np.float64), np.asarray(smaller, np.float64)
    one, other = one[np.isfinite(one)], other[np.isfinite(other)]
    seeds = min(len(one), len(other))
    if seeds == 0:
        return Finding(task, UNDECIDED, float("nan"), remark="no values to compare")
    effect = float(one.mean() - other.mean())
    remark = f"{one.mean():.2f} against {other.mean():.2f}"
    if seeds < 2 or (np.ptp(one) == 0 and np.ptp(other) == 0):
        return Finding(task, UNDECIDED, effect, seeds=seeds, remark=f"{remark}; no spread known")
    test = stats.ttest_ind(one, other, equal_var=False, alternative="greater")
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    p_value = float(test.pvalue)
    verdict = UNDECIDED
    if p_value < LEVEL:
        verdict = SUPPORTED
    elif p_value > 1 - LEVEL:
        verdict = CONTRADICTED
    low, high = float(interval.low), float(interval.high)
    return Finding(task, verdict, effect, low, high, p_value, seeds, remark)


def judge_paired(task: str, differences: npt.ArrayLike, remark: str = "") -> Finding:
    """Whether paired differences, one a seed, are positive (one-sided t test at 5 %)."""
    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Finding(task, UNDECIDED, float("nan"), remark="no seed has both")
    effect, low, high = mean_interval(values)
    if len(values) < 2 or np.ptp(values) == 0:
        note = "; ".join(filter(None, [remark, "no spread known"]))
        return Finding(task, UNDECIDED, effect, seeds=len(values), remark=note)
    p_value = float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)
    verdict = UNDECIDED
    if p_value < LEVEL:
        verdict = SUPPORTED
    elif p_value > 1 - LEVEL:
        verdict = CONTRADICTED
    return Finding(task, verdict, effect, low, high, p_value, len(values), remark)


def judge_range(
    task: str,
    values: npt.ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    remark: str = "",
) -> Finding:
    """Whether a mean over seeds lies within [low, high].

    Supported where the 90 % interval of the mean lies within, which is two one-sided tests at 5 %
    (an equivalence test where the values are differences and the range is a margin); contradicted
    where it lies outside; undecided where it crosses an end, or there are fewer than two seeds.
    The effect is the mean.
    """
    sample = np.asarray(values, np.float64)
    sample = sample[np.isfinite(sample)]
    if len(sample) == 0:
        return Finding(task, UNDECIDED, float("nan"), remark="no seed has a value")
    mean, below, above = mean_interval(sample, 0.90)
    _, wide_below, wide_above = mean_interval(sample)
    verdict = UNDECIDED
    if len(sample) > 1:
        if low <= below and above <= high:
            verdict = SUPPORTED
        elif above < low or below > high:
            verdict = CONTRADICTED
    return Finding(task, verdict, mean, wide_below, wide_above, seeds=len(sample), remark=remark)


def overall_verdict(verdicts: Sequence[str]) -> str:
    """Of a claim's findings: one that contradicts makes it contradicted, unless others support it;
    findings in both directions leave it undecided."""
    found = set(verdicts)
    if {SUPPORTED, CONTRADICTED} <= found or not found & {SUPPORTED, CONTRADICTED}:
        return UNDECIDED
    return SUPPORTED if SUPPORTED in found else CONTRADICTED


def score(claims: Sequence[Claim], results: pandas.DataFrame) -> pandas.DataFrame:
    """The scorecard: one row per claim and task, `undecided` where nothing bears on a claim."""
    rows: list[dict[str, object]] = []
    for claim in claims:
        findings = claim.judge(results) or [
            Finding("", UNDECIDED, float("nan"), remark="these results do not bear on it")
        ]
        rows.extend(
            {
                "claim": claim.name,
                "about": claim.about,
                "task": finding.task,
                "verdict": finding.verdict,
                "effect": finding.effect,
                "low": finding.low,
                "high": finding.high,
                "p_value": finding.p_value,
                "seeds": finding.seeds,
                "remark": finding.remark,
                "statement": claim.statement,
            }
            for finding in findings
        )
    return pandas.DataFrame(rows)
