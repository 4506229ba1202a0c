"""A store in an S3 bucket serves every command as a folder does."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.execution.ray_tune import ray_session
from safesweep.sweeps.planning import history
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.writer import ResultWriter, StoreProblem
from tests.sweeps.object_store import BUCKET, ObjectStore, object_store
from tests.sweeps.tiny_sweep import assert_same, files, train_here, write_spec


@pytest.fixture(scope="module")
def bucket() -> Iterator[ObjectStore]:
    with object_store() as server:
        yield server


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spec(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def session(bucket: ObjectStore) -> Iterator[None]:
    with ray_session():
        yield


@pytest.fixture(scope="module")
def local(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the sweep comes to in a folder."""
    storage = tmp_path_factory.mktemp("local") / "store"
    train_here(spec, storage)
    return str(storage)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.ray
def test_commands_on_a_bucket(
    session: None, local: str, spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"s3://{BUCKET}/some/store"
    assert main(["run", str(spec), "--storage", storage]) == 0
    assert_same(local, storage)
    names = files(storage)
    assert len([name for name in names if name.startswith("runs/")]) == 3
    assert not [name for name in names if name.startswith("heartbeats/")]

    in_bucket = ["--storage", storage]
    assert [row["completed"] for row in answer(capsys, "list", *in_bucket)] == [6]
    assert len(answer(capsys, "show", "example", *in_bucket)) == 6
    best = answer(capsys, "select", "--sweep", "example", "--rule", "min_cost", *in_bucket)
    assert best == answer(
        capsys, "select", "--sweep", "example", "--rule", "min_cost", "--storage", local
    )
    query = "SELECT count(*) AS n FROM episodes JOIN runs USING (run_id)"
    assert answer(capsys, "query", query, *in_bucket) == [{"n": 6 * 2 * 2}]
    assert main(["compact", *in_bucket]) == 2
    assert "cannot be compacted; it must be a folder" in capsys.readouterr().err
    with pytest.raises(InvalidInput):
        compact(storage)


@pytest.mark.slow
@pytest.mark.ray
def test_policies_in_a_bucket_are_confirmed_and_lost_trials_trained_again(
    session: None, local: str, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"s3://{BUCKET}/lost"
    assert main(["run", str(spec), "--storage", storage]) == 0
    copied = str(tmp_path / "copied")  # Of what the other test compares with.
    shutil.copytree(local, copied)
    confirm = ["confirm", "--sweep", "example", "--rule", "min_cost", "--episodes", "2"]
    confirmed = answer(capsys, *confirm, "--storage", storage)
    assert confirmed == answer(capsys, *confirm, "--storage", copied)

    writer = ResultWriter(storage, "example")
    trials = [name for name in files(storage) if name.startswith("runs/")]
    writer.remove_trials([min(trials).split("/")[-1].removesuffix(".parquet")])
    counts = answer(capsys, "run", str(spec), "--storage", storage)
    assert {row["status"]: row["runs"] for row in counts}["completed"] == 6
    assert_same(local, storage)


@pytest.mark.slow
@pytest.mark.ray
def test_a_server_that_goes_away_ends_the_sweep_which_then_resumes(
    bucket: ObjectStore,
    session: None,
    local: str,
    spec: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = f"s3://{BUCKET}/interrupted"
    read_trial = history.read_trial

    def then_stop(*arguments: Any) -> Any:
        found = read_trial(*arguments)
        bucket.stop()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(history, "read_trial", then_stop)
        capsys.readouterr()
        assert main(["run", str(spec), "--storage", storage]) == 2
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last.startswith(f"safesweep: storage: '{storage}' cannot be ")
    assert last.endswith("once it can, the same command resumes the sweep")
    assert "Traceback" not in captured.err and captured.out == ""
    with pytest.raises(StoreProblem, match="cannot be read"):
        ResultStore(storage)

    bucket.start()
    assert 1 <= len(ResultStore(storage).runs()) < 6
    assert set(ResultStore(storage).runs()["status"]) == {"completed"}
    assert main(["run", str(spec), "--storage", storage]) == 0
    assert_same(local, storage)


def test_credentials_in_the_address_serve_and_are_not_shown(bucket: ObjectStore) -> None:
    place = f"{BUCKET}/addressed?endpoint_override={bucket.endpoint.removeprefix('http://')}"
    storage = f"s3://key:secret@{place}&scheme=http"
    ResultWriter(storage, "example").write_bytes("checkpoints/t/latest.pt", b"state")
    assert files(f"s3://{BUCKET}/addressed") == ["checkpoints/t/latest.pt"]
    with pytest.raises(StoreProblem) as caught:
        ResultWriter(storage.replace(BUCKET, "no-such-bucket"), "example")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_part_that_vanishes_under_a_query_is_looked_for_again(
    bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"s3://{BUCKET}/vanishing"
    writer = ResultWriter(storage, "example")
    row = {"run_id": "a-0", "seed": 0, "status": "completed", "config": {}}
    for trial in ("one", "other"):
        writer.write_trial(trial, [{**row, "trial_id": trial}])
    store = ResultStore(storage)
    make = store._dataset

    def made_then_removed(table: str, parts: Any = None) -> Any:
        dataset = make(table, parts)
        writer.remove_trials(["other"])
        return dataset

    monkeypatch.setattr(store, "_dataset", made_then_removed)
    assert store.sql("SELECT trial_id FROM runs")["trial_id"].tolist() == ["one"]


def test_a_broken_part_is_left_out_and_a_store_that_is_gone_is_not(
    bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = f"s3://{BUCKET}/broken"
    writer = ResultWriter(storage, "example")
    writer.write_trial("t", [{"run_id": "a-0", "status": "completed", "config": {}}])
    writer.write_bytes("runs/sweep=example/cut.parquet", b"PAR1 and no more")
    assert ResultStore(storage).runs()["run_id"].tolist() == ["a-0"]
    assert "cut.parquet, not a whole part" in caplog.text
    store = ResultStore(storage)
    caplog.clear()
    bucket.stop()
    with pytest.raises(StoreProblem, match="cannot be read"):
        store.runs()
    bucket.start()
    assert "left out" not in caplog.text
    assert store.runs()["run_id"].tolist() == ["a-0"]
