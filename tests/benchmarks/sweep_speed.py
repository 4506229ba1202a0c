"""How well a whole sweep uses the machine, and how soon it begins.

    python -m tests.benchmarks.sweep_speed [--steps 3000] [--runs 16] [--seeds 4]
        [--configs-per-trial auto] [--compile false] [--cpus 2] [--gpu 0] [--json FILE]

runs 16 runs of FLRP on BoatNavigation (four values of tau_h, four seeds, 64 units) as a user does,
and watches the processes of that command: `start_up` is the seconds from the command to the first
gradient step (the first heartbeat in the store), `busy` the processor time of all of them from then
to the last run's end over the wall time of all processors, `train` and `evaluate` the shares of
that processor time by the trials' own clocks. Data that is not cached is collected before.

`--seeds 1 --configs-per-trial 1` makes every run a Ray trial of its own, side by side on the
processors or, with `--gpu` as each one's share, on the GPU: what a sweep without populations does.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from tests.benchmarks.measurement import add_json_option, print_table, write_json

TASK = "BoatNavigation-v0"


def specification(arguments: argparse.Namespace) -> dict[str, Any]:
    """The sweep."""
    steps, size = arguments.steps, arguments.configs_per_trial
    values = np.linspace(0.6, 0.95, arguments.runs // arguments.seeds)
    return {
        "name": "speed",
        "algorithm": "flrp",
        "tasks": [TASK],
        "seeds": list(range(arguments.seeds)),
        "space": {"tau_h": [round(float(value), 4) for value in values]},
        "fixed": {"hidden_dim": 64, "batch_size": 256},
        "steps": steps,
        "evaluate": {"every": steps // 3, "episodes": 20},
        "configs_per_trial": int(size) if size.isdecimal() else size,
        "compile": arguments.compile == "true",
        "resources": {"cpu": 1, "gpu": arguments.gpu},
    }


def processor_seconds(command: psutil.Process, seen: dict[int, float]) -> float:
    """Processor time of a command's processes so far; those that ended count as last `seen`."""
    for process in [command, *command.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        seen[process.pid] = times.user + times.system
    return sum(seen.values())


def watch(arguments: list[str], store: Path, cpus: int) -> dict[str, float]:
    """Run the command; returns its figures."""
    began = time.perf_counter()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as command:
        process, seen = psutil.Process(command.pid), {}
        first: tuple[float, float] | None = None
        last = (0.0, 0.0)
        while command.poll() is None:
            try:
                now = (time.perf_counter() - began, processor_seconds(process, seen))
            except psutil.NoSuchProcess:
                break
            running = any(store.glob("heartbeats/*.json"))
            if first is None and running:
                first = now
            if running:
                last = now
            time.sleep(0.1)
    wall = time.perf_counter() - began
    if command.returncode or first is None:
        raise RuntimeError(f"the sweep ended with {command.returncode}")
    return {
        "wall": round(wall, 1),
        "start_up": round(first[0], 1),
        "busy": round((last[1] - first[1]) / ((last[0] - first[0]) * cpus), 3),
        "busy_seconds": round(last[1] - first[1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--configs-per-trial", default="auto")
    parser.add_argument("--compile", default="false", choices=("true", "false"))
    parser.add_argument("--gpu", type=float, default=0, help="the share of each trial")
    parser.add_argument("--cpus", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()
    from safesweep import ResultStore
    from safesweep.trainables.data.sources import find_dataset

    find_dataset(TASK, "auto")
    with tempfile.TemporaryDirectory() as folder:
        file, store = Path(folder) / "speed.yaml", Path(folder) / "store"
        file.write_text(yaml.safe_dump(specification(arguments)))
        command = [sys.executable, "-m", "safesweep", "run", str(file), "--storage", str(store)]
        row: dict[str, Any] = watch(
            [*command, "--num-cpus", str(arguments.cpus)], store, arguments.cpus
        )
        results = ResultStore(str(store))
        runs = results.runs()
        row["runs"] = len(runs)
        row["population"] = int(runs["population"].max())
        for name in ("train", "evaluate"):
            row[name] = round(float(runs[f"{name}_seconds"].sum()) / row["busy_seconds"], 3)
        row["run_steps_per_second"] = round(len(runs) * arguments.steps / row["wall"], 1)
    print_table([row])
    write_json(row, arguments.json)


if __name__ == "__main__":
    main()
