"""`safesweep run`, as a user would start it: every method on a task of every kind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import TASKS

# A folder with files as DSRL publishes them: these tests then run on them as well.
REAL_FILES = "SAFESWEEP_TEST_DSRL_FILES"
COLLECTED = {
    "BoatNavigation-v0": 12,
    "OfflineBallRun-v0": 12,
    "OfflineSwimmerVelocityGymnasium-v1": 2,
}


def real_files() -> list[Path]:
    folder = os.environ.get(REAL_FILES)
    return sorted(Path(folder).glob("*.hdf5")) if folder else []


def task_of(file: Path) -> str:
    """The task of a file with DSRL's own name, SafetyBallRun-v0-25-100.hdf5 or similar."""
    return next(name for name, task in TASKS.items() if f"Safety{task.key}-" in file.name)


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("data")
    yield {
        task: collect_dataset(task, episodes, path=folder / f"{task}.hdf5")
        for task, episodes in COLLECTED.items()
    }


def assert_two_configurations_of_every_method_run(tmp_path: Path, task: str, dataset: Path) -> None:
    sweep = {
        "name": "every-method",
        "algorithm": list(ALGORITHMS),
        "tasks": [task],
        "dataset": str(dataset),
        "seeds": [0],
        "search": {"method": "grid"},
        "space": {"learning_rate": [1e-4, 3e-4]},
        "fixed": {"hidden_dim": 16, "batch_size": 32},
        "steps": 20,
        "evaluate": {"every": 20, "episodes": 1},
        "resources": {"cpu": 1, "gpu": 0},
        "configs_per_trial": 2,
    }
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep))
    command = [sys.executable, "-m", "safesweep", "run", str(file)]
    ran = subprocess.run(
        [*command, "--storage", str(tmp_path / "store")], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    store = ResultStore(tmp_path / "store")
    runs = store.runs()
    assert runs.groupby("algorithm")["config_id"].nunique().to_dict() == dict.fromkeys(
        ALGORITHMS, 2
    )
    assert set(runs["status"]) == {"completed"}
    evaluations = store.evaluations()
    policies = {(name, p) for name, method in ALGORITHMS.items() for p in method.policies}
    # Methods that act to a limit have a policy for each: `caps@10`.
    own = evaluations.assign(policy=evaluations["policy"].str.partition("@")[0])
    assert set(own[["algorithm", "policy"]].itertuples(index=False, name=None)) == policies
    assert pd.notna(evaluations[["normalized_reward", "normalized_cost"]]).all(axis=None)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("task", COLLECTED)
def test_on_collected_data(tmp_path: Path, collected: dict[str, Path], task: str) -> None:
    assert_two_configurations_of_every_method_run(tmp_path, task, collected[task])


@pytest.mark.slow
@pytest.mark.ray
def test_on_the_files_that_dsrl_publishes(tmp_path: Path) -> None:
    files = real_files()
    if not files:
        pytest.skip(f"{REAL_FILES} names no folder with DSRL's files")
    for index, file in enumerate(files):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert_two_configurations_of_every_method_run(folder, task_of(file), file)
