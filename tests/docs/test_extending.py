"""The doors for what comes from outside: each in under 25 lines, and those lines work."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from safesweep.analysis.reproduction import find_ablation
from safesweep.analysis.selection.choice import select
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task, make_simulator
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial, train
from tests.docs.blocks import blocks

DOORS = {
    str(block.file_name): block.text
    for block in blocks("python", "yaml", pages=("docs/extending.md",))
}
NAMES = ("my_method.py", "my_suite.py", "my_task.yaml", "my_rule.py", "my_ablation.py",
         "my_logger.py")  # fmt: skip


@pytest.fixture
def door(tmp_path: Path) -> Iterator[None]:
    with plugins_forgotten_after():
        for name in NAMES:
            (tmp_path / name).write_text(DOORS[name])
        yield


@pytest.fixture
def boat(tmp_path: Path) -> Dataset:
    path = collect_dataset("BoatNavigation", 2, 0, tmp_path / "boat.hdf5")
    return read_dataset(path, "BoatNavigation")


def test_there_is_a_door_for_each_kind_in_under_25_lines() -> None:
    assert tuple(DOORS) == NAMES
    for block in DOORS.values():
        assert len([line for line in block.splitlines() if line.strip()]) < 25


def test_the_method(door: None, boat: Dataset, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_method.py"))
    rows = train(
        "bc_huber", "BoatNavigation", [{"hidden_dim": 8}], steps=4, episodes=2, dataset=boat
    )
    assert rows.runs[0]["status"] == "completed"
    content = {"name": "x", "algorithm": "bc_huber", "tasks": ["BallRun"], "steps": 1,
               "search": {"method": "random", "num_configs": 2}}  # fmt: skip
    assert list(SweepSpec.from_mapping(content).space_for("bc_huber").entries) == ["learning_rate"]


def test_the_suite(door: None, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_suite.py"))
    task = get_task("Slope-v0")
    assert task.cost_limit == 5.0

    def up(observations, step, members, episodes):
        return np.ones(observations.shape)

    outcome = rollout(task, up, 1, [0, 1])
    assert (outcome.lengths == 20).all()
    starts = np.array([make_simulator(task).reset(seed)[0] for seed in (0, 1)])
    path = np.minimum(starts[:, None] + 0.2 * np.arange(1, 21), 1.0)
    np.testing.assert_allclose(outcome.reward_returns[0], path.sum(axis=1))
    np.testing.assert_allclose(outcome.cost_returns[0], (path > 0.5).sum(axis=1))
    data = read_dataset(collect_dataset(task, 12, 0, tmp_path / "slope.hdf5"), task)
    assert len(data.episode_ends) == 12


def test_the_task_file(door: None, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_task.yaml"))
    task = get_task("MyHopper-v0")
    assert (task.observation_dim, task.action_dim, task.cost_limits) == (11, 3, (10.0, 20.0))
    assert task.dataset_path == str(tmp_path / "hopper.hdf5")
    simulator = make_simulator(task)
    first = simulator.reset(3)
    np.testing.assert_array_equal(simulator.reset(3), first)
    _, _, cost, _ = simulator.step(np.zeros(3))
    assert np.isfinite(cost)
    simulator.close()


def test_the_rule(door: None, write_sweep, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_rule.py"))
    write_sweep("first", [{"feasibility_expectile": level} for level in (0.6, 0.9, 0.99)])
    evaluations = ResultStore(tmp_path / "store").to_judge()
    chosen = select(evaluations, "lowest_tenth").iloc[0]
    cheapest = evaluations.groupby("config_id")["normalized_cost"].mean().idxmin()
    assert chosen["config_id"] == cheapest and chosen["safe"]


def test_the_ablation(door: None, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_ablation.py"))
    ablation = find_ablation("own-width")
    for sweeps in ablation.sweeps.values():
        for sweep in sweeps:
            SweepSpec.from_mapping(sweep)


def test_the_logger(door: None, boat: Dataset, tmp_path: Path) -> None:
    load_plugin(str(tmp_path / "my_logger.py"))
    config = BehaviorCloningConfig.resolve({"hidden_dim": 8})
    request = TrialRequest("bc", boat.task, [config.to_dict()], [0], 2, 1, 1, 1.0)
    writer = ResultWriter(str(tmp_path / "store"), "logged")
    trial = Trial(request, get_task("BoatNavigation"), boat, writer)
    while not trial.done:
        trial.advance()
    names = {path.name for path in (tmp_path / "store" / "costs").iterdir()}
    assert names == {f"{trial.trial_id}-1.txt", f"{trial.trial_id}-2.txt"}
    assert trial.observers.problems == []
