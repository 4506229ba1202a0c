import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.cache import default_episodes
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import TASKS, get_task, make_simulator


@pytest.mark.parametrize(
    ("key", "episodes"), [("BallRun", 30), ("HopperVelocity", 6), ("BoatNavigationHard", 10)]
)
def test_same_seed_gives_the_same_bytes_and_another_seed_other_data(tmp_path, key, episodes):
    first = collect_dataset(key, episodes, 1, tmp_path / "a.hdf5")
    np.random.random(3)  # noqa: NPY002
    second = collect_dataset(key, episodes, 1, tmp_path / "b.hdf5")
    other = collect_dataset(key, episodes, 2, tmp_path / "c.hdf5")
    assert first.read_bytes() == second.read_bytes()
    one, another = read_dataset(first, key), read_dataset(other, key)
    assert one.dataset_id != another.dataset_id
    assert len(one.episode_ends) == len(another.episode_ends) == episodes
    assert one.clipped_actions == 0
    assert not one.unfinished


@pytest.mark.parametrize("key", [task.key for task in TASKS.values() if task.suite == "bullet"])
def test_every_bullet_task_can_be_collected(tmp_path, key):
    dataset = read_dataset(collect_dataset(key, 3, 0, tmp_path / "a.hdf5"), key)
    assert len(dataset.episode_ends) == 3
    assert dataset.provenance["task"] == get_task(key).name
    assert dataset.provenance["seed"] == 0
    assert set(dataset.provenance["simulator"]) == {"bullet-safety-gym", "pybullet"}


def test_ball_run_has_safe_and_reckless_episodes(tmp_path):
    task = get_task("BallRun")
    path = collect_dataset(task, 150, 0, tmp_path / "a.hdf5")
    dataset = read_dataset(path, task)
    rewards = task.normalize_reward(dataset.returns())
    costs = dataset.cost_returns()
    safe = costs <= task.cost_limit
    assert 0.05 <= safe.mean() <= 0.8
    assert (costs > 40).mean() >= 0.2
    assert rewards.max() > 0.8
    assert rewards[safe].max() > 0.1


def test_stored_actions_are_those_that_were_taken(tmp_path, monkeypatch):
    task = get_task("BallCircle")
    seeds = []

    def watched(task, collecting):
        simulator = make_simulator(task, collecting)
        reset = simulator.reset
        simulator.reset = lambda seed: seeds.append(seed) or reset(seed)
        return simulator

    monkeypatch.setattr("safesweep.trainables.data.collect.make_simulator", watched)
    dataset = read_dataset(collect_dataset(task, 1, 0, tmp_path / "a.hdf5"), task)
    simulator = make_simulator(task)
    observation = simulator.reset(seeds[0])
    np.testing.assert_array_equal(dataset.observations[0], observation.astype(np.float32))
    for step in range(len(dataset)):
        observation, reward, cost, _ = simulator.step(dataset.actions[step].astype(float))
        np.testing.assert_array_equal(dataset.next_observations[step], observation.astype("f4"))
        assert dataset.rewards[step] == np.float32(reward)
        assert dataset.costs[step] == cost
    simulator.close()


STEPS_OF_BOAT_DATA = {
    "BoatNavigation-v0": 280_000,
    "BoatNavigationHard-v0": 280_000,
    "BoatNavigationCoarse-v0": 120_000,
}


@pytest.mark.parametrize("name", list(boat.BOATS))
def test_boat_data_covers_the_box_and_labels_its_states(tmp_path, name):
    dataset = read_dataset(collect_dataset(name, None, 0, tmp_path / "a.hdf5"), name)
    assert len(dataset) == STEPS_OF_BOAT_DATA[name]
    assert dataset.safety_margins is not None
    margins = boat.safety_margin(dataset.observations, name)
    np.testing.assert_allclose(dataset.safety_margins, margins, atol=1e-6)
    np.testing.assert_array_equal(dataset.costs > 0, dataset.safety_margins > 0)
    counts, _, _ = np.histogram2d(
        *dataset.observations.T, bins=(10, 8), range=list(zip(boat.LOW, boat.HIGH, strict=True))
    )
    assert counts.min() >= 80
    directions = np.arctan2(dataset.actions[:, 1], dataset.actions[:, 0])
    spread, _ = np.histogram(directions, bins=8, range=(-np.pi, np.pi))
    assert spread.min() >= 0.03 * len(dataset)
    assert 0.005 < (dataset.costs > 0).mean() < 0.2


@pytest.mark.parametrize("name", list(boat.BOATS))
def test_actions_fill_the_box_because_the_boat_normalises_them(tmp_path, name):
    dataset = read_dataset(collect_dataset(name, 60, 0, tmp_path / "a.hdf5"), name)
    actions = dataset.actions.astype(float)
    assert np.abs(actions).max() <= 1
    # Uniform over the box whatever the direction: the square of the length, as a share of that of
    # the edge in its direction, is uniform, and so is half of all actions in the inner half.
    reach = np.abs(actions).max(axis=1) ** 2
    np.testing.assert_allclose(np.quantile(reach, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)
    # What is recorded is what moved the boat, whose step is that of its direction alone.
    moved = boat.advance(
        dataset.observations.astype(float), boat.unit_actions(actions), boat.BOATS[name].time_step
    )
    np.testing.assert_allclose(dataset.next_observations, moved, atol=1e-6)


def test_progress_counts_episodes(tmp_path):
    seen = []
    collect_dataset("BallRun", 3, 0, tmp_path / "a.hdf5", lambda *done: seen.append(done))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    collect_dataset("BoatNavigation", 5, 0, tmp_path / "b.hdf5", lambda *done: seen.append(done))
    assert seen[-1] == (5, 5)


def test_default_place_and_number(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path))
    path = collect_dataset("BoatNavigation")
    assert path == tmp_path / "BoatNavigation-v0-collected-700-0-v4.hdf5"
    assert default_episodes(get_task("BoatNavigationCoarse")) == 3000
    assert default_episodes(get_task("BallRun")) == 1000
    assert default_episodes(get_task("AntVelocity")) == 100


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="episodes: 0 is not allowed"):
        collect_dataset("BallRun", 0, 0, tmp_path / "a.hdf5")
    with pytest.raises(InvalidInput, match="seed: -1 is not allowed"):
        collect_dataset("BallRun", 1, -1, tmp_path / "a.hdf5")
    assert not list(tmp_path.iterdir())
