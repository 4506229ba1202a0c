from pathlib import Path

import numpy as np
import pytest

from safesweep import SafeRLTrainable
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks.registry import Task
from tests.trainables.conftest import MakeDataset


def test_a_plain_configuration_trains_and_writes(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    trial = SafeRLTrainable(
        {
            "algorithm": "bc", "task": boat_task.name, "steps": 4, "evaluate_every": 2,
            "hyperparameters": {"hidden_dim": np.int64(8), "batch_size": 16}, "seeds": [0, 1],
            "episodes": 1, "dataset": make_dataset(boat_task), "storage": str(tmp_path),
            "device": "cpu",
        }
    )  # fmt: skip
    assert [trial.train()["done"], trial.train()["done"]] == [False, True]
    runs = ResultStore(tmp_path).runs()
    assert sorted(runs["seed"]) == [0, 1] and set(runs["status"]) == {"completed"}
    assert set(runs["hp_hidden_dim"]) == {8}


def test_runs_that_were_not_planned_are_refused(boat_task: Task, make_dataset: MakeDataset) -> None:
    config = {"algorithm": "bc", "task": boat_task.name, "steps": 4}
    with pytest.raises(InvalidInput, match=r"config\.evaluate_evry: unknown key"):
        SafeRLTrainable({**config, "evaluate_evry": 2})
    with pytest.raises(InvalidInput, match="run_ids: a-0 were planned"):
        SafeRLTrainable({**config, "dataset": make_dataset(boat_task), "run_ids": ["a-0"]})
