import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from tests.benchmarks.fewest_runs import (
    FITTED,
    NOISES,
    PROBLEMS,
    REAL_CELLS,
    STRATEGIES,
    Choice,
    Law,
    Noise,
    Problem,
    Sweep,
    assess,
    draw,
    fit_law,
    means,
    mild,
    searched,
)


def line(point: Mapping[str, float]) -> tuple[float, float]:
    """Reward and cost are twice x: the best safe reward is 1."""
    return 2 * point["x"], 2 * point["x"]


LINE = Problem(SearchSpace("line", [Hyperparameter("x", low=0.0, high=1.0)]), line)


def exact(cost: float, generator: np.random.Generator) -> float:
    return cost


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("cost", [0.1, 1.0, 2.5])
def test_a_noise_has_the_mean_that_it_is_given(name: str, cost: float) -> None:
    generator = np.random.default_rng(0)
    drawn = [NOISES[name](cost, generator) for _ in range(40_000)]
    assert np.mean(drawn) == pytest.approx(cost, rel=0.06)
    assert min(drawn) >= 0


def test_the_fitted_law_is_that_of_the_cells() -> None:
    assert fit_law(REAL_CELLS) == pytest.approx(FITTED, abs=0.01)


def test_a_law_is_found_in_seeds_drawn_from_it() -> None:
    law, generator = Law(level=1.0, slope=0.8, shape=3.0), np.random.default_rng(0)
    cells = []
    for cost in np.exp(generator.uniform(-2, 1, 300)):
        chance = law.chance(cost)
        amounts = generator.gamma(law.shape, cost / chance / law.shape, 60)
        cells.append(np.where(generator.random(60) < chance, amounts, 0.0))
    assert fit_law(cells) == pytest.approx(law, rel=0.1)


def test_the_best_safe_point_lies_on_the_limit() -> None:
    assert LINE.best == pytest.approx(1.0, abs=0.001)


def test_of_what_seems_safe_the_highest_mean_reward_is_chosen() -> None:
    sweep = Sweep(LINE, exact, np.random.default_rng(0))
    for x in (0.1, 0.45, 0.8):
        sweep.train(sweep.add({"x": x}), 40)
    assert sweep.choose(means) == Choice((0.9, 0.9), True, 120)


def test_where_nothing_seems_safe_the_lowest_bound_is_chosen() -> None:
    sweep = Sweep(LINE, exact, np.random.default_rng(0))
    for x in (0.9, 0.6, 0.8):
        sweep.train(sweep.add({"x": x}), 2)
    assert sweep.choose(means) == Choice((1.2, 1.2), False, 6)


def test_a_configuration_that_was_tried_keeps_its_place() -> None:
    sweep = Sweep(LINE, exact, np.random.default_rng(0))
    assert [sweep.add({"x": x}) for x in (0.5, 0.7, 0.5)] == [0, 1, 0]


@pytest.mark.parametrize("method", ["random", "tpe", "cmaes", "nsga2"])
def test_a_search_tries_so_many_configurations_none_twice(method: str) -> None:
    sweep = searched(PROBLEMS["cliff"], mild, method, 13, 2, seed=1)
    assert len(sweep.points) == 13
    assert all(sweep.points.count(point) == 1 for point in sweep.points)
    assert [len(own) for own in sweep.scores] == [2] * 13


@pytest.mark.parametrize(
    ("strategy", "least", "most"),
    [
        ("random-mean", 33, 33),
        ("cmaes-bound", 30, 30),
        ("tpe-race", 10, 5 * 16),
        ("budget", 35, 35),
    ],
)
def test_a_strategy_spends_its_runs_and_repeats(strategy: str, least: int, most: int) -> None:
    first, again = (STRATEGIES[strategy](LINE, mild, 35, 3) for _ in range(2))
    assert first == again
    assert least <= first.runs <= most


def test_a_race_gives_seeds_beyond_those_of_the_search() -> None:
    runs = [STRATEGIES["random-race"](LINE, mild, 36, seed).runs for seed in range(3)]
    assert max(runs) > 12


def _choosing(*truths: tuple[float, float]) -> Callable[[Problem, Noise, int, int], Choice]:
    def strategy(problem: Problem, noise: Noise, runs: int, seed: int) -> Choice:
        return Choice(truths[seed], True, runs)

    return strategy


def test_a_choice_beyond_the_limit_does_not_look_good(monkeypatch: pytest.MonkeyPatch) -> None:
    unsafe, safe = (1.8, 1.8), (0.7, 0.7)
    monkeypatch.setitem(STRATEGIES, "fake", _choosing(unsafe, unsafe, safe))
    row = assess(LINE, mild, "fake", 10, 3)
    assert (row["safe"], row["regret"]) == (0.333, None)
    assert row["safe_regret"] == pytest.approx(LINE.best - 0.7, abs=1e-4)
    monkeypatch.setitem(STRATEGIES, "fake", _choosing(unsafe, safe, safe))
    assert assess(LINE, mild, "fake", 10, 3)["regret"] == row["safe_regret"]


def test_a_regret_that_there_is_not_leaves_a_gap_in_its_line() -> None:
    rows = [
        {"problem": "line", "noise": "mild", "strategy": "budget", "spent": spent, "safe": safe,
         "regret": regret}
        for spent, safe, regret in ((100, 0.9, 0.1), (50, 0.2, None))
    ]  # fmt: skip
    share, regret = (axes.lines[0] for axes in draw(rows).axes)
    assert np.asarray(share.get_xdata()).tolist() == [50, 100]
    assert np.asarray(share.get_ydata()).tolist() == [0.2, 0.9]
    assert np.asarray(regret.get_ydata()) == pytest.approx([math.nan, 0.1], nan_ok=True)
