import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.trainables.data.cache import default_episodes
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks import suite as suites
from safesweep.trainables.tasks.metadrive import (
    ENGINE,
    ROADS,
    SETTINGS,
    MetaDriveSimulator,
    step_cost,
)
from safesweep.trainables.tasks.registry import (
    TASKS,
    Task,
    get_task,
    make_simulator,
    simulator_installed,
)
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.trial import train

EASY, HARD = get_task("easysparse"), get_task("harddense")

simulated = pytest.mark.skipif(
    not simulator_installed(EASY), reason="the extra metadrive is not installed"
)


@pytest.fixture(scope="module", autouse=True)
def free_engine() -> Iterator[None]:
    yield
    ENGINE.close()


@pytest.fixture
def without_metadrive(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "metadrive-simulator":
            raise PackageNotFoundError(name)
        return installed_version(name)

    monkeypatch.setattr(suites, "version", version)


def shortened(task: Task, horizon: int) -> Task:
    return replace(task, horizon=horizon)


def make(task: Task) -> MetaDriveSimulator:
    simulator = make_simulator(task)
    assert isinstance(simulator, MetaDriveSimulator)
    return simulator


def trajectory(simulator: MetaDriveSimulator, seed: int, steps: int = 120) -> NDArray[Any]:
    """What an episode shows of [o + 3] numbers a step: straight on, and always faster."""
    seen = [np.append(simulator.reset(seed), [0.0, 0.0, 0.0])]
    for _ in range(steps):
        observation, reward, cost, terminated = simulator.step(np.array([0.0, 0.5]))
        seen.append(np.append(observation, [reward, cost, terminated]))
        if terminated:
            break
    return np.array(seen)


def dsrl_settings() -> dict[str, dict[str, Any]]:
    """The configurations in DSRL's own source, which needs the legacy gym to be imported."""
    package = importlib.util.find_spec("dsrl")
    assert package is not None and package.origin is not None
    source = Path(package.origin).parent / "offline_metadrive" / "gym_envs.py"
    found = {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Env"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Dict):
                    found[node.name.removesuffix("Env").lower()] = ast.literal_eval(inner.value)
    return found


@pytest.mark.skipif(
    importlib.util.find_spec("dsrl") is None, reason="the extra simulators is not installed"
)
@pytest.mark.parametrize("key", [task.key for task in TASKS.values() if task.suite == "metadrive"])
def test_roads_and_traffic_are_dsrls(key: str) -> None:
    theirs = dsrl_settings()[key]
    road, density = SETTINGS[key]
    assert road.blocks == theirs["map_config"]["config"]
    assert road.start_seed == theirs["start_seed"]
    assert density == theirs["traffic_density"]
    assert get_task(key).horizon == theirs["horizon"] == 1000


@pytest.mark.parametrize(
    ("event", "speed", "nearest", "expected"),
    [
        (0.0, 0.0, 1.0, 0.0),
        (0.0, 10.0, 0.1, 0.0),
        (0.0, 30.0, 1.0, 0.2),
        (0.0, 5.0, 0.0, 1e-4),
        (0.0, 5.0, 0.05, 0.25e-4),
        (1.0, 60.0, 0.0, 1.5001),
    ],
)
def test_cost_of_a_step(event: float, speed: float, nearest: float, expected: float) -> None:
    assert step_cost(event, speed, nearest) == pytest.approx(expected, abs=1e-12)


@simulated
@pytest.mark.parametrize(
    "road",
    [pytest.param(road, marks=() if road == "easy" else pytest.mark.slow) for road in ROADS],
)
def test_observations_and_maps(road: str) -> None:
    task = get_task(f"{road}mean")
    simulator = make(task)
    observation = simulator.reset(3)
    assert observation.shape == (task.observation_dim,) == (259,)
    assert observation.min() >= 0 and observation.max() <= 1
    environment = ENGINE.of(simulator)
    assert "".join(block.ID for block in environment.current_map.blocks[1:]) == ROADS[road].blocks
    assert environment.engine.global_random_seed == ROADS[road].start_seed
    assert environment.config["traffic_density"] == 0.15
    lane = environment.agent.lane_index
    simulator.reset(4)
    assert ENGINE.of(simulator).agent.lane_index == lane


@pytest.mark.slow
@simulated
def test_episode_depends_only_on_its_seed() -> None:
    simulator, other = make(HARD), make(EASY)
    fresh = trajectory(simulator, 7)
    np.random.random(3)  # noqa: NPY002
    different = trajectory(simulator, 8)
    np.testing.assert_array_equal(trajectory(simulator, 7), fresh)
    trajectory(other, 7, 20)
    np.testing.assert_array_equal(trajectory(simulator, 7), fresh)
    ENGINE.close()
    np.testing.assert_array_equal(trajectory(make(HARD), 8), different)
    assert different.shape != fresh.shape or not np.array_equal(different, fresh)


@simulated
def test_simulators_take_turns() -> None:
    first, second = make(EASY), make(EASY)
    first.reset(0)
    second.reset(0)
    with pytest.raises(RuntimeError, match="one episode at a time"):
        first.step(np.zeros(2))
    first.close()
    second.step(np.zeros(2))
    second.close()
    with pytest.raises(RuntimeError, match="one episode at a time"):
        second.step(np.zeros(2))
    first.reset(0)
    first.step(np.zeros(2))


@simulated
def test_speed_costs_in_km_per_hour() -> None:
    seen = trajectory(make(EASY), 0, 60)
    # The fourth number is (v + 1) / (80 + 1) for a speed v in km/h.
    speeds = seen[1:, 3] * 81 - 1
    assert speeds.max() > 25
    np.testing.assert_allclose(seen[1:, -2], 0.01 * np.maximum(0, speeds - 10), atol=1e-4)


@simulated
def test_leaving_the_road_costs_one_and_ends_the_episode() -> None:
    simulator = make(EASY)
    simulator.reset(0)
    for _ in range(200):
        observation, reward, cost, terminated = simulator.step(np.array([1.0, 0.3]))
        if terminated:
            break
    speed = observation[3] * 81 - 1
    assert terminated
    assert reward == -5.0
    assert cost == pytest.approx(step_cost(1.0, speed, observation[-240:].min()), abs=1e-4)


@simulated
@pytest.mark.slow
def test_driven_as_dsrl_drove_the_easy_road_gives_dsrls_return_and_cost() -> None:
    simulator = make(EASY)
    observation = simulator.reset(1)
    driver = simulator.follow_traffic(21.0, 3)
    rewards, costs, terminated = 0.0, 0.0, False
    while not terminated:
        observation, reward, cost, terminated = simulator.step(driver(observation))
        rewards, costs = rewards + reward, costs + cost
    assert rewards == pytest.approx(EASY.max_return, rel=0.01)
    assert 0.8 * EASY.max_cost < costs < EASY.max_cost


@pytest.mark.slow
@simulated
def test_population_is_evaluated_in_one_process() -> None:
    task = shortened(get_task("mediumdense"), 40)
    throttle = np.array([0.2, 0.9])

    def act(
        observations: NDArray[np.float32], step: int, members: slice, episodes: slice
    ) -> NDArray[Any]:
        actions = np.zeros((*observations.shape[:2], 2))
        actions[..., 1] = throttle[members, None]
        return actions

    together = rollout(task, act, 2, [4, 5])
    alone = rollout(task, act, 1, [4, 5])
    np.testing.assert_array_equal(together.reward_returns[0], alone.reward_returns[0])
    np.testing.assert_array_equal(together.cost_returns[0], alone.cost_returns[0])
    assert (together.reward_returns[1] > together.reward_returns[0]).all()
    assert (together.cost_returns[1] > together.cost_returns[0]).all()
    np.testing.assert_array_equal(together.lengths, np.full((2, 2), 40))


@pytest.mark.slow
@simulated
def test_collected_episodes_are_those_that_were_driven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = shortened(EASY, 60)
    seeds: list[int] = []
    reset = MetaDriveSimulator.reset

    def watched(simulator: MetaDriveSimulator, seed: int) -> NDArray[Any]:
        seeds.append(seed)
        return reset(simulator, seed)

    monkeypatch.setattr(MetaDriveSimulator, "reset", watched)
    path = collect_dataset(task, 7, 1, tmp_path / "a.hdf5")
    monkeypatch.undo()
    ENGINE.close()
    again = collect_dataset(task, 7, 1, tmp_path / "b.hdf5")
    assert path.read_bytes() == again.read_bytes()
    dataset = read_dataset(path, task)
    assert len(dataset.episode_ends) == 7
    assert dataset.clipped_actions == 0
    assert dataset.provenance["target_speeds"] == [5.0, 40.0]
    assert dataset.provenance["simulator"] == {
        "metadrive-simulator": installed_version("metadrive-simulator"),
        "panda3d": installed_version("panda3d"),
    }
    # Careful ones drive below what costs, reckless ones far above.
    assert dataset.cost_returns().min() < 0.1
    assert dataset.cost_returns().max() > 2.0
    # The expert drove the sixth; without it, its actions do the same.
    simulator = make(task)
    rows = range(dataset.episode_starts[5], dataset.episode_ends[5])
    np.testing.assert_array_equal(simulator.reset(seeds[5]), dataset.observations[rows[0]])
    for row in rows:
        observation, reward, cost, _ = simulator.step(dataset.actions[row].astype(float))
        np.testing.assert_array_equal(dataset.next_observations[row], observation)
        assert dataset.rewards[row] == np.float32(reward)
        assert dataset.costs[row] == np.float32(cost)


def test_number_of_episodes_is_smaller_than_elsewhere() -> None:
    assert default_episodes(EASY) == 60


def test_without_the_extra_every_path_names_it(
    without_metadrive: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = (
        "OfflineMetadrive-easysparse-v0 needs the simulator metadrive-simulator, which is not "
        r"installed; .* install the extra metadrive \(uv pip install -e '\.\[metadrive\]'\)"
    )
    with pytest.raises(InvalidInput, match=expected):
        make_simulator(EASY)
    with pytest.raises(InvalidInput, match=expected):
        rollout(EASY, lambda observations, step, members, episodes: observations[..., :2], 1, [0])
    with pytest.raises(InvalidInput, match=expected):
        collect_dataset(EASY, 1, 0, tmp_path / "a.hdf5")
    with pytest.raises(InvalidInput, match=expected):
        train("bc", EASY.name, steps=1, dataset=str(tmp_path / "absent.hdf5"))
    assert not list(tmp_path.iterdir())
    assert main(["tasks", "--format", "csv"]) == 0
    rows = capsys.readouterr().out.splitlines()
    driving = [row for row in rows if row.startswith("OfflineMetadrive-")]
    assert len(driving) == 9 and all(row.endswith("not installed") for row in driving)
    assert main(["data", "collect", EASY.name]) == 2
    error = capsys.readouterr().err
    assert "extra metadrive" in error and error.count("\n") == 1


def write_random_dataset(path: Path, task: Task) -> None:
    from safesweep.trainables.data.dataset import write_dataset

    generator = np.random.default_rng(0)
    observations = generator.uniform(size=(33, task.observation_dim))
    write_dataset(
        path,
        {
            "observations": observations[:-1],
            "next_observations": observations[1:],
            "actions": generator.uniform(-1, 1, (32, task.action_dim)),
            "rewards": np.ones(32),
            "costs": np.zeros(32),
            "terminals": np.zeros(32),
            "timeouts": np.arange(32) == 31,
        },
        {},
    )


def test_without_the_extra_no_sweep_starts(
    without_metadrive: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, spec = tmp_path / "drive.hdf5", tmp_path / "sweep.yaml"
    write_random_dataset(data, EASY)
    spec.write_text(SPEC.format(algorithm="bc", task=EASY.name, dataset=data, space="data: [all]"))
    assert main(["run", str(spec), "--storage", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "extra metadrive" in error
    assert not (tmp_path / "store" / "runs").exists()


SPEC = """
name: drive-{algorithm}
algorithm: {algorithm}
tasks: [{task}]
dataset: {dataset}
seeds: [0]
space: {{{space}}}
fixed: {{hidden_dim: 32, batch_size: 64}}
steps: 100
evaluate: {{every: 100, episodes: 1}}
"""


@simulated
@pytest.mark.slow
@pytest.mark.ray
def test_sweep_of_two_methods_on_collected_data(tmp_path: Path) -> None:
    data, store = tmp_path / "drive.hdf5", tmp_path / "store"
    collect_dataset(EASY, 6, 0, data)
    for algorithm, space in (("bc", "data: [all, safe]"), ("lspc", "safety_mask: [false, true]")):
        spec = tmp_path / f"{algorithm}.yaml"
        spec.write_text(SPEC.format(algorithm=algorithm, task=EASY.name, dataset=data, space=space))
        command = [sys.executable, "-m", "safesweep", "run", str(spec), "--storage", str(store)]
        result = subprocess.run(
            [*command, "--num-cpus", "1"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
    results = ResultStore(store)
    assert (results.runs()["status"] == "completed").all()
    assert len(results.runs()) == 4
    evaluations = results.evaluations()
    assert set(evaluations["policy"]) == {"bc", "lspc_o", "lspc_s", "cvae"}
    assert len(evaluations) == 2 + 2 * 3
    assert evaluations["episode_length_mean"].between(1, 1000).all()
    assert (evaluations["cost_return_mean"] >= 0).all()
    masked = results.runs().set_index("run_id")["hp_safety_mask"]
    assert sorted(masked.dropna()) == [False, True]
