"""Early stopping with the real trainable: what survives, what can be continued, and a kill."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas
import pytest

from safesweep import run_sweep
from safesweep.analysis.selection.choice import select
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.fixture_store import train_sweep
from tests.sweeps.drivers import local_session

SPEC = """
name: example
algorithm: bc
tasks: [BoatNavigation-v0]
dataset: {dataset}
seeds: [0, 1]
space: {{learning_rate: [1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5]}}
fixed: {{hidden_dim: 16, batch_size: 32}}
steps: {steps}
evaluate: {{every: {every}, episodes: 2}}
configs_per_trial: 3
early_stopping: {{method: halving, reduction: 2, min_steps: {every}}}
"""
TASK = "BoatNavigation-v0"
TIMEOUT_SECONDS = 400


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "boat.hdf5"
    collect_dataset(get_task(TASK), episodes=4, path=path)
    return path


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """A session of Ray with one CPU, for every sweep within."""
    with local_session(num_cpus=1):
        yield


def evaluations(store: Path) -> pandas.DataFrame:
    frame = ResultStore(store).evaluations().drop(columns=["act_latency_ms", "run_status"])
    return frame.set_index(["run_id", "step", "policy"]).select_dtypes("number").sort_index()


@pytest.mark.slow
@pytest.mark.ray
def test_survivors_score_as_in_a_sweep_without_it_and_the_rest_can_be_continued(
    one_cpu: None, tmp_path: Path, dataset: Path
) -> None:
    halved = SweepSpec.from_yaml(SPEC.format(dataset=dataset, steps=40, every=5))
    whole = SweepSpec.from_yaml(halved.to_yaml(), ["early_stopping=null"])
    full, stopped = tmp_path / "full", tmp_path / "stopped"
    data = {TASK: read_dataset(dataset, TASK)}
    assert train_sweep(whole, full, data, make_task=get_task) == 3
    # One CPU and three populations, all of which have to come to a rung.
    summary = run_sweep(halved, str(stopped), progress=False)
    assert (summary.completed, summary.stopped, summary.exit_code) == (2, 14, 0)
    runs = ResultStore(stopped).runs().set_index("run_id")
    assert sorted(runs["steps"]) == [5] * 8 + [10] * 4 + [20] * 2 + [40] * 2
    assert runs.loc[runs["steps"] == 10, "error"].str.contains("of 4 at step 10, where 2 w").all()
    assert not list(stopped.glob("heartbeats/*.json"))
    expected, found = evaluations(full), evaluations(stopped)
    assert len(found) == 8 + 4 * 2 + 2 * 4 + 2 * 8
    pandas.testing.assert_frame_equal(found, expected.loc[found.index], rtol=1e-3, atol=1e-5)
    chosen = select(ResultStore(stopped).evaluations(policy="bc")).iloc[0]
    assert chosen["candidates"] == 1 and chosen["step"] == 40
    assert "7 left out: stopped early" in chosen["reason"]
    # The same sweep again does nothing; without early stopping it goes on where it was.
    again = run_sweep(halved, str(stopped), progress=False)
    assert (again.skipped, again.trials) == (16, 0)
    continued = run_sweep(whole, str(stopped), progress=False)
    assert (continued.completed, continued.stopped, continued.skipped) == (16, 0, 2)
    runs = ResultStore(stopped).runs()
    assert runs["run_id"].is_unique and len(runs) == 16
    pandas.testing.assert_frame_equal(evaluations(stopped), expected, rtol=1e-3, atol=1e-5)


def start(spec: Path, store: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "safesweep", "run", str(spec), "--storage", str(store)]
    return subprocess.Popen(
        [*command, "--num-cpus", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(condition: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    try:
        while not condition():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=TIMEOUT_SECONDS)


def waiting(store: Path) -> int:
    """Trials that have come to a rung; each of these files is written whole."""
    if not store.is_dir():
        return 0
    return sum(bool(beat["waiting"]) for beat in ResultStore(store).heartbeats())


def stopped_parts(store: Path) -> int:
    return len(list(store.glob("runs/*/*.parquet")))


def decisions(store: Path) -> list[pandas.DataFrame]:
    """Everything that must not depend on when and where the runs were trained."""
    results = ResultStore(store)
    columns = ["run_id", "trial_id", "status", "steps", "error", "population"]
    frames = [
        results.runs()[columns],
        results.evaluations().drop(columns="act_latency_ms"),
        results.episodes(),
        results.metrics(),
    ]
    ordered = []
    for frame in frames:
        keys = ("run_id", "step", "policy", "name", "episode")
        order = [name for name in keys if name in frame]
        ordered.append(frame.sort_values(order, ignore_index=True))
    return ordered


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_that_is_killed_at_its_rungs_decides_as_an_undisturbed_one(
    tmp_path: Path, dataset: Path
) -> None:
    spec = tmp_path / "sweep.yaml"
    spec.write_text(SPEC.format(dataset=dataset, steps=640, every=80))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    driver = start(spec, undisturbed)
    _, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 0, error
    # Some of the populations wait at the first rung; some have been divided by it; later on.
    for reached in (
        lambda: waiting(disturbed) >= 2,
        lambda: stopped_parts(disturbed) >= 1,
        lambda: stopped_parts(disturbed) >= 4,
    ):
        driver = start(spec, disturbed)
        kill_when(reached, driver)
    assert not (ResultStore(disturbed).runs()["status"] == "completed").any()
    driver = start(spec, disturbed)
    _, error = driver.communicate(timeout=TIMEOUT_SECONDS)
    assert driver.returncode == 0, error
    for one, other in zip(decisions(undisturbed), decisions(disturbed), strict=True):
        pandas.testing.assert_frame_equal(one, other, check_exact=True)
    assert not list(disturbed.glob("heartbeats/*.json"))
