import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data import fetch
from safesweep.trainables.data.dataset import Dataset, read_dataset, write_dataset
from safesweep.trainables.data.fetch import FetchFailed
from safesweep.trainables.data.sources import find_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.ogbench import (
    OGBENCH_ENVIRONMENTS,
    as_episodes,
    ogbench_environment,
)
from safesweep.trainables.tasks.registry import (
    SUITES,
    TASKS,
    get_task,
    make_simulator,
    simulator_installed,
)
from safesweep.trainables.training.trial import train
from tests.trainables.conftest import random_dataset
from tests.trainables.populations import make_population

OGBENCH = [task for task in TASKS.values() if task.suite == "ogbench"]
installed = pytest.mark.skipif(
    not simulator_installed(OGBENCH[0]), reason="the extra ogbench is not installed"
)


def transitions(lengths: list[int], reached: list[int], observations: int, actions: int):
    """Trajectories of so many steps, the goal reached at some steps, as OGBench relabels them."""
    count, ends = sum(lengths), np.cumsum(lengths) - 1
    rng = np.random.default_rng(0)
    states = rng.standard_normal((count, observations)).astype(np.float32)
    following = np.roll(states, -1, axis=0)
    following[ends] = 9.0
    masks, terminals = np.ones(count, np.float32), np.zeros(count, np.float32)
    masks[reached], terminals[ends] = 0.0, 1.0
    return {
        "observations": states,
        "next_observations": following,
        "actions": rng.uniform(-1, 1, (count, actions)).astype(np.float32),
        "rewards": -masks,
        "masks": masks,
        "terminals": terminals,
    }


def test_goals_end_episodes_and_long_trajectories_are_cut() -> None:
    found = as_episodes(transitions([7, 4], [4], 3, 2), horizon=3)
    assert list(np.flatnonzero(found["terminals"])) == [4]
    # Cut after 3 steps, the rest of the first trajectory after its end, the second one after 3.
    assert list(np.flatnonzero(found["timeouts"])) == [2, 6, 9, 10]
    assert not found["costs"].any()
    assert found["rewards"][4] == 0.0 and found["rewards"][0] == -1.0


def test_fetched_data_is_put_into_the_cache(tmp_path, monkeypatch) -> None:
    task = get_task("cube-single")
    asked = []

    def make_env_and_datasets(name, dataset_dir):
        asked.append((name, dataset_dir))
        data = transitions([500, 300], [450], task.observation_dim, task.action_dim)
        return None, data, None

    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(fetch, "simulator_versions", lambda task: {"ogbench": "1"})
    fake = SimpleNamespace(make_env_and_datasets=make_env_and_datasets)
    monkeypatch.setitem(sys.modules, "ogbench", fake)
    path = find_dataset(task, "fetch")
    assert asked == [(task.name, str(tmp_path / "ogbench"))]
    data = read_dataset(path, task)
    assert data.episode_lengths.max() <= task.horizon
    assert data.terminals.sum() == 1
    assert data.provenance["source"] == "ogbench"
    assert find_dataset(task, "auto") == path and len(asked) == 1


def test_a_download_that_fails_is_one_line(tmp_path, monkeypatch) -> None:
    def make_env_and_datasets(name, dataset_dir):
        raise URLError("no route to host")

    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(fetch, "simulator_versions", lambda task: {"ogbench": "1"})
    fake = SimpleNamespace(make_env_and_datasets=make_env_and_datasets)
    monkeypatch.setitem(sys.modules, "ogbench", fake)
    with pytest.raises(FetchFailed, match=r"cube-single-play.* failed \(no route to host\)"):
        find_dataset("cube-single", "fetch")
    with pytest.raises(InvalidInput, match="has no collector"):
        find_dataset("cube-single", "collect")


@pytest.mark.skipif(simulator_installed(OGBENCH[0]), reason="the extra ogbench is installed")
def test_without_the_extra_the_line_names_it() -> None:
    with pytest.raises(InvalidInput, match=r"install the extra ogbench \(uv pip install"):
        make_simulator(OGBENCH[0])


@installed
@pytest.mark.parametrize("key", [*OGBENCH_ENVIRONMENTS, "cube-single-task1"])
def test_an_episode_depends_on_its_seed_alone(key) -> None:
    task = get_task(key)
    one, other = make_simulator(task), make_simulator(task)
    try:
        action = np.full(task.action_dim, 0.3)
        paths = []
        for simulator, seed in ((one, 3), (other, 3), (one, 4), (one, 3)):
            path = [simulator.reset(seed)]
            for _ in range(3):
                observation, reward, cost, terminated = simulator.step(action)
                path.append(observation)
                assert (reward, cost, terminated) == (0.0, 0.0, False)
            paths.append(np.stack(path))
        assert paths[0].shape == (4, task.observation_dim)
        np.testing.assert_array_equal(paths[0], paths[1])
        np.testing.assert_array_equal(paths[0], paths[3])  # the same simulator again
        assert np.abs(paths[0] - paths[2]).max() > 0
        assert one._environment.spec.max_episode_steps == task.horizon
        assert one._environment.action_space.shape == (task.action_dim,)
    finally:
        one.close()
        other.close()


@installed
def test_the_return_of_an_evaluation_is_the_success_rate(tmp_path) -> None:
    task = get_task("cube-single")
    data = transitions([200], [], task.observation_dim, task.action_dim)
    path = write_dataset(tmp_path / "cube.hdf5", as_episodes(data, task.horizon), {})
    rows = train(
        "flp",
        task.name,
        [{"hidden_dim": 8, "batch_size": 16, "flow_steps": 2}],
        steps=2,
        dataset=str(path),
        episodes=1,
        device="cpu",
    ).evaluations
    assert {row["normalized_reward"] for row in rows} <= {0.0, 1.0}
    assert {row["normalized_cost"] for row in rows} == {0.0}
    assert {row["reward_return_mean"] for row in rows} == {row["normalized_reward"] for row in rows}


SMALL = {"hidden_dim": 8, "batch_size": 16}


@pytest.mark.parametrize("name", ["flp", "flrp", "lspc", "safefql"])
def test_rewards_reach_losses_as_ogbench_has_them(name: str) -> None:
    """-1 to 0 a step: the coefficients that the papers print are of that unit."""
    task = get_task("cube-single")
    arrays = as_episodes(transitions([500, 300], [450], 28, 5), task.horizon)
    dataset = Dataset(task=task.name, dataset_id="ogbench", **arrays)
    method = ALGORITHMS[name]
    config = method.config_class.resolve(SMALL)
    population = make_population(method, [config], [0], task, dataset, 10, 1.0)
    assert population.data["rewards"].unique().tolist() == [-1.0, 0.0]


def test_rewards_elsewhere_are_of_order_one_a_step_unless_told_otherwise() -> None:
    """FISOR's public code: horizon / (max return - min return)."""
    task = get_task("BallRun")
    unit = task.horizon / (task.max_return - task.min_return)
    assert task.unit_scale == pytest.approx(unit) != 1.0
    for settings, factor in (
        ({}, unit),
        ({"reward_scaling": "none"}, 1.0),
        ({"reward_scaling": "none", "reward_scale": 200.0}, 200.0),
        ({"reward_scale": 2.0}, 2 * unit),
    ):
        dataset = random_dataset(task)
        method = ALGORITHMS["r2pac"]
        config = method.config_class.resolve({**SMALL, **settings})
        population = make_population(method, [config], [0], task, dataset, 10, 1.0)
        rewards = torch.as_tensor(dataset.rewards)
        assert float(population.data["rewards"].max()) == pytest.approx(
            factor * float(rewards.max()), rel=1e-5
        )


def test_five_tasks_of_each_of_ten_environments() -> None:
    environments = [ogbench_environment(task.key) for task in OGBENCH]
    assert len(OGBENCH) == 50 and set(environments) == set(OGBENCH_ENVIRONMENTS)
    assert all(environments.count(name) == 5 for name in OGBENCH_ENVIRONMENTS)
    # OGBench's own default of a cube is its second task, which has the name without a number.
    cubes = {task.key: task.name for task in OGBENCH if task.key.startswith("cube-single")}
    assert cubes == {
        "cube-single": "cube-single-play-singletask-v0",
        **{f"cube-single-task{n}": f"cube-single-play-singletask-task{n}-v0" for n in (1, 3, 4, 5)},
    }
    assert ogbench_environment("CarRun") == "CarRun"


def test_training_in_the_environment_has_the_rewards_of_the_data(monkeypatch) -> None:
    """In an evaluation a return is success; online it is OGBench's own reward."""
    asked = []

    class Environment:
        def reset(self, seed):
            return np.zeros(28), {}

        def step(self, action):
            asked.append(action)
            return np.zeros(28), -2.0, False, False, {"success": len(asked) % 2 == 0}

        def close(self):
            pass

    fake = SimpleNamespace(make_env_and_datasets=lambda name, env_only: Environment())
    monkeypatch.setitem(sys.modules, "ogbench", fake)
    suite, task = SUITES["ogbench"], get_task("cube-single")
    monkeypatch.setattr(type(suite), "package_versions", lambda self, task: {})
    for make, rewards in ((suite.make_simulator, (0.0, 1.0)), (suite.make_online_simulator, None)):
        simulator = make(task)
        simulator.reset(0)
        for expected in rewards or (-2.0, -2.0):
            _, reward, cost, _ = simulator.step(np.zeros(5))
            assert (reward, cost) == (expected, 0.0)
        simulator.close()
