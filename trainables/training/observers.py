"""How results leave a trial: observers are told when runs start, are evaluated and end.

The store's writer is the first. A logger of one's own is a class of `Observer` in a plugin's
dictionary OBSERVERS; it is told of every trial. One that raises is left out for the rest of the
trial: the runs go on, and the store is not touched by it.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from safesweep.search_spaces.plugins import Entries, extended_by_plugins, load_installed_plugins
from safesweep.search_spaces.validation import InvalidInput, shown
from safesweep.trainables.store.writer import ResultWriter, heartbeat_path

Rows = list[dict[str, Any]]


@dataclass
class TrialRows:
    """What a trial has to tell, in the columns of the tables."""

    evaluations: Rows = field(default_factory=list)
    episodes: Rows = field(default_factory=list)
    metrics: Rows = field(default_factory=list)
    runs: Rows = field(default_factory=list)

    def at(self, step: int) -> "TrialRows":
        """The rows of one evaluation."""
        parts = (self.evaluations, self.episodes, self.metrics)
        return TrialRows(*([row for row in rows if row["step"] == step] for rows in parts))


@dataclass(frozen=True)
class ObservedTrial:
    """The runs that an observer is told of; lists are parallel, one entry a run.

    Attributes:
        sweep, storage: where the rows go; None where there is no store.
        step: gradient steps done; above 0 at the start where the trial resumes.
        steps: gradient steps in all.
    """

    trial_id: str
    sweep: str | None
    storage: str | None
    algorithm: str
    task: str
    run_ids: list[str]
    config_ids: list[str]
    seeds: list[int]
    configs: list[dict[str, Any]]
    step: int
    steps: int


class Observer:
    """Base of every observer; each trial makes one of its own.

    A trial that is set up anew (its worker was lost, or Tune has another one do it) starts again at
    its last evaluation, and ends again if it had ended: who counts goes by `trial_id` and `step`.

    Args:
        writer: of the store, None where there is none.
    """

    required: ClassVar[bool] = False
    """Whether a trial fails when this observer does."""

    def __init__(self, writer: ResultWriter | None) -> None:
        self.writer = writer

    def on_start(self, trial: ObservedTrial) -> None:
        """The runs begin, or go on."""

    def on_evaluation(self, trial: ObservedTrial, rows: TrialRows) -> None:
        """The runs were evaluated: the rows of this step, those of `runs` excepted."""

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        """The runs have ended, all of the trial or those that were stopped: all of their rows."""


class StoreObserver(Observer):
    """Puts the rows of runs that have ended into the store."""

    required = True

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        if self.writer is None:
            return
        statuses = {row["run_id"]: row["status"] for row in rows.runs}
        self.writer.write_trial(
            trial.trial_id,
            rows.runs,
            [{**row, "run_status": statuses[row["run_id"]]} for row in rows.evaluations],
            rows.episodes,
            rows.metrics,
        )
        self.writer.remove(heartbeat_path(trial.trial_id))


OBSERVERS: dict[str, type[Observer]] = {"store": StoreObserver}


class Observers:
    """The observers of one trial.

    Attributes:
        problems: what observers raised, a line each.
    """

    def __init__(self, writer: ResultWriter | None) -> None:
        self.problems: list[str] = []
        self._active: dict[str, Observer] = {}
        load_installed_plugins()
        for name, kind in OBSERVERS.items():
            with self._kept_out(name, kind.required):
                self._active[name] = kind(writer)

    def on_start(self, trial: ObservedTrial) -> None:
        """Tell every observer that runs begin."""
        for name, observer in list(self._active.items()):
            with self._kept_out(name, observer.required):
                observer.on_start(trial)

    def on_evaluation(self, trial: ObservedTrial, rows: TrialRows) -> None:
        """Tell every observer of an evaluation; `rows` are all so far."""
        now = rows.at(trial.step)
        for name, observer in list(self._active.items()):
            with self._kept_out(name, observer.required):
                observer.on_evaluation(trial, _own(observer, now))

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        """Tell every observer that runs have ended."""
        for name, observer in list(self._active.items()):
            with self._kept_out(name, observer.required):
                observer.on_end(trial, _own(observer, rows))

    @contextmanager
    def _kept_out(self, name: str, required: bool) -> Iterator[None]:
        """Leave an observer out from when it raises; one that is required passes it on."""
        try:
            yield
        except Exception as problem:  # whatever a foreign logger raises
            if required:
                raise
            self._active.pop(name, None)
            reason = (str(problem).strip().splitlines() or [""])[0]
            self.problems.append(
                f"observer {name!r} failed and is left out ({type(problem).__name__}: {reason})"
            )
            warnings.warn(self.problems[-1], RuntimeWarning, stacklevel=2)


def _own(observer: Observer, rows: TrialRows) -> TrialRows:
    """The rows, as a copy where what is done to them must not reach the store."""
    return rows if observer.required else copy.deepcopy(rows)


def _accept(name: str, value: Any, plugin: Entries) -> type[Observer]:
    if not (isinstance(value, type) and issubclass(value, Observer)):
        raise InvalidInput(f"must be a class of Observer, not {shown(value)}")
    return value


extended_by_plugins("OBSERVERS", OBSERVERS, _accept)
