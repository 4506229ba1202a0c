import numpy as np
import pandas
import pytest
from scipy.stats import page_trend_test

from safesweep.analysis.claims import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    Finding,
    judge_difference,
    judge_paired,
    judge_range,
    judge_trend,
    overall_verdict,
    score,
    trend_p_values,
)
from safesweep.analysis.intervals import mean_interval

SETTINGS = [0.6, 0.7, 0.8, 0.9, 0.95]
RISING = [[0.3, 0.4, 0.5, 0.6, 0.8], [0.2, 0.4, 0.6, 0.7, 0.9], [0.3, 0.5, 0.4, 0.7, 0.8]]


def test_a_trend_is_supported_and_its_reverse_contradicted() -> None:
    finding = judge_trend("task", RISING, SETTINGS)
    assert finding.verdict == SUPPORTED
    assert finding.effect == pytest.approx(np.mean([0.5, 0.7, 0.5]))
    assert finding.low < finding.effect < finding.high
    assert finding.p_value < 0.001
    assert finding.seeds == 3
    assert judge_trend("task", RISING, SETTINGS, rising=False).verdict == CONTRADICTED


def test_noise_and_constants_are_undecided() -> None:
    noise = [[0.3, 0.1, 0.5, 0.2, 0.3], [0.2, 0.5, 0.1, 0.4, 0.2]]
    assert judge_trend("task", noise, SETTINGS).verdict == UNDECIDED
    constant = judge_trend("task", np.ones((3, 5)), SETTINGS)
    assert (constant.verdict, constant.effect, constant.p_value) == (UNDECIDED, 0, 1)


def test_one_seed_decides_nothing_however_clear() -> None:
    finding = judge_trend("task", RISING[:1], SETTINGS)
    assert finding.verdict == UNDECIDED
    assert np.isnan(finding.low)


def test_seeds_without_a_value_are_left_out() -> None:
    table = [*RISING, [np.nan, 0.9, 0.1, 0.1, 0.1]]
    assert judge_trend("task", table, SETTINGS) == judge_trend("task", RISING, SETTINGS)
    assert judge_trend("task", [[np.nan, 1.0]], [0.6, 0.7]).verdict == UNDECIDED


def test_the_permutation_test_agrees_with_pages_exact_test() -> None:
    rising, falling = trend_p_values(RISING)
    exact = page_trend_test(RISING, method="exact").pvalue
    assert rising == pytest.approx(exact, abs=5e-4)
    assert falling > 0.99
    table = [[0.2, 0.5, 0.1, 0.9], [0.4, 0.3, 0.6, 0.5]]
    exact = page_trend_test(table, method="exact").pvalue
    assert trend_p_values(table)[0] == pytest.approx(exact, abs=0.01)


def test_the_trend_test_keeps_its_level() -> None:
    generator = np.random.default_rng(0)
    verdicts = [
        judge_trend("task", generator.standard_normal((3, 5)), SETTINGS).verdict for _ in range(200)
    ]
    assert verdicts.count(SUPPORTED) <= 20
    assert verdicts.count(CONTRADICTED) <= 20


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


def test_the_scorecard_has_a_row_per_finding_and_one_for_a_claim_without() -> None:
    claims = (
        Claim(
            "both",
            "It is so.",
            lambda _: [Finding("a", SUPPORTED, 1), Finding("b", CONTRADICTED, 2)],
        ),
        Claim("none", "It may be so.", lambda _: []),
    )
    card = score(claims, pandas.DataFrame())
    assert card["verdict"].tolist() == [SUPPORTED, CONTRADICTED, UNDECIDED]
    assert card["claim"].tolist() == ["both", "both", "none"]


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
    assert judge_range("task", [0.0, 0.0], high=1.0).verdict == SUPPORTED
    assert judge_range("task", [0.0], high=1.0).verdict == UNDECIDED
    assert judge_range("task", [], high=1.0).verdict == UNDECIDED


def test_findings_in_both_directions_leave_a_claim_undecided() -> None:
    assert overall_verdict([SUPPORTED, UNDECIDED]) == SUPPORTED
    assert overall_verdict([CONTRADICTED, UNDECIDED]) == CONTRADICTED
    assert overall_verdict([SUPPORTED, CONTRADICTED]) == UNDECIDED
    assert overall_verdict([UNDECIDED]) == UNDECIDED
