"""`safesweep tasks` and `safesweep data`: what there is to learn on, and how to get it."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
    listed,
)
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    from safesweep.trainables.data.dataset import Progress
    from safesweep.trainables.tasks.registry import Task


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `tasks` and `data list|fetch|collect|info`."""
    parser = commands.add_parser("tasks", help="list the tasks and their constants")
    add_format_option(parser)
    parser.set_defaults(handler=print_tasks)

    data = commands.add_parser("data", help="list, fetch, collect and inspect datasets")
    actions = data.add_subparsers(metavar="action", dest="action", required=True)

    parser = actions.add_parser("list", help="which datasets are on this machine")
    add_format_option(parser)
    parser.set_defaults(handler=print_datasets)

    parser = actions.add_parser(
        "fetch",
        help="download DSRL's dataset of each task",
        description="Downloads into $SAFESWEEP_DATA_DIR (default ~/.cache/safesweep/datasets). An "
        "interrupted download is continued; the file is checked before it is used.",
    )
    parser.add_argument("tasks", nargs="+", metavar="task")
    parser.set_defaults(handler=fetch)

    parser = actions.add_parser(
        "collect",
        help="make a dataset of a task from its simulator",
        description="The same task, episodes and seed always give the same file.",
    )
    parser.add_argument("task")
    parser.add_argument("--episodes", type=_whole_number, help="default: about 100,000 steps")
    parser.add_argument("--seed", type=_whole_number, default=0)
    parser.add_argument(
        "--output", type=Path, help="the .hdf5 file to write (default: in the cache folder)"
    )
    parser.set_defaults(handler=collect)

    parser = actions.add_parser(
        "info",
        help="check a dataset and describe it",
        description="Reads the whole file and checks it. Without --task, the task is taken from "
        "the file's name or from what the file says about itself.",
    )
    parser.add_argument(
        "dataset",
        help="an .hdf5 file, the folder of a Minari dataset, minari:NAME, or a task whose dataset "
        "is on this machine",
    )
    parser.add_argument("--task", help="the task that the file belongs to")
    add_format_option(parser)
    parser.set_defaults(handler=print_information)


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def print_tasks(arguments: argparse.Namespace) -> int:
    """One row per task."""
    import pandas

    from safesweep.trainables.tasks.registry import TASKS, simulator_installed

    rows = [
        {
            "task": task.name,
            "key": task.key,
            "suite": task.suite,
            "observations": task.observation_dim,
            "actions": task.action_dim,
            "horizon": task.horizon,
            "min_return": task.min_return,
            "max_return": task.max_return,
            "max_cost": task.max_cost,
            "cost_limits": " ".join(f"{limit:g}" for limit in task.cost_limits),
            "simulator": "installed" if simulator_installed(task) else "not installed",
        }
        for task in TASKS.values()
    ]
    print_table(pandas.DataFrame(rows), arguments.format)
    return 0


def print_datasets(arguments: argparse.Namespace) -> int:
    """One row per task and file, with what can be had for tasks that have none."""
    import pandas

    from safesweep.trainables.data.cache import cache_folder, published_file
    from safesweep.trainables.tasks.registry import TASKS, simulator_installed

    rows = []
    for task in TASKS.values():
        published = published_file(task)
        files: list[tuple[str, Path | None]] = [("fetched", published)] if published else []
        for collected in sorted(cache_folder().glob(f"{task.name}-collected-*.hdf5")):
            files.append(("collected", collected))
        obtainable = []
        if task.dataset_urls:
            obtainable.append("fetch")
        if simulator_installed(task):
            obtainable.append("collect")
        for origin, path in files or [("none", None)]:
            rows.append(
                {
                    "task": task.name,
                    "origin": origin,
                    "megabytes": round(path.stat().st_size / 1e6, 1) if path else None,
                    "obtainable": " ".join(obtainable),
                    "file": str(path or ""),
                }
            )
    print_table(pandas.DataFrame(rows), arguments.format)
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Download each task's published file; prints the paths."""
    from safesweep.trainables.data.cache import published_file
    from safesweep.trainables.data.fetch import fetch_dataset
    from safesweep.trainables.tasks.registry import get_task

    tasks = [get_task(name) for name in arguments.tasks]
    for task in tasks:
        path = published_file(task)
        if path is None:
            with _progress_bar(f"fetching {task.key}", in_bytes=True) as progress:
                path = fetch_dataset(task, progress)
        print(path)
    return 0


def collect(arguments: argparse.Namespace) -> int:
    """Collect one task's dataset; prints the path."""
    from safesweep.trainables.data.collect import collect_dataset
    from safesweep.trainables.tasks.registry import get_task

    task = get_task(arguments.task)
    with _progress_bar(f"collecting {task.key}") as progress:
        path = collect_dataset(task, arguments.episodes, arguments.seed, arguments.output, progress)
    print(path)
    return 0


def print_information(arguments: argparse.Namespace) -> int:
    """Counts and ranges of one dataset, as property and value."""
    import pandas

    from safesweep.trainables.data.dataset import read_dataset

    path, task = _file_and_task(arguments.dataset, arguments.task)
    dataset = read_dataset(path, task)
    rows = list(_describe(dataset, path).items())
    if arguments.format == "table":
        frame = pandas.DataFrame(rows, columns=["property", "value"])
    else:
        frame = pandas.DataFrame([dict(rows)])
    print_table(frame, arguments.format)
    for line in dataset.warnings:
        say(f"safesweep: warning: {line}")
    return 0


def _file_and_task(name: str, task_name: str | None) -> "tuple[Path, Task]":
    """The file that `name` means, and the task that it belongs to.

    Raises:
        InvalidInput: neither a file nor a task with data, or the file's task is not known.
    """
    from safesweep.trainables.data.dataset import require_hdf5, tasks_of_file
    from safesweep.trainables.data.sources import (
        MINARI_PREFIX,
        find_dataset,
        is_dataset_place,
        local_dataset,
    )
    from safesweep.trainables.tasks.registry import TASKS, get_task, simulator_installed

    path = expanded(name)
    looks_like_path = path.suffix in (".hdf5", ".h5") or len(path.parts) > 1 or os.path.exists(path)
    if not name.startswith(MINARI_PREFIX) and not looks_like_path:
        task = get_task(name)
        found = local_dataset(task, "auto")
        if found is not None:
            return found, task
        raise InvalidInput(
            f"dataset: {task.name} has none on this machine; get one with: "
            f"safesweep data {'collect' if simulator_installed(task) else 'fetch'} {task.name}"
        )
    asked = get_task(task_name) if task_name is not None else None
    if is_dataset_place(name):
        # It says where the data are, so that the task does not matter.
        path = find_dataset(asked or next(iter(TASKS.values())), name)
    path = require_hdf5(path)
    if asked is not None:
        return path, asked
    named = tasks_of_file(path)
    if len(named) == 1:
        return path, named[0]
    if named:
        raise InvalidInput(
            f"task: {path.name!r} names {listed(t.name for t in named)}; choose one with --task"
        )
    raise InvalidInput(f"task: {path.name!r} does not tell; name it with --task")


def _describe(dataset: Any, path: Path) -> dict[str, object]:
    import json

    import numpy as np

    returns, costs = dataset.returns(), dataset.cost_returns()
    lengths = dataset.episode_lengths
    last = dataset.episode_ends - 1
    ended = int(dataset.terminals[last].sum())
    steps = len(dataset)
    same_length = lengths.min() == lengths.max()
    length = f"{lengths[0]}" if same_length else f"{lengths.min()} to {lengths.max()}"
    provenance = json.dumps(dataset.provenance, sort_keys=True) if dataset.provenance else ""
    return {
        "file": str(path),
        "task": dataset.task,
        "dataset_id": dataset.dataset_id,
        "steps": steps,
        "episodes": len(lengths),
        "episode_length": length,
        "ended_by_terminal": ended,
        "ended_by_timeout": len(lengths) - ended,
        "return_min": round(float(returns.min()), 3),
        "return_mean": round(float(returns.mean()), 3),
        "return_max": round(float(returns.max()), 3),
        "cost_min": round(float(costs.min()), 3),
        "cost_mean": round(float(costs.mean()), 3),
        "cost_max": round(float(costs.max()), 3),
        "zero_cost_episodes": int((costs == 0).sum()),
        "positive_cost_steps_percent": round(100 * float(np.mean(dataset.costs > 0)), 3),
        "actions_outside_bounds": dataset.clipped_actions,
        "safety_margins": "stored" if dataset.safety_margins is not None else "not stored",
        "provenance": provenance or "not stated",
    }


@contextlib.contextmanager
def _progress_bar(label: str, in_bytes: bool = False) -> "Iterator[Progress]":
    """A bar on standard error; nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task(label, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(row, completed=done, total=total or None)

        yield progress
