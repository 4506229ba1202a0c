"""How a sweep stands, a line for each method and task, and how that is drawn in a terminal.

The driver of a sweep fills it in as it goes (`execution.progress`); `safesweep watch` from what the
store holds (`execution.watching`). Both are drawn alike.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safesweep.trainables.store.planned import read_planned

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

BESIDE_FROM = 120
"""Columns of a terminal from which on the best configuration stands beside the numbers."""
_LINES_AROUND = 6
"""Heading, head of the table, and what the terminal needs itself."""


@dataclass
class TaskStanding:
    """One method on one task. `planned`, `running` and the counts of `statuses` are runs.

    Attributes:
        best: the best safe configuration so far, in words; empty while there is none.
        steps_per_second: gradient steps of runs; None while nothing is known.
        seconds_left: at that rate; None where it is not known.
        spent: what runs were for, in words, where that follows from results; else empty.
        choice: what a budget has ended in, in words; empty before.
        chosen: the same, for `trainables.store.planned.BudgetChoice`; empty where nothing can be
            chosen, too.
    """

    algorithm: str
    task: str
    planned: int = 0
    running: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    best: str = ""
    steps_per_second: float | None = None
    seconds_left: float | None = None
    spent: str = ""
    choice: str = ""
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Runs that have ended, however."""
        return sum(self.statuses.values())


def planned_tasks(content: bytes | None) -> list[TaskStanding]:
    """What a driver wrote of its methods and tasks (`planned_path`); nothing where there is no
    file, or one that cannot be understood."""
    try:
        return [TaskStanding(**entry) for entry in read_planned(content)]
    except TypeError:
        return []


@dataclass
class SweepStanding:
    """A sweep: `state` in words (`trainables.store.leases.sweep_state`, or a driver's own), and its
    tasks."""

    sweep: str
    state: str
    tasks: list[TaskStanding]
    seconds_left: float | None = None
    remark: str = ""

    @property
    def is_live(self) -> bool:
        """Whether somebody runs it."""
        return self.state in ("running", "waiting", "stalled")

    @property
    def heading(self) -> str:
        """All of it in one line."""
        done = sum(task.done for task in self.tasks)
        parts = [f"{self.state}, {done}/{sum(task.planned for task in self.tasks)} runs"]
        running = sum(task.running for task in self.tasks)
        if running:
            parts.append(f"{running} running")
        counts: Counter[str] = Counter()
        for task in self.tasks:
            counts.update(task.statuses)
        parts += [f"{number} {name}" for name, number in sorted(counts.items()) if number]
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        return f"{self.sweep}: " + ", ".join(parts)

    def line(self) -> str:
        """The heading and the best configurations, for a log."""
        best = [f"best safe on {task.task} by {task.algorithm}: {task.best}"
                for task in self.tasks if task.best]  # fmt: skip
        spent = [f"{task.algorithm} on {task.task}: {task.spent}"
                 for task in self.tasks if task.spent]  # fmt: skip
        return "; ".join([self.heading, *best, *spent, *([self.remark] if self.remark else [])])

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.text import Text

        yield Text(self.heading, style="bold")
        if self.remark:
            yield Text(self.remark)
        if self.tasks:
            # Without a terminal there is no height to keep to.
            height = console.height - _LINES_AROUND if console.is_terminal else 10**6
            shown, hidden = _fitting(self.tasks, height, options.max_width < BESIDE_FROM)
            yield _table(shown, options.max_width)
            if hidden:
                yield Text(
                    f"and {len(hidden)} more, with {sum(task.done for task in hidden)} of "
                    f"{sum(task.planned for task in hidden)} runs done"
                )


def _fitting(
    tasks: Sequence[TaskStanding], height: int, two_lines: bool
) -> tuple[list[TaskStanding], list[TaskStanding]]:
    """As many as a terminal has lines for, in their order: those that run before the others."""
    need = {id(task): 2 if two_lines and task.best else 1 for task in tasks}
    if sum(need.values()) <= height:
        return list(tasks), []
    kept: set[int] = set()
    room = height
    for task in sorted(tasks, key=lambda task: (not task.running, task.done >= task.planned)):
        room -= need[id(task)]
        if kept and room < 0:
            break
        kept.add(id(task))
    return ([task for task in tasks if id(task) in kept],
            [task for task in tasks if id(task) not in kept])  # fmt: skip


def _table(tasks: Sequence[TaskStanding], width: int) -> "Table":
    """One row a method and task, in at most `width` columns; text that is longer is folded."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    beside = width >= BESIDE_FROM
    several = len({task.algorithm for task in tasks}) > 1
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in (["method"] if several else []) + ["task"]:
        table.add_column(name, overflow="fold")
    for name in ("done", "running", "failed", "diverged", "steps/s", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    if beside:
        table.add_column("best safe", overflow="fold", ratio=1)
    for task in tasks:
        cells = [*([task.algorithm] if several else []), task.task]
        rate = "-" if task.steps_per_second is None else short_number(task.steps_per_second)
        left = "-" if task.seconds_left is None else duration(task.seconds_left)
        cells += [f"{task.done}/{task.planned}", str(task.running)]
        texts = [Text(cell) for cell in cells]
        texts += [_count(task, "failed"), _count(task, "diverged"), Text(rate), Text(left)]
        table.add_row(*texts, *([Text(task.best or "-")] if beside else []))
    if beside:
        return table
    whole = Table.grid()
    whole.add_column(overflow="fold")
    whole.add_row(table)
    for task in tasks:
        if task.best:
            name = f"{task.algorithm} on {task.task}" if several else task.task
            whole.add_row(Text(f"best safe, {name}: {task.best}", overflow="fold"))
    return whole


def _count(task: TaskStanding, status: str) -> "Text":
    from rich.text import Text

    number = task.statuses[status]
    return Text(str(number), style="red" if number else "")


def short_number(value: float) -> str:
    """A rate in at most five characters: 0.52, 87, 1.2k, 3.4M."""
    for factor, unit in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
