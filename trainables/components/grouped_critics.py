"""Two groups of critics in one ensemble, as OSRL's BCQ-Lag and BEAR-Lag have them.

A group's value is the worst of its networks; between the groups the two values are mixed (BCQ,
Fujimoto et al., 2019, eq. 13). The worst reward is the smallest, the worst cost the largest.
"""

from torch import Tensor

GROUPS = 2


def mixed_value(values: Tensor, weight: Tensor, largest_is_worst: bool = False) -> Tensor:
    """`weight` times the worse group's value and 1 - `weight` times the other's.

    Args:
        values: of all networks, the first group's first: [k, ...].
        weight: [].

    Returns:
        [...].
    """
    networks = values.reshape(GROUPS, -1, *values.shape[1:])
    if largest_is_worst:
        groups = networks.amax(1)
        worse, better = groups.amax(0), groups.amin(0)
    else:
        groups = networks.amin(1)
        worse, better = groups.amin(0), groups.amax(0)
    return weight * worse + (1 - weight) * better


def worst_value(values: Tensor, largest_is_worst: bool = False) -> Tensor:
    """The worst of all networks: [k, ...] -> [...]."""
    return values.amax(0) if largest_is_worst else values.amin(0)
