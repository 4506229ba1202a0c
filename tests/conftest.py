"""Synthetic result stores, written as the workers write them."""

import os
import re
import shutil
import tempfile
from importlib.util import find_spec

# The tests' networks are too small to share: one thread each, before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers would give way to every other test: Ray makes them nice.
os.environ.setdefault("RAY_worker_niceness", "0")

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
import torch
from filelock import FileLock

from safesweep.trainables.store.identity import config_id, run_id, trial_id
from safesweep.trainables.store.writer import ResultWriter
from tests import fixture_store

_REASONS = {"diverged": "loss is not finite", "stopped": "rank 2 of 2 at step 1000"}

WriteSweep = Callable[..., list[str]]


IN_MEMORY = Path("/dev/shm")
MEMORY_BYTES = 8 * 2**30
"""What must be free in memory for the tests' files to lie there; those of all take about 1 GiB."""
_FILES = pytest.StashKey[Path]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the tests' files in memory where it has room: they are tens of thousands, each written
    to the disk before it counts, and a disk would take most of the tests' time."""
    if "TMPDIR" in os.environ or not IN_MEMORY.is_dir():
        return
    free = min(shutil.disk_usage(IN_MEMORY).free, psutil.virtual_memory().available)
    if free < MEMORY_BYTES:
        return
    for left in IN_MEMORY.glob("safesweep-tests-*"):  # by tests that failed
        if not psutil.pid_exists(int(left.name.split("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"safesweep-tests-{os.getpid()}-", dir=IN_MEMORY)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.stash[_FILES] = Path(folder)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the tests' files from memory, unless some test failed."""
    folder = session.config.stash.get(_FILES, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


# Before xdist looks at the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file stay in one process, which sets up what they share once. Those that start
    Ray begin first and stay in two processes: they mostly wait, and the others have all the rest
    (`--dist loadgroup --no-loadscope-reorder`)."""
    starts_ray = [item for item in items if item.get_closest_marker("ray") is not None]
    sizes, ray_group = dict.fromkeys(("ray-1", "ray-2"), 0), {}
    quick = (item for item in starts_ray if item.get_closest_marker("slow") is None)
    counts = Counter(_file_of(item) for item in quick)
    counts.update(dict.fromkeys(map(_file_of, starts_ray), 0))
    for file, count in counts.most_common():
        ray_group[file] = min(sizes, key=sizes.__getitem__)
        sizes[ray_group[file]] += count
    for item in items:
        started = item.get_closest_marker("ray") is not None
        group = ray_group[_file_of(item)] if started else _file_of(item)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)


WITHOUT_SIMULATORS = find_spec("bullet_safety_gym") is None
"""Whether this is the core alone, without the extra `simulators`."""
_NEEDS_A_SIMULATOR = re.compile(
    r"needs the simulator [\w-]+, which is not installed"
    r"|No module named '(?:bullet_safety_gym|dsrl|mujoco|pybullet|safety_gymnasium)"
    r"|MuJoCo is not installed|mujoco is not installed"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A test that fails because a simulator is not installed is skipped, and says which."""
    report = yield
    if WITHOUT_SIMULATORS and report.failed:
        found = _NEEDS_A_SIMULATOR.search(f"{report.longrepr}{report.caplog}{report.capstderr}")
        if found is not None:
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, (line or 0) + 1, f"Skipped: {found.group()}")
    return report


def _file_of(item: pytest.Item) -> str:
    return item.nodeid.split("::")[0]


# How many examples a property is tried on. Deadlines would measure the machine.
# The quick one tries the same ones every time: what fails was changed.
hypothesis.settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.register_profile("thorough", max_examples=200, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def _scores(config: Mapping[str, Any], seed: int, step: int) -> tuple[float, list[float]]:
    """A mean reward return and episode costs: higher tau_h, more of both."""
    level = float(config["feasibility_expectile"])
    return 100 * level + seed, [20 * (level - 0.5) + episode for episode in (0.0, 1.0, 2.0, 3.0)]


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all processes of a test run share, filled by the first that asks for it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(folder.with_suffix(".lock")):
        made = folder.with_suffix(".made")
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def boat_datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small dataset of each of the two boats, by task."""
    folder = made_once(tmp_path_factory, "boats", fixture_store.make_datasets)
    return fixture_store.dataset_paths(folder)


@pytest.fixture(scope="session")
def full_store(tmp_path_factory: pytest.TempPathFactory, boat_datasets: dict[str, Path]) -> Path:
    """A store of everything that a store may hold (`tests.fixture_store`); not to be changed."""
    return made_once(
        tmp_path_factory, "full", lambda folder: fixture_store.make_store(folder, boat_datasets)
    )


@pytest.fixture
def store_copy(full_store: Path, tmp_path: Path) -> Path:
    """A copy of `full_store` to be changed."""
    return Path(shutil.copytree(full_store, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def same_draws_every_time() -> None:
    """What a test draws without a generator of its own is the same in every run of it."""
    torch.manual_seed(0)


@pytest.fixture
def write_sweep(tmp_path: Path) -> WriteSweep:
    """A function that writes one sweep to `tmp_path / "store"` and returns its run ids."""

    def write(
        sweep: str = "first",
        configs: Sequence[Mapping[str, Any]] = ({"feasibility_expectile": 0.9},),
        task: str = "OfflineBallRun-v0",
        algorithm: str = "flrp",
        seeds: Sequence[int] = (0, 1, 2),
        steps: Sequence[int] = (1000, 2000),
        cost_limit: float = 10.0,
        scores: Callable[[Mapping[str, Any], int, int], tuple[float, list[float]]] = _scores,
        metrics: Callable[[Mapping[str, Any], int], Mapping[str, float]] | None = None,
        statuses: Mapping[int, str] | None = None,
        errors: Mapping[int, str] | None = None,
        also: Sequence[str] = (),
        storage: Path | None = None,
    ) -> list[str]:
        writer = ResultWriter(str(storage or tmp_path / "store"), sweep)
        runs: list[dict[str, Any]] = []
        evaluations: list[dict[str, Any]] = []
        episodes: list[dict[str, Any]] = []
        values: list[dict[str, Any]] = []
        for config in configs:
            identity = config_id(algorithm, config, task, "data", steps[-1])
            for seed in seeds:
                run = run_id(identity, seed)
                keys = {"run_id": run, "config_id": identity, "algorithm": algorithm}
                keys |= {"task": task, "seed": seed}
                status = (statuses or {}).get(seed, "completed")
                moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
                runs.append(
                    {
                        **keys,
                        "status": status,
                        "steps": steps[0] if status == "stopped" else steps[-1],
                        "train_seconds": 60.0,
                        "evaluate_seconds": 6.0,
                        "device": "cpu",
                        "population": len(configs) * len(seeds),
                        "dataset_id": "data",
                        "code_version": "0",
                        "started_at": moment,
                        "finished_at": moment,
                        "error": (errors or {}).get(seed, _REASONS.get(status)),
                        "config": dict(config),
                    }
                )
                for name, value in (metrics(config, seed) if metrics else {}).items():
                    values.append({"run_id": run, "step": steps[-1], "name": name, "value": value})
                evaluated = {"completed": steps, "stopped": steps[:1]}.get(status, ())
                for step in evaluated:
                    reward, costs = scores(config, seed, step)
                    mean = sum(costs) / len(costs)
                    evaluations.append(
                        {
                            **keys,
                            "step": step,
                            "policy": algorithm,
                            "reward_return_mean": reward,
                            "cost_return_mean": mean,
                            "normalized_reward": reward / 100,
                            "normalized_cost": mean / cost_limit,
                            "cost_limit": cost_limit,
                            "violation_rate": sum(c > cost_limit for c in costs) / len(costs),
                            "zero_cost_rate": sum(c == 0 for c in costs) / len(costs),
                            "episode_length_mean": 100.0,
                            "episodes": len(costs),
                            "act_latency_ms": 1.0,
                            "run_status": status,
                        }
                    )
                    for number, cost in enumerate(costs):
                        episodes.append(
                            {
                                "run_id": run,
                                "step": step,
                                "policy": algorithm,
                                "episode": number,
                                "reward_return": reward,
                                "cost_return": cost,
                                "length": 100,
                            }
                        )
        run_ids = [row["run_id"] for row in runs]
        trial = trial_id(run_ids)
        for row in runs:
            row["trial_id"] = trial
        writer.write_trial(trial, runs, evaluations, episodes, values)
        spec = f"name: {sweep}\nalgorithm: {algorithm}\ntasks: [{task}]\nsteps: {steps[-1]}\n"
        writer.write_sweep(spec, [*run_ids, *also], "completed")
        return run_ids

    return write
