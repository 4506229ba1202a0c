import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.published import methods_as_candidates
from safesweep.analysis.selection.bounds import (
    bounded_mean_bound,
    cost_upper_bound,
    seeds_needed,
    violation_upper_bound,
)
from safesweep.analysis.selection.candidates import with_lost_runs
from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import RULES, Criterion, Judgement, Settings, register_rule
from safesweep.search_spaces.validation import InvalidInput
from tests.benchmarks.choices_called_safe import called_safe

Scores = dict[str, list[tuple[float, float]]]

# By default `confident_safe` needs more seeds than most tests here have.
LENIENT: dict[str, dict[str, float]] = {"confident_safe": {"unsafe_share": 0.8}}


def frame_of(candidates: Scores, **constant: object) -> pandas.DataFrame:
    """`candidates`: config_id -> (normalised reward, normalised cost) of each seed."""
    rows = [
        {
            "algorithm": "flrp",
            "task": "OfflineBallRun-v0",
            "config_id": name,
            "seed": seed,
            "normalized_reward": reward,
            "normalized_cost": cost,
            "cost_return_mean": cost * 10,
            "violation_rate": min(1.0, max(0.0, cost - 0.5)),
            "episodes": 40,
            **constant,
        }
        for name, seeds in candidates.items()
        for seed, (reward, cost) in enumerate(seeds)
    ]
    return pandas.DataFrame(rows)


def choose(candidates: Scores, rule: str = "max_reward_safe", **options: object) -> pandas.Series:
    result = select(frame_of(candidates), rule, **options)  # type: ignore[arg-type]
    assert len(result) == 1
    return result.iloc[0]


GRADED: Scores = {
    "careful": [(0.2, 0.1), (0.2, 0.1), (0.2, 0.1)],
    "lucky": [(0.8, 0.2), (0.8, 0.2), (0.8, 2.3)],
    "near": [(0.76, 0.5), (0.76, 0.5), (0.76, 0.5)],
    "wild": [(1.5, 3.0), (1.5, 3.0), (1.5, 3.0)],
}


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("max_reward_safe", "lucky"),
        ("safest_within", "near"),
        ("all_seeds_safe", "near"),
        ("confident_safe", "near"),
        ("min_cost", "careful"),
        ("pareto", "lucky"),
    ],
)
def test_each_rule_chooses_what_its_definition_says(rule: str, chosen: str) -> None:
    row = choose(GRADED, rule, **LENIENT.get(rule, {}))
    assert row["config_id"] == chosen
    assert row["safe"]
    assert row["candidates"] == 4
    assert row["seeds"] == 3


def test_the_result_says_why() -> None:
    row = choose(GRADED)
    assert row["safe_candidates"] == 3
    assert row["runner_up"] == "near"
    assert row["margin"] == pytest.approx(0.04)
    assert row["reason"] == (
        "3 of 4 safe; beats near by 0.04 in reward; few seeds to call it safe by (3)"
    )
    assert np.isnan(row["bound"])


def test_the_pareto_front_goes_from_the_cheapest_to_the_best() -> None:
    row = choose({**GRADED, "dominated": [(0.1, 0.6)] * 3}, "pareto")
    assert row["front"] == ["careful", "near", "lucky", "wild"]


def test_zero_violation_bounds_the_share_of_violating_episodes() -> None:
    frame = frame_of({"clean": [(0.5, 0.2)] * 3, "dirty": [(0.9, 0.6)] * 3})
    row = select(frame, "zero_violation").iloc[0]
    assert row["config_id"] == "clean"
    assert row["bound"] == pytest.approx(1 - 0.05 ** (1 / 120))
    few = select(frame.assign(episodes=10), "zero_violation").iloc[0]
    assert not few["safe"]
    assert few["bound"] == pytest.approx(1 - 0.05 ** (1 / 30))
    tolerant = select(frame.assign(episodes=10), "zero_violation", violation_share=0.1).iloc[0]
    assert tolerant["safe"]


def test_zero_violation_needs_to_know_about_violations() -> None:
    frame = frame_of(GRADED).drop(columns="violation_rate")
    with pytest.raises(InvalidInput, match="violation_rate"):
        select(frame, "zero_violation")
    with pytest.raises(InvalidInput, match="single episodes"):
        select(frame_of(GRADED, cost_limit=10.0), "zero_violation", cost_limit=5)


def test_episodes_of_which_nothing_is_known_are_no_evidence() -> None:
    frame = frame_of({"one": [(0.5, 0.2)] * 3})
    frame.loc[0, "violation_rate"] = np.nan
    assert select(frame, "zero_violation").iloc[0]["bound"] == pytest.approx(1 - 0.05 ** (1 / 80))


def test_multi_limit_averages_over_the_limits_of_the_task() -> None:
    frame = frame_of({"loose": [(0.9, 1.6)], "strict": [(0.3, 0.9)]})
    row = select(frame, "multi_limit").iloc[0]
    assert row["config_id"] == "loose"
    assert row["safe"]
    assert row["normalized_cost"] == pytest.approx(np.mean([16 / 10, 16 / 20, 16 / 40]))
    strict = select(frame, "multi_limit", cost_limits=[10]).iloc[0]
    assert strict["config_id"] == "strict"
    zero = select(frame.assign(cost_return_mean=0.0), "multi_limit", cost_limits=[0]).iloc[0]
    assert zero["normalized_cost"] == 1.0


def test_multi_limit_says_what_it_lacks() -> None:
    with pytest.raises(InvalidInput, match="cost_return_mean"):
        select(frame_of(GRADED).drop(columns="cost_return_mean"), "multi_limit")
    with pytest.raises(InvalidInput, match="unknown task 'Nowhere'"):
        select(frame_of(GRADED, task="Nowhere"), "multi_limit")
    with pytest.raises(InvalidInput, match="cost_limits"):
        select(frame_of(GRADED), "multi_limit", cost_limits=[])


@pytest.mark.parametrize("rule", list(RULES))
def test_without_a_safe_candidate_the_choice_is_flagged(rule: str) -> None:
    unsafe = {"worse": [(0.9, 9.0)] * 3, "bad": [(0.1, 5.0)] * 3}
    row = choose(unsafe, rule)
    assert row["config_id"] == "bad"
    assert not row["safe"]
    assert row["safe_candidates"] == 0
    assert row["reason"].startswith("none of 2 safe")


@pytest.mark.parametrize("rule", ["all_seeds_safe", "confident_safe", "zero_violation"])
def test_a_stricter_rule_falls_back_to_a_mean_within_the_limit(rule: str) -> None:
    row = choose({"mixed": [(0.5, 0.1), (0.5, 1.8)], "unsafe": [(0.9, 1.05), (0.9, 1.05)]}, rule)
    assert row["config_id"] == "mixed"
    assert not row["safe"]


@pytest.mark.parametrize("rule", list(RULES))
def test_ties_go_to_the_first_name(rule: str) -> None:
    row = choose({"b": [(0.5, 0.5)] * 3, "a": [(0.5, 0.5)] * 3, "c": [(0.5, 0.5)] * 3}, rule)
    assert row["config_id"] == "a"
    assert row["margin"] == 0
    assert "tied with b" in row["reason"]


def test_a_cost_on_the_limit_is_safe_whatever_the_rounding() -> None:
    assert choose({"a": [(0.1, 0.9), (0.1, 1.1), (0.1, 1.0)]})["safe"]
    assert not choose({"a": [(0.1, 1.0), (0.1, 1.0 + 1e-6)]})["safe"]


def test_a_cost_limit_renormalises_the_raw_returns() -> None:
    candidates: Scores = {"high": [(0.9, 0.8)] * 2, "low": [(0.5, 0.3)] * 2}
    assert choose(candidates)["config_id"] == "high"
    tight = choose(candidates, cost_limit=5)
    assert tight["config_id"] == "low"
    assert tight["normalized_cost"] == pytest.approx(0.6)
    none = choose({"some": [(0.9, 0.1)], "free": [(0.2, 0.0)]}, cost_limit=0)
    assert none["config_id"] == "free"
    assert none["normalized_cost"] == 1.0
    assert none["safe"]


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


def with_steps(by_step: dict[int, Scores]) -> pandas.DataFrame:
    return pandas.concat([frame_of(scores, step=step) for step, scores in by_step.items()])


STEPPED = with_steps(
    {
        100: {"a": [(0.9, 0.5)] * 2, "b": [(0.3, 0.5)] * 2},
        200: {"a": [(0.2, 0.5)] * 2, "b": [(0.4, 0.5)] * 2},
    }
)


def test_the_last_step_is_judged_unless_said_otherwise() -> None:
    row = select(STEPPED).iloc[0]
    assert (row["config_id"], row["step"]) == ("b", 200)
    row = select(STEPPED, step=100).iloc[0]
    assert (row["config_id"], row["step"]) == ("a", 100)


def test_the_best_step_is_visible_as_online_selection() -> None:
    row = select(STEPPED, step="best").iloc[0]
    assert (row["config_id"], row["step"], row["candidates"]) == ("a", 100, 2)
    assert "online checkpoint selection" in row["reason"]
    assert "online" not in select(STEPPED).iloc[0]["reason"]


def test_of_equal_steps_the_best_is_the_latest() -> None:
    frame = with_steps(
        {100: {"a": [(0.9, 0.5)]}, 200: {"a": [(0.9, 0.5)]}, 300: {"a": [(0.1, 0.5)]}}
    )
    assert select(frame, step="best").iloc[0]["step"] == 200


@pytest.mark.parametrize("step", [150, "first", 1.5, -1, True])
def test_a_step_that_does_not_exist_is_refused(step: object) -> None:
    with pytest.raises(InvalidInput, match="step: "):
        select(STEPPED, step=step)  # type: ignore[arg-type]


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


def test_no_usable_candidate_gives_a_row_that_says_so() -> None:
    frame = frame_of({"a": [(np.nan, 0.5)]})
    for rule in RULES:
        row = select(frame, rule).iloc[0]
        assert row["config_id"] is None
        assert not row["safe"]
        assert row["candidates"] == 0
        assert row["reason"].startswith("no candidate")


def test_an_empty_frame_gives_no_rows() -> None:
    empty = frame_of(GRADED).iloc[:0]
    for rule in RULES:
        result = select(empty, rule)
        assert result.empty
        assert {"algorithm", "task", "config_id", "safe", "reason"} <= set(result.columns)
    with pytest.raises(InvalidInput, match="missing column algorithm"):
        select(pandas.DataFrame())


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "max_reward_save"}, "did you mean 'max_reward_safe'"),
        ({"cost_limit": -1}, "cost_limit: -1"),
        ({"cost_limit": float("nan")}, "cost_limit: nan"),
        ({"confidence": 1.0}, "confidence: 1.0"),
        ({"confidence": 0.2}, "confidence: 0.2"),
        ({"min_seeds": 0}, "min_seeds: 0"),
        ({"reward_margin": -0.1}, "reward_margin: -0.1"),
        ({"violation_share": 2}, "violation_share: 2"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        select(frame_of(GRADED), **options)  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_rows_without_identity_and_text_for_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput, match="config_id: a row has none"):
        select(frame_of(GRADED).assign(config_id=None))
    with pytest.raises(InvalidInput, match="normalized_reward: holds values"):
        select(frame_of(GRADED).assign(normalized_reward="high"))


def test_groups_are_algorithm_task_and_policy() -> None:
    frames = [
        frame_of(GRADED, algorithm=algorithm, task=task, policy=policy)
        for algorithm, task, policy in (
            ("lspc", "OfflineCarRun-v0", "lspc_s"),
            ("lspc", "OfflineCarRun-v0", "lspc_o"),
            ("flrp", "OfflineCarRun-v0", "flrp"),
            ("flrp", "OfflineBallRun-v0", "flrp"),
        )
    ]
    result = select(pandas.concat(frames))
    assert result[["algorithm", "task", "policy"]].values.tolist() == [
        ["flrp", "OfflineBallRun-v0", "flrp"],
        ["flrp", "OfflineCarRun-v0", "flrp"],
        ["lspc", "OfflineCarRun-v0", "lspc_o"],
        ["lspc", "OfflineCarRun-v0", "lspc_s"],
    ]
    assert set(result["candidates"]) == {4}


def test_the_input_is_left_alone() -> None:
    frame = frame_of(GRADED, step=1)
    before = frame.copy()
    for rule in RULES:
        select(frame, rule, cost_limit=12 if rule != "zero_violation" else None)
    pandas.testing.assert_frame_equal(frame, before)


def test_a_user_registers_a_rule_with_one_function() -> None:
    @register_rule("test_fewest_letters")
    def fewest_letters(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
        letters = candidates["config_id"].str.len().to_numpy(float)
        return Judgement(np.ones(len(candidates), bool), (Criterion("letters", letters),))

    try:
        row = choose(GRADED, "test_fewest_letters")
        assert row["config_id"] == "near"
        assert not choose({"x": [(0.1, 2.0)]}, "test_fewest_letters")["safe"]
        with pytest.raises(InvalidInput, match="registered already"):
            register_rule("test_fewest_letters")(RULES["min_cost"])
    finally:
        del RULES["test_fewest_letters"]


def test_every_rule_documents_its_source_and_failure_case() -> None:
    for rule in RULES.values():
        assert "Source:" in str(rule.__doc__)
        assert "Fails when:" in str(rule.__doc__)


# The published tables: what the rule says where the paper marks it.


def test_lspc_table_1_by_the_fields_own_rule() -> None:
    chosen = select(methods_as_candidates("lspc", "table1")).set_index("task")
    assert chosen["safe"].all()
    assert len(chosen) == 28
    assert chosen.loc["OfflineMetadrive-easysparse-v0", "config_id"] == "LSPC-O"
    assert chosen.loc["OfflineCarRun-v0", "config_id"] == "CDT"
    ours = methods_as_candidates("lspc", "table1")
    unsafe = ours[(ours["config_id"] == "LSPC-S") & (ours["normalized_cost"] > 1)]
    assert unsafe["task"].tolist() == ["OfflineWalker2dVelocityGymnasium-v1"]


def test_lspc_highlights_a_safer_agent_within_the_margin() -> None:
    table = methods_as_candidates("lspc", "table1")
    best = select(table).set_index("task").loc["OfflineCarRun-v0"]
    safer = select(table, "safest_within").set_index("task").loc["OfflineCarRun-v0"]
    assert (best["config_id"], best["normalized_cost"]) == ("CDT", 0.65)
    assert safer["config_id"] == "LSPC-O"
    assert safer["normalized_cost"] < 0.65
    assert safer["normalized_reward"] >= 0.99 - 0.05


# Bounds.


def test_the_cost_bound_needs_two_seeds_and_knows_no_spread_without_one() -> None:
    bounds = cost_upper_bound([[0.3], [0.4, 0.4, 0.4], [0.1, 0.5, 0.9], []], 0.95)
    assert bounds[0] == np.inf
    assert bounds[1] == pytest.approx(0.4)
    assert bounds[2] > 0.5 + 2.9 * 0.4 / np.sqrt(3)
    assert bounds[3] == np.inf


def test_the_cost_bound_is_repeatable_and_does_not_see_the_order() -> None:
    one = cost_upper_bound([[0.1, 0.5, 0.9], [1.0, 2.0, 3.0, 5.0]], 0.9)
    other = cost_upper_bound([[5.0, 1.0, 3.0, 2.0], [0.9, 0.1, 0.5]], 0.9)
    assert one.tolist() == other[::-1].tolist()


@pytest.mark.parametrize(("seeds", "power"), [(3, 0.65), (5, 0.85), (10, 0.99)])
def test_confident_safe_accepts_an_unsafe_configuration_at_most_one_time_in_twenty(
    seeds: int, power: float
) -> None:
    cases = 2000
    # Cost returns of 20 Poisson episodes a seed, around a seed's own level just above the limit.
    generator = np.random.default_rng(seeds)
    level = 1.0001 + 0.2 * generator.standard_normal((cases, seeds))
    costs = generator.poisson(200 * np.clip(level, 0, None)) / 200
    accepted = int((cost_upper_bound(list(costs), 0.95) <= 1).sum())
    assert accepted <= cases * 0.05 + 3 * np.sqrt(cases * 0.05 * 0.95)
    # The power: how often a configuration at 0.4, as noisy as the other, is accepted.
    assert float((cost_upper_bound(list(costs - 0.6), 0.95) <= 1).mean()) > power


@pytest.mark.parametrize("others", [0.0, 0.3])
@pytest.mark.parametrize("seeds", [3, 5, 10, 11, 20])
def test_confident_safe_is_not_fooled_by_seeds_that_all_missed_a_failure(
    seeds: int, others: float
) -> None:
    """A seed fails with probability 0.3 and then costs ten limits on average: three on average."""
    cases = 1000
    generator = np.random.default_rng(seeds)
    fails = generator.random((cases, seeds)) < 0.3
    costs = np.where(fails, generator.exponential(10, (cases, seeds)), others)
    assert called_safe("max_reward_safe", costs).mean() > 0.05 or seeds >= 10
    assert called_safe("confident_safe", costs).mean() <= 0.05


@pytest.mark.parametrize(
    ("share", "confidence", "seeds"), [(0.25, 0.95, 11), (0.3, 0.95, 9), (0.46, 0.95, 5),
                                       (0.25, 0.9, 9), (0.01, 0.95, 299)],
)  # fmt: skip
def test_confident_safe_says_how_many_seeds_it_needs_and_accepts_with_them(
    share: float, confidence: float, seeds: int
) -> None:
    options = {"unsafe_share": share, "confidence": confidence}
    few = choose({"a": [(0.5, 0.0)] * (seeds - 1)}, "confident_safe", **options)
    assert not few["safe"] and few["bound"] == np.inf
    assert f"0 of {seeds - 1} seeds above the limit" in few["reason"]
    assert f"needs {seeds} seeds" in few["reason"]
    enough = choose({"a": [(0.5, 0.0)] * seeds}, "confident_safe", **options)
    assert enough["safe"] and "needs" not in enough["reason"]
    assert seeds_needed(confidence, share) == seeds
    # The exact tail: with a share of `share` so many seeds all go well this rarely.
    assert (1 - share) ** seeds <= 1 - confidence < (1 - share) ** (seeds - 1)


def test_more_seeds_are_needed_where_some_are_above_the_limit() -> None:
    row = choose({"a": [(0.5, 0.0)] * 10 + [(0.5, 2.0)]}, "confident_safe")
    assert "1 of 11 seeds above the limit" in row["reason"] and "needs 18 seeds" in row["reason"]
    assert choose({"a": [(0.5, 0.0)] * 17 + [(0.5, 2.0)]}, "confident_safe")["safe"]


def test_no_number_of_seeds_bounds_a_share_of_nothing() -> None:
    assert seeds_needed(0.95, 1e-5) is None
    row = choose({"a": [(0.5, 0.0)] * 3}, "confident_safe", unsafe_share=0.001, confidence=0.999999)
    assert "needs 13809 seeds" in row["reason"]


def test_a_worst_cost_bounds_the_mean_of_seeds_that_all_cost_nothing_exactly() -> None:
    """n zeros bound a mean by worst * (1 - 0.05^(1/n)): the law with the most at the worst."""
    for seeds in (1, 3, 10, 73):
        bound = bounded_mean_bound([np.zeros(seeds)], 25, 0.95)
        assert bound[0] == pytest.approx(25 * (1 - 0.05 ** (1 / seeds)))
    row = choose({"a": [(0.5, 0.0)] * 73}, "confident_safe", worst_cost=25)
    assert not row["safe"] and "needs 74 seeds" in row["reason"]
    assert choose({"a": [(0.5, 0.0)] * 74}, "confident_safe", worst_cost=25)["safe"]


@pytest.mark.parametrize("seeds", [2, 5, 12])
def test_the_bound_under_a_worst_cost_holds_for_rare_expensive_failures(seeds: int) -> None:
    cases = 1500
    generator = np.random.default_rng(seeds)
    costs = np.where(generator.random((cases, seeds)) < 0.1, 20.0, generator.random((cases, seeds)))
    missed = bounded_mean_bound(list(costs), 20, 0.95) < 0.1 * 20 + 0.9 * 0.5
    assert missed.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / cases)
    assert (cost_upper_bound(list(costs), 0.95) < 2.45).mean() > 0.05 or seeds == 12


@pytest.mark.parametrize("rule", ["max_reward_safe", "all_seeds_safe", "min_cost"])
def test_what_is_called_safe_by_few_seeds_is_flagged(rule: str) -> None:
    few, enough = (choose({"a": [(0.5, 0.1)] * seeds}, rule) for seeds in (4, 5))
    assert few["safe"] and few["few_seeds"]
    assert "few seeds to call it safe by (4)" in few["reason"]
    assert not enough["few_seeds"] and "few seeds" not in enough["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unsafe_share": 0}, "unsafe_share: 0 is not allowed"),
        ({"unsafe_share": 1.5}, "unsafe_share: 1.5 is not allowed"),
        ({"unsafe_share": float("nan")}, "unsafe_share: nan is not allowed"),
        ({"worst_cost": 0.5}, "worst_cost: 0.5 is not allowed"),
        ({"worst_cost": 2.0}, "worst_cost: 2 is not allowed; a seed cost 2.3 times the limit"),
        ({"worst_cost": 9.0, "unsafe_share": 0.1}, "give one of them"),
        ({"rule": "min_cost", "unsafe_share": 0.1}, "unsafe_share: only confident_safe has it"),
        ({"rule": "pareto", "worst_cost": 9}, "worst_cost: only confident_safe has it, not pareto"),
    ],
)
def test_bad_options_of_confident_safe_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as problem:
        choose(GRADED, **{"rule": "confident_safe", **options})
    assert "\n" not in str(problem.value)


# Budgets.


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


@pytest.mark.parametrize(("violations", "episodes"), [(0, 20), (0, 59), (3, 20), (20, 20)])
def test_the_violation_bound_is_exact(violations: int, episodes: int) -> None:
    from scipy.stats import binom

    bound = float(violation_upper_bound(violations, episodes, 0.95))
    if violations == episodes:
        assert bound == 1
    else:
        assert binom.cdf(violations, episodes, bound) == pytest.approx(0.05)


def test_59_clean_episodes_bound_the_share_by_a_twentieth_and_none_say_nothing() -> None:
    assert violation_upper_bound(0, 59, 0.95) <= 0.05 < violation_upper_bound(0, 58, 0.95)
    assert violation_upper_bound(0, 0, 0.95) == 1


# Properties.

GRID = st.integers(0, 20).map(lambda number: number / 10)
SEEDS = st.lists(st.tuples(GRID, GRID), min_size=1, max_size=4)
ANY_SEEDS = st.dictionaries(st.sampled_from("abcdefgh"), SEEDS, min_size=1, max_size=6)
THREE_SEEDS = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.lists(st.tuples(GRID, GRID), min_size=3, max_size=3),
    min_size=1,
    max_size=6,
)
ALL_RULES = st.sampled_from(sorted(RULES))


def mean_costs(candidates: Scores) -> dict[str, float]:
    return {name: float(np.mean([cost for _, cost in seeds])) for name, seeds in candidates.items()}


@given(ANY_SEEDS, ALL_RULES)
def test_a_rule_never_returns_an_unsafe_candidate_when_a_safe_one_exists(
    candidates: Scores, rule: str
) -> None:
    options = {"cost_limits": [10.0]} if rule == "multi_limit" else LENIENT.get(rule, {})
    chosen = choose(candidates, rule, **options)
    costs = mean_costs(candidates)
    if min(costs.values()) <= 1 - 1e-9:
        assert costs[chosen["config_id"]] <= 1 + 1e-9
    if chosen["safe_candidates"]:
        assert chosen["safe"]


def test_bounds_shift_with_the_costs_to_the_last_digit() -> None:
    costs = np.array([0.0, 0.1, 0.3])
    bound, shifted = cost_upper_bound([costs, costs + 0.1], 0.95)
    assert shifted - bound == pytest.approx(0.1, rel=1e-12)


@given(
    THREE_SEEDS,
    ALL_RULES,
    st.integers(0, 7),
    st.integers(0, 5).map(lambda number: number / 10),
    st.integers(1, 5).map(lambda number: number / 10),
)
def test_adding_a_dominated_candidate_never_changes_the_choice(
    candidates: Scores, rule: str, pick: int, less: float, more: float
) -> None:
    """Dominated: every seed's reward is lower and its cost higher, each by the same amount."""
    name = sorted(candidates)[pick % len(candidates)]
    dominated = [(reward - less, cost + more) for reward, cost in candidates[name]]
    before = choose(candidates, rule)
    after = choose({**candidates, "aa": dominated}, rule)
    assert after["config_id"] == before["config_id"]
    if rule == "pareto":
        assert after["front"] == before["front"]


@given(ANY_SEEDS, ALL_RULES, st.randoms(use_true_random=False))
def test_permuting_rows_never_changes_the_result(candidates, rule, random) -> None:
    frame = frame_of(candidates)
    order = list(range(len(frame)))
    random.shuffle(order)
    pandas.testing.assert_frame_equal(select(frame, rule), select(frame.iloc[order], rule))


@given(
    ANY_SEEDS,
    # Not for rules that judge by more than the mean: of seeds (0, 0, 9) and (7, 7, 7),
    # all_seeds_safe takes the former at a limit of 10 and the latter at 8.
    st.sampled_from(["max_reward_safe", "safest_within", "min_cost", "pareto"]),
    st.integers(1, 40),
    st.integers(0, 39),
)
def test_tightening_the_limit_never_raises_the_chosen_cost(
    candidates: Scores, rule: str, limit: int, tighter: int
) -> None:
    tighter = min(tighter, limit - 1)
    costs = mean_costs(candidates)
    loose = choose(candidates, rule, cost_limit=limit)["config_id"]
    tight = choose(candidates, rule, cost_limit=tighter)["config_id"]
    assert costs[tight] <= costs[loose] + 1e-9


@given(ANY_SEEDS, st.integers(1, 40), st.integers(1, 39))
def test_tightening_the_limit_never_raises_what_a_stricter_rule_measures(
    candidates: Scores, limit: int, tighter: int
) -> None:
    """The dearest seed of all_seeds_safe and the bound of confident_safe, while one is safe."""
    tighter = min(tighter, limit)
    for rule in ("all_seeds_safe", "confident_safe"):
        options = LENIENT.get(rule, {})
        loose = choose(candidates, rule, cost_limit=limit, **options)
        tight = choose(candidates, rule, cost_limit=tighter, **options)
        if not tight["safe_candidates"]:
            continue
        if rule == "all_seeds_safe":
            dearest = {name: max(cost for _, cost in seeds) for name, seeds in candidates.items()}
            before, after = dearest[loose["config_id"]], dearest[tight["config_id"]]
        else:
            before, after = loose["bound"] * limit, tight["bound"] * tighter
        assert tight["safe"] and loose["safe"]
        assert after <= before + 1e-9


@given(
    ANY_SEEDS,
    st.sampled_from(sorted(set(RULES) - {"safest_within"})),
    st.floats(1e-3, 1e3),
)
def test_scaling_rewards_keeps_the_choice(candidates: Scores, rule: str, factor: float) -> None:
    scaled = {
        name: [(reward * factor, cost) for reward, cost in seeds]
        for name, seeds in candidates.items()
    }
    assert choose(scaled, rule)["config_id"] == choose(candidates, rule)["config_id"]
