"""How many processors this process may use, which on a shared machine is fewer than it has."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

_SLURM_VARIABLES = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")


def usable_cpus(
    root: Path = Path("/"), environment: Mapping[str, str] = os.environ, process: str = "self"
) -> int:
    """The smallest of what the scheduler's affinity mask, the control groups' quotas (version 1 and
    2, also those of groups around ours) and Slurm's allocation allow; at least 1.

    Args:
        root: where `proc` and `sys` lie.
        environment: in which Slurm says what a task, or a job's part of the node, was given.
        process: the process's folder in `proc`.
    """
    limits: list[float] = [_affinity(), *_quotas(root, process)]
    if "SLURM_JOB_ID" in environment:
        # A task's own share is the narrower of the two, and only set where it was asked for.
        given = [environment[name] for name in _SLURM_VARIABLES if environment.get(name)]
        limits += [int(text) for text in given[:1] if text.isdecimal()]
    return max(1, math.floor(min(limits)))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, process: str) -> Iterator[float]:
    """The processors that each control group around the process may use at a time."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc" / process / "cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            for folder in _upwards(mounted, group):
                yield from _quota(_text(folder / "cpu.max").split())
        elif "cpu" in controllers.split(","):
            for mount in (mounted / controllers, mounted / "cpu"):
                for folder in _upwards(mount, group):
                    quota = _text(folder / "cpu.cfs_quota_us").strip()
                    yield from _quota([quota, _text(folder / "cpu.cfs_period_us").strip()])


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The group's folder and those around it. In a container the path may be the host's, where only
    the mount itself is ours."""
    names = [name for name in group.split("/") if name not in ("", "..")]
    for depth in range(len(names), -1, -1):
        yield mount.joinpath(*names[:depth])


def _quota(words: list[str]) -> Iterator[float]:
    """Processors by a quota and its period in microseconds; nothing where there is no quota."""
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
