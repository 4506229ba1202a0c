"""Rolling out policies of a whole population in a task's environments."""

import math
from collections.abc import Iterator

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

from safesweep.trainables.tasks.processes import WAITING, Wave, simulate
from safesweep.trainables.tasks.processors import usable_cpus
from safesweep.trainables.tasks.registry import suite_of
from safesweep.trainables.tasks.simulator import Act, EpisodeBlock, Episodes
from safesweep.trainables.tasks.task import Task

MEMORY_SHARE = 0.3
"""Of the machine's memory, for the simulators of all processes of a trial that has all CPUs."""


def rollout(
    task: Task,
    act: Act,
    members: int,
    episode_seeds: ArrayLike,
    processes: int = 1,
    spread: bool = False,
) -> Episodes:
    """Run one episode per member and seed, until the environment ends it or the horizon.

    Every (member, episode) has an environment of its own, which depends only on the seeds of
    episodes, so that no outcome depends on who else is there. Actions are clipped to [-1, 1];
    episodes that have ended keep receiving actions, which are ignored.

    Args:
        episode_seeds: whole numbers >= 0, [episodes] (every member meets the same starts) or
            [members, episodes].
        processes: how many simulate at a time; see `processes.worthwhile_processes`.
        spread: for all members the same starts, which on the boats are spread evenly, as the first
            seed has it (`boat.spread_starts`).

    Raises:
        InvalidInput: the task's simulator is not installed.
    """
    given = np.asarray(episode_seeds, dtype=np.int64)
    seeds = np.broadcast_to(given, (members, given.shape[-1]))
    at_once = suite_of(task).rollout
    if at_once is not None:
        return at_once(task, act, seeds, spread)
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
    suite = suite_of(task)
    processes = usable_cpus() + WAITING
    share = psutil.virtual_memory().total * MEMORY_SHARE / processes
    return max(1, min(suite.simulators_a_process, int(share / (suite.simulator_megabytes * 2**20))))


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
