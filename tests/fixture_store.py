"""A result store of everything that a store may hold, really trained, in seconds.

`make_store` is behind the fixture `full_store`; `train_sweep` does what `safesweep run` does,
without Ray.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas

from safesweep.sweeps.execution.failures import Failure
from safesweep.sweeps.execution.scheduler import SweepScheduler
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.store.imports import import_evaluations
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.training.trial import Trial

TASKS = ("BoatNavigation-v0", "BoatNavigationHard-v0")
SMALL = {"hidden_dim": 8, "batch_size": 16}
BUDGET: dict[str, Any] = {"steps": 8, "cost_limit": 10}
SWEEPS: dict[str, dict[str, Any]] = {
    # Three methods, of which two have several policies, on two tasks.
    "methods": {
        "algorithm": ["lspc", "flrp", "bc"],
        "tasks": list(TASKS),
        "seeds": [0, 1],
        "space": {"learning_rate": [0.001, 0.0003]},
        "fixed": SMALL,
        "evaluate": {"every": 8, "episodes": 2},
        **BUDGET,
    },
    # Its runs are among those of `methods`, but for one configuration.
    "shared": {
        "algorithm": "bc",
        "tasks": [TASKS[0]],
        "seeds": [0, 1],
        "space": {"learning_rate": [0.001, 0.0003, 0.01]},
        "fixed": SMALL,
        "evaluate": {"every": 4, "episodes": 2},
        **BUDGET,
    },
    # A run of each kind of end: by configuration, then by seed.
    "troubled": {
        "algorithm": "bc",
        "tasks": [TASKS[1]],
        "seeds": [0, 1],
        "space": {"learning_rate": [0.002, 0.004, 0.008, 0.016]},
        "fixed": SMALL,
        "evaluate": {"every": 4, "episodes": 2},
        **BUDGET,
    },
}
Ending = Callable[[Trial, int], None]


def dataset_paths(folder: Path) -> dict[str, Path]:
    """Where `make_datasets` puts the dataset of each boat."""
    return {task: folder / f"{task}.hdf5" for task in TASKS}


def make_datasets(folder: Path) -> None:
    """A small dataset for each of the two boats."""
    folder.mkdir(exist_ok=True)
    for task, path in dataset_paths(folder).items():
        collect_dataset(get_task(task), episodes=3, path=path)


def short_task(name: str) -> Task:
    """A task of short episodes, which otherwise most of a small training's time goes into."""
    return replace(get_task(name), horizon=20)


def make_store(storage: Path, paths: Mapping[str, Path]) -> Path:
    """LSPC, FLRP and BC on both boats, a sweep that shares runs, one with failed, stopped and
    diverged runs, and an import with a method and a task that nobody knows."""
    datasets = {task: read_dataset(path, task) for task, path in paths.items()}
    for name, content in SWEEPS.items():
        spec = SweepSpec.from_mapping(
            {"name": name, "dataset": {task: str(paths[task]) for task in content["tasks"]},
             **content}
        )  # fmt: skip
        train_sweep(spec, storage, datasets, _ENDINGS if name == "troubled" else {})
    import_evaluations(imported_rows(), str(storage), "elsewhere", cost_limit=20)
    return storage


def imported_rows() -> pandas.DataFrame:
    """Evaluations of a method and a task that are not ours, with text among the values and a run
    that crashed."""
    return pandas.DataFrame(
        [
            {"algorithm": "ppo", "task": "MyRobotReach-v0", "seed": seed, "step": 100,
             "hp_hidden_dim": size, "hp_clip": clip, "status": status,
             "normalized_reward": reward, "normalized_cost": cost}
            for size, clip in (("big", 0.2), ("small", None))
            for seed, status, reward, cost in (
                (0, "finished", 0.7, 0.4),
                (1, "finished", 0.6, 0.9),
                (2, "crashed" if size == "small" else "finished", 0.5, None),
            )
        ]
    ).fillna({"normalized_cost": 0.5})  # fmt: skip


def train_sweep(
    spec: SweepSpec,
    storage: Path,
    datasets: Mapping[str, Dataset],
    endings: Mapping[float, Ending | None] = MappingProxyType({}),
    make_task: Callable[[str], Task] = short_task,
) -> int:
    """Train what the store lacks of a sweep; how many trials that were.

    Args:
        endings: by learning rate, what befalls a trial after its first evaluation; None where its
            worker is lost.
        make_task: what episodes are of; of `get_task`, rows are those that Ray's workers write.
    """
    queue = SweepScheduler({0: spec}, str(storage), _Data(datasets), False)
    queue.advance()
    trained = 0
    while (found := queue.next_trial()) is not None:
        launch, planned = found
        rate = planned.runs[0].config["learning_rate"]
        ending = endings.get(rate)
        if rate in endings and ending is None:
            launch.ended(planned, Failure("error", "the simulator gave up"))
        else:
            task, data = make_task(planned.task), datasets[planned.task]
            train_trial(spec, planned, launch.writer, task, data, ending)
            launch.ended(planned, None)
        trained += 1
    assert queue.over
    return trained


class _Data:
    """The datasets, as a session knows them."""

    def __init__(self, datasets: Mapping[str, Dataset]) -> None:
        self.datasets = datasets

    def dataset_ids(self, spec: SweepSpec) -> dict[str, str]:
        """The digest of each task's data."""
        return {task: self.datasets[task].dataset_id for task in spec.tasks}


def train_trial(
    spec: SweepSpec,
    planned: PlannedTrial,
    writer: ResultWriter,
    task: Task,
    dataset: Dataset,
    ending: Ending | None = None,
) -> None:
    """Train one population, as a worker does."""
    request = planned.request(spec, writer.storage, gpu=0)
    trial = Trial(request, task, dataset, writer)
    while not trial.done:
        trial.advance()
        if ending is not None and not trial.done:
            ending(trial, trial.population.step)


def _stop(trial: Trial, step: int) -> None:
    trial.stop(dict.fromkeys(trial.run_ids, f"rank 2 of 2 at step {step}"))


def _diverge(trial: Trial, step: int) -> None:
    """The second seed's weights are no numbers any more."""
    weights = next(iter(_leaves(trial.population.state["params"])))
    weights[1] = math.inf


def _leaves(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _leaves(value)
    else:
        yield tree


_ENDINGS: dict[float, Ending | None] = {0.004: None, 0.008: _stop, 0.016: _diverge}
