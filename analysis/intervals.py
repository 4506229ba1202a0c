"""Intervals of means over seeds: the one policy of claims, statistics and confirmations."""

import numpy as np
import numpy.typing as npt
from scipy import stats


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and two-sided Student interval over seeds; the interval is NaN for fewer than two."""
    sample = np.asarray(values, np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, float("nan"), float("nan")
    error = float(sample.std(ddof=1)) / np.sqrt(len(sample))
    half = float(stats.t.ppf(0.5 + level / 2, len(sample) - 1)) * error
    return mean, mean - half, mean + half
