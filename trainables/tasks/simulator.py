"""What a suite's environments do: step one at a time, or a whole population's at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

Act = Callable[[NDArray[np.float32], int, slice, slice], FloatArray]
"""(observations [M, E, o], step index, which M of the members, which E of the episodes) -> actions
[M, E, a].

Must be a function of its arguments: noise has to be drawn per (member, step index) for all
episodes, of which these are some, never from a generator that earlier calls moved on. Rows of
episodes that have ended, or are not asked for, stand still.
"""


class Simulator(Protocol):
    """One live environment; observations are float arrays [o], actions [a] within [-1, 1]."""

    def reset(self, seed: int) -> FloatArray:
        """Start an episode that depends on nothing but `seed`; returns the first observation."""

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        """Returns (next observation, reward, cost, terminated)."""

    def close(self) -> None:
        """Free what the environment holds."""


@dataclass(frozen=True, eq=False)
class Episodes:
    """Outcomes of one episode per member and seed; every array is [members, episodes].

    Attributes:
        reward_returns: undiscounted sums of rewards, float64.
        cost_returns: undiscounted sums of costs, float64.
        lengths: steps, int64.
    """

    reward_returns: NDArray[np.float64]
    cost_returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
