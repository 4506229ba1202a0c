"""The processors that a process may use, by what each limit on it says."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from safesweep.trainables.tasks import processors
from safesweep.trainables.tasks.processors import usable_cpus


@pytest.fixture(autouse=True)
def sixteen_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_affinity", lambda: 16)


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root folder whose process is in these control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        pytest.param("0::/\n", {"cpu.max": "300000 100000\n"}, 3, id="v2, a container's own root"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "250000 100000\n"}, 2, id="v2, part of one"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 16, id="v2, no quota"),
        pytest.param(
            "0::/a/b\n",
            {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "400000 100000\n"},
            4,
            id="v2, the group around it is narrower",
        ),
        pytest.param("0::/a\n", {"a/cpu.max": "50000 100000\n"}, 1, id="less than one is one"),
        pytest.param(
            "4:cpu,cpuacct:/job\n3:memory:/job\n",
            {"cpu,cpuacct/job/cpu.cfs_quota_us": "500000\n",
             "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"},
            5,
            id="v1",
        ),
        pytest.param(
            "4:cpu,cpuacct:/docker/0123\n",
            {"cpu/cpu.cfs_quota_us": "600000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            6,
            id="v1, a path of the host's",
        ),
        pytest.param(
            "4:cpu,cpuacct:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            16,
            id="v1, no quota",
        ),
        pytest.param("", {}, 16, id="no control groups"),
        pytest.param("0::/\n", {"cpu.max": "nonsense\n"}, 16, id="nothing that can be read"),
    ],
)  # fmt: skip
def test_control_groups(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cpus(machine(tmp_path, groups, files), {}) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "8"}, 4),
        ({"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "8"}, 8),
        ({"SLURM_JOB_ID": "1", "SLURM_CPUS_ON_NODE": "64"}, 16),
        ({"SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "", "SLURM_CPUS_ON_NODE": "x"}, 16),
        ({"SLURM_CPUS_PER_TASK": "4"}, 16),
    ],
)
def test_slurm(environment: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert usable_cpus(machine(tmp_path, "", {}), environment) == expected


def test_the_affinity_of_a_process_counts() -> None:
    one = min(os.sched_getaffinity(0))
    command = (
        f"import os; os.sched_setaffinity(0, {{{one}}});"
        "from safesweep.trainables.tasks.processors import usable_cpus; print(usable_cpus())"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


def test_never_more_than_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= usable_cpus() <= (os.cpu_count() or math.inf)
