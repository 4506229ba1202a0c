"""DSRL's eight Bullet tasks (bullet-safety-gym): seeded exactly, stepped with little overhead."""

import copy
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.tasks.dsrl_imports import dsrl_environments, silence
from safesweep.trainables.tasks.dsrl_tasks import DATA_LICENCE, INSTALLATION, dsrl_tasks
from safesweep.trainables.tasks.simulator import FloatArray
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

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


class FastBulletEnv:
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
    base = getattr(dsrl_environments("offline_bullet_safety_gym"), f"{key}Env")
    return type(f"Fast{base.__name__}", (FastBulletEnv, base), {})


def _parts(thing: Any, found: dict[int, Any]) -> dict[int, Any]:
    """The objects that an environment is made of, by identity: agent, joints, task, zones, ..."""
    if id(thing) in found:
        return found
    inside: Iterable[Any] = ()
    if type(thing).__module__.startswith((FastBulletEnv.__module__, "bullet_safety_gym", "dsrl")):
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
                with silence():
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


class VisibleBullet(BulletSimulator):
    """The same environment with what a camera sees; drawn by PyBullet without a screen."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, reuse=True)
        self._make = getattr(dsrl_environments("offline_bullet_safety_gym"), f"{task.key}Env")

    def picture(self) -> NDArray[np.uint8]:
        return np.asarray(self._environment.render(mode="rgb_array"), dtype=np.uint8)


def _going_on(task: Task) -> BulletSimulator:
    return BulletSimulator(task, reuse=True)


BULLET = Suite(
    name="bullet",
    tasks=dsrl_tasks(_BULLET, "Offline{key}-v0", "Safety{key}-v0"),
    cost_limits=(10.0, 20.0, 40.0),
    data_licence=DATA_LICENCE,
    simulator=BulletSimulator,
    collecting_simulator=_going_on,
    visible=VisibleBullet,
    packages=("bullet-safety-gym", "pybullet"),
    installation=INSTALLATION,
    simulators_a_process=64,
    simulator_megabytes=28,
)
