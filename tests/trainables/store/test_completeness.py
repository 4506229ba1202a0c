"""What was cut or lost is noticed, whichever table it is of."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.planning.history import StoreHistory, read_store
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.schema import COUNT_COLUMNS, TRIAL_TABLES
from tests.quick import slow_but

Damage = Callable[[Path], None]


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _lose_a_row(path: Path) -> None:
    part = pq.read_table(path)
    pq.write_table(part.slice(1), path)


def _corrupt(path: Path) -> None:
    """Other bytes in the middle, as many as before."""
    content = bytearray(path.read_bytes())
    content[8 : len(content) // 2] = b"\xff" * (len(content) // 2 - 8)
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Damage] = {"deleted": Path.unlink, "cut": _cut, "a row less": _lose_a_row}


@pytest.fixture
def storage(write_sweep, tmp_path: Path) -> Path:
    for rate in (0.6, 0.9):
        write_sweep(
            "first",
            [{"feasibility_expectile": rate, "kind": "flow"}],
            metrics=lambda config, seed: {"loss/q": 1.0},
        )
    write_sweep("second", [{"feasibility_expectile": 0.7}])
    return tmp_path / "store"


def _part(storage: Path, table: str) -> Path:
    return min((storage / table / "sweep=first").glob("*.parquet"))


def test_nothing_is_missing(storage: Path) -> None:
    for thorough in (False, True):
        assert ResultStore(storage).incomplete(thorough).empty
    compact(str(storage), grace_seconds=0)
    for thorough in (False, True):
        assert ResultStore(storage).incomplete(thorough).empty


@pytest.mark.parametrize(
    ("table", "damage", "compacted"),
    [
        # Of each table one damage as written and another compacted, the others are slow.
        pytest.param(
            table, damage, compacted,
            marks=() if (n + k + compacted) % len(DAMAGES) == 0 else pytest.mark.slow,
        )
        for n, table in enumerate(COUNT_COLUMNS)
        for k, damage in enumerate(DAMAGES)
        for compacted in (False, True)
    ],
)  # fmt: skip
def test_lost_rows_are_noticed(storage: Path, table: str, damage: str, compacted: bool) -> None:
    if compacted:
        compact(str(storage), grace_seconds=0)
    DAMAGES[damage](_part(storage, table))
    lacking = ResultStore(storage).incomplete()
    assert set(lacking["sweep"]) == {"first"}
    if damage == "a row less" and table != "hyperparameters":
        assert len(lacking) == 1
    else:
        assert len(lacking) >= 3
    assert lacking["lacks"].unique().tolist() == [f"rows of {table} are missing"]
    # A run's trial is trained or written again as a whole.
    outcomes, _ = read_store(StoreHistory(str(storage)), None)
    unfinished = {run for run, outcome in outcomes.items() if not outcome.finished}
    assert unfinished >= set(lacking["run_id"])
    assert len(unfinished) in (3, 6)


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("table", COUNT_COLUMNS)
def test_bytes_that_changed_are_noticed_before_a_run(
    storage: Path, table: str, compacted: bool
) -> None:
    if compacted:
        compact(str(storage), grace_seconds=0)
    _corrupt(_part(storage, table))
    lacking = ResultStore(storage).incomplete(thorough=True)
    assert len(lacking) == (6 if compacted else 3)


def test_a_part_that_was_written_anew_with_the_same_rows_is_whole(storage: Path) -> None:
    path = _part(storage, "episodes")
    pq.write_table(pq.read_table(path), path, compression="none")
    for thorough in (False, True):
        assert ResultStore(storage).incomplete(thorough).empty


@pytest.mark.parametrize("table", slow_but(("runs", "episodes"), TRIAL_TABLES))
def test_commands_say_what_is_missing(
    storage: Path, table: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _part(storage, table).unlink()

    def printed(*words: str) -> tuple[list[dict[str, object]], str]:
        assert main([*words, "--format", "json", "--storage", str(storage)]) == 0
        sent = capfd.readouterr()
        return json.loads(sent.out), sent.err

    rows, said = printed("list")
    (first,) = [row for row in rows if row["sweep"] == "first"]
    # The plan in the store is that of the last trial.
    assert first["runs"] == 3
    lost = set(ResultStore(storage).incomplete()["run_id"])
    _, about = printed("select", "--sweep", "second")
    assert "left out" not in about
    everything, about = printed("select")
    assert "they are left out" in about
    (row,) = [row for row in everything if row["task"] == "OfflineBallRun-v0"]
    if table in ("runs", "evaluations", "episodes", "metrics"):
        assert "1 left out: lost a seed" in str(row["reason"])
    if table != "runs":
        assert f"rows of {table} are missing for 3 of its runs" in said
        runs, _ = printed("show", "first")
        assert {row["status"] for row in runs if row["run_id"] in lost} <= {"incomplete"}
    assert main(["report", "first", "--storage", str(storage), "--output", str(storage / "p")]) == 0


def test_a_plan_that_was_lost_is_said(storage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(storage / "sweeps" / "sweep=first")
    assert main(["list", "--storage", str(storage)]) == 0
    sent = capfd.readouterr()
    assert "first: its plan is missing" in sent.err
    assert "unplanned" in sent.out


def test_failed_runs_and_imports_lack_nothing(full_store: Path) -> None:
    assert ResultStore(full_store).incomplete(thorough=True).empty


def test_looking_is_cheap(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is amiss, no part but those of runs is opened."""
    opened: list[str] = []
    monkeypatch.setattr(ResultStore, "_rows_of", lambda self, part: opened.append(part.path) or 0)
    assert ResultStore(storage).incomplete().empty
    assert not opened


def test_runs_that_are_gone_are_no_frame_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    empty = ResultStore(tmp_path / "store").incomplete()
    assert empty.empty
    assert isinstance(empty, pandas.DataFrame)
    assert {"run_id", "sweep", "compacted", "lacks"} <= set(empty)
