import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.checkpoints import (
    DamagedCheckpoint,
    load_run,
    read_checkpoint,
    run_state,
)
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial


@pytest.fixture
def trained(boat_task: Task, make_dataset, tmp_path: Path) -> tuple[Trial, ResultWriter, Any]:
    """Two runs of LSPC, their checkpoint in a store, and their data."""
    task, data = boat_task, make_dataset(boat_task)
    values = {"hidden_dim": 8, "batch_size": 16, "latent_dim": 2}
    config = ALGORITHMS["lspc"].config_class.resolve(values)
    writer = ResultWriter(str(tmp_path), "sweep")
    request = TrialRequest("lspc", task.name, [config.to_dict()] * 2, [0, 1], 4, 4, 1, 1.0)
    trial = Trial(request, task, data, writer)
    trial.advance()
    return trial, writer, data


def test_a_run_of_a_checkpoint_acts_as_it_did_in_its_population(trained) -> None:
    trial, writer, data = trained
    row = {**trial.rows.runs[0], "config": json.dumps(trial.rows.runs[0]["config"])}
    loaded = load_run(writer, row, data)
    observations = np.zeros((1, 3, 2), dtype=np.float32)
    policy = trial.population.method.policies[0]
    together = trial.population.policy(policy, 3)(np.repeat(observations, 2, 0), 0)
    np.testing.assert_allclose(loaded.policy(policy, 3)(observations, 0)[0], together[0], atol=1e-5)
    with pytest.raises(InvalidInput, match="dataset: "):
        load_run(writer, {**row, "dataset_id": "other"}, data)


def test_what_is_not_there_is_said(trained) -> None:
    trial, writer, _ = trained
    _, step = run_state(writer, trial.trial_id, trial.run_ids[1])
    assert step == 4
    with pytest.raises(InvalidInput, match="does not hold run other"):
        run_state(writer, trial.trial_id, "other")
    with pytest.raises(InvalidInput, match="has none"):
        run_state(writer, "other", trial.run_ids[0])
    assert read_checkpoint(writer, "other") is None


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_named_in_one_line(trained, content: bytes) -> None:
    trial, writer, _ = trained
    path = checkpoint_path(trial.trial_id)
    writer.write_bytes(path, content)
    with pytest.raises(DamagedCheckpoint, match=f"checkpoint: {path} cannot be read") as caught:
        read_checkpoint(writer, trial.trial_id)
    assert "\n" not in str(caught.value)
