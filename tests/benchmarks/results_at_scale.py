"""Ten million evaluations in two thousand parts: how long the best safe configuration takes.

    python -m tests.benchmarks.results_at_scale [--folder FOLDER] [--parts 2000] [--ray-parts 40]

makes a store (5 methods x 20 tasks; a part holds 25 configurations x 10 seeds x 20 evaluations;
with it go parts of their runs and hyperparameters, with counts and seals, as a trial leaves them),
then asks for the best safe configuration per (method, task) by SQL, by `safesweep select`, and by
SQL again after `safesweep compact`, each in a process of its own, and prints seconds and peak
memory. For comparison a share of the same runs is written in the layout of Ray Tune's result files
(one `result.json` a run, one line an evaluation) and read back line by line, as Tune's
`ExperimentAnalysis` does behind its `ResultGrid`.

Targets on 2 cores: SQL 2 s, select 10 s, SQL after compaction 0.5 s, peak memory 2 GB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa

from safesweep.trainables.store.identity import config_id, trial_id
from safesweep.trainables.store.part_checksums import parquet_content
from safesweep.trainables.store.schema import (
    HYPERPARAMETERS_KEY,
    SCHEMA_VERSION,
    SEALS_KEY,
    TABLES,
    VERSION_KEY,
)
from safesweep.trainables.store.writer import ARROW_TYPES
from safesweep.trainables.tasks.registry import TASKS

METHODS = ("flrp", "lspc", "r2pac", "flp", "safefql")
TASK_NAMES = [name for name in TASKS if name.startswith("Offline")][:20]
CONFIGS, SEEDS, EVALUATIONS, EVERY = 25, 10, 20, 5000
ROWS_PER_PART = CONFIGS * SEEDS * EVALUATIONS
LEARNING_RATES = np.geomspace(1e-4, 1e-2, CONFIGS)

BEST_SAFE = f"""
    SELECT algorithm, task, config_id, avg(normalized_reward) AS reward,
           avg(normalized_cost) AS cost
    FROM evaluations WHERE step = {EVERY * EVALUATIONS}
    GROUP BY algorithm, task, config_id HAVING cost <= 1
    QUALIFY row_number() OVER (PARTITION BY algorithm, task ORDER BY reward DESC) = 1
    ORDER BY algorithm, task
"""
MEASURED = {
    "sql": (
        "from safesweep.analysis.store.reader import ResultStore\n"
        "answer = ResultStore(sys.argv[1]).sql(sys.argv[2])\n"
    ),
    "select": (
        "from safesweep.analysis.selection.choice import select\n"
        "from safesweep.analysis.store.reader import ResultStore\n"
        "answer = select(ResultStore(sys.argv[1]).to_judge('last'))\n"
    ),
    "compact": (
        "from safesweep.trainables.store.compaction import compact\nanswer = compact(sys.argv[1])\n"
    ),
    "command": (
        "import contextlib, io\n"
        "from safesweep.sweeps.cli import main\n"
        "printed = io.StringIO()\n"
        "with contextlib.redirect_stdout(printed):\n"
        "    main(['select', '--storage', sys.argv[1], '--format', 'json'])\n"
        "import json\n"
        "answer = json.loads(printed.getvalue())\n"
    ),
}
_PREAMBLE = "import json, os, sys, time\nimport duckdb, pandas, pyarrow.dataset\n"
# Linux hands `ru_maxrss` on to a child program; VmHWM is the program's own.
_TIMED = (
    "before, started = sum(os.times()[:2]), time.perf_counter()\n"
    "{body}"
    "seconds = time.perf_counter() - started\n"
    "lines = open('/proc/self/status').read().splitlines()\n"
    "peak = next(int(line.split()[1]) for line in lines if line.startswith('VmHWM')) / 1e6\n"
    "used = sum(os.times()[:2]) - before\n"
    "print(json.dumps([seconds, used, peak, len(answer)]))\n"
)


def part_table(method: str, task: str, number: int) -> pa.Table:
    """One part of `evaluations`: what a trial of 25 configurations and 10 seeds leaves."""
    generator = np.random.default_rng([METHODS.index(method), TASK_NAMES.index(task), number])
    configs = [config_id(method, {"number": number, "config": c}, task, "data", 1)
               for c in range(CONFIGS)]  # fmt: skip
    runs = [f"{config}-{seed}" for config in configs for seed in range(SEEDS)]
    steps = np.arange(1, EVALUATIONS + 1) * EVERY
    level = np.repeat(generator.gamma(2.0, 6.0, CONFIGS), SEEDS * EVALUATIONS)
    costs = np.round(level * generator.gamma(20.0, 1 / 20, ROWS_PER_PART) * 20) / 20
    rewards = np.repeat(generator.uniform(0.1, 0.9, CONFIGS), SEEDS * EVALUATIONS)
    rewards = rewards + 0.05 * generator.standard_normal(ROWS_PER_PART)
    columns = {
        "run_id": np.repeat(runs, EVALUATIONS),
        "config_id": np.repeat(configs, SEEDS * EVALUATIONS),
        "algorithm": [method] * ROWS_PER_PART,
        "task": [task] * ROWS_PER_PART,
        "seed": np.tile(np.repeat(np.arange(SEEDS), EVALUATIONS), CONFIGS),
        "step": np.tile(steps, CONFIGS * SEEDS),
        "policy": [method] * ROWS_PER_PART,
        "reward_return_mean": rewards * 400,
        "cost_return_mean": costs,
        "normalized_reward": rewards,
        "normalized_cost": costs / 10,
        "cost_limit": np.full(ROWS_PER_PART, 10.0),
        "violation_rate": np.clip(costs / 40, 0, 1),
        "zero_cost_rate": (costs == 0).astype(np.float64),
        "episode_length_mean": np.full(ROWS_PER_PART, 200.0),
        "episodes": np.full(ROWS_PER_PART, 20),
        "act_latency_ms": np.full(ROWS_PER_PART, 1.0),
    }
    return table_of("evaluations", columns)


def table_of(
    name: str, columns: Mapping[str, object], metadata: Mapping[str, str] | None = None
) -> pa.Table:
    """Columns with the types of a table of the store, null where there are none."""
    kinds = {column: ARROW_TYPES[kind] for column, kind in TABLES[name].items()}
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    arrays = [
        pa.array(columns[column], kind) if column in columns else pa.nulls(count, kind)
        for column, kind in kinds.items()
    ]
    known = {VERSION_KEY: str(SCHEMA_VERSION), **(metadata or {})}
    return pa.table(arrays, schema=pa.schema(list(kinds.items()), known))


def hyperparameters_table(evaluations: pa.Table) -> pa.Table:
    """The one hyperparameter of each configuration of a part of `evaluations`."""
    configs = evaluations["config_id"].to_numpy()[:: SEEDS * EVALUATIONS]
    return table_of(
        "hyperparameters",
        {"config_id": configs, "name": ["learning_rate"] * CONFIGS, "number": LEARNING_RATES},
    )


def runs_table(evaluations: pa.Table, trial: str, contents: Mapping[str, bytes]) -> pa.Table:
    """The part of `runs` that belongs to a part of `evaluations`; `contents`: the other parts."""
    first = evaluations.take(pa.array(range(0, ROWS_PER_PART, EVALUATIONS)))
    count = first.num_rows
    columns = {
        name: first[name].to_numpy()
        for name in ("run_id", "config_id", "algorithm", "task", "seed")
    }
    columns |= {
        "trial_id": [trial] * count,
        "status": ["completed"] * count,
        "steps": [EVERY * EVALUATIONS] * count,
        "config": [json.dumps({"learning_rate": x}) for x in np.repeat(LEARNING_RATES, SEEDS)],
        "evaluation_count": [EVALUATIONS] * count,
        "episode_count": [0] * count,
        "metric_count": [0] * count,
        "hyperparameter_count": [1] * count,
    }
    seals = {name: [len(content), zlib.crc32(content)] for name, content in contents.items()}
    metadata = {
        HYPERPARAMETERS_KEY: json.dumps({"learning_rate": "float64"}),
        SEALS_KEY: json.dumps(seals),
    }
    return table_of("runs", columns, metadata)


def generate(store: Path, ray: Path, parts: int, ray_parts: int) -> None:
    """Write the store, and the first parts again in the layout of Tune's result files."""
    for number in range(parts):
        method = METHODS[number % len(METHODS)]
        task = TASK_NAMES[number // len(METHODS) % len(TASK_NAMES)]
        table = part_table(method, task, number)
        trial = trial_id([str(number)])
        contents = {
            "evaluations": parquet_content(table),
            "hyperparameters": parquet_content(hyperparameters_table(table)),
        }
        contents["runs"] = parquet_content(runs_table(table, trial, contents))
        for name, content in contents.items():
            folder = store / name / f"sweep={method}-search"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{trial}.parquet").write_bytes(content)
        if number < ray_parts:
            write_result_files(table.to_pandas(), ray)


def write_result_files(frame: pandas.DataFrame, folder: Path) -> None:
    """One folder a run with `result.json`, as Tune's default logger writes it."""
    for run, rows in frame.groupby("run_id", sort=False):
        trial = folder / f"trial_{run}"
        trial.mkdir(parents=True)
        lines = []
        for iteration, row in enumerate(rows.to_dict("records"), start=1):
            config = {"algorithm": row["algorithm"], "task": row["task"], "seed": row["seed"]}
            lines.append(
                json.dumps({**row, "training_iteration": iteration, "trial_id": run,
                            "done": iteration == len(rows), "time_total_s": 1.0,
                            "config": {**config, "config_id": row["config_id"]}})
            )  # fmt: skip
        (trial / "result.json").write_text("\n".join(lines) + "\n")


def read_result_files(folder: Path) -> tuple[float, int]:
    """Seconds to the best safe configurations from Tune's files, and rows read."""
    started = time.perf_counter()
    rows = []
    for path in folder.glob("*/result.json"):
        with path.open() as lines:
            rows += [json.loads(line) for line in lines]
    frame = pandas.DataFrame(rows)
    last = frame[frame["step"] == EVERY * EVALUATIONS]
    means = last.groupby(["algorithm", "task", "config_id"])[
        ["normalized_reward", "normalized_cost"]
    ].mean()
    safe = means[means["normalized_cost"] <= 1]
    safe["normalized_reward"].groupby(level=[0, 1]).idxmax()
    return time.perf_counter() - started, len(frame)


def measure(kind: str, store: Path) -> tuple[float, float, float, int]:
    """Seconds (without imports), processor seconds, peak GB, and rows of the answer, in a process
    of its own."""
    program = _PREAMBLE + _TIMED.format(body=MEASURED[kind])
    result = subprocess.run(
        [sys.executable, "-c", program, str(store), BEST_SAFE],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, used, peak, rows = json.loads(result.stdout)
    return seconds, used, peak, rows


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--parts", type=int, default=2000)
    parser.add_argument("--ray-parts", type=int, default=40)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        store, ray = folder / "store", folder / "ray"
        if not store.exists():
            started = time.perf_counter()
            generate(store, ray, arguments.parts, min(arguments.parts, arguments.ray_parts))
            print(f"generated in {time.perf_counter() - started:.0f} s")
        rows = arguments.parts * ROWS_PER_PART
        print(f"{rows:,} evaluations in {arguments.parts:,} parts")
        report("before compaction", store)
        seconds, read = read_result_files(ray)
        print(f"Ray's result files: {seconds:.1f} s for {read:,} rows, "
              f"{seconds * rows / read:.0f} s for all at that rate")  # fmt: skip
        sql = measure("sql", store)[0]
        print(f"ratio to the SQL: {seconds * rows / read / sql:.0f}")
        seconds, used, peak, _ = measure("compact", store)
        print(f"compaction: {seconds:.0f} s ({used:.0f} s of processors), {peak:.2f} GB")
        report("after compaction", store)


def report(name: str, store: Path) -> None:
    """Print a line for each way to ask."""
    for kind in ("sql", "select", "command"):
        seconds, used, peak, answers = measure(kind, store)
        print(
            f"{name}, {kind}: {seconds:.2f} s ({used:.2f} s of processors), {peak:.2f} GB, "
            f"{answers} answers",
            flush=True,
        )


if __name__ == "__main__":
    main()
