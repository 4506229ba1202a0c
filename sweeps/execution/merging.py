"""Merging the parts of a sweep while it runs, so that it can be listed, chosen from and resumed at
any time as fast as when it has ended."""

import contextlib
import subprocess
import sys

from safesweep.trainables.store.compaction import MANY_PARTS

_PROGRAM = (
    "import os, sys\n"
    "os.nice(10)\n"
    "from safesweep.trainables.store.compaction import compact_if_many\n"
    "compact_if_many(sys.argv[1], sys.argv[2], int(sys.argv[3]))\n"
)


class PartMerging:
    """Merges a sweep's parts each time that many trials have ended, in a process that gives way to
    others. A store that is no local folder stays as it is."""

    def __init__(self, storage: str, sweep: str) -> None:
        self._storage, self._sweep = storage, sweep
        self._since = 0
        self._process: subprocess.Popen[bytes] | None = None

    def trial_ended(self) -> None:
        """Count a trial whose rows are in the store, and merge where there are many."""
        self._since += 1
        if self._since < 2 * MANY_PARTS or "://" in self._storage:
            return
        if self._process is not None and self._process.poll() is None:
            return
        self._since = 0
        with contextlib.suppress(OSError):  # Then readers take longer, and that is all.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, self._storage, self._sweep, str(MANY_PARTS)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def close(self, finish: bool) -> None:
        """Let what is at work come to its end, or end it now: nothing is lost then, and the next
        compaction begins anew."""
        if self._process is not None:
            if not finish:
                self._process.terminate()
            self._process.wait()
