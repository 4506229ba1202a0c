"""Many modes of behaviour in one state: a two-dimensional toy in the manner of FLP's figure 2.

Every episode is one step from the same state. Behaviour picks one of eight modes on a ring, all
equally often; the reward is the action's first number, so that one mode is the richest and lies far
from the others. The figure prints neither its dataset nor its values: these are ours. It asks
whether a policy can move between modes without crossing the empty space between them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.tasks.registry import Task

FloatArray = NDArray[np.floating[Any]]

MODES = 8
RING_RADIUS = 0.7
MODE_DEVIATION = 0.06
# An action belongs to a mode within this distance of its centre, as 98.9 % of the data do.
MODE_RADIUS = 3 * MODE_DEVIATION


def bandit_task() -> Task:
    """The toy as a task; it has no simulator, since `bandit_reward` says it all."""
    return Task(
        name="MultimodalBandit",
        key="MultimodalBandit",
        suite="bandit",
        observation_dim=1,
        action_dim=2,
        horizon=1,
        min_return=0.0,
        max_return=1.0,
        max_cost=0.0,
        cost_limits=(1.0,),
        dataset_file=None,
        dataset_urls=(),
        trajectories=None,
    )


def mode_centres() -> FloatArray:
    """Centres [MODES, 2] around the ring; the first is the richest."""
    angles = 2 * np.pi * np.arange(MODES) / MODES
    centres: FloatArray = RING_RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return centres


def bandit_reward(actions: FloatArray) -> FloatArray:
    """The reward [...] of actions [..., 2]."""
    return np.asarray(actions)[..., 0]


def bandit_dataset(samples: int = 4000, seed: int = 0) -> Dataset:
    """`samples` steps of behaviour, each an episode of its own that truly ends."""
    rng = np.random.default_rng(seed)
    centres = mode_centres()[rng.integers(MODES, size=samples)]
    noise = MODE_DEVIATION * rng.standard_normal((samples, 2))
    actions = (centres + noise).clip(-1, 1).astype(np.float32)
    nothing = np.zeros((samples, 1), dtype=np.float32)
    return Dataset(
        task=bandit_task().name,
        dataset_id=f"bandit-{samples}-{seed}",
        observations=nothing,
        next_observations=nothing.copy(),
        actions=actions,
        rewards=bandit_reward(actions).astype(np.float32),
        costs=np.zeros(samples, dtype=np.float32),
        terminals=np.ones(samples, dtype=bool),
        timeouts=np.zeros(samples, dtype=bool),
    )


def mode_shares(actions: FloatArray) -> FloatArray:
    """Share of actions [n, 2] in each mode [MODES]; what is missing to 1 lies between the modes."""
    distances = np.linalg.norm(np.asarray(actions)[:, None] - mode_centres(), axis=-1)
    shares: FloatArray = (distances <= MODE_RADIUS).mean(axis=0)
    return shares
