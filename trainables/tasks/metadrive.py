"""DSRL's nine driving tasks on the current MetaDrive simulator (the extra `metadrive`).

DSRL 0.1.0 defines them for a fork of MetaDrive 0.2.6 and the legacy gym interface; this is the same
definition (its `offline_metadrive`; LSPC table 6) for version 0.4.3. Nothing is drawn, so the
simulator's art is neither needed nor downloaded. The map and the lane of the start follow from the
road's start seed and never change; the traffic follows from the episode's seed.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.tasks.registry import Task

FloatArray = NDArray[np.floating[Any]]

Driver = Callable[[FloatArray], FloatArray]
"""observation -> action [2] (steering, throttle); it sees the simulator's state instead."""

LASERS = 240
"""Distances that end an observation, in units of the lidar's reach (50 m)."""

SPEED_LIMIT = 10.0
"""km/h; what is faster costs."""

_COST_PER_SPEED = 0.01
_COST_PER_PROXIMITY = 0.01
_PROXIMITY = 0.1
_METRES_PER_SECOND = 3.6


@dataclass(frozen=True)
class Road:
    """Blocks of a road (S straight, C curve, X crossing, T junction, R ramp, O roundabout)."""

    blocks: str
    start_seed: int


ROADS = {"easy": Road("SCS", 0), "medium": Road("XST", 100), "hard": Road("TRO", 200)}
TRAFFIC_DENSITY = {"sparse": 0.1, "mean": 0.15, "dense": 0.2}

SETTINGS = {
    road + traffic: (ROADS[road], density)
    for road in ROADS
    for traffic, density in TRAFFIC_DENSITY.items()
}
"""Road and traffic density by the task's key."""


def step_cost(event_cost: float, speed: float, nearest: float) -> float:
    """DSRL's cost of one step.

    DSRL reads the speed from its fork's `velocity`, which is in km/h (0.4.3 has m/s there). Its
    data agrees: driven at 20.7 km/h the easy road costs 75 in all, as DSRL's costliest episodes do
    (82); in m/s no episode could cost more than 25.

    Args:
        event_cost: MetaDrive's own: 1 for leaving the road or a crash, else 0.
        speed: in km/h.
        nearest: the smallest lidar reading, 0 to 1.
    """
    speeding = _COST_PER_SPEED * max(0.0, speed - SPEED_LIMIT)
    proximity = _COST_PER_PROXIMITY * max(0.0, _PROXIMITY - nearest) ** 2
    return event_cost + speeding + proximity


@cache
def _environment_class() -> type[Any]:
    from metadrive.engine.base_engine import BaseEngine
    from metadrive.envs.metadrive_env import MetaDriveEnv
    from metadrive.utils import get_np_random

    class RoadEnvironment(MetaDriveEnv):
        """A fixed road whose traffic follows from the seed of `reset`."""

        def lazy_init(self) -> None:
            # The engine downloads its art when it starts, though only drawing needs it.
            download = BaseEngine.try_pull_asset
            BaseEngine.try_pull_asset = staticmethod(lambda: None)
            try:
                super().lazy_init()
            finally:
                BaseEngine.try_pull_asset = staticmethod(download)

        def _reset_global_seed(self, force_seed: int | None = None) -> None:
            super()._reset_global_seed(self.config["start_seed"])
            # With `random_traffic` the traffic's generator ignores the engine's seed.
            self.engine.traffic_manager.np_random = get_np_random(force_seed)

    return RoadEnvironment


def _make_environment(key: str) -> Any:
    from metadrive.manager.traffic_manager import TrafficMode

    road, density = SETTINGS[key]
    return _environment_class()(
        {
            "start_seed": road.start_seed,
            "num_scenarios": 1,
            "map": len(road.blocks),
            "map_config": {"type": "block_sequence", "config": road.blocks},
            "traffic_density": density,
            "traffic_mode": TrafficMode.Hybrid,
            "random_traffic": True,
            "accident_prob": 0.0,
            "horizon": 1000,
            "crash_vehicle_penalty": 0.0,
            # A recycled vehicle keeps some of its last episode: without this, episodes differ.
            "force_destroy": True,
            "log_level": 50,
        }
    )


class _Engine:
    """The one environment that a process can have, kept open between episodes and simulators."""

    def __init__(self) -> None:
        self._key: str | None = None
        self._environment: Any = None
        self._user: object = None
        self._lock = threading.Lock()

    def start(self, user: object, key: str, seed: int) -> FloatArray:
        """The first observation of an episode of `user`, whose the environment now is."""
        with self._lock:
            if self._key != key:
                self._close()
                self._environment, self._key = _make_environment(key), key
            self._user = user
            try:
                observation, _ = self._environment.reset(seed=seed)
            except BaseException:
                self._close()
                raise
            return np.asarray(observation)

    def of(self, user: object) -> Any:
        """The environment, if the episode is still that of `user`."""
        if self._user is not user:
            raise RuntimeError("MetaDrive runs one episode at a time in a process")
        return self._environment

    def leave(self, user: object) -> None:
        """`user` needs it no longer."""
        if self._user is user:
            self._user = None

    def close(self) -> None:
        """End the episode and free the environment."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        environment, self._environment, self._key, self._user = self._environment, None, None, None
        if environment is not None:
            environment.close()


ENGINE = _Engine()


class MetaDriveSimulator:
    """A MetaDrive task.

    A process has one engine: simulators take turns, and a reset ends the episode of whichever
    simulator had it. Episodes are the same in a fresh engine and in one that has been used.
    """

    def __init__(self, task: Task) -> None:
        self._key = task.key

    def reset(self, seed: int) -> FloatArray:
        return ENGINE.start(self, self._key, seed)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        environment = ENGINE.of(self)
        observation, reward, terminated, _, information = environment.step(
            [float(action[0]), float(action[1])]
        )
        cost = step_cost(
            float(information["cost"]),
            float(information["velocity"]) * _METRES_PER_SECOND,
            float(observation[-LASERS:].min()),
        )
        return observation, float(reward), cost, bool(terminated)

    def close(self) -> None:
        ENGINE.leave(self)

    def follow_traffic(self, target_speed: float, seed: int) -> Driver:
        """MetaDrive's intelligent driver model, which keeps distance and changes lanes.

        Args:
            target_speed: km/h on a free road.
            seed: of its readiness to overtake.
        """
        from metadrive.policy.idm_policy import IDMPolicy

        policy = IDMPolicy(ENGINE.of(self).agent, seed)
        policy.NORMAL_SPEED = policy.target_speed = target_speed
        return lambda observation: np.asarray(policy.act(True), dtype=np.float64)

    def follow_expert(self) -> Driver:
        """The policy that comes with MetaDrive, trained by PPO for reward alone."""
        from metadrive.examples.ppo_expert.numpy_expert import expert

        vehicle = ENGINE.of(self).agent
        return lambda observation: np.asarray(expert(vehicle, deterministic=True), dtype=np.float64)
