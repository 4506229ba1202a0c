"""A group of processes whose memory the kernel limits, and kills for: only root can make one."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/sys/fs/cgroup")
_VERSIONS = {
    "memory.limit_in_bytes": ROOT / "memory",
    "memory.max": ROOT,
}


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """The folder of such a group, in whose `cgroup.procs` a process's number is written; None where
    none can be made. What is in it at the end is killed."""
    folder = None
    for limit, place in _VERSIONS.items():
        made = place / f"safesweep-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            made.mkdir()
            folder = made
            (made / limit).write_text(str(limit_bytes))
            break
    else:
        if folder is not None:
            folder.rmdir()
            folder = None
    try:
        yield folder
    finally:
        if folder is not None:
            _remove(folder)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for number in (folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(psutil.Error):
                psutil.Process(int(number)).kill()
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)
