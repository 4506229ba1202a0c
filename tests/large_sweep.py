"""A made-up sweep of many configurations, written as the workers write it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from safesweep.trainables.store.identity import config_id, run_id, trial_id
from safesweep.trainables.store.writer import ResultWriter

TASK = "OfflineBallRun-v0"
ALGORITHM = "flrp"
_CONFIGS_PER_TRIAL = 25


def write_large_sweep(
    storage: Path,
    sweep: str = "large",
    configurations: int = 500,
    seeds: int = 5,
    evaluations: int = 10,
    task: str = TASK,
    status: str = "completed",
    draw: int = 0,
) -> list[str]:
    """Write it and return its run ids. One configuration in 50 has a diverged seed, one in 125 is
    failed. The learning rate decides the reward, the feasibility expectile the cost."""
    generator = np.random.default_rng(draw)
    writer = ResultWriter(str(storage), sweep)
    begun = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    every, run_ids = 1000, []
    for first in range(0, configurations, _CONFIGS_PER_TRIAL):
        tables: dict[str, list[dict[str, Any]]] = {
            name: [] for name in ("runs", "evaluations", "episodes", "metrics")
        }
        for number in range(first, min(first + _CONFIGS_PER_TRIAL, configurations)):
            config = {
                "learning_rate": float(10 ** generator.uniform(-5, -2)),
                "feasibility_expectile": float(generator.uniform(0.5, 0.99)),
                "hidden_dim": int(generator.choice([64, 128, 256])),
                "critic_loss": str(generator.choice(["huber", "squared"])),
            }
            identity = config_id(ALGORITHM, {**config, "number": number}, task, "data", every)
            level = -abs(np.log10(config["learning_rate"]) + 3.3)
            for seed in range(seeds):
                run = run_id(identity, seed)
                run_ids.append(run)
                ended = "completed"
                if number % 50 == 7 and seed == 1:
                    ended = "diverged"
                elif number % 125 == 11:
                    ended = "failed"
                keys = {"run_id": run, "config_id": identity, "algorithm": ALGORITHM}
                keys |= {"task": task, "seed": seed}
                end = begun + timedelta(minutes=3 * (1 + first // _CONFIGS_PER_TRIAL))
                tables["runs"].append(
                    {**keys, "status": ended, "steps": every * evaluations,
                     "train_seconds": 60.0, "evaluate_seconds": 6.0, "device": "cpu",
                     "population": _CONFIGS_PER_TRIAL * seeds, "dataset_id": "data",
                     "code_version": "0", "started_at": end - timedelta(minutes=3),
                     "finished_at": end, "config": config,
                     "error": None if ended == "completed" else f"it {ended} <b>here</b>",
                     "traceback": "Traceback\n  <script>" if ended == "failed" else None}
                )  # fmt: skip
                for count in range(1, evaluations + 1) if ended == "completed" else ():
                    progress = 1 - np.exp(-3 * count / evaluations)
                    reward = progress * (0.9 + 0.3 * level) + 0.03 * generator.standard_normal()
                    cost = 30 * (1 - config["feasibility_expectile"]) * (1.6 - progress)
                    cost = max(0.0, cost + 1.5 * generator.standard_normal())
                    tables["evaluations"].append(
                        {**keys, "step": count * every, "policy": ALGORITHM,
                         "reward_return_mean": 100 * reward, "cost_return_mean": cost,
                         "normalized_reward": reward, "normalized_cost": cost / 10,
                         "cost_limit": 10.0, "violation_rate": min(1.0, cost / 40),
                         "zero_cost_rate": 0.0, "episode_length_mean": 100.0, "episodes": 20,
                         "act_latency_ms": 1.0, "run_status": ended}
                    )  # fmt: skip
                    tables["metrics"].append(
                        {"run_id": run, "step": count * every, "name": "loss/policy",
                         "value": float(1 - progress)}
                    )  # fmt: skip
        trial = trial_id([row["run_id"] for row in tables["runs"]])
        for row in tables["runs"]:
            row["trial_id"] = trial
        writer.write_trial(trial, *(tables[name] for name in tables))
    spec = (
        f"name: {sweep}\nalgorithm: {ALGORITHM}\ntasks: [{task}]\nsteps: {every * evaluations}\n"
        f"seeds: {list(range(seeds))}\n"
    )
    writer.write_sweep(spec, run_ids, status)
    return run_ids
