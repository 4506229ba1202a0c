"""Episodes of one simulator, recorded as data."""

from collections.abc import Callable, Sequence

import numpy as np

from safesweep.trainables.tasks.simulator import FloatArray, Simulator
from safesweep.trainables.tasks.suite import Arrays

ActOnce = Callable[[FloatArray], FloatArray]
"""observation [o] -> action [a], which may leave the bounds."""


def record_episode(
    simulator: Simulator, observation: FloatArray, act: ActOnce, disturbances: FloatArray
) -> Arrays:
    """Run an episode that has been reset; `disturbances` [horizon, a] are added to actions."""
    observations, actions, rewards, costs = [observation], [], [], []
    terminated = False
    for disturbance in disturbances:
        # What is stored must be what was done, so the rounding to float32 comes first.
        action = np.clip(act(observation) + disturbance, -1.0, 1.0).astype(np.float32)
        observation, reward, cost, terminated = simulator.step(action.astype(np.float64))
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        costs.append(cost)
        if terminated:
            break
    states = np.asarray(observations, dtype=np.float32)
    terminals = np.zeros(len(rewards), dtype=bool)
    timeouts = np.zeros(len(rewards), dtype=bool)
    (terminals if terminated else timeouts)[-1] = True
    return {
        "observations": states[:-1],
        "next_observations": states[1:],
        "actions": np.asarray(actions),
        "rewards": np.asarray(rewards, dtype=np.float32),
        "costs": np.asarray(costs, dtype=np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def joined(episodes: Sequence[Arrays]) -> Arrays:
    """Several episodes one after the other."""
    return {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
