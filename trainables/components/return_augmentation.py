"""Episodes with better returns than the data have (CDT, section 4.2): which episode is shown under
which return and cost to go. Plain numpy, once for a dataset."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

COST_CELLS, RETURN_CELLS = 10, 50
FEWEST_IN_CELL, MOST_IN_CELL = 3, 10
Floats = NDArray[np.float64]


class Relabelled(NamedTuple):
    """Episodes [A] of the data, and the returns and costs [A] that they are shown under."""

    episodes: NDArray[np.int64]
    returns: Floats
    costs: Floats


def pareto_front(returns: Floats, costs: Floats) -> NDArray[np.int64]:
    """The episodes that no other one beats, cheapest first: less cost at no less return, or more
    return at no more cost."""
    order = np.lexsort((-returns, costs))
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(returns[order])[:-1]))
    front: NDArray[np.int64] = order[returns[order] > best_before]
    return front


def thinned(returns: Floats, costs: Floats, rng: np.random.Generator) -> NDArray[np.int64]:
    """Episodes so that none of 10 x 50 cells of cost and return holds more than 10; those of cells
    with fewer than 3 are left out as outliers. All episodes where that would leave none."""

    def cells(values: Floats, count: int) -> NDArray[np.int64]:
        width = max((values.max() - values.min()) / count, 1e-12)
        found: NDArray[np.int64] = np.minimum((values - values.min()) // width, count - 1).astype(
            np.int64
        )
        return found

    cell = cells(costs, COST_CELLS) * RETURN_CELLS + cells(returns, RETURN_CELLS)
    kept = []
    for number in np.unique(cell):
        members = np.flatnonzero(cell == number)
        if len(members) >= FEWEST_IN_CELL:
            most = min(len(members), MOST_IN_CELL)
            kept.append(np.sort(rng.choice(members, most, replace=False)))
    return np.concatenate(kept) if kept else np.arange(len(returns))


def relabelled(
    returns: Floats,
    costs: Floats,
    share: float,
    degree: int,
    gain: float,
    highest_return: float,
    largest_decrease: float,
    seed: int,
) -> Relabelled:
    """For `share` as many pairs as episodes are left when they are thinned: costs evenly over the
    data's, each with a return drawn from `gain` above the Pareto front to `highest_return`.

    A pair is shown with the nearest episode that costs no more. Of pairs with the same nearest one
    the first keeps it; for the others an episode is drawn, the nearer to it the likelier, that
    costs no more than it and has at most `largest_decrease` less return.

    Args:
        returns, costs: of the data's episodes, [E].
        degree: of the polynomial in the cost that is fitted to the front.
    """
    rng = np.random.default_rng(seed)
    kept = thinned(returns, costs, rng)
    returns, costs = returns[kept], costs[kept]
    front = pareto_front(returns, costs)
    fitted = np.polyfit(costs[front], returns[front], min(degree, len(front) - 1))
    count = int(share * len(kept))
    wanted_costs = np.linspace(costs.min(), costs.max(), count)
    lowest = np.polyval(fitted, wanted_costs) + gain
    wanted_returns = rng.uniform(lowest, np.maximum(lowest, highest_return))
    taken: set[int] = set()
    chosen = []
    for cost, wanted in zip(wanted_costs, wanted_returns, strict=True):
        allowed = np.flatnonzero(costs <= cost)
        nearest = int(allowed[_distance(returns, costs, allowed, wanted, cost).argmin()])
        if nearest in taken:
            no_dearer = (costs <= costs[nearest]) & (returns >= returns[nearest] - largest_decrease)
            others = np.flatnonzero(no_dearer)
            distance = _distance(returns, costs, others, returns[nearest], costs[nearest])
            weight = 1 / (distance + 1)
            chosen.append(int(rng.choice(others, p=weight / weight.sum())))
        else:
            taken.add(nearest)
            chosen.append(nearest)
    return Relabelled(kept[np.array(chosen, dtype=np.int64)], wanted_returns, wanted_costs)


def _distance(
    returns: Floats, costs: Floats, episodes: NDArray[np.int64], to_return: float, to_cost: float
) -> Floats:
    found: Floats = np.hypot(costs[episodes] - to_cost, returns[episodes] - to_return)
    return found
