"""Rolling out policies of a whole population in a task's environments."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainables.boat import HORIZON, BoatEnvironment, start_states
from trainables.dsrl_compatibility import Simulator, make_simulator
from trainables.tasks import Task

FloatArray = NDArray[np.floating]

Act = Callable[[NDArray[np.float32], int, slice], FloatArray]
"""(observations [members, E, o], step index, which E of the episodes) -> actions [members, E, a].

Must be a function of its arguments: noise has to be drawn per (member, step index) for all
episodes, of which these are some, never from a generator that earlier calls moved on. The rows of
episodes that have ended are left as they were.
"""

# Live simulators at a time. Bounds memory to 1 or 2 GB: a PyBullet client holds 28 MB, a navigation
# world 200 MB, a velocity task 1 MB. Fewer also step faster, for want of cache, but every further
# wave asks the policies again.
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


def rollout(task: Task, act: Act, members: int, episode_seeds: ArrayLike) -> Episodes:
    """Run one episode per member and seed, until the environment ends it or the horizon.

    Every (member, episode) has an environment of its own, which depends only on the episode's
    seed, so that no outcome depends on who else is there. Actions are clipped to [-1, 1]; episodes
    that have ended keep receiving actions, which are ignored.

    Args:
        episode_seeds: whole numbers >= 0, [episodes] (every member meets the same starts) or
            [members, episodes].

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
    live = MAX_LIVE_SIMULATORS[task.suite]
    at_once = max(1, live // members)
    for first in range(0, episodes, at_once):
        chosen = slice(first, min(first + at_once, episodes))
        pairs = [(m, e) for e in range(chosen.start, chosen.stop) for m in range(members)]
        for begin in range(0, len(pairs), live):
            _rollout_wave(task, act, pairs[begin : begin + live], chosen, seeds, outcomes)
    return outcomes


def _rollout_wave(
    task: Task,
    act: Act,
    wave: list[tuple[int, int]],
    chosen: slice,
    seeds: NDArray[np.int64],
    outcomes: Episodes,
) -> None:
    shape = (*outcomes.lengths.shape, task.observation_dim)
    observations = np.zeros(shape, dtype=np.float32)
    live: list[tuple[int, int, Simulator]] = []
    try:
        for member, episode in wave:
            simulator = make_simulator(task)
            live.append((member, episode, simulator))
            observations[member, episode] = simulator.reset(int(seeds[member, episode]))
        running = list(live)
        for step in range(task.horizon):
            # Some simulators compute in the precision of the action that they are given.
            asked = act(observations[:, chosen], step, chosen)
            actions = np.clip(np.asarray(asked, dtype=np.float64), -1.0, 1.0)
            still_running = []
            for entry in running:
                member, episode, simulator = entry
                observation, reward, cost, terminated = simulator.step(
                    actions[member, episode - chosen.start]
                )
                observations[member, episode] = observation
                outcomes.reward_returns[member, episode] += reward
                outcomes.cost_returns[member, episode] += cost
                outcomes.lengths[member, episode] = step + 1
                if not terminated:
                    still_running.append(entry)
            running = still_running
            if not running:
                break
    finally:
        for _, _, simulator in live:
            simulator.close()


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
