"""Installing it as a reader would: by pip alone, and as the image of a cluster's pods."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.docs.blocks import ROOT, blocks

pytestmark = pytest.mark.slow
SHORT = ("-o", "steps=20", "-o", "seeds=1", "-o", "evaluate={episodes: 5}")
PIP = ["pip", "install", "."]
# The build that is here: the newest may bring gigabytes for GPUs.
TORCH = f"torch=={torch.__version__.split('+')[0]}"


def checkout(folder: Path, ignored: tuple[str, ...] = ()) -> Path:
    """A copy of what is tracked, as a clone has it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout: the repository's list of files is not known")
    for name in listed.stdout.splitlines():
        source, target = ROOT / name, folder / name
        if not os.path.lexists(source) or name.split("/")[0] in ignored:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return folder


class Environment:
    """A virtual environment of its own, of the Python that runs the tests."""

    def __init__(self, folder: Path) -> None:
        base = [sys.executable, "-c", "import sys; print(sys._base_executable)"]
        python = subprocess.run(base, capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self.variables = {
            **kept, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder),
        }  # fmt: skip

    def run(self, folder: Path, *words: str) -> str:
        """What a command prints in a folder, with the programs of this environment first."""
        done = subprocess.run(
            words, cwd=folder, env=self.variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The core, by the command of the documentation."""
    assert PIP in [words for block in blocks("sh") for words in block.commands]
    folder = tmp_path_factory.mktemp("clone")
    environment = Environment(folder / "environment")
    environment.run(folder, "pip", "install", "--quiet", TORCH)
    environment.run(checkout(folder / "clone"), *PIP)
    return environment


def test_it_is_a_copy_and_not_the_clone(installed: Environment, tmp_path: Path) -> None:
    found = installed.run(tmp_path, "python", "-c", "import safesweep; print(safesweep.__file__)")
    assert "site-packages" in found
    light = "import safesweep, sys; assert not {'fcntl', 'ray', 'torch'} & set(sys.modules)"
    installed.run(tmp_path, "python", "-c", light)
    without_locks = (
        "import sys; sys.modules['fcntl'] = None; from safesweep.sweeps.cli import build_parser; "
        "build_parser(); import safesweep.trainables.trainable, safesweep.analysis.store.reader"
    )
    installed.run(tmp_path, "python", "-c", without_locks)


@pytest.mark.ray
def test_a_sweep_of_the_core_from_another_folder(installed: Environment, tmp_path: Path) -> None:
    installed.run(tmp_path, "safesweep", "run", "demo", *SHORT)
    assert "flp" in installed.run(tmp_path, "safesweep", "select", "demo")
    count = "SELECT count(*) AS runs FROM finals"
    assert "3" in installed.run(tmp_path, "safesweep", "query", count, "--format", "csv")
    installed.run(tmp_path, "safesweep", "report", "demo", "--output", "demo.html")
    installed.run(tmp_path, "safesweep", "plot", "front", "demo", "--out", "front.png")
    assert (tmp_path / "demo.html").stat().st_size > 10_000


def test_what_needs_a_simulator_says_so(installed: Environment, tmp_path: Path) -> None:
    command = ["safesweep", "data", "collect", "OfflineBallRun-v0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=installed.variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "simulators" in done.stderr and "Traceback" not in done.stderr


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """What a Dockerfile says, an instruction and its words at a time."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            name, words = line.split(maxsplit=1)
            yield name, words


def test_the_image_of_the_ray_job(tmp_path: Path) -> None:
    """Each step of the Dockerfile, in an environment instead of Ray's image, which has Ray."""
    job = yaml.safe_load((ROOT / "sweeps" / "cluster" / "rayjob.yaml").read_text(encoding="utf-8"))
    steps = list(instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")))
    arguments = dict(words.split("=", 1) for name, words in steps if name == "ARG")
    ray = job["spec"]["rayClusterSpec"]["rayVersion"]
    assert arguments["BASE"] == f"rayproject/ray:{ray}-py311-gpu"
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the image has Python 3.11")

    environment = Environment(tmp_path / "environment")
    programs = tmp_path / "environment" / "bin"
    for name in ("sudo", "apt-get"):  # Of the image's system, which is not ours to change.
        (programs / name).write_text('#!/bin/sh\necho "$@" >> "$CALLS"\n')
        (programs / name).chmod(0o755)
    environment.variables |= {
        "CALLS": str(tmp_path / "calls"),
        "EXTRAS": arguments["EXTRAS"].strip('"'),
    }
    environment.run(tmp_path, "pip", "install", "--quiet", f"ray=={ray}", TORCH)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    home, here = tmp_path / "home", tmp_path
    home.mkdir()

    def placed(path: str) -> Path:
        return Path(path.replace("/home/ray", str(home)))

    for name, words in steps:
        if name == "WORKDIR":
            here = placed(words)
            here.mkdir(exist_ok=True)
        elif name == "COPY":
            assert words.split()[1:] == [".", "."]
            checkout(here, tuple(ignored))
        elif name == "RUN":
            environment.run(here, "bash", "-c", words.replace("/home/ray", str(home)))
        else:
            # A cache is of no use in an image, but here.
            assert name in ("ARG", "FROM") or words == "PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1", name
    assert "gcc" in (tmp_path / "calls").read_text()
    # Pods run the job's command in the image.
    environment.run(home, "safesweep", "data", "collect", "OfflineBallRun-v0", "--episodes", "2",
                    "--output", "ball.hdf5")  # fmt: skip
    assert job["spec"]["entrypoint"].split()[0] == "safesweep"
