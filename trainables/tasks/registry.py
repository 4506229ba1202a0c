"""Every task with its constants: the 38 of DSRL (Liu et al., 2024), two embedded ones, and ten of
OGBench (Park et al., 2025), which have no costs.

DSRL's constants are those of its `infos` tables: the smallest and largest episode return in a
task's dataset (they normalise rewards), the largest episode cost, and the number of trajectories.
"""

import re
from dataclasses import dataclass
from typing import Any

from safesweep.search_spaces.validation import InvalidInput, did_you_mean, shown

# The host in DSRL 0.1.0 (second) no longer answers; the mirror that its repository now names is
# tried first.
_MIRRORS = (
    "https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/",
    "http://data.offline-saferl.org/download/",
)

_COST_LIMITS = {
    "boat": (1.0,),
    "bullet": (10.0, 20.0, 40.0),
    "safety_gymnasium_navigation": (20.0, 40.0, 80.0),
    "safety_gymnasium_velocity": (20.0, 40.0, 80.0),
    "metadrive": (10.0, 20.0, 40.0),
    "ogbench": (1.0,),
}


@dataclass(frozen=True)
class Task:
    """One environment and its dataset.

    Attributes:
        name: canonical id, e.g. "OfflineCarRun-v0".
        key: the short name in papers' tables, e.g. "CarRun".
        suite: boat, bullet, safety_gymnasium_navigation, safety_gymnasium_velocity or metadrive,
            ogbench.
        observation_dim: numbers in an observation.
        action_dim: numbers in an action; every action lies in [-1, 1].
        horizon: the most steps in an episode.
        min_return: episode return that normalises to 0.
        max_return: episode return that normalises to 1.
        max_cost: largest episode cost in the dataset (boats: the horizon).
        cost_limits: the episode-cost limits under which the task is reported.
        dataset_file: DSRL's file name, None for tasks without a published file.
        dataset_urls: where the file can be fetched, in the order to try.
        trajectories: episodes in the published file.
    """

    name: str
    key: str
    suite: str
    observation_dim: int
    action_dim: int
    horizon: int
    min_return: float
    max_return: float
    max_cost: float
    cost_limits: tuple[float, ...]
    dataset_file: str | None
    dataset_urls: tuple[str, ...]
    trajectories: int | None

    @property
    def cost_limit(self) -> float:
        """The default limit: the smallest of `cost_limits`."""
        return min(self.cost_limits)

    def normalize_reward(self, reward_return: Any) -> Any:
        """(R - min_return) / (max_return - min_return), for a number or an array."""
        return (reward_return - self.min_return) / (self.max_return - self.min_return)

    def limit_or_own(self, cost_limit: float | None) -> float:
        """The limit that is asked for, or the task's own where none is."""
        return self.cost_limit if cost_limit is None else float(cost_limit)

    @staticmethod
    def normalize_cost(cost_return: Any, cost_limit: float) -> Any:
        """C / limit, for a number or an array; (C + 1) / 1 if the limit is 0 (DSRL)."""
        shift = 1.0 if cost_limit == 0 else 0.0
        return (cost_return + shift) / (cost_limit + shift)


# key, observation_dim, action_dim, horizon, min_return, max_return, max_cost,
# and from the file's name: the cost bound and the number of trajectories
_BULLET = (
    ("AntCircle", 34, 8, 500, 0.0177031010389328, 460.7091979980469, 200.0, 200, 5728),
    ("AntRun", 33, 8, 200, 0.001767391717990563, 955.4818725585938, 150.0, 150, 1816),
    ("BallCircle", 8, 2, 200, 0.38312244415283203, 881.46337890625, 80.0, 80, 886),
    ("BallRun", 7, 2, 100, 26.339754104614258, 1327.445556640625, 80.0, 80, 940),
    ("CarCircle", 8, 2, 300, 3.484419822692871, 534.3060913085938, 100.0, 100, 1450),
    ("CarRun", 7, 2, 200, 204.28726196289062, 574.6533203125, 40.0, 40, 651),
    ("DroneCircle", 18, 4, 300, 207.794189453125, 996.38916015625, 100.0, 100, 1923),
    ("DroneRun", 17, 4, 200, 10.557029724121094, 682.8330078125, 140.0, 140, 1990),
)
_NAVIGATION = (
    ("CarButton1", 88, 2, 1000, 0.0028926206826067613, 44.420003345738984, 250.0, 250, 2656),
    ("CarButton2", 88, 2, 1000, 0.001767391717990563, 41.99513815522894, 300.0, 300, 3755),
    ("CarCircle1", 40, 2, 500, 8.037073135375977, 24.94155502319336, 250.0, 250, 1271),
    ("CarCircle2", 40, 2, 500, 5.113386154174805, 25.950098037719727, 398.0, 400, 940),
    ("CarGoal1", 72, 2, 1000, 0.012232819540852091, 39.907809198384705, 120.0, 120, 1671),
    ("CarGoal2", 72, 2, 1000, 0.001032874531954775, 28.902897990056502, 200.0, 200, 4105),
    ("CarPush1", 88, 2, 1000, 0.013700173533941762, 16.304467598905237, 200.0, 200, 2871),
    ("CarPush2", 88, 2, 1000, 0.00029391133526335267, 15.141648491514314, 250.0, 250, 4407),
    ("PointButton1", 76, 2, 1000, 0.008822109034937853, 41.19301568767707, 200.0, 200, 2268),
    ("PointButton2", 76, 2, 1000, 0.014114166087574098, 42.8985953616709, 250.0, 250, 3288),
    ("PointCircle1", 28, 2, 500, 20.067626953125, 61.72819519042969, 200.0, 200, 1098),
    ("PointCircle2", 28, 2, 500, 20.478347778320312, 54.02184295654297, 299.0, 300, 895),
    ("PointGoal1", 60, 2, 1000, 0.01196012764197707, 30.071114857340543, 100.0, 100, 2022),
    ("PointGoal2", 60, 2, 1000, 0.002616959830266108, 27.717709787852737, 200.0, 200, 3442),
    ("PointPush1", 76, 2, 1000, 0.0014001545292344209, 16.518654299293367, 150.0, 150, 2379),
    ("PointPush2", 76, 2, 1000, 0.0012438183001730607, 14.691039145644403, 200.0, 200, 3242),
)
_VELOCITY = (
    ("AntVelocity", 27, 8, 1000, 6.1519012451171875, 2976.276611328125, 250.0, 250, 2249),
    ("HalfCheetahVelocity", 17, 6, 1000, 5.7509765625, 2806.93310546875, 250.0, 250, 2495),
    ("HopperVelocity", 11, 3, 1000, 37.05154800415039, 1911.396728515625, 250.0, 250, 2240),
    ("SwimmerVelocity", 8, 2, 1000, 0.07114458084106445, 238.95831298828125, 200.0, 200, 1686),
    ("Walker2dVelocity", 17, 6, 1000, 18.668498992919922, 3418.223876953125, 300.0, 300, 2729),
)
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


def _dsrl_task(suite: str, row: tuple[Any, ...]) -> Task:
    (
        key,
        observations,
        actions,
        horizon,
        low,
        high,
        max_cost,
        cost_bound,
        trajectories,
    ) = row
    name, stem = {
        "bullet": (f"Offline{key}-v0", f"Safety{key}-v0"),
        "safety_gymnasium_navigation": (
            f"Offline{key}Gymnasium-v0",
            f"Safety{key}Gymnasium-v0",
        ),
        "safety_gymnasium_velocity": (
            f"Offline{key}Gymnasium-v1",
            f"Safety{key}Gymnasium-v1",
        ),
        "metadrive": (f"OfflineMetadrive-{key}-v0", f"SafeMetaDrive-{key}-v0"),
    }[suite]
    file = f"{stem}-{cost_bound}-{trajectories}.hdf5"
    return Task(
        name=name,
        key=key,
        suite=suite,
        observation_dim=observations,
        action_dim=actions,
        horizon=horizon,
        min_return=low,
        max_return=high,
        max_cost=max_cost,
        cost_limits=_COST_LIMITS[suite],
        dataset_file=file,
        dataset_urls=tuple(mirror + file for mirror in _MIRRORS),
        trajectories=trajectories,
    )


def _boat_task(key: str) -> Task:
    # Returns that normalise to 0 and 1: uniformly random actions, and the best achievable when
    # cost is ignored, each averaged over uniform starts
    # (safesweep.trainables.tasks.boat.reference_returns). Both boats share dynamics and reward, so
    # they share these.
    return Task(
        name=f"{key}-v0",
        key=key,
        suite="boat",
        observation_dim=2,
        action_dim=2,
        horizon=400,
        min_return=-710.8,
        max_return=-424.2,
        max_cost=400.0,
        cost_limits=_COST_LIMITS["boat"],
        dataset_file=None,
        dataset_urls=(),
        trajectories=None,
    )


# FLP's name of an environment, OGBench's, observations, actions, horizon. Each stands for its
# default task.
_OGBENCH = (
    ("antmaze-large", "antmaze-large-navigate", 29, 8, 1000),
    ("antmaze-giant", "antmaze-giant-navigate", 29, 8, 1000),
    ("humanoid-m", "humanoidmaze-medium-navigate", 69, 21, 2000),
    ("humanoid-l", "humanoidmaze-large-navigate", 69, 21, 2000),
    ("antsoccer", "antsoccer-arena-navigate", 42, 8, 1000),
    ("cube-single", "cube-single-play", 28, 5, 200),
    ("cube-double", "cube-double-play", 37, 5, 500),
    ("scene", "scene-play", 40, 5, 750),
    ("puzzle-3x3", "puzzle-3x3-play", 55, 5, 500),
    ("puzzle-4x4", "puzzle-4x4-play", 83, 5, 500),
)


def _ogbench_task(
    key: str, environment: str, observations: int, actions: int, horizon: int
) -> Task:
    # An episode's return is whether it succeeded (safesweep.trainables.tasks.ogbench).
    name = f"{environment}-singletask-v0"
    return Task(
        name=name,
        key=key,
        suite="ogbench",
        observation_dim=observations,
        action_dim=actions,
        horizon=horizon,
        min_return=0.0,
        max_return=1.0,
        max_cost=0.0,
        cost_limits=_COST_LIMITS["ogbench"],
        dataset_file=f"{name}.hdf5",
        dataset_urls=(f"https://rail.eecs.berkeley.edu/datasets/ogbench/{environment}-v0.npz",),
        trajectories=None,
    )


def _registry() -> dict[str, Task]:
    tasks = [_boat_task("BoatNavigation"), _boat_task("BoatNavigationHard")]
    for suite, rows in (
        ("bullet", _BULLET),
        ("safety_gymnasium_navigation", _NAVIGATION),
        ("safety_gymnasium_velocity", _VELOCITY),
        ("metadrive", _METADRIVE),
    ):
        tasks += [_dsrl_task(suite, row) for row in rows]
    tasks += [_ogbench_task(*row) for row in _OGBENCH]
    return {task.name: task for task in tasks}


TASKS: dict[str, Task] = _registry()

_KEYS = {task.key: task for task in TASKS.values()}


def get_task(name: str) -> Task:
    """The task with this canonical id or short key.

    Raises:
        InvalidInput: unknown; names the nearest task.
    """
    found = (TASKS.get(name) or _KEYS.get(name)) if isinstance(name, str) else None
    if found is not None:
        return found
    hint = did_you_mean(str(name), [*TASKS, *_KEYS])
    raise InvalidInput(
        f"task: {shown(name)} is unknown{hint} (safesweep tasks lists all {len(TASKS)})"
    )


def tasks_named_in(text: str) -> list[Task]:
    """The tasks whose id, key or environment's id (`SafetyBallRun-v0`) stands in a text, such as a
    file's name."""
    return [
        task
        for task in TASKS.values()
        if re.search(rf"(?<![A-Za-z0-9])(?:{_spellings(task)})(?![A-Za-z0-9])", text)
    ]


def task_called(name: str) -> Task | None:
    """The task of this id or key, or whose environment has this id (`SafetyBallRun-v0`); None
    where there is none."""
    known = TASKS.get(name) or _KEYS.get(name)
    if known is not None:
        return known
    return next(
        (t for t in TASKS.values() if re.fullmatch(rf"(?:{_spellings(t)})(?:-v\d+)?", name)), None
    )


def _spellings(task: Task) -> str:
    key, name = re.escape(task.key), re.escape(task.name)
    return rf"{name}|(?:Safety|Offline|offline-)?{key}(?:Gymnasium)?"
