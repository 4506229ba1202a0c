"""`safesweep` in a process of its own, as a user starts it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


def start(
    words: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start the command with these words, and variables beside this process's own."""
    return subprocess.Popen(
        [sys.executable, "-m", "safesweep", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(
    condition: Callable[[], bool], driver: subprocess.Popen[str], seconds: float
) -> None:
    """Wait for something that a running command brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
