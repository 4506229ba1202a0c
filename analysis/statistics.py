"""How sure one can be of results: intervals, profiles, comparisons, and the optimism of a choice.

Every function takes a frame with one row per run and task (`algorithm, task, config_id, seed` and
the scores, as `ResultStore.evaluations` has them at one step) and is deterministic: resampling
follows from `seed`, which the caller gives, and not from any global state.

The unit that is resampled is the seed within its task (a stratified bootstrap: each task keeps its
number of seeds), because seeds of one task are alike and tasks are not. With `tasks=True` the tasks
are drawn too, which answers for tasks like these instead of for these tasks, and gives wider
intervals. Source: Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice"; their library rliable draws from numpy's global state whatever random seed
it is given, so its intervals cannot be repeated; hence this module.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.intervals import (
    FEW_SEEDS,
    mean_interval,
    mean_over_tasks_interval,
    share_interval,
    student_quantile,
    studentized_interval,
)
from safesweep.analysis.selection.candidates import without_stopped_runs
from safesweep.search_spaces.validation import InvalidInput, require_choice, require_number
from safesweep.trainables.store.scores import at_cost_limit, within_limit

FloatArray = npt.NDArray[np.float64]
Scores = Mapping[str, npt.ArrayLike]
"""Task -> scores of its seeds, any number of them."""

SAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its interval (NaN where there is too little to resample)."""

    value: float
    low: float
    high: float


def mean(strata: Sequence[FloatArray]) -> FloatArray:
    """Mean over tasks of the means over seeds. `strata`: one [..., seeds] a task."""
    over_tasks: FloatArray = np.mean([task.mean(axis=-1) for task in strata], axis=0)
    return over_tasks


def interquartile_mean(strata: Sequence[FloatArray]) -> FloatArray:
    """Mean of the middle half of all (task, seed) scores; a task counts by its number of seeds."""
    scores = np.sort(np.concatenate(strata, axis=-1), axis=-1)
    quarter = scores.shape[-1] // 4
    middle: FloatArray = scores[..., quarter : scores.shape[-1] - quarter].mean(axis=-1)
    return middle


def median(strata: Sequence[FloatArray]) -> FloatArray:
    """Median over tasks of the means over seeds; of a single task, the median over its seeds."""
    values, axis = (
        (strata[0], -1) if len(strata) == 1 else ([task.mean(axis=-1) for task in strata], 0)
    )
    middle: FloatArray = np.median(values, axis=axis)
    return middle


STATISTICS: dict[str, Callable[[Sequence[FloatArray]], FloatArray]] = {
    "mean": mean,
    "iqm": interquartile_mean,
    "median": median,
}


def estimate(
    scores: Scores,
    statistic: str | Callable[[Sequence[FloatArray]], FloatArray] = "iqm",
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> Estimate:
    """A statistic over tasks and seeds with its two-sided interval (`analysis.intervals`).

    Of the mean it is Student's over seeds; of another statistic the stratified bootstrap's standard
    error times Student's quantile. With `tasks` the tasks are drawn as well, and the quantile is
    that of one degree of freedom less than tasks. The interval is NaN where a task has one seed
    (with `tasks`: where there is one task and it has one): nothing is known of the spread then.

    Args:
        scores: task -> scores of its seeds; all finite.
        statistic: a name in STATISTICS, or a function of a list of [..., seeds] arrays, one a
            task, to [...].
        confidence: such as 0.95.
        samples: bootstrap resamples.
        seed: of the resampling.
        tasks: draw the tasks as well.

    Raises:
        InvalidInput: no scores, an unknown statistic, or an option out of range.
    """
    function = _statistic(statistic)
    strata = _strata(scores)
    value = float(function(strata))
    _check(confidence, samples)
    if tasks and len(strata) > 1:
        draws = np.concatenate(
            [function(drawn) for drawn in _resamples(strata, samples, seed)], axis=0
        )
        error = float(np.std(draws, ddof=1)) * np.sqrt(len(strata) / (len(strata) - 1))
        half = student_quantile((1 + confidence) / 2, len(strata) - 1) * error
        return Estimate(value, value - half, value + half)
    if function is mean:
        return Estimate(*mean_over_tasks_interval(strata, confidence))
    generator = np.random.default_rng(seed)
    ends = studentized_interval(value, function, strata, confidence, samples, generator)
    return Estimate(value, *ends)


def _statistic(
    statistic: str | Callable[[Sequence[FloatArray]], FloatArray],
) -> Callable[[Sequence[FloatArray]], FloatArray]:
    if callable(statistic):
        return statistic
    return STATISTICS[require_choice("statistic", statistic, STATISTICS)]


def _check(confidence: float, samples: int) -> None:
    require_number("confidence", confidence, 0.5, 0.999999)
    require_number("samples", samples, 100, integer=True)


def _strata(scores: Scores) -> list[FloatArray]:
    """The scores by task, in the tasks' order and sorted, so that the order of rows is nothing."""
    strata = [np.sort(np.asarray(scores[task], np.float64)) for task in sorted(scores)]
    if not strata or any(len(task) == 0 for task in strata):
        raise InvalidInput("scores: a task has none; every task must have a seed's score")
    if not all((np.isfinite(task) | (task == -np.inf)).all() for task in strata):
        raise InvalidInput("scores: not all are finite; leave out what has no score first")
    return strata


def _resamples(strata: Sequence[FloatArray], samples: int, seed: int) -> Iterator[list[FloatArray]]:
    """Resamples of tasks and of their seeds: one [1, seeds] a task."""
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        chosen = generator.integers(0, len(strata), len(strata))
        yield [
            strata[index][generator.integers(0, len(strata[index]), (1, len(strata[index])))]
            for index in chosen
        ]


def safe_rewards(evaluations: pandas.DataFrame, metric: str) -> pandas.DataFrame:
    """The frame with a column `safe_reward`: the reward of runs that keep the limit, and minus
    infinity for those that do not (normalised cost above 1), which no reward makes up for.

    Raises:
        InvalidInput: there is no `normalized_cost`, or no such reward.
    """
    missing = [name for name in (metric, "normalized_cost") if name not in evaluations]
    if missing:
        raise InvalidInput(f"evaluations: missing column {', '.join(missing)}")
    rewards = evaluations[metric].to_numpy(np.float64)
    costs = evaluations["normalized_cost"].to_numpy(np.float64)
    safe = np.where(within_limit(costs), rewards, -np.inf)
    known = np.isfinite(costs) & np.isfinite(rewards)
    return evaluations.assign(safe_reward=np.where(known, safe, np.nan))


def run_scores(
    evaluations: pandas.DataFrame, by: Sequence[str], metric: str
) -> dict[tuple[object, ...], dict[str, FloatArray]]:
    """Scores by group and task, one a (configuration, policy, seed).

    Rows of the same (group, task, config_id, policy, seed) are averaged first, so that a
    duplicated row weighs nothing. Runs without a score, and those that were stopped early
    (`run_status`), are left out. A score of minus infinity is one (`safe_rewards`).

    Raises:
        InvalidInput: a missing column, or evaluations at more than one step of a run.
    """
    policies = ["policy"] if "policy" in evaluations else []
    keys = list(dict.fromkeys([*by, "task", "config_id", *policies, "seed"]))
    missing = [name for name in (*keys, metric) if name not in evaluations]
    if missing:
        raise InvalidInput(f"evaluations: missing column {', '.join(missing)}")
    frame = without_stopped_runs(evaluations)
    values = frame[metric].to_numpy(np.float64)
    frame = frame[np.isfinite(values) | (values == -np.inf)]
    if "step" in frame and (frame.groupby(keys, dropna=False)["step"].nunique() > 1).any():
        raise InvalidInput(
            "evaluations: a run has several steps; keep one, such as that of a selection"
        )
    per_run = frame.groupby(keys, sort=True, dropna=False)[metric].mean().reset_index()
    groups: dict[tuple[object, ...], dict[str, FloatArray]] = {}
    for key, runs in per_run.groupby(list(by), sort=True, dropna=False):
        groups[key] = {
            str(task): scores.to_numpy(np.float64) for task, scores in runs.groupby("task")[metric]
        }
    return groups


def summarize(
    evaluations: pandas.DataFrame,
    by: Sequence[str] = ("algorithm",),
    metrics: Sequence[str] = ("normalized_reward", "normalized_cost"),
    statistics: Sequence[str] = ("mean", "iqm", "median"),
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> pandas.DataFrame:
    """Statistics with intervals, per method or per configuration.

    Args:
        evaluations: one step of each run.
        by: what a row is about: `("algorithm",)` per method, over its tasks; add `task` and
            `config_id` for one row per configuration.
        metrics: columns of scores.
        statistics: names in STATISTICS.

    Returns:
        Columns `*by, metric, statistic, value, low, high, tasks, seeds` (seeds of all tasks),
        `few_seeds` (a task has fewer than five).

    Raises:
        InvalidInput: a missing column, an unknown statistic, or an option out of range.
    """
    rows = []
    for metric in metrics:
        for group, scores in run_scores(evaluations, by, metric).items():
            for name in statistics:
                found = estimate(
                    scores, name, confidence=confidence, samples=samples, seed=seed, tasks=tasks
                )
                rows.append(
                    {
                        **dict(zip(by, group, strict=True)),
                        "metric": metric,
                        "statistic": name,
                        "value": found.value,
                        "low": found.low,
                        "high": found.high,
                        "tasks": len(scores),
                        "seeds": sum(len(np.asarray(task)) for task in scores.values()),
                        "few_seeds": _few(scores),
                    }
                )
    columns = [*by, "metric", "statistic", "value", "low", "high", "tasks", "seeds", "few_seeds"]
    frame = pandas.DataFrame(rows, columns=columns)
    return frame.sort_values([*by, "metric", "statistic"], kind="stable").reset_index(drop=True)


def performance_profile(
    evaluations: pandas.DataFrame,
    thresholds: npt.ArrayLike,
    by: Sequence[str] = ("algorithm",),
    metric: str = "normalized_reward",
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> pandas.DataFrame:
    """For each threshold the share of runs whose safe reward is above it; each task weighs alike.

    A run that breaks the limit is below every threshold (`safe_rewards`); with the cost as metric
    it is the share of runs that cost more. The intervals are exact, of the binomial, and pointwise:
    each threshold's own, not a band for all at once. With `tasks` they are no narrower than with
    tasks drawn as well.

    Returns:
        Columns `*by, metric, threshold, value, low, high, few_seeds`; `metric` says `safe_reward`.
    """
    evaluations, metric = _by_safety(evaluations, metric)
    rows = []
    for group, scores in run_scores(evaluations, by, metric).items():
        for threshold in np.atleast_1d(np.asarray(thresholds, np.float64)):
            above = {task: (values > threshold).astype(float) for task, values in scores.items()}
            found = _share(above, confidence, samples, seed, tasks)
            rows.append(
                {
                    **dict(zip(by, group, strict=True)),
                    "metric": metric,
                    "threshold": float(threshold),
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                    "few_seeds": _few(scores),
                }
            )
    columns = [*by, "metric", "threshold", "value", "low", "high", "few_seeds"]
    return pandas.DataFrame(rows, columns=columns)


def _by_safety(evaluations: pandas.DataFrame, metric: str) -> tuple[pandas.DataFrame, str]:
    """The frame and the column by which runs are compared: rewards count only where safe."""
    if "cost" in metric:
        return evaluations, metric
    return safe_rewards(evaluations, metric), "safe_reward"


def _few(*scores: Scores) -> bool:
    return any(len(np.asarray(task)) < FEW_SEEDS for one in scores for task in one.values())


def _share(hits: Scores, confidence: float, samples: int, seed: int, tasks: bool) -> Estimate:
    """Mean over tasks of the shares of ones among zeros, with the exact interval."""
    _check(confidence, samples)
    strata = _strata(hits)
    value = float(np.mean([task.mean() for task in strata]))
    low, high = share_interval(value, [len(task) for task in strata], confidence)
    if tasks and len(strata) > 1:
        drawn = estimate(
            hits, "mean", confidence=confidence, samples=samples, seed=seed, tasks=True
        )
        low, high = max(0.0, min(low, drawn.low)), min(1.0, max(high, drawn.high))
    return Estimate(value, low, high)


def probability_of_improvement(
    one: Scores,
    other: Scores,
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> Estimate:
    """How likely a run of `one` scores higher than a run of `other` on the same task.

    The mean over the common tasks of P(one > other) + P(one = other) / 2, which is the
    Mann-Whitney statistic over the number of pairs. It is a mean over all ways to pair the fewer
    seeds with others, each so many independent comparisons (Hoeffding, 1963), so the exact
    binomial interval of that number of comparisons holds for it, and is on the wide side. With
    `tasks` it is no narrower than that of a bootstrap of tasks and seeds. Scores of minus infinity
    are allowed, and equal.

    Raises:
        InvalidInput: no common task, or an option out of range.
    """
    common = sorted(set(one) & set(other))
    if not common:
        raise InvalidInput("tasks: the two have none in common; they must share at least one")
    _check(confidence, samples)
    ours = _strata({task: one[task] for task in common})
    theirs = _strata({task: other[task] for task in common})
    value = float(np.mean([_share_above(a, b) for a, b in zip(ours, theirs, strict=True)]))
    fewer = [min(len(a), len(b)) for a, b in zip(ours, theirs, strict=True)]
    low, high = share_interval(value, fewer, confidence)
    if not tasks or len(common) < 2:
        return Estimate(value, low, high)
    generator = np.random.default_rng(seed)
    # [samples, tasks]: how often each task's resample of one beats that of the other.
    shares = np.stack(
        [
            _share_above(
                a[generator.integers(0, len(a), (samples, len(a)))],
                b[generator.integers(0, len(b), (samples, len(b)))],
            )
            for a, b in zip(ours, theirs, strict=True)
        ],
        axis=1,
    )
    drawn = generator.integers(0, len(common), shares.shape)
    means = np.take_along_axis(shares, drawn, axis=1).mean(axis=1)
    ends = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, min(low, float(ends[0])), max(high, float(ends[1])))


def _share_above(one: FloatArray, other: FloatArray) -> FloatArray:
    """P(one > other) + P(one = other) / 2 for [..., n] and [..., m]."""
    ours, theirs = one[..., :, None], other[..., None, :]
    wins = (ours > theirs).astype(np.float64) + 0.5 * (ours == theirs)
    return np.asarray(wins.mean(axis=(-2, -1)))


def compare(
    evaluations: pandas.DataFrame,
    by: Sequence[str] = ("algorithm",),
    metric: str = "normalized_reward",
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> pandas.DataFrame:
    """`probability_of_improvement` of every group over every other one that shares a task.

    An unsafe score is no improvement: a run that breaks the limit is below every one that keeps it,
    whatever its reward, and equal to another one that breaks it (`safe_rewards`).

    Returns:
        Columns `one, other, metric, value, low, high, tasks, few_seeds`; groups are named by their
        values of `by`, joined by spaces; `metric` says `safe_reward`.
    """
    evaluations, metric = _by_safety(evaluations, metric)
    groups = run_scores(evaluations, by, metric)
    rows = []
    for one, ours in groups.items():
        for other, theirs in groups.items():
            shared = set(ours) & set(theirs)
            if one == other or not shared:
                continue
            found = probability_of_improvement(
                ours, theirs, confidence=confidence, samples=samples, seed=seed, tasks=tasks
            )
            rows.append(
                {
                    "one": " ".join(map(str, one)),
                    "other": " ".join(map(str, other)),
                    "metric": metric,
                    "value": found.value,
                    "low": found.low,
                    "high": found.high,
                    "tasks": len(shared),
                    "few_seeds": _few(
                        {str(task): ours[str(task)] for task in shared},
                        {str(task): theirs[str(task)] for task in shared},
                    ),
                }
            )
    columns = ["one", "other", "metric", "value", "low", "high", "tasks", "few_seeds"]
    return pandas.DataFrame(rows, columns=columns)


def probability_safe(
    evaluations: pandas.DataFrame,
    by: Sequence[str] = ("algorithm",),
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
    tasks: bool = False,
) -> pandas.DataFrame:
    """How likely a run keeps the limit: its mean normalised cost is at most 1.

    Over several tasks the value is the mean over tasks. The interval is exact (Clopper and
    Pearson, two-sided); with `tasks` no narrower than with tasks drawn as well.

    Returns:
        Columns `*by, value, low, high, safe_runs, runs, tasks, few_seeds`.
    """
    rows = []
    for group, costs in run_scores(evaluations, by, "normalized_cost").items():
        kept = {task: within_limit(values).astype(np.float64) for task, values in costs.items()}
        safe = int(sum(values.sum() for values in kept.values()))
        runs = sum(len(values) for values in kept.values())
        found = _share(kept, confidence, samples, seed, tasks)
        rows.append(
            {
                **dict(zip(by, group, strict=True)),
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "safe_runs": safe,
                "runs": runs,
                "tasks": len(kept),
                "few_seeds": _few(kept),
            }
        )
    columns = [*by, "value", "low", "high", "safe_runs", "runs", "tasks", "few_seeds"]
    return pandas.DataFrame(rows, columns=columns)


def rows_of_choice(evaluations: pandas.DataFrame, chosen: pandas.DataFrame) -> pandas.DataFrame:
    """The evaluations that a selection judged the chosen configurations by.

    Args:
        evaluations: what `select` was given.
        chosen: what it returned.
    """
    keys = [name for name in ("algorithm", "task", "policy", "config_id", "step")
            if name in chosen and name in evaluations]  # fmt: skip
    wanted = chosen[chosen["config_id"].notna()][keys].drop_duplicates()
    if wanted.empty:  # its columns have no types that a merge could compare
        return evaluations.iloc[:0]
    return evaluations.merge(wanted, on=keys, how="inner")


EVIDENCE = ("as chosen", "fresh episodes", "fresh seeds")
"""What scores of a choice are from, the weakest first."""


def with_confirmations(rows: pandas.DataFrame, confirmations: pandas.DataFrame) -> pandas.DataFrame:
    """Of a choice's rows those that it was made on, replaced by confirmations where there are.

    What was chosen by its evaluations looks better on them than it is. Of each configuration and
    policy the rows of fresh seeds stand in where there are any, else those of the same runs on
    fresh episodes, with costs at the limit of the rows that they replace.

    Args:
        rows: the rows behind the choice (`rows_of_choice`).
        confirmations: the table of a store, any rows of it.

    Returns:
        The columns of `rows` and `evidence`, one of `EVIDENCE`.
    """
    keys = ["task", "policy", "config_id"]
    if confirmations.empty or "policy" not in rows:
        return rows.assign(evidence=EVIDENCE[0])
    kinds = {"evaluated": EVIDENCE[1], "retrained": EVIDENCE[2]}
    parts = []
    for key, chosen in rows.groupby(keys, sort=False, dropna=False):
        same = np.logical_and.reduce(
            [confirmations[name] == value for name, value in zip(keys, key, strict=True)]
        )
        again = confirmations[same]
        kind = "retrained" if (again["kind"] == "retrained").any() else "evaluated"
        again = again[again["kind"] == kind]
        if again.empty:
            parts.append(chosen.assign(evidence=EVIDENCE[0]))
            continue
        limits: list[float] = []
        if "cost_limit" in chosen:
            limits = chosen["cost_limit"].dropna().unique().tolist()
        if len(limits) == 1:
            again = at_cost_limit(again, float(limits[0]))
        names = [name for name in rows.columns if name in again.columns]
        constant = {name: chosen[name].iloc[0] for name in ("algorithm", "step") if name in chosen}
        parts.append(again[names].assign(**constant, evidence=kinds[kind]))
    return pandas.concat(parts, ignore_index=True) if parts else rows.assign(evidence=EVIDENCE[0])


def optimism(
    selected: pandas.DataFrame, confirmed: pandas.DataFrame, confidence: float = 0.95
) -> pandas.DataFrame:
    """What a choice promised, what it kept, and the difference, with intervals over seeds.

    Optimism is how much better the selected value looks than the confirmed one: selected minus
    confirmed reward, confirmed minus selected cost. Where the same runs were evaluated again the
    seeds are paired (Student); where new seeds were trained they are not (Welch). Intervals are
    NaN for fewer than two seeds.

    Args:
        selected: the rows that the choice was made on (`rows_of_choice`).
        confirmed: rows of `confirmations`, or of new runs, with a column `kind` ("evaluated": the
            same runs; "retrained": new seeds).

    Returns:
        One row per (algorithm, task, policy, kind, metric): `config_id`, `selected`,
        `selected_low`, `selected_high`, the same of `confirmed` and of `optimism`, and
        `selected_seeds`, `confirmed_seeds`.
    """
    keys = [name for name in ("algorithm", "task", "policy", "config_id") if name in selected]
    rows = []
    for key, again in confirmed.groupby([*keys, "kind"], sort=True, dropna=False):
        named = dict(zip([*keys, "kind"], key, strict=True))
        mask = np.logical_and.reduce([selected[name] == named[name] for name in keys])
        first = selected[mask]
        for metric, sign in (("normalized_reward", 1.0), ("normalized_cost", -1.0)):
            before = first.groupby("seed")[metric].mean().dropna()
            after = again.groupby("seed")[metric].mean().dropna()
            if before.empty or after.empty:
                continue
            if named["kind"] == "evaluated":
                paired = (sign * (before - after)).dropna()
                gap = mean_interval(paired.to_numpy(), confidence)
            else:
                gap = _unpaired(sign * before.to_numpy(), sign * after.to_numpy(), confidence)
            row: dict[str, object] = {**named, "metric": metric}
            for name, interval in (
                ("selected", mean_interval(before.to_numpy(), confidence)),
                ("confirmed", mean_interval(after.to_numpy(), confidence)),
                ("optimism", gap),
            ):
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))
            rows.append({**row, "selected_seeds": len(before), "confirmed_seeds": len(after)})
    names = ("selected", "confirmed", "optimism")
    columns = [*keys, "kind", "metric"]
    columns += [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return pandas.DataFrame(rows, columns=[*columns, "selected_seeds", "confirmed_seeds"])


def _unpaired(one: FloatArray, other: FloatArray, confidence: float) -> tuple[float, float, float]:
    """Difference of two means with Welch's interval."""
    difference = float(one.mean() - other.mean())
    if len(one) < 2 or len(other) < 2:
        return difference, float("nan"), float("nan")
    errors = np.array([one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)])
    if not errors.any():
        return difference, difference, difference
    freedom = errors.sum() ** 2 / (errors**2 / [len(one) - 1, len(other) - 1]).sum()
    half = float(student_quantile(0.5 + confidence / 2, freedom) * np.sqrt(errors.sum()))
    return difference, difference - half, difference + half
