"""Tables from elsewhere become rows that the same queries and rules work on."""

from pathlib import Path

import pandas
import pytest

from safesweep.analysis.published import methods_as_candidates
from safesweep.analysis.selection.choice import select
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.imports import import_evaluations, import_files
from safesweep.trainables.tasks.registry import get_task

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


@pytest.mark.filterwarnings("error")
def test_infinite_costs_are_refused_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("algorithm,task,seed,reward_return_mean,cost_return_mean\nbc,CarRun,0,1,inf\n")
    with pytest.raises(InvalidInput, match="line 2: inf is not allowed"):
        import_files([path], str(tmp_path / "store"), "own")


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


RESULTS = pandas.DataFrame(
    {
        "algorithm": "bc",
        "task": "CarRun",
        "seed": [0, 1, 2],
        "normalized_reward": [0.9, 0.8, 0.7],
        "normalized_cost": [0.3, 0.4, 0.5],
    }
)


def stored(folder: Path) -> pandas.DataFrame:
    """Runs with their last evaluation, by seed."""
    store = ResultStore(folder)
    evaluations = store.evaluations()[["run_id", "step", "normalized_cost", "cost_limit"]]
    runs = store.runs().merge(evaluations, on="run_id", how="left")
    return runs.sort_values(["seed", "step"]).reset_index(drop=True)


def test_one_column_of_theirs_may_be_several_of_ours(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"Task": "AntRun", "Seed": [0, 0, 1, 1], "Target": [10.0, 40.0] * 2, "Return": 600.0}
    ).assign(Cost=lambda rows: 0.9 * rows["Target"])
    columns = {
        "task": "Task", "seed": "Seed", "cost_limit": "Target", "hp_target": "Target",
        "hp_again": "Target", "cost_return_mean": "Cost", "reward_return_mean": "Return",
    }  # fmt: skip
    import_evaluations(frame, str(tmp_path), "a", columns, {"algorithm": "cdt"})
    found = stored(tmp_path)
    assert found["cost_limit"].tolist() == [10, 40, 10, 40]
    assert found["hp_target"].tolist() == found["hp_again"].tolist() == [10, 40, 10, 40]
    assert found["normalized_cost"].tolist() == pytest.approx([0.9] * 4)


def test_a_column_named_as_ours_stays_ours_unless_it_becomes_another_measurement(
    tmp_path: Path,
) -> None:
    frame = RESULTS.assign(cost_limit=[10.0, 20.0, 40.0])
    import_evaluations(frame, str(tmp_path), "a", {"hp_target": "cost_limit"})
    found = stored(tmp_path)
    assert found["hp_target"].tolist() == found["cost_limit"].tolist() == [10, 20, 40]
    # What they call normalized is said to be a return: it is not both.
    returns = RESULTS.assign(normalized_reward=[400.0, 410.0, 420.0])
    columns = {"reward_return_mean": "normalized_reward"}
    import_evaluations(returns, str(tmp_path / "returns"), "b", columns)
    evaluations = ResultStore(tmp_path / "returns").evaluations()
    assert evaluations["reward_return_mean"].min() == 400
    assert evaluations["normalized_reward"].max() < 1


@pytest.mark.parametrize(
    ("columns", "constants", "options", "message"),
    [
        ({"seed": "seed"}, {"seed": 3}, {}, "seed: cannot be both the column 'seed' and 3"),
        ({}, {"cost_limit": 3}, {"cost_limit": 5.0}, "cost_limit: is given twice"),
        ({"cost_limit": "limit"}, {}, {"cost_limit": 5.0}, "cost_limit: is given twice"),
        ({"status": "seed"}, {}, {}, "status in row 1, column 'seed': 0 is not one of complet"),
        ({"step": "limit"}, {"episodes": "many"}, {}, "episodes in row 1: 'many' is not allowed"),
        ({"cost_return_mean": "below"}, {}, {}, "cost_return_mean in row 1, column 'below': -5"),
        ({"violation_rate": "limit"}, {}, {}, r"violation_rate in row 1.*in \[0, 1\]"),
        ({"hp_a-b": "limit"}, {}, {}, "'hp_a-b' is not a column of evaluations"),
    ],
)
def test_what_overwrites_or_cannot_be_is_refused(
    tmp_path: Path, columns, constants, options, message: str
) -> None:
    frame = RESULTS.assign(limit=10.0, below=-5.0)
    with pytest.raises(InvalidInput, match=message):
        import_evaluations(frame, str(tmp_path), "x", columns, constants, **options)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InvalidInput, match="cost_limit: the table has this column"):
        import_evaluations(frame.assign(cost_limit=1.0), str(tmp_path), "x", cost_limit=2)


@pytest.mark.parametrize("name", ["status", "State", "run_status"])
def test_rows_of_runs_that_crashed_are_failed_runs(tmp_path: Path, name: str) -> None:
    said = ["Finished", "crashed", None, "diverged", "killed", "running", "pruned", "OUT-OF-MEMORY"]
    frame = pandas.concat([RESULTS.iloc[[0]]] * len(said), ignore_index=True)
    frame = frame.assign(seed=range(len(said)), **{name: said})
    frame.loc[4, ["normalized_reward", "normalized_cost"]] = None
    summary = import_evaluations(frame, str(tmp_path), "x")
    assert (summary.runs, summary.evaluations) == (7, 6)
    runs = ResultStore(tmp_path).runs().sort_values("seed").set_index("seed")
    assert runs["status"].to_dict() == {
        0: "completed", 1: "failed", 2: "failed", 3: "diverged", 4: "failed", 6: "stopped",
        7: "failed",
    }  # fmt: skip
    assert runs["error"][1] == "its status is crashed"
    assert runs["error"][2] == "no status is given"
    assert any("have not ended: 1" in note for note in summary.notes)
    statuses = ResultStore(tmp_path).evaluations().set_index("seed")["run_status"]
    assert statuses[0] == "completed" and statuses[1] == "failed"


def test_a_column_state_that_says_nothing_of_runs_is_left_aside(tmp_path: Path) -> None:
    summary = import_evaluations(RESULTS.assign(State="Texas"), str(tmp_path), "x")
    assert summary.ignored == ("State",)
    assert set(ResultStore(tmp_path).runs()["status"]) == {"completed"}
    with pytest.raises(InvalidInput, match="status in row 3, column 'State': 'exploded' is not"):
        frame = RESULTS.assign(State=["finished", "failed", "exploded"])
        import_evaluations(frame, str(tmp_path), "y")


def test_a_run_whose_last_row_lacks_a_score_has_failed(tmp_path: Path) -> None:
    frame = pandas.concat([RESULTS.assign(step=step) for step in (1000, 2000)], ignore_index=True)
    frame.loc[[1, 4], "normalized_cost"] = None  # seed 1 throughout
    frame.loc[2, "normalized_reward"] = None  # seed 2 at its first step only
    frame.loc[3, ["normalized_reward", "normalized_cost"]] = None  # seed 0 at its last
    summary = import_evaluations(frame, str(tmp_path), "x")
    runs = ResultStore(tmp_path).runs().sort_values("seed")
    assert runs["status"].tolist() == ["failed", "failed", "completed"]
    assert runs["error"].tolist()[1] == "row 5 has no normalized_cost or cost_return_mean"
    assert summary.evaluations == 5
    chosen = select(ResultStore(tmp_path).to_judge())
    assert len(chosen) == 1


def test_an_attempt_that_failed_gives_way_to_one_that_got_through(tmp_path: Path) -> None:
    frame = RESULTS.iloc[[1, 0, 1, 2]].reset_index(drop=True)
    frame.loc[0, ["normalized_reward", "normalized_cost"]] = None
    frame["status"] = ["crashed", "finished", "finished", "finished"]
    summary = import_evaluations(frame, str(tmp_path), "x")
    assert (summary.runs, summary.evaluations) == (3, 3)
    assert set(ResultStore(tmp_path).runs()["status"]) == {"completed"}
    assert "attempts that failed, but not when repeated: 1" in summary.notes[0]


def _log(*rows: tuple[int, float]) -> str:
    return "Steps\treward\tcost\n" + "".join(f"{s}\t{400 + s / 100}\t{c}\n" for s, c in rows)


def _import_log(folder: Path, text: str, **options):
    (folder / "log.txt").write_text(text)
    return import_files(
        [folder / "log.txt"], str(folder / "store"), "x",
        {"step": "Steps", "reward_return_mean": "reward", "cost_return_mean": "cost"},
        {"algorithm": "bcql", "task": "CarRun", "seed": 0}, **options,
    )  # fmt: skip


def _costs(folder: Path) -> dict[int, float]:
    rows = ResultStore(folder / "store").evaluations()
    return dict(zip(rows["step"], rows["cost_return_mean"], strict=True))


def test_a_resumed_log_forgets_what_it_abandoned(tmp_path: Path) -> None:
    first = [(1000, 5.0), (2000, 6.0), (3000, 7.0)]
    # With a header again, though it got less far; without one, because it got further.
    text = _log(*first) + _log((2000, 1.0))
    assert "gave way to later ones of a resumed log: 2" in _import_log(tmp_path, text).notes[-1]
    assert _costs(tmp_path) == {1000: 5.0, 2000: 1.0}
    further = _log(*first, (2000, 1.0), (3000, 2.0), (4000, 3.0))
    (tmp_path / "further").mkdir()
    _import_log(tmp_path / "further", further)
    assert _costs(tmp_path / "further") == {1000: 5.0, 2000: 1.0, 3000: 2.0, 4000: 3.0}
    # The evaluation at the checkpoint is repeated as it was.
    (tmp_path / "same").mkdir()
    same = _log(*first) + _log((2000, 6.0), (3000, 2.0), (4000, 3.0))
    _import_log(tmp_path / "same", same)
    assert _costs(tmp_path / "same") == {1000: 5.0, 2000: 6.0, 3000: 2.0, 4000: 3.0}


@pytest.mark.parametrize(
    "again",
    [
        _log((1000, 1.0), (2000, 2.0), (3000, 3.0)),  # starts over: it may be another run
        "2000\t1.0\t1.0\n",  # another value of a step, and nothing follows
    ],
)
def test_what_is_not_evidently_resumed_contradicts(tmp_path: Path, again: str) -> None:
    text = _log((1000, 5.0), (2000, 6.0)) + again
    with pytest.raises(InvalidInput, match=r"log\.txt, line \d contradicts .*line \d .*--resumed"):
        _import_log(tmp_path, text)
    _import_log(tmp_path, text, resumed=True)
    assert _costs(tmp_path)[2000] in (1.0, 2.0)


def test_columns_of_tables_without_steps_in_order_stay(tmp_path: Path) -> None:
    frame = LOG.iloc[::-1]
    assert import_evaluations(frame, str(tmp_path), "x", COLUMNS, CONSTANTS).evaluations == 4


def test_several_files_by_their_names(tmp_path: Path) -> None:
    paths = []
    for method in ("bcql", "cpq"):
        for seed in (0, 10):
            path = tmp_path / f"{method}-CarRun-lr0.{seed + 1}-seed{seed}.txt"
            path.write_text(_log((1000, 5.0), (2000, seed + 1.0)))
            paths.append(path)
    summary = import_files(
        paths, str(tmp_path / "store"), "x",
        {"step": "Steps", "reward_return_mean": "reward", "cost_return_mean": "cost"},
        name_pattern="{algorithm}-{task}-lr{hp_rate}-seed{seed}.txt",
    )  # fmt: skip
    assert (summary.runs, summary.evaluations) == (4, 8)
    runs = ResultStore(tmp_path / "store").runs().sort_values(["algorithm", "seed"])
    assert runs["algorithm"].tolist() == ["bcql", "bcql", "cpq", "cpq"]
    assert runs["seed"].tolist() == [0, 10, 0, 10]
    assert runs["hp_rate"].tolist() == [0.1, 0.11, 0.1, 0.11]
    assert any("no two seeds share a configuration" in note for note in summary.notes)


def test_a_hyperparameter_has_one_type_in_all_files(tmp_path: Path) -> None:
    for name, rate in (("a", "1"), ("b", "1.0"), ("c", "0.5")):
        seed = ord(name)
        (tmp_path / f"{name}.csv").write_text(
            f"algorithm,task,seed,hp_rate,normalized_reward,normalized_cost\n"
            f"bc,CarRun,{seed},{rate},0.5,0.5\n"
        )
    paths = [tmp_path / f"{name}.csv" for name in "abc"]
    import_files(paths, str(tmp_path / "store"), "x")
    runs = ResultStore(tmp_path / "store").runs().sort_values("seed")
    assert runs["hp_rate"].tolist() == [1.0, 1.0, 0.5]
    assert runs["config_id"].nunique() == 2


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("log.txt", "'log.txt' names no column; write it as {seed}"),
        ("{sed}.txt", "'sed' is not a column of evaluations.*did you mean 'seed'"),
        ("{seed}{task}.txt", "nothing stands between two columns"),
        ("{seed}-{seed}.txt", "seed stands in '{seed}-{seed}.txt' twice"),
        ("{seed}.txt", "'{seed}.txt' does not fit 'bc-q-CarRun-1.txt'"),
        ("{algorithm}-{task}-{seed}.txt", "fits 'bc-q-CarRun-1.txt' in two ways"),
    ],
)
def test_patterns_that_do_not_say_it(tmp_path: Path, pattern: str, message: str) -> None:
    path = tmp_path / "bc-q-CarRun-1.txt"
    path.write_text(_log((1000, 5.0)))
    with pytest.raises(InvalidInput, match=message):
        import_files([path], str(tmp_path / "store"), "x", name_pattern=pattern)
    assert not (tmp_path / "store").exists()


def test_errors_name_file_line_and_column(tmp_path: Path) -> None:
    text = _log((1000, 5.0), (2000, 6.0)).replace("6.0", "six")
    with pytest.raises(
        InvalidInput, match=r"cost_return_mean in .*log\.txt, line 3, column 'cost': 'six'"
    ):
        _import_log(tmp_path, text)
    wide = "\t".join(f"column{number}" for number in range(3000))
    with pytest.raises(InvalidInput, match="2,989 more") as refusal:
        _import_log(tmp_path, f"Steps\t{wide}\n" + "1\t" * 3000 + "1\n")
    assert len(str(refusal.value)) < 600


def test_tasks_may_have_the_names_of_their_environments(tmp_path: Path) -> None:
    names = ["SafetyCarRun-v0", "OfflineCarRun-v0", "CarRun"]
    import_evaluations(RESULTS.assign(task=names), str(tmp_path), "x")
    assert set(ResultStore(tmp_path).runs()["task"]) == {"OfflineCarRun-v0"}
