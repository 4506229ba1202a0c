"""What a run costs beyond its training: a thousand runs of a method that does nothing.

    python -m tests.benchmarks.sweep_overhead [--runs 1000] [--tune-runs 200] [--folder FOLDER]

runs a sweep of `--runs` trials of one run each (the most expensive way to pack them)
through `safesweep.run_sweep` with a trainable that writes its rows and trains nothing, then
`--tune-runs` of a trainable that reports one result through a bare `tune.Tuner` with its default
loggers, each in a
process of its own, on two CPUs. Prints for each: wall seconds a run after Ray has started and the
first trial has ended, the driver's peak memory and its growth a run, and files a trial.

Targets: 0.1 s a run, 1 GB, 5 files a trial before compaction. Wall time means something on an idle
machine only, so the load is printed too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TASK = "BoatNavigation-v0"
CPUS = 2
EPISODES = 20


def null_trainable(seconds: float = 0.0) -> type[Any]:
    """A trainable that writes what a finished run writes, at once or after some time."""
    from ray import tune

    class NullTrainable(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.plan = config

        def step(self) -> dict[str, Any]:
            from safesweep.trainables.store.writer import ResultWriter

            time.sleep(seconds)
            plan = self.plan
            runs, evaluations, episodes, metrics = [], [], [], []
            for run_id, seed, config in zip(
                plan["run_ids"], plan["seeds"], plan["configs"], strict=True
            ):
                keys = {"run_id": run_id, "config_id": run_id.rsplit("-", 1)[0], "seed": seed}
                keys |= {"algorithm": plan["algorithm"], "task": plan["task"]}
                runs.append(
                    {**keys, "trial_id": plan["trial_id"], "status": "completed",
                     "steps": plan["steps"], "config": config}
                )  # fmt: skip
                scores = dict.fromkeys(
                    ("reward_return_mean", "cost_return_mean", "normalized_reward",
                     "normalized_cost", "violation_rate"), 0.5,
                )  # fmt: skip
                step = {"run_id": run_id, "step": plan["steps"]}
                evaluations.append({**keys, **step, "policy": "bc", **scores})
                for episode in range(EPISODES):
                    returns = {"reward_return": 0.5, "cost_return": 0.5, "length": 1}
                    episodes.append({**step, "policy": "bc", "episode": episode, **returns})
                metrics.append({**step, "name": "loss/policy", "value": 0.5})
            writer = ResultWriter(plan["storage"], plan["sweep"])
            writer.write_bytes(f"checkpoints/{plan['trial_id']}/latest.pt", b"state")
            writer.write_trial(plan["trial_id"], runs, evaluations, episodes, metrics)
            return {"step": plan["steps"], "done": True}

    return NullTrainable


def run_ours(runs: int, folder: Path) -> dict[str, float]:
    """Wall seconds and memory of a sweep of `runs` runs."""
    from safesweep.sweeps.execution import scheduler as queue
    from safesweep.sweeps.execution.ray_tune import run_sweep
    from safesweep.trainables.data.collect import collect_dataset
    from safesweep.trainables.tasks.registry import get_task

    dataset = folder / "boat.hdf5"
    collect_dataset(get_task(TASK), episodes=4, path=dataset)
    content = {
        "name": "overhead",
        "algorithm": "bc",
        "tasks": [TASK],
        "dataset": str(dataset),
        "space": {"learning_rate": [1e-3 * (1 + n / runs) for n in range(runs)]},
        "steps": 1,
    }
    marks: list[tuple[float, float]] = []
    ended = queue.SweepRun.ended

    def noted(*arguments: Any) -> None:
        ended(*arguments)
        marks.append((time.perf_counter(), resident()))

    queue.SweepRun.ended = noted  # type: ignore[method-assign]
    storage = folder / "store"
    summary = run_sweep(
        content, str(storage), num_cpus=CPUS, progress=False, trainable=null_trainable()
    )
    assert summary.completed == runs, summary
    kept = [path for path in storage.rglob("*") if path.is_file() and path.name != ".lock"]
    return figures(marks, (len(kept) - 1) / runs)  # one file is the sweep's own row


def run_tune(runs: int, folder: Path) -> dict[str, float]:
    """The same of a bare Tuner with its own loggers."""
    import ray
    from ray import tune

    class Reports(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"step": 1, "score": 0.5, "done": True}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

    marks: list[tuple[float, float]] = []

    class Marks(tune.Callback):
        def on_trial_complete(self, **_: Any) -> None:
            marks.append((time.perf_counter(), resident()))

    ray.init(address="local", num_cpus=CPUS, num_gpus=0, include_dashboard=False)
    tune.Tuner(
        Reports,
        param_space={"learning_rate": tune.grid_search([n / runs for n in range(runs)])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(folder), verbose=0, callbacks=[Marks()]
        ),
    ).fit()
    files = sum(path.is_file() for path in (folder / "tune").glob("*/*"))
    ray.shutdown()
    return figures(marks, files / runs)


def figures(marks: list[tuple[float, float]], files: float) -> dict[str, float]:
    """What is printed, from (time in s, resident memory in MB) at the end of each trial."""
    (first, before), (last, after) = marks[0], marks[-1]
    half = marks[len(marks) // 2][0]
    between = len(marks) - 1
    return {
        "seconds_a_run": (last - first) / between,
        "first_half_seconds_a_run": (half - first) / max(1, len(marks) // 2),
        "peak_megabytes": status_megabytes("VmHWM"),
        "kilobytes_a_run": 1000 * (after - before) / between,
        "files_a_trial": files,
    }


def resident() -> float:
    """Resident memory of this process in MB."""
    return status_megabytes("VmRSS")


def status_megabytes(name: str) -> float:
    """A figure of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1000


KINDS: Mapping[str, Any] = {"safesweep": run_ours, "tune.Tuner": run_tune}


def measure(kind: str, runs: int, folder: Path) -> dict[str, float]:
    """Run one kind in a process of its own."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", __spec__.name, "--kind", kind, "--runs", str(runs)]
    done = subprocess.run(
        [*command, "--folder", str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_AIR_NEW_OUTPUT": "0"},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tune-runs", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kind", choices=list(KINDS))
    arguments = parser.parse_args()
    if arguments.kind:
        print(json.dumps(KINDS[arguments.kind](arguments.runs, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.folder or Path(folder)
        for kind, runs in (("safesweep", arguments.runs), ("tune.Tuner", arguments.tune_runs)):
            found = measure(kind, runs, root / kind)
            shown = ", ".join(f"{name} {value:.3g}" for name, value in found.items())
            print(f"{kind}, {runs} runs: {shown}, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
