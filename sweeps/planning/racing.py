"""Seeds by need: which configurations may still be chosen, from the rows so far alone.

Each gets half as many seeds again as it has, as long as it belongs to the fewest configurations
that hold the best safe one with a probability of `CREDIBLE`, by what all seeds say together. The
decision falls when every seed of the round before has ended.
"""

import math
from collections.abc import Sequence

import numpy as np

from safesweep.sweeps.planning.estimates import MOST_MODELLED, Estimates, Tried
from safesweep.sweeps.planning.positions import UnitSpace
from safesweep.trainables.store.scores import safe_first

CREDIBLE = 0.95
_DRAWS = 1000


def further_seeds(space: UnitSpace, tried: Sequence[Tried], most: int) -> dict[int, int]:
    """How many seeds more which configurations get, by their index; none when the race is over.

    Args:
        tried: every configuration with all the seeds that it has.
        most: that one may have.
    """
    judged = [index for index, one in enumerate(tried) if not one.lost and one.rewards]
    if len(judged) > MOST_MODELLED:
        judged.sort(key=lambda index: _by_means(tried[index]))
        judged = sorted(judged[:MOST_MODELLED])
    if all(len(tried[index].rewards) >= most for index in judged):
        return {}
    estimates = Estimates(space, [tried[index] for index in judged])
    chances = estimates.chances_of_best(_DRAWS)
    order = np.argsort(-chances, kind="stable")
    enough = int(np.searchsorted(np.cumsum(chances[order]), CREDIBLE)) + 1
    more: dict[int, int] = {}
    for place in sorted(order[:enough]):
        index = judged[place]
        seeds = len(tried[index].rewards)
        if seeds < most:
            more[index] = min(most, max(seeds + 1, math.ceil(1.5 * seeds))) - seeds
    return more


def _by_means(one: Tried) -> tuple[float, float]:
    return safe_first(max(0.0, float(np.mean(one.costs)) - 1), float(np.mean(one.rewards)))
