"""Tables from elsewhere become rows that the same queries and rules work on."""

from pathlib import Path

import pandas
import pytest

from analysis.published import methods_as_candidates
from analysis.selection import select
from analysis.store import ResultStore
from search_spaces.validation import InvalidInput
from trainables.imports import import_evaluations
from trainables.tasks import get_task

LOG = pandas.DataFrame(
    {
        "Steps": [1000, 2000, 1000, 2000],
        "seed": [0, 0, 1, 1],
        "eval/reward": [300.0, 400.0, 320.0, 410.0],
        "eval/cost": [5.0, 8.0, 6.0, 30.0],
        "lr": [0.001] * 4,
        "loss/actor": [1.0, 0.5, 1.0, 0.5],
    }
)
COLUMNS = {
    "step": "Steps",
    "reward_return_mean": "eval/reward",
    "cost_return_mean": "eval/cost",
    "hp_learning_rate": "lr",
}
CONSTANTS = {"algorithm": "bcql", "task": "CarRun"}


def test_a_log_becomes_runs_and_evaluations(tmp_path: Path) -> None:
    summary = import_evaluations(LOG, str(tmp_path), "osrl", COLUMNS, CONSTANTS)
    assert (summary.runs, summary.evaluations) == (2, 4)
    assert summary.ignored == ("loss/actor",)
    store = ResultStore(tmp_path)
    runs = store.runs(sweep="osrl").sort_values("seed")
    assert runs["task"].tolist() == ["OfflineCarRun-v0"] * 2
    assert runs["hp_learning_rate"].tolist() == [0.001] * 2
    assert runs["steps"].tolist() == [2000, 2000]
    assert runs["config_id"].nunique() == 1
    evaluations = store.evaluations(sweep="osrl", seed=1).sort_values("step")
    task = get_task("CarRun")
    assert evaluations["normalized_reward"].tolist() == pytest.approx(
        [task.normalize_reward(320.0), task.normalize_reward(410.0)]
    )
    assert evaluations["normalized_cost"].tolist() == pytest.approx([0.6, 3.0])
    assert set(evaluations["policy"]) == {"bcql"}
    chosen = select(store.evaluations(), cost_limit=20).iloc[0]
    assert chosen["safe"]
    assert chosen["normalized_cost"] == pytest.approx(0.95)
    stored = store.sql("SELECT spec FROM sweeps")["spec"][0]
    assert stored.startswith("# imported from a DataFrame")


def test_a_papers_table_can_be_selected_from_like_a_sweep(tmp_path: Path) -> None:
    table = methods_as_candidates("lspc", "table1")
    summary = import_evaluations(table, str(tmp_path), "lspc-table1")
    assert summary.runs == len(table)
    store = ResultStore(tmp_path)
    assert not store.runs()["run_id"].duplicated().any()
    imported = select(store.to_judge(sweep="lspc-table1"))
    direct = select(table)
    names = ["task", "config_id", "safe", "runner_up", "margin"]
    pandas.testing.assert_frame_equal(imported[names], direct[names])


def test_a_limit_of_ones_own(tmp_path: Path) -> None:
    import_evaluations(LOG, str(tmp_path), "x", COLUMNS, CONSTANTS, cost_limit=5)
    assert ResultStore(tmp_path).evaluations()["normalized_cost"].max() == pytest.approx(6.0)
    free = {**CONSTANTS, "task": "Elsewhere-v0", "normalized_reward": 0.5}
    columns = {name: column for name, column in COLUMNS.items() if name != "reward_return_mean"}
    import_evaluations(LOG, str(tmp_path), "y", columns, free, cost_limit=0)
    costs = ResultStore(tmp_path).evaluations(task="Elsewhere-v0")["normalized_cost"]
    assert costs.max() == pytest.approx(31.0)


def test_missing_cells_stay_missing_and_rows_may_repeat(tmp_path: Path) -> None:
    frame = LOG.assign(lr=[0.001, 0.001, None, None])
    twice = pandas.concat([frame, frame])
    assert import_evaluations(twice, str(tmp_path), "x", COLUMNS, CONSTANTS).evaluations == 4
    runs = ResultStore(tmp_path).runs()
    assert runs["config_id"].nunique() == 2
    assert runs["hp_learning_rate"].isna().sum() == 1


@pytest.mark.parametrize(
    ("columns", "constants", "options", "message"),
    [
        ({"step": "Stepz"}, {}, {}, r"step: the table has no column 'Stepz'; .*'Steps'"),
        ({"stepp": "Steps"}, {}, {}, r"'stepp' is not a column .*did you mean 'step'"),
        ({}, {"seed": 3}, {}, "seed: the table has this column"),
        ({}, {"learning_rate": 3}, {}, "'learning_rate' is not a column"),
        ({"normalized_reward": "eval/cost"}, {}, {}, "missing column algorithm, task"),
        (COLUMNS, {**CONSTANTS, "task": "Elsewhere"}, {}, "unknown task 'Elsewhere'"),
        (
            {"cost_return_mean": "eval/cost"},
            {"algorithm": "a", "task": "Elsewhere", "normalized_reward": 1.0},
            {},
            "cost_limit: row 1 has none",
        ),
        ({**COLUMNS, "step": "eval/reward"}, {**CONSTANTS, "episodes": -1}, {}, "episodes in row"),
        (COLUMNS, {**CONSTANTS, "episodes": 1.5}, {}, "episodes in row 1: 1.5"),
        (COLUMNS, {**CONSTANTS, "violation_rate": "high"}, {}, "violation_rate in row 1: 'high'"),
        (COLUMNS, CONSTANTS, {"cost_limit": -1}, "cost_limit: -1"),
        (COLUMNS, CONSTANTS, {"sweep": "../up"}, r"sweep: '\.\./up' is not allowed"),
        ({n: c for n, c in COLUMNS.items() if n != "step"}, CONSTANTS, {}, "row 2 contradicts"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(
    tmp_path: Path, columns, constants, options, message: str
) -> None:
    chosen = {"sweep": "x", **options}
    with pytest.raises(InvalidInput, match=message) as refusal:
        import_evaluations(
            LOG, str(tmp_path / "store"), columns=columns, constants=constants, **chosen
        )
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "store/runs").exists()


def test_a_seed_that_is_missing_is_named_with_its_row(tmp_path: Path) -> None:
    frame = LOG.assign(seed=[0, None, 1, 1])
    with pytest.raises(InvalidInput, match="seed: row 2 has none"):
        import_evaluations(frame, str(tmp_path), "x", COLUMNS, CONSTANTS)


def test_a_sweep_that_is_there_is_not_touched(tmp_path: Path, write_sweep) -> None:
    write_sweep("first")
    before = ResultStore(tmp_path / "store").runs()
    with pytest.raises(InvalidInput, match="'first' is in the store already"):
        import_evaluations(LOG, str(tmp_path / "store"), "first", COLUMNS, CONSTANTS)
    pandas.testing.assert_frame_equal(ResultStore(tmp_path / "store").runs(), before)
