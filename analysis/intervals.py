"""Intervals over seeds: the one policy of claims, statistics and confirmations.

- Means: Student's, of one task; of several tasks the same with Welch's degrees of freedom.
- Other statistics (interquartile mean, median): the bootstrap's standard error times Student's
  quantile, since a percentile interval of a few seeds is too narrow by far.
- Shares (of runs above a threshold, of runs within the limit, of comparisons won): exact binomial.

Coverage of nominal 95 % intervals: `python -m tests.benchmarks.interval_coverage`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

FEW_SEEDS = 5
"""With fewer, whatever is said of a task is flagged."""


def student_quantile(level: float, freedom: float) -> float:
    """The quantile of Student's distribution; NaN without degrees of freedom."""
    # Imported in a tenth of the time of `scipy.stats`, and only where it is asked for.
    from scipy import special

    return float(special.stdtrit(freedom, level))


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and two-sided Student interval over seeds; the interval is NaN for fewer than two."""
    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, float("nan"), float("nan")
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    half = student_quantile(0.5 + level / 2, len(sample) - 1) * error
    return mean, mean - half, mean + half


def mean_over_tasks_interval(
    strata: Sequence[FloatArray], level: float = 0.95
) -> tuple[float, float, float]:
    """Mean over tasks of the means over seeds, with Welch's interval; of one task Student's.

    The interval is NaN where a task has a single seed: its spread is not known.
    """
    mean = float(np.mean([task.mean() for task in strata]))
    if any(len(task) < 2 for task in strata):
        return mean, float("nan"), float("nan")
    errors = _squared_errors(strata)
    half = float(student_quantile(0.5 + level / 2, _freedom(strata)) * np.sqrt(errors.sum()))
    return mean, mean - half, mean + half


def studentized_interval(
    value: float,
    statistic: Callable[[Sequence[FloatArray]], FloatArray],
    strata: Sequence[FloatArray],
    level: float,
    samples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Two-sided interval of any statistic: bootstrap standard error times Student's quantile.

    Seeds are drawn within their task, with deviations from its mean enlarged by sqrt(n / (n - 1)):
    the spread of n draws from n seeds is too small by that (Davison and Hinkley, 1997, section
    2.3; McCarthy and Snowden, 1985). Degrees of freedom are those of the mean. NaN where a task
    has a single seed.

    Args:
        value: the statistic of `strata`.
        statistic: of a list of [samples, seeds] arrays, one a task, to [samples].
    """
    if any(len(task) < 2 for task in strata):
        return float("nan"), float("nan")
    drawn = []
    for task in strata:
        count = len(task)
        wide = task.mean() + (task - task.mean()) * np.sqrt(count / (count - 1))
        drawn.append(wide[generator.integers(0, count, (samples, count))])
    error = float(np.std(statistic(drawn), ddof=1))
    half = student_quantile(0.5 + level / 2, _freedom(strata)) * error
    return value - half, value + half


def share_interval(share: float, counts: Sequence[int], level: float = 0.95) -> tuple[float, float]:
    """Two-sided Clopper-Pearson interval of a share that is the mean over tasks of so many trials.

    Several tasks weigh as T^2 / sum(1 / n) trials, as many as give a single share that variance.
    Nothing that all trials agree about is certain: of two successes in two the interval is 0.16
    to 1.
    """
    from scipy import special

    trials = len(counts) ** 2 / sum(1 / count for count in counts)
    hits, tail = share * trials, (1 - level) / 2
    low = 0.0 if share <= 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if share >= 1 else float(special.betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def _squared_errors(strata: Sequence[FloatArray]) -> FloatArray:
    """What each task adds to the squared standard error of the mean over tasks."""
    return np.array([task.var(ddof=1) / len(task) for task in strata]) / len(strata) ** 2


def _freedom(strata: Sequence[FloatArray]) -> float:
    """Welch's degrees of freedom of the mean over tasks."""
    errors = _squared_errors(strata)
    counts = np.array([len(task) for task in strata])
    if not errors.any():
        return float((counts - 1).sum())
    return float(errors.sum() ** 2 / (errors**2 / (counts - 1)).sum())
