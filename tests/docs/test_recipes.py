"""The SQL recipes answer what they ask, and the rules of the documentation are the rules."""

import re
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.selection.rules import RULES
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.writer import ResultWriter
from tests.docs.blocks import blocks, read

QUESTIONS = dict(
    re.findall(r"\n## ([^\n]+\?)\n\n```sql\n(.*?)```", read("docs/recipes.md"), re.DOTALL)
)
SELECTION = read("docs/selection.md")
LEVELS = (0.6, 0.9, 0.99)


@pytest.fixture
def store(write_sweep, tmp_path: Path) -> ResultStore:
    """Three configurations of FLRP of which the last is unsafe, one with a diverged seed, and on
    another task one whose seeds disagree."""
    first = write_sweep("first", [{"feasibility_expectile": level} for level in LEVELS])
    write_sweep("second", [{"feasibility_expectile": 0.95}], statuses={1: "diverged"}, also=first)
    write_sweep(
        "third",
        task="OfflineCarRun-v0",
        scores=lambda config, seed, step: (50.0 + seed, [4.0 + 5 * seed]),
    )
    evaluations = ResultStore(tmp_path / "store").evaluations(sweep="first", step=2000)
    best = evaluations[evaluations["normalized_reward"].between(0.9, 0.93)]
    again = best.assign(
        normalized_reward=best["normalized_reward"] - 0.1, confirmation_id="c", kind="evaluated"
    )
    known = ["confirmation_id", "kind", "run_id", "config_id", "algorithm", "task", "seed", "step",
             "policy", "normalized_reward", "normalized_cost", "episodes"]  # fmt: skip
    writer = ResultWriter(str(tmp_path / "store"), "first")
    writer.write_confirmation("c", again[known].to_dict("records"))
    return ResultStore(tmp_path / "store")


def answer(store: ResultStore, beginning: str) -> pandas.DataFrame:
    (query,) = [sql for question, sql in QUESTIONS.items() if question.startswith(beginning)]
    return store.sql(query)


def test_there_are_ten_and_no_other_sql() -> None:
    assert len(QUESTIONS) == len(blocks("sql")) == 10


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_has_an_answer(store: ResultStore, question: str) -> None:
    frame = store.sql(QUESTIONS[question])
    assert len(frame) > 0
    assert not frame.isna().all().any()


def test_best_safe_per_task(store: ResultStore) -> None:
    row = answer(store, "What is the best safe").iloc[0]
    assert row["task"] == "OfflineBallRun-v0"
    config = store.runs(config_id=row["config_id"])["hp_feasibility_expectile"]
    # 0.95 has a diverged seed, which this plain query does not know to leave out.
    assert set(config) <= {0.9, 0.95}
    assert row["cost"] <= 1


def test_reward_falls_as_the_limit_tightens(store: ResultStore) -> None:
    frame = answer(store, "How does the best reward fall")
    frame = frame[frame["task"] == "OfflineBallRun-v0"]
    assert frame["cost_limit"].tolist() == [40, 20, 10, 5, 2]
    assert frame["safe_configurations"].tolist() == [4, 4, 2, 1, 0]
    assert frame["best_safe_reward"].dropna().is_monotonic_decreasing


def test_seeds_that_disagree(store: ResultStore) -> None:
    frame = answer(store, "Which configurations are safe with some")
    assert frame["task"].tolist() == ["OfflineCarRun-v0"]
    assert frame[["safe_seeds", "seeds"]].iloc[0].tolist() == [2, 3]
    assert frame["highest_cost"].iloc[0] == pytest.approx(1.4)


def test_sensitivity_failures_and_hours(store: ResultStore) -> None:
    levels = answer(store, "How much does one hyperparameter")
    levels = levels[levels["task"] == "OfflineBallRun-v0"]
    assert levels["tau_h"].tolist() == [0.6, 0.9, 0.95, 0.99]
    assert levels["reward"].is_monotonic_increasing
    lost = answer(store, "What diverged")
    assert lost["status"].tolist() == ["diverged"]
    hours = answer(store, "How many hours").set_index("sweep")
    assert hours.loc["first", "training_hours"] == pytest.approx(9 * 60 / 3600)


def test_optimism_of_choosing_online(write_sweep, tmp_path: Path) -> None:
    rewards = {1000: 90.0, 2000: 40.0}
    write_sweep("x", scores=lambda config, seed, step: (rewards[step], [1.0]))
    row = answer(ResultStore(tmp_path / "store"), "How much would choosing").iloc[0]
    assert row["optimism"] == pytest.approx(0.5)


def test_violations_published_and_optimism(store: ResultStore) -> None:
    shares = answer(store, "How often does a policy")
    assert (shares["cost"] <= 1).all()
    assert shares["share_of_episodes"].iloc[0] > 0
    printed = answer(store, "How do we compare")
    assert {"flrp", "lspc", "r2pac"} <= set(printed["paper"])
    row = answer(store, "How optimistic").iloc[0]
    assert row["selected_reward"] - row["confirmed_reward"] == pytest.approx(0.1)


def last_of_completed(store: ResultStore) -> pandas.DataFrame:
    """What `finals` should be, by pandas."""
    runs, evaluations = store.runs(), store.evaluations()
    completed = runs.loc[runs["status"] == "completed", "run_id"]
    rows = evaluations[evaluations["run_id"].isin(completed)]
    rows = rows[rows["step"] == rows.groupby(["run_id", "policy"])["step"].transform("max")]
    columns = [name for name in runs if name.startswith("hp_")]
    return rows.merge(runs[["run_id", *columns]], on="run_id")


def compared(found: pandas.DataFrame, wanted: pandas.DataFrame, keys: list[str]) -> None:
    """Both hold the same rows, and some."""
    assert len(found) > 0
    pandas.testing.assert_frame_equal(
        found.sort_values(keys, ignore_index=True),
        wanted[list(found)].sort_values(keys, ignore_index=True),
        check_dtype=False,
    )


def test_answers_on_a_store_of_everything_are_those_of_pandas(full_store: Path) -> None:
    store = ResultStore(full_store)
    finals = last_of_completed(store)
    keys = ["task", "algorithm", "policy", "config_id"]
    means = finals.groupby(keys, as_index=False).agg(
        reward=("normalized_reward", "mean"), cost=("normalized_cost", "mean"),
        seeds=("run_id", "size"), lowest_cost=("normalized_cost", "min"),
        highest_cost=("normalized_cost", "max"), episodes=("episodes", "sum"),
        plain_cost=("cost_return_mean", "mean"),
        safe_seeds=("normalized_cost", lambda costs: int((costs <= 1).sum())),
    )  # fmt: skip
    safe = means[means["cost"] <= 1]
    ordered = safe.sort_values(["reward", "config_id", "policy"], ascending=[False, True, True])
    compared(answer(store, "What is the best safe"), ordered.drop_duplicates("task"), ["task"])

    tightened = [
        {"task": task, "cost_limit": limit,
         "safe_configurations": int((rows["plain_cost"] <= limit).sum()),
         "best_safe_reward": rows.loc[rows["plain_cost"] <= limit, "reward"].max()}
        for task, rows in means.groupby("task") for limit in (40, 20, 10, 5, 2)
    ]  # fmt: skip
    falls = answer(store, "How does the best reward fall")
    compared(falls, pandas.DataFrame(tightened), ["task", "cost_limit"])

    disagreeing = means[(means["safe_seeds"] > 0) & (means["safe_seeds"] < means["seeds"])]
    found = answer(store, "Which configurations are safe with some")
    if len(disagreeing) or len(found):
        compared(found, disagreeing, ["config_id", "policy"])

    levels = finals.dropna(subset="hp_feasibility_expectile").groupby(
        ["task", "policy", "hp_feasibility_expectile"], as_index=False
    ).agg(reward=("normalized_reward", "mean"), cost=("normalized_cost", "mean"),
          cost_deviation=("normalized_cost", "std"))  # fmt: skip
    levels = levels.rename(columns={"hp_feasibility_expectile": "tau_h"})
    compared(answer(store, "How much does one hyperparameter"), levels, ["task", "policy"])

    shares = finals.dropna(subset="violation_rate")
    shares = shares.assign(violating=shares["violation_rate"] * shares["episodes"])
    summed = shares.groupby(keys, as_index=False)[["violating", "episodes"]].sum()
    summed["share_of_episodes"] = summed["violating"] / summed["episodes"]
    wanted = safe.drop(columns="episodes").merge(summed, on=keys)
    found = answer(store, "How often does a policy")
    compared(found.dropna(), wanted, ["config_id", "policy"])


def test_the_rules_of_the_documentation_are_the_rules() -> None:
    table = SELECTION.split("Each rule's docstring")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == set(RULES)


def test_the_rule_of_ones_own_works(store: ResultStore) -> None:
    (block,) = blocks("python", pages=("docs/selection.md",))
    code = block.text.replace('"results/demo"', repr(store.uri)).replace('"demo"', '"first"')
    names: dict[str, object] = {}
    try:
        exec(code, names)
        from safesweep.analysis.selection.choice import select

        evaluations = store.to_judge(task="OfflineBallRun-v0")
        chosen = select(evaluations, "most_reward_per_cost").iloc[0]
        assert chosen["safe"]
        assert chosen["normalized_reward"] == pytest.approx(0.61)
    finally:
        RULES.pop("most_reward_per_cost", None)
