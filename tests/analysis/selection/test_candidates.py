import numpy as np
import pandas
import pytest

from safesweep.analysis.selection.candidates import with_lost_runs
from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import RULES
from safesweep.search_spaces.validation import InvalidInput
from tests.analysis.selection.frames import GRADED, STEPPED, Scores, choose, frame_of, with_steps


def test_a_cost_limit_can_be_answered_from_single_episodes() -> None:
    frame = frame_of({"a": [(0.9, 0.5)], "b": [(0.5, 0.5)]}, step=100)
    frame["run_id"] = frame["config_id"]
    frame = frame.drop(columns=["cost_return_mean", "normalized_cost"])
    episodes = pandas.DataFrame(
        {
            "run_id": ["a"] * 4 + ["b"] * 4,
            "step": 100,
            "cost_return": [0, 0, 0, 12, 1, 1, 1, 1],
        }
    )
    row = select(frame, cost_limit=2, episodes=episodes).iloc[0]
    assert row["config_id"] == "b"
    assert row["normalized_cost"] == pytest.approx(0.5)
    share = select(
        frame, "zero_violation", cost_limit=2, episodes=episodes, violation_share=0.9
    ).iloc[0]
    assert share["config_id"] == "b"
    assert share["bound"] == pytest.approx(1 - 0.05 ** (1 / 4))
    with pytest.raises(InvalidInput, match="missing column run_id"):
        select(frame.drop(columns="run_id"), cost_limit=2, episodes=episodes)
    with pytest.raises(InvalidInput, match="episodes: missing column cost_return"):
        select(frame, cost_limit=2, episodes=episodes.drop(columns="cost_return"))


def test_steps_need_a_column_only_when_they_matter() -> None:
    frame = STEPPED.drop(columns="step")
    assert "step" not in select(frame)
    for step in ("best", 100):
        with pytest.raises(InvalidInput, match="missing column step"):
            select(frame, step=step)  # type: ignore[arg-type]


def test_a_configuration_that_lost_a_seed_is_left_out() -> None:
    lost = {"whole": [(0.3, 0.5)] * 2, "lost": [(0.9, 0.5), (0.9, 0.5)]}
    for column, value in (("normalized_cost", np.nan), ("normalized_reward", np.inf)):
        frame = frame_of(lost)
        frame.loc[3, column] = value
        row = select(frame).iloc[0]
        assert row["config_id"] == "whole"
        assert row["candidates"] == 1
        assert "1 left out: lost a seed" in row["reason"]


def test_a_seed_that_stopped_early_is_lost() -> None:
    frame = with_steps({100: {"a": [(0.9, 0.5)] * 2, "b": [(0.3, 0.5)] * 2}})
    frame = pandas.concat([frame, with_steps({200: {"a": [(0.9, 0.5)], "b": [(0.3, 0.5)] * 2}})])
    assert select(frame).iloc[0]["config_id"] == "b"
    best = select(frame, step="best").iloc[0]
    assert (best["config_id"], best["step"]) == ("a", 100)


def test_the_last_evaluation_of_a_stopped_run_is_not_taken_for_a_final_one() -> None:
    early = with_steps({100: {"stopped": [(0.9, 0.5)] * 2, "whole": [(0.2, 0.5)] * 2}})
    late = with_steps({200: {"whole": [(0.3, 0.5)] * 2}})
    frame = pandas.concat([early, late], ignore_index=True)
    assert select(frame).iloc[0]["config_id"] == "stopped"
    frame["run_status"] = frame["config_id"].map({"stopped": "stopped", "whole": "completed"})
    for step in ("last", "best"):
        row = select(frame, step=step).iloc[0]
        assert (row["config_id"], row["candidates"], row["step"]) == ("whole", 1, 200)
        assert "1 left out: stopped early" in row["reason"]
    # At a step that is asked for, where all were evaluated, it counts like any other.
    assert select(frame, step=100).iloc[0]["config_id"] == "stopped"
    nobody = select(frame[frame["config_id"] == "stopped"]).iloc[0]
    assert nobody["config_id"] is None
    assert nobody["reason"] == "no candidate; 1 left out: stopped early"


def test_runs_that_diverged_or_failed_lose_their_seed() -> None:
    frame = frame_of({"whole": [(0.3, 0.5)] * 2, "lost": [(0.9, 0.5)]}, step=100, policy="flrp")
    frame["run_id"] = frame["config_id"] + frame["seed"].astype(str)
    runs = pandas.DataFrame(
        {
            "run_id": ["whole0", "whole1", "lost0", "lost1"],
            "config_id": ["whole", "whole", "lost", "lost"],
            "algorithm": "flrp",
            "task": "OfflineBallRun-v0",
            "seed": [0, 1, 0, 1],
            "status": ["completed", "completed", "completed", "diverged"],
        }
    )
    assert select(frame).iloc[0]["config_id"] == "lost"
    result = select(with_lost_runs(frame, runs))
    assert result["config_id"].tolist() == ["whole"]
    assert "1 left out: lost a seed" in result["reason"].iloc[0]
    unharmed = runs.assign(status="completed")
    pandas.testing.assert_frame_equal(with_lost_runs(frame, unharmed), frame)


def test_unequal_seeds_are_compared_and_said() -> None:
    unequal: Scores = {"one": [(0.9, 0.5)], "three": [(0.5, 0.5)] * 3}
    row = choose(unequal)
    assert row["config_id"] == "one"
    assert "unequal seeds: 1 to 3" in row["reason"]
    strict = choose(unequal, min_seeds=3)
    assert strict["config_id"] == "three"
    assert "1 left out: fewer than 3 seeds" in strict["reason"]


def test_duplicated_rows_change_nothing() -> None:
    frame = frame_of(GRADED)
    doubled = pandas.concat([frame, frame.iloc[[0, 3, 3]]])
    for rule in RULES:
        pandas.testing.assert_frame_equal(select(doubled, rule), select(frame, rule))


def test_rows_that_disagree_are_averaged_so_that_each_seed_weighs_the_same() -> None:
    frame = frame_of({"a": [(0.0, 0.5), (1.0, 0.5)]})
    again = frame.iloc[[1]].assign(normalized_reward=0.5)
    row = select(pandas.concat([frame, again])).iloc[0]
    assert row["normalized_reward"] == pytest.approx((0.0 + 0.75) / 2)
    assert row["seeds"] == 2


@pytest.mark.parametrize(
    "column", ["algorithm", "task", "config_id", "seed", "normalized_reward", "normalized_cost"]
)
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(InvalidInput, match=f"missing column {column}"):
        select(frame_of(GRADED).drop(columns=column))


def test_a_limit_needs_raw_costs_and_not_normalised_ones() -> None:
    frame = frame_of(GRADED)
    with pytest.raises(InvalidInput, match="missing column cost_return_mean"):
        select(frame.drop(columns="cost_return_mean"), cost_limit=10)
    assert len(select(frame.drop(columns="normalized_cost"), cost_limit=10)) == 1


def test_rows_without_identity_and_text_for_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="config_id: a row has none"):
        select(frame_of(GRADED).assign(config_id=None))
    with pytest.raises(InvalidInput, match="normalized_reward: holds values"):
        select(frame_of(GRADED).assign(normalized_reward="high"))


def test_the_budget_is_the_product_of_what_was_evaluated() -> None:
    row = choose({name: [(0.5, 0.1)] * 3 for name in "abcd"})
    assert row["online_episodes"] == 4 * 3 * 40
    assert row["budget"] == "4 configurations x 3 seeds x 40 episodes = 480 online episodes"


def test_every_eligible_step_is_in_the_budget() -> None:
    frame = pandas.concat([frame_of(GRADED, step=step) for step in (100, 200, 300)])
    last, best, second = (select(frame, step=step).iloc[0] for step in ("last", "best", 200))
    assert last["online_episodes"] == second["online_episodes"] == 4 * 3 * 40
    assert best["online_episodes"] == 3 * 4 * 3 * 40
    assert best["budget"] == (
        "4 configurations x 3 seeds x 3 steps x 40 episodes = 1,440 online episodes"
    )


def test_a_budget_counts_what_was_left_out_and_repeated_rows_once() -> None:
    frame = frame_of({"a": [(0.5, 0.1)] * 3, "b": [(0.5, 0.1)] * 2, "c": [(0.5, 0.1)]})
    row = select(pandas.concat([frame, frame]), min_seeds=2).iloc[0]
    assert row["candidates"] == 2
    assert row["online_episodes"] == 6 * 40
    assert row["budget"] == "3 configurations, 6 evaluations of 40 episodes = 240 online episodes"
    unknown = select(frame.drop(columns="episodes")).iloc[0]
    assert pandas.isna(unknown["online_episodes"])
    assert unknown["budget"].endswith("episodes not known")


@pytest.mark.parametrize("column", ["run_status", "status"])
@pytest.mark.parametrize("status", ["diverged", "failed", "incomplete"])
def test_a_status_that_says_a_run_is_lost_counts_against_its_configuration(
    column: str, status: str
) -> None:
    frame = frame_of({"a": [(0.9, 0.9)] * 3, "b": [(0.5, 0.5)] * 3})
    frame[column] = "completed"
    assert select(frame).iloc[0]["config_id"] == "a"
    frame.loc[(frame["config_id"] == "a") & (frame["seed"] < 2), column] = status
    row = select(frame).iloc[0]
    assert (row["config_id"], row["candidates"]) == ("b", 1)
    assert "1 left out: lost a seed" in row["reason"]
    frame.loc[frame["config_id"] == "b", column] = "stopped"
    assert "1 left out: stopped early" in select(frame).iloc[0]["reason"]


def test_costs_may_be_judged_at_a_limit_for_each_task() -> None:
    one = frame_of({"a": [(0.5, 0.8)]}, task="OfflineBallRun-v0", cost_limit=10.0)
    other = frame_of({"a": [(0.5, 0.8)]}, task="OfflineCarRun-v0", cost_limit=10.0)
    frame = pandas.concat([one, other])
    chosen = select(frame, cost_limit={"OfflineBallRun-v0": 4.0}).set_index("task")
    assert chosen["normalized_cost"].to_dict() == pytest.approx(
        {"OfflineBallRun-v0": 2.0, "OfflineCarRun-v0": 0.8}
    )
    frame["policy"] = "cdt@20"
    chosen = select(frame, cost_limit={"OfflineBallRun-v0": 4.0})
    assert chosen["normalized_cost"].tolist() == pytest.approx([0.8, 0.8])
