from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.published import methods_as_candidates
from safesweep.analysis.selection.bounds import (
    cost_upper_bound,
    seeds_needed,
)
from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import (
    RULES,
    Criterion,
    Rule,
    RuleOptions,
    RuleVerdict,
    register_rule,
)
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.planned import BudgetChoice
from tests.analysis.selection.frames import (
    ALL_RULES,
    ANY_SEEDS,
    GRADED,
    LENIENT,
    THREE_SEEDS,
    Scores,
    choose,
    frame_of,
    mean_costs,
)
from tests.benchmarks.choices_called_safe import called_safe


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
    unknown = frame_of({"a": [(0.5, 0.5)]}, task="Nowhere").assign(cost_return_mean=np.nan)
    assert not select(unknown, "multi_limit").iloc[0]["safe"]
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


def test_a_user_registers_a_rule_with_one_function() -> None:
    @register_rule("test_fewest_letters")
    def fewest_letters(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
        letters = candidates["config_id"].str.len().to_numpy(float)
        return RuleVerdict(np.ones(len(candidates), bool), (Criterion("letters", letters),))

    try:
        row = choose(GRADED, "test_fewest_letters")
        assert row["config_id"] == "near"
        assert not choose({"x": [(0.1, 2.0)]}, "test_fewest_letters")["safe"]
        with pytest.raises(InvalidInput, match="registered already"):
            register_rule("test_fewest_letters")(RULES["min_cost"])
    finally:
        del RULES["test_fewest_letters"]


def unsound(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    raise KeyError("no_such_column")


def verdict_of(**changed: Any) -> Rule:
    """A rule that calls everything safe, but for what is changed in its verdict."""

    def rule(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
        zeros = np.zeros(len(candidates))
        fields = {"safe": zeros == 0, "criteria": (Criterion("nothing", zeros),), **changed}
        return RuleVerdict(**fields)

    return rule


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (unsound, "rule 'own': KeyError: 'no_such_column'"),
        (lambda candidates, settings: None, "must return a RuleVerdict, not None"),
        (lambda candidates: None, "TypeError: .* positional argument"),
        (verdict_of(safe=[True] * 4), r"safe must be an array of truth values, not \[True"),
        (verdict_of(safe=np.ones(4)), r"safe must be an array of truth values, not array\(\[1"),
        (verdict_of(safe=np.ones(3, bool)), r"safe has the shape \(3,\), not one .* 4 candidates"),
        (verdict_of(criteria=()), r"criteria must be a tuple of at least one Criterion, not \(\)"),
        (verdict_of(criteria=(3,)), "criteria holds 3, which is no Criterion"),
        (
            verdict_of(criteria=(Criterion("size", np.zeros((4, 2))),)),
            r"criterion 'size' has the shape \(4, 2\)",
        ),
        (
            verdict_of(criteria=(Criterion("name", np.array(["a"] * 4)),)),
            "criterion 'name' must be an array of numbers",
        ),
        (verdict_of(bound=np.zeros(2)), r"bound has the shape \(2,\)"),
        (verdict_of(cost=3.0), "cost must be an array of numbers, not 3.0"),
        (verdict_of(remark="good"), "remark must be a function of a position, not 'good'"),
        (verdict_of(remark=lambda position: 1 / 0), "ZeroDivisionError"),
    ],
)
def test_a_rule_that_gives_no_verdict_is_named_in_one_line(
    rule: Rule, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "own", rule)
    with pytest.raises(InvalidInput, match=message) as raised:
        choose(GRADED, "own")
    assert str(raised.value).startswith("rule 'own'") and "\n" not in str(raised.value)


def test_every_rule_documents_its_source_and_failure_case() -> None:
    for rule in RULES.values():
        assert "Source:" in str(rule.__doc__)
        assert "Fails when:" in str(rule.__doc__)


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


@given(
    THREE_SEEDS,
    # What one candidate shows is evidence on the others there.
    ALL_RULES.filter(lambda rule: rule != "shared_safe"),
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


def test_what_a_budget_chose_is_chosen() -> None:
    scores: Scores = {"lucky": [(0.9, 0.2)], "known": [(0.6, 0.5)] * 8, "far": [(0.9, 3.0)] * 4}
    assert choose(scores, "budget")["config_id"] == "lucky"
    for passed in (True, False):
        ended = {"known": BudgetChoice("known", 0.8 if passed else 1.2, 0.9, passed)}
        row = choose(scores, "budget", budget_choices=ended)
        assert row["config_id"] == "known"
        assert row["safe"] == passed and row["safe_candidates"] == int(passed)
        assert row["bound"] == ended["known"].bound
        assert "by the budget" in row["reason"]
