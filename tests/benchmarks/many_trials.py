"""Many trials of one run each, that nobody has compacted: what writing and looking cost.

    python -m tests.benchmarks.many_trials [--trials 20000] [--folder FOLDER] [--compacted]
        [--without-index]

writes a store as workers do (without waiting for the disk), then asks for `list`, `select` and
`run --dry-run` of its sweep, each in a process of its own, and prints seconds and peak memory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from safesweep.sweeps.planning.plan import make_task_plans
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.source_digest import code_digest
from safesweep.trainables.store.writer import ResultWriter

TASK, DATASET = "BoatNavigation-v0", "unknown"
_MEASURED = (
    "import contextlib, io, os, sys, time\n"
    "from safesweep.sweeps.cli import main\n"
    "before, started = sum(os.times()[:2]), time.perf_counter()\n"
    "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
    "    code = main(sys.argv[1:])\n"
    "seconds, used = time.perf_counter() - started, sum(os.times()[:2]) - before\n"
    "lines = open('/proc/self/status').read().splitlines()\n"
    "peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1e6\n"
    "print(f'{code} {seconds} {used} {peak}')\n"
)


def spec_of(trials: int) -> SweepSpec:
    """So many configurations at random, each with one seed."""
    return SweepSpec.from_mapping(
        {
            "name": "many", "algorithm": "bc", "tasks": [TASK], "seeds": [0], "steps": 10,
            "search": {"method": "random", "num_configs": trials},
            "space": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}},
            "evaluate": {"every": 10, "episodes": 2}, "resources": {"gpu": 0},
        }
    )  # fmt: skip


def write_trial(writer: ResultWriter, trial: PlannedTrial, number: int) -> None:
    """The rows of a trial of one run."""
    (run,) = trial.runs
    keys: dict[str, Any] = {"run_id": run.run_id, "config_id": run.config_id, "seed": run.seed}
    keys |= {"algorithm": trial.algorithm, "task": trial.task}
    row = {**keys, "trial_id": trial.trial_id, "status": "completed", "steps": 10,
           "train_seconds": 1.0, "evaluate_seconds": 1.0, "dataset_id": DATASET,
           "code_version": "0", "code_digest": code_digest(trial.algorithm, trial.task),
           "config": run.config}  # fmt: skip
    share = number % 100 / 100
    evaluation = {**keys, "step": 10, "policy": "bc", "reward_return_mean": share,
                  "normalized_reward": share, "cost_return_mean": 10 * share,
                  "normalized_cost": share, "cost_limit": 10.0, "violation_rate": 0.0,
                  "zero_cost_rate": 0.0, "episodes": 2, "run_status": "completed"}  # fmt: skip
    episodes = [{"run_id": run.run_id, "step": 10, "policy": "bc", "episode": episode,
                 "reward_return": share, "cost_return": 10 * share, "length": 400}
                for episode in range(2)]  # fmt: skip
    metrics = [{"run_id": run.run_id, "step": 10, "name": "loss/policy", "value": share}]
    writer.write_trial(trial.trial_id, [row], [evaluation], episodes, metrics)


def write_store(storage: Path, spec: SweepSpec, trials: int) -> list[float]:
    """Write all trials; milliseconds of a trial in each tenth of them."""
    writer = ResultWriter(str(storage), spec.name)
    (plan,) = make_task_plans(spec, lambda task: DATASET)
    tenths: list[float] = []
    number, begun = 0, time.process_time()
    share = max(1, trials // 10)
    with mock.patch.object(os, "fsync", lambda descriptor: None):
        while (trial := plan.next_trial()) is not None:
            write_trial(writer, trial, number)
            number += 1
            if number % share == 0:
                tenths.append((time.process_time() - begun) / share * 1e3)
                begun = time.process_time()
    writer.write_sweep(spec.to_yaml(), plan.run_ids, "completed")
    return tenths


def measure(name: str, argv: Sequence[str]) -> None:
    """Run a command in a process of its own, and print what it took."""
    environment = {**os.environ, "XDG_CACHE_HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *argv],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    code, seconds, used, peak = map(float, done.stdout.split())
    print(f"{name}: exit {code:.0f}, {seconds:.1f} s ({used:.1f} s of processors), {peak:.2f} GB",
          flush=True)  # fmt: skip


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--without-index", action="store_true", help="also with the index removed")
    parser.add_argument("--compacted", action="store_true", help="also when its parts are merged")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        storage, file = folder / "store", folder / "many.yaml"
        if not storage.exists():
            folder.mkdir(exist_ok=True)
            spec = spec_of(arguments.trials)
            file.write_text(yaml.safe_dump(spec.to_mapping()))
            tenths = write_store(storage, spec, arguments.trials)
            print(f"a trial written, ms by tenths: {json.dumps([round(t, 2) for t in tenths])}")
        place = ["--storage", str(storage)]
        commands = {
            "list": ["list", *place],
            "select": ["select", "--format", "json", *place],
            "run --dry-run": ["run", str(file), "--dry-run", "--format", "json", *place],
        }
        for name, argv in commands.items():
            measure(name, argv)
        if arguments.compacted:
            measure("compact", ["compact", *place])
            for name, argv in commands.items():
                measure(f"{name}, compacted", argv)
        if arguments.without_index:
            shutil.rmtree(storage / "index")
            measure("list without an index", commands["list"])
            measure("list after that", commands["list"])


if __name__ == "__main__":
    main()
