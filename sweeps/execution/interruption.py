"""Stopping cleanly on request."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

# The exit code of a command that was stopped.
INTERRUPTED = 130


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt: a scheduler's is as good a reason to stop cleanly
    as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
