import numpy as np
import pytest
from scipy import stats

from safesweep.analysis.contrasts import (
    DISSENT,
    Evidence,
    StudentTest,
    contrast,
    pool,
)

SAMPLE = [0.3, 0.5, 0.1, 0.4]


def test_one_sample_is_students_test() -> None:
    evidence = contrast([SAMPLE], guard=False)
    assert evidence.effect == pytest.approx(np.mean(SAMPLE))
    for value in (0.0, 0.2, 0.5):
        expected = stats.ttest_1samp(SAMPLE, value, alternative="greater").pvalue
        assert evidence.p_above(value) == pytest.approx(expected)
        assert evidence.p_below(value) == pytest.approx(1 - expected)


def test_a_difference_is_paired_or_welchs() -> None:
    other = [0.1, 0.2, 0.2, 0.6]
    paired = contrast([SAMPLE, other], [1, -1])
    assert paired.p_above(0.0) == pytest.approx(
        stats.ttest_rel(SAMPLE, other, alternative="greater").pvalue
    )
    unpaired = contrast([SAMPLE, other], [1, -1], paired=False)
    assert unpaired.p_above(0.0) == pytest.approx(
        stats.ttest_ind(SAMPLE, other, equal_var=False, alternative="greater").pvalue
    )


@pytest.mark.parametrize("values", [SAMPLE, [0.0, 0.0, 0.4] * 4, [0.0] * 12, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("cost", [False, True])
def test_the_ends_of_the_interval_are_where_the_tests_turn(values: list[float], cost: bool) -> None:
    evidence = contrast([values], cost=cost)
    low, high = evidence.interval(0.05)
    assert low <= evidence.effect <= high
    if low < high:
        assert evidence.p_above(low - 1e-6) <= 0.05 <= evidence.p_above(low + 1e-6)
        assert evidence.p_below(high + 1e-6) <= 0.0501
        assert evidence.p_below(high - 1e-6) >= 0.0499


def test_seeds_without_spread_decide_when_there_are_enough_of_them() -> None:
    for seeds in range(2, 15):
        evidence = contrast([[0.0] * seeds], cost=True)
        enough = 1 - 0.05 ** (1 / seeds) < DISSENT
        assert (evidence.p_below(1.0) < 0.05) == enough
        assert evidence.p_above(0.0) == 1
    assert np.isinf(contrast([[0.0] * 3]).interval(0.05)).all()
    assert contrast([[0.0] * 9]).interval(0.05) == (0.0, 0.0)


def test_one_seed_says_nothing() -> None:
    evidence = contrast([[0.4]])
    assert (evidence.p_above(0.0), evidence.p_below(1.0)) == (1, 1)


def test_failures_among_zeros_bound_the_mean_by_their_share_and_size() -> None:
    few, many = [0.0] * 11 + [0.001], [0.0] * 6 + [0.3] * 6
    assert contrast([few]).p_below(1.0) < 0.05
    assert contrast([few]).p_below(0.001) > 0.05
    assert contrast([[*few[:-1], 30.0]]).p_below(1.0) == 1
    assert contrast([many]).interval(0.05)[1] > contrast([few]).interval(0.05)[1]


def test_skewed_costs_are_held_to_a_stricter_level_and_steady_ones_are_not() -> None:
    skewed, steady = [0.1, 0.3, 0.2], [0.9, 0.91, 0.905]
    plain = contrast([skewed]).p_below(1.0)
    assert contrast([skewed], cost=True).p_below(1.0) == pytest.approx(8 * plain)
    assert contrast([steady], cost=True).p_below(1.0) == contrast([steady]).p_below(1.0)


def test_a_lead_over_zeros_has_to_survive_further_failures() -> None:
    dear, cheap = [20.0, 21.0, 25.0], [0.0, 0.0, 0.0]
    few, many = contrast([dear, cheap], [1, -1]), contrast([dear * 4, cheap * 4], [1, -1])
    assert few.p_above(0.0) > 0.04 > 1e-4 > many.p_above(0.0)
    unguarded = contrast([dear, cheap], [1, -1], guard=False)
    assert unguarded.p_above(0.0) < few.p_above(0.0)
    # Where nothing is zero, or values may be negative, there is nothing to allow for.
    above = contrast([dear, [1.0, 2.0, 1.5]], [1, -1])
    assert len(above.above) == 1
    assert len(contrast([dear, [0.0, -1.0, 0.0]], [1, -1]).above) == 1


def test_tasks_keep_their_own_spread_when_pooled() -> None:
    steady, loose = contrast([[0.1, 0.12, 0.11]], guard=False), contrast([SAMPLE], guard=False)
    pooled = pool([steady, loose])
    assert pooled.effect == pytest.approx((steady.effect + loose.effect) / 2)
    (one,), (other,) = steady.above, loose.above
    assert isinstance(one, StudentTest) and isinstance(other, StudentTest)
    (both,) = pooled.above
    assert isinstance(both, StudentTest)
    assert both.error == pytest.approx(np.hypot(one.error, other.error) / 2)
    assert both.degrees == pytest.approx(other.degrees, rel=0.01)
    assert pool([steady]) is steady


def test_a_constant_of_few_seeds_or_nothing_at_all_is_not_pooled() -> None:
    constant, zero = contrast([[0.5] * 3], guard=False), contrast([[0.0] * 3], guard=False)
    spread = contrast([SAMPLE], guard=False)
    assert pool([constant, spread]).p_above(0.0) == 1
    assert pool([zero, spread]).p_above(0.0) == pytest.approx(spread.p_above(0.0))
    assert pool([Evidence(1.0, 1), spread]).p_above(0.0) == 1
