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

from safesweep.trainables.tasks.dsrl_tasks import DATA_LICENCE, dsrl_tasks
from safesweep.trainables.tasks.recording import joined, record_episode
from safesweep.trainables.tasks.suite import Arrays, Suite
from safesweep.trainables.tasks.task import Task

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

    class RoadEnvironment(MetaDriveEnv):  # type: ignore[misc]
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


# km/h. At 10.7 an episode of the easy road that does not end early costs 10; DSRL drove at 5 to 21.
TARGET_SPEEDS = (5.0, 40.0)
# Standard deviations of the noise added to the drivers' actions, drawn for each episode.
DRIVING_NOISE = (0.0, 0.05, 0.1, 0.2)
# Every so many episodes the expert drives.
_EXPERT_TURN = 6


def collect_drives(
    task: Task, episodes: int, seed: int, progress: Callable[[int, int], None] | None
) -> tuple[Arrays, dict[str, object]]:
    """The simulator's own drivers at speeds from careful to reckless, as DSRL's data was made."""
    simulator = MetaDriveSimulator(task)
    generator = np.random.default_rng([seed, 0])
    # Spread evenly over the logarithm, so that any number of episodes has careful ones.
    places = (generator.permutation(episodes) + generator.uniform(size=episodes)) / episodes
    slowest, fastest = TARGET_SPEEDS
    recorded = []
    try:
        for episode, speed in enumerate(slowest * (fastest / slowest) ** places):
            start, readiness = (int(number) for number in generator.integers(2**31, size=2))
            observation = simulator.reset(start)
            noise = generator.choice(DRIVING_NOISE)
            disturbances = noise * generator.standard_normal((task.horizon, task.action_dim))
            if episode % _EXPERT_TURN == _EXPERT_TURN - 1:
                driver = simulator.follow_expert()
            else:
                driver = simulator.follow_traffic(speed, readiness)
            recorded.append(record_episode(simulator, observation, driver, disturbances))
            if progress is not None:
                progress(len(recorded), episodes)
    finally:
        simulator.close()
    provenance: dict[str, object] = {
        "method": "MetaDrive's intelligent driver model and PPO expert, with noise",
        "target_speeds": list(TARGET_SPEEDS),
        "action_noise": list(DRIVING_NOISE),
    }
    return joined(recorded), provenance


# The columns are those of `dsrl_tasks`.
_METADRIVE = (
    (
        "easysparse",
        259,
        2,
        1000,
        20.094310760498047,
        425.8006286621094,
        82.42418670654297,
        85,
        1000,
    ),
    ("easymean", 259, 2, 1000, 22.142553329467773, 425.82440185546875, 82.38601684570312, 85, 1000),
    ("easydense", 259, 2, 1000, 19.71139144897461, 425.81732177734375, 80.36358642578125, 85, 1000),
    (
        "mediumsparse",
        259,
        2,
        1000,
        17.446578979492188,
        269.80084228515625,
        46.46459197998047,
        50,
        1000,
    ),
    (
        "mediummean",
        259,
        2,
        1000,
        17.032529830932617,
        269.8221435546875,
        46.46154022216797,
        50,
        1000,
    ),
    (
        "mediumdense",
        259,
        2,
        1000,
        15.102348327636719,
        269.7813415527344,
        46.45858383178711,
        50,
        1000,
    ),
    ("hardsparse", 259, 2, 1000, 17.247974395751953, 486.80523681640625, 85.010009765625, 85, 1000),
    ("hardmean", 259, 2, 1000, 19.387981414794922, 486.9967956542969, 84.33995056152344, 85, 1000),
    (
        "harddense",
        259,
        2,
        1000,
        15.386894226074219,
        486.63616943359375,
        84.76679229736328,
        85,
        1000,
    ),
)

METADRIVE = Suite(
    name="metadrive",
    tasks=dsrl_tasks(_METADRIVE, "OfflineMetadrive-{key}-v0", "SafeMetaDrive-{key}-v0"),
    cost_limits=(10.0, 20.0, 40.0),
    data_licence=DATA_LICENCE,
    simulator=MetaDriveSimulator,
    packages=("metadrive-simulator", "panda3d"),
    installation=("on Python 3.11, install the extra metadrive (uv pip install -e '.[metadrive]')"),
    # A process has one engine.
    simulators_a_process=1,
    simulator_megabytes=500,
    collect=collect_drives,
    # It is slow: about 35,000 steps.
    collected_episodes=60,
)
