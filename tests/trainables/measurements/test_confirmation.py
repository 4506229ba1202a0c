"""Chosen runs evaluated again from their checkpoints, on episodes that nobody has seen."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.measurements.confirmation import (
    ChosenRun,
    confirmation_id,
    evaluate_again,
)
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.trainables.conftest import MakeDataset

TINY = {"hidden_dim": 8, "batch_size": 16}


@pytest.fixture
def trained(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> tuple[ResultWriter, list[ChosenRun]]:
    """A trial of two seeds of LSPC, which has several policies and acts with noise."""
    writer = ResultWriter(str(tmp_path), "first")
    config = ALGORITHMS["lspc"].config_class.resolve(TINY)
    request = TrialRequest(
        "lspc", boat_task.name, [config.to_dict()] * 2, [0, 1],
        steps=4, evaluate_every=4, episodes=3, cost_limit=1.0,
    )  # fmt: skip
    trial = Trial(request, boat_task, make_dataset(boat_task), writer)
    trial.advance()
    runs = [
        ChosenRun(run, trial.config_ids[0], trial.trial_id, seed, config.to_dict())
        for seed, run in enumerate(trial.run_ids)
    ]
    return writer, runs


def again(
    trained: tuple[ResultWriter, list[ChosenRun]], task: str, **more: Any
) -> pandas.DataFrame:
    writer, runs = trained
    options = {"policy": "lspc_o", "episodes": 5, **more}
    rows = evaluate_again(writer, "lspc", task, options.pop("runs", runs), **options)
    return pandas.DataFrame(rows)


def test_confirmed_rows_are_in_the_store_and_can_be_queried(trained, boat_task: Task) -> None:
    rows = again(trained, boat_task.name, rule="max_reward_safe")
    store = ResultStore(trained[0].storage)
    stored = store.confirmations(sweep="first").sort_values("seed")
    assert stored["run_id"].tolist() == [run.run_id for run in trained[1]]
    assert stored["step"].tolist() == [4, 4]
    assert set(stored["kind"]) == {"evaluated"}
    answer = store.sql(
        "SELECT confirmations.normalized_reward AS kept, evaluations.normalized_reward AS promised "
        "FROM confirmations JOIN evaluations USING (run_id, step, policy) "
        "ORDER BY confirmations.seed"
    )
    assert answer["kept"].tolist() == rows["normalized_reward"].tolist()
    # The same policy on other episodes: not the same number, but no other world either.
    assert (answer["kept"] != answer["promised"]).all()
    assert np.isfinite(answer.to_numpy()).all()
    # What is confirmed does not count again when the next selection is made.
    assert len(store.evaluations(policy="lspc_o")) == 2


@pytest.mark.slow
def test_a_confirmation_repeats_and_another_episode_seed_does_not(trained, boat_task: Task) -> None:
    moment = ["confirmed_at"]
    one = again(trained, boat_task.name).drop(columns=moment)
    pandas.testing.assert_frame_equal(again(trained, boat_task.name).drop(columns=moment), one)
    assert len(ResultStore(trained[0].storage).confirmations()) == 2
    other = again(trained, boat_task.name, episode_seed=2)
    assert (other["normalized_reward"] != one["normalized_reward"]).all()
    assert len(ResultStore(trained[0].storage).confirmations()) == 4
    # A run's outcome does not depend on which others are confirmed with it.
    alone = again(trained, boat_task.name, runs=trained[1][1:])
    assert alone["normalized_reward"].tolist() == one["normalized_reward"].tolist()[1:]


def test_the_policy_is_the_trained_one(trained, boat_task: Task) -> None:
    """With its weights set to zero the policy is another one."""
    writer, runs = trained
    one = again(trained, boat_task.name)
    path = checkpoint_path(runs[0].trial_id)
    saved = torch.load(io.BytesIO(writer.read_bytes(path) or b""), weights_only=True)

    def zero(leaf: Any) -> Any:
        return leaf * 0 if isinstance(leaf, torch.Tensor) else leaf

    saved["population"]["state"] = torch.utils._pytree.tree_map(zero, saved["population"]["state"])
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    writer.write_bytes(path, buffer.getvalue())
    assert (again(trained, boat_task.name)["normalized_reward"] != one["normalized_reward"]).all()


class Malicious:
    """What a pickle may do when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_cannot_run_code(trained, boat_task: Task, tmp_path: Path) -> None:
    writer, runs = trained
    buffer = io.BytesIO()
    torch.save({"population": Malicious(tmp_path / "owned"), "run_ids": []}, buffer)
    writer.write_bytes(checkpoint_path(runs[0].trial_id), buffer.getvalue())
    with pytest.raises(InvalidInput, match=r"checkpoint: .* cannot be read") as refusal:
        again(trained, boat_task.name)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "owned").exists()
    assert ResultStore(writer.storage).confirmations().empty


def test_what_cannot_be_confirmed_is_said_in_one_line(trained, boat_task: Task) -> None:
    writer, runs = trained
    for options, message in (
        ({"policy": "flrp"}, "policy: 'flrp' is not one of lspc's"),
        ({"episodes": 0}, "episodes: 0"),
        ({"episode_seed": -1}, "episode_seed: -1"),
    ):
        with pytest.raises(InvalidInput, match=message):
            again(trained, boat_task.name, **options)
    writer.remove(checkpoint_path(runs[0].trial_id))
    with pytest.raises(InvalidInput, match=r"has none .*is not in the store"):
        again(trained, boat_task.name)


def test_identity_is_that_of_the_request() -> None:
    runs = [ChosenRun("a-0", "a", "t", 0, {}), ChosenRun("a-1", "a", "t", 1, {})]
    one = confirmation_id(runs, "p", 10, 1, 10.0)
    assert confirmation_id(runs[::-1], "p", 10, 1, 10.0) == one
    others = [("q", 10, 1, 10.0), ("p", 11, 1, 10.0), ("p", 10, 2, 10.0), ("p", 10, 1, 5.0)]
    assert len({one, *(confirmation_id(runs, *request) for request in others)}) == 5
