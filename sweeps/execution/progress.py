"""Live progress of a sweep, on standard error: drawn on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from safesweep.search_spaces.space import settings_text
from safesweep.sweeps.execution.standing import SweepStanding, TaskStanding, duration
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_INTERVAL_SECONDS = 60.0
DATA_INTERVAL_SECONDS = 5.0
DRAWN_PER_SECOND = 1.0


@dataclass
class TaskTally(TaskStanding):
    """A method on a task, with the work of this launch in gradient steps of runs."""

    steps_to_do: float = 0.0
    ended_steps: float = 0.0
    running_steps: dict[str, float] = field(default_factory=dict)

    @property
    def steps_done(self) -> float:
        """Of the work of this launch, by runs that have ended and by those that train."""
        return self.ended_steps + sum(self.running_steps.values())

    def measure(self, elapsed: float) -> None:
        """Its rate so far, and what is left at that rate."""
        steps = self.steps_done
        left = max(0.0, self.steps_to_do - steps)
        self.steps_per_second = steps / elapsed if steps and elapsed > 0 else None
        self.seconds_left = left / self.steps_per_second if self.steps_per_second else None
        if self.done >= self.planned:
            self.steps_per_second = self.seconds_left = None


@dataclass
class Tally:
    """What progress shows: what its tasks come to, and trials. Work is counted in gradient steps of
    runs."""

    sweep: str
    total_steps: float
    trials_done: int = 0
    trials_total: int = 0
    trials_running: int = 0
    skipped: int = 0
    best: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    tasks: list[TaskTally] = field(default_factory=list)

    def standing(self) -> SweepStanding:
        """What the live view draws of it now."""
        elapsed = self.elapsed
        for task in self.tasks:
            task.measure(elapsed)
        return SweepStanding(
            self.sweep,
            "running" if self.trials_running else "preparing",
            list(self.tasks),
            self.remaining_seconds(elapsed) if self.fraction < 1 else None,
        )

    @property
    def statuses(self) -> Counter[str]:
        """Runs that have ended, by how."""
        return sum((task.statuses for task in self.tasks), Counter())

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def fraction(self) -> float:
        """Share of this launch's work that is done, between 0 and 1."""
        if self.total_steps <= 0:
            return 1.0
        return min(1.0, sum(task.steps_done for task in self.tasks) / self.total_steps)

    def remaining_seconds(self, elapsed: float) -> float | None:
        """Time left at the rate so far; None before anything is known."""
        if self.fraction <= 0:
            return None
        return elapsed * (1 - self.fraction) / self.fraction

    def line(self, elapsed: float) -> str:
        """All of it in one line."""
        parts = [f"{self.trials_done}/{self.trials_total} trials"]
        if self.trials_running:
            parts.append(f"{self.trials_running} running")
        parts += [f"{count} {status}" for status, count in sorted(self.statuses.items()) if count]
        if self.skipped:
            parts.append(f"{self.skipped} already there")
        parts += [f"best safe on {task}: {text}" for task, text in self.best.items()]
        several = len(self.tasks) > 1
        parts += [
            (f"{task.algorithm} on {task.task}: " if several else "") + task.spent
            for task in self.tasks
            if task.spent
        ]
        left = self.remaining_seconds(elapsed)
        if left is not None and self.fraction < 1:
            parts.append(f"about {duration(left)} left")
        return f"{self.sweep}: " + ", ".join(parts)


class Progress:
    """Shows the tallies of the sweeps that run; use it as a context."""

    def __init__(self, enabled: bool = True) -> None:
        self._enabled = enabled
        self._tallies: list[Tally] = []
        self._last_line = float("-inf")
        self._said: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._enabled and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=sys.stderr),
                get_renderable=self._draw,
                refresh_per_second=DRAWN_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def add(self, tally: Tally) -> None:
        """A sweep has begun."""
        self._tallies.append(tally)

    def remove(self, tally: Tally) -> None:
        """A sweep is over: say how it stands. One that was never added has nothing to say."""
        if tally in self._tallies:
            self._tallies.remove(tally)
            self._say(tally)

    def update(self) -> None:
        """Call it after a tally has changed."""
        now = time.monotonic()
        if self._live is None and now - self._last_line >= LINE_INTERVAL_SECONDS:
            self._last_line = now
            for tally in self._tallies:
                self._say(tally)

    def note(self, line: str) -> None:
        """Say something that happened, above what is drawn."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        elif self._enabled:
            say(line)

    def _say(self, tally: Tally) -> None:
        line = tally.line(tally.elapsed)
        if line != self._said.get(tally.sweep):
            self._said[tally.sweep] = line
            self.note(line)

    def _draw(self) -> "RenderableType":
        from rich.console import Group

        return Group(*(tally.standing() for tally in self._tallies))


class DataProgress:
    """Says in plain lines how far the fetching or collecting of a dataset is; call it as
    `(done, total)`."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last_line >= DATA_INTERVAL_SECONDS and total:
            self._last_line = now
            say(f"{self._task}: getting its data, {done / total:.0%}")


def describe_best(
    scores: Mapping[str, float], objective: str, settings: Mapping[str, object]
) -> str:
    """A configuration's means and what varies of it, as in `reward 0.512 at cost 0.40 with T=3`."""
    cost = scores.get("normalized_cost", float("nan"))
    name = objective.removeprefix("normalized_").removesuffix("_return_mean")
    shown = settings_text(settings)
    return f"{name} {scores[objective]:.3f} at cost {cost:.2f}" + (shown and f" with {shown}")
