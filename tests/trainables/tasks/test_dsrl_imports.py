import dataclasses
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks import dsrl_imports as dsrl_compatibility
from safesweep.trainables.tasks.dsrl_imports import copied_dataclass_defaults
from safesweep.trainables.tasks.registry import TASKS, get_task, make_simulator
from tests.quick import slow_but

BULLET = [task.key for task in TASKS.values() if task.suite == "bullet"]
VELOCITY = [task.key for task in TASKS.values() if task.suite == "safety_gymnasium_velocity"]


def trajectory(simulator, seed, actions):
    """Everything that an episode shows, in one array."""
    seen = [np.append(simulator.reset(seed), [0.0, 0.0, 0.0])]
    for action in actions:
        observation, reward, cost, terminated = simulator.step(action)
        seen.append(np.append(observation, [reward, cost, terminated]))
    return np.array(seen)


def random_actions(task, steps=60):
    return np.random.default_rng(1).uniform(-1, 1, (steps, task.action_dim))


@pytest.mark.parametrize("key", slow_but(BULLET[:2], BULLET))
def test_lean_bullet_environment_equals_the_original_bit_for_bit(key, capfd):
    task = get_task(key)
    actions = random_actions(task)
    module = dsrl_compatibility.dsrl_environments("offline_bullet_safety_gym")
    outside = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(3)  # noqa: NPY002
        with dsrl_compatibility.silence():
            original = getattr(module, f"{key}Env")()
        observation, _ = original.reset()
    finally:
        np.random.set_state(outside)  # noqa: NPY002
    expected = [np.append(observation, [0.0, 0.0, 0.0])]
    for action in actions:
        observation, reward, terminated, _, information = original.step(action)
        expected.append(np.append(observation, [reward, information["cost"], terminated]))
    original.close()
    capfd.readouterr()
    simulator = make_simulator(task)
    np.testing.assert_array_equal(trajectory(simulator, 3, actions), expected)
    simulator.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("key", ["CarRun", "DroneCircle", "AntRun"])
def test_bullet_episode_depends_only_on_its_seed(key):
    task = get_task(key)
    actions = random_actions(task)
    simulator, busy = make_simulator(task), make_simulator(task)
    first = trajectory(simulator, 7, actions)
    busy.reset(1)
    np.random.random(5)  # noqa: NPY002
    simulator.reset(8)
    simulator.step(actions[0])
    busy.step(actions[1])
    np.testing.assert_array_equal(trajectory(simulator, 7, actions), first)
    assert not np.array_equal(trajectory(simulator, 8, actions), first)
    simulator.close()
    busy.close()


@pytest.mark.parametrize("key", slow_but(BULLET[2:4], BULLET))
def test_a_used_bullet_environment_starts_an_episode_as_a_new_one(key):
    task = get_task(key)
    used = make_simulator(task)
    # Contacts, motors and sleeping bodies are left by episodes of different ends.
    for seed, (steps, strength) in enumerate(
        [(60, 1), (0, 1), (30, 0.1), (5, 0), (12, 1), (60, 0), (1, 1), (30, 1), (2, 0.1), (40, 1)]
    ):
        actions = strength * random_actions(task, steps)
        new = make_simulator(task)
        np.testing.assert_array_equal(
            trajectory(used, seed, actions), trajectory(new, seed, actions)
        )
        new.close()
    used.close()


def test_global_generator_is_left_alone():
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    task = get_task("BallCircle")
    simulator = make_simulator(task)
    trajectory(simulator, 0, random_actions(task, 5))
    simulator.close()
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002


@pytest.mark.parametrize("key", VELOCITY)
def test_velocity_tasks_step_and_repeat(key):
    task = get_task(key)
    actions = random_actions(task)
    simulator = make_simulator(task)
    first = trajectory(simulator, 7, actions)
    assert first.shape == (61, task.observation_dim + 3)
    np.testing.assert_array_equal(trajectory(simulator, 7, actions), first)
    other = make_simulator(task)
    np.testing.assert_array_equal(trajectory(other, 7, actions), first)
    assert not np.array_equal(trajectory(other, 8, actions), first)


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", [task.key for task in TASKS.values() if task.suite == "safety_gymnasium_navigation"]
)
def test_navigation_tasks_step_and_repeat(key):
    task = get_task(key)
    actions = random_actions(task, 20)
    simulator = make_simulator(task)
    first = trajectory(simulator, 7, actions)
    assert first.shape == (21, task.observation_dim + 3)
    np.testing.assert_array_equal(trajectory(make_simulator(task), 7, actions), first)


def test_tasks_without_a_simulator_are_refused():
    with pytest.raises(InvalidInput, match="embedded"):
        make_simulator(get_task("BoatNavigation"))


def test_array_defaults_are_copied_per_instance():
    with copied_dataclass_defaults():

        @dataclasses.dataclass
        class Goal:
            name: str
            colour: np.ndarray = np.zeros(3)  # noqa: RUF009
            size: float = 0.3

        @dataclasses.dataclass(frozen=True)
        class Frozen:
            place: np.ndarray = np.ones(2)  # noqa: RUF009

    one, other = Goal("a"), Goal("b")
    one.colour[0] = 1
    np.testing.assert_array_equal(other.colour, np.zeros(3))
    assert one.size == 0.3
    assert Frozen().place is not Frozen().place
    with pytest.raises(dataclasses.FrozenInstanceError):
        Frozen().place = np.zeros(2)  # type: ignore[misc]


def test_dataclasses_are_as_ever_afterwards():
    with copied_dataclass_defaults(), pytest.raises(ValueError, match="mutable default"):

        @dataclasses.dataclass
        class Inside:
            names: list = []  # noqa: RUF008

    with pytest.raises(ValueError, match="mutable default"):

        @dataclasses.dataclass
        class Outside:
            colour: np.ndarray = np.zeros(3)  # noqa: RUF009


@pytest.mark.skipif(find_spec("dsrl") is None, reason="the extra simulators is not installed")
def test_import_is_quiet_and_makes_no_folder(tmp_path):
    program = (
        "from safesweep.trainables.tasks.registry import get_task, make_simulator\n"
        "for key in ('BallRun', 'HalfCheetahVelocity'):\n"
        "    make_simulator(get_task(key)).reset(0)\n"
    )
    environment = {"HOME": str(tmp_path), "PATH": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
