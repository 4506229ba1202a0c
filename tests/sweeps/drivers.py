"""Where tests run `safesweep`: in a process of its own, as a user starts it, or within one session
of Ray that this process keeps."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from safesweep.sweeps.execution.ray_tune import RAY_ENVIRONMENT


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


@contextmanager
def local_session(num_cpus: int) -> Iterator[None]:
    """Ray on this machine, which whatever runs sweeps within takes."""
    os.environ.update(RAY_ENVIRONMENT)
    import ray

    ray.init(
        address="local",
        num_cpus=num_cpus,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    try:
        yield
    finally:
        ray.shutdown()
