import h5py
import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data import sources as datasets
from safesweep.trainables.data.dataset import KEYS, read_dataset, write_dataset
from safesweep.trainables.data.sources import find_dataset, load_dataset
from safesweep.trainables.tasks.registry import get_task

TASK = get_task("CarRun")


def make_arrays(lengths=(5, 3, 4), terminal_episodes=(1,), seed=0):
    """Valid transitions of CarRun."""
    generator = np.random.default_rng(seed)
    steps = sum(lengths)
    observations = generator.normal(size=(steps, 7)).astype(np.float32)
    ends = np.cumsum(lengths) - 1
    following = np.roll(observations, -1, axis=0)
    following[ends] = generator.normal(size=(len(ends), 7))
    terminals, timeouts = np.zeros(steps, bool), np.zeros(steps, bool)
    timeouts[ends] = True
    for episode in terminal_episodes:
        terminals[ends[episode]], timeouts[ends[episode]] = True, False
    return {
        "observations": observations,
        "next_observations": following,
        "actions": generator.uniform(-1, 1, (steps, 2)).astype(np.float32),
        "rewards": np.arange(steps, dtype=np.float32),
        "costs": (np.arange(steps) % 2).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def write_raw(path, arrays):
    """An HDF5 file of exactly these arrays, valid or not."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "dsrl"))
    (tmp_path / "dsrl").mkdir()
    return tmp_path / "cache"


def test_episodes_end_at_terminals_and_timeouts(tmp_path):
    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", make_arrays()), TASK)
    assert len(dataset) == 12
    np.testing.assert_array_equal(dataset.episode_starts, [0, 5, 8])
    np.testing.assert_array_equal(dataset.episode_ends, [5, 8, 12])
    np.testing.assert_array_equal(dataset.episode_lengths, [5, 3, 4])
    np.testing.assert_array_equal(dataset.returns(), [10, 18, 38])
    np.testing.assert_array_equal(dataset.cost_returns(), [2, 2, 2])
    assert dataset.terminals.sum() == 1
    assert not dataset.unfinished
    assert dataset.provenance == {}
    assert dataset.safety_margins is None


def test_arrays_are_contiguous_and_typed(tmp_path):
    arrays = make_arrays()
    arrays["observations"] = arrays["observations"].astype(np.float64)
    arrays["rewards"] = arrays["rewards"][:, None].astype(np.int64)
    arrays["timeouts"] = arrays["timeouts"].astype(np.float32)
    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)
    for key in KEYS:
        array = getattr(dataset, key)
        assert array.flags.c_contiguous
        assert array.dtype == (bool if key in ("terminals", "timeouts") else np.float32)
    assert dataset.rewards.shape == (12,)


def test_actions_outside_the_bounds_are_clipped_and_counted(tmp_path):
    arrays = make_arrays()
    arrays["actions"][3] = [1.5, -2.0]
    arrays["actions"][7, 0] = -1.001
    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)
    assert dataset.clipped_actions == 2
    np.testing.assert_array_equal(dataset.actions[3], [1.0, -1.0])
    assert np.abs(dataset.actions).max() <= 1


def test_identity_is_that_of_the_stored_content(tmp_path):
    arrays = make_arrays()
    first = read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)
    same = read_dataset(write_dataset(tmp_path / "b.hdf5", arrays, {"seed": 1}), TASK)
    assert first.dataset_id == same.dataset_id
    assert len(first.dataset_id) == 12
    assert same.provenance == {"seed": 1}
    for key in KEYS:
        changed = {name: array.copy() for name, array in arrays.items()}
        if key == "terminals":
            changed[key][7], changed["timeouts"][7] = False, True
        elif key == "timeouts":
            changed[key][4], changed["terminals"][4] = False, True
        elif key == "observations":
            changed[key][0] += 1  # the first step of an episode follows nothing
        elif key == "next_observations":
            changed[key][4] += 1  # the last step of one precedes nothing
        else:
            changed[key][0] = 0.5
        other = read_dataset(write_raw(tmp_path / f"{key}.hdf5", changed), TASK)
        assert other.dataset_id != first.dataset_id, key
    # Clipping must not hide that what was stored differs.
    arrays["actions"][0] = [1.0, 0.0]
    at_bound = read_dataset(write_raw(tmp_path / "c.hdf5", arrays), TASK)
    arrays["actions"][0] = [1.5, 0.0]
    beyond = read_dataset(write_raw(tmp_path / "d.hdf5", arrays), TASK)
    assert at_bound.dataset_id != beyond.dataset_id


def test_last_step_that_ends_nothing_is_a_timeout(tmp_path):
    arrays = make_arrays()
    arrays["timeouts"][-1] = False
    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)
    assert dataset.unfinished
    assert dataset.timeouts[-1]
    np.testing.assert_array_equal(dataset.episode_ends, [5, 8, 12])


def test_stored_safety_margins_are_read(tmp_path):
    arrays = make_arrays()
    arrays["safety_margins"] = np.linspace(-1, 1, 12)
    dataset = read_dataset(write_dataset(tmp_path / "a.hdf5", arrays, {}), TASK)
    assert dataset.safety_margins is not None
    np.testing.assert_allclose(dataset.safety_margins, arrays["safety_margins"], rtol=1e-6)


def _without(key):
    return lambda arrays: arrays.pop(key)


def _set(key, index, value):
    def change(arrays):
        arrays[key][index] = value

    return change


def _replace(key, make):
    def change(arrays):
        arrays[key] = make(arrays[key])

    return change


VIOLATIONS = {
    "no costs": (_without("costs"), r"costs: missing \(the file's keys are actions, "),
    "NaN reward": (
        _set("rewards", 7, np.nan),
        r"rewards: not finite at 1 of 12 steps \(first at step 7\)",
    ),
    "infinite observation": (
        _set("observations", (3, 2), np.inf),
        r"observations: not finite at 1 of 12",
    ),
    "wide actions": (
        _replace("actions", lambda array: np.pad(array, ((0, 0), (0, 1)))),
        "actions: 3 columns, but OfflineCarRun-v0 has 2 action dimensions",
    ),
    "flat actions": (
        _replace("actions", lambda array: array[:, 0]),
        r"actions: shape \(12,\), not \[steps, 2\]",
    ),
    "wide rewards": (
        _replace("rewards", lambda array: np.stack([array, array], axis=1)),
        r"rewards: shape \(12, 2\), not \[steps\]",
    ),
    "text": (
        _replace("costs", lambda array: np.array([b"a"] * len(array))),
        r"costs: type \|S1, not numbers",
    ),
    "short costs": (
        _replace("costs", lambda array: array[:-1]),
        r"different lengths \(observations 12, .*costs 11",
    ),
    "negative cost": (_set("costs", 4, -0.5), "costs: -0.5 at step 4 is negative"),
    "flag": (
        _replace("timeouts", lambda array: array.astype(int) * 2),
        "timeouts: values other than 0 and 1",
    ),
    "inconsistent": (
        _set("next_observations", 2, 9.0),
        r"next_observations: differ from the following observation at 1 of 9 .*step 2\)",
    ),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violation_is_one_clear_line(tmp_path, name):
    change, message = VIOLATIONS[name]
    arrays = make_arrays()
    change(arrays)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_dataset(write_raw(tmp_path / "bad.hdf5", arrays), TASK)
    assert "\n" not in str(caught.value)
    assert "bad.hdf5" in str(caught.value)


def test_all_violations_are_listed(tmp_path):
    arrays = make_arrays()
    arrays["rewards"][0] = np.nan
    arrays["costs"][1] = -1
    with pytest.raises(InvalidInput, match=r"rewards: not finite.*; costs: -1 at step 1"):
        read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)


def test_empty_arrays_are_refused(tmp_path):
    arrays = {key: array[:0] for key, array in make_arrays().items()}
    with pytest.raises(InvalidInput, match="the arrays are empty"):
        read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)


def test_episode_longer_than_the_horizon_is_refused(tmp_path):
    arrays = make_arrays(lengths=(5, 201))
    with pytest.raises(InvalidInput, match=r"episode 1 has 201 steps, .* end after 200"):
        read_dataset(write_raw(tmp_path / "a.hdf5", arrays), TASK)


def test_group_in_place_of_an_array_is_refused(tmp_path):
    arrays = make_arrays()
    del arrays["costs"]
    path = write_raw(tmp_path / "a.hdf5", arrays)
    with h5py.File(path, "a") as file:
        file.create_group("costs")
    with pytest.raises(InvalidInput, match="costs: a group, not an array"):
        read_dataset(path, TASK)


def test_not_a_file_not_hdf5_and_cut_off(tmp_path):
    with pytest.raises(InvalidInput, match=r"missing.hdf5' does not exist"):
        read_dataset(tmp_path / "missing.hdf5", TASK)
    with pytest.raises(InvalidInput, match="is a folder"):
        read_dataset(tmp_path, TASK)
    text = tmp_path / "text.hdf5"
    text.write_text("observations")
    with pytest.raises(InvalidInput, match="is not an HDF5 file"):
        read_dataset(text, TASK)
    whole = write_raw(tmp_path / "whole.hdf5", make_arrays(lengths=(200,) * 20))
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(InvalidInput, match=r"cut.hdf5.*cannot be read") as caught:
        read_dataset(cut, TASK)
    assert "\n" not in str(caught.value)


def test_writing_where_it_is_not_possible_leaves_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InvalidInput, match=r"output: .* cannot be written"):
        write_dataset(blocked / "a.hdf5", make_arrays(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_same_content_is_written_as_the_same_bytes(tmp_path):
    first = write_dataset(tmp_path / "a.hdf5", make_arrays(), {"b": 1, "a": 2})
    second = write_dataset(tmp_path / "b.hdf5", make_arrays(), {"a": 2, "b": 1})
    assert first.read_bytes() == second.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"a.hdf5", "b.hdf5"}


def test_path_is_taken_as_it_is(tmp_path):
    path = write_raw(tmp_path / "mine.hdf5", make_arrays())
    assert find_dataset("CarRun", str(path)) == path
    assert len(load_dataset("CarRun", str(path))) == 12
    with pytest.raises(InvalidInput, match=r"'colect' is neither .* did you mean 'collect'"):
        find_dataset("CarRun", "colect")


def test_cached_files_are_preferred_and_published_ones_first(cache, tmp_path, monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("nothing must be fetched")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", no_network)
    cache.mkdir()
    collected = datasets.collected_file(TASK)
    collected.write_text("")
    assert find_dataset(TASK, "auto") == collected
    in_dsrl_folder = tmp_path / "dsrl" / str(TASK.dataset_file)
    in_dsrl_folder.write_text("")
    assert find_dataset(TASK, "auto") == in_dsrl_folder
    in_cache = cache / str(TASK.dataset_file)
    in_cache.write_text("")
    assert find_dataset(TASK, "fetch") == in_cache
    assert find_dataset(TASK, "collect") == collected


def test_auto_collects_when_no_mirror_answers(cache, monkeypatch):
    pytest.importorskip("bullet_safety_gym")

    def offline(opener, request, timeout):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    for module in ("cache", "collect"):
        place = f"safesweep.trainables.data.{module}.default_episodes"
        monkeypatch.setattr(place, lambda task: 2)
    dataset = load_dataset("BallRun")
    assert len(dataset.episode_ends) == 2
    assert dataset.provenance["collector"] == "safesweep"
    assert find_dataset("BallRun", "collect") == cache / "OfflineBallRun-v0-collected-2-0-v2.hdf5"
    # What cannot be collected here either is told as what it is: not obtained.
    monkeypatch.setattr("safesweep.trainables.data.sources.simulator_installed", lambda task: False)
    with pytest.raises(InvalidInput, match="Network is unreachable"):
        find_dataset("easymean", "auto")


def test_a_file_that_says_it_is_another_tasks_is_refused(tmp_path):
    for stated in ("OfflineBallRun-v0", "BallRun", "SafetyBallRun-v0"):
        path = write_dataset(tmp_path / "a.hdf5", make_arrays(), {"task": stated})
        with pytest.raises(InvalidInput, match=r"was made for OfflineBallRun-v0.*OfflineCarRun-v0"):
            read_dataset(path, TASK)
    path = write_dataset(tmp_path / "a.hdf5", make_arrays(), {"task": "my own robot"})
    (said,) = read_dataset(path, TASK).warnings
    assert "made in 'my own robot'; it is used for OfflineCarRun-v0" in said


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("SafetyBallRun-v0-80-940.hdf5", "OfflineBallRun-v0"),
        ("BallRun.hdf5", "OfflineBallRun-v0"),
        ("expert_SafetyCarGoal1Gymnasium-v0-120-1671.hdf5", "OfflineCarGoal1Gymnasium-v0"),
        ("SafeMetaDrive-easysparse-v0-85-1000.hdf5", "OfflineMetadrive-easysparse-v0"),
        ("SafetyCarRun-v0-40-651.hdf5", None),
        ("CarRun_from_BallRun.hdf5", None),
        ("mine.hdf5", None),
    ],
)
def test_a_name_that_says_another_task_is_a_warning(tmp_path, name, other):
    warnings = read_dataset(write_raw(tmp_path / name, make_arrays()), TASK).warnings
    expected = [f"the file's name says {other}, but it is used for {TASK.name}"] if other else []
    assert list(warnings) == expected


def test_a_loaded_dataset_is_not_used_for_another_task(tmp_path):
    from safesweep.trainables.training.trial import train

    dataset = read_dataset(write_raw(tmp_path / "a.hdf5", make_arrays()), TASK)
    with pytest.raises(InvalidInput, match="holds transitions of OfflineCarRun-v0, and cannot"):
        train("bc", "BallRun", dataset=dataset, steps=1)
