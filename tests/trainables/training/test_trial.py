"""A trial: from a configuration to rows, with and without an interruption."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from torch import Tensor

from safesweep import train
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.methods.safefql import SafeFQL
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial, evaluation_steps
from tests.trainables.conftest import MakeDataset

TIMES = ["train_seconds", "evaluate_seconds", "started_at", "finished_at", "act_latency_ms"]
TINY = {"hidden_dim": 8, "batch_size": 16}


def make_trial(task: Task, make_dataset: MakeDataset, writer: ResultWriter | None) -> Trial:
    configs = [
        ALGORITHMS["safefql"].config_class.resolve({**TINY, "tau": tau}) for tau in (0.6, 0.9)
    ]
    request = TrialRequest(
        "safefql", task.name, [c.to_dict() for c in configs for _ in (0, 1)], [0, 1] * 2,
        steps=20, evaluate_every=10, episodes=3, cost_limit=1.0, device="cpu",
    )  # fmt: skip
    return Trial(request, task, make_dataset(task), writer)


def tables(store: Path) -> dict[str, pandas.DataFrame]:
    frames = {}
    for name in ("runs", "evaluations", "episodes", "metrics"):
        frame = pandas.read_parquet(store / name)
        frames[name] = frame.drop(columns=[c for c in TIMES if c in frame])
    return frames


def run_to_the_end(trial: Trial) -> None:
    while not trial.done:
        trial.advance()


def test_evaluations_fall_on_the_rhythm_and_on_the_end() -> None:
    assert evaluation_steps(10, 4) == [4, 8, 10]
    assert evaluation_steps(8, 4) == [4, 8]
    assert evaluation_steps(3, 100) == [3]


def test_rows_of_a_trial(tmp_path: Path, boat_task: Task, make_dataset: MakeDataset) -> None:
    trial = make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path), "sweep"))
    run_to_the_end(trial)
    found = tables(tmp_path)
    assert len(found["runs"]) == 4
    assert set(found["runs"]["status"]) == {"completed"}
    searched = pandas.read_parquet(tmp_path / "hyperparameters").query("name == 'expectile'")
    assert searched["config_id"].isin(found["runs"]["config_id"]).all()
    assert sorted(set(searched["number"])) == [0.6, 0.9]
    assert len(found["evaluations"]) == 4 * 2
    assert len(found["episodes"]) == 4 * 2 * 3
    one = found["evaluations"].iloc[0]
    episodes = found["episodes"].query("run_id == @one.run_id and step == @one.step")
    assert one["reward_return_mean"] == pytest.approx(episodes["reward_return"].mean())
    assert one["normalized_cost"] == pytest.approx(episodes["cost_return"].mean() / 1.0)
    assert one["violation_rate"] == pytest.approx((episodes["cost_return"] > 1.0).mean())
    names = set(found["metrics"]["name"])
    assert {"feasible_recall", "true_recall", "true_specificity", "loss/reward_q"} <= names
    assert not list((tmp_path / "heartbeats").glob("*.json"))


def test_repeating_is_bit_identical_and_resuming_equals_it(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    for name in ("first", "second"):
        run_to_the_end(
            make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path / name), "sweep"))
        )
    interrupted = ResultWriter(str(tmp_path / "third"), "sweep")
    make_trial(boat_task, make_dataset, interrupted).advance()
    assert not (tmp_path / "third" / "runs").exists()
    resumed = make_trial(boat_task, make_dataset, interrupted)
    assert resumed.population.step == 10
    run_to_the_end(resumed)
    whole = tables(tmp_path / "first")
    for other in ("second", "third"):
        for name, frame in tables(tmp_path / other).items():
            pandas.testing.assert_frame_equal(frame, whole[name], check_exact=True)


def test_an_ended_trial_that_lost_its_rows_writes_them_from_the_checkpoint(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    trial = make_trial(boat_task, make_dataset, writer)
    run_to_the_end(trial)
    before = tables(tmp_path)
    writer.remove(f"runs/sweep=sweep/{trial.trial_id}.parquet")
    again = make_trial(boat_task, make_dataset, writer)
    assert again.done
    for name, frame in tables(tmp_path).items():
        pandas.testing.assert_frame_equal(frame, before[name], check_exact=True)


def test_a_diverged_run_is_a_row_with_its_reason(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    trial = make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path), "sweep"))
    trial.population.state["params"]["reward_v"][0]["weight"][2] = float("inf")
    run_to_the_end(trial)
    runs = tables(tmp_path)["runs"].set_index("run_id")
    assert list(runs.loc[trial.run_ids, "status"]) == [
        "completed", "completed", "diverged", "completed",
    ]  # fmt: skip
    assert "not finite" in runs.loc[trial.run_ids[2], "error"]
    assert trial.run_ids[2] not in set(tables(tmp_path)["evaluations"]["run_id"])


def test_what_a_method_says_of_the_data_is_told(
    boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plainly = SafeFQL.prepare

    def prepare(self: SafeFQL, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.warnings = [f"data: {len(data['rewards'])} rows are few"]
        return plainly(self, data)

    monkeypatch.setattr(SafeFQL, "prepare", prepare)
    trial = make_trial(boat_task, make_dataset, None)
    assert trial.problems == [f"data: {len(trial.dataset)} rows are few"]


def test_a_run_whose_feasible_set_is_empty_completes_and_says_so(
    tmp_path: Path,
    boat_task: Task,
    make_dataset: MakeDataset,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of two runs, one learns from violations alone: h = 25 everywhere, fast. Resuming keeps it."""
    data = make_dataset(boat_task)
    dataset = replace(data, costs=np.ones_like(data.costs))
    method = ALGORITHMS["flrp"].config_class
    small = {"hidden_dim": 8, "batch_size": 16, "latent_dim": 2, "violation_signal": 100.0}
    configs = [method.resolve({**small, "learning_rate": rate}) for rate in (0.03, 1e-6)]
    request = TrialRequest(
        "flrp", boat_task.name, [c.to_dict() for c in configs], [0, 1],
        steps=200, evaluate_every=160, episodes=1, cost_limit=1.0, device="cpu",
    )  # fmt: skip
    writer = ResultWriter(str(tmp_path), "sweep")
    with caplog.at_level("WARNING"):
        Trial(request, boat_task, dataset, writer).advance()
        resumed = Trial(request, boat_task, dataset, writer)
        run_to_the_end(resumed)
    assert [record.getMessage() for record in caplog.records] == [
        "flrp on BoatNavigation-v0: hardly any pair of the data is feasible at the end of phase "
        "pretrain, for 1 of 2 runs (seeds 0)"
    ]
    empty, other = resumed.rows.runs
    assert (empty["status"], other["status"]) == ("completed", "completed")
    assert other["error"] is None
    assert empty["error"] == (
        "degenerate: at the end of phase pretrain (step 150) 0.00% of the data's pairs are "
        "feasible by its critic; 0% lie in episodes without cost"
    )
    shares = {
        (row["run_id"], row["value"]) for row in resumed.rows.metrics
        if row["name"] == "feasible_share" and row["step"] == 200
    }  # fmt: skip
    assert shares == {(empty["run_id"], 0.0), (other["run_id"], 1.0)}


def stop_at_the_first_rung(trial: Trial, *members: int) -> None:
    trial.advance()
    trial.stop({trial.run_ids[member]: "rank 2 of 2" for member in members})


def test_survivors_of_a_rung_end_as_if_nobody_had_been_stopped(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    whole = make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path / "whole"), "sweep"))
    run_to_the_end(whole)
    trial = make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path / "halved"), "sweep"))
    stop_at_the_first_rung(trial, 0, 1)
    assert trial.population.size == 2
    run_to_the_end(trial)
    expected, found = tables(tmp_path / "whole"), tables(tmp_path / "halved")
    runs = found["runs"].set_index("run_id").loc[whole.run_ids]
    assert runs["status"].tolist() == ["stopped"] * 2 + ["completed"] * 2
    assert runs["steps"].tolist() == [10, 10, 20, 20]
    assert runs["error"].tolist()[:2] == ["rank 2 of 2"] * 2
    assert runs["error"].isna().tolist() == [False, False, True, True]
    # Each run has one row, and all of its evaluations up to where it ended.
    assert found["runs"]["run_id"].is_unique
    keys = ["run_id", "step", "policy"]
    before, after = (
        frame["evaluations"].set_index(keys).sort_index() for frame in (expected, found)
    )
    assert set(before.index) - set(after.index) == {
        (run, 20, before.index[0][2]) for run in whole.run_ids[:2]
    }
    statuses = after["run_status"].groupby("run_id").first()
    assert statuses.loc[whole.run_ids].tolist() == runs["status"].tolist()
    numbers = before.select_dtypes("number").columns
    pandas.testing.assert_frame_equal(
        after[numbers], before.loc[after.index, numbers], rtol=1e-4, atol=1e-6
    )


def test_both_parts_of_a_divided_trial_resume(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    whole = make_trial(boat_task, make_dataset, writer)
    stop_at_the_first_rung(whole, 0, 1)
    assert sorted(path.name for path in (tmp_path / "heartbeats").glob("*.json")) == [
        f"{whole.trial_id}.json"
    ]
    assert len(list(tmp_path.glob("checkpoints/*/latest.pt"))) == 2
    config_class = ALGORITHMS["safefql"].config_class
    for tau in (0.6, 0.9):
        request = TrialRequest(
            "safefql", boat_task.name,
            [config_class.resolve({**TINY, "tau": tau}).to_dict()] * 2, [0, 1],
            steps=20, evaluate_every=10, episodes=3, cost_limit=1.0, device="cpu",
        )  # fmt: skip
        part = Trial(request, boat_task, make_dataset(boat_task), writer)
        assert part.population.step == 10
        assert {row["step"] for row in part.rows.evaluations} == {10}
        # What was stopped is trained to its end after all, and its row says so.
        run_to_the_end(part)
        rows = tables(tmp_path)["runs"].set_index("run_id").loc[part.run_ids]
        assert set(rows["status"]) == {"completed"}
    found = tables(tmp_path)
    assert len(found["runs"]) == 4 and set(found["runs"]["steps"]) == {20}
    assert set(found["evaluations"]["run_status"]) == {"completed"}


def test_a_trial_whose_runs_are_all_stopped_is_done(
    tmp_path: Path, boat_task: Task, make_dataset: MakeDataset
) -> None:
    trial = make_trial(boat_task, make_dataset, ResultWriter(str(tmp_path), "sweep"))
    stop_at_the_first_rung(trial, 0, 1, 2, 3)
    assert trial.done
    runs = tables(tmp_path)["runs"]
    assert set(runs["trial_id"]) == {trial.trial_id}
    assert set(runs["status"]) == {"stopped"}
    assert not list((tmp_path / "heartbeats").glob("*.json"))


def test_train_without_ray_or_store(boat_task: Task, make_dataset: MakeDataset) -> None:
    seen: list[Any] = []
    rows = train(
        "flrp", "BoatNavigation", [{**TINY, "tau_h": 0.7}], [4], steps=6, evaluate_every=3,
        episodes=2, dataset=make_dataset(boat_task), on_evaluation=seen.append,
    )  # fmt: skip
    assert [len(rows_seen) for rows_seen in seen] == [1, 1]
    assert [row["step"] for row in rows.evaluations] == [3, 6]
    assert rows.runs[0]["seed"] == 4
    assert np.isfinite([row["normalized_reward"] for row in rows.evaluations]).all()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"algorithm": "flpr"}, "flrp"),
        ({"task": "BoatNavigatoin-v0"}, "BoatNavigation-v0"),
        ({"steps": -1}, "steps"),
        ({"configs": [{"hidden_dim": 8}, {"hidden_dim": 9}]}, "static"),
    ],
)
def test_train_refuses_bad_input(
    boat_task: Task, make_dataset: MakeDataset, changes: dict[str, Any], word: str
) -> None:
    arguments: dict[str, Any] = {"algorithm": "flrp", "task": boat_task.name, "steps": 3}
    with pytest.raises(InvalidInput, match=word):
        train(**{**arguments, "dataset": make_dataset(boat_task), **changes})
