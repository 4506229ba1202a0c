"""The Ray Tune trainable: one Tune trial trains one population."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
import torch
from ray import tune

from safesweep.search_spaces.plugins import load_plugins
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.methods.registry import find_method
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training import memory
from safesweep.trainables.training.trial import Trial, pick_device


class SafeRLTrainable(tune.Trainable):
    """Trains the runs of one population; each `train()` call goes to the next evaluation.

    Config keys:
        algorithm, task: names in the registries.
        hyperparameters, seeds: one configuration and its seeds; or
        configs, seeds: parallel lists, one entry a run.
        steps: gradient steps of each run.
        evaluate_every, episodes: evaluation rhythm; defaults `steps` and 20.
        cost_limit: of an episode; default the task's.
        dataset: a Dataset, an object-store reference to one, or a source for `load_dataset`.
        continue_from: of a shorter trial that is to be carried on, `trial_id` and `run_ids`.
        storage, sweep: where rows go; without `storage` nothing is written.
        device: auto, cpu or cuda. threads: of a CPU trial.
        gpu: the share of a GPU's memory that the worker may take; default all.
        compiled: whether to compile the gradient step; default no.
        halvings: how often the population was halved for lack of memory, for the record.
        until: the evaluation step at which the trial pauses; default `steps`, no pause. It is
            `done` then, with `paused` and its `evaluations` so far in the result, and goes on from
            its checkpoint when it is set up anew.
        plugins: what has to be loaded first, as `plugin_sources` gives it.
        stop, stop_at: runs to stop at an evaluation step, by run_id with the reason.

    Each result holds `step`, `done`, `normalized_reward` and `normalized_cost` (means over the
    runs that have not diverged, of the method's first policy), `per_config` (the same for each
    configuration), `status` (runs by status so far) and `problems` (of observers that failed).
    """

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(int(config.get("threads", 1)))
        # What the worker trained before goes first, or both would have to fit.
        self.__dict__.pop("trial_plan", None)
        if config.get("halvings"):
            memory.release()
        memory.limit_gpu_share(float(config.get("gpu", 1)))
        self.trial_plan = self._build(config)
        self._until = int(config.get("until") or config["steps"])
        self._stop: Mapping[str, str] = config.get("stop") or {}
        self._stop_at = int(config.get("stop_at") or 0)

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
        """Checkpoints live in the store, where a resumed trial finds them by its identity."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """See `save_checkpoint`."""

    def _build(self, config: Mapping[str, Any]) -> Trial:
        load_plugins(config.get("plugins", ()))
        algorithm = config["algorithm"]
        config_class = find_method(algorithm).config_class
        seeds = list(config.get("seeds", [0]))
        values = config.get("configs") or [config.get("hyperparameters", {})] * len(seeds)
        task = get_task(config["task"])
        storage = config.get("storage")
        steps = int(config["steps"])
        return Trial(
            algorithm,
            task,
            fetch_dataset(task.name, config.get("dataset", "auto")),
            [config_class.resolve(entry) for entry in values],
            seeds,
            steps,
            int(config.get("evaluate_every") or steps),
            int(config.get("episodes", 20)),
            task.limit_or_own(config.get("cost_limit")),
            pick_device(config.get("device", "auto")),
            ResultWriter(storage, config.get("sweep", "unnamed")) if storage else None,
            int(config.get("halvings", 0)),
            config.get("continue_from"),
            bool(config.get("compiled", False)),
        )


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
        "problems": list(trial.observers.problems),
    }


def _mean(rows: list[dict[str, Any]], column: str) -> float:
    return float(np.mean([row[column] for row in rows])) if rows else float("nan")
