"""Rolling out policies of a whole population in a task's environments."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.boat import HORIZON, BoatEnvironment, start_states
from trainables.simulators import Simulators, open_simulators
from trainables.tasks import Task

FloatArray = NDArray[np.floating]

Act = Callable[[NDArray[np.float32], int, slice], FloatArray]
"""(observations [members, E, o], step index, which E of the episodes) -> actions [members, E, a].

Must be a function of its arguments: noise has to be drawn per (member, step index) for all
episodes, of which these are some, never from a generator that earlier calls moved on. The rows of
episodes that have ended are left as they were.
"""

# Live simulators of each process that simulates. Bounds its memory to 1 or 2 GB: a PyBullet client
# holds 28 MB, a navigation world 200 MB, a velocity task 1 MB. Fewer also step faster, for want of
# cache, but every further wave asks the policies again.
MAX_LIVE_SIMULATORS = {
    "bullet": 32,
    "safety_gymnasium_navigation": 8,
    "safety_gymnasium_velocity": 256,
    # A process has one engine.
    "metadrive": 1,
    "ogbench": 16,
}


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

    Every (member, episode) has an environment of its own, which depends only on the episode's
    seed, so that no outcome depends on who else is there. Actions are clipped to [-1, 1]; episodes
    that have ended keep receiving actions, which are ignored.

    Args:
        episode_seeds: whole numbers >= 0, [episodes] (every member meets the same starts) or
            [members, episodes].
        processes: how many may simulate at a time, where there is enough to simulate.

    Raises:
        InvalidInput: the task's simulator is not installed.
    """
    given = np.asarray(episode_seeds, dtype=np.int64)
    seeds = np.broadcast_to(given, (members, given.shape[-1]))
    if task.suite == "boat":
        return _rollout_boats(task, act, seeds)
    episodes = seeds.shape[1]
    outcomes = Episodes(
        np.zeros((members, episodes)),
        np.zeros((members, episodes)),
        np.zeros((members, episodes), dtype=np.int64),
    )
    simulators = open_simulators(task, members * episodes, processes)
    live = MAX_LIVE_SIMULATORS[task.suite] * simulators.processes
    at_once = max(1, live // members)
    for first in range(0, episodes, at_once):
        chosen = slice(first, min(first + at_once, episodes))
        pairs = [(m, e) for e in range(chosen.start, chosen.stop) for m in range(members)]
        for begin in range(0, len(pairs), live):
            wave = np.array(pairs[begin : begin + live])
            _rollout_wave(task, act, simulators, wave, chosen, seeds, outcomes)
    return outcomes


def _rollout_wave(
    task: Task,
    act: Act,
    simulators: Simulators,
    wave: NDArray[np.int64],
    chosen: slice,
    seeds: NDArray[np.int64],
    outcomes: Episodes,
) -> None:
    """Run the episodes of a wave, rows (member, episode) [n, 2], to their ends."""
    members, episodes = wave.T
    shape = (*outcomes.lengths.shape, task.observation_dim)
    observations = np.zeros(shape, dtype=np.float32)
    observations[members, episodes] = simulators.reset(seeds[members, episodes].tolist())
    running = np.ones(len(wave), dtype=bool)
    for step in range(task.horizon):
        # Some simulators compute in the precision of the action that they are given.
        asked = act(observations[:, chosen], step, chosen)
        actions = np.clip(np.asarray(asked, dtype=np.float64), -1.0, 1.0)
        after, rewards, costs, ended = simulators.step(actions[members, episodes - chosen.start])
        rows = members[running], episodes[running]
        observations[rows] = after[running]
        outcomes.reward_returns[rows] += rewards[running]
        outcomes.cost_returns[rows] += costs[running]
        outcomes.lengths[rows] = step + 1
        running = ~ended
        if not running.any():
            break


def _rollout_boats(task: Task, act: Act, seeds: NDArray[np.int64]) -> Episodes:
    shape = seeds.shape
    starts = start_states(seeds.reshape(-1).tolist(), task.name)
    boats = BoatEnvironment(task.name, starts.reshape(*shape, 2))
    reward_returns, cost_returns = np.zeros(shape), np.zeros(shape)
    for step in range(HORIZON):
        actions = np.clip(act(boats.observations, step, slice(0, shape[1])), -1.0, 1.0)
        _, rewards, costs = boats.step(actions)
        reward_returns += rewards
        cost_returns += costs
    return Episodes(reward_returns, cost_returns, np.full(shape, HORIZON, dtype=np.int64))
