"""Tests of means over seeds, and of contrasts of means, that hold for costs.

Costs are zero-inflated: most seeds keep the limit, a few fail by a lot. What few seeds do not show
is then the point, so that (`python -m tests.benchmarks.claims_audit` measures all of it):

- Values without spread are no certainty. Seeds that all agree bound the share of seeds that would
  differ by 1 - alpha^(1/n); they decide from the number on that bounds it by `DISSENT`.
- A mean below a bound, of values among which zeros occur, needs the share of failures
  (Clopper and Pearson) and their size (exponential) to be bounded both.
- A mean below a bound, of costs without zeros, is held to a level `SKEW_PENALTY` times as strict:
  Student's test is that far off in the lower tail of an exponential distribution. Costs that vary
  by less than `STEADY` of their mean are exempt: skewed ones are hardly ever so near each other.
- A difference in favour of a setting with zeros among its costs has to survive `FURTHER_SEEDS`
  more seeds as costly as the worst one of the comparison (the rule of three).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from safesweep.analysis.intervals import student_quantile

FloatArray = npt.NDArray[np.float64]

DISSENT = 0.3
"""Seeds that all agree decide when fewer than this share can differ, at the level of the test."""
SKEW_PENALTY = 8.0
STEADY = 0.05
FURTHER_SEEDS = 3
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class StudentTest:
    """Student's (or Welch's) test of an estimate.

    Attributes:
        effect: the estimate.
        error: its standard error.
        degrees: degrees of freedom.
        penalty: its p-values are multiplied by this.
    """

    effect: float
    error: float
    degrees: float
    penalty: float = 1.0

    def p_above(self, value: float) -> float:
        """One-sided, of the effect being above a value."""
        from scipy import special

        statistic = (self.effect - value) / self.error
        return min(1.0, self.penalty * float(special.stdtr(self.degrees, -statistic)))

    def lower(self, alpha: float) -> float:
        """The largest value that the effect is above at level alpha."""
        quantile = -student_quantile(alpha / self.penalty, self.degrees)
        return self.effect - quantile * self.error


@dataclass(frozen=True)
class AgreementTest:
    """What seeds without any spread say: at most a share of seeds differs."""

    effect: float
    seeds: int

    def p_above(self, value: float) -> float:
        """The probability that no seed differs if a share of `DISSENT` would."""
        return float((1 - DISSENT) ** self.seeds) if self.effect > value else 1.0

    def lower(self, alpha: float) -> float:
        """The common value where there are enough seeds, else nothing."""
        return self.effect if (1 - DISSENT) ** self.seeds <= alpha else -np.inf


@dataclass(frozen=True)
class FailureTest:
    """An upper bound on the mean of values that are zero but for failures: the share of failures
    times their mean, each bounded at half of alpha. Values are negated, as tests look upwards.

    Attributes:
        failures: how many values are not zero.
        total: their sum.
        seeds: how many values there are.
    """

    failures: int
    total: float
    seeds: int

    def _bound(self, alpha: float) -> float:
        if self.failures == 0:
            return 0.0
        from scipy import special

        share = (
            special.betaincinv(self.failures + 1, self.seeds - self.failures, 1 - alpha / 2)
            if self.failures < self.seeds
            else 1.0
        )
        size = self.total / special.gammaincinv(self.failures, alpha / 2)
        return float(share * size)

    def p_above(self, value: float) -> float:
        """Of the negated mean being above a value; at least that of agreement."""
        agreement = AgreementTest(0.0, self.seeds).p_above(value)
        low, high = 1e-9, 1.0
        if self._bound(high) > -value:
            return 1.0
        for _ in range(50):
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if self._bound(middle) <= -value else (middle, high)
        return max(agreement, high)

    def lower(self, alpha: float) -> float:
        """The negated upper bound; nothing below the number of seeds that agreement needs."""
        enough = (1 - DISSENT) ** self.seeds <= alpha
        return -self._bound(alpha) if enough else -np.inf


class Test(Protocol):
    """A one-sided test of an effect, and the bound that inverts it."""

    def p_above(self, value: float) -> float: ...

    def lower(self, alpha: float) -> float: ...


@dataclass(frozen=True)
class Evidence:
    """What seeds say about a mean or a contrast of means.

    Attributes:
        effect: the estimate.
        seeds: how many seeds went in; the smaller number of two samples.
        above: tests of the effect being above a value; it is where all of them say so. None where
            nothing can be said.
        below: the same for the negated effect.
    """

    effect: float
    seeds: int
    above: tuple[Test, ...] = ()
    below: tuple[Test, ...] = ()

    def p_above(self, value: float) -> float:
        """One-sided p-value of the effect being above a value; 1 without a test."""
        return max((test.p_above(value) for test in self.above), default=1.0)

    def p_below(self, value: float) -> float:
        """One-sided p-value of the effect being below a value."""
        return max((test.p_above(-value) for test in self.below), default=1.0)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The values that neither test excludes at level alpha, which is an interval of level
        1 - 2 alpha; an end is infinite where nothing bounds it."""
        low = min((test.lower(alpha) for test in self.above), default=-np.inf)
        high = -min((test.lower(alpha) for test in self.below), default=-np.inf)
        return low, high


def contrast(
    samples: Sequence[npt.ArrayLike],
    weights: Sequence[float] = (1.0,),
    *,
    paired: bool = True,
    cost: bool = False,
    guard: bool = True,
) -> Evidence:
    """What seeds say about the sum of weights times the means of several settings.

    Args:
        samples: the values of each setting, [seeds]; where they are paired, one seed in the same
            place of each.
        weights: one a setting.
        paired: the samples are of the same seeds; else they are independent (Welch).
        cost: the values are costs, whose distribution is skewed even where none is zero.
        guard: allow for failures not seen among values none of which is negative.
    """
    values = [np.asarray(sample, np.float64) for sample in samples]
    if paired:
        whole = np.isfinite(np.stack(values)).all(axis=0)
        values = [sample[whole] for sample in values]
        combined = np.asarray(weights, np.float64) @ np.stack(values)
        rounding = _NO_SPREAD * max(float(np.abs(sample).max(initial=0.0)) for sample in values)
        plain = _one_sample(np.where(np.abs(combined) <= rounding, 0.0, combined))
    else:
        values = [sample[np.isfinite(sample)] for sample in values]
        plain = _several_samples(values, weights)
    seeds = min(len(sample) for sample in values)
    effect = float(sum(w * sample.mean() for w, sample in zip(weights, values, strict=True)))
    if seeds < 2 or plain is None:
        return Evidence(effect, seeds)
    # A difference of two constants is as unknown as one constant.
    negative = any((sample < 0).any() for sample in values)
    above: tuple[Test, ...] = (plain,)
    below: tuple[Test, ...] = (_negated(plain),)
    if guard and not negative:
        if len(values) == 1 and weights[0] > 0:
            below = (_mean_below(values[0] * weights[0], plain, cost),)
        elif isinstance(plain, StudentTest):
            for sign in (1, -1):
                signed = [sign * weight for weight in weights]
                further = _with_further_failures(values, signed)
                if further is not None and sign == 1:
                    above = (plain, further)
                elif further is not None:
                    below = (_negated(plain), further)
    return Evidence(effect, seeds, above, below)


def pool(parts: Sequence[Evidence]) -> Evidence:
    """The mean of an effect over tasks, each of which keeps its own spread (stratified).

    A task without spread counts where its effect is 0 or its seeds are enough for agreement; a
    mean that unseen failures bound is not pooled from below.
    """
    effect = float(np.mean([part.effect for part in parts]))
    seeds = min(part.seeds for part in parts)
    if len(parts) == 1:
        return parts[0]
    above = _pooled([part.above for part in parts])
    below = _pooled([part.below for part in parts])
    return Evidence(effect, seeds, above, below)


def _one_sample(sample: FloatArray) -> StudentTest | AgreementTest | None:
    if len(sample) < 2:
        return None
    mean, variance = _moments(sample)
    deviation = float(np.sqrt(variance))
    if deviation <= _NO_SPREAD * max(1.0, float(np.abs(sample).max())):
        return AgreementTest(mean, len(sample))
    return StudentTest(mean, deviation / float(np.sqrt(len(sample))), len(sample) - 1)


def _several_samples(
    samples: Sequence[FloatArray], weights: Sequence[float]
) -> StudentTest | AgreementTest | None:
    if min(len(sample) for sample in samples) < 2:
        return None
    moments = [_moments(sample) for sample in samples]
    effect = sum(w * mean for w, (mean, _) in zip(weights, moments, strict=True))
    parts = [
        w**2 * variance / len(sample)
        for w, (_, variance), sample in zip(weights, moments, samples, strict=True)
    ]
    degrees = [len(sample) - 1 for sample in samples]
    if sum(parts) <= (_NO_SPREAD * max(1.0, abs(effect))) ** 2:
        return AgreementTest(effect, min(len(sample) for sample in samples))
    return StudentTest(effect, float(np.sqrt(sum(parts))), _satterthwaite(parts, degrees))


def _moments(sample: FloatArray) -> tuple[float, float]:
    """Mean and variance, much faster than numpy's own for few values."""
    mean = float(sample.sum()) / len(sample)
    distances = sample - mean
    return mean, float(distances @ distances) / (len(sample) - 1)


def _satterthwaite(variances: Sequence[float], degrees: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances."""
    whole = sum(variances)
    return float(whole**2 / sum(v**2 / d for v, d in zip(variances, degrees, strict=True)))


def _negated(test: StudentTest | AgreementTest) -> StudentTest | AgreementTest:
    if isinstance(test, AgreementTest):
        return AgreementTest(-test.effect, test.seeds)
    return StudentTest(-test.effect, test.error, test.degrees, test.penalty)


def _mean_below(sample: FloatArray, plain: StudentTest | AgreementTest, cost: bool) -> Test:
    if isinstance(plain, StudentTest) and (sample == 0).any():
        return FailureTest(int((sample > 0).sum()), float(sample.sum()), len(sample))
    mean, variance = _moments(sample)
    steady = variance < (STEADY * mean) ** 2
    if isinstance(plain, StudentTest) and cost and not steady:
        return StudentTest(-plain.effect, plain.error, plain.degrees, SKEW_PENALTY)
    return _negated(plain)


def _with_further_failures(
    samples: Sequence[FloatArray], weights: Sequence[float]
) -> StudentTest | None:
    """The contrast with further seeds that fail in every sample that counts against it and has
    zeros; None where there is no such sample."""
    doubtful = [w < 0 and not sample.all() for sample, w in zip(samples, weights, strict=True)]
    if not any(doubtful):
        return None
    further = np.full(FURTHER_SEEDS, max(sample.max() for sample in samples))
    longer = [
        np.concatenate([sample, further]) if more else sample
        for sample, more in zip(samples, doubtful, strict=True)
    ]
    found = _several_samples(longer, weights)
    return found if isinstance(found, StudentTest) else None


def _pooled(parts: Sequence[tuple[Test, ...]]) -> tuple[Test, ...]:
    """The pooled test of every task's plain tests, and of every task's strictest ones."""
    pooled = []
    for place in (0, -1):
        tests = [tests[place] for tests in parts if tests]
        if len(tests) < len(parts):
            return ()
        effect, variances, degrees, penalty = 0.0, [], [], 1.0
        for test in tests:
            if not isinstance(test, StudentTest | AgreementTest):
                return ()
            if isinstance(test, AgreementTest):
                if test.effect != 0 and test.lower(0.05) == -np.inf:
                    return ()
            else:
                variances.append((test.error / len(tests)) ** 2)
                degrees.append(test.degrees)
                penalty = max(penalty, test.penalty)
            effect += test.effect / len(tests)
        if not variances:
            fewest = min(test.seeds for test in tests if isinstance(test, AgreementTest))
            return (AgreementTest(effect, fewest),)
        error = float(np.sqrt(sum(variances)))
        pooled.append(StudentTest(effect, error, _satterthwaite(variances, degrees), penalty))
    return tuple(dict.fromkeys(pooled))
