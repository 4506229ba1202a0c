"""Environments of gymnasium for the tests of task files."""

from typing import Any

import gymnasium
import numpy as np


class Lane(gymnasium.Env):
    """A line from -1 to 1: speed earns, and more than half speed costs 0.5."""

    def __init__(self, limit: float = 1.0, shape: tuple[int, ...] = (1,), entry: str = "cost"):
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, shape)
        self.action_space = gymnasium.spaces.Box(-limit, limit, (1,))
        self._entry = entry

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._place = np.array([self.np_random.uniform(-1.0, -0.5)])
        return self._place.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._place = self._place + 0.25 * action
        cost = 0.5 * float(abs(action[0]) > 0.5)
        over = bool(self._place[0] >= 1.0)
        return self._place.copy(), float(action[0]), over, False, {self._entry: cost}


gymnasium.register("Lane-v0", Lane, max_episode_steps=3)
gymnasium.register("FastLane-v0", lambda: Lane(limit=2.0))
gymnasium.register("PictureLane-v0", lambda: Lane(shape=(4, 4)))
