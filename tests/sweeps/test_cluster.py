"""Several nodes on this machine: fractions of a GPU, where trials go, and nodes that die."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray.cluster_utils import Cluster

from safesweep import run_sweep
from safesweep.sweeps.execution import ray_tune as launch
from tests.sweeps.tiny_sweep import assert_same, files, write_spec

MEMORY = 80 * 2**20


def start_cluster(nodes: int = 3, **resources: float) -> Cluster:
    """So many nodes; the driver and the first of them share a node of their own without CPUs."""
    os.environ.update(launch.RAY_ENVIRONMENT)
    options = {"object_store_memory": MEMORY, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True, head_node_args={**options, "num_cpus": 0, "num_gpus": 0}
    )
    for _ in range(nodes):
        cluster.add_node(object_store_memory=MEMORY, **resources)
    cluster.wait_for_nodes()
    return cluster


@pytest.fixture
def cluster_with_gpus() -> Iterator[Cluster]:
    cluster = start_cluster(num_cpus=6, num_gpus=1)
    yield cluster
    cluster.shutdown()


def counting_trainable() -> type[Any]:
    """A trainable that notes how many of its kind are alive on its node at a time."""
    from ray import tune

    class Counting(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.plan = config

        def step(self) -> dict[str, Any]:
            import time
            from pathlib import Path

            import ray

            from safesweep.trainables.store.writer import ResultWriter

            plan = self.plan
            node = Path(plan["storage"], "nodes", ray.get_runtime_context().get_node_id())
            for name in ("alive", "started", "seen"):
                (node / name).mkdir(parents=True, exist_ok=True)
            trial = plan["trial_id"]
            (node / "alive" / trial).touch()
            (node / "started" / trial).touch()
            deadline = time.monotonic() + 200
            full = False
            # Nobody leaves before the node is as full as it will be, and a fifth had time to come.
            while not full and time.monotonic() < deadline:
                alive = len(list((node / "alive").iterdir()))
                (node / "seen" / str(alive)).touch()
                full = len(list((node / "started").iterdir())) >= 4
                time.sleep(0.2)
            time.sleep(3)
            alive = len(list((node / "alive").iterdir()))
            (node / "seen" / str(alive)).touch()
            (node / "alive" / trial).unlink()
            keys = {"algorithm": plan["algorithm"], "task": plan["task"], "status": "completed"}
            rows = [
                {**keys, "run_id": run, "config_id": run.rsplit("-", 1)[0], "trial_id": trial,
                 "seed": seed, "config": config}
                for run, seed, config in zip(
                    plan["run_ids"], plan["seeds"], plan["configs"], strict=True
                )
            ]  # fmt: skip
            ResultWriter(plan["storage"], plan["sweep"]).write_trial(trial, rows)
            return {"step": plan["steps"], "done": True}

    return Counting


@pytest.mark.slow
@pytest.mark.ray
def test_a_quarter_of_a_gpu_is_four_trials_at_a_time_on_each_node_and_never_five(
    cluster_with_gpus: Cluster, tmp_path: Path
) -> None:
    storage = tmp_path / "store"
    content = {
        "name": "example",
        "algorithm": "bc",
        "tasks": ["BoatNavigation-v0"],
        "dataset": str(write_spec(tmp_path).with_name("boat.hdf5")),
        "seeds": [0],
        "space": {"learning_rate": [round(0.001 + 0.0001 * n, 6) for n in range(14)]},
        "steps": 1,
        "resources": {"cpu": 1, "gpu": 0.25},
    }
    summary = run_sweep(
        content,
        str(storage),
        cluster_with_gpus.address,
        progress=False,
        trainable=counting_trainable(),
    )
    assert summary.completed == 14
    nodes = list((storage / "nodes").iterdir())
    assert len(nodes) == 3
    for node in nodes:
        assert max(int(path.name) for path in (node / "seen").iterdir()) == 4


class Chaos:
    """Kills workers, nodes and the driver of a sweep, at random, with SIGKILL."""

    def __init__(self, cluster: Cluster, command: list[str], wanted: int, seed: int) -> None:
        self.cluster, self.command, self.wanted = cluster, command, wanted
        self.random = random.Random(seed)
        self.killed = {"worker": 0, "raylet": 0, "driver": 0}
        self.codes: list[int] = []
        self.driver = self.start_driver()

    def start_driver(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    @property
    def kills(self) -> int:
        return sum(self.killed.values())

    def workers(self) -> list[psutil.Process]:
        """Worker processes that train."""
        found = []
        for node in self.cluster.worker_nodes:
            for process in node.all_processes["raylet"]:
                try:
                    children = psutil.Process(process.process.pid).children()
                    found += [c for c in children if "Trainable" in " ".join(c.cmdline())]
                except psutil.NoSuchProcess:
                    continue
        return found

    def run(self) -> None:
        """Kill until it is enough; run the sweep again whenever its driver has ended."""
        deadline = time.monotonic() + 3600
        while True:
            assert time.monotonic() < deadline, (self.killed, self.codes)
            if self.driver.poll() is not None:
                _, error = self.driver.communicate()
                assert "Traceback" not in error, error
                self.codes.append(self.driver.returncode)
                if self.codes[-1] == 0:
                    assert self.kills >= self.wanted, f"the sweep was done after {self.killed}"
                    return
                self.driver = self.start_driver()
            if self.kills < self.wanted:
                self.kill_something()
            time.sleep(self.random.uniform(0.2, 2.0))

    def kill_something(self) -> None:
        workers = self.workers()
        if not workers:
            return
        never = [name for name, count in self.killed.items() if not count]
        often = self.random.choices(list(self.killed), [0.7, 0.15, 0.15])[0]
        victim = self.random.choice(never) if never else often
        if victim == "worker":
            self.random.choice(workers).kill()
        elif victim == "driver":
            self.driver.send_signal(signal.SIGKILL)
        else:
            node = self.random.choice(list(self.cluster.worker_nodes))
            self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        self.killed[victim] += 1


@pytest.fixture
def small_cluster() -> Iterator[Cluster]:
    cluster = start_cluster(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize(
    ("configs", "steps", "kills"),
    [(3, 1000, 3), (12, 2000, 20)],
)
def test_a_sweep_survives_kills(
    small_cluster: Cluster, tmp_path: Path, configs: int, steps: int, kills: int
) -> None:
    spec = write_spec(tmp_path, configs=configs, steps=steps, every=steps // 20)
    undisturbed, disturbed = str(tmp_path / "undisturbed"), str(tmp_path / "disturbed")
    command = [sys.executable, "-m", "safesweep", "run", str(spec), "--storage"]
    cluster = ["--address", small_cluster.address]
    done = subprocess.run(
        [*command, undisturbed, *cluster], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    chaos = Chaos(small_cluster, [*command, disturbed, *cluster], kills, seed=0)
    try:
        chaos.run()
    finally:
        chaos.driver.kill()
    assert chaos.kills >= kills and min(chaos.killed.values()) >= 1, chaos.killed
    # Nothing is lost, nothing doubled, nothing left behind.
    assert_same(undisturbed, disturbed)
    left = [name for name in files(disturbed) if name.startswith((".partial/", "heartbeats/"))]
    assert left == []
    assert [name for name in files(disturbed) if name.endswith(".parquet")] == [
        name for name in files(undisturbed) if name.endswith(".parquet")
    ]
