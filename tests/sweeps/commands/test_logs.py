"""`safesweep logs`: what a store keeps of a run that failed."""

import io
import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.sweeps.cli import main
from safesweep.trainables.store.writer import ResultWriter, log_path
from tests.sweeps.object_store import BUCKET, object_store

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1, in step\nValueError: bad'


def write_runs(storage: str) -> None:
    """Two failed runs of one trial whose output was kept, and one that completed."""
    keys = {"algorithm": "bc", "task": "BallRun", "config_id": "c", "config": {}, "steps": 0}
    failed = {"status": "failed", "error": "ValueError: bad", "traceback": TRACEBACK}
    writer = ResultWriter(storage, "first")
    runs: list[dict[str, Any]] = [
        {**keys, **failed, "run_id": f"abc{seed}", "trial_id": "one", "seed": seed}
        for seed in (0, 1)
    ]
    writer.write_trial("one", runs)
    writer.write_bytes(
        log_path("one"), "[standard error]\n\x1b[31mred\x1b[0m \xff".encode("latin-1")
    )
    done = {**keys, "run_id": "abc", "trial_id": "two", "seed": 2, "status": "completed"}
    writer.write_trial("two", [done])
    writer.write_sweep("name: first", ["abc0", "abc1", "abc"], "failed")
    other = ResultWriter(storage, "second")
    other.write_trial("three", [{**keys, **failed, "run_id": "d0", "trial_id": "three", "seed": 0}])
    other.write_sweep("name: second", ["d0", "abc1"], "failed")


@pytest.fixture
def storage(tmp_path: Path) -> str:
    write_runs(str(tmp_path / "store"))
    return str(tmp_path / "store")


def test_a_person_reads_all_of_it_and_no_escape_reaches_the_terminal(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "abc1", "--storage", storage]) == 0
    text = capsys.readouterr().out
    assert text.startswith("run abc1: failed\nbc on BallRun, seed 1; sweep first, trial one\n")
    assert "error: ValueError: bad" in text
    assert TRACEBACK in text
    assert "last output of its worker:\n[standard error]\n\ufffd[31mred\ufffd[0m" in text
    assert "\x1b" not in text


def test_a_program_reads_one_object(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "d", "--storage", storage, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run_id"] == "d0"
    assert (found["error"], found["traceback"]) == ("ValueError: bad", TRACEBACK)
    assert found["output"] is None
    assert main(["logs", "abc0", "--storage", storage, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"].startswith("[standard error]")


def test_other_formats_are_tables_of_one_row(
    storage: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = ["logs", "abc1", "--storage", storage, "--format"]
    for name, read in (("csv", pandas.read_csv), ("parquet", pandas.read_parquet)):
        assert main([*arguments, name]) == 0
        table = read(io.BytesIO(capfdbinary.readouterr().out))  # type: ignore[operator]
        assert list(table["run_id"]) == ["abc1"]
        assert table["traceback"][0] == TRACEBACK


def test_a_whole_id_is_no_beginning_and_a_completed_run_has_nothing_to_show(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "abc", "--storage", storage]) == 0
    text = capsys.readouterr().out
    assert "run abc: completed" in text
    assert "error: none" in text
    assert "traceback: none was kept" in text
    assert "last output of its worker: none was kept" in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ab"], "run: 'ab' is the beginning of 3 runs (abc, abc0, abc1)"),
        (["x"], "run: no run of the store at '{storage}' that has ended begins with 'x'"),
        ([""], "run: no run of the store at '{storage}' that has ended begins with ''"),
        (["abc0", "--sweep", "second"],
         "run: no run of sweep 'second' that has ended begins with 'abc0'"),
        (["abc0", "--sweep", "secnd"], "sweep: "),
        (["abc0", "--format", "yaml"], "--format: 'yaml' is not one of table, csv, json, parquet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    storage: str, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", *arguments, "--storage", storage]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("safesweep: " + line.format(storage=storage))
    assert captured.err.count("\n") == 1


def test_a_store_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "abc", "--storage", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("safesweep: storage: there is no result store")


def test_a_bucket_keeps_logs_too(capsys: pytest.CaptureFixture[str]) -> None:
    with object_store():
        storage = f"s3://{BUCKET}/some/store"
        write_runs(storage)
        assert main(["logs", "abc1", "--storage", storage, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["output"].startswith("[standard error]")
        assert main(["logs", "d0", "--storage", storage, "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["output"] is None
