"""`safesweep export`: a sweep's runs for TensorBoard, MLflow, Weights & Biases, or as CSV; or a
run's policy for use elsewhere."""

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.policies import POLICY_FORMATS, export_policy
from safesweep.sweeps.commands.results import (
    add_storage_option,
    add_sweeps,
    open_store,
    require_named,
)
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    import pandas

    from safesweep.trainables.loggers.run_log import LogMaker

TOOLS = {
    "tensorboard": ("tensorboard", "TensorBoardLog"),
    "mlflow": ("mlflow", "MlflowLog"),
    "wandb": ("wandb", "WandbLog"),
    "csv": ("csv_files", "CsvLog"),
}
"""Tool -> module of `trainables.loggers`, and its `RunLog`."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `export`."""
    parser = commands.add_parser(
        "export",
        help="write a sweep's runs for TensorBoard, MLflow, Weights & Biases, or as CSV; or a "
        "run's policy",
        description="With --to: every run of a sweep that has ended with its hyperparameters, "
        "evaluations and metrics. MLFLOW_TRACKING_URI and WANDB_MODE are heeded; without them "
        "everything goes into the folder. With --format: the policy of a run, with a model card; "
        "torch is a program and a file that loads it, which needs torch and numpy alone; "
        "safetensors holds the parameters by name.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help="of a sweep; or a run's id, or its beginning"
    )
    add_sweeps(
        parser,
        "the same as a sweep's name; or only the runs of this sweep (repeatable)",
        named=False,
    )
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--to", choices=tuple(TOOLS), help="the tool that a sweep is for")
    kind.add_argument(
        "--format", action="append", choices=POLICY_FORMATS, help="of a policy (repeatable)"
    )
    parser.add_argument(
        "--policy", help="one of the method's (default: the one by which it is judged)"
    )
    parser.add_argument(
        "--out",
        "--output",
        type=Path,
        help="a folder, new or empty (default: <sweep>-<tool> or policy-<run>)",
    )
    add_storage_option(parser)
    parser.set_defaults(handler=export)


def export(arguments: argparse.Namespace) -> int:
    """Write the runs and say where they are.

    Raises:
        InvalidInput: an unknown sweep, a tool that is not installed, or a folder that has
            something in it or cannot be written.
    """
    if arguments.format:
        return export_policy(arguments)
    if arguments.policy:
        raise InvalidInput("policy: goes with --format; --to writes what all policies scored")
    arguments.sweeps = list(dict.fromkeys([*arguments.names, *arguments.sweeps]))
    sweeps = require_named(arguments)
    store = open_store(arguments)
    runs = store.runs(sweep=sweeps).drop_duplicates("run_id", keep="last")
    folder = arguments.out or Path(f"{'-'.join(sweeps)}-{arguments.to}")
    module, name = TOOLS[arguments.to]
    begin = getattr(import_module(f"safesweep.trainables.loggers.{module}"), name)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput(f"out: {str(folder)!r} is not empty; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        evaluations, metrics = store.evaluations(sweep=sweeps), store.metrics(sweep=sweeps)
        left = set(runs["run_id"])
        for sweep in sweeps:
            # A run that several ask for goes with the first of them.
            own = left.intersection(store.runs(["run_id"], sweep=sweep)["run_id"])
            left -= own
            _write(begin, folder, sweep, runs[runs["run_id"].isin(own)], evaluations, metrics)
    except ImportError as problem:
        raise InvalidInput(
            f"to: {arguments.to} is not installed ({problem}); install safesweep-rl[{arguments.to}]"
        ) from None
    except OSError as problem:
        raise InvalidInput(f"out: {str(folder)!r} cannot be written ({problem})") from problem
    say(f"wrote {len(runs)} runs to {folder}")
    return 0


def _write(
    begin: "LogMaker",
    folder: Path,
    sweep: str,
    runs: "pandas.DataFrame",
    evaluations: "pandas.DataFrame",
    metrics: "pandas.DataFrame",
) -> None:
    from safesweep.trainables.loggers.run_log import LoggedRun, values_by_step

    evaluated, measured = _by_run(evaluations), _by_run(metrics)
    for row in runs.to_dict("records"):
        run = LoggedRun(
            row["run_id"], sweep, row["algorithm"], row["task"], int(row["seed"]),
            json.loads(row["config"]) if row["config"] else {},
        )  # fmt: skip
        log = begin(run, folder, False)
        own = evaluated.get(run.run_id, []), measured.get(run.run_id, [])
        for step, values in values_by_step(*own).items():
            log.record(step, values)
        log.end(str(row["status"]))


def _by_run(rows: "pandas.DataFrame") -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_dict("records"):
        found.setdefault(row["run_id"], []).append({str(k): v for k, v in row.items()})
    return found
