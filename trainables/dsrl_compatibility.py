"""The simulators of DSRL's tasks, made to work on current Python.

dsrl 0.1.0 and safety-gymnasium 0.4.0 were written for Python 3.10 and older. This module imports
them quietly, repairs what keeps them from importing, and wraps their environments in `Simulator`,
which is seeded exactly and steps with as little overhead as possible. MetaDrive's tasks are in
`trainables.metadrive`.
"""

import contextlib
import copy
import ctypes
import dataclasses
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces.validation import InvalidInput
from trainables import metadrive, ogbench
from trainables.tasks import Task

FloatArray = NDArray[np.floating]

SIMULATOR_PACKAGES = {
    "bullet": ("bullet-safety-gym", "pybullet"),
    "safety_gymnasium_navigation": ("safety-gymnasium", "mujoco"),
    "safety_gymnasium_velocity": ("safety-gymnasium", "mujoco"),
    "metadrive": ("metadrive-simulator", "panda3d"),
    "ogbench": ("ogbench", "mujoco"),
}
"""The distributions that a suite's simulator is made of; the boats need none."""

_import_lock = threading.RLock()


class Simulator(Protocol):
    """One live environment; observations are float arrays [o], actions [a] within [-1, 1]."""

    def reset(self, seed: int) -> FloatArray:
        """Start an episode that depends on nothing but `seed`; returns the first observation."""

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        """Returns (next observation, reward, cost, terminated)."""

    def close(self) -> None:
        """Free what the environment holds."""


@contextlib.contextmanager
def copied_dataclass_defaults() -> Iterator[None]:
    """While open, dataclasses may have unhashable defaults such as numpy arrays.

    Python 3.11 refuses them (and safety-gymnasium uses them); here each instance gets a copy.
    Lists, dictionaries and sets stay refused, as always.
    """
    original = dataclasses.dataclass

    def prepared(cls: type) -> type:
        for name in inspect.get_annotations(cls):
            default = cls.__dict__.get(name)
            if isinstance(default, list | dict | set | dataclasses.Field):
                continue
            if default is not None and type(default).__hash__ is None:
                factory = partial(copy.deepcopy, default)
                setattr(cls, name, dataclasses.field(default_factory=factory))
        return cls

    def tolerant(cls: type | None = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda decorated: original(prepared(decorated), **options)
        return original(prepared(cls), **options)

    dataclasses.dataclass = tolerant
    try:
        yield
    finally:
        dataclasses.dataclass = original


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what the process prints, by Python and by C."""
    with (
        open(os.devnull, "w") as named,
        os.fdopen(os.dup(named.fileno()), "w") as nowhere,
    ):
        # `nowhere` has no name, which keeps bullet-safety-gym's own redirection working.
        saved = []
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                saved.append((descriptor, os.dup(descriptor)))
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        try:
            for descriptor, _ in saved:
                os.dup2(nowhere.fileno(), descriptor)
            with (
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(nowhere),
            ):
                yield
        finally:
            # What C has buffered would otherwise appear after all.
            ctypes.CDLL(None).fflush(None)
            for descriptor, duplicate in saved:
                os.dup2(duplicate, descriptor)
                os.close(duplicate)


@cache
def _dsrl_environments(package: str) -> ModuleType:
    """`dsrl.<package>.gym_envs`, imported without prints, warnings or folders made."""
    chosen = os.environ.get("DSRL_DATASET_DIR")
    with (
        _import_lock,
        _silence(),
        warnings.catch_warnings(),
        copied_dataclass_defaults(),
    ):
        warnings.simplefilter("ignore")
        os.environ.setdefault("DSRL_SUPPRESS_IMPORT_ERROR", "1")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        # dsrl makes its dataset folder when imported; one that exists keeps it from doing so.
        os.environ["DSRL_DATASET_DIR"] = chosen or os.path.dirname(os.path.abspath(__file__))
        try:
            module = import_module(f"dsrl.{package}.gym_envs")
        finally:
            if chosen is None:
                del os.environ["DSRL_DATASET_DIR"]
    if chosen is None:
        offline_environment = import_module("dsrl.offline_env")
        offline_environment.DATASET_PATH = os.path.expanduser("~/.dsrl/datasets")  # type: ignore[attr-defined]
    return module


# What bullet-safety-gym asks of PyBullet in every step. BulletClient looks each up anew per call.
_FREQUENT_CALLS = (
    "applyExternalForce",
    "getBasePositionAndOrientation",
    "getBaseVelocity",
    "getContactPoints",
    "getJointState",
    "getLinkState",
    "setJointMotorControl2",
)
# What changes the state of a body; `setJointMotorControl2` and forces act only in the next step.
_CHANGING_CALLS = (
    "resetBasePositionAndOrientation",
    "resetBaseVelocity",
    "resetJointState",
    "restoreState",
    "stepSimulation",
)


def _nothing(*arguments: Any, **options: Any) -> None:
    """Stands in for calls that only draw."""


class _Lean:
    """Mixed into a bullet-safety-gym environment to build and step it more cheaply.

    Leaves out what only a camera would see (meshes and textures take up to 0.5 s and 50 MB per
    environment) and asks PyBullet once, not up to nine times, for the agent's state after a step.
    The tests compare trajectories with the untouched environment bit for bit.
    """

    def _setup_client_and_physics(self, graphics: bool = False) -> Any:
        import pybullet

        client = super()._setup_client_and_physics(graphics)  # type: ignore[misc]
        self._remembered: dict[str, FloatArray] = {}
        load = client.loadURDF

        def load_without_visuals(*arguments: Any, flags: int = 0, **options: Any) -> int:
            flags |= pybullet.URDF_IGNORE_VISUAL_SHAPES
            return int(load(*arguments, flags=flags, **options))

        client.loadURDF = load_without_visuals
        client.changeVisualShape = client.resetDebugVisualizerCamera = _nothing
        for name in _FREQUENT_CALLS:
            setattr(client, name, getattr(client, name))
        for name in _CHANGING_CALLS:
            setattr(client, name, self._forgetting(getattr(client, name)))
        return client

    def _forgetting(self, change: Callable[..., Any]) -> Callable[..., Any]:
        remembered = self._remembered

        def changed(*arguments: Any, **options: Any) -> Any:
            remembered.clear()
            return change(*arguments, **options)

        return changed

    def _remembering(self, name: str, ask: Callable[[], FloatArray]) -> Callable[[], FloatArray]:
        remembered = self._remembered

        def state() -> FloatArray:
            answer = remembered.get(name)
            if answer is None:
                answer = ask()
                answer.setflags(write=False)
                remembered[name] = answer
            return answer

        return state

    def get_agent(self, name: str) -> Any:
        agent = super().get_agent(name)  # type: ignore[misc]
        agent.violates_constraints = _nothing
        agent.get_state = self._remembering("body", agent.get_state)
        if agent.root_link is not None:
            agent.root_link.get_state = self._remembering("root link", agent.root_link.get_state)
        return agent


@cache
def _bullet_class(key: str) -> type:
    base = getattr(_dsrl_environments("offline_bullet_safety_gym"), f"{key}Env")
    return type(f"Lean{base.__name__}", (_Lean, base), {})


class BulletSimulator:
    """A bullet-safety-gym environment.

    Its `reset(seed)` ignores the seed and draws from numpy's global generator, and a reused
    environment drifts (joint motors keep their last command); so every episode is a fresh
    environment built under its own state of that generator, which is put back afterwards. Steps
    draw nothing.
    """

    def __init__(self, task: Task, reuse: bool = False) -> None:
        """With `reuse`, later episodes reuse the environment: quicker, but an episode then depends
        on those before it (still the same for the same sequence)."""
        self._make: Callable[[], Any] = _bullet_class(task.key)
        self._reuse = reuse
        self._environment: Any = None

    def reset(self, seed: int) -> FloatArray:
        outside = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002
            if self._environment is None or not self._reuse:
                self.close()
                with _silence():
                    self._environment = self._make()
            observation, _ = self._environment.reset()
        finally:
            np.random.set_state(outside)  # noqa: NPY002
        return np.asarray(observation)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        observation, reward, terminated, _, information = self._environment.step(action)
        return (
            observation,
            float(reward),
            float(information.get("cost", 0.0)),
            bool(terminated),
        )

    def close(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None


class SafetyGymnasiumSimulator:
    """A safety-gymnasium environment; its reset(seed) is exact, also on a reused one."""

    def __init__(self, task: Task) -> None:
        module = _dsrl_environments("offline_safety_gymnasium")
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


def simulator_versions(task: Task) -> dict[str, str]:
    """The versions of the distributions that the task's simulator is made of.

    Raises:
        InvalidInput: they are not installed; says how to install them.
    """
    try:
        return {name: version(name) for name in SIMULATOR_PACKAGES.get(task.suite, ())}
    except PackageNotFoundError as problem:
        # The other suites' simulators come with safesweep itself.
        raise InvalidInput(
            f"task: {task.name} needs the simulator {problem.name}, which is not installed; "
            f"{'on Python 3.11, ' if task.suite == 'metadrive' else ''}install the extra "
            f"{task.suite} (uv pip install -e '.[{task.suite}]')"
        ) from None


def simulator_installed(task: Task) -> bool:
    """Whether the task can be simulated here."""
    try:
        simulator_versions(task)
    except InvalidInput:
        return False
    return True


def make_simulator(task: Task, reuse: bool = False) -> Simulator:
    """A live environment of a task of DSRL or OGBench.

    Args:
        reuse: for data collection; see `BulletSimulator`.

    Raises:
        InvalidInput: the task needs no simulator, or one that is not installed.
    """
    if task.suite == "bullet":
        return BulletSimulator(task, reuse)
    if task.suite.startswith("safety_gymnasium"):
        return SafetyGymnasiumSimulator(task)
    if task.suite == "metadrive":
        # Only for extras: it takes as long as ten steps of Bullet, which is always installed.
        simulator_versions(task)
        return metadrive.MetaDriveSimulator(task)
    if task.suite == "ogbench":
        simulator_versions(task)
        return ogbench.OGBenchSimulator(task)
    raise InvalidInput(f"task: {task.name} is embedded and needs no simulator")


def dsrl_constants(key: str) -> dict[str, Any]:
    """What the installed `dsrl` says about the task with this short key."""
    _dsrl_environments("offline_bullet_safety_gym")
    infos: Any = import_module("dsrl.infos")
    return {
        "min_return": infos.MIN_EPISODE_REWARD[key],
        "max_return": infos.MAX_EPISODE_REWARD[key],
        "max_cost": infos.MAX_EPISODE_COST[key],
        "horizon": infos.DEFAULT_MAX_EPISODE_STEPS[key],
        "dataset_url": infos.DATASET_URLS[key],
    }
