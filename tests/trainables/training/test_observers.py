"""Observers are told of everything, and cannot harm what they observe."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.store.writer import ResultWriter, StoreProblem
from safesweep.trainables.training import observers
from safesweep.trainables.training.observers import ObservedTrial, Observer, TrialRows
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests import fixture_store

TASK = fixture_store.short_task("BoatNavigation-v0")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "boat.hdf5"
    return read_dataset(collect_dataset(TASK, 2, 0, path), TASK)


class Listener(Observer):
    """Keeps what it is told of, and spoils the rows that it is given."""

    told: list[tuple[str, ObservedTrial, dict[str, int]]] = []  # noqa: RUF012

    def on_start(self, trial: ObservedTrial) -> None:
        self.told.append(("start", trial, {}))

    def on_evaluation(self, trial: ObservedTrial, rows: TrialRows) -> None:
        self._keep("evaluation", trial, rows)

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        self._keep("end", trial, rows)

    def _keep(self, event: str, trial: ObservedTrial, rows: TrialRows) -> None:
        self.told.append((event, trial, {name: len(found) for name, found in vars(rows).items()}))
        for found in vars(rows).values():
            for row in found:
                row.clear()
            found.clear()


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Listener]]:
    monkeypatch.setitem(observers.OBSERVERS, "listener", Listener)
    Listener.told.clear()
    yield Listener


def trial_of(data: Dataset, storage: Path | None, seeds: tuple[int, ...] = (0, 1)) -> Trial:
    config = BehaviorCloningConfig.resolve({"hidden_dim": 8, "batch_size": 16})
    writer = None if storage is None else ResultWriter(str(storage), "observed")
    configs = [config.to_dict()] * len(seeds)
    request = TrialRequest("bc", TASK.name, configs, seeds, 6, 3, 2, 1.0, "cpu")
    return Trial(request, TASK, data, writer)


def run(trial: Trial) -> Trial:
    while not trial.done:
        trial.advance()
    return trial


def stored(storage: Path) -> list[pandas.DataFrame]:
    store = ResultStore(storage)
    return [
        store.runs()[["run_id", "status", "steps"]],
        store.evaluations().drop(columns="act_latency_ms"),
        store.episodes(),
        store.metrics(),
    ]


def same(one: Path, other: Path) -> None:
    for left, right in zip(stored(one), stored(other), strict=True):
        pandas.testing.assert_frame_equal(left, right)


def test_an_observer_is_told_of_the_start_each_evaluation_and_the_end(
    data: Dataset, listener: type[Listener], tmp_path: Path
) -> None:
    trial = run(trial_of(data, tmp_path / "store"))
    assert [event for event, _, _ in listener.told] == ["start", "evaluation", "evaluation", "end"]
    assert [observed.step for _, observed, _ in listener.told] == [0, 3, 6, 6]
    for _, observed, _ in listener.told:
        assert observed.run_ids == trial.run_ids and observed.seeds == [0, 1]
        assert (observed.sweep, observed.steps) == ("observed", 6)
        assert observed.configs[0]["hidden_dim"] == 8
    first, last, end = (counts for _, _, counts in listener.told[1:])
    assert first == last == {**first, "evaluations": 2, "episodes": 4, "runs": 0}
    assert end == {"evaluations": 4, "episodes": 8, "runs": 2, "metrics": 2 * first["metrics"]}


def test_what_an_observer_does_to_its_rows_does_not_reach_the_store(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(trial_of(data, tmp_path / "alone"))
    monkeypatch.setitem(observers.OBSERVERS, "listener", Listener)
    run(trial_of(data, tmp_path / "observed"))
    same(tmp_path / "alone", tmp_path / "observed")


def test_a_resumed_trial_starts_at_its_step_and_stopped_runs_end_by_themselves(
    data: Dataset, listener: type[Listener], tmp_path: Path
) -> None:
    first = trial_of(data, tmp_path / "store")
    first.advance()
    again = trial_of(data, tmp_path / "store")
    # One that is set up and does nothing says nothing.
    assert [event for event, _, _ in listener.told] == ["start", "evaluation"]
    listener.told.clear()
    run_ids = list(again.run_ids)
    again.stop({run_ids[0]: "rank 2 of 2"})
    run(again)
    assert [(event, observed.step) for event, observed, _ in listener.told[:1]] == [("start", 3)]
    ends = [observed for event, observed, _ in listener.told if event == "end"]
    assert [observed.run_ids for observed in ends] == [run_ids[:1], run_ids[1:]]
    assert [observed.step for observed in ends] == [3, 6]


@pytest.mark.parametrize("event", ["__init__", "on_start", "on_evaluation", "on_end"])
def test_an_observer_that_raises_is_left_out_and_the_run_goes_on(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    run(trial_of(data, tmp_path / "alone"))
    calls = []

    def fails(self: Any, *arguments: Any) -> None:
        calls.append(event)
        raise RuntimeError("no route to the tracking server\nsecond line")

    broken = type("Broken", (Observer,), {event: fails})
    monkeypatch.setitem(observers.OBSERVERS, "tracker", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trial = run(trial_of(data, tmp_path / "observed"))
    line = (
        "observer 'tracker' failed and is left out (RuntimeError: no route to the tracking server)"
    )
    assert [str(w.message) for w in caught if w.category is RuntimeWarning] == [line]
    assert trial.observers.problems == [line]
    assert calls == [event]
    same(tmp_path / "alone", tmp_path / "observed")


def test_a_store_that_fails_still_ends_the_trial(
    data: Dataset, listener: type[Listener], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, *arguments: Any, **options: Any) -> None:
        raise StoreProblem("storage: the disk is full")

    monkeypatch.setattr(ResultWriter, "write_trial", full)
    with pytest.raises(StoreProblem, match="the disk is full"):
        run(trial_of(data, tmp_path / "store"))


def test_without_a_store_observers_are_told_all_the_same(
    data: Dataset, listener: type[Listener]
) -> None:
    run(trial_of(data, None))
    assert [event for event, _, _ in listener.told] == ["start", "evaluation", "evaluation", "end"]
    assert listener.told[0][1].storage is None


def test_the_observer_of_the_example_plugin_writes_beside_the_tables(
    data: Dataset, tmp_path: Path
) -> None:
    with plugins_forgotten_after():
        load_plugin(str(Path(__file__).parents[2] / "plugins" / "example_plugin.py"))
        trial = run(trial_of(data, tmp_path / "store"))
    lines = (tmp_path / "store" / "events" / f"{trial.trial_id}.jsonl").read_text().splitlines()
    assert len(lines) == 4 and '"completed"' in lines[-1]
