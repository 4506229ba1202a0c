"""What the benchmarks share: a measurement in a process of its own, random data, and the report."""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def random_dataset(task_name: str, count: int, length: int) -> Any:
    """Episodes of `length` steps, `count` steps in all, in a task's shapes: standard normal states
    and rewards, uniform actions, a cost in one of ten steps."""
    from safesweep.trainables.data.dataset import Dataset
    from safesweep.trainables.tasks.registry import get_task

    task, rng = get_task(task_name), np.random.default_rng(0)
    observations = rng.standard_normal((count, task.observation_dim), dtype=np.float32)
    return Dataset(
        task=task.name,
        dataset_id="random",
        observations=observations,
        next_observations=np.roll(observations, -1, axis=0),
        actions=rng.uniform(-1, 1, (count, task.action_dim)).astype(np.float32),
        rewards=rng.standard_normal(count, dtype=np.float32),
        costs=(rng.random(count) < 0.1).astype(np.float32),
        terminals=np.zeros(count, dtype=bool),
        timeouts=np.arange(count) % length == length - 1,
    )


def measured_apart(module: str, *arguments: object) -> dict[str, Any]:
    """What `measure(*arguments)` of a module answers in a process of its own; the arguments are
    written as their `repr`."""
    words = ", ".join(map(repr, arguments))
    code = f"import json; from {module} import measure; print(json.dumps(measure({words})))"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    row: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return row


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Aligned columns on standard error."""
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)), file=sys.stderr)


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--json` of `write_json`."""
    parser.add_argument("--json", metavar="FILE", help="also as JSON; - for standard output")


def write_json(content: Any, destination: str | None) -> None:
    """Content as JSON to a file, to standard output (`-`), or nowhere (None)."""
    text = json.dumps(content, indent=2) + "\n"
    if destination == "-":
        sys.stdout.write(text)
    elif destination:
        Path(destination).write_text(text, encoding="utf-8")
