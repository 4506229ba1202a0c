from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np
import pytest

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.sweeps.planning.budget import (
    FIRST_ROUND,
    PHASES,
    BudgetTerms,
    Chosen,
    Round,
    choose,
    next_round,
)
from safesweep.sweeps.planning.estimates import Tried
from safesweep.sweeps.planning.positions import UnitSpace

SPACE = UnitSpace(
    SearchSpace(
        "example",
        [Hyperparameter("x", low=0.0, high=1.0), Hyperparameter("y", low=0.0, high=1.0)],
    )
)


def truth(point: Mapping[str, Any]) -> tuple[float, float]:
    """Reward x, cost 1.5 x (1 + (y - 0.5)^2): the best safe point is (0.67, 0.5)."""
    return point["x"], 1.5 * point["x"] * (1 + (point["y"] - 0.5) ** 2)


class Sweep:
    """Runs rounds; the seeds of a configuration follow from it and their number alone."""

    def __init__(self, runs: int, seed: int = 0) -> None:
        self.terms = BudgetTerms(runs, seed, 0.9)
        self.points: list[Mapping[str, Any]] = []
        self.scores: list[list[tuple[float, float]]] = []
        self.rounds: list[Round] = []

    @property
    def spent(self) -> int:
        return sum(map(len, self.scores))

    def tried(self) -> list[Tried]:
        return [
            Tried(tuple(SPACE.position(p)), tuple(r for r, _ in s), tuple(c for _, c in s))
            for p, s in zip(self.points, self.scores, strict=True)
        ]

    def train(self, index: int) -> None:
        reward, cost = truth(self.points[index])
        generator = np.random.default_rng([index, len(self.scores[index])])
        noise = generator.standard_normal(2)
        self.scores[index].append((reward + 0.05 * noise[0], cost * max(0.0, 1 + 0.3 * noise[1])))

    def advance(self) -> bool:
        found = next_round(SPACE, self.tried(), self.spent, self.terms)
        if found is None:
            return False
        for point in found.new:
            self.points.append(point)
            self.scores.append([])
            self.train(len(self.points) - 1)
        for index, count in found.more.items():
            for _ in range(count):
                self.train(index)
        self.rounds.append(found)
        return True

    def finish(self) -> "Sweep":
        while self.advance():
            pass
        return self


@pytest.mark.parametrize(("runs", "first"), [(40, 16), (16, FIRST_ROUND)])
def test_a_budget_is_spent_to_the_last_run_in_phases_that_follow_one_another(
    runs: int, first: int
) -> None:
    sweep = Sweep(runs).finish()
    assert sweep.spent == runs
    assert sweep.rounds[0].runs == first
    phases = [found.phase for found in sweep.rounds if found.phase != "search"]
    assert phases == sorted(phases, key=PHASES.index) and set(phases) == {
        "start",
        "race",
        "confirm",
    }


def test_it_ends_in_a_safe_choice_near_the_best() -> None:
    gaps = []
    for seed in range(4):
        sweep = Sweep(48, seed).finish()
        chosen = choose(SPACE, sweep.tried(), 0.9)
        assert chosen is not None and chosen.passed and chosen.bound <= 1
        reward, cost = truth(sweep.points[chosen.index])
        gaps.append(2 / 3 - reward if cost <= 1 else np.inf)
    assert np.median(gaps) < 0.2


def test_decisions_follow_from_the_rows_alone() -> None:
    sweep = Sweep(30)
    for _ in range(3):
        sweep.advance()
    one = next_round(SPACE, sweep.tried(), sweep.spent, sweep.terms)
    other = next_round(SPACE, sweep.tried(), sweep.spent, sweep.terms)
    assert one == other
    assert one != next_round(SPACE, sweep.tried(), sweep.spent, BudgetTerms(30, 1, 0.9))


def test_given_points_come_first() -> None:
    points = [{"x": 0.25, "y": 0.75}, {"x": 0.5, "y": 0.5}]
    found = next_round(SPACE, [], 0, BudgetTerms(40, 0, 0.9), points)
    assert found is not None
    assert list(found.new[:2]) == points and found.runs == 16


def test_a_budget_goes_on_where_every_configuration_was_lost() -> None:
    lost = [Tried((0.5, 0.5), (), (), lost=True)] * 12
    found = next_round(SPACE, lost, 12, BudgetTerms(40, 0, 0.9))
    assert found is not None and found.new and not found.more
    assert choose(SPACE, lost, 0.9) is None


def test_where_nothing_passes_it_says_how_many_seeds_would_do() -> None:
    costs = [0.0, 0.0, 0.0, 2.4, 0.0, 0.0]
    tried = [Tried((0.5, 0.5), (0.5,) * 6, tuple(costs)), Tried((0.9, 0.9), (0.9,) * 6, (3.0,) * 6)]
    chosen = choose(SPACE, tried, 0.9)
    assert chosen is not None and not chosen.passed
    assert chosen.index == 0 and chosen.cost < 1 < chosen.bound
    assert chosen.seeds_to_pass is not None and 1 <= chosen.seeds_to_pass < 500
    hopeless = choose(SPACE, tried[1:], 0.9)
    assert hopeless is not None and hopeless.seeds_to_pass is None


@pytest.mark.parametrize("first", [6, 8])
def test_so_many_more_seeds_like_those_before_do(first: int) -> None:
    def after(more: int) -> Chosen:
        costs = tuple(islice(cycle([0.0, 0.0, 0.0, 2.4, 0.0, 0.0]), first + more))
        own = Tried((0.5, 0.5), (0.5,) * len(costs), costs)
        found = choose(SPACE, [own, Tried((0.9, 0.9), (0.9,) * 6, (3.0,) * 6)], 0.9)
        assert found is not None
        return found

    more = after(0).seeds_to_pass
    assert more is not None
    assert after(more).passed and not after(more // 8).passed


def beyond_the_limit(count: int) -> list[Tried]:
    """Configurations on a grid, whose one seed cost about three limits."""
    places = [(x / 6, y / 6) for x in range(7) for y in range(7)]
    return [Tried(place, (0.5,), (3 + (n % 5) / 5,)) for n, place in enumerate(places[:count])]


def test_where_nothing_is_believed_safe_what_seemed_to_be_gets_more_seeds() -> None:
    cheap = [Tried((0.31, 0.77), (0.2,), (0.0,)), Tried((0.7, 0.2), (0.1,) * 3, (0.6, 0.0, 1.5))]
    once = Tried((0.1, 0.1), (0.9,), (1.6,))
    for spent in (38, 60):
        found = next_round(
            SPACE, [*beyond_the_limit(30), *cheap, once], spent, BudgetTerms(120, 0, 0.9)
        )
        assert found is not None
        assert found.more[30] >= 1 and found.more[31] >= 2
        assert 32 not in found.more
        assert found.phase == "search" and found.runs == sum(found.more.values())


def test_confirmation_of_what_seems_beyond_the_limit_looks_where_it_may_not_be() -> None:
    tried = [*beyond_the_limit(40), Tried((0.31, 0.77), (0.2,) * 6, (0.0, 0.0, 3.9, 0.0, 0.5, 0.0))]
    found = next_round(SPACE, tried, 110, BudgetTerms(120, 0, 0.9))
    assert found is not None and found.phase == "confirm"
    assert found.more[40] == found.runs == 5


def test_what_is_known_well_gets_no_more_seeds_in_the_race() -> None:
    def race(seeds: int) -> list[Round]:
        known = Tried((0.6, 0.5), (0.6,) * seeds, (0.5, 0.7) * (seeds // 2))
        around = [Tried((x, 0.5), (x,), (1.9,)) for x in (0.05, 0.75, 0.9)]
        found = [
            next_round(SPACE, [known, *around], 70, BudgetTerms(120, seed, 0.9))
            for seed in range(6)
        ]
        return [one for one in found if one is not None]

    few = sum(one.more.get(0, 0) for one in race(6))
    many = sum(one.more.get(0, 0) for one in race(40))
    assert all(one.phase == "race" for one in race(40))
    assert many < few / 2


def test_a_small_safe_region_is_found_although_costs_are_mostly_nothing() -> None:
    """A disc of 7 % of the square, in which a seed costs something with a chance of 0.2; elsewhere
    every seed does."""

    class Disc(Sweep):
        def train(self, index: int) -> None:
            x, y = self.points[index]["x"], self.points[index]["y"]
            inside = (x - 0.7) ** 2 + (y - 0.3) ** 2 < 0.15**2
            generator = np.random.default_rng([self.terms.seed, index, len(self.scores[index])])
            cost = generator.exponential(2.5)
            if inside and generator.random() > 0.2:
                cost = 0.0
            self.scores[index].append((x + 0.1 * generator.standard_normal(), cost))

    found = 0
    for seed in range(8):
        sweep = Disc(100, seed).finish()
        chosen = choose(SPACE, sweep.tried(), 0.9)
        assert chosen is not None
        point = sweep.points[chosen.index]
        found += (point["x"] - 0.7) ** 2 + (point["y"] - 0.3) ** 2 < 0.15**2
    assert found >= 6


@pytest.mark.parametrize("runs", [12, 13, 20])
def test_small_budgets_are_spent_too(runs: int) -> None:
    assert Sweep(runs).finish().spent == runs
