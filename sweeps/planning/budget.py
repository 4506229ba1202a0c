"""What a budget of runs is spent on next, from the rows so far and from nothing else."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import special

from safesweep.search_spaces.space import Value
from safesweep.sweeps.planning.estimates import Estimates, Standing, Tried
from safesweep.sweeps.planning.positions import UnitSpace

FloatArray = npt.NDArray[np.float64]
Phase = Literal["start", "search", "race", "confirm"]

PHASES: tuple[Phase, ...] = get_args(Phase)
FIRST_ROUND = 12
"""Configurations that a budget starts with at least."""


@dataclass(frozen=True)
class Strategy:
    """How a budget is divided."""

    start_share: float = 0.4
    race_until: float = 0.88
    rounds: int = 14
    confirm_rounds: int = 3
    middle: float = 0.7
    width: float = 0.8
    anywhere: int = 120
    nearby: int = 20
    reaches: tuple[float, ...] = (0.2, 0.08, 0.03)
    fewest_seeds: int = 4
    stricter: float = 1.1
    believed: float = 0.3
    prior_seeds: float = 0.5
    prior_cost: float = 2.0

    def first_round(self, runs: int) -> int:
        return min(runs, max(FIRST_ROUND, round(self.start_share * runs)))

    def confirming(self, runs: int) -> int:
        return round(runs * (1 - self.race_until))

    def level(self, confidence: float) -> float:
        return float(special.ndtr(self.stricter * special.ndtri(confidence)))


STRATEGY = Strategy()


@dataclass(frozen=True)
class BudgetTerms:
    """A budget of so many runs, what its draws follow from, and the level of the bound."""

    runs: int
    seed: int
    confidence: float


@dataclass(frozen=True)
class Round:
    """New configurations of a seed each, and further seeds of those tried, by their index."""

    phase: Phase
    new: tuple[Mapping[str, Value], ...] = ()
    more: Mapping[int, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        """How many runs it adds."""
        return len(self.new) + sum(self.more.values())


@dataclass(frozen=True)
class Chosen:
    """What a budget ends in.

    Attributes:
        index: of the configuration.
        reward: expected.
        cost: expected, its median.
        bound: upper bound of the expected cost.
        passed: whether that is within the limit.
        seeds_to_pass: more seeds that would bring the bound there if the cost is what it seems;
            None where it seems to be above the limit.
    """

    index: int
    reward: float
    cost: float
    bound: float
    passed: bool
    seeds_to_pass: int | None


def choose(
    space: UnitSpace, tried: Sequence[Tried], confidence: float, own: int | None = None
) -> Chosen | None:
    """The configuration with the highest reward among those whose bound is within the limit, or
    the one whose bound comes nearest; None where every one is lost.

    Args:
        own: so many of the first may be chosen, the others are evidence (default: all may).
    """
    if all(one.lost for one in tried[:own]):
        return None
    estimates = Estimates(space, tried)
    standing = estimates.standing(STRATEGY.level(confidence))
    if own is not None:
        chosen = np.where(np.array(estimates.kept) < own, standing.bound, np.inf)
        standing = replace(standing, bound=chosen)
    confirmed = estimates.seeds >= STRATEGY.fewest_seeds
    place = _preferred(standing, confirmed)
    cost, bound = float(standing.cost[place]), float(standing.bound[place])
    seeds = _seeds_to_pass(standing, place, confidence) if cost < 1 else None
    reward = float(standing.reward[place])
    return Chosen(estimates.kept[place], reward, cost, bound, bound <= 1, seeds)


def _seeds_to_pass(standing: Standing, place: int, confidence: float) -> int:
    """More seeds of a configuration that bring its bound to the limit if its cost is what it seems:
    the normal part of the bound shrinks as the deviation, the part for few amounts as its square.
    """
    quantile = float(special.ndtri(STRATEGY.level(confidence)))
    deviation = float(standing.deviation[place])
    room = -math.log(float(standing.cost[place]))
    beyond = math.log(float(standing.bound[place])) + room - quantile * deviation
    curvature = max(beyond, 0.0) / deviation**2
    needed = 2 * room / (quantile + math.sqrt(quantile**2 + 4 * curvature * room))
    alone = float(standing.seed_variance[place])
    return max(1, math.ceil(alone * (needed**-2 - deviation**-2)))


def _preferred(standing: Standing, among: npt.NDArray[np.bool_] | None = None) -> int:
    """The best that keeps its bound within the limit, else the one whose bound comes nearest."""
    safe = standing.bound <= 1
    if among is not None and (safe & among).any():
        safe &= among
    if safe.any():
        return int(np.argmax(np.where(safe, standing.reward, -np.inf)))
    return int(np.argmin(standing.bound))


def next_round(
    space: UnitSpace,
    tried: Sequence[Tried],
    spent: int,
    terms: BudgetTerms,
    starts: Sequence[Mapping[str, Value]] = (),
) -> Round | None:
    """What to train next; None when the budget is spent."""
    strategy = STRATEGY
    total = terms.runs
    left = total - spent
    if left <= 0:
        return None
    generator = np.random.default_rng([terms.seed, spent])
    if not tried:
        count = max(1, strategy.first_round(total) - len(starts))
        from scipy.stats import qmc

        sobol = qmc.Sobol(len(space.entries), seed=np.random.default_rng([terms.seed, 0]))
        drawn = [
            space.values(position)
            for position in sobol.random_base2(math.ceil(math.log2(count)))[:count]
        ]
        return Round("start", _distinct([*starts, *drawn]))
    later = total * strategy.race_until - strategy.first_round(total)
    size = max(4, round(later / strategy.rounds))
    size = max(1, min(size, left, round(strategy.race_until * total) - spent))
    if all(one.lost for one in tried):
        drawn = [space.values(position) for position in space.draw(size, generator)]
        return Round("search", _distinct(drawn))
    estimates = Estimates(space, tried)
    if spent / total < strategy.race_until:
        if estimates.believed_safe(strategy.believed):
            return _along_the_limit(estimates, size, terms, generator)
        return _towards_the_limit("search", estimates, size, generator)
    standing = estimates.standing(strategy.level(terms.confidence))
    size = min(left, -(-strategy.confirming(total) // strategy.confirm_rounds))
    place = _preferred(standing)
    if standing.cost[place] > 1:
        return _towards_the_limit("confirm", estimates, size, generator)
    return Round("confirm", more={estimates.kept[place]: size})


def _distinct(points: Sequence[Mapping[str, Value]]) -> tuple[Mapping[str, Value], ...]:
    return tuple({tuple(point.items()): point for point in points}.values())


def _again(estimates: Estimates, count: int) -> dict[int, int]:
    """Up to `count` further seeds for those that may keep the limit by their own seeds alone, the
    cheapest first; none gets more than it has.

    A safe region that is small beside how the costs vary otherwise looks like luck as long as its
    configurations have a seed each.
    """
    seeds, weight = estimates.seeds, STRATEGY.prior_seeds
    prior = min(float(estimates.own_costs.mean()), STRATEGY.prior_cost)
    costs = (estimates.own_costs * seeds + prior * weight) / (seeds + weight)
    found: dict[int, int] = {}
    for place in np.argsort(costs, kind="stable"):
        if costs[place] > 1 or not count:
            break
        found[estimates.kept[place]] = min(int(seeds[place]), count)
        count -= found[estimates.kept[place]]
    return found


def _towards_the_limit(
    phase: Phase, estimates: Estimates, size: int, generator: np.random.Generator
) -> Round:
    """Further seeds (`_again`), and for the rest of `size` the cheapest in draws from the posterior
    and the best ones, half each: by cost alone the nearest safe region would be taken for the only
    one."""
    again = _again(estimates, size)
    rest = size - sum(again.values())
    if not rest:
        return Round(phase, more=again)
    pool, rows = _pool(estimates, 0.0, generator)
    picked = [
        *estimates.cheapest_of_draws(pool, rows, rest // 2, generator),
        *estimates.best_of_draws(pool, rows, rest - rest // 2, generator),
    ]
    found = _round(phase, estimates, pool, rows, picked)
    return replace(found, more=dict(Counter(found.more) + Counter(again)))


def _along_the_limit(
    estimates: Estimates, size: int, terms: BudgetTerms, generator: np.random.Generator
) -> Round:
    """The best configurations that keep the limit with more and less room, new or tried."""
    positions, rows, picked = np.zeros((0, estimates.positions.shape[1])), np.zeros(0), []
    settled = _settled(estimates, terms)
    for deviations in STRATEGY.middle + STRATEGY.width * np.linspace(-1, 1, size):
        pool, places = _pool(estimates, float(deviations), generator)
        best = estimates.best_within(pool, places, float(deviations))[0]
        known = places[best] >= 0 and settled[int(places[best])]
        one = slice(best, best + 1)
        if known or not estimates.any_fits(pool[one], places[one], float(deviations)):
            # Nowhere seems safe, or more seeds tell nothing new: what is not known yet may be.
            best = estimates.best_of_draws(pool, places, 1, generator)[0]
        picked.append(len(positions))
        positions = np.concatenate([positions, pool[best : best + 1]])
        rows = np.append(rows, places[best])
    return _round("race", estimates, positions, rows, picked)


def _settled(estimates: Estimates, terms: BudgetTerms) -> npt.NDArray[np.bool_]:
    """[k] which have as many seeds as a confirmation gives, and are within the limit by their bound
    or beyond it by their median."""
    standing = estimates.standing(STRATEGY.level(terms.confidence))
    enough = estimates.seeds >= STRATEGY.confirming(terms.runs)
    return np.asarray(enough & ((standing.bound <= 1) | (standing.cost > 1)))


def _pool(
    estimates: Estimates, deviations: float, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Positions [m, e] to choose from, and which of those tried they are [m], -1 for new ones:
    those tried, some from anywhere, and some around the best of both."""
    space, count = estimates.space, len(estimates.kept)
    pool = np.concatenate([estimates.positions, space.draw(STRATEGY.anywhere, generator)])
    rows = np.concatenate([np.arange(count, dtype=float), np.full(STRATEGY.anywhere, -1.0)])
    for reach in STRATEGY.reaches:
        order = estimates.best_within(pool, rows, deviations)
        near = [space.around(pool[p], STRATEGY.nearby, reach, generator) for p in order[:3]]
        pool = np.concatenate([pool, *near])
        rows = np.concatenate([rows, np.full(len(pool) - len(rows), -1.0)])
    return pool, rows


def _round(
    phase: Phase, estimates: Estimates, pool: FloatArray, rows: FloatArray, picked: Sequence[int]
) -> Round:
    new: list[Mapping[str, Value]] = []
    more: dict[int, int] = {}
    for place in picked:
        if rows[place] >= 0:
            index = estimates.kept[int(rows[place])]
            more[index] = more.get(index, 0) + 1
        else:
            new.append(estimates.space.values(pool[place]))
    # A point that was picked twice gets its second seed once it has the first.
    return Round(phase, _distinct(new), more)
