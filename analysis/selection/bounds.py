"""Confidence bounds of expected costs and of shares, from a few seeds or episodes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from safesweep.analysis.intervals import student_quantile
from safesweep.search_spaces.validation import InvalidInput

FloatArray = npt.NDArray[np.float64]

MOST_SEEDS = 100_000
"""Beyond which no number of seeds is looked for."""

MOST_TOGETHER = 400
"""Candidates that `shared_cost_bound` judges together: the time grows with their cube."""

_BOOTSTRAP_SAMPLES = 2000
_GAFFKE_SAMPLES = 20_000
_CELLS = 4_000_000
_SCORE_DECIMALS = 9


def cost_upper_bound(seed_costs: Sequence[npt.ArrayLike], confidence: float) -> FloatArray:
    """One-sided upper bounds on expected costs, from the costs of the seeds of each candidate.

    The larger of the studentised bootstrap bound and Student's t bound: the first follows skewed
    costs, the second holds the level where a handful of seeds gives the bootstrap few distinct
    resamples. The resamples are fixed, so the same costs always give the same bound. For
    one seed it is infinite; for seeds that agree exactly it is their value. It knows nothing of
    what no seed has shown: see `confident_safe`.

    Args:
        seed_costs: one array of seed costs a candidate, any lengths.
        confidence: level, such as 0.95.
    """
    bounds = np.full(len(seed_costs), np.inf)
    ordered = [np.sort(np.asarray(values, np.float64)) for values in seed_costs]
    lengths = np.array([len(values) for values in ordered], dtype=np.int64)
    for count in np.unique(lengths[lengths > 1]):
        members = np.flatnonzero(lengths == count)
        for start in range(0, len(members), max(1, _CELLS // (_BOOTSTRAP_SAMPLES * int(count)))):
            chunk = members[start : start + max(1, _CELLS // (_BOOTSTRAP_SAMPLES * int(count)))]
            bounds[chunk] = _bounds(np.stack([ordered[index] for index in chunk]), confidence)
    return bounds


def _bounds(costs: FloatArray, confidence: float) -> FloatArray:
    """Upper bounds for [candidates, seeds]."""
    count = costs.shape[1]
    mean, deviation = costs.mean(axis=1), costs.std(axis=1, ddof=1)
    error = deviation / np.sqrt(count)
    student = mean + student_quantile(confidence, count - 1) * error
    draws = np.random.default_rng(0).integers(0, count, (_BOOTSTRAP_SAMPLES, count))
    # Rounded standard scores: seeds shifted together must give the same pivots, and a resample of
    # equal seeds no spread, whatever the last digits say.
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.round((costs - mean[:, None]) / deviation[:, None], _SCORE_DECIMALS)
        resampled = scores[:, draws]
        shift = resampled.mean(axis=2)
        spread = resampled.std(axis=2, ddof=1) / np.sqrt(count)
        spread = np.where(spread > 10.0**-_SCORE_DECIMALS, spread, 0.0)
        pivots = np.where(spread > 0, shift / spread, np.sign(shift) * np.inf)
    pivots = np.where(np.isnan(pivots), 0.0, pivots)
    quantile = np.sort(pivots, axis=1)[:, int((1 - confidence) * _BOOTSTRAP_SAMPLES)]
    # A resample without spread says nothing about the scale; Student's bound stands alone then.
    bootstrap = mean - np.where(np.isfinite(quantile), quantile, 0.0) * error
    return np.where(error > 0, np.maximum(student, bootstrap), mean)


def shared_cost_bound(seed_costs: Sequence[npt.ArrayLike], confidence: float) -> FloatArray:
    """One-sided upper bounds on expected costs, of candidates that are judged together.

    How often a seed costs something and how much it costs then are taken to vary from candidate to
    candidate about common values, by as much as the costs show (`shared_estimates`); amounts have
    the same coefficient of variation in all. So a candidate of few seeds is bounded by what it
    shows and by what the others do: the level is meant on average over candidates such as these,
    and not for one that differs from all others. Candidates are taken in their order, at most 400
    together.

    Simulated at 90 % (`tests.benchmarks.shared_bound_coverage`) it holds in 88 to 92 % of cases for
    normal costs, and for zero-inflated ones in 76 to 83 % with 3 seeds and 89 to 97 % with 5 and
    more. It falls short where the model is wrong: 68 to 90 % for log-normal amounts of deviation
    1.2; 60 to 88 % where every seed costs a little and a rare one much; 78 to 90 % where amounts
    differ by a factor of 8; and of a minority that is unlike the rest, few are told apart by fewer
    than 12 seeds.

    Args:
        seed_costs: one array of normalised seed costs a candidate, at least one seed each.
        confidence: level, such as 0.9.
    """
    from safesweep.trainables.store.shared_estimates import Costs

    found = [np.zeros(0)]
    for start in range(0, len(seed_costs), MOST_TOGETHER):
        costs = [np.asarray(v, np.float64) for v in seed_costs[start : start + MOST_TOGETHER]]
        nowhere, rows = np.zeros((len(costs), 0)), np.arange(len(costs), dtype=np.float64)
        found.append(Costs(nowhere, costs).upper_bounds(nowhere, rows, confidence))
    return np.concatenate(found)


def bounded_mean_bound(
    seed_costs: Sequence[npt.ArrayLike], worst: float, confidence: float
) -> FloatArray:
    """One-sided upper bounds on expected costs that lie in [0, `worst`], whatever their law.

    The quantile of `worst` less the sum of u_(i) (c_(i+1) - c_(i)) over ordered uniform numbers u
    and costs c, with `worst` after the last: of n costs of 0 it is worst * (1 - (1 -
    confidence)^(1/n)). The uniform numbers are fixed, so the same costs give the same bound; of
    equal costs it is exact. Source: Gaffke (2005), "Three test statistics for a nonparametric
    one-sided hypothesis on the mean of a nonnegative variable"; Learned-Miller and Thomas (2020).
    That its level holds for every law is proven for a looser form and has no known exception.

    Raises:
        InvalidInput: a cost above `worst`.
    """
    bounds = np.full(len(seed_costs), float(worst))
    uniform: dict[int, FloatArray] = {}
    for index, given in enumerate(seed_costs):
        costs = np.sort(np.asarray(given, np.float64))
        if not len(costs):
            continue
        if costs[-1] > worst:
            raise InvalidInput(
                f"worst_cost: {worst:g} is not allowed; a seed cost {costs[-1]:.6g} times the limit"
            )
        lowest = costs[0]
        # Equal costs leave one term, whose quantile is known.
        if costs[-1] == lowest:
            bounds[index] = worst - (worst - lowest) * (1 - confidence) ** (1 / len(costs))
            continue
        if len(costs) not in uniform:
            drawn = np.random.default_rng(0).random((_GAFFKE_SAMPLES, len(costs)))
            uniform[len(costs)] = np.sort(drawn, axis=1)
        steps = np.diff(np.append(costs, worst))
        bounds[index] = float(np.quantile(worst - uniform[len(costs)] @ steps, confidence))
    return bounds


def seeds_needed(confidence: float, share: float, above: int = 0) -> int | None:
    """The fewest seeds, `above` of them above the limit, that bound the share of seeds above it by
    `share` at `confidence`; None where even 100,000 do not."""

    def enough(seeds: int) -> bool:
        return float(violation_upper_bound(above, seeds, confidence)) <= share

    low, high = above, MOST_SEEDS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def violation_upper_bound(
    violations: npt.ArrayLike, episodes: npt.ArrayLike, confidence: float
) -> FloatArray:
    """One-sided Clopper-Pearson upper bounds on the share of violating episodes.

    1 where there are no episodes.
    """
    from scipy import special

    hits, trials = np.asarray(violations, np.float64), np.asarray(episodes, np.float64)
    misses = np.maximum(trials - hits, 0.0)
    with np.errstate(invalid="ignore"):
        bound = special.betaincinv(hits + 1, misses, confidence)
    return np.where(misses > 0, bound, 1.0)
