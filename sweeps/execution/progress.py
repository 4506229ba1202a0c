"""Live progress of a sweep, on standard error: drawn on a terminal, plain lines elsewhere."""

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from safesweep.sweeps.output import say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

LINE_INTERVAL_SECONDS = 5.0


@dataclass
class Tally:
    """What progress shows. Work is counted in gradient steps of runs."""

    sweep: str
    total_steps: float
    trials_done: int = 0
    trials_total: int = 0
    trials_running: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    best: dict[str, str] = field(default_factory=dict)
    ended_steps: float = 0.0
    running_steps: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def fraction(self) -> float:
        """Share of this launch's work that is done, between 0 and 1."""
        if self.total_steps <= 0:
            return 1.0
        return min(1.0, (self.ended_steps + sum(self.running_steps.values())) / self.total_steps)

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
                refresh_per_second=2,
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
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        lines: list[RenderableType] = []
        for tally in self._tallies:
            lines.append(ProgressBar(total=1.0, completed=tally.fraction, width=40))
            lines.append(Text(tally.line(tally.elapsed)))
        return Group(*lines)


class DataProgress:
    """Says in plain lines how far the fetching or collecting of a dataset is; call it as
    `(done, total)`."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._last_line = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last_line >= LINE_INTERVAL_SECONDS and total:
            self._last_line = now
            say(f"{self._task}: getting its data, {done / total:.0%}")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def describe_scores(scores: Mapping[str, float], objective: str, config_id: str) -> str:
    """A configuration's means for the progress line."""
    cost = scores.get("normalized_cost", float("nan"))
    return f"{objective} {scores[objective]:.3f} at cost {cost:.2f} ({config_id})"
