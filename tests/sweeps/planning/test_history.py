from collections.abc import Callable, Sequence
from pathlib import Path

import pandas
import pytest

from safesweep.sweeps.planning.history import (
    StoreHistory,
    outcomes,
    read_previous,
    read_store,
    read_trial,
)
from safesweep.trainables.store.completeness import Part
from safesweep.trainables.store.identity import trial_id
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.writer import ResultWriter

WriteSweep = Callable[..., list[str]]


def test_last_evaluation_counts(write_sweep: WriteSweep, tmp_path: Path) -> None:
    runs = write_sweep(scores=lambda config, seed, step: (float(step), [step / 100, step / 50]))
    outcomes, configs = read_store(StoreHistory(str(tmp_path / "store")), None)
    assert set(outcomes) == set(runs)
    outcome = outcomes[runs[0]]
    assert outcome.finished and outcome.sweep == "first"
    assert outcome.scores["reward_return_mean"] == 2000.0
    assert outcome.scores["cost_return_mean"] == 30.0
    assert outcome.scores["normalized_cost"] == 3.0
    assert list(configs.values()) == [{"feasibility_expectile": 0.9}]


def test_costs_are_normalised_by_the_limit_of_the_sweep(
    write_sweep: WriteSweep, tmp_path: Path
) -> None:
    runs = write_sweep(scores=lambda config, seed, step: (0.0, [30.0]))
    outcomes, _ = read_store(StoreHistory(str(tmp_path / "store")), 60.0)
    assert outcomes[runs[0]].scores["normalized_cost"] == pytest.approx(0.5)


def test_runs_without_evaluations_have_no_scores(write_sweep: WriteSweep, tmp_path: Path) -> None:
    runs = write_sweep(statuses={1: "diverged", 2: "failed"})
    outcomes, _ = read_store(StoreHistory(str(tmp_path / "store")), None)
    assert [outcomes[run].finished for run in runs] == [True, True, False]
    assert not outcomes[runs[1]].scores


def test_one_trial_reads_as_in_the_whole_store(write_sweep: WriteSweep, tmp_path: Path) -> None:
    runs = write_sweep()
    writer = ResultWriter(str(tmp_path / "store"), "first")
    outcomes, _ = read_store(StoreHistory(str(tmp_path / "store")), None)
    assert read_trial(writer, trial_id(runs), None) == outcomes
    assert read_trial(writer, "nothing", None) == {}


def test_previous_sweep(write_sweep: WriteSweep, tmp_path: Path) -> None:
    runs = write_sweep(also=["other-0"])
    previous = read_previous(str(tmp_path / "store"), "first")
    assert previous is not None
    assert previous.run_ids == (*runs, "other-0")
    assert read_previous(str(tmp_path / "store"), "second") is None


def test_an_empty_store_holds_nothing(tmp_path: Path) -> None:
    assert read_store(StoreHistory(str(tmp_path)), None) == ({}, {})


def test_a_session_reads_each_part_once(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sweep("first")
    read: list[str] = []
    original = StoreReader._dataset

    def counted(self: StoreReader, table: str, parts: Sequence[Part] | None = None) -> object:
        read.extend(part.path for part in (self._parts(table) if parts is None else parts))
        return original(self, table, parts)

    monkeypatch.setattr(StoreReader, "_dataset", counted)
    kept = StoreHistory(str(tmp_path / "store"))
    first = read_store(kept, None)
    once = len(read)
    assert read_store(kept, 20.0)[0].keys() == first[0].keys()
    assert len(read) == once
    write_sweep("second", [{"feasibility_expectile": 0.7}])
    found, configs = read_store(kept, None)
    assert (len(found), len(configs)) == (6, 2)
    assert len(read) == 2 * once and all("sweep=second" in path for path in read[once:])
    # What is replaced, or lost, is no longer remembered.
    write_sweep("second", [{"feasibility_expectile": 0.7}], statuses={0: "diverged"})
    again = read_store(kept, None)
    assert again == read_store(StoreHistory(str(tmp_path / "store")), None)
    assert sorted(outcome.status for outcome in again[0].values())[-1] == "diverged"


def test_policies_that_act_to_cost_limits_are_judged_at_the_sweeps_own() -> None:
    """One training serves the limits 10, 20 and 40 of its task; others are judged by the first."""
    rows = [
        (run, policy, cost)
        for run, named in (("a-0", "cdt@{}"), ("b-0", "policy{}"))
        for policy, cost in ((named.format(limit), float(limit)) for limit in (10, 20, 40))
    ]
    evaluations = pandas.DataFrame(rows, columns=["run_id", "policy", "cost_return_mean"])
    evaluations = evaluations.assign(
        task="OfflineBallRun-v0", step=100, reward_return_mean=1.0, normalized_reward=0.5,
        normalized_cost=0.0, violation_rate=0.0, zero_cost_rate=0.0,
    )  # fmt: skip
    runs = pandas.DataFrame({"run_id": ["a-0", "b-0"]}).assign(
        status="completed", trial_id="t", steps=100
    )
    for limit, expected in ((20.0, (20.0, 10.0)), (None, (10.0, 10.0)), (7.0, (10.0, 10.0))):
        found = outcomes(runs, evaluations, "sweep", limit)
        costs = tuple(found[run].scores["cost_return_mean"] for run in ("a-0", "b-0"))
        assert costs == expected
