"""What a paper claims, reduced to statements that data can support or contradict.

A claim is typed: what is estimated, within which margin it lies if the claim holds, on which tasks,
and whether on every one of them, on average or on some. Judging goes in three steps, each in one
place: a claim's `judge` says what the data say on each task (`Finding`), `decide` puts a claim's
findings together as its quantifier asks, and `claim_verdicts` corrects for the number of claims
that are judged together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.contrasts import AgreementTest, Evidence, FloatArray, contrast, pool

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
NOT_TESTED = "not tested"
VERDICTS = (SUPPORTED, CONTRADICTED, UNDECIDED, NOT_TESTED)

EVERY_TASK, ON_AVERAGE, SOME_TASK = "every task", "on average", "some task"
QUANTIFIERS = (EVERY_TASK, ON_AVERAGE, SOME_TASK)
RESULTS, PRINT, DATASETS, OUR_DATA = "results", "print", "datasets", "our data"

LEVEL = 0.05
INTERVAL_LEVEL = 1 - 2 * LEVEL
"""Of printed intervals: their ends are the one-sided bounds that decide at `LEVEL`."""
ALL_TASKS = "all tasks"
NAN = float("nan")


@dataclass(frozen=True)
class Finding:
    """What the data say about a claim on one task.

    Attributes:
        task: the task, or the tasks compared.
        verdict: supported, contradicted or undecided; not tested where the results do not bear on
            it, with the reason as the remark.
        effect: the size of what is claimed, in the units of the quantity.
        low: lower end of the interval of the effect, of level `INTERVAL_LEVEL`, by the tests that
            decide; infinite where nothing bounds it, NaN where nothing is tested.
        high: its upper end.
        p_value: one-sided, of the claim; NaN where nothing is tested.
        p_against: one-sided, of the claim's contrary.
        seeds: how many seeds went in.
        remark: the numbers behind the verdict, in words.
        part: which of several things that the claim says it of, such as a setting.
        evidence: what the seeds say, for means over tasks; None where there is no such thing.
    """

    task: str
    verdict: str
    effect: float
    low: float = NAN
    high: float = NAN
    p_value: float = NAN
    p_against: float = NAN
    seeds: int = 0
    remark: str = ""
    part: str = ""
    evidence: Evidence | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Claim:
    """A checkable statement.

    Attributes:
        name: short, unique within its ablation.
        statement: what is claimed, so that a number can decide it.
        judge: results, in the ablation's own tidy form, -> one finding per task (and part); none
            where the results do not bear on the claim.
        about: "results": of our runs; "print": of the numbers that the paper prints; "datasets":
            of datasets, which are evidence about a paper only where they are the paper's own and
            count as "our data" where we collected them.
        quantifier: whether it is said of every task, on average over tasks, or of some task.
        estimand: what is estimated, in words.
        margin: the range of the effect, low and high, in which the claim holds; margins of a mean
            over tasks are those of a task.
        tasks: the ids of the tasks that it is about; all that the results have where empty. It is
            not tested on others.
    """

    name: str
    statement: str
    judge: Callable[[pandas.DataFrame], list[Finding]]
    about: str = RESULTS
    quantifier: str = EVERY_TASK
    estimand: str = ""
    margin: tuple[float, float] = (-np.inf, np.inf)
    tasks: tuple[str, ...] = ()


def judge_evidence(
    task: str,
    evidence: Evidence,
    low: float = -np.inf,
    high: float = np.inf,
    remark: str = "",
    part: str = "",
) -> Finding:
    """Whether an effect lies within [low, high].

    Supported where a one-sided test at `LEVEL` at each finite end says so (with two ends an
    equivalence test), contradicted where one says that it lies beyond an end.
    """
    ends = [
        p
        for end, p in (
            (low, evidence.p_above(low) if np.isfinite(low) else 1.0),
            (high, evidence.p_below(high) if np.isfinite(high) else 1.0),
        )
        if np.isfinite(end)
    ]
    against = []
    if np.isfinite(low):
        against.append(evidence.p_below(low))
    if np.isfinite(high):
        against.append(evidence.p_above(high))
    p_value = max(ends, default=1.0)
    p_against = min(1.0, len(against) * min(against, default=1.0))
    below, above = evidence.interval(LEVEL)
    if not evidence.above and not evidence.below:
        below = above = NAN
        remark = _joined(remark, "one seed" if evidence.seeds == 1 else "no spread known")
    elif isinstance(evidence.above[0] if evidence.above else None, AgreementTest):
        bound = 100 * (1 - LEVEL ** (1 / evidence.seeds))
        remark = _joined(remark, f"{evidence.seeds} seeds agree: up to {bound:.0f} % may differ")
    return Finding(
        task, _verdict(p_value, p_against), evidence.effect, below, above, p_value, p_against,
        evidence.seeds, remark, part, evidence,
    )  # fmt: skip


def judge_trend(
    task: str,
    table: npt.ArrayLike,
    settings: Sequence[float],
    rising: bool = True,
    *,
    cost: bool = False,
) -> Finding:
    """Whether the means of a quantity rise (or fall) along the settings.

    Tested is the linear contrast of the means over the order of the settings, by seed; unlike a
    rank test it is about means, which matters for costs that are mostly zero. The effect is the
    change of the fitted line from the first setting to the last.

    Args:
        task: named in the finding.
        table: [seeds, settings], NaN where there is no value; seeds that lack one are left out.
        settings: the values along the columns, ascending.
        rising: the direction claimed.
        cost: the values are costs.
    """
    values = np.asarray(table, np.float64).reshape(-1, len(settings))
    values = values[np.isfinite(values).all(axis=1)]
    if len(values) == 0 or len(settings) < 2:
        return Finding(task, UNDECIDED, NAN, remark="no seed has every setting")
    order = np.arange(len(settings)) - (len(settings) - 1) / 2
    weights = (len(settings) - 1) * order / float(order @ order)
    means = values.mean(axis=0)
    steps = np.diff(means) if rising else -np.diff(means)
    inversions = int((steps < -1e-9).sum())
    remark = f"{means[0]:.2f} at {settings[0]:g}, {means[-1]:.2f} at {settings[-1]:g}"
    remark += f"; {inversions} inversion{'' if inversions == 1 else 's'} of the means"
    if unvaried(*values.T):
        return Finding(task, NOT_TESTED, 0.0, seeds=len(values), remark=UNVARIED)
    evidence = contrast(list(values.T), weights.tolist(), cost=cost)
    low, high = (0.0, np.inf) if rising else (-np.inf, 0.0)
    return judge_evidence(task, evidence, low, high, remark)


def judge_difference(task: str, larger: npt.ArrayLike, smaller: npt.ArrayLike) -> Finding:
    """Whether one unpaired sample over seeds has the larger mean (Welch's test)."""
    samples = [np.asarray(values, np.float64) for values in (larger, smaller)]
    one, other = (values[np.isfinite(values)] for values in samples)
    if min(len(one), len(other)) == 0:
        return Finding(task, UNDECIDED, NAN, remark="no values to compare")
    remark = f"{one.mean():.2f} against {other.mean():.2f}"
    evidence = contrast([one, other], [1.0, -1.0], paired=False)
    return judge_evidence(task, evidence, 0.0, remark=remark)


def judge_paired(
    task: str, differences: npt.ArrayLike, remark: str = "", part: str = ""
) -> Finding:
    """Whether the mean of paired differences, one a seed, is positive.

    Where both values of a pair are at hand `judge_contrast` knows more: it sees zeros.
    """
    return judge_range(task, differences, low=0.0, remark=remark, part=part, guard=False)


def judge_contrast(
    task: str,
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    remark: str = "",
    part: str = "",
    *,
    cost: bool = False,
) -> Finding:
    """Whether the mean of `one` less that of `other`, paired by seed, lies within [low, high]."""
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    whole = np.isfinite(first) & np.isfinite(second)
    if not whole.any():
        return Finding(task, UNDECIDED, NAN, remark="no seed has both", part=part)
    if unvaried(first[whole], second[whole]):
        seeds = int(whole.sum())
        return Finding(task, NOT_TESTED, 0.0, seeds=seeds, remark=UNVARIED, part=part)
    evidence = contrast([first[whole], second[whole]], [1.0, -1.0], cost=cost)
    return judge_evidence(task, evidence, low, high, remark, part)


def judge_range(
    task: str,
    values: npt.ArrayLike,
    low: float = -np.inf,
    high: float = np.inf,
    remark: str = "",
    part: str = "",
    *,
    cost: bool = False,
    guard: bool = True,
) -> Finding:
    """Whether a mean over seeds lies within [low, high]; the effect is the mean.

    Args:
        cost: the values are costs.
        guard: allow for failures not seen, where no value is negative.
    """
    sample = np.asarray(values, np.float64)
    sample = sample[np.isfinite(sample)]
    if len(sample) == 0:
        return Finding(task, UNDECIDED, NAN, remark="no seed has a value", part=part)
    evidence = contrast([sample], cost=cost, guard=guard)
    return judge_evidence(task, evidence, low, high, remark, part)


def judge_spread(
    task: str, steady: npt.ArrayLike, other: npt.ArrayLike, remark: str = ""
) -> Finding:
    """Whether `other` varies more over seeds than `steady` (Brown and Forsythe's test).

    The effect is the difference of the mean absolute deviations from the median.
    """
    samples = [np.asarray(values, np.float64) for values in (other, steady)]
    deviations = [
        np.abs(values - np.median(values))
        for values in (sample[np.isfinite(sample)] for sample in samples)
        if len(values)
    ]
    if len(deviations) < 2:
        return Finding(task, UNDECIDED, NAN, remark="no values to compare")
    evidence = contrast(deviations, [1.0, -1.0], paired=False, guard=False)
    return judge_evidence(task, evidence, 0.0, remark=remark)


UNVARIED = "both gave the same values in every seed: nothing was varied"


def unvaried(*samples: FloatArray) -> bool:
    """Whether settings gave identical values, seed by seed, that do differ between seeds.

    Then the setting did not take part. Constants, such as costs of 0, may be equal by merit.
    """
    first = samples[0]
    same = all(np.array_equal(first, sample) for sample in samples[1:])
    return same and len(first) > 1 and float(np.ptp(first)) > 0


def decide(claim: Claim, findings: Sequence[Finding]) -> Finding:
    """A claim's findings put together, as its quantifier asks.

    Every task: supported where every finding is, each at `LEVEL` (an intersection-union test,
    which needs no correction); contradicted where one is after Bonferroni's correction. On
    average: the mean over tasks, each with its own spread, for every part by itself. Some task:
    the reverse of every task. Numbers that are printed are read off and have no p-values.
    """
    about = [f for f in findings if not claim.tasks or f.task in (*claim.tasks, ALL_TASKS)]
    tested = [f for f in about if f.verdict != NOT_TESTED]
    if not tested:
        return Finding("", NOT_TESTED, NAN, remark=_why_not(claim, about or findings))
    if all(np.isnan(f.p_value) and not f.evidence for f in tested):
        return _read_off(claim, tested)
    if claim.quantifier == ON_AVERAGE:
        parts = dict.fromkeys(f.part for f in tested)
        tested = [_average(claim, [f for f in tested if f.part == part]) for part in parts]
    claimed = np.array([1.0 if np.isnan(f.p_value) else f.p_value for f in tested])
    contrary = np.array([1.0 if np.isnan(f.p_against) else f.p_against for f in tested])
    count = len(tested)
    if claim.quantifier == SOME_TASK:
        p_value, p_against = min(1.0, count * claimed.min()), float(contrary.max())
        place = int(claimed.argmin())
    else:
        p_value, p_against = float(claimed.max()), min(1.0, count * float(contrary.min()))
        place = int(contrary.argmin() if p_against < LEVEL else claimed.argmax())
    missing = [task for task in claim.tasks if task not in {f.task for f in about}]
    if missing and claim.quantifier == EVERY_TASK and about[0].task != ALL_TASKS:
        p_value = 1.0
    shown = tested[place]
    return replace(
        shown, verdict=_verdict(p_value, p_against), p_value=p_value, p_against=p_against
    )


def _average(claim: Claim, findings: Sequence[Finding]) -> Finding:
    """The finding about the mean over tasks; by Stouffer's method where there is no evidence to
    be pooled."""
    whole = [f for f in findings if f.task == ALL_TASKS]
    if whole or len(findings) == 1:
        return (whole or list(findings))[0]
    evidence = [f.evidence for f in findings if f.evidence]
    part, remark = findings[0].part, f"mean of {len(findings)} tasks"
    if len(evidence) == len(findings):
        low, high = claim.margin
        return judge_evidence(ALL_TASKS, pool(evidence), low, high, remark, part)
    from scipy import stats

    ps = [(f.p_value, f.p_against) for f in findings if not np.isnan(f.p_value)]
    both = [
        float(stats.combine_pvalues(np.clip(column, 1e-12, 1 - 1e-12), "stouffer").pvalue)
        for column in np.array(ps).T
    ]
    effect = float(np.mean([f.effect for f in findings]))
    seeds = min(f.seeds for f in findings)
    return Finding(
        ALL_TASKS, _verdict(*both), effect, NAN, NAN, both[0], both[1], seeds, remark, part
    )


def _read_off(claim: Claim, findings: Sequence[Finding]) -> Finding:
    verdicts = {f.verdict for f in findings}
    wins, loses = (
        (SUPPORTED, CONTRADICTED) if claim.quantifier == SOME_TASK else (CONTRADICTED, SUPPORTED)
    )
    verdict = wins if wins in verdicts else loses if verdicts == {loses} else UNDECIDED
    shown = next((f for f in findings if f.verdict == verdict), findings[0])
    return replace(shown, verdict=verdict)


def _why_not(claim: Claim, findings: Sequence[Finding]) -> str:
    for finding in findings:
        if finding.verdict == NOT_TESTED and finding.remark:
            return finding.remark
    if claim.tasks:
        return f"it is about {', '.join(claim.tasks)}, of which there are no results"
    return "these results do not bear on it"


def _verdict(p_value: float, p_against: float) -> str:
    if p_value < LEVEL <= p_against:
        return SUPPORTED
    return CONTRADICTED if p_against < LEVEL <= p_value else UNDECIDED


def _joined(*texts: str) -> str:
    return "; ".join(filter(None, texts))


def score(claims: Sequence[Claim], results: pandas.DataFrame) -> pandas.DataFrame:
    """The scorecard: one row per claim, task and part.

    Beside the finding's own columns stand, equal in every row of a claim, `claim_verdict`,
    `claim_p_value` and `claim_p_against`: what `decide` makes of its findings, before any
    correction for the number of claims. On average over several tasks, the mean has a row.
    """
    rows: list[dict[str, Any]] = []
    for claim in claims:
        found = claim.judge(results)
        whole = decide(claim, found)
        shown = [
            replace(f, verdict=NOT_TESTED, p_value=NAN, p_against=NAN, low=NAN, high=NAN)
            if claim.tasks and f.task not in (*claim.tasks, ALL_TASKS)
            else f
            for f in found
        ]
        if claim.quantifier == ON_AVERAGE:
            for part in dict.fromkeys(f.part for f in shown):
                own = [f for f in shown if f.part == part and f.verdict != NOT_TESTED]
                if len({f.task for f in own}) > 1 and ALL_TASKS not in {f.task for f in own}:
                    shown.append(_average(claim, own))
        for finding in shown or [whole]:
            rows.append(
                {
                    "claim": claim.name,
                    "about": _about(claim, results),
                    "quantifier": claim.quantifier,
                    "task": finding.task,
                    "part": finding.part,
                    "verdict": finding.verdict,
                    "effect": finding.effect,
                    "low": finding.low,
                    "high": finding.high,
                    "p_value": finding.p_value,
                    "p_against": finding.p_against,
                    "seeds": finding.seeds,
                    "remark": finding.remark,
                    "estimand": claim.estimand,
                    "margin_low": claim.margin[0],
                    "margin_high": claim.margin[1],
                    "statement": claim.statement,
                    "claim_verdict": whole.verdict,
                    "claim_p_value": whole.p_value,
                    "claim_p_against": whole.p_against,
                    "claim_remark": whole.remark,
                }
            )
    return pandas.DataFrame(rows)


def _about(claim: Claim, results: pandas.DataFrame) -> str:
    if claim.about != DATASETS:
        return claim.about
    collected = "collected" in results and bool(results["collected"].astype(bool).any())
    return OUR_DATA if collected else RESULTS


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's adjusted p-values of a family; NaN, of what is not tested, stays NaN."""
    values = np.asarray(p_values, np.float64)
    adjusted = np.full(len(values), np.nan)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    steps = values[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted


def claim_verdicts(findings: pandas.DataFrame) -> pandas.DataFrame:
    """One row a claim, with its verdict after Holm's correction over the claims of its paper.

    Args:
        findings: scorecards with the columns `paper` and `ablation` beside those of `score`.

    Returns:
        paper, ablation, about, claim, quantifier, statement, verdict, p_value and p_against (raw),
        adjusted and adjusted_against (Holm, over the claims of the paper that are judged on
        results, or on our data), remark.
    """
    keys = ["paper", "ablation", "about", "claim"]
    first = findings.drop_duplicates(keys)
    rows = first[[*keys, "quantifier", "statement"]].assign(
        verdict=first["claim_verdict"],
        p_value=first["claim_p_value"].astype(float),
        p_against=first["claim_p_against"].astype(float),
        remark=first["claim_remark"],
    )
    rows["adjusted"] = rows.groupby(["paper", "about"])["p_value"].transform(holm)
    rows["adjusted_against"] = rows.groupby(["paper", "about"])["p_against"].transform(holm)
    judged = rows["adjusted"].notna() & (rows["verdict"] != NOT_TESTED)
    rows.loc[judged, "verdict"] = [
        _verdict(p, q)
        for p, q in zip(
            rows.loc[judged, "adjusted"], rows.loc[judged, "adjusted_against"], strict=True
        )
    ]
    return rows.reset_index(drop=True)
