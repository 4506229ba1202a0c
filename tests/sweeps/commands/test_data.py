import json

import h5py
import numpy as np
import pytest

from safesweep.sweeps.cli import main
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks.registry import TASKS, get_task, simulator_installed
from tests.trainables.data.test_dataset_layouts import make_episodes, write_minari
from tests.trainables.data.test_sources import make_arrays, write_raw


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("DSRL_DATASET_DIR", str(tmp_path / "dsrl"))
    return tmp_path / "cache"


@pytest.fixture
def ball_file(cache, tmp_path, capsys):
    """A collected file with a name that does not tell its task."""
    path = tmp_path / "mine.hdf5"
    assert main(["data", "collect", "BallRun", "--episodes", "4", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    return path


def printed(capsys):
    output = capsys.readouterr()
    return json.loads(output.out), output.err


def failure(capsys, *arguments):
    """The one line that a refused command prints."""
    assert main([str(argument) for argument in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("safesweep: ")
    assert output.err.count("\n") == 1
    return output.err


def test_tasks_lists_all_with_their_constants(capsys):
    assert main(["tasks", "--format", "json"]) == 0
    rows, messages = printed(capsys)
    assert [row["task"] for row in rows] == list(TASKS)
    car_run = next(row for row in rows if row["key"] == "CarRun")
    assert car_run["horizon"] == 200
    assert car_run["cost_limits"] == "10 20 40"
    assert messages == ""


def test_list_shows_what_is_here(cache, capsys):
    assert main(["data", "collect", "BoatNavigation", "--episodes", "3"]) == 0
    path = capsys.readouterr().out.strip()
    assert main(["data", "list", "--format", "json"]) == 0
    rows = {row["task"]: row for row in printed(capsys)[0]}
    assert rows["BoatNavigation-v0"]["file"] == path
    assert rows["BoatNavigation-v0"]["origin"] == "collected"
    assert rows["BoatNavigation-v0"]["obtainable"] == "collect"
    assert rows["OfflineCarRun-v0"]["origin"] == "none"
    for task in ("OfflineCarRun-v0", "OfflineMetadrive-easymean-v0"):
        collect = " collect" if simulator_installed(get_task(task)) else ""
        assert rows[task]["obtainable"] == f"fetch{collect}"


def test_info_describes_a_file(ball_file, capsys):
    with h5py.File(ball_file, "a") as file:
        file["actions"][5] = [2.0, 0.0]
        file["timeouts"][-1] = False
    assert main(["data", "info", str(ball_file), "--format", "json"]) == 0
    rows, messages = printed(capsys)
    dataset = read_dataset(ball_file, "BallRun")
    assert len(rows) == 1
    assert rows[0]["task"] == "OfflineBallRun-v0"
    assert rows[0]["dataset_id"] == dataset.dataset_id
    assert (rows[0]["steps"], rows[0]["episodes"], rows[0]["episode_length"]) == (400, 4, "100")
    assert rows[0]["return_max"] == pytest.approx(dataset.returns().max(), abs=1e-3)
    assert rows[0]["cost_min"] == dataset.cost_returns().min()
    assert rows[0]["positive_cost_steps_percent"] == pytest.approx(
        100 * np.mean(dataset.costs > 0), abs=1e-3
    )
    assert rows[0]["actions_outside_bounds"] == 1
    assert (rows[0]["ended_by_terminal"], rows[0]["ended_by_timeout"]) == (0, 4)
    assert '"collector": "safesweep"' in rows[0]["provenance"]
    assert "the last step ends no episode" in messages


def test_info_finds_a_collected_dataset_by_task(cache, capsys):
    assert main(["data", "collect", "BoatNavigationHard"]) == 0
    path = capsys.readouterr().out.strip()
    assert main(["data", "info", "BoatNavigationHard"]) == 0
    shown = capsys.readouterr().out
    assert path in shown
    assert "280000" in shown
    error = failure(capsys, "data", "info", "CarRun")
    how = "collect" if simulator_installed(get_task("CarRun")) else "fetch"
    assert f"safesweep data {how} OfflineCarRun-v0" in error


def test_info_takes_the_task_from_the_name_or_the_option(ball_file, tmp_path, capsys):
    with h5py.File(ball_file, "a") as file:
        del file.attrs["provenance"]
    error = failure(capsys, "data", "info", ball_file)
    assert "'mine.hdf5' does not tell; name it with --task" in error
    assert main(["data", "info", str(ball_file), "--task", "BallRun", "--format", "json"]) == 0
    assert printed(capsys)[0][0]["provenance"] == "not stated"
    for name in ("SafetyBallRun-v0-80-940.hdf5", "SafetyBallRun-v0.hdf5", "OfflineBallRun-v0.hdf5"):
        ball_file = ball_file.rename(tmp_path / name)
        assert main(["data", "info", str(ball_file), "--format", "json"]) == 0
        assert printed(capsys)[0][0]["task"] == "OfflineBallRun-v0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("costs"), "costs: missing"),
        (lambda file: file["rewards"].__setitem__(7, np.nan), "rewards: not finite at 1 of 400"),
        (
            lambda file: (file.pop("actions"), file.__setitem__("actions", np.zeros((400, 3)))),
            "actions: 3 columns, but OfflineBallRun-v0 has 2 action dimensions",
        ),
    ],
    ids=["no costs", "NaN reward", "wide actions"],
)
def test_bad_file_is_one_line_and_exit_code_2(ball_file, capsys, change, message):
    with h5py.File(ball_file, "a") as file:
        change(file)
    assert message in failure(capsys, "data", "info", ball_file)


def test_file_that_is_missing_or_not_hdf5(tmp_path, capsys):
    assert "does not exist" in failure(capsys, "data", "info", tmp_path / "none.hdf5")
    text = tmp_path / "text.hdf5"
    text.write_text("hello")
    assert "is not an HDF5 file" in failure(capsys, "data", "info", text)
    assert "is not an HDF5 file" in failure(capsys, "data", "info", text, "--task", "CarRun")


def test_bad_arguments(cache, capsys):
    assert "did you mean 'BallRun'" in failure(capsys, "data", "collect", "BalRun")
    assert "episodes: -3" in failure(capsys, "data", "collect", "BallRun", "--episodes", "-3")
    assert "'few' is not a whole" in failure(
        capsys, "data", "collect", "BallRun", "--episodes", "few"
    )
    assert "did you mean 'CarRun'" in failure(capsys, "data", "fetch", "BallRun", "CarRn")


def test_fetch_prints_what_is_there_or_says_what_to_do(cache, capsys, monkeypatch):
    def offline(opener, request, timeout):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", offline)
    error = failure(capsys, "data", "fetch", "BallRun")
    for host in ("huggingface.co", "data.offline-saferl.org"):
        assert f"{host} (Network is unreachable)" in error
    file = cache / str(TASKS["OfflineBallRun-v0"].dataset_file)
    file.write_text("")
    assert main(["data", "fetch", "BallRun"]) == 0
    assert capsys.readouterr().out == f"{file}\n"


def test_info_reads_minaris_folders_and_warns(cache, tmp_path, capsys):
    folder = tmp_path / "car-v0"
    write_minari(folder / "data/main_data.hdf5", make_episodes())
    assert main(["data", "info", str(folder), "--task", "CarRun", "--format", "json"]) == 0
    rows, messages = printed(capsys)
    assert (rows[0]["steps"], rows[0]["episodes"], messages) == (12, 3, "")
    assert "'main_data.hdf5' does not tell; name it" in failure(capsys, "data", "info", folder)
    arrays = make_arrays()
    arrays["next_observations"] = np.roll(arrays["observations"], -1, axis=0)
    path = write_raw(tmp_path / "SafetyBallRun-v0-80-940.hdf5", arrays)
    assert main(["data", "info", str(path), "--task", "CarRun", "--format", "json"]) == 0
    rows, messages = printed(capsys)
    assert rows[0]["steps"] == 10
    assert messages.splitlines()[0] == (
        "safesweep: warning: the file's name says OfflineBallRun-v0, but it is used for "
        "OfflineCarRun-v0"
    )
    assert "belong to another episode at the ends of 3 of 3 episodes" in messages


def test_a_name_of_two_tasks_does_not_tell(tmp_path, capsys):
    path = write_raw(tmp_path / "BallRun-CarRun.hdf5", make_arrays())
    error = failure(capsys, "data", "info", path)
    assert "names OfflineBallRun-v0, OfflineCarRun-v0; choose one with --task" in error
