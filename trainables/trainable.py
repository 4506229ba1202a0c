"""The Ray Tune trainable: one Tune trial trains one population."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from safesweep.search_spaces.plugins import load_plugins
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training import memory
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial

CHECKPOINT_FILE = "trial.pt"


class SafeRLTrainable(tune.Trainable):
    """Trains the runs of one population; each `train()` call goes to the next evaluation.

    The configuration's keys are the fields of `TrialRequest`, of which `algorithm`, `task` and
    `steps` have to be there, and
        hyperparameters: one configuration for all `seeds`, instead of `configs`.
        dataset: a Dataset, an object-store reference to one, or a source for `load_dataset`;
            default "auto".

    A trial with `until` is `done` at that step, with `paused` and its `evaluations` so far in the
    result, and goes on from its checkpoint when it is set up anew.

    Each result holds `step`, `done`, `normalized_reward` and `normalized_cost` (means over the
    runs that have not diverged, of the method's first policy), `per_config` (the same for each
    configuration), `status` (runs by status so far) and `problems` (of checkpoints and observers).
    """

    def setup(self, config: dict[str, Any]) -> None:
        request = TrialRequest.from_config(config)
        torch.set_num_threads(request.threads)
        # What the worker trained before goes first, or both would have to fit.
        self.__dict__.pop("trial_plan", None)
        if request.memory_splits:
            memory.release()
        memory.limit_gpu_share(request.gpu)
        load_plugins(request.plugins)
        task = get_task(request.task)
        dataset = fetch_dataset(task.name, config.get("dataset", "auto"))
        writer = ResultWriter(request.storage, request.sweep) if request.storage else None
        self.trial_plan = Trial(request, task, dataset, writer)
        self._until = request.until or request.steps
        self._stop, self._stop_at = request.stop, request.stop_at

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        trial = self.trial_plan
        if self._stop and trial.population.step >= self._stop_at:
            trial.stop(self._stop)
            self._stop = {}
        if not trial.done and trial.population.step < self._until:
            trial.advance()
        if trial.done or self._stop or trial.population.step < self._until:
            return {**summary(trial), "done": trial.done}
        trial.pause()
        evaluations = first_policy_rows(trial, trial.rows.evaluations)
        return {**summary(trial), "done": True, "paused": True, "evaluations": evaluations}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write what going on takes, for Tune's best checkpoint, restore and PBT.

        Without `storage` that is all there is of the trial; with it the store has it too, where a
        trial finds it by its identity.
        """
        Path(checkpoint_dir, CHECKPOINT_FILE).write_bytes(self.trial_plan.snapshot())

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from `save_checkpoint`, also of a trial with other batched hyperparameters."""
        self.trial_plan.restore(Path(str(checkpoint), CHECKPOINT_FILE).read_bytes())


def fetch_dataset(task: str, source: Any) -> Dataset:
    """The dataset behind `source`; an object-store reference is read without a copy."""
    if isinstance(source, ray.ObjectRef):
        source = ray.get(source)
    return source if isinstance(source, Dataset) else load_dataset(task, os.fspath(source))


def first_policy_rows(trial: Trial, evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the policy by which a method is judged."""
    policy = trial.population.method.evaluated_policies[0]
    return [row for row in evaluations if row["policy"] == policy]


def summary(trial: Trial) -> dict[str, Any]:
    """What a trial tells Tune of its last evaluation."""
    latest = first_policy_rows(trial, trial.latest())
    per_config = []
    for config in dict.fromkeys(trial.config_ids):
        rows = [row for row in latest if row["config_id"] == config]
        runs = sum(entry == config for entry in trial.config_ids)
        per_config.append(
            {
                "config_id": config,
                "normalized_reward": _mean(rows, "normalized_reward"),
                "normalized_cost": _mean(rows, "normalized_cost"),
                "runs": runs,
                "diverged": runs - len(rows),
            }
        )
    active = trial.population.active
    return {
        "step": trial.population.step,
        "trial_id": trial.trial_id,
        "normalized_reward": _mean(latest, "normalized_reward"),
        "normalized_cost": _mean(latest, "normalized_cost"),
        "per_config": per_config,
        "status": {"active": sum(active), "diverged": len(active) - sum(active)},
        "problems": [*trial.problems, *trial.observers.problems],
    }


def _mean(rows: list[dict[str, Any]], column: str) -> float:
    return float(np.mean([row[column] for row in rows])) if rows else float("nan")
