"""How a trial comes on, by time: what its heartbeat says of it while it trains."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from safesweep.trainables.store.heartbeats import RENEW_SECONDS
from safesweep.trainables.store.writer import StoreProblem

LOOK_SECONDS = 1.0
PATIENCE_SECONDS = {"training": 300.0, "evaluating": 3600.0}
"""How long a trial may be in a phase without coming further before it counts as stalled: at least
so long, and `PATIENCE_FACTOR` times the longest that it took before."""
PATIENCE_FACTOR = 10.0


class Pulse:
    """Measures how a trial comes on, and has that written every `RENEW_SECONDS`.

    Attributes:
        phase: what the trial does now, a key of `PATIENCE_SECONDS`.
    """

    def __init__(self) -> None:
        self.phase = "training"
        self._mark: tuple[str, int] = ("", -1)
        self._progressed = time.time()
        self._longest = dict.fromkeys(PATIENCE_SECONDS, 0.0)
        self._rate, self._rated = 0.0, (time.monotonic(), 0)

    def look(self, step: int) -> None:
        """Notice whether the trial has come further."""
        mark = (self.phase, step)
        if mark != self._mark:
            now = time.time()
            before = self._mark[0]
            if before in self._longest:
                took = now - self._progressed
                self._longest[before] = max(self._longest[before], took)
            self._mark, self._progressed = mark, now

    def said(self, step: int) -> dict[str, float | str]:
        """The fields of a heartbeat that this knows of, for a trial at a step."""
        self.look(step)
        now = time.monotonic()
        before, took = self._rated[1], now - self._rated[0]
        if step > before and took > 0:
            self._rate = (step - before) / took
            self._rated = (now, step)
        patience = max(PATIENCE_SECONDS[self.phase], PATIENCE_FACTOR * self._longest[self.phase])
        return {
            "phase": self.phase,
            "renewed": time.time(),
            "progressed": self._progressed,
            "patience": patience,
            "rate": self._rate,
        }

    def begin(self, step: int) -> None:
        """The trial goes on from a step; the time until now does not count."""
        self.phase = "training"
        self._mark, self._progressed = ("", -1), time.time()
        self._rated = (time.monotonic(), step)

    @contextlib.contextmanager
    def beating(self, step: Callable[[], int], write: Callable[[], None]) -> Iterator[None]:
        """Within it `write` is called by time, from a thread of its own.

        Args:
            step: at which the trial is.
        """
        over = threading.Event()

        def beat() -> None:
            due = time.monotonic() + RENEW_SECONDS
            while not over.wait(min(LOOK_SECONDS, RENEW_SECONDS)):
                self.look(step())
                if time.monotonic() >= due:
                    # The trial itself finds a store that has failed.
                    with contextlib.suppress(StoreProblem):
                        write()
                    due = time.monotonic() + RENEW_SECONDS

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
