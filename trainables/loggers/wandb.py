"""Weights & Biases: a run a run, the sweep as its project. Needs the extra `wandb`.

Offline unless WANDB_MODE says otherwise: nothing leaves the machine until `wandb sync` sends the
folders `offline-run-*`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from safesweep.trainables.loggers.run_log import LOST_STATUSES, LoggedRun, LoggingObserver, LogMaker


class WandbLog:
    """One run of a project named after the sweep."""

    def __init__(self, run: LoggedRun, folder: Path, resumed: bool = False) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=run.sweep or "safesweep",
            id=run.run_id,
            name=run.name,
            group=run.run_id.rpartition("-")[0] or run.run_id,
            config={**run.config, "algorithm": run.algorithm, "task": run.task, "seed": run.seed},
            dir=str(folder),
            mode="offline" if "WANDB_MODE" not in os.environ else None,
            reinit="create_new",
            resume="allow",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
        )

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self._run.log(dict(values), step=step)

    def end(self, status: str) -> None:
        """Close the run."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=1 if status in LOST_STATUSES else 0)


class WandbObserver(LoggingObserver):
    """Logs every run to Weights & Biases."""

    tool: ClassVar[str] = "wandb"
    begin: ClassVar[LogMaker] = WandbLog


OBSERVERS = {"wandb": WandbObserver}
