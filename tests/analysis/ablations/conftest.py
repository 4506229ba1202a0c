"""A store that holds what an ablation's smallest scale comprises, with made-up numbers."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safesweep.analysis.ablations.engine import budgets as scales
from safesweep.analysis.ablations.engine.ablation import Ablation
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.components.choices import EXPERTS
from safesweep.trainables.measurements.flp import BANDIT_STRENGTHS
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.identity import config_id, run_id, trial_id
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task

METRICS = (
    "reward_q_mean", "safety_q_mean", "feasible_recall", "feasible_precision",
    "true_recall", "true_precision", "true_specificity", "true_infeasible_recall",
)  # fmt: skip
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

WriteAblation = Callable[[Ablation], ResultStore]


def configurations(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Full configurations of a sweep."""
    resolve = ALGORITHMS[sweep["algorithm"]].config_class.resolve
    for values in scales.configurations(sweep):
        yield resolve({**sweep["fixed"], **values}).to_dict()


def write_sweep(storage: str, sweep: Mapping[str, Any], generator: np.random.Generator) -> None:
    writer, algorithm = ResultWriter(storage, sweep["name"]), sweep["algorithm"]
    runs: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    steps = [sweep["steps"] // 2, sweep["steps"]]
    for config, task, seed in itertools.product(
        configurations(sweep), sweep["tasks"], sweep["seeds"]
    ):
        identity = config_id(algorithm, config, task, "data", sweep["steps"])
        keys = {"run_id": run_id(identity, seed), "config_id": identity, "algorithm": algorithm}
        keys |= {"task": task, "seed": seed}
        runs.append(
            {
                **keys,
                "status": "completed",
                "steps": sweep["steps"],
                "train_seconds": float(generator.uniform(1, 2)),
                "evaluate_seconds": 1.0,
                "device": "cpu",
                "population": 1,
                "dataset_id": "data",
                "code_version": "0",
                "started_at": MOMENT,
                "finished_at": MOMENT,
                "error": None,
                "config": config,
            }
        )
        method = ALGORITHMS[algorithm]
        policies = (*method.policies, *method.further_policies)
        for step, policy in itertools.product(steps, policies):
            reward, cost = float(generator.uniform(-600, -400)), float(generator.uniform(0, 2))
            evaluations.append(
                {
                    **keys,
                    "step": step,
                    "policy": policy,
                    "reward_return_mean": reward,
                    "cost_return_mean": cost,
                    "normalized_reward": float(get_task(task).normalize_reward(reward)),
                    "normalized_cost": cost,
                    "cost_limit": 1.0,
                    "violation_rate": 0.0,
                    "zero_cost_rate": 0.0,
                    "episode_length_mean": 400.0,
                    "episodes": 1,
                    "act_latency_ms": float(generator.uniform(1, 2)),
                }
            )
        metrics += [
            {"run_id": keys["run_id"], "step": step, "name": name, "value": generator.uniform()}
            for step in steps
            for name in METRICS
        ]
    trial = trial_id(row["run_id"] for row in runs)
    for row in runs:
        row["trial_id"] = trial
    writer.write_trial(trial, runs, evaluations, [], metrics)
    writer.write_sweep("name: made-up\n", [row["run_id"] for row in runs], "completed")


def views_of(request: MeasurementRequest) -> dict[str, tuple[str, ...]]:
    """View -> quantities, as `trainables.measurements` measures them."""
    actions = ("action_1", "action_2")
    if request.measurement == "flrp_refinement":
        values = ("reward_q", "safety_q", "log_density")
        return {
            "plane": (*actions, *values),
            **{f"{name} step {step}": actions for name in EXPERTS for step in range(4)},
            **{f"{name} change": values for name in EXPERTS},
        }
    if request.measurement == "lspc_actions":
        return {
            "plane": (*actions, "reward_q", "cost_q"),
            **dict.fromkeys(("cvae", "lspc_s", "lspc_o"), actions),
            "states": ("inside_share", "reward_q_gain"),
        }
    if request.measurement == "r2pac_values":
        return {"states": ("place_1", "place_2", "reward_v", "safety_v", "unsafe")}
    if request.measurement == "transfer":
        return dict.fromkeys(request.target_tasks, ("reward", "cost"))
    return {
        f"{name} {level:g}": actions
        for name, levels in BANDIT_STRENGTHS.items()
        for level in levels
    }


def write_measurement(
    storage: str, store: ResultStore, request: MeasurementRequest, generator: np.random.Generator
) -> None:
    """Made-up points; those of planes lie on a regular grid."""
    if request.sweep:
        keys = ["run_id", "seed", "task", "algorithm"]
        runs = store.runs(sweep=request.sweep)[keys].to_dict("records")
    else:
        runs = [{"run_id": "", "seed": seed, "task": "MultimodalBandit"} for seed in (0, 1)]
    axis = np.linspace(-1, 1, 6)
    rows = []
    for run, (view, quantities) in itertools.product(runs, views_of(request).items()):
        for quantity in quantities:
            values = generator.uniform(-1, 1, 36)
            if view == "plane" and quantity.startswith("action"):
                first = quantity == "action_1"
                values = np.repeat(axis, 6) if first else np.tile(axis, 6)
            if quantity == "unsafe":
                values = np.arange(36) % 2
            rows += [
                {**run, "view": view, "point": point, "quantity": quantity, "value": value}
                for point, value in enumerate(values)
            ]
    writer = ResultWriter(storage, request.sweep or request.name)
    writer.write_measurements(request.name, None, rows)


@pytest.fixture
def write_ablation(tmp_path: Path) -> WriteAblation:
    """A function that writes the smoke scale of an ablation to a store and opens it."""

    def write(ablation: Ablation) -> ResultStore:
        storage, generator = str(tmp_path / "store"), np.random.default_rng(0)
        Path(storage).mkdir(exist_ok=True)
        for sweep in ablation.sweeps["smoke"]:
            write_sweep(storage, sweep, generator)
        store = ResultStore(storage)
        for request in ablation.measurements.get("smoke", ()):
            write_measurement(storage, store, request, generator)
        return store

    return write
