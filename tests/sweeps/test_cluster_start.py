"""The cluster files that ship, tried with Ray itself: two nodes on this machine, started by the
commands in the files, a home directory with and without a token that Ray has left there."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.execution.ray_connection import find_cluster
from tests.sweeps.tiny_sweep import write_spec

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FOLDER = files("safesweep.sweeps") / "cluster"
PROGRAMS = Path(sys.executable).parent
LIMIT_SECONDS = 600
OLD_TOKEN = "left by an earlier session"


class Machine:
    """A user's environment on a machine of two nodes; what is started in it is ended after it."""

    def __init__(self, folder: Path, token: str | None) -> None:
        self.folder, self.home, self.old_token = folder, folder / "home", token
        # The path of a test's own folder is too long for a socket's.
        self.ray_folder = Path("/tmp") / f"cs{os.getpid()}"
        self.ray_folder.mkdir()
        self.home.mkdir()
        (self.home / ".venv").symlink_to(PROGRAMS.parent)
        self.token_file = self.home / ".ray" / "auth_token"
        if token is not None:
            self.token_file.parent.mkdir()
            self.token_file.write_text(token)
        ray_variables = [name for name in os.environ if name.startswith(("RAY_", "SLURM_"))]
        self.environment = {
            **{name: text for name, text in os.environ.items() if name not in ray_variables},
            "HOME": str(self.home),
            "RAY_TMPDIR": str(self.ray_folder),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the home directory to its end."""
        output = self.folder / f"output-{time.monotonic_ns()}"
        # Into a file: what goes on in the background would keep a pipe open.
        with output.open("w") as stream:
            done = subprocess.run(
                command,
                env={**self.environment, **variables},
                cwd=self.home,
                stdout=stream,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            )
        return subprocess.CompletedProcess(command, done.returncode, output.read_text())

    def token(self) -> str | None:
        """What the home directory holds."""
        return self.token_file.read_text() if self.token_file.exists() else None

    def processes(self) -> list[psutil.Process]:
        """What still runs of Ray's."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == str(self.ray_folder):
                    found.append(process)
        return found

    def end(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.ray_folder, ignore_errors=True)


@pytest.fixture(params=[None, OLD_TOKEN], ids=["no-token", "old-token"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path, request.param)
    yield made
    made.end()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def content(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def require_complete(store: Path) -> None:
    runs = ResultStore(store).runs()
    assert list(runs["status"]) == ["completed"] * 4


def test_slurm(machine: Machine, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    own = "import ray; print(ray.util.get_node_ip_address())"
    for name, script in {
        "scontrol": "printf 'one\\ntwo\\n'",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        "hostname": f"exec {sys.executable} -c '{own}'",
    }.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    spec, store = write_spec(tmp_path, configs=2), tmp_path / "store"
    done = machine.run(
        "bash",
        str(FOLDER / "slurm.sh"),
        str(spec),
        str(store),
        PATH=f"{programs}:{os.environ['PATH']}",
        SLURM_JOB_NODELIST="whatever",
        SLURM_JOB_ID=str(os.getpid()),
        SLURM_CPUS_PER_TASK="1",
        SLURM_GPUS_ON_NODE="0",
        SLURM_SUBMIT_DIR=str(machine.home),
        SAFESWEEP_CLUSTER_SECONDS="240",
    )
    assert done.returncode == 0, done.stdout
    require_complete(store)
    # No token is left for later sessions to find, and an old one is as it was.
    assert machine.token() == machine.old_token
    deadline = time.monotonic() + 60
    while machine.processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert machine.processes() == []


def test_ray_up(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = content("ray-cluster.yaml")
    # What the file's first lines say to do, and what `ray up` copies to every node.
    done = machine.run(".venv/bin/ray", "get-auth-token", "--generate")
    assert done.returncode == 0, done.stdout
    assert cluster["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    port = free_port()
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = (line for line in cluster[key] if "ray start" in line)
        # The autoscaler would reach for the machines of the example.
        start = start.replace("--autoscaling-config=~/ray_bootstrap_config.yaml", "--num-cpus=1")
        start = start.replace("6379", str(port))
        done = machine.run("bash", "-c", start, RAY_HEAD_IP="127.0.0.1")
        assert done.returncode == 0, done.stdout
    spec, store = write_spec(tmp_path, configs=2), tmp_path / "store"
    command = [".venv/bin/safesweep", "run", str(spec), "--address", "auto"]
    done = machine.run(*command, "--storage", str(store))
    assert done.returncode == 0, done.stdout
    require_complete(store)
    # Nobody without the token comes in.
    monkeypatch.setenv("HOME", str(tmp_path / "stranger"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Exception, match="asks for a token, and there is none"):
        find_cluster(f"127.0.0.1:{port}")


def test_ray_job(machine: Machine, tmp_path: Path) -> None:
    spec = content("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    # KubeRay gives every pod these, and makes the commands from the parameters.
    assert cluster["authOptions"] == {"mode": "token"}
    port = free_port()
    variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "made by KubeRay"}
    head = {**cluster["headGroupSpec"]["rayStartParams"], "include-dashboard": "false"}
    workers = {**cluster["workerGroupSpecs"][0]["rayStartParams"], "num-cpus": "1"}
    for first, given in (
        (["--head", f"--port={port}"], head),
        ([f"--address=127.0.0.1:{port}"], workers),
    ):
        options = [f"--{name}={value}" for name, value in given.items()]
        done = machine.run(".venv/bin/ray", "start", *first, *options, **variables)
        assert done.returncode == 0, done.stdout
    sweep, store = write_spec(tmp_path, configs=2), tmp_path / "store"
    entrypoint = spec["entrypoint"].replace("/sweep/sweep.yaml", str(sweep))
    entrypoint = entrypoint.replace("s3://bucket/store", str(store))
    variables |= {"RAY_ADDRESS": f"127.0.0.1:{port}", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"}
    done = machine.run("bash", "-c", entrypoint, **variables)
    assert done.returncode == 0, done.stdout
    require_complete(store)
