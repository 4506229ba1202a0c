import numpy as np
import pandas
import pytest

from safesweep.analysis.claims import (
    ALL_TASKS,
    CONTRADICTED,
    DATASETS,
    EVERY_TASK,
    NOT_TESTED,
    ON_AVERAGE,
    OUR_DATA,
    PRINT,
    RESULTS,
    SOME_TASK,
    SUPPORTED,
    UNDECIDED,
    Claim,
    Finding,
    claim_verdicts,
    decide,
    holm,
    judge_contrast,
    judge_difference,
    judge_paired,
    judge_range,
    judge_spread,
    judge_trend,
    score,
)
from safesweep.analysis.intervals import mean_interval

SETTINGS = [0.6, 0.7, 0.8, 0.9, 0.95]
RISING = [[0.3, 0.4, 0.5, 0.6, 0.8], [0.2, 0.4, 0.6, 0.7, 0.9], [0.3, 0.5, 0.4, 0.7, 0.8]]


def test_a_trend_is_supported_and_its_reverse_contradicted() -> None:
    finding = judge_trend("task", RISING, SETTINGS)
    assert finding.verdict == SUPPORTED
    assert finding.effect == pytest.approx(4 * np.polyfit(range(5), np.mean(RISING, 0), 1)[0])
    assert 0 < finding.low < finding.effect < finding.high
    assert finding.p_value < 0.01
    assert finding.seeds == 3
    assert judge_trend("task", RISING, SETTINGS, rising=False).verdict == CONTRADICTED


def test_noise_and_constants_are_undecided() -> None:
    noise = [[0.3, 0.1, 0.5, 0.2, 0.3], [0.2, 0.5, 0.1, 0.4, 0.2]]
    assert judge_trend("task", noise, SETTINGS).verdict == UNDECIDED
    constant = judge_trend("task", np.ones((3, 5)), SETTINGS)
    assert (constant.verdict, constant.effect) == (UNDECIDED, pytest.approx(0, abs=1e-12))
    unvaried = judge_trend("task", np.repeat([[0.1], [0.2], [0.3]], 5, axis=1), SETTINGS)
    assert (unvaried.verdict, unvaried.effect) == (NOT_TESTED, 0)


def test_one_seed_decides_nothing_however_clear() -> None:
    finding = judge_trend("task", RISING[:1], SETTINGS)
    assert finding.verdict == UNDECIDED
    assert np.isnan(finding.low)


def test_seeds_without_a_value_are_left_out() -> None:
    table = [*RISING, [np.nan, 0.9, 0.1, 0.1, 0.1]]
    assert judge_trend("task", table, SETTINGS) == judge_trend("task", RISING, SETTINGS)
    assert judge_trend("task", [[np.nan, 1.0]], [0.6, 0.7]).verdict == UNDECIDED


def test_a_trend_is_about_means_and_not_ranks() -> None:
    # Equal means; most ranks rise. A rank test would call it a trend.
    table = np.tile([0.0, 0.5, 1.0], (12, 1)) + 0.001 * np.arange(36).reshape(12, 3)
    table[0] = [7.0, 4.0, 1.0]
    assert judge_trend("task", table, [1, 2, 3]).verdict == UNDECIDED


def test_inversions_of_the_means_are_counted() -> None:
    table = [[0.1, 0.3, 0.2, 0.4, 0.5]] * 3
    assert "1 inversion of the means" in judge_trend("task", table, SETTINGS).remark


def test_a_difference_is_judged_in_both_directions() -> None:
    larger, smaller = [0.9, 0.8, 0.85], [0.1, 0.2, 0.15]
    finding = judge_difference("tasks", larger, smaller)
    assert finding.verdict == SUPPORTED
    assert finding.effect == pytest.approx(0.7)
    assert 0 < finding.low < 0.7 < finding.high
    assert judge_difference("tasks", smaller, larger).verdict == CONTRADICTED
    assert judge_difference("tasks", [0.1, 0.9], [0.2, 0.8]).verdict == UNDECIDED
    assert judge_difference("tasks", [0.9], [0.1]).verdict == UNDECIDED
    assert judge_difference("tasks", [np.nan], [0.1]).verdict == UNDECIDED


def test_the_interval_is_students() -> None:
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert (low, high) == pytest.approx((2 - 4.30265 / np.sqrt(3), 2 + 4.30265 / np.sqrt(3)), 1e-5)


def test_paired_differences_are_judged_in_both_directions() -> None:
    finding = judge_paired("task", [0.5, 0.6, 0.55], "remark")
    assert (finding.verdict, finding.seeds, finding.remark) == (SUPPORTED, 3, "remark")
    assert finding.effect == pytest.approx(0.55)
    assert judge_paired("task", [-0.5, -0.6, -0.55]).verdict == CONTRADICTED
    assert judge_paired("task", [-0.5, 0.6, 0.1]).verdict == UNDECIDED
    for few in ([], [0.5], [0.5, 0.5], [0.5, np.nan]):
        assert judge_paired("task", few).verdict == UNDECIDED


def test_a_pair_decides_where_the_seeds_differ_more_than_the_settings() -> None:
    one, other = np.array([0.2, 0.5, 0.8]), np.array([0.1, 0.41, 0.69])
    assert judge_difference("task", one, other).verdict == UNDECIDED
    assert judge_paired("task", one - other).verdict == SUPPORTED


def test_a_range_holds_where_the_interval_lies_within() -> None:
    near, far = [0.01, -0.01, 0.0], [0.3, 0.31, 0.32]
    assert judge_range("task", near, -0.1, 0.1).verdict == SUPPORTED
    assert judge_range("task", far, -0.1, 0.1).verdict == CONTRADICTED
    assert judge_range("task", [0.0, 0.2, 0.1], -0.1, 0.1).verdict == UNDECIDED
    assert judge_range("task", [0.0, 0.0, 0.0], high=1.0).verdict == UNDECIDED
    assert judge_range("task", [0.0] * 9, high=1.0).verdict == SUPPORTED
    assert "9 seeds agree: up to 28 % may differ" in judge_range("task", [0.0] * 9, high=1).remark
    assert judge_range("task", [0.0], high=1.0).verdict == UNDECIDED
    assert judge_range("task", [], high=1.0).verdict == UNDECIDED


def test_a_decided_finding_never_prints_an_interval_that_says_otherwise() -> None:
    generator = np.random.default_rng(0)
    decided = 0
    for _ in range(2000):
        values = generator.normal(generator.uniform(-1, 1), 0.5, generator.integers(2, 8))
        for low, high in ((0.0, np.inf), (-np.inf, 0.2), (-0.4, 0.4)):
            found = judge_range("task", values, low, high)
            decided += found.verdict in (SUPPORTED, CONTRADICTED)
            if found.verdict == SUPPORTED:
                assert low <= found.low and found.high <= high
            if found.verdict == CONTRADICTED:
                assert found.high < low or found.low > high
    assert decided > 500


def test_settings_that_gave_the_same_values_were_not_varied() -> None:
    same = judge_contrast("task", [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], low=0.0)
    assert (same.verdict, same.seeds) == (NOT_TESTED, 3)
    assert "nothing was varied" in same.remark
    # Costs of 0 are equal by merit.
    assert judge_contrast("task", [0.0] * 3, [0.0] * 3, low=0.0).verdict == UNDECIDED


def test_spreads_are_compared_by_deviations_from_the_median() -> None:
    steady, loose = np.linspace(0.4, 0.6, 12), np.linspace(-4, 6, 12)
    assert judge_spread("task", steady, loose).verdict == SUPPORTED
    assert judge_spread("task", loose, steady).verdict == CONTRADICTED
    assert judge_spread("task", loose, loose + 7).verdict == UNDECIDED
    assert judge_spread("task", [], [1.0]).verdict == UNDECIDED


GOOD, BAD, OPEN = [1.0, 1.1, 0.9, 1.05], [-1.0, -1.1, -0.9, -1.0], [1.0, -0.9, 0.5, -0.7]


def claim(quantifier: str, **more: object) -> Claim:
    return Claim(
        "name", "It is so.", lambda _: [], quantifier=quantifier, margin=(0.0, np.inf), **more
    )  # type: ignore[arg-type]


def found(**samples: list[float]) -> list[Finding]:
    return [judge_range(task, values, low=0.0) for task, values in samples.items()]


@pytest.mark.parametrize(
    ("quantifier", "samples", "verdict"),
    [
        (EVERY_TASK, {"a": GOOD, "b": GOOD}, SUPPORTED),
        (EVERY_TASK, {"a": GOOD, "b": OPEN}, UNDECIDED),
        (EVERY_TASK, {"a": GOOD, "b": BAD}, CONTRADICTED),
        (EVERY_TASK, {"a": OPEN, "b": BAD}, CONTRADICTED),
        (SOME_TASK, {"a": GOOD, "b": BAD}, SUPPORTED),
        (SOME_TASK, {"a": OPEN, "b": BAD}, UNDECIDED),
        (SOME_TASK, {"a": BAD, "b": BAD}, CONTRADICTED),
        (ON_AVERAGE, {"a": [3.0, 3.1, 2.9], "b": BAD}, SUPPORTED),
        (ON_AVERAGE, {"a": GOOD, "b": BAD}, UNDECIDED),
        (ON_AVERAGE, {"a": OPEN, "b": BAD}, UNDECIDED),
        (ON_AVERAGE, {"a": BAD, "b": BAD}, CONTRADICTED),
    ],
)
def test_a_quantifier_is_kept(
    quantifier: str, samples: dict[str, list[float]], verdict: str
) -> None:
    assert decide(claim(quantifier), found(**samples)).verdict == verdict


def test_contradictions_are_corrected_for_the_number_of_tasks() -> None:
    weak = Finding("a", CONTRADICTED, -1.0, p_value=0.97, p_against=0.03)
    other = Finding("b", UNDECIDED, 0.1, p_value=0.4, p_against=0.6)
    assert decide(claim(EVERY_TASK), [weak]).verdict == CONTRADICTED
    assert decide(claim(EVERY_TASK), [weak, other]).verdict == UNDECIDED


def test_a_claim_is_not_judged_on_other_tasks() -> None:
    named = claim(EVERY_TASK, tasks=("b",))
    other = decide(named, found(a=BAD))
    assert (other.verdict, other.remark) == (
        NOT_TESTED,
        "it is about b, of which there are no results",
    )
    assert decide(named, found(a=BAD, b=GOOD)).verdict == SUPPORTED
    # One of two tasks that it is about does not make it hold on every one.
    assert decide(claim(EVERY_TASK, tasks=("b", "c")), found(b=GOOD)).verdict == UNDECIDED
    assert decide(claim(EVERY_TASK, tasks=("b", "c")), found(b=BAD)).verdict == CONTRADICTED


def test_every_part_has_to_hold_on_average() -> None:
    parts = [
        judge_range(task, values, low=0.0, part=part)
        for part, samples in (("x", (GOOD, GOOD)), ("y", (OPEN, GOOD)))
        for task, values in zip("ab", samples, strict=True)
    ]
    assert decide(claim(ON_AVERAGE), parts[:2]).verdict == SUPPORTED
    assert decide(claim(ON_AVERAGE), [*parts[:2], *found(a=BAD, b=BAD)]).verdict == CONTRADICTED


def test_findings_without_evidence_are_averaged_by_stouffers_method() -> None:
    weak = [Finding(task, UNDECIDED, 1.0, p_value=0.06, p_against=0.94) for task in "abc"]
    whole = decide(claim(ON_AVERAGE), weak)
    assert whole.verdict == SUPPORTED
    assert whole.p_value == pytest.approx(0.0036, abs=2e-4)


def test_printed_numbers_are_read_off() -> None:
    holds, fails = Finding("a", SUPPORTED, 1), Finding("b", CONTRADICTED, 2)
    assert decide(claim(EVERY_TASK), [holds, holds]).verdict == SUPPORTED
    assert decide(claim(EVERY_TASK), [holds, fails]).verdict == CONTRADICTED
    assert decide(claim(SOME_TASK), [holds, fails]).verdict == SUPPORTED


def test_the_scorecard_has_a_row_per_finding_one_for_the_mean_and_one_for_a_claim_without() -> None:
    claims = (
        Claim("every", "a", lambda _: found(a=GOOD, b=BAD), margin=(0.0, np.inf)),
        Claim("mean", "b", lambda _: found(a=GOOD, b=GOOD), RESULTS, ON_AVERAGE, "", (0.0, np.inf)),
        Claim("none", "c", lambda _: []),
        Claim("print", "d", lambda _: [Finding("a", SUPPORTED, 1)], PRINT),
        Claim("other", "e", lambda _: found(a=GOOD), tasks=("b",)),
    )
    card = score(claims, pandas.DataFrame())
    assert card["claim"].tolist() == ["every"] * 2 + ["mean"] * 3 + ["none", "print", "other"]
    assert card["task"].tolist() == ["a", "b", "a", "b", ALL_TASKS, "", "a", "a"]
    verdicts = card.drop_duplicates("claim").set_index("claim")["claim_verdict"].to_dict()
    assert verdicts == {
        "every": CONTRADICTED,
        "mean": SUPPORTED,
        "none": NOT_TESTED,
        "print": SUPPORTED,
        "other": NOT_TESTED,
    }
    assert card["verdict"].iloc[-1] == NOT_TESTED


def test_claims_about_datasets_count_as_ours_where_we_collected_them() -> None:
    claims = [Claim("name", "It is so.", lambda _: [Finding("a", SUPPORTED, 1)], DATASETS)]
    for collected, about in ((True, OUR_DATA), (False, RESULTS)):
        card = score(claims, pandas.DataFrame({"task": ["a"], "collected": [collected]}))
        assert card["about"].tolist() == [about]


def test_holms_correction() -> None:
    adjusted = holm([0.01, 0.04, np.nan, 0.03])
    assert adjusted[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(adjusted[2])
    assert holm([]).tolist() == []


def test_verdicts_are_those_after_holm_over_the_claims_of_a_paper() -> None:
    weak = found(a=[0.5, 0.9, 0.3])  # p = 0.04
    claims = [
        Claim(name, name, lambda _: list(weak), margin=(0.0, np.inf)) for name in ("one", "two")
    ]
    card = score(claims, pandas.DataFrame()).assign(paper="flrp", ablation="flrp-x")
    alone = claim_verdicts(card[card["claim"] == "one"])
    assert alone["verdict"].tolist() == [SUPPORTED]
    both = claim_verdicts(card)
    assert both["verdict"].tolist() == [UNDECIDED, UNDECIDED]
    assert both["p_value"].tolist() == alone["p_value"].tolist() * 2
    apart = card.assign(paper=["flrp", "lspc"])
    assert claim_verdicts(apart)["verdict"].tolist() == [SUPPORTED, SUPPORTED]
