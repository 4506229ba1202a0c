import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks.registry import TASKS, get_task, task_called, tasks_named_in


def test_registry_has_every_dsrl_task_all_boats_and_ogbench():
    suites = [task.suite for task in TASKS.values()]
    assert {suite: suites.count(suite) for suite in set(suites)} == {
        "boat": 3,
        "bullet": 8,
        "safety_gymnasium_navigation": 16,
        "safety_gymnasium_velocity": 5,
        "metadrive": 9,
        "ogbench": 50,
    }
    assert all(name == task.name for name, task in TASKS.items())
    assert len({task.key for task in TASKS.values()}) == len(TASKS)


@pytest.mark.parametrize(
    "name", [name for name, task in TASKS.items() if task.suite not in ("boat", "ogbench")]
)
def test_constants_are_those_of_the_dsrl_package(name):
    from safesweep.trainables.tasks.dsrl_imports import dsrl_constants

    task = TASKS[name]
    constants = dsrl_constants(task.key)
    assert task.min_return == constants["min_return"]
    assert task.max_return == constants["max_return"]
    assert task.max_cost == constants["max_cost"]
    assert task.horizon == constants["horizon"]
    assert task.dataset_urls[1] == constants["dataset_url"].replace("http://", "https://")
    assert task.dataset_urls[0].rsplit("/", 1)[1] == task.dataset_file


def test_keys_are_aliases():
    assert get_task("CarRun") is TASKS["OfflineCarRun-v0"]
    assert get_task("PointGoal1") is TASKS["OfflinePointGoal1Gymnasium-v0"]
    assert get_task("HopperVelocity") is TASKS["OfflineHopperVelocityGymnasium-v1"]
    assert get_task("easydense") is TASKS["OfflineMetadrive-easydense-v0"]
    assert get_task("BoatNavigation") is TASKS["BoatNavigation-v0"]


@pytest.mark.parametrize(
    ("wrong", "close"), [("OfflineCarRum-v0", "OfflineCarRun-v0"), ("BalRun", "BallRun")]
)
def test_unknown_task_names_the_nearest(wrong, close):
    with pytest.raises(InvalidInput, match=f"task: '{wrong}'.*did you mean '{close}'"):
        get_task(wrong)


def test_rewards_and_costs_normalise_as_in_dsrl():
    task = get_task("CarRun")
    returns = np.array([task.min_return, task.max_return])
    np.testing.assert_allclose(task.normalize_reward(returns), [0.0, 1.0])
    assert task.normalize_cost(5.0, 10.0) == 0.5
    assert task.normalize_cost(0.0, 0.0) == 1.0
    np.testing.assert_allclose(task.normalize_cost(np.array([0.0, 2.0]), 0.0), [1.0, 3.0])
    assert task.cost_limit == 10.0
    assert get_task("AntVelocity").cost_limits == (20.0, 40.0, 80.0)
    assert get_task("BoatNavigation").cost_limit == 1.0


def test_the_limit_that_is_asked_for_counts_zero_included() -> None:
    task = get_task("OfflineBallRun-v0")
    assert task.limit_or_own(None) == task.cost_limit == 10.0
    assert task.limit_or_own(0) == 0.0 and task.limit_or_own(25) == 25.0


def test_tasks_are_found_in_names():
    for task in TASKS.values():
        assert tasks_named_in(f"x-{task.name}.hdf5") == [task]
        assert task_called(task.name) is task and task_called(task.key) is task
        if task.dataset_file is not None:
            # Tasks of one environment of OGBench share their data.
            found = tasks_named_in(task.dataset_file)
            assert found and {other.dataset_file for other in found} == {task.dataset_file}
    assert [task.key for task in tasks_named_in("BallRun and SafetyCarRun-v0")] == [
        "BallRun", "CarRun"
    ]  # fmt: skip
    assert tasks_named_in("MyBallRun, CarRun2, ballrun") == []
    assert task_called("SafetyPointGoal1Gymnasium-v0") is TASKS["OfflinePointGoal1Gymnasium-v0"]
    assert task_called("SafetyPointGoal1-v0") is TASKS["OfflinePointGoal1Gymnasium-v0"]
    assert task_called("BallRun variant") is None
