"""Rolling out policies of a whole population in a task's environments."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import psutil  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from safesweep.trainables.tasks.boat import HORIZON, BoatEnvironment, spread_starts, start_states
from safesweep.trainables.tasks.processes import WAITING, Wave, simulate
from safesweep.trainables.tasks.processors import usable_cpus
from safesweep.trainables.tasks.registry import Task

FloatArray = NDArray[np.floating[Any]]

Act = Callable[[NDArray[np.float32], int, slice, slice], FloatArray]
"""(observations [M, E, o], step index, which M of the members, which E of the episodes) -> actions
[M, E, a].

Must be a function of its arguments: noise has to be drawn per (member, step index) for all
episodes, of which these are some, never from a generator that earlier calls moved on. Rows of
episodes that have ended, or are not asked for, stand still.
"""


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


# How many simulators a process may have, and the MB that each takes. Each wave asks its policies
# again; more than so many gain little. The last two are guessed, and guessed high.
LIVE_SIMULATORS = {
    "bullet": (64, 28),
    "safety_gymnasium_navigation": (8, 200),
    "safety_gymnasium_velocity": (256, 1),
    # A process has one engine.
    "metadrive": (1, 500),
    "ogbench": (16, 50),
}
MEMORY_SHARE = 0.3
"""Of the machine's memory, for the simulators of all processes of a trial that has all CPUs."""


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


def rollout(
    task: Task, act: Act, members: int, episode_seeds: ArrayLike, processes: int = 1
) -> Episodes:
    """Run one episode per member and seed, until the environment ends it or the horizon.

    Every (member, episode) has an environment of its own, which depends only on the seeds of
    episodes, so that no outcome depends on who else is there. Actions are clipped to [-1, 1];
    episodes that have ended keep receiving actions, which are ignored.

    Args:
        episode_seeds: whole numbers >= 0, [episodes] (every member meets the same starts; on the
            boats these are spread evenly, as the first seed has it) or [members, episodes].
        processes: how many simulate at a time; see `simulators.worthwhile_processes`.

    Raises:
        InvalidInput: the task's simulator is not installed.
    """
    given = np.asarray(episode_seeds, dtype=np.int64)
    seeds = np.broadcast_to(given, (members, given.shape[-1]))
    if task.suite == "boat":
        if given.ndim == 1 and len(given):
            starts = spread_starts(len(given), int(given[0]), task.name)
        else:
            starts = start_states(seeds.reshape(-1).tolist(), task.name).reshape(*seeds.shape, 2)
        return _rollout_boats(task, act, np.broadcast_to(starts, (*seeds.shape, 2)))
    episodes = seeds.shape[1]
    outcomes = Episodes(
        np.zeros((members, episodes)),
        np.zeros((members, episodes)),
        np.zeros((members, episodes), dtype=np.int64),
    )
    blocks = wave_blocks(members, episodes, live_simulators(task), processes)
    simulate(task, (_wave(task, act, *block, seeds, outcomes) for block in blocks), processes)
    return outcomes


def wave_blocks(
    members: int, episodes: int, most: int, processes: int
) -> Iterator[tuple[slice, slice]]:
    """The members and the episodes of each wave: at most so many pairs.

    All episodes of some members where they fit, since these members' networks are read from memory
    at every step; fewer where processes would be left without work.
    """
    together = min(max(1, most // episodes), math.ceil(members / processes))
    groups = math.ceil(members / together)
    parts = min(episodes, max(math.ceil(episodes / most), math.ceil(processes / groups)))
    for group in range(groups):
        for part in range(parts):
            yield _part(members, groups, group), _part(episodes, parts, part)


def _part(count: int, parts: int, number: int) -> slice:
    """One of some parts of a range, whose lengths differ by at most 1."""
    return slice(count * number // parts, count * (number + 1) // parts)


def live_simulators(task: Task) -> int:
    """How many simulators a process may have at a time."""
    most, megabytes = LIVE_SIMULATORS[task.suite]
    processes = usable_cpus() + WAITING
    share = psutil.virtual_memory().total * MEMORY_SHARE / processes
    return max(1, min(most, int(share / (megabytes * 2**20))))


def _wave(
    task: Task,
    act: Act,
    members: slice,
    episodes: slice,
    seeds: NDArray[np.int64],
    outcomes: Episodes,
) -> Wave:
    """Some episodes of some members, to their ends."""
    block = members, episodes
    shape = seeds[block].shape
    observations = np.zeros((*shape, task.observation_dim), dtype=np.float32)
    observations[:] = (yield "reset", seeds[block].ravel().tolist()).reshape(observations.shape)
    running = np.ones(shape, dtype=bool)
    policies = EpisodeBlock(act, members, episodes, shape)
    for step in range(task.horizon):
        # Some simulators compute in the precision of the action that they are given.
        asked = policies.actions(observations, step)
        actions = np.clip(np.asarray(asked, dtype=np.float64), -1.0, 1.0)
        after, rewards, costs, ended = yield "step", actions.reshape(-1, actions.shape[-1])
        policies.answered(rewards, costs)
        observations[running] = after[running.ravel()]
        outcomes.reward_returns[block][running] += rewards[running.ravel()]
        outcomes.cost_returns[block][running] += costs[running.ravel()]
        outcomes.lengths[block][running] = step + 1
        running = ~ended.reshape(shape)
        if not running.any():
            break


def _rollout_boats(task: Task, act: Act, starts: FloatArray) -> Episodes:
    shape = starts.shape[:-1]
    boats = BoatEnvironment(task.name, starts)
    reward_returns, cost_returns = np.zeros(shape), np.zeros(shape)
    policies = EpisodeBlock(act, slice(0, shape[0]), slice(0, shape[1]), shape)
    for step in range(HORIZON):
        asked = policies.actions(boats.observations, step)
        actions = np.clip(asked, -1.0, 1.0)
        _, rewards, costs = boats.step(actions)
        policies.answered(rewards, costs)
        reward_returns += rewards
        cost_returns += costs
    return Episodes(reward_returns, cost_returns, np.full(shape, HORIZON, dtype=np.int64))
