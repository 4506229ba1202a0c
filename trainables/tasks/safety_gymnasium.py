"""DSRL's 21 Safety-Gymnasium tasks: navigation, and robots that run faster than they should."""

import warnings

import numpy as np

from safesweep.trainables.tasks.dsrl_imports import dsrl_environments
from safesweep.trainables.tasks.dsrl_tasks import DATA_LICENCE, INSTALLATION, dsrl_tasks
from safesweep.trainables.tasks.simulator import FloatArray
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

# The columns are those of `dsrl_tasks`.
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


class SafetyGymnasiumSimulator:
    """A safety-gymnasium environment; its reset(seed) is exact, also on a reused one."""

    def __init__(self, task: Task) -> None:
        module = dsrl_environments("offline_safety_gymnasium")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._environment = getattr(module, f"Offline{task.key}Env")()

    def reset(self, seed: int) -> FloatArray:
        observation, _ = self._environment.reset(seed=seed)
        return np.asarray(observation)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        observation, reward, cost, terminated, _, _ = self._environment.step(action)
        return observation, float(reward), float(cost), bool(terminated)

    def close(self) -> None:
        self._environment.close()


NAVIGATION = Suite(
    name="safety_gymnasium_navigation",
    tasks=dsrl_tasks(_NAVIGATION, "Offline{key}Gymnasium-v0", "Safety{key}Gymnasium-v0"),
    cost_limits=(20.0, 40.0, 80.0),
    data_licence=DATA_LICENCE,
    simulator=SafetyGymnasiumSimulator,
    packages=("safety-gymnasium", "mujoco"),
    installation=INSTALLATION,
    # The memory is guessed, and guessed high.
    simulators_a_process=8,
    simulator_megabytes=200,
)

VELOCITY = Suite(
    name="safety_gymnasium_velocity",
    tasks=dsrl_tasks(_VELOCITY, "Offline{key}Gymnasium-v1", "Safety{key}Gymnasium-v1"),
    cost_limits=(20.0, 40.0, 80.0),
    data_licence=DATA_LICENCE,
    simulator=SafetyGymnasiumSimulator,
    packages=("safety-gymnasium", "mujoco"),
    installation=INSTALLATION,
    simulators_a_process=256,
    simulator_megabytes=1,
)
