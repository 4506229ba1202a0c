"""What every tool is told of a run, and an observer that tells it while the run trains."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from safesweep.trainables.store.schema import TABLES
from safesweep.trainables.training.observers import ObservedTrial, Observer, TrialRows

FOLDER_VARIABLE = "SAFESWEEP_LOG_FOLDER"
"""Where observers write; by default `logged` in a store that is a folder."""

SCORES = tuple(
    name for name, kind in TABLES["evaluations"].items() if kind == "float64" or name == "episodes"
)
"""Columns of `evaluations` that are numbers measured at a step."""


LOST_STATUSES = ("failed", "diverged", "incomplete")
"""Of runs that tools are told to have failed."""


@dataclass(frozen=True)
class LoggedRun:
    """A run as tools know it.

    Attributes:
        config: hyperparameters by name.
    """

    run_id: str
    sweep: str
    algorithm: str
    task: str
    seed: int
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.algorithm} {self.task} {self.run_id}"


class RunLog(Protocol):
    """One run in one tool."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step, by name. Steps rise."""

    def end(self, status: str) -> None:
        """The run has ended; `status` as in the table `runs`."""


class LogMaker(Protocol):
    """Begins a `RunLog`.

    Raises ImportError where the tool is not installed.
    """

    def __call__(self, run: LoggedRun, folder: Path, resumed: bool) -> RunLog:
        """Args:
        folder: of all runs of this tool.
        resumed: whether the run goes on that was begun before.
        """


def values_by_step(
    evaluations: Iterable[Mapping[str, Any]], metrics: Iterable[Mapping[str, Any]]
) -> dict[int, dict[str, float]]:
    """The rows of one run as numbers by step and name: `evaluation/<policy>/<column>` and
    `metrics/<name>`. What is missing is left out."""
    found: dict[int, dict[str, float]] = {}
    for row in evaluations:
        values = found.setdefault(int(row["step"]), {})
        for name in SCORES:
            value = row.get(name)
            if value is not None and value == value:
                values[f"evaluation/{row['policy']}/{name}"] = float(value)
    for row in metrics:
        value = row["value"]
        if value is not None and value == value:
            values = found.setdefault(int(row["step"]), {})
            values[f"metrics/{row['name']}"] = float(value)
    return dict(sorted(found.items()))


class LoggingObserver(Observer):
    """Tells a tool of every run of a trial. Subclasses name the tool and how a log is begun."""

    tool: ClassVar[str]
    begin: ClassVar[LogMaker]

    def on_start(self, trial: ObservedTrial) -> None:
        folder = _folder(trial) / self.tool
        self._logs: dict[str, RunLog] = {}
        runs = zip(trial.run_ids, trial.seeds, trial.configs, strict=True)
        for run_id, seed, config in runs:
            run = LoggedRun(
                run_id, trial.sweep or "", trial.algorithm, trial.task, seed, dict(config)
            )
            self._logs[run_id] = type(self).begin(run, folder, trial.step > 0)

    def on_evaluation(self, trial: ObservedTrial, rows: TrialRows) -> None:
        for run_id in trial.run_ids:
            if run_id in self._logs:
                own = _of_run(rows, run_id)
                for step, values in values_by_step(*own).items():
                    self._logs[run_id].record(step, values)

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        for row in rows.runs:
            log = self._logs.pop(row["run_id"], None)
            if log is not None:
                log.end(row["status"])


def _of_run(rows: TrialRows, run_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return (
        [row for row in rows.evaluations if row["run_id"] == run_id],
        [row for row in rows.metrics if row["run_id"] == run_id],
    )


def _folder(trial: ObservedTrial) -> Path:
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    if trial.storage is None or "://" in trial.storage:
        raise ValueError(
            f"the store is no folder of this machine; set {FOLDER_VARIABLE} to one, where workers "
            "run"
        )
    return Path(trial.storage) / "logged"
