"""Parts appear whole or not at all, and any reader of Parquet understands them."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet as pq
import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.schema import SCHEMA_VERSION, TABLES
from safesweep.trainables.store.writer import (
    ResultWriter,
    StoreProblem,
    open_file_system,
    seals_of,
    storage_location,
    store_problems,
)


def run_row(run: str, **config: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    filled: dict[str, Any] = {
        name: {"string": "x", "int64": 1, "float64": 0.5}.get(kind, now)
        for name, kind in TABLES["runs"].items()
    }
    return {**filled, "run_id": run, "error": None, "config": config}


def test_a_plain_read_of_the_folders_shows_every_row_and_column(tmp_path: Path) -> None:
    ResultWriter(str(tmp_path), "first").write_trial("t1", [run_row("a", steps=3, rate=0.5)])
    ResultWriter(str(tmp_path), "second").write_trial(
        "t2", [run_row("b", steps=4, kind="flow", frozen=True)]
    )
    runs = pandas.read_parquet(tmp_path / "runs").set_index("run_id")
    assert list(runs.index) == ["a", "b"]
    assert list(runs["sweep"].astype(str)) == ["first", "second"]
    assert list(runs["hyperparameter_count"]) == [2, 3]
    values = pandas.read_parquet(tmp_path / "hyperparameters")
    numbers = values[values["text"].isna()]
    assert {(row["name"], row["number"]) for row in numbers.to_dict("records")} == {
        ("steps", 3.0), ("rate", 0.5), ("steps", 4.0), ("frozen", 1.0),
    }  # fmt: skip
    texts = values[values["number"].isna()]
    assert texts[["name", "text"]].to_numpy().tolist() == [["kind", "flow"]]
    schemas = {
        path.name: pq.read_schema(path).remove_metadata()
        for path in (tmp_path / "runs").rglob("*.parquet")
    }
    assert schemas["t1.parquet"] == schemas["t2.parquet"]
    part = pq.read_schema(tmp_path / "runs" / "sweep=second" / "t2.parquet")
    assert part.metadata[b"safesweep.schema_version"] == str(SCHEMA_VERSION).encode()


def test_writing_a_trial_again_replaces_it(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    writer.write_trial("t", [run_row("a")], metrics=[metric("a", 1.0), metric("a", 2.0)])
    writer.write_trial("t", [run_row("a")], metrics=[metric("a", 3.0)])
    assert len(pandas.read_parquet(tmp_path / "runs")) == 1
    assert list(pandas.read_parquet(tmp_path / "metrics")["value"]) == [3.0]
    writer.write_trial("t", [run_row("a")])
    assert not list((tmp_path / "metrics").rglob("*.parquet"))


def metric(run: str, value: float) -> dict[str, Any]:
    return {"run_id": run, "step": 1, "name": "loss", "value": value}


def test_a_write_that_fails_leaves_the_old_part_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    writer.write_bytes("checkpoints/t/latest.pt", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safesweep.trainables.store.writer.os.fsync", full)
    with pytest.raises(StoreProblem, match=r"storage: .* cannot be written .*No space") as caught:
        writer.write_bytes("checkpoints/t/latest.pt", b"new")
    assert "\n" not in str(caught.value)
    assert writer.read_bytes("checkpoints/t/latest.pt") == b"old"
    assert not list((tmp_path / ".partial").iterdir())


def test_removing_trials_takes_every_part(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    for trial, run in (("t1", "a"), ("t2", "b")):
        writer.write_trial(trial, [run_row(run)], metrics=[metric(run, 1.0)])
        writer.write_bytes(f"checkpoints/{trial}/latest.pt", b"state")
        writer.write_bytes(f"heartbeats/{trial}.json", b"{}")
    writer.remove_trials(["t1"])
    assert list(pandas.read_parquet(tmp_path / "runs")["run_id"]) == ["b"]
    left = sorted(path.stem for path in tmp_path.rglob("*.parquet"))
    assert left == ["t2", "t2"]
    assert writer.read_bytes("checkpoints/t1/latest.pt") is None
    assert writer.read_bytes("checkpoints/t2/latest.pt") == b"state"


def test_removing_runs_keeps_the_rows_of_the_others(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    writer.write_trial("t1", [run_row("a"), run_row("b", rate=0.5)], metrics=[metric("b", 1.0)])
    writer.remove_runs("t1", ["b", "c"])
    runs = pandas.read_parquet(tmp_path / "runs")
    assert list(runs["run_id"]) == ["a"]
    assert "metrics" not in seals_of(pq.read_schema(tmp_path / "runs/sweep=sweep/t1.parquet"))
    assert not list(tmp_path.glob("metrics/*/*.parquet"))
    writer.remove_runs("t1", ["a"])
    assert not list(tmp_path.glob("runs/*/*.parquet"))
    writer.remove_runs("t1", ["a"])


def test_the_sweeps_row_names_its_runs(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    writer.write_sweep("name: sweep\n", ["a"], "running")
    writer.write_sweep("name: sweep\n", ["a", "b"], "completed")
    row = pandas.read_parquet(tmp_path / "sweeps").iloc[0]
    assert list(row["run_ids"]) == ["a", "b"]
    assert row["status"] == "completed"


@pytest.mark.parametrize("place", ["file/store", "nowhere://bucket/x"])
def test_a_store_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    storage = place if "://" in place else str(tmp_path / place)
    with pytest.raises(StoreProblem) as caught:
        ResultWriter(storage, "sweep")
    assert storage in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_a_stores_address_is_not_shown() -> None:
    storage = "s3://key:secret@bucket/store"
    with pytest.raises(StoreProblem) as caught, store_problems(storage, "read"):
        raise OSError(f"no answer from {storage}\nat all")
    assert str(caught.value) == (
        "storage: 's3://bucket/store' cannot be read (no answer from s3://bucket/store)"
    )


def test_what_killed_writers_had_begun_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    (tmp_path / ".partial" / "left-behind").write_bytes(b"half")
    (tmp_path / ".partial" / "compaction-1").mkdir()
    fsync = os.fsync
    cleaning = threading.Thread(target=writer.remove_partial)

    def while_another_cleans(descriptor: int) -> None:
        cleaning.start()
        cleaning.join(0.2)
        assert cleaning.is_alive()
        fsync(descriptor)

    monkeypatch.setattr("safesweep.trainables.store.writer.os.fsync", while_another_cleans)
    writer.write_bytes("checkpoints/t/latest.pt", b"state")
    cleaning.join()
    assert writer.read_bytes("checkpoints/t/latest.pt") == b"state"
    assert [path.name for path in (tmp_path / ".partial").iterdir()] == ["compaction-1"]


@pytest.mark.parametrize("place", ["", "/", "///", "?scheme=http", "KEY:SECRET@", "KEY:SECRET@/x"])
@pytest.mark.parametrize("scheme", ["s3", "gs", "gcs"])
def test_a_location_without_a_bucket_is_refused_before_anybody_is_asked(
    scheme: str, place: str
) -> None:
    with pytest.raises(InvalidInput, match=f"'{scheme}://' names no bucket") as refusal:
        storage_location(f"{scheme}://{place}")
    assert "SECRET" not in str(refusal.value)
    whole = f"{scheme}://KEY:SECRET@bucket/x?a=b"
    assert storage_location(whole) == whole


def test_a_bucket_that_cannot_be_reached_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    class FileSystem:
        @staticmethod
        def from_uri(location: str) -> tuple[None, str]:
            asked.append(location)
            return None, ""

    monkeypatch.setattr("safesweep.trainables.store.writer.fs.FileSystem", FileSystem)
    for location in ("gs://bucket/x", "gs://bucket/x?a=b", "gs://b?retry_limit_seconds=5", "/x"):
        open_file_system(location)
    assert asked == [
        "gs://bucket/x?retry_limit_seconds=60", "gs://bucket/x?a=b&retry_limit_seconds=60",
        "gs://b?retry_limit_seconds=5", "/x",
    ]  # fmt: skip
