"""The simulators of DSRL's tasks, made to work on current Python.

dsrl 0.1.0 and safety-gymnasium 0.4.0 were written for Python 3.10 and older. This module imports
them quietly, repairs what keeps them from importing, and wraps their environments in `Simulator`,
which is seeded exactly and steps with as little overhead as possible. MetaDrive's tasks are in
`trainables.tasks.metadrive`.
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
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks import metadrive, ogbench
from safesweep.trainables.tasks.registry import Task

FloatArray = NDArray[np.floating[Any]]

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

    Attributes:
        motor_commands: what joints' motors were told while it was built.
    """

    motor_commands: list[Callable[[], Any]]

    def __init__(self) -> None:
        super().__init__()
        client: Any = self.bc  # type: ignore[attr-defined]
        client.setJointMotorControl2 = self._command_motor

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
        self.motor_commands = []
        self._command_motor = client.setJointMotorControl2
        client.setJointMotorControl2 = self._keep_motor_command
        return client

    def _keep_motor_command(self, *arguments: Any, **options: Any) -> None:
        self.motor_commands.append(partial(self._command_motor, *arguments, **options))
        self._command_motor(*arguments, **options)

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


def _parts(thing: Any, found: dict[int, Any]) -> dict[int, Any]:
    """The objects that an environment is made of, by identity: agent, joints, task, zones, ..."""
    if id(thing) in found:
        return found
    inside: Iterable[Any] = ()
    if type(thing).__module__.startswith((_Lean.__module__, "bullet_safety_gym", "dsrl")):
        found[id(thing)] = thing
        inside = vars(thing).values()
    elif isinstance(thing, dict):
        inside = thing.values()
    elif isinstance(thing, list | tuple):
        inside = thing
    for part in inside:
        _parts(part, found)
    return found


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: copy.copy(value) if isinstance(value, np.ndarray | list) else value
        for name, value in attributes.items()
    }


class _Beginning:
    """How a Bullet environment was when it was built.

    Of its bodies Bullet's saved state holds all but what the motors were told last.
    """

    def __init__(self, environment: Any) -> None:
        self._client, self._motor_commands = environment.bc, environment.motor_commands
        self._bodies = self._client.saveState()
        self._attributes = [
            (part, _copied(vars(part))) for part in _parts(environment, {}).values()
        ]

    def bring_back(self) -> None:
        """Make the environment what it was."""
        client = self._client
        # Contacts that bodies have had are forgotten only where they come apart.
        for number in range(client.getNumBodies()):
            body, far = client.getBodyUniqueId(number), 1_000 * (number + 1)
            client.resetBasePositionAndOrientation(body, (0, 0, far), (0, 0, 0, 1))
        client.performCollisionDetection()
        client.restoreState(self._bodies)
        for part, attributes in self._attributes:
            vars(part).clear()
            vars(part).update(_copied(attributes))
        for command in self._motor_commands:
            command()


def _numbers_drawn(seed: int) -> int:
    """How many numbers numpy's global generator has given since it was seeded."""
    now: Any = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    for drawn in range(1_000):
        then: Any = np.random.get_state()  # noqa: NPY002
        if then[2] == now[2] and np.array_equal(then[1], now[1]):
            return drawn
        np.random.random_sample()  # noqa: NPY002
    raise RuntimeError("an environment draws more than was expected when it is built")


class BulletSimulator:
    """A bullet-safety-gym environment.

    Its own reset ignores the seed, draws from numpy's global generator, and leaves a used
    environment different from a new one (motors keep their last command). Here an episode is that
    of a new environment, built under the seed's state of that generator, which is put back
    afterwards; steps draw nothing. Building takes 15 to 35 ms: it is done once, and later the
    environment is brought back to how it was built, in 1 to 6 ms. What building draws sets how
    obstacles move, of which these tasks have none.
    """

    def __init__(self, task: Task, reuse: bool = False) -> None:
        """With `reuse`, later episodes go on with the environment as it is: an episode then depends
        on those before it (still the same for the same sequence)."""
        self._make: Callable[[], Any] = _bullet_class(task.key)
        self._reuse = reuse
        self._environment: Any = None
        self._beginning: _Beginning | None = None
        self._drawn_to_build = 0

    def reset(self, seed: int) -> FloatArray:
        seed = seed % 2**32
        outside = np.random.get_state()  # noqa: NPY002
        try:
            np.random.seed(seed)  # noqa: NPY002
            if self._environment is None:
                with _silence():
                    self._environment = self._make()
                if not self._reuse:
                    self._drawn_to_build = _numbers_drawn(seed)
                    self._beginning = _Beginning(self._environment)
            elif self._beginning is not None:
                np.random.random_sample(self._drawn_to_build)  # noqa: NPY002
                self._beginning.bring_back()
            observation, _ = self._environment.reset()
            if self._beginning is not None:
                # Its reset saves a state for the next, which is not used.
                self._environment.bc.removeState(self._environment.stored_state_id)
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
            self._environment = self._beginning = None


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
