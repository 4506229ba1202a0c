"""A sweep that trains in seconds, and what it must leave in a store whatever happens to it."""

from pathlib import Path

import pandas
from pyarrow import fs

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks.registry import get_task
from tests import fixture_store

SPEC = """
name: example
algorithm: bc
tasks: [BoatNavigation-v0]
dataset: {dataset}
seeds: [0, 1]
space: {{learning_rate: {learning_rates}}}
fixed: {{hidden_dim: 8, batch_size: 16}}
steps: {steps}
evaluate: {{every: {every}, episodes: 2}}
"""
_KEYS = ["run_id", "step", "policy", "name", "episode"]


def write_spec(folder: Path, configs: int = 3, steps: int = 20, every: int = 10) -> Path:
    """A sweep file over `configs` configurations with two seeds each, beside its data."""
    dataset = folder / "boat.hdf5"
    collect_dataset(get_task("BoatNavigation-v0"), episodes=4, path=dataset)
    path = folder / "sweep.yaml"
    rates = [round(0.001 * (1 + number), 6) for number in range(configs)]
    path.write_text(SPEC.format(dataset=dataset, learning_rates=rates, steps=steps, every=every))
    return path


def train_here(file: Path, storage: Path) -> None:
    """Train a sweep file's runs in this process, to compare with: Ray has no part in it."""
    spec = SweepSpec.load(file)
    datasets = {task: read_dataset(spec.dataset_of(task), task) for task in spec.tasks}
    fixture_store.train_sweep(spec, storage, datasets, make_task=get_task)


def tables(storage: str) -> list[pandas.DataFrame]:
    """Everything that must not depend on when and where the runs were trained, in one order."""
    store = ResultStore(storage)
    frames = [
        store.runs()[["run_id", "config_id", "trial_id", "seed", "status", "steps", "config"]],
        store.evaluations().drop(columns="act_latency_ms"),
        store.episodes(),
        store.metrics(),
    ]
    return [
        frame.sort_values([key for key in _KEYS if key in frame], ignore_index=True)
        for frame in frames
    ]


def assert_same(one: str, other: str) -> None:
    """Both stores hold the same rows with the same values, each once."""
    for left, right in zip(tables(one), tables(other), strict=True):
        pandas.testing.assert_frame_equal(left, right, check_exact=True)


def files(storage: str) -> list[str]:
    """Every file or object of a store, relative to its root."""
    filesystem, root = fs.FileSystem.from_uri(storage)
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    return sorted(
        info.path.removeprefix(f"{root}/") for info in found if info.type == fs.FileType.File
    )
