"""One attempt on a command: what it may do with any input, and how long it may take."""

import contextlib
import io
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType

from safesweep.search_spaces.validation import LONGEST_MESSAGE
from safesweep.sweeps.cli import main

SECONDS = 5.0
"""Of a processor; what waits for something may take longer on a machine that is busy."""
LONGEST_WAIT = 120.0
MOST_LINES = 60


class Hang(BaseException):
    """It takes longer than it may."""


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """End what takes longer, by `Hang`."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Hang

    limits = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, LONGEST_WAIT),
    }
    before = {number: signal.signal(number, end) for number in limits}
    for timer, seconds in limits.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in limits.values():
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stream(io.TextIOWrapper):
    """Standard output or error in memory, as strict as a terminal's."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors="strict", write_through=True)

    def text(self) -> str:
        self.flush()
        content = self.buffer.getvalue()  # type: ignore[attr-defined]
        return str(content.decode("utf-8", errors="replace"))


@dataclass
class Attempts:
    """Counts attempts, and keeps those that did what no input may do.

    Attributes:
        faults: what was tried, and what came of it.
    """

    count: int = 0
    faults: list[str] = field(default_factory=list)

    def try_command(self, argv: Sequence[str], name: object = None) -> None:
        """Run a command, which must end in time, with 0, 1 or 2, and say at 2 why in lines."""
        self.count += 1
        out, err = _Stream(), _Stream()
        fault = None
        try:
            with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(list(argv))
            fault = _fault_of(code, err.text())
        except Hang:
            fault = f"took longer than {SECONDS:g} s"
        except SystemExit as end:
            fault = None if end.code in (0, None) else f"left by SystemExit({end.code!r})"
        except BaseException as error:
            place = traceback.extract_tb(sys.exc_info()[2])[-1]
            fault = f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        if fault is not None:
            shown = repr(name if name is not None else list(argv))
            self.faults.append(f"{fault[:300]}: {shown[:2000]}")

    def report(self) -> str:
        """How many there were, and what went wrong."""
        return "\n".join([f"{self.count} inputs, {len(self.faults)} faults", *self.faults])


def _fault_of(code: int, said: str) -> str | None:
    if code not in (0, 1, 2):
        return f"exit code {code}"
    if "Traceback (most recent call last)" in said:
        return "a traceback on standard error"
    if code != 2:
        return None
    lines = [line for line in said.splitlines() if line.startswith("safesweep: ")]
    if not lines:
        return f"exit code 2 without a line that says why: {said!r}"
    if len(lines) > MOST_LINES or max(map(len, lines)) > LONGEST_MESSAGE + 20:
        return f"exit code 2 with {len(lines)} lines, the longest of {max(map(len, lines))}"
    return None
