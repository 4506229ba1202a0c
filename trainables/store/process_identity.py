"""Which process of which machine wrote something, and whether it is still there."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessIdentity:
    """A process: `machine` and `process_start` tell those apart that share a number. They are the
    boot of a kernel with its process namespace, and the process's start in clock ticks."""

    host: str
    process: int
    process_start: str
    machine: str

    @classmethod
    def own(cls) -> "ProcessIdentity":
        """This process."""
        process = os.getpid()
        return cls(socket.gethostname(), process, process_start(process), machine())

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, of this machine."""
        return bool(self.machine) and self.machine == machine()

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that is no more."""
        return self.is_here and process_start(self.process) != self.process_start


def process_start(process: int) -> str:
    """When a process began, in clock ticks since the machine did; empty where there is none."""
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *numbers = content.rpartition(")")[2].split()
    return "" if state == "Z" else numbers[18]


def machine() -> str:
    """This kernel since its boot, and the namespace in which its processes are numbered."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
