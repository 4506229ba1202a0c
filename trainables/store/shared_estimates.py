"""What few seeds say of configurations when they are judged together.

A cost of a seed is zero with some probability and otherwise an amount. How often it is not zero,
how much it is then, and the reward are each a Gaussian process over configurations: nearby ones
(of like hyperparameters) are alike as far as the rows show it, and each has a deviation of its own,
as large as the rows show. So a configuration with few seeds borrows from the others, the more so
the less they differ. Without positions, configurations are exchangeable: the empirical Bayes of a
common distribution.

Scales and lengths of the processes are the most probable ones given the rows (type II maximum
likelihood with weak priors); the non-Gaussian parts are linearised at their mode. Source:
Rasmussen and Williams (2006), "Gaussian Processes for Machine Learning", sections 3.4 and 5.4;
Breslow and Clayton (1993), "Approximate Inference in Generalized Linear Mixed Models".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

FloatArray = npt.NDArray[np.float64]

ZERO_COST = 1e-9
"""Of the limit: what costs no more cost nothing."""

_CONSTANT_DEVIATION = 3.0
_SLOPE_DEVIATION = 0.7
_LENGTH = 0.4
_SCALES = (1.5, 0.25)
_LINEARISATIONS = 5
_FITTED_AT = (0, 2)
_LARGEST_STEP = 4.0
_JITTER = 1e-8
_ROOT5 = math.sqrt(5)


@dataclass(frozen=True)
class Prior:
    """Normal priors of the logarithms of a process's parameters: mean and deviation.

    Attributes:
        scale: of what follows the positions.
        own: of each configuration's own deviation.
        noise: of a seed; None where the noise is known.
        length: of one coordinate, of which there are so many as features.
    """

    scale: tuple[float, float] = (0.0, 1.0)
    own: tuple[float, float] = (math.log(0.15), 0.7)
    noise: tuple[float, float] | None = None
    length_deviation: float = 0.8

    def length(self, features: int) -> tuple[float, float]:
        """Longer where there are more features, so that the prior correlation stays alike."""
        return (math.log(_LENGTH * math.sqrt(max(features, 1))), self.length_deviation)


@dataclass(frozen=True)
class Replicates:
    """Seeds of n configurations: [n] means, [n] counts, and the squares about the means, summed,
    with their degrees of freedom. `variances` are the means' [n] where known in advance."""

    means: FloatArray
    counts: FloatArray
    within: float = 0.0
    freedom: float = 0.0
    variances: FloatArray | None = None


class Process:
    """A latent value of every configuration, given noisy ones of some.

    Args:
        features: [n, f] positions, about [0, 1] each; f may be 0.
        seen: what was seen at them.
        prior: of the parameters.
        parameters: logarithms of scale, own deviation, noise (if not known) and lengths; None:
            they are fitted.
    """

    def __init__(
        self,
        features: FloatArray,
        seen: Replicates,
        prior: Prior,
        parameters: FloatArray | None = None,
        start: FloatArray | None = None,
    ) -> None:
        self.features, self.seen, self.prior = features, seen, prior
        weights = 1 / (seen.variances if seen.variances is not None else 1 / seen.counts)
        self.centre = float(np.average(seen.means, weights=weights))
        self._squares = np.asarray((features[:, None, :] - features[None, :, :]) ** 2)
        self._values = seen.means - self.centre
        self._trend = _trend(features, features)
        if parameters is None:
            parameters = self._fitted(start)
        self.parameters = parameters
        scale, own, noise, lengths = self._unpacked(parameters)
        smooth = scale**2 * _matern(features, features, lengths)
        covariance = smooth + self._trend + np.diag(own**2 + self._noise(noise))
        self._factor = linalg.cho_factor(covariance, lower=True)
        self._weights = linalg.cho_solve(self._factor, self._values)
        self._scale, self._own, self.noise, self._lengths = scale, own, noise, lengths

    def posterior(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and covariance [m, m] of the latent value.

        Args:
            features: [m, f] positions.
            rows: [m] which of the configurations seen each is, -1 for a new one.
        """
        mean, solved = self._given_seen(features, rows)
        prior = self._scale**2 * _matern(features, features, self._lengths)
        prior += _trend(features, features)
        prior[np.diag_indices_from(prior)] += self._own**2
        return mean, prior - solved.T @ solved

    def marginal(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and variance [m]: of `posterior`, in less time."""
        mean, solved = self._given_seen(features, rows)
        smooth = self._scale**2 if len(self._lengths) else 0.0
        slopes = _SLOPE_DEVIATION**2 * ((features - 0.5) ** 2).sum(axis=1)
        prior = smooth + _CONSTANT_DEVIATION**2 + slopes + self._own**2
        return mean, np.maximum(prior - (solved**2).sum(axis=0), 0.0)

    def _given_seen(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        prior = self._scale**2 * _matern(features, self.features, self._lengths)
        prior += _trend(features, self.features)
        known = np.flatnonzero(rows >= 0)
        prior[known, rows[known].astype(int)] += self._own**2
        solved = linalg.solve_triangular(self._factor[0], prior.T, lower=True, check_finite=False)
        return self.centre + prior @ self._weights, solved

    def at_seen(self) -> FloatArray:
        """[n] posterior means of the configurations seen."""
        scale, own, _, lengths = self._unpacked(self.parameters)
        prior = scale**2 * _matern(self.features, self.features, lengths) + self._trend
        prior[np.diag_indices_from(prior)] += own**2
        return np.asarray(self.centre + prior @ self._weights)

    def _unpacked(self, parameters: FloatArray) -> tuple[float, float, float, FloatArray]:
        values = np.exp(parameters)
        noise_known = self.prior.noise is None
        noise = 0.0 if noise_known else float(values[2])
        return float(values[0]), float(values[1]), noise, values[2 if noise_known else 3 :]

    def _noise(self, noise: float) -> FloatArray:
        if self.seen.variances is not None:
            return self.seen.variances + _JITTER
        return np.asarray(noise**2 / self.seen.counts + _JITTER)

    def _priors(self) -> tuple[FloatArray, FloatArray]:
        features = self.features.shape[1]
        pairs = [self.prior.scale, self.prior.own]
        if self.prior.noise is not None:
            pairs.append(self.prior.noise)
        pairs += [self.prior.length(features)] * features
        return np.array([mean for mean, _ in pairs]), np.array([sd for _, sd in pairs])

    def _fitted(self, start: FloatArray | None) -> FloatArray:
        from scipy import optimize

        means, deviations = self._priors()
        found = optimize.minimize(
            self._loss,
            means if start is None else start,
            args=(means, deviations),
            jac=True,
            method="L-BFGS-B",
            bounds=[(m - 4 * d, m + 4 * d) for m, d in zip(means, deviations, strict=True)],
            options={"maxiter": 30, "ftol": 1e-6},
        )
        return np.asarray(found.x)

    def _loss(
        self, parameters: FloatArray, means: FloatArray, deviations: FloatArray
    ) -> tuple[float, FloatArray]:
        """Minus the log posterior of the parameters, and its gradient."""
        scale, own, noise, lengths = self._unpacked(parameters)
        correlation, slopes = _matern_slopes(self._squares, lengths)
        noises = self._noise(noise)
        covariance = scale**2 * correlation + self._trend
        covariance[np.diag_indices_from(covariance)] += own**2 + noises
        factor = linalg.cholesky(covariance, lower=True, check_finite=False)
        inverse, _ = linalg.lapack.dpotri(factor, lower=1)
        inverse += np.tril(inverse, -1).T
        weights = inverse @ self._values
        loss = 0.5 * float(self._values @ weights) + float(np.log(np.diag(factor)).sum())
        outer = np.outer(weights, weights) - inverse
        gradient = np.empty_like(parameters)
        gradient[0] = -(scale**2) * float((outer * correlation).sum())
        gradient[1] = -(own**2) * float(np.trace(outer))
        first = 2
        if self.prior.noise is not None:
            first = 3
            loss += self.seen.freedom * math.log(noise) + self.seen.within / (2 * noise**2)
            gradient[2] = -float((np.diag(outer) * noise**2 / self.seen.counts).sum())
            gradient[2] += self.seen.freedom - self.seen.within / noise**2
        weighted = outer * slopes
        gradient[first:] = (
            -0.5 * scale**2 * np.tensordot(weighted, self._squares, axes=2) / lengths**2
        )
        distance = (parameters - means) / deviations
        return loss + 0.5 * float(distance @ distance), gradient + distance / deviations


def _trend(one: FloatArray, other: FloatArray) -> FloatArray:
    """[n, m] prior covariance of a constant and a slope along each feature."""
    products = (one - 0.5) @ (other - 0.5).T
    return np.asarray(_CONSTANT_DEVIATION**2 + _SLOPE_DEVIATION**2 * products)


def _matern(one: FloatArray, other: FloatArray, lengths: FloatArray) -> FloatArray:
    """[n, m] Matern correlation of smoothness 5/2 of [n, f] with [m, f]; without features there is
    nothing to follow."""
    if not len(lengths):
        return np.zeros((len(one), len(other)))
    from scipy.spatial.distance import cdist  # Takes long to load, and plans seldom need it.

    distance = _ROOT5 * cdist(one / lengths, other / lengths)
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


def _matern_slopes(squares: FloatArray, lengths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """`_matern` of [n, n, f] squared differences, and what a squared difference over its squared
    length is multiplied by in the derivative by the logarithm of that length."""
    if not len(lengths):
        zeros = np.zeros(squares.shape[:-1])
        return zeros, zeros
    distance = _ROOT5 * np.sqrt(squares @ (1 / lengths**2))
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, 5 / 3 * (1 + distance) * decay


def replicates(values: Sequence[FloatArray]) -> Replicates:
    """Means, counts and squares of the seeds of each configuration, at least one each."""
    means = np.array([float(np.mean(v)) for v in values])
    counts = np.array([float(len(v)) for v in values])
    within = float(sum(((v - m) ** 2).sum() for v, m in zip(values, means, strict=True)))
    return Replicates(means, counts, within, float(counts.sum() - len(counts)))


class Rewards:
    """The expected reward of configurations, from seeds of some.

    Args:
        features: [n, f] positions; f may be 0.
        rewards: of each configuration its seeds', at least one.
    """

    def __init__(self, features: FloatArray, rewards: Sequence[FloatArray]) -> None:
        seen = replicates(rewards)
        spread = float(np.std(seen.means))
        self.unit = spread if spread > 1e-9 else 1.0
        scaled = Replicates(
            seen.means / self.unit, seen.counts, seen.within / self.unit**2, seen.freedom
        )
        self.process = Process(
            features, scaled, Prior(own=(math.log(0.1), 0.7), noise=(math.log(0.4), 1.0))
        )

    def posterior(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and covariance [m, m]; see `Process.posterior`."""
        mean, covariance = self.process.posterior(features, rows)
        return mean * self.unit, covariance * self.unit**2

    def marginal(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and variance [m]."""
        mean, variance = self.process.marginal(features, rows)
        return mean * self.unit, variance * self.unit**2


class Costs:
    """The expected normalised cost of configurations, from seeds of some.

    Args:
        features: [n, f] positions; f may be 0.
        costs: of each configuration its seeds', at least one; 1 is the limit.
    """

    def __init__(self, features: FloatArray, costs: Sequence[FloatArray]) -> None:
        hits = np.array([float((v > ZERO_COST).sum()) for v in costs])
        counts = np.array([float(len(v)) for v in costs])
        positive = [v[v > ZERO_COST] for v in costs]
        self._with_hits = np.flatnonzero(hits)
        # Where every seed costs something, how often one does is left at always.
        self.frequency = None if (hits == counts).all() else _frequency(features, hits, counts)
        self.amount = (
            _amount(features[self._with_hits], [positive[i] for i in self._with_hits])
            if len(self._with_hits)
            else None
        )

    def posterior(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and covariance [m, m] of the logarithm of the expected cost, linearised."""
        parts = self._parts(features, rows)
        mean, covariance = parts[1]
        if parts[0] is not None:
            logit, between = parts[0]
            slope = special.expit(-logit)
            mean = mean + special.log_expit(logit)
            covariance = covariance + slope[:, None] * between * slope[None, :]
        return mean, covariance

    def marginal(self, features: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean [m] and variance [m] of the logarithm of the expected cost, linearised."""
        size = len(features)
        mean, variance = np.zeros(size), np.ones(size)
        if self.amount is not None:
            mean, variance = self.amount.marginal(features, self._rows_of_amount(rows))
        if self.frequency is not None:
            logit, between = self.frequency.marginal(features, rows)
            mean = mean + special.log_expit(logit)
            variance = variance + special.expit(-logit) ** 2 * between
        return mean, variance

    def upper_bounds(self, features: FloatArray, rows: FloatArray, confidence: float) -> FloatArray:
        """[m] of the expected cost: of its logarithm's normal distribution, and beyond that by what
        the bound of few exponential amounts exceeds it, as far as the amounts are what is unknown.
        """
        mean, variance = self.marginal(features, rows)
        quantile = special.ndtri(confidence)
        bounds = mean + quantile * np.sqrt(variance)
        if self.amount is not None:
            own = self.amount.marginal(features, self._rows_of_amount(rows))[1]
            shape = 1 / np.clip(own, _JITTER, 1.0)
            exact = np.log(shape / special.gammaincinv(shape, 1 - confidence))
            bounds = bounds + (exact - quantile / np.sqrt(shape)) * own / variance
        return np.asarray(np.exp(bounds))

    def draws(
        self, features: FloatArray, rows: FloatArray, count: int, generator: np.random.Generator
    ) -> FloatArray:
        """[count, m] draws of the logarithm of the expected cost."""
        frequency, amount = self._parts(features, rows)
        drawn = draw(*amount, count, generator)
        if frequency is not None:
            drawn = drawn + special.log_expit(draw(*frequency, count, generator))
        return drawn

    def seed_variances(self, features: FloatArray, rows: FloatArray) -> FloatArray:
        """[m] variance of the logarithm of the expected cost as a single seed shows it."""
        chance = np.ones(len(features))
        if self.frequency is not None:
            chance = special.expit(self.frequency.marginal(features, rows)[0])
        amount = 1.0 if self.amount is None else self.amount.noise**2
        return np.asarray((1 - chance + amount) / chance)

    def _parts(
        self, features: FloatArray, rows: FloatArray
    ) -> tuple[tuple[FloatArray, FloatArray] | None, tuple[FloatArray, FloatArray]]:
        frequency = None if self.frequency is None else self.frequency.posterior(features, rows)
        if self.amount is None:
            # Nothing has cost anything yet: an amount about the limit.
            size = len(features)
            return frequency, (np.zeros(size), np.ones((size, size)))
        return frequency, self.amount.posterior(features, self._rows_of_amount(rows))

    def _rows_of_amount(self, rows: FloatArray) -> FloatArray:
        """The same among the configurations of which a seed has cost something."""
        place = np.full(int(rows.max(initial=-1)) + 2, -1.0)
        for new, old in enumerate(self._with_hits):
            if old < len(place) - 1:
                place[old] = new
        return np.asarray(place[rows.astype(int)])


def draw(
    mean: FloatArray, covariance: FloatArray, count: int, generator: np.random.Generator
) -> FloatArray:
    """[count, m] draws of a normal distribution."""
    jitter = _JITTER * max(1.0, float(np.diag(covariance).max()))
    for power in range(6):
        padded = covariance + np.eye(len(mean)) * jitter * 10.0**power
        factor, info = linalg.lapack.dpotrf(padded, lower=1, clean=1)
        if info == 0:
            break
    else:
        factor = np.diag(np.sqrt(np.maximum(np.diag(covariance), 0)))
    return np.asarray(mean + generator.standard_normal((count, len(mean))) @ factor.T)


def _frequency(features: FloatArray, hits: FloatArray, counts: FloatArray) -> Process:
    """The log odds that a seed costs something."""
    share = (hits.sum() + 0.5) / (counts.sum() + 1)
    latent = np.full(len(hits), math.log(share / (1 - share)))
    parameters = None
    for step in range(_LINEARISATIONS):
        chance = special.expit(latent)
        weight = np.maximum(counts * chance * (1 - chance), 1e-3)
        move = np.clip((hits - counts * chance) / weight, -_LARGEST_STEP, _LARGEST_STEP)
        seen = Replicates(latent + move, counts, variances=1 / weight)
        chances = Prior(scale=(math.log(_SCALES[0]), 1.0))
        fit = step in _FITTED_AT
        process = Process(features, seen, chances, None if fit else parameters, parameters)
        parameters, latent = process.parameters, np.clip(process.at_seen(), -12, 12)
    return process


def _amount(features: FloatArray, positive: Sequence[FloatArray]) -> Process:
    """The logarithm of the expected cost of a seed that costs something.

    The deviation is taken to be proportional to the mean, as a gamma distribution's is.
    """
    overall = float(np.concatenate(list(positive)).mean())
    latent = np.full(len(positive), math.log(overall))
    seen, parameters = replicates(positive), None
    for step in range(_LINEARISATIONS):
        expected = np.exp(latent)
        move = np.clip(seen.means / expected - 1, -_LARGEST_STEP, _LARGEST_STEP)
        within = sum(
            float((((v - v.mean()) / e) ** 2).sum())
            for v, e in zip(positive, expected, strict=True)
        )
        working = Replicates(latent + move, seen.counts, within, seen.freedom)
        fit = step in _FITTED_AT
        prior = Prior(scale=(math.log(_SCALES[1]), 1.0), noise=(math.log(0.7), 0.7))
        process = Process(features, working, prior, None if fit else parameters, parameters)
        parameters, latent = process.parameters, np.clip(process.at_seen(), -12, 12)
    return process
