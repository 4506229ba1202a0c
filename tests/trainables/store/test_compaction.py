"""Compaction changes which files hold the rows, and nothing that a reader or a writer can see."""

import contextlib
import fcntl
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import pandas
import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store import compaction
from safesweep.trainables.store import writer as results
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.schema import SCHEMA_VERSION, TRIAL_TABLES, VERSION_KEY
from safesweep.trainables.store.writer import ResultWriter, compacted_trials, store_lock

EPISODES = 4
PATIENCE_SECONDS = 120.0


def write_trial(storage: Path, sweep: str, trial: str, runs: int = 2, **more: Any) -> None:
    """One trial whose runs have one evaluation and four episodes each."""
    names = [f"{trial}-{seed}" for seed in range(runs)]
    keys = {"algorithm": "flrp", "task": "OfflineBallRun-v0", "config_id": trial}
    ResultWriter(str(storage), sweep).write_trial(
        trial,
        [
            {
                **keys, "run_id": name, "trial_id": trial, "seed": seed, "status": "completed",
                "config": {"rate": 0.5}, **more,
            }
            for seed, name in enumerate(names)
        ],
        [
            {**keys, "run_id": name, "seed": seed, "step": 1, "episodes": EPISODES}
            for seed, name in enumerate(names)
        ],
        [
            {"run_id": name, "step": 1, "episode": number, "cost_return": 1.0}
            for name in names
            for number in range(EPISODES)
        ],
        [{"run_id": name, "step": 1, "name": "loss", "value": 0.5} for name in names],
    )  # fmt: skip


def contents(storage: Path) -> dict[str, pandas.DataFrame]:
    """Every table, in an order that does not depend on files."""
    store = ResultStore(storage)
    frames = {}
    for table in TRIAL_TABLES:
        frame = getattr(store, table)()
        order = [
            name for name in ("run_id", "step", "episode", "name", "config_id") if name in frame
        ]
        frames[table] = frame.sort_values(order).reset_index(drop=True)
    return frames


def parts(storage: Path, table: str, sweep: str = "first") -> list[str]:
    return sorted(path.name for path in (storage / table / f"sweep={sweep}").glob("*.parquet"))


def assert_same(one: dict[str, pandas.DataFrame], other: dict[str, pandas.DataFrame]) -> None:
    for table in TRIAL_TABLES:
        pandas.testing.assert_frame_equal(one[table], other[table])


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    for number in range(5):
        write_trial(tmp_path, "first", f"a{number}")
    write_trial(tmp_path, "second", "b0")
    write_trial(tmp_path, "second", "b1", config={"depth": 3})
    return tmp_path


def test_the_rows_stay_and_the_parts_become_one(storage: Path) -> None:
    before = contents(storage)
    done = compact(str(storage), grace_seconds=0)
    assert_same(contents(storage), before)
    assert {(entry.table, entry.sweep) for entry in done} == {
        (table, sweep) for table in TRIAL_TABLES for sweep in ("first", "second")
    }
    first = next(e for e in done if (e.table, e.sweep) == ("episodes", "first"))
    assert (first.parts_before, first.parts_after, first.rows) == (5, 1, 5 * 2 * EPISODES)
    for table in TRIAL_TABLES:
        (name,) = parts(storage, table)
        schema = pq.read_schema(storage / table / "sweep=first" / name)
        assert compacted_trials(schema) == [f"a{number}" for number in range(5)]
        assert schema.metadata[VERSION_KEY.encode()] == str(SCHEMA_VERSION).encode()
    assert compact(str(storage), grace_seconds=0) == []
    assert not list((storage / ".partial").glob("compaction-*"))


def test_a_plain_read_of_the_folders_sees_the_same(storage: Path) -> None:
    compact(str(storage), grace_seconds=0)
    runs = pandas.read_parquet(storage / "runs")
    assert sorted(runs["run_id"]) == sorted(
        f"{trial}-{seed}"
        for trial in ("a0", "a1", "a2", "a3", "a4", "b0", "b1")
        for seed in (0, 1)
    )  # fmt: skip
    found = duckdb.execute(
        f"SELECT count(*) FROM read_parquet('{storage}/episodes/**/*.parquet')"
    ).fetchall()
    assert found == [(7 * 2 * EPISODES,)]


def test_later_parts_join_what_was_merged_before(storage: Path) -> None:
    compact(str(storage), grace_seconds=0)
    write_trial(storage, "first", "a9", config={"kind": "flow"})
    before = contents(storage)
    assert len(parts(storage, "runs")) == 2
    done = compact(str(storage), "first", grace_seconds=0)
    assert {entry.sweep for entry in done} == {"first"}
    assert_same(contents(storage), before)
    assert len(parts(storage, "runs")) == 1
    assert contents(storage)["runs"]["hp_kind"].notna().sum() == 2


def test_large_parts_are_left_alone(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "SMALL_PART_BYTES", 10)
    assert compact(str(storage), grace_seconds=0) == []


def test_merged_parts_have_a_size(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(storage)
    size = (storage / "runs/sweep=first/a0.parquet").stat().st_size
    monkeypatch.setattr(compaction, "MERGED_PART_BYTES", 2 * size + size // 2)
    compact(str(storage), grace_seconds=0)
    assert len(parts(storage, "runs")) == 3
    assert_same(contents(storage), before)


@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_a_trial_with_an_unfinished_run_stays_as_it_is_and_can_be_replaced(
    storage: Path, status: str
) -> None:
    write_trial(storage, "first", "failed", status=status)
    compact(str(storage), grace_seconds=0)
    assert "failed.parquet" in parts(storage, "runs")
    assert "failed.parquet" in parts(storage, "evaluations")
    write_trial(storage, "first", "failed")
    runs = contents(storage)["runs"]
    assert len(runs) == 16
    assert set(runs["status"]) == {"completed"}


def test_a_compacted_trial_is_not_written_twice(storage: Path) -> None:
    """A worker that died between its rows and its report writes them again."""
    compact(str(storage), grace_seconds=0)
    before = contents(storage)
    assert ResultWriter(str(storage), "first").is_compacted("a3")
    assert not ResultWriter(str(storage), "second").is_compacted("a3")
    write_trial(storage, "first", "a3")
    assert_same(contents(storage), before)


def test_a_trial_whose_runs_are_not_compacted_is_compacted_nowhere(storage: Path) -> None:
    """Else a worker that writes it again would not know of its other rows."""
    compact(str(storage), grace_seconds=0)
    write_trial(storage, "first", "a9")
    merged = storage / "runs/sweep=first" / next(n for n in parts(storage, "runs") if "-" in n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "SMALL_PART_BYTES", merged.stat().st_size - 1)
        compact(str(storage), grace_seconds=0)
    assert "a9.parquet" in parts(storage, "runs")
    assert "a9.parquet" in parts(storage, "evaluations")


def test_what_comes_while_the_merge_is_written_is_kept(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compaction._write_merged

    def slow(table: str, *arguments: Any) -> int:
        rows = real(table, *arguments)
        if table == "episodes":
            write_trial(storage, "first", "new")
        return rows

    monkeypatch.setattr(compaction, "_write_merged", slow)
    compact(str(storage), grace_seconds=0)
    runs = contents(storage)["runs"]
    assert len(runs) == 16
    assert {"new.parquet"} <= set(parts(storage, "evaluations"))
    assert len(contents(storage)["episodes"]) == 16 * EPISODES


def test_a_part_that_was_replaced_while_it_was_merged_wins(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compaction._write_merged

    def slow(table: str, *arguments: Any) -> int:
        rows = real(table, *arguments)
        if table == "runs":
            write_trial(storage, "first", "a1", runs=3)
        return rows

    monkeypatch.setattr(compaction, "_write_merged", slow)
    done = compact(str(storage), "first", grace_seconds=0)
    assert done == []
    assert len(contents(storage)["runs"]) == 15
    assert len(contents(storage)["episodes"]) == 15 * EPISODES


def test_compactions_exclude_each_other(storage: Path) -> None:
    (storage / ".partial").mkdir(exist_ok=True)
    with (
        store_lock(storage / ".partial", fcntl.LOCK_EX),
        pytest.raises(InvalidInput, match="is being compacted by another process"),
    ):
        compact(str(storage), grace_seconds=0)


def test_a_file_system_that_cannot_exchange_folders_is_said(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(storage)

    def refuse(one: Path, other: Path) -> None:
        raise OSError(22, "renameat2")

    monkeypatch.setattr(compaction, "_exchange", refuse)
    with pytest.raises(InvalidInput, match="exchange two folders") as refusal:
        compact(str(storage), grace_seconds=0)
    assert "\n" not in str(refusal.value)
    assert_same(contents(storage), before)
    assert not list((storage / ".partial").glob("compaction-*"))


@pytest.mark.parametrize("place", ["nowhere", "s3://bucket/store"])
def test_only_a_local_store_can_be_compacted(tmp_path: Path, place: str) -> None:
    with pytest.raises(InvalidInput, match="storage: ") as refusal:
        compact(place if "://" in place else str(tmp_path / place))
    assert "\n" not in str(refusal.value)


def test_an_unknown_sweep_is_named_with_the_nearest(storage: Path) -> None:
    with pytest.raises(InvalidInput, match=r"sweep: 'frist' .*did you mean 'first'"):
        compact(str(storage), "frist")


# Processes: what is killed, and who reads meanwhile.


def compact_for_ever(storage: str, pause: float = 0.0) -> None:
    while True:
        compact(storage, grace_seconds=0.05)
        time.sleep(pause)


def write_for_ever(storage: str, sweep: str, pause: float = 0.0) -> None:
    for number in range(1_000_000):
        write_trial(Path(storage), sweep, f"{sweep}{number:06d}", runs=1 + number % 3)
        time.sleep(pause)


@contextlib.contextmanager
def processes(*jobs: tuple[Any, ...]) -> Iterator[list[Any]]:
    """Processes that end with the block."""
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=job[0], args=job[1:], daemon=True) for job in jobs]
    for process in started:
        process.start()
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()


def assert_consistent(store: ResultStore, least: int) -> int:
    """No run twice, none lost, and every run with all that belongs to it; returns the runs.

    `runs` is listed first, so that whatever it names has been written whole.
    """
    answer = store.sql(
        "SELECT count(*) AS runs, count(DISTINCT runs.run_id) AS distinct_runs, "
        "count(evaluations.run_id) AS evaluations, sum(episodes) AS episodes "
        "FROM runs LEFT JOIN evaluations USING (run_id)"
    ).iloc[0]
    assert answer["runs"] == answer["distinct_runs"] >= least
    assert answer["evaluations"] == answer["runs"]
    assert answer["episodes"] == EPISODES * answer["runs"]
    episodes = store.sql(
        "SELECT count(*) AS n, count(DISTINCT (run_id, episode)) AS different FROM episodes "
        "SEMI JOIN runs USING (run_id)"
    ).iloc[0]
    assert episodes["n"] == episodes["different"] >= EPISODES * answer["runs"]
    frame = store.runs()
    assert not frame["run_id"].duplicated().any()
    assert len(frame) >= answer["runs"]
    return int(answer["runs"])


def watch(storage: Path, seconds: float, least: int) -> int:
    """Read as fast as possible, for so long and until a part was merged and so many reads were
    made, however busy the machine is; how many reads."""
    began, reads, known = time.monotonic(), 0, 0
    while True:
        known = assert_consistent(ResultStore(storage), known)
        reads += 1
        took = time.monotonic() - began
        merged = any("compacted-" in name for name in parts(storage, "runs"))
        if took > seconds and ((reads >= least and merged) or took > seconds + PATIENCE_SECONDS):
            return reads


def disturb(storage: Path, pause: float, seconds: float, least: int) -> None:
    """Read while two sweeps write, with so many seconds between their trials, and one compacts, at
    half the rate."""
    with processes(
        (write_for_ever, str(storage), "first", pause),
        (write_for_ever, str(storage), "second", pause),
        (compact_for_ever, str(storage), 2 * pause),
    ) as started:
        assert watch(storage, seconds, least) >= least
        assert all(process.is_alive() for process in started)
    assert any("compacted-" in name for name in parts(storage, "runs"))


@pytest.mark.slow
def test_two_sweeps_write_one_compacts_and_every_read_is_consistent(storage: Path) -> None:
    # Paced, or a store of ever more trials is read on a processor that has ever less time for it.
    disturb(storage, pause=0.1, seconds=1, least=3)


@pytest.mark.slow
def test_two_sweeps_write_and_one_compacts_for_a_minute(storage: Path) -> None:
    disturb(storage, pause=0.0, seconds=60, least=6)


def test_a_plain_glob_sees_all_rows_or_has_to_look_again(storage: Path) -> None:
    """Without our reader: a row may not be found, which is an error then, but never twice."""

    def merge_new_parts() -> None:
        for number in range(4):
            for trial in range(3):
                write_trial(storage, "first", f"p{number}{trial}")
            compact(str(storage), grace_seconds=0.02)

    before = len(contents(storage)["runs"])
    worker = threading.Thread(target=merge_new_parts)
    worker.start()
    whole = 0
    while worker.is_alive():
        try:
            rows, runs = (
                duckdb.connect()
                .execute(
                    "SELECT count(*), count(DISTINCT run_id) "
                    f"FROM read_parquet('{storage}/evaluations/**/*.parquet', union_by_name = true)"
                )
                .fetchall()[0]
            )
        except duckdb.IOException:
            continue
        assert rows == runs >= before
        before, whole = runs, whole + 1
    worker.join()
    assert whole > 0
    assert before <= 14 + 4 * 3 * 2


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_compaction_killed_at_any_moment_loses_nothing(storage: Path, times: int) -> None:
    generator = random.Random(0)
    for number in range(times):
        for trial in range(3):
            write_trial(storage, "first", f"k{number}{trial}")
        before = contents(storage)
        with processes((compact, str(storage), None, 0.0)) as (process,):
            time.sleep(generator.uniform(0.0, 0.12))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        assert_same(contents(storage), before)
    compact(str(storage), grace_seconds=0)
    assert_same(contents(storage), before)
    assert not list((storage / ".partial").glob("compaction-*"))


def die_while_writing(storage: str, trial: str, file: int, share: float) -> None:
    """Write a trial, and die with a share of one of its files on the disk."""
    real, calls = os.fsync, []

    def die(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == file:
            os.truncate(descriptor, int(share * os.fstat(descriptor).st_size))
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    results.os.fsync = die  # type: ignore[assignment]
    write_trial(Path(storage), "first", trial)


# 1 is the probe of a writer that starts; then episodes, metrics, evaluations, runs.
@pytest.mark.parametrize(
    "deaths",
    [
        [(1, 1.0), (2, 0.3), (3, 0.3), (4, 0.3), (5, 0.3), (5, 1.0)],
        pytest.param(list(product((1, 2, 3, 4, 5), (0.0, 0.3, 0.99, 1.0))), marks=pytest.mark.slow),
    ],
    ids=("some", "many"),
)
def test_a_writer_killed_at_any_byte_leaves_a_store_that_reads_cleanly(
    storage: Path, deaths: list[tuple[int, float]], caplog: pytest.LogCaptureFixture
) -> None:
    known = assert_consistent(ResultStore(storage), 0)
    for file, share in deaths:
        trial = f"dying-{file}-{100 * share:.0f}"
        with processes((die_while_writing, str(storage), trial, file, share)) as (process,):
            process.join()
            assert process.exitcode == -signal.SIGKILL
        assert assert_consistent(ResultStore(storage), known) == known
        # Whoever tries again replaces what was left.
        write_trial(storage, "first", trial)
        known += 2
    assert assert_consistent(ResultStore(storage), known) == known
    assert caplog.messages == []


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_writers_killed_at_any_moment_leave_a_store_that_reads_cleanly(
    storage: Path, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    generator = random.Random(1)
    known = 0
    for number in range(times):
        with processes((write_for_ever, str(storage), f"w{number}")) as (process,):
            while not parts(storage, "runs", f"w{number}"):
                time.sleep(0.001)
            time.sleep(generator.uniform(0.0, 0.05))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        known = assert_consistent(ResultStore(storage), known + 1)
    assert caplog.messages == []


def test_a_damaged_part_is_left_as_it_is_and_named(
    write_sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for level in (0.6, 0.7, 0.8):
        write_sweep("first", [{"feasibility_expectile": level}])
    folder = tmp_path / "store/evaluations/sweep=first"
    parts = sorted(folder.glob("*.parquet"))
    content = bytearray(parts[0].read_bytes())
    content[4:400] = bytes(396)
    parts[0].write_bytes(content)
    compact(str(tmp_path / "store"), grace_seconds=0)
    assert parts[0].read_bytes() == content
    assert len(list(folder.glob("*.parquet"))) == 2
    assert any(str(parts[0]) in line for line in caplog.messages)
    assert len(ResultStore(tmp_path / "store").evaluations()) == 12
