"""Workers that were killed for memory are told from others that were lost, and the driver lives."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import psutil
import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError

from safesweep import run_sweep
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.execution import lost_workers
from safesweep.sweeps.execution.lost_workers import LostWorkers, every_loss_told, kernel_kills
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.sweeps.drivers import local_session
from tests.sweeps.memory_group import memory_group

TASK = "BoatNavigation-v0"
DIED = (
    "The actor died unexpectedly before finishing this task.\n\tclass_name: Trainable\n"
    "\tpid: 17\n\tip: 10.0.0.7\nThe actor is dead because its worker process has died. Worker exit "
    "type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error code "
    "2. End of file. Some common causes include: (1) the process was killed by SIGKILL by OOM "
    "killer due to high memory usage (2) ray stop --force is called."
)


class Node:
    """What the node of a lost worker answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kills: int | None = 3
        self.output = ""
        monkeypatch.setattr(lost_workers, "on_node", lambda host, ask: self.kills)
        monkeypatch.setattr(lost_workers, "output_of_lost_worker", lambda whole: self.output)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def died(text: str = DIED) -> RayActorError:
    return RayActorError(error_msg=text)


def test_a_loss_is_for_memory_where_the_kernel_has_killed_since(node: Node) -> None:
    lost = LostWorkers()
    lost._note("10.0.0.7")
    assert lost.failure(died()).kind == "lost"
    node.kills = 4
    failure = lost.failure(died())
    assert (failure.kind, failure.traceback) == ("starved", DIED)
    assert "kernel" in failure.reason
    # One kill explains one loss.
    assert lost.failure(died()).kind == "lost"
    node.kills = 6
    assert [lost.failure(died()).kind for _ in range(3)] == ["starved", "starved", "lost"]


def test_a_node_that_nobody_looked_at_before_says_nothing(node: Node) -> None:
    lost = LostWorkers()
    assert lost.failure(died()).kind == "lost"
    node.kills = 4
    assert lost.failure(died()).kind == "starved"
    node.kills = None
    assert lost.failure(died()).kind == "lost"


@pytest.mark.parametrize(
    "text",
    [
        str(OutOfMemoryError("Task was killed due to the node running low on memory.")),
        "ActorDiedError: the worker was killed by the memory monitor",
        "OutOfMemoryError: 1 worker(s) were killed",
    ],
)
def test_rays_own_words_for_its_memory_monitor(node: Node, text: str) -> None:
    assert LostWorkers().failure(died(text)).kind == "starved"


def test_a_program_that_was_refused_memory_says_so_last(node: Node) -> None:
    node.output = "terminate called after throwing an instance of 'std::bad_alloc'"
    assert LostWorkers().failure(died()).kind == "memory"
    node.output = "Segmentation fault"
    assert LostWorkers().failure(died()).kind == "lost"


def test_the_kernel_counts_its_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_kills() is None or kernel_kills() == kernel_kills()
    monkeypatch.setattr(lost_workers, "VMSTAT", tmp_path / "vmstat")
    assert kernel_kills() is None
    (tmp_path / "vmstat").write_text("nr_free_pages 7\noom_kill 12\nswap_ra 0\n")
    assert kernel_kills() == 12
    (tmp_path / "vmstat").write_text("nr_free_pages 7\n")
    assert kernel_kills() is None


def test_tune_is_told_of_every_error_as_of_one_that_it_knows() -> None:
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.air.execution._internal.tracked_actor import TrackedActor
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask

    told: list[BaseException] = []
    before = RayActorManager._actor_task_failed
    with every_loss_told():
        manager = RayActorManager(resource_manager=MagicMock())
        for problem in (
            OutOfMemoryError("node running low on memory"),
            ActorDiedError(),
            RayTaskError("step", "trace", ValueError("bad")),
        ):
            actor = TrackedActor(7)
            manager._live_actors_to_ray_actors_resources[actor] = (MagicMock(), MagicMock())
            task = TrackedActorTask(actor, on_error=lambda _, error: told.append(error))
            manager._actor_task_failed(tracked_actor_task=task, exception=problem)
    assert RayActorManager._actor_task_failed is before
    assert [isinstance(error, RayActorError | RayTaskError) for error in told] == [True] * 3
    assert str(told[0]) == "OutOfMemoryError: node running low on memory"


def hungry_trainable(where: str, most: int, group: str | None) -> type[Any]:
    """The real one, which takes a gigabyte at a time with more than `most` runs: in `setup` or in
    `step`, within a limited group where one is given."""
    from safesweep.trainables.trainable import SafeRLTrainable

    class Hungry(SafeRLTrainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.hungry = len(config["seeds"]) > most
            self.eat("setup")
            super().setup(config)

        def step(self) -> dict[str, Any]:
            result = super().step()
            self.eat("step")
            return result

        def eat(self, now: str) -> None:
            import time
            from pathlib import Path

            import numpy as np

            if not self.hungry or now != where:
                return
            if group is not None:
                Path(group, "cgroup.procs").write_text(str(os.getpid()))
            taken = []
            for _ in range(30):
                taken.append(np.ones(2**26))
                time.sleep(0.3)

    return Hungry


def spec(folder: Path, seeds: Sequence[int] = (0, 1, 2, 3)) -> SweepSpec:
    dataset = folder / "boat.hdf5"
    collect_dataset(get_task(TASK), episodes=4, path=dataset)
    content = {
        "name": "example",
        "algorithm": "bc",
        "tasks": [TASK],
        "dataset": str(dataset),
        "seeds": list(seeds),
        "space": {"learning_rate": [0.001, 0.01]},
        "fixed": {"hidden_dim": 8, "batch_size": 16},
        "steps": 20,
        "evaluate": {"every": 10, "episodes": 2},
    }
    return SweepSpec.from_mapping(content)


@pytest.fixture
def group() -> Iterator[Path]:
    with memory_group(2**29) as folder:
        if folder is None:
            pytest.skip("only root can limit the memory of a process")
        yield folder


def require_halved(storage: Path) -> None:
    runs = ResultStore(storage).runs()
    assert runs["run_id"].is_unique and set(runs["status"]) == {"completed"} and len(runs) == 8
    assert set(runs["population"]) == {2} and set(runs["memory_splits"]) == {1}
    assert not list(storage.glob("heartbeats/*"))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("where", ["setup", "step"])
def test_the_kernel_kills_for_memory(where: str, group: Path, tmp_path: Path) -> None:
    before = kernel_kills()
    assert before is not None
    hungry = hungry_trainable(where, 2, str(group))
    with local_session(num_cpus=1):
        summary = run_sweep(spec(tmp_path), str(tmp_path / "store"), progress=False,
                            trainable=hungry)  # fmt: skip
    assert summary.completed == 8
    assert kernel_kills() == before + 2
    require_halved(tmp_path / "store")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("where", ["setup", "step"])
def test_rays_monitor_kills_for_memory(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = psutil.virtual_memory()
    # What Ray and the populations that fit take, and less than the one that does not.
    threshold = (memory.total - memory.available + 4 * 2**30) / memory.total
    if threshold > 0.9:
        pytest.skip("there is too little memory left to take some for nothing")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{threshold:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    hungry = hungry_trainable(where, 2, None)
    with local_session(num_cpus=1):
        summary = run_sweep(spec(tmp_path), str(tmp_path / "store"), progress=False,
                            trainable=hungry)  # fmt: skip
    assert summary.completed == 8
    require_halved(tmp_path / "store")


@pytest.mark.slow
@pytest.mark.ray
def test_a_single_run_that_is_always_killed_fails_and_says_why(group: Path, tmp_path: Path) -> None:
    # Before it has trained: what is killed after a checkpoint goes on from it, and comes to an end.
    hungry = hungry_trainable("setup", 0, str(group))
    wanted = spec(tmp_path, seeds=(0,))
    with local_session(num_cpus=1):
        summary = run_sweep(wanted, str(tmp_path / "store"), progress=False, trainable=hungry)
    assert summary.failed == 2
    errors = set(ResultStore(tmp_path / "store").runs()["error"])
    assert errors == {"its node ran out of memory, and the kernel killed its worker, 4 times"}
