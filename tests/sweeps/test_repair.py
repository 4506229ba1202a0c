"""What was cut or lost is there again after the same command, as if nothing had happened."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.schema import TRIAL_TABLES
from tests import fixture_store
from tests.sweeps import drivers, tiny_sweep

BOAT = fixture_store.TASKS[0]
CLOCK = ["train_seconds", "evaluate_seconds", "started_at", "finished_at", "act_latency_ms"]
SPEC = {
    "name": "repaired",
    "algorithm": "bc",
    "tasks": [BOAT],
    "seeds": [0, 1],
    "space": {"learning_rate": [0.001, 0.0003]},
    "fixed": fixture_store.SMALL,
    "steps": 4,
    "evaluate": {"every": 2, "episodes": 2},
    "cost_limit": 10,
}


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 700)


DAMAGES: dict[str, Callable[[Path], None]] = {"deleted": Path.unlink, "cut": _cut}


@pytest.fixture(scope="module")
def datasets(boat_datasets: dict[str, Path]) -> dict[str, Dataset]:
    return {BOAT: read_dataset(boat_datasets[BOAT], BOAT)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, datasets: dict[str, Dataset]) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed") / "store"
    assert fixture_store.train_sweep(SweepSpec.from_mapping(SPEC), storage, datasets) == 2
    return storage


@pytest.fixture
def storage(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "store"))


def tables(storage: Path) -> dict[str, pandas.DataFrame]:
    """Every row of every table, without what a clock says, in one order."""
    store = ResultStore(storage)
    frames = {}
    for table in TRIAL_TABLES:
        frame = getattr(store, table)().drop(columns=CLOCK, errors="ignore")
        frames[table] = frame.sort_values(
            [name for name in ("run_id", "config_id", "step", "policy", "name", "episode")
             if name in frame],
            ignore_index=True,
        )  # fmt: skip
    return frames


def assert_restored(storage: Path, undisturbed: Path) -> None:
    wanted = tables(undisturbed)
    for table, frame in tables(storage).items():
        pandas.testing.assert_frame_equal(frame, wanted[table], check_exact=True)
    assert ResultStore(storage).incomplete(thorough=True).empty


def part(storage: Path, table: str) -> Path:
    return min((storage / table / "sweep=repaired").glob("*.parquet"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("table", [*TRIAL_TABLES, "sweeps"])
def test_one_part(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset], table: str, damage: str
) -> None:
    DAMAGES[damage](part(storage, table))
    trained = fixture_store.train_sweep(SweepSpec.from_mapping(SPEC), storage, datasets)
    assert trained == (0 if table == "sweeps" else 1)
    assert_restored(storage, undisturbed)
    assert len(ResultStore(storage).sweeps()) == 1


@pytest.mark.parametrize("table", TRIAL_TABLES)
def test_one_compacted_part(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset], table: str
) -> None:
    compact(str(storage), grace_seconds=0)
    for number, damage in enumerate(DAMAGES.values(), start=1):
        broken = part(storage, table)
        assert broken.name.startswith("compacted-") == (number == 1)
        damage(broken)
        trained = fixture_store.train_sweep(SweepSpec.from_mapping(SPEC), storage, datasets)
        assert trained == (2 if number == 1 else 1)
        assert_restored(storage, undisturbed)


@pytest.mark.parametrize("table", ["runs", "metrics"])
@pytest.mark.parametrize("checkpoint", [b"", b"not a checkpoint", None])
def test_without_a_checkpoint_it_is_trained_anew(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset], table: str,
    checkpoint: bytes | None,
) -> None:  # fmt: skip
    for path in (storage / "checkpoints").glob("*/latest.pt"):
        if checkpoint is None:
            path.unlink()
        else:
            path.write_bytes(checkpoint)
    part(storage, table).unlink()
    assert fixture_store.train_sweep(SweepSpec.from_mapping(SPEC), storage, datasets) == 1
    assert_restored(storage, undisturbed)


def test_a_lost_row_of_runs_leaves_no_rows_twice(
    storage: Path, datasets: dict[str, Dataset]
) -> None:
    """With another seed the runs that lost their rows are trained in another population."""
    part(storage, "runs").unlink()
    more = SweepSpec.from_mapping({**SPEC, "seeds": [0, 1, 2]})
    assert fixture_store.train_sweep(more, storage, datasets) == 2
    store = ResultStore(storage)
    assert len(store.runs()) == 6
    assert len(store.evaluations()) == 12
    assert not store.episodes().duplicated(["run_id", "step", "policy", "episode"]).any()


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_sweep_that_lost_parts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The driver is killed in the middle, then a part of each table is lost or cut."""
    file = tiny_sweep.write_spec(tmp_path, configs=4, steps=20)
    whole, disturbed = (tmp_path / name for name in ("whole", "disturbed"))
    tiny_sweep.train_here(file, whole)
    words = ["run", str(file), "--num-cpus", "1", "--storage", str(disturbed)]

    def parts(table: str = "runs") -> list[Path]:
        return sorted(disturbed.glob(f"{table}/*/*.parquet"))

    def said(*asked: str) -> str:
        assert main([*asked, "--storage", str(disturbed)]) == 0
        return capfd.readouterr().out

    driver = drivers.start(words)
    drivers.wait_until(lambda: len(parts()) >= 2, driver, 400)
    assert json.loads(said("list", "--format", "json"))[0]["status"] == "running"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert json.loads(said("list", "--format", "json"))[0]["status"] == "dead"
    assert said("show", "example").startswith("example: dead, created")
    for number, table in enumerate(TRIAL_TABLES):
        list(DAMAGES.values())[number % 2](parts(table)[number % 2])
    driver = drivers.start(words)
    _, complaints = driver.communicate(timeout=400)
    assert driver.returncode == 0, complaints
    tiny_sweep.assert_same(str(disturbed), str(whole))
    assert ResultStore(disturbed).incomplete(thorough=True).empty
