"""D4RL's and Minari's layouts are read as DSRL's; no step is bootstrapped from a wrong state."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.data.dataset_layouts import KEYS, join_episodes, with_successors
from safesweep.trainables.tasks.registry import get_task
from tests.trainables.data.test_sources import make_arrays, write_raw

TASK = get_task("CarRun")


def make_episodes(lengths=(5, 3, 4), terminal=(1,), reset_cost=True, seed=0):
    """Episodes as Minari keeps them."""
    generator = np.random.default_rng(seed)
    episodes = []
    for number, steps in enumerate(lengths):
        ends = np.arange(steps) == steps - 1
        episodes.append(
            {
                "observations": generator.normal(size=(steps + 1, 7)).astype(np.float32),
                "actions": generator.uniform(-1, 1, (steps, 2)).astype(np.float32),
                "rewards": np.arange(steps, dtype=np.float64) + number,
                "terminations": ends & (number in terminal),
                "truncations": ends & (number not in terminal),
                "infos/cost": np.arange(steps + reset_cost) % 2.0,
            }
        )
    return episodes


def write_minari(path: Path, episodes, metadata=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number in reversed(range(len(episodes))):  # the order in the file is that of names
            group = file.create_group(f"episode_{number}")
            for name, values in episodes[number].items():
                group[name] = values
    if metadata is not None:
        (path.parent / "metadata.json").write_text(json.dumps(metadata))
    return path


@pytest.mark.parametrize("reset_cost", [True, False])
@pytest.mark.parametrize("folder", ["", "data", "carrun-v0/data"])
def test_minaris_episodes_are_read(tmp_path: Path, reset_cost: bool, folder: str) -> None:
    lengths = (5, 3, 4, *[2] * 9)  # episode_10 comes after episode_9
    episodes = make_episodes(lengths, reset_cost=reset_cost)
    write_minari(tmp_path / folder / "main_data.hdf5", episodes)
    place = tmp_path / folder if folder != "carrun-v0/data" else tmp_path / "carrun-v0"
    dataset = read_dataset(place, TASK)
    assert dataset.episode_lengths.tolist() == list(lengths)
    assert dataset.warnings == ()
    assert np.flatnonzero(dataset.terminals).tolist() == [7]
    for start, end, episode in zip(
        dataset.episode_starts, dataset.episode_ends, episodes, strict=True
    ):
        steps = slice(start, end)
        np.testing.assert_array_equal(dataset.observations[steps], episode["observations"][:-1])
        np.testing.assert_array_equal(dataset.next_observations[steps], episode["observations"][1:])
        np.testing.assert_array_equal(dataset.actions[steps], episode["actions"])
        np.testing.assert_array_equal(dataset.rewards[steps], episode["rewards"])
        costs = episode["infos/cost"][1:] if reset_cost else episode["infos/cost"]
        np.testing.assert_array_equal(dataset.costs[steps], costs)


def test_minaris_files_say_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "data" / "main_data.hdf5"
    specification = json.dumps({"id": "SafetyCarRun-v0", "entry_point": "x"})
    metadata = {"dataset_id": "safe/car-v0", "env_spec": specification}
    write_minari(path, make_episodes(), metadata)
    assert read_dataset(tmp_path, TASK).provenance == {
        "source": "minari", "dataset": "safe/car-v0", "environment": "SafetyCarRun-v0"
    }  # fmt: skip
    with pytest.raises(InvalidInput, match="was made for OfflineCarRun-v0"):
        read_dataset(tmp_path, "BallRun")
    # Older versions keep the same in the file.
    (tmp_path / "data" / "metadata.json").unlink()
    with h5py.File(path, "a") as file:
        file.attrs["env_spec"] = specification
    with pytest.raises(InvalidInput, match="was made for OfflineCarRun-v0"):
        read_dataset(path, "BallRun")


def _without(name):
    return lambda episode: episode.pop(name)


def _put(name, value):
    return lambda episode: episode.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("infos/cost"),
            "costs: not found among .*a cost for each step is needed, as costs",
        ),
        pytest.param(_without("rewards"), "episode_0: rewards: missing", marks=pytest.mark.slow),
        (_put("rewards", np.zeros(9)), r"lengths: do not fit \d actions \(rewards 9\)"),
        pytest.param(
            _put("infos/cost", np.zeros(9)),
            r"lengths: do not fit \d actions \(costs 9\)",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            _put("observations", np.zeros((3, 7))),
            "observations 3 instead of 6",
            marks=pytest.mark.slow,
        ),
        (_put("actions", np.zeros(())), "actions: not an array of numbers"),
        pytest.param(
            _put("actions", np.array([b"left"] * 5)),
            "actions: not an array of numbers",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_minaris_faults_are_one_short_line(tmp_path: Path, change, message: str) -> None:
    episodes = make_episodes((5,) * 400)
    for episode in episodes:
        change(episode)
    path = write_minari(tmp_path / "minari.hdf5", episodes)
    with pytest.raises(InvalidInput, match=message) as refusal:
        read_dataset(path, TASK)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert "and so in 399 more episodes" in str(refusal.value)


def test_observations_that_are_dictionaries_are_refused(tmp_path: Path) -> None:
    episodes = make_episodes((5,))
    episodes[0]["observations/goal"] = episodes[0].pop("observations")
    with pytest.raises(InvalidInput, match=r"observations: a dictionary \(goal\), not an array"):
        read_dataset(write_minari(tmp_path / "a.hdf5", episodes), TASK)


def test_a_file_of_other_keys_is_refused_in_one_short_line(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "a.hdf5", {f"trajectory_{n}": np.zeros(3) for n in range(2000)})
    with pytest.raises(InvalidInput, match=r"observations, .* missing .*and 1,988 more") as refusal:
        read_dataset(path, TASK)
    assert len(str(refusal.value)) < 500


def test_d4rls_files_get_their_next_observations(tmp_path: Path) -> None:
    arrays = make_arrays()
    costs = arrays.pop("costs")
    del arrays["next_observations"]
    with h5py.File(write_raw(tmp_path / "d4rl.hdf5", arrays), "a") as file:
        file["infos/cost"] = costs
        file["infos/qpos"] = np.zeros(12)
    dataset = read_dataset(tmp_path / "d4rl.hdf5", TASK)
    # Episodes of 5 and 4 steps were cut by a time-out and lose the last one; that of 3 ended.
    assert dataset.episode_lengths.tolist() == [4, 3, 3]
    kept = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    np.testing.assert_array_equal(dataset.observations, arrays["observations"][kept])
    np.testing.assert_array_equal(dataset.costs, costs[kept])
    inside = [0, 1, 2, 3, 4, 5, 7, 8, 9]
    following = arrays["observations"][[kept[place] + 1 for place in inside]]
    np.testing.assert_array_equal(dataset.next_observations[inside], following)
    assert np.flatnonzero(dataset.terminals).tolist() == [6]
    assert np.flatnonzero(dataset.timeouts).tolist() == [3, 9]
    (said,) = dataset.warnings
    assert "not stored" in said and "the last step of 2 episodes" in said


def test_a_file_without_costs_says_what_is_needed(tmp_path: Path) -> None:
    arrays = make_arrays()
    del arrays["costs"]
    with pytest.raises(InvalidInput, match=r"costs: missing .*a cost for each step is needed, as"):
        read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)


@pytest.mark.parametrize("following", ["reset", "rolled"])
def test_next_observations_of_another_episode_are_not_learned_from(
    tmp_path: Path, following: str
) -> None:
    arrays = make_arrays(lengths=(5, 3, 4), terminal_episodes=(1,))
    ends = [4, 7, 11]
    rolled = np.roll(arrays["observations"], -1, axis=0)
    changed = ends if following == "rolled" else ends[:2]
    arrays["next_observations"][changed] = rolled[changed]
    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)
    (said,) = dataset.warnings
    assert f"at the ends of {len(changed)} of 3 episodes (first at step 4)" in said
    assert f"the last step of {len(changed) - 1} episodes that a time-out cut" in said
    # The one that ended in a terminal is whole: nothing is bootstrapped there.
    last = 3 if following == "rolled" else 4
    assert dataset.episode_lengths.tolist() == [4, 3, last]
    assert dataset.terminals.sum() == 1 and dataset.timeouts.sum() == 2


def test_a_file_without_such_faults_is_what_it_was(tmp_path: Path) -> None:
    arrays = make_arrays()
    same, said = with_successors(arrays)
    assert said == []
    assert all(same[key] is arrays[key] for key in KEYS)


def test_pieces_of_trajectories_that_go_on_are_whole() -> None:
    arrays = make_arrays(terminal_episodes=())
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    same, said = with_successors(arrays, continuing=True)
    assert said == [] and len(same["rewards"]) == 12


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    kinds=st.lists(st.booleans(), min_size=6, max_size=6),
    stored=st.booleans(),
)
def test_every_step_that_is_kept_has_its_own_successor(lengths, kinds, stored) -> None:
    terminal = [number for number in range(len(lengths)) if kinds[number]]
    arrays = make_arrays(tuple(lengths), terminal)
    numbers = np.repeat(np.arange(len(arrays["rewards"]), dtype=np.float32)[:, None], 7, axis=1)
    arrays["observations"] = numbers
    arrays["next_observations"] = np.roll(numbers, -1, axis=0)
    if not stored:
        del arrays["next_observations"]
    kept, said = with_successors(arrays)
    assert len(said) == 1
    bootstrapped = ~kept["terminals"]
    np.testing.assert_array_equal(
        kept["next_observations"][bootstrapped], kept["observations"][bootstrapped] + 1
    )
    lost = sum(1 for number in range(len(lengths)) if number not in terminal)
    assert len(kept["rewards"]) == len(arrays["rewards"]) - lost
    ends = kept["terminals"] | kept["timeouts"]
    whole = [n - (number not in terminal) for number, n in enumerate(lengths)]
    assert ends.sum() == sum(1 for steps in whole if steps)
    if len(kept["rewards"]):
        assert ends[-1]


def test_an_episode_without_a_flag_was_cut_off_and_one_without_steps_is_none() -> None:
    first, second = make_episodes((3, 2))
    first["truncations"][:] = False
    empty = {name: values[:1] if name == "observations" else values[:0]
             for name, values in second.items()}  # fmt: skip
    raw = join_episodes([("episode_0", first), ("episode_1", empty), ("episode_2", second)])
    assert raw.problems == []
    assert raw.arrays["timeouts"].tolist() == [False, False, True, False, False]
    assert raw.arrays["terminals"].tolist() == [False, False, False, False, True]
    nothing = join_episodes([("episode_0", empty)])
    assert len(nothing.arrays["rewards"]) == 0
