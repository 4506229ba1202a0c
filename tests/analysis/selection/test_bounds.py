import numpy as np
import pytest

from safesweep.analysis.selection.bounds import (
    bounded_mean_bound,
    cost_upper_bound,
    seeds_needed,
    violation_upper_bound,
)
from tests.analysis.selection.frames import choose


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


def test_bounds_shift_with_the_costs_to_the_last_digit() -> None:
    costs = np.array([0.0, 0.1, 0.3])
    bound, shifted = cost_upper_bound([costs, costs + 0.1], 0.95)
    assert shifted - bound == pytest.approx(0.1, rel=1e-12)
