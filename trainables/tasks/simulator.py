"""What a suite's environments do: step one at a time, or a whole population's at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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


class VisibleSimulator(Simulator, Protocol):
    """One that can be looked at."""

    def picture(self) -> NDArray[np.uint8]:
        """The present state, [height, width, 3] red, green and blue."""


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


@runtime_checkable
class ActsWithMemory(Protocol):
    """An `Act` of policies that may remember: the rollout keeps what they do, for each block of
    episodes, so that they remain functions of their arguments."""

    def begin(self, members: slice, shape: tuple[int, ...]) -> Any:
        """What is remembered at the start of `shape` [M, E] episodes; None without a memory."""

    def respond(
        self,
        observations: NDArray[np.float32],
        step: int,
        members: slice,
        episodes: slice,
        memory: Any,
        rewards: FloatArray,
        costs: FloatArray,
    ) -> tuple[FloatArray, Any]:
        """Actions, and what is remembered from here on; rewards and costs [M, E] are those of the
        step before."""


class EpisodeBlock:
    """The policies of some members in some episodes, from the first step to the last."""

    def __init__(self, act: Act, members: slice, episodes: slice, shape: tuple[int, ...]) -> None:
        self._act, self._block = act, (members, episodes)
        self._memory = act.begin(members, shape) if isinstance(act, ActsWithMemory) else None
        self._last = np.zeros((2, *shape))

    def actions(self, observations: NDArray[np.float32], step: int) -> FloatArray:
        """What the policies do at a step."""
        if self._memory is None or not isinstance(self._act, ActsWithMemory):
            return self._act(observations, step, *self._block)
        actions, self._memory = self._act.respond(
            observations, step, *self._block, self._memory, *self._last
        )
        return actions

    def answered(self, rewards: FloatArray, costs: FloatArray) -> None:
        """Take in what the step's actions brought, [M, E] or flat."""
        shape = self._last.shape[1:]
        self._last = np.stack([rewards.reshape(shape), costs.reshape(shape)])
