"""What the rows of a sweep say of configurations, tried or not, when all are judged together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from safesweep.sweeps.planning.positions import UnitSpace
from safesweep.trainables.store.shared_estimates import Costs, Rewards, draw

FloatArray = npt.NDArray[np.float64]

MOST_MODELLED = 400
"""Configurations that are judged together, of more the best ones: the time grows with the cube of
how many there are."""


@dataclass(frozen=True)
class Tried:
    """A configuration and what its seeds scored.

    Attributes:
        position: in the unit cube (`UnitSpace`).
        rewards: of its seeds.
        costs: of its seeds, 1 for the limit.
        lost: whether a seed diverged or failed, or it was stopped early; it cannot be chosen.
    """

    position: tuple[float, ...]
    rewards: tuple[float, ...]
    costs: tuple[float, ...]
    lost: bool = False


@dataclass(frozen=True)
class Standing:
    """Estimates of m configurations: [m] expected reward, and [m] the median of the expected cost;
    `bound` [m] is the upper bound of the expected cost, `deviation` [m] that of its logarithm, and
    `seed_variance` [m] of the logarithm as one seed alone shows it."""

    reward: FloatArray
    cost: FloatArray
    deviation: FloatArray
    bound: FloatArray
    seed_variance: FloatArray


class Estimates:
    """Estimates from what was tried; at least one configuration must not be lost.

    Attributes:
        kept: indices of those that are judged.
        positions: [k, e] theirs.
        seeds: [k] how many each has.
        own_costs: [k] the mean cost of these.
    """

    def __init__(self, space: UnitSpace, tried: Sequence[Tried]) -> None:
        self.space = space
        self.kept = [i for i, one in enumerate(tried) if not one.lost and one.rewards]
        self.positions = np.array([tried[i].position for i in self.kept])
        self.seeds = np.array([len(tried[i].rewards) for i in self.kept])
        self.own_costs = np.array([float(np.mean(tried[i].costs)) for i in self.kept])
        self._features = space.features(self.positions)
        self._rows = np.arange(len(self.kept), dtype=np.float64)
        self.rewards = Rewards(self._features, [np.array(tried[i].rewards) for i in self.kept])
        self.costs = Costs(self._features, [np.array(tried[i].costs) for i in self.kept])

    def standing(self, confidence: float) -> Standing:
        """Where those that were tried stand, in the order of `kept`."""
        reward, _ = self.rewards.marginal(self._features, self._rows)
        cost, variance = self.costs.marginal(self._features, self._rows)
        return Standing(
            reward,
            np.exp(cost),
            np.sqrt(variance),
            self.costs.upper_bounds(self._features, self._rows, confidence),
            self.costs.seed_variances(self._features, self._rows),
        )

    def chances_of_best(self, draws: int) -> FloatArray:
        """[k] how likely each is the best safe one, or the cheapest where none is safe."""
        generator = np.random.default_rng(0)
        best = self.best_of_draws(self.positions, self._rows, draws, generator)
        return np.bincount(best, minlength=len(self.kept)) / draws

    def best_of_draws(
        self, positions: FloatArray, rows: FloatArray, draws: int, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """[draws] which of m configurations is the best safe one in each draw of their rewards and
        costs together, or the cheapest where none is safe.

        Args:
            positions: [m, e].
            rows: [m] which of `kept` each is, -1 for one that was not tried.
        """
        features = self.space.features(positions)
        reward = draw(*self.rewards.posterior(features, rows), draws, generator)
        log_cost = self.costs.draws(features, rows, draws, generator)
        fits = log_cost <= 0
        best = np.where(fits, reward, -np.inf).argmax(axis=1)
        return np.where(fits.any(axis=1), best, log_cost.argmin(axis=1))

    def cheapest_of_draws(
        self, positions: FloatArray, rows: FloatArray, draws: int, generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """[draws] which of m configurations costs least in each draw; arguments as above."""
        log_cost = self.costs.draws(self.space.features(positions), rows, draws, generator)
        return np.asarray(log_cost.argmin(axis=1))

    def best_within(
        self, positions: FloatArray, rows: FloatArray, deviations: float, optimism: float = 0.0
    ) -> npt.NDArray[np.int64]:
        """[m] the order of m configurations, the best first: by expected reward where the cost with
        so many deviations added is within the limit, and then by that cost.

        Args:
            positions: [m, e].
            rows: [m] which of `kept` each is, -1 for one that was not tried.
            deviations: of the logarithm of the cost.
            optimism: deviations of the reward that are added to it.
        """
        features = self.space.features(positions)
        reward, spread = self.rewards.marginal(features, rows)
        cost, variance = self.costs.marginal(features, rows)
        excess = np.maximum(cost + deviations * np.sqrt(variance), 0.0)
        return np.asarray(np.lexsort((-(reward + optimism * np.sqrt(spread)), excess)))

    def believed_safe(self, deviations: float) -> bool:
        """Whether any that was tried keeps the limit with so many deviations added to the logarithm
        of its cost."""
        return self.any_fits(self.positions, self._rows, deviations)

    def any_fits(self, positions: FloatArray, rows: FloatArray, deviations: float) -> bool:
        """Whether the cost of one of m configurations keeps the limit with so many deviations
        added; arguments as above."""
        mean, variance = self.costs.marginal(self.space.features(positions), rows)
        return bool((mean + deviations * np.sqrt(variance) <= 0).any())
