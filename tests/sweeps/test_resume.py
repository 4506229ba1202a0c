"""A sweep of the real trainable that is interrupted, killed and resumed, as a user would see it."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.sweeps import drivers

SPEC = """
name: example
algorithm: bc
tasks: [BoatNavigation-v0]
dataset: {dataset}
seeds: [0, 1]
space: {{learning_rate: [1e-4, 3e-4, 1e-3, 3e-3]}}
fixed: {{hidden_dim: 16, batch_size: 32}}
steps: 800
evaluate: {{every: 100, episodes: 2}}
"""
TIMEOUT_SECONDS = 400


def start(spec: Path, store: Path) -> "subprocess.Popen[str]":
    words = ["run", str(spec), "--storage", str(store), "--num-cpus", "1"]
    return drivers.start(words)


def wait_until(condition: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    drivers.wait_until(condition, driver, TIMEOUT_SECONDS)


def parts(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.glob("runs/*/*.parquet")}


def working(store: Path) -> int:
    """Trials that have a checkpoint and no rows yet."""
    return len(
        {path.parent.name for path in store.glob("checkpoints/*/latest.pt")}
        - {name.removesuffix(".parquet") for name in parts(store)}
    )


def tables(store: Path) -> list[pandas.DataFrame]:
    """Everything that must not depend on when and where the runs were trained."""
    results = ResultStore(store)
    return [
        results.runs()[["run_id", "config_id", "trial_id", "seed", "status", "steps", "config"]],
        results.evaluations().drop(columns="act_latency_ms"),
        results.episodes(),
        results.metrics(),
    ]


@pytest.mark.ray
def test_a_scheduler_stops_it_as_cleanly_as_its_user(tmp_path: Path) -> None:
    dataset, spec, store = tmp_path / "boat.hdf5", tmp_path / "sweep.yaml", tmp_path / "store"
    collect_dataset(get_task("BoatNavigation-v0"), episodes=4, path=dataset)
    spec.write_text(SPEC.format(dataset=dataset))
    driver = start(spec, store)
    wait_until(lambda: working(store) == 1, driver)
    driver.send_signal(signal.SIGTERM)
    _, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 143, error
    last_line = error.strip().splitlines()[-1]
    assert last_line == "safesweep: interrupted; the same command resumes the sweep"
    assert "SIGTERM" not in error and "Traceback" not in error
    assert ResultStore(store).sweeps().iloc[0]["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.ray
def test_an_interrupted_and_killed_sweep_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    dataset, spec = tmp_path / "boat.hdf5", tmp_path / "sweep.yaml"
    collect_dataset(get_task("BoatNavigation-v0"), episodes=4, path=dataset)
    spec.write_text(SPEC.format(dataset=dataset))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"

    driver = start(spec, undisturbed)
    out, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 0, error
    assert "Traceback" not in error and "completed" in out

    driver = start(spec, disturbed)
    wait_until(lambda: len(parts(disturbed)) == 1 and working(disturbed) == 1, driver)
    driver.send_signal(signal.SIGINT)
    _, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 130
    last_line = error.strip().splitlines()[-1]
    assert last_line == "safesweep: interrupted; the same command resumes the sweep"
    assert "Traceback" not in error
    assert ResultStore(disturbed).sweeps().iloc[0]["status"] == "interrupted"

    driver = start(spec, disturbed)
    wait_until(lambda: len(parts(disturbed)) == 2 and working(disturbed) == 1, driver)
    driver.kill()
    driver.communicate(timeout=TIMEOUT_SECONDS)
    finished = parts(disturbed)
    assert 1 <= len(finished) < 4

    driver = start(spec, disturbed)
    _, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 0, error
    # Only what was missing was run again.
    assert {name: parts(disturbed)[name] for name in finished} == finished
    assert len(parts(disturbed)) == 4
    assert ResultStore(disturbed).runs()["run_id"].is_unique
    for one, other in zip(tables(undisturbed), tables(disturbed), strict=True):
        order = [name for name in ("run_id", "step", "policy", "name", "episode") if name in one]
        pandas.testing.assert_frame_equal(
            one.sort_values(order, ignore_index=True),
            other.sort_values(order, ignore_index=True),
            check_exact=True,
        )
    assert not list(disturbed.glob("heartbeats/*")) and not list(disturbed.glob(".partial/*"))


@pytest.mark.slow
@pytest.mark.ray
def test_two_drivers_share_a_sweep_and_one_that_was_killed_blocks_nobody(tmp_path: Path) -> None:
    dataset, spec, store = tmp_path / "boat.hdf5", tmp_path / "sweep.yaml", tmp_path / "store"
    collect_dataset(get_task("BoatNavigation-v0"), episodes=4, path=dataset)
    spec.write_text(SPEC.format(dataset=dataset).replace("steps: 800", "steps: 300"))
    first = start(spec, store)
    wait_until(lambda: working(store) == 1, first)
    second = start(spec, store)
    wait_until(lambda: len(list(store.glob("leases/*.json"))) == 2, second)
    first.kill()
    first.communicate(timeout=TIMEOUT_SECONDS)
    assert list(ResultStore(store).drivers())
    _, error = second.communicate(timeout=TIMEOUT_SECONDS)
    assert second.returncode == 0, error
    runs = ResultStore(store).runs()
    assert runs["run_id"].is_unique
    assert set(runs["status"]) == {"completed"}
    assert not list(store.glob("leases/*.json")) and not list(store.glob("heartbeats/*.json"))
