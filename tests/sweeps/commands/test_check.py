import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.schema import TRIAL_TABLES
from tests import fixture_store
from tests.sweeps.test_repair import BOAT, SPEC, assert_restored

SWEEP = SweepSpec.from_mapping(SPEC)


@pytest.fixture(scope="module")
def datasets(boat_datasets: dict[str, Path]) -> dict[str, Dataset]:
    return {BOAT: read_dataset(boat_datasets[BOAT], BOAT)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, datasets: dict[str, Dataset]) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed") / "store"
    fixture_store.train_sweep(SWEEP, storage, datasets)
    return storage


@pytest.fixture
def storage(undisturbed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(undisturbed, tmp_path / "store"))


def _check(storage: Path, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", "--storage", str(storage), *words])
    sent = capfd.readouterr()
    return code, sent.out, sent.err


def _part(storage: Path, table: str) -> Path:
    return min((storage / table / "sweep=repaired").glob("*.parquet"))


def _checkpoint(storage: Path, table: str) -> Path:
    return min(storage.glob("checkpoints/*/latest.pt"))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {"flip": _flip, "cut": _cut, "emptied": _emptied}


def test_a_whole_store_has_nothing_wrong(
    storage: Path, full_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for store in (storage, full_store):
        code, out, said = _check(store, capfd)
        assert (code, out) == (0, "")
        assert "nothing is wrong" in said
    compact(str(storage), grace_seconds=0)
    assert _check(storage, capfd)[0] == 0


PLACES = (*TRIAL_TABLES, "sweeps", "checkpoints")


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        # Of each place one damage, the others are slow.
        pytest.param(table, damage, marks=() if (n + k) % len(DAMAGES) == 0 else pytest.mark.slow)
        for n, table in enumerate(PLACES)
        for k, damage in enumerate(DAMAGES)
    ],
)
def test_what_is_damaged_is_named_set_aside_and_made_again(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset], table: str, damage: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = _checkpoint(storage, table) if table == "checkpoints" else _part(storage, table)
    DAMAGES[damage](path)
    broken, place = path.read_bytes(), path.relative_to(storage).as_posix()
    code, out, said = _check(storage, capfd)
    assert code == 1
    assert any(line.startswith(f"{place}: ") for line in out.splitlines())
    assert "--repair sets aside" in said
    assert path.read_bytes() == broken

    code, _, said = _check(storage, capfd, "--repair")
    assert code == 1
    assert f"set aside {place}" in said
    (kept,) = (storage / "set-aside").glob(f"*/{place}")
    assert kept.read_bytes() == broken
    assert not path.exists()
    if table != "checkpoints":
        assert "makes what is missing of repaired" in said
    trained = fixture_store.train_sweep(SWEEP, storage, datasets)
    assert trained == (0 if table in ("sweeps", "checkpoints") else 1)
    assert_restored(storage, undisturbed)
    assert _check(storage, capfd)[0] == 0


def test_one_run_alone_sets_aside_what_it_makes_again(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset],
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Without `check`: the damaged part and the damaged checkpoint are kept, and said."""
    part, checkpoint = _part(storage, "metrics"), _checkpoint(storage, "")
    for path in (part, storage / "checkpoints" / part.stem / "latest.pt", checkpoint):
        _flip(path)
    fixture_store.train_sweep(SWEEP, storage, datasets)
    assert_restored(storage, undisturbed)
    kept = [path for path in (storage / "set-aside").rglob("*") if path.is_file()]
    assert part.name in {path.name for path in kept} and len(kept) >= 1
    assert any(part.name in line for line in caplog.messages if "set aside" in line)


@pytest.mark.parametrize(
    "table",
    [
        pytest.param(table, marks=() if table in ("runs", "episodes") else pytest.mark.slow)
        for table in TRIAL_TABLES
    ],
)
def test_a_damaged_compacted_part(
    storage: Path, undisturbed: Path, datasets: dict[str, Dataset], table: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    compact(str(storage), grace_seconds=0)
    _flip(_part(storage, table))
    code, out, _ = _check(storage, capfd, "--repair")
    assert code == 1 and _name_of(out, table)
    assert fixture_store.train_sweep(SWEEP, storage, datasets) == 2
    assert_restored(storage, undisturbed)
    assert _check(storage, capfd)[0] == 0


def _name_of(out: str, table: str) -> bool:
    return any(line.startswith(f"{table}/sweep=repaired/compacted-") for line in out.splitlines())


def test_runs_twice_and_rows_without_their_run(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for table in TRIAL_TABLES:
        for part in (storage / table / "sweep=repaired").glob("*.parquet"):
            other = storage / table / "sweep=twin" / part.name
            other.parent.mkdir(exist_ok=True)
            shutil.copy(part, other)
    _part(storage, "runs").unlink()
    code, out, _ = _check(storage, capfd, "--format", "json")
    assert code == 1
    problems = {row["place"]: row["problem"] for row in json.loads(out)}
    assert any("stand in another trial too" in problem for problem in problems.values())
    assert any("of which `runs` says nothing" in problem for problem in problems.values())
    assert _check(storage, capfd, "--repair")[0] == 1
    store = ResultStore(storage)
    assert len(store.runs()) == 4 and not store.runs()["run_id"].duplicated().any()
    assert store.doubled_runs().empty


def test_columns_and_rows_of_a_part_that_others_made(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    part = _part(storage, "episodes")
    rows = pq.ParquetFile(part).read()
    pq.write_table(rows.drop_columns(["cost_return"]), part)
    assert "lacks the columns cost_return" in _check(storage, capfd)[1]
    import pyarrow as pa

    pq.write_table(pa.concat_tables([rows, rows.slice(0, 2)]), part)
    assert "2 of its 10 rows stand there twice" in _check(storage, capfd)[1]


def test_a_store_that_is_used_is_not_repaired(
    storage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from safesweep.trainables.store.leases import Lease
    from safesweep.trainables.store.writer import ResultWriter

    _flip(_part(storage, "metrics"))
    lease = Lease(ResultWriter(str(storage), "repaired"))
    lease.acquire()
    try:
        code, _, said = _check(storage, capfd, "--repair")
    finally:
        lease.release()
    assert code == 2
    assert "is in use by process" in said
    assert not (storage / "set-aside").exists()


def test_no_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, said = _check(tmp_path / "none", capfd)
    assert code == 2
    assert "there is no result store" in said
