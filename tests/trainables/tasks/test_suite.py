"""A suite from outside is simulated, collected and evaluated like the product's own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.cache import collected_file, default_episodes
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.data.sources import find_dataset
from safesweep.trainables.tasks import processes
from safesweep.trainables.tasks.registry import SUITES, get_task, make_simulator, suite_of
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example_plugin.py"


@pytest.fixture
def corridor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Task]:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "cache"))
    with plugins_forgotten_after():
        load_plugin(str(EXAMPLE))
        yield get_task("Corridor-v0")
    processes.end_simulators()


def to_the_right(observations, step, members, episodes):
    """Members go right, the second one slower; the lower half of the corridor is free."""
    actions = np.zeros(observations.shape)
    actions[..., 0] = np.array([1.0, 0.5])[members][:, None]
    return actions


def test_its_episodes_have_the_known_outcomes(corridor: Task) -> None:
    outcome = rollout(corridor, to_the_right, 2, [3, 4])
    for column, seed in enumerate((3, 4)):
        start = make_simulator(corridor).reset(seed)
        assert outcome.reward_returns[0, column] == pytest.approx(1.0 - start[0])
        assert outcome.reward_returns[1, column] == pytest.approx(1.5)
        assert (outcome.cost_returns[:, column] == (30 if start[1] > 0 else 0)).all()
    assert (outcome.lengths == 30).all()


@pytest.mark.slow
def test_processes_that_simulate_know_it_too(corridor: Task) -> None:
    here = rollout(corridor, to_the_right, 2, [3, 4])
    there = rollout(corridor, to_the_right, 2, [3, 4], processes=2)
    np.testing.assert_array_equal(here.reward_returns, there.reward_returns)
    np.testing.assert_array_equal(here.cost_returns, there.cost_returns)


def test_its_data_is_collected_in_its_simulator(corridor: Task) -> None:
    path = find_dataset(corridor)
    assert path == collected_file(corridor)
    data = read_dataset(path, corridor)
    assert len(data.episode_ends) == default_episodes(corridor) == 40
    assert (data.cost_returns() == 0).any() and (data.cost_returns() > 5).any()
    assert data.provenance["task"] == "Corridor-v0"


def test_a_suite_completes_its_tasks() -> None:
    task = Task(
        name="A-v0", observation_dim=1, action_dim=1, horizon=1, min_return=0.0, max_return=1.0,
        max_cost=1.0,
    )  # fmt: skip
    other = replace(task, name="B-v0", key="B", cost_limits=(3.0,))
    suite = Suite("own", (task, other), cost_limits=(2.0, 1.0))
    assert [(t.suite, t.key, t.cost_limit) for t in suite.tasks] == [
        ("own", "A-v0", 1.0), ("own", "B", 3.0)
    ]  # fmt: skip


def test_a_task_without_data_says_what_to_give(
    corridor: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Put back before the plugin is forgotten.
    with monkeypatch.context() as changed:
        changed.setitem(SUITES, "corridor", replace(SUITES["corridor"], collectable=False))
        with pytest.raises(InvalidInput, match=r"Corridor-v0 has no collector; give a file .*5\)"):
            find_dataset(corridor)
        with pytest.raises(InvalidInput, match="Corridor-v0 has no collector; give a file"):
            collect_dataset(corridor, 1)
    elsewhere = replace(corridor, dataset_path="nowhere.hdf5")
    with pytest.raises(InvalidInput, match=r"'nowhere.hdf5', the data of Corridor-v0, is not ther"):
        find_dataset(elsewhere)


def test_packages_that_are_missing_are_named_with_how_to_get_them(corridor: Task) -> None:
    suite = replace(
        SUITES["corridor"], packages=("no-such-simulator",), installation="ask its authors"
    )
    with pytest.raises(
        InvalidInput,
        match=r"Corridor-v0 needs the simulator no-such-simulator, which is not installed; ask its",
    ):
        suite.make_simulator(corridor)


def test_a_task_of_no_suite_is_refused() -> None:
    with pytest.raises(InvalidInput, match="task: X-v0 is of the unknown suite 'gone'"):
        suite_of(Task("X-v0", 1, 1, 1, 0.0, 1.0, 1.0, suite="gone"))
