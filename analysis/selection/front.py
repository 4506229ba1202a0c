"""The Pareto front of reward and cost."""

import numpy as np
import numpy.typing as npt

from safesweep.trainables.components.return_augmentation import pareto_front
from safesweep.trainables.store.scores import rounded


def non_dominated(
    reward: npt.NDArray[np.float64], cost: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Places of the points [n] of which no other one has more reward at no more cost, or the same
    reward at less; the cheapest first, of equal points the first. Points with a missing score are
    on no front."""
    whole = np.flatnonzero(~np.isnan(reward + cost))
    return np.asarray(whole[pareto_front(rounded(reward[whole]), rounded(cost[whole]))])
