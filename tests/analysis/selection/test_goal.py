import numpy as np
import pytest

from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.goal import Goal, parse_limits
from safesweep.analysis.selection.rules import RULES
from safesweep.search_spaces.validation import InvalidInput
from tests.analysis.selection.frames import GRADED, LENIENT, frame_of


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_usual_goal_changes_nothing(rule: str) -> None:
    frame = frame_of(GRADED)
    options = LENIENT.get(rule, {})
    assert select(frame, rule, goal=Goal(), **options).equals(  # type: ignore[arg-type]
        select(frame, rule, **options)  # type: ignore[arg-type]
    )


def test_a_tighter_constraint_is_kept_and_scores_are_shown_as_they_are() -> None:
    frame = frame_of({"high": [(0.9, 0.8)] * 3, "low": [(0.5, 0.3)] * 3})
    row = select(frame, goal=Goal(subject_to={"normalized_cost": 0.4})).iloc[0]
    assert (row["config_id"], row["safe"]) == ("low", True)
    assert (row["normalized_reward"], row["normalized_cost"]) == pytest.approx((0.5, 0.3))
    assert "maximises normalized_reward with normalized_cost at most 0.4" in row["reason"]


def test_without_a_constraint_the_objective_alone_decides() -> None:
    row = select(frame_of(GRADED), goal=Goal(subject_to={})).iloc[0]
    assert (row["config_id"], row["safe_candidates"]) == ("wild", 4)


def test_another_objective_is_maximised() -> None:
    frame = frame_of({"a": [(0.9, 0.5)], "b": [(0.1, 0.5)]})
    frame["reward_return_mean"] = [1.0, 2.0]
    assert select(frame, goal=Goal("reward_return_mean")).iloc[0]["config_id"] == "b"


def test_each_of_several_constraints_must_hold_and_unsafe_ones_go_by_their_sum() -> None:
    frame = frame_of({"a": [(0.9, 0.9)], "b": [(0.5, 0.9)], "c": [(0.7, 0.9)]})
    frame["violation_rate"] = [0.5, 0.1, 0.4]
    frame["normalized_cost"] = [0.9, 0.9, 1.05]
    limits = {"normalized_cost": 1.0, "violation_rate": 0.2}
    row = select(frame, goal=Goal(subject_to=limits)).iloc[0]
    assert (row["config_id"], row["safe_candidates"]) == ("b", 1)
    # a exceeds its limits by 0.3 in all, c by 0.25.
    row = select(frame[frame["config_id"] != "b"], goal=Goal(subject_to=limits)).iloc[0]
    assert (row["config_id"], row["safe"]) == ("c", False)


def test_a_limit_of_zero_can_be_kept() -> None:
    frame = frame_of({"clean": [(0.1, 0.1)], "dirty": [(0.9, 0.9)]})
    frame["violation_rate"] = np.array([0.0, 0.1])
    row = select(frame, goal=Goal(subject_to={"violation_rate": 0.0})).iloc[0]
    assert (row["config_id"], row["safe_candidates"]) == ("clean", 1)


def test_limits_as_text() -> None:
    assert parse_limits(["normalized_cost=0.5", "violation_rate=0"]) == {
        "normalized_cost": 0.5,
        "violation_rate": 0.0,
    }
    assert parse_limits(["none"]) == {}
    with pytest.raises(InvalidInput, match="subject_to: 'cost' is not"):
        parse_limits(["cost"])
    with pytest.raises(InvalidInput, match="maximize: 'reward'"):
        Goal("reward")
