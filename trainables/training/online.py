"""Training that goes on in the environment: what the runs of a population see there."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.tasks.registry import suite_of
from safesweep.trainables.tasks.simulator import Act
from safesweep.trainables.tasks.suite import Arrays
from safesweep.trainables.tasks.task import Task

EpisodeSeed = Callable[[int, int], int]
"""(member, how many episodes it began before) -> the seed of the next one."""


def collect_transitions(
    task: Task, act: Act, members: int, steps: int, seed_of: EpisodeSeed
) -> Arrays:
    """`steps` steps of each member in an environment of its own, from fresh episodes.

    An episode that ends is followed by another one; the last is cut off by a time-out. What is
    seen depends on `act` and the seeds alone, so that it repeats.

    Args:
        act: is called once a step for all members, as with one episode each.

    Returns:
        `observations, next_observations, actions, rewards, costs, terminals, timeouts`, each
        [members, steps, ...], and `begun` [members], how many episodes were begun.

    Raises:
        InvalidInput: the simulator is not installed.
    """
    suite = suite_of(task)
    simulators = [suite.make_online_simulator(task) for _ in range(members)]
    begun, length = np.zeros(members, dtype=np.int64), np.zeros(members, dtype=np.int64)
    observations = np.zeros((members, steps, task.observation_dim), dtype=np.float32)
    found: Arrays = {
        "observations": observations,
        "next_observations": np.zeros_like(observations),
        "actions": np.zeros((members, steps, task.action_dim), dtype=np.float32),
        **{name: np.zeros((members, steps), dtype=np.float32) for name in ("rewards", "costs")},
        **{name: np.zeros((members, steps), dtype=bool) for name in ("terminals", "timeouts")},
    }
    current: NDArray[np.float32] = np.zeros((members, 1, task.observation_dim), dtype=np.float32)
    ended = np.ones(members, dtype=bool)
    try:
        for step in range(steps):
            for member in np.flatnonzero(ended):
                seed = seed_of(int(member), int(begun[member]))
                current[member, 0] = simulators[member].reset(seed)
                begun[member], length[member] = begun[member] + 1, 0
            actions = np.clip(act(current, step, slice(None), slice(None))[:, 0], -1.0, 1.0)
            for member, simulator in enumerate(simulators):
                # What is stored must be what was done, so the rounding to float32 comes first.
                action = np.asarray(actions[member], dtype=np.float32)
                after, reward, cost, terminal = simulator.step(action.astype(np.float64))
                length[member] += 1
                place = member, step
                found["observations"][place] = current[member, 0]
                found["next_observations"][place] = after
                found["actions"][place] = action
                found["rewards"][place], found["costs"][place] = reward, cost
                found["terminals"][place] = terminal
                cut = length[member] == task.horizon or step == steps - 1
                found["timeouts"][place] = cut and not terminal
                ended[member] = terminal or cut
                current[member, 0] = after
    finally:
        for simulator in simulators:
            simulator.close()
    return {**found, "begun": begun}
