"""What tools show of a run is what the store holds, while it trains and exported afterwards."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.sweeps.cli import main
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.loggers.csv_files import OBSERVERS as CSV_OBSERVERS
from safesweep.trainables.loggers.csv_files import CsvLog
from safesweep.trainables.loggers.run_log import (
    FOLDER_VARIABLE,
    LoggedRun,
    LoggingObserver,
    values_by_step,
)
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training.observers import ObservedTrial, TrialRows
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.conftest import WriteSweep

RUN = LoggedRun("abc-0", "first", "bc", "Task", 0, {"hidden_dim": 8})


def stored_values(store: ResultStore, run_id: str) -> dict[int, dict[str, float]]:
    """What the store holds of a run, by step and name."""
    return values_by_step(
        store.evaluations(run_id=run_id).to_dict("records"),  # type: ignore[arg-type]
        store.metrics(run_id=run_id).to_dict("records"),  # type: ignore[arg-type]
    )


@pytest.fixture
def store(write_sweep: WriteSweep, tmp_path: Path) -> ResultStore:
    write_sweep(
        "first",
        [{"feasibility_expectile": level} for level in (0.6, 0.9)],
        seeds=(0, 1),
        statuses={1: "failed"},
        metrics=lambda config, seed: {"loss/policy": config["feasibility_expectile"] / 3},
    )
    return ResultStore(tmp_path / "store")


def exported(store: ResultStore, tool: str, folder: Path) -> Path:
    command = ["export", "first", "--to", tool, "--out", str(folder), "--storage", store.uri]
    assert main(command) == 0
    return folder


def test_numbers_by_step_and_name() -> None:
    evaluations = [
        {"step": 20, "policy": "bc", "normalized_reward": 0.5, "normalized_cost": float("nan")},
        {"step": 10, "policy": "bc", "normalized_reward": 0.25, "episodes": 4},
    ]
    metrics = [{"step": 10, "name": "loss", "value": 2.0}, {"step": 5, "name": "a", "value": None}]
    assert values_by_step(evaluations, metrics) == {
        10: {"evaluation/bc/normalized_reward": 0.25, "evaluation/bc/episodes": 4.0,
             "metrics/loss": 2.0},
        20: {"evaluation/bc/normalized_reward": 0.5},
    }  # fmt: skip


def csv_values(folder: Path) -> dict[int, dict[str, float]]:
    with (folder / "progress.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        int(row.pop("step")): {name: float(text) for name, text in row.items() if text != ""}
        for row in rows
    }


def test_csv_holds_what_the_store_holds(store: ResultStore, tmp_path: Path) -> None:
    folder = exported(store, "csv", tmp_path / "csv")
    runs = store.runs()
    assert sorted(path.name for path in folder.iterdir()) == sorted(runs["run_id"])
    for row in runs.to_dict("records"):
        own = folder / row["run_id"]
        about = json.loads((own / "config.json").read_text())
        assert about["config"] == json.loads(row["config"]) and about["status"] == row["status"]
        if row["status"] == "completed":
            assert csv_values(own) == stored_values(store, row["run_id"])


def test_tensorboard_reads_what_the_store_holds(store: ResultStore, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard, whose reader is asked, is not installed",
    )
    folder = exported(store, "tensorboard", tmp_path / "events")
    run_ids = store.runs(status="completed")["run_id"]
    assert len(run_ids) == 2
    for run_id in run_ids:
        events = reader.EventAccumulator(str(folder / run_id)).Reload()
        wanted = stored_values(store, run_id)
        names = {name for values in wanted.values() for name in values}
        assert set(events.Tags()["scalars"]) == names
        for name in names:
            found = {event.step: event.value for event in events.Scalars(name)}
            # Event files keep scalars in single precision.
            assert found == {
                step: float(np.float32(values[name]))
                for step, values in wanted.items()
                if name in values
            }


def test_mlflow_reads_what_the_store_holds(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from safesweep.trainables.loggers.mlflow import RUN_TAG, metric_name, tracking_uri

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = exported(store, "mlflow", Path("mlflow"))
    client = mlflow.MlflowClient(tracking_uri=tracking_uri(folder))
    experiment = client.get_experiment_by_name("first")
    found = {run.data.tags[RUN_TAG]: run for run in client.search_runs([experiment.experiment_id])}
    runs = store.runs().set_index("run_id")
    assert set(found) == set(runs.index)
    for run_id, run in found.items():
        status = runs.loc[run_id, "status"]
        assert run.info.status == ("FINISHED" if status == "completed" else "FAILED")
        config = json.loads(str(runs.loc[run_id, "config"]))
        assert run.data.params["feasibility_expectile"] == str(config["feasibility_expectile"])
        for step, values in stored_values(store, run_id).items():
            for name, value in values.items():
                history = client.get_metric_history(run.info.run_id, metric_name(name))
                assert {entry.step: entry.value for entry in history}[step] == value


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format after a header of seven bytes, with
    blocks of 32 KiB, and before each piece a checksum, its length and whether more follow."""
    place, pieces = 7, b""
    while place + 7 <= len(content):
        if (left := 2**15 - place % 2**15) < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        pieces += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield pieces
            pieces = b""


def test_wandb_folders_are_whole(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = exported(store, "wandb", tmp_path / "wandb")
    run_ids = set(store.runs()["run_id"])
    files = {path.stem.removeprefix("run-"): path for path in folder.rglob("run-*.wandb")}
    assert set(files) == run_ids
    for run_id, path in files.items():
        found: dict[int, dict[str, float]] = {}
        ended = False
        for content in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            ended |= record.HasField("exit")
            items = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json)
                     for item in record.history.item}  # fmt: skip
            if items:
                step = int(items["_step"])
                found[step] = {k: v for k, v in items.items() if not k.startswith("_")}
        assert ended and found == stored_values(store, run_id)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["frist", "--to", "csv"], "first"),
        (["first", "--to", "excel"], "tensorboard"),
        (["first", "--to", "csv", "--out", "."], "not empty"),
        (["first"], "--to"),
    ],
)
def test_bad_input_is_one_line(
    store: ResultStore,
    words: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words, "--storage", store.uri]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1


def trial(step: int) -> ObservedTrial:
    return ObservedTrial(
        "t", "first", None, "bc", "Task", ["a-0", "a-1"], ["a", "a"], [0, 1],
        [{"hidden_dim": 8}, {"hidden_dim": 8}], step, 20,
    )  # fmt: skip


def rows(step: int, **more: Any) -> TrialRows:
    evaluations = [
        {"run_id": f"a-{seed}", "step": step, "policy": "bc", "normalized_reward": step + seed}
        for seed in (0, 1)
    ]
    return TrialRows(evaluations=evaluations, **more)


def test_a_run_is_logged_while_it_trains_and_gone_on_with_after_its_worker_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    kind: type[LoggingObserver] = CSV_OBSERVERS["csv"]
    first = kind(None)
    first.on_start(trial(0))
    first.on_evaluation(trial(5), rows(5))
    name = "evaluation/bc/normalized_reward"
    assert csv_values(tmp_path / "csv" / "a-1") == {5: {name: 6.0}}
    second = kind(None)
    second.on_start(trial(5))
    second.on_evaluation(trial(10), rows(10))
    second.on_end(trial(10), rows(10, runs=[{"run_id": "a-1", "status": "stopped"}]))
    assert csv_values(tmp_path / "csv" / "a-1") == {5: {name: 6.0}, 10: {name: 11.0}}
    about = json.loads((tmp_path / "csv" / "a-1" / "config.json").read_text())
    assert about["status"] == "stopped" and about["seed"] == 1
    # A trial that starts over from an earlier evaluation replaces what came after it.
    again = CsvLog(RUN, tmp_path, resumed=True)
    for step in (5, 10, 5):
        again.record(step, {"x": step})
    assert csv_values(tmp_path / "abc-0") == {5: {"x": 5.0}}


def test_what_is_logged_while_a_trial_trains_is_what_it_stores(
    boat_datasets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    task = get_task("BoatNavigation-v0")
    config = BehaviorCloningConfig.resolve({"hidden_dim": 8, "batch_size": 16})
    request = TrialRequest("bc", task.name, [config.to_dict()] * 2, [0, 1], 8, 4, 2)
    writer = ResultWriter(str(tmp_path / "store"), "first")
    with plugins_forgotten_after():
        load_plugin("safesweep.trainables.loggers.csv_files")
        trained = Trial(request, task, read_dataset(boat_datasets[task.name], task), writer)
        while not trained.done:
            trained.advance()
        assert trained.observers.problems == []
    store = ResultStore(tmp_path / "store")
    for run_id in trained.run_ids:
        found = csv_values(tmp_path / "store" / "logged" / "csv" / run_id)
        assert sorted(found) == [4, 8] and found == stored_values(store, run_id)


def test_without_a_folder_of_this_machine_it_says_what_to_set() -> None:
    observer = CSV_OBSERVERS["csv"](None)
    with pytest.raises(ValueError, match=FOLDER_VARIABLE):
        observer.on_start(trial(0))


@pytest.mark.parametrize("tool", ["csv_files", "tensorboard", "mlflow", "wandb"])
def test_every_tool_is_a_plugin(tool: str) -> None:
    from safesweep.trainables.training.observers import OBSERVERS

    with plugins_forgotten_after():
        load_plugin(f"safesweep.trainables.loggers.{tool}")
        assert {"csv_files": "csv"}.get(tool, tool) in OBSERVERS
