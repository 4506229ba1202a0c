"""Stopping cleanly on request."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# The exit codes of a command that was stopped: by Ctrl-C, and by SIGTERM.
INTERRUPTED = 130
TERMINATED = 143


_come = threading.Event()
"""Whether SIGTERM has come: what was running then may raise an interrupt of its own instead."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has come: a scheduler's is as good a reason to stop cleanly as Ctrl-C."""


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that an interrupt ended."""
    return TERMINATED if isinstance(interrupt, Terminated) or _come.is_set() else INTERRUPTED


@contextlib.contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`, in the main thread; others are not told of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _come.clear()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    _come.set()
    raise Terminated
