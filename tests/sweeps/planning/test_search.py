from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.sweeps.planning.search import (
    OPTUNA_SEARCHES,
    Config,
    Known,
    OptunaSearch,
    Outcome,
    Search,
    make_search,
    safe_first_score,
)
from safesweep.sweeps.spec.sweep_spec import ADAPTIVE_METHODS, SearchOptions
from tests.benchmarks import search_efficiency
from tests.quick import slow_but

BOX = SearchSpace(
    "example",
    [Hyperparameter("x", low=0.0, high=1.0), Hyperparameter("y", low=0.0, high=1.0)],
)
SMALL = SearchSpace(
    "example", [Hyperparameter("a", choices=(1, 2, 3)), Hyperparameter("b", choices=("p", "q"))]
)
CONDITIONAL = SearchSpace(
    "example",
    [
        Hyperparameter("x", low=0.0, high=1.0),
        Hyperparameter("y", low=0.0, high=1.0),
        Hyperparameter("layers", low=1, high=3, integer=True),
        Hyperparameter("kind", choices=("p", "q")),
        Hyperparameter("rate", low=1e-3, high=1.0, log=True, when=("kind", ("q",))),
    ],
    {"x": 0.5, "y": 0.5, "layers": 2, "kind": "q", "rate": 0.1},
)

# A Gaussian process is fitted for every suggestion after the first ten, which takes a second.
MODELLED = {"gp": 15}
QUICK_SEARCHES = [method for method in OPTUNA_SEARCHES if method not in MODELLED]


def resolve(parameters: Mapping[str, Any]) -> Config:
    return {"unsearched": 1, **parameters}


def options(method: str, num_configs: int | None = None, seed: int = 0) -> SearchOptions:
    parallel = 4 if method in ADAPTIVE_METHODS else None
    return SearchOptions(method=method, num_configs=num_configs, seed=seed, parallel=parallel)


def make(
    method: str,
    num_configs: int | None,
    space: SearchSpace = BOX,
    seed: int = 0,
    points: Sequence[Mapping[str, Value]] = (),
) -> Search:
    return make_search(
        options(method, num_configs, seed),
        space,
        resolve,
        points=points,
        constraints=("normalized_cost",),
    )


def constrained(config: Mapping[str, Any]) -> Outcome:
    """Reward x + y where x + 2 y <= 1: the best safe point is (1, 0), the best of all (1, 1)."""
    excess = config["x"] + 2 * config["y"] - 1
    return Outcome("complete", config["x"] + config["y"], {"normalized_cost": excess})


def run_search(search: Search, evaluate: Callable[[Config], Outcome]) -> list[Config]:
    """Ask as far as the search goes, then tell the oldest open suggestion, and so on."""
    told = 0
    while not search.exhausted:
        if search.ready:
            search.ask()
        else:
            search.tell(told, evaluate(search.suggestions[told]))
            told += 1
    return search.suggestions


def best_safe(suggestions: list[Config]) -> float:
    safe = [constrained(config) for config in suggestions]
    return max(outcome.objective or 0.0 for outcome in safe if outcome.safe)


def test_grid_runs_every_point_and_resolves_it() -> None:
    search = make_search(options("grid"), SMALL, resolve)
    assert search.known_in_advance
    suggestions = run_search(search, constrained)
    assert suggestions == [{"unsearched": 1, "a": a, "b": b} for a in (1, 2, 3) for b in ("p", "q")]
    assert search.ask() is None


def test_grid_points_that_resolve_alike_run_once() -> None:
    search = make_search(options("grid"), SMALL, lambda point: {"a": point["a"]})
    assert [config["a"] for config in run_search(search, constrained)] == [1, 2, 3]


@pytest.mark.parametrize("method", ["random", "tpe", "nsga2"])
def test_a_finite_space_is_used_up_without_repeats(method: str) -> None:
    outcome = Outcome("complete", 1.0, {"normalized_cost": -1.0})
    suggestions = run_search(make(method, 50, SMALL), lambda config: outcome)
    assert len(suggestions) == 6
    assert len({(config["a"], config["b"]) for config in suggestions}) == 6


@pytest.mark.parametrize("method", OPTUNA_SEARCHES)
def test_given_points_come_first_then_the_default(method: str) -> None:
    points = [{"x": 0.125, "y": 0.75}, {"x": 0.25, "y": 0.5}, {"x": 0.125, "y": 0.75}]
    space = SearchSpace("example", list(BOX.entries.values()), {"x": 0.5, "y": 0.5})
    suggestions = run_search(make(method, 6, space, points=points), constrained)
    first = [{"unsearched": 1, "x": x, "y": y} for x, y in ((0.125, 0.75), (0.25, 0.5), (0.5, 0.5))]
    assert suggestions[:3] == first
    assert len(suggestions) == 6
    # A point that is the default too is not run twice.
    suggestions = run_search(make(method, 2, space, points=[{"x": 0.5, "y": 0.5}]), constrained)
    assert suggestions[0] == first[2] and suggestions[1] not in first


@pytest.mark.parametrize("method", OPTUNA_SEARCHES)
def test_suggestions_lie_in_a_conditional_space_and_never_repeat(method: str) -> None:
    number = MODELLED.get(method, 40)
    suggestions = run_search(make(method, number, CONDITIONAL), constrained)
    points = [{k: v for k, v in config.items() if k != "unsearched"} for config in suggestions]
    assert all(CONDITIONAL.contains(point) for point in points)
    assert len({str(point) for point in points}) == number
    assert {config["kind"] for config in suggestions} == {"p", "q"}


@pytest.mark.parametrize("method", slow_but(QUICK_SEARCHES, OPTUNA_SEARCHES))
def test_seeds_decide_and_repeat(method: str) -> None:
    def suggestions(seed: int) -> list[Config]:
        return run_search(make(method, MODELLED.get(method, 24), CONDITIONAL, seed), constrained)

    assert suggestions(3) == suggestions(3)
    assert suggestions(3) != suggestions(4)


@pytest.mark.parametrize("method", OPTUNA_SEARCHES)
def test_more_configurations_extend_the_sequence(method: str) -> None:
    number = MODELLED.get(method, 30)
    short = run_search(make(method, number - 2, CONDITIONAL), constrained)
    long = run_search(make(method, number, CONDITIONAL), constrained)
    assert long[: number - 2] == short


def test_random_depends_on_no_results() -> None:
    search = make_search(options("random", 5), BOX, resolve)
    assert search.known_in_advance
    assert len(run_search(search, constrained)) == 5


@pytest.mark.parametrize("method", slow_but(QUICK_SEARCHES, ADAPTIVE_METHODS))
def test_adaptive_searches_wait_for_results_and_ignore_their_order(method: str) -> None:
    sequences = []
    for order in ([0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 1, 0]):
        search = make(method, 30)
        told: list[int] = []
        for start in range(0, 24, 4):
            while search.ready:
                search.ask()
            assert len(search.suggestions) == start + 4
            with pytest.raises(RuntimeError, match="waits"):
                search.ask()
            for offset in order:
                told.append(start + offset)
                search.tell(start + offset, constrained(search.suggestions[start + offset]))
        sequences.append(search.suggestions[:24])
    assert sequences[0] == sequences[1] == sequences[2]


def test_tpe_learns_the_constraint() -> None:
    """Told of the constraint it seeks (1, 0); told of the reward alone it would seek (1, 1)."""
    safe_share, blind_share, best = [], [], []
    for seed in range(5):
        found = run_search(make_search(options("tpe", 60, seed), BOX, resolve), constrained)
        blind = run_search(
            make_search(options("tpe", 60, seed), BOX, resolve),
            lambda config: Outcome("complete", constrained(config).objective),
        )
        late = slice(30, None)
        safe_share.append(sum(constrained(config).safe for config in found[late]) / 30)
        blind_share.append(sum(constrained(config).safe for config in blind[late]) / 30)
        best.append(best_safe(found))
    assert sorted(best)[2] > 0.85
    assert sorted(safe_share)[2] > sorted(blind_share)[2] + 0.2


@pytest.mark.parametrize("method", ["nsga2", "cmaes"])
def test_evolution_moves_to_where_it_is_safe(method: str) -> None:
    def late_share(method: str) -> float:
        shares = []
        for seed in range(5):
            late = run_search(make(method, 60, seed=seed), constrained)[30:]
            shares.append(sum(constrained(config).safe for config in late) / 30)
        return sorted(shares)[2]

    assert late_share(method) > late_share("random") + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tpe", "cmaes"])
def test_a_search_that_learns_needs_fewer_configurations_in_the_median_over_20_seeds(
    method: str,
) -> None:
    def median(method: str) -> float:
        counts = sorted(search_efficiency.trials_to_best(method, seed, 50) for seed in range(20))
        return (counts[9] + counts[10]) / 2

    assert median(method) < 0.75 * median("random")


@pytest.mark.parametrize(
    ("method", "seeds"), [("tpe", 9), pytest.param("gp", 3, marks=pytest.mark.slow)]
)
def test_a_search_that_was_told_before_needs_fewer_configurations(method: str, seeds: int) -> None:
    def median(known: int) -> int:
        counts = [
            search_efficiency.trials_to_best(
                method, seed, 50, known=search_efficiency.known_before(1000 + seed, known)
            )
            for seed in range(seeds)
        ]
        return sorted(counts)[seeds // 2]

    assert median(30) < 0.75 * median(0)


def test_cmaes_begins_where_what_was_told_is_best() -> None:
    space = SearchSpace("example", [Hyperparameter(name, low=0.0, high=1.0) for name in "abc"])
    options = SearchOptions(method="cmaes", num_configs=10, parallel=4)

    def outcome(point: Mapping[str, Any]) -> Outcome:
        distances = [point[name] - best for name, best in zip("abc", (0.9, 0.1, 0.2), strict=True)]
        return Outcome("complete", -sum(distance**2 for distance in distances), {})

    drawn = np.random.default_rng(0).random((40, 3))
    points = [dict(zip("abc", map(float, one), strict=True)) for one in drawn]
    for count in (5, 40):
        known = [Known(point, outcome(point)) for point in points[:count]]
        search = make_search(options, space, resolve, known=known)
        for index in range(10):
            config = search.ask()
            assert config is not None
            search.tell(index, outcome(config))
        tenth = sorted(known, key=lambda one: one.outcome.order)[: max(1, count // 10)]
        means, centre = (
            np.array([[float(point[name]) for name in "abc"] for point in points]).mean(axis=0)
            for points in (search.suggestions, [one.point for one in tenth])
        )
        assert np.linalg.norm(means - centre) < np.linalg.norm(means - 0.5)


def test_nsga2_crosses_what_was_told_and_what_was_adopted() -> None:
    space = SearchSpace("example", [Hyperparameter(name, low=0.0, high=1.0) for name in "wxyz"])
    asked = SearchOptions(method="nsga2", num_configs=30, parallel=1)
    drawn = np.random.default_rng(0).random((20, 4))
    points = [dict(zip("wxyz", map(float, one), strict=True)) for one in drawn]
    values = {value for point in points for value in point.values()}

    def from_points(suggestions: list[Config]) -> float:
        """The share of coordinates that a point has, too: crossover exchanges them."""
        found = [config[name] in values for config in suggestions for name in "wxyz"]
        return sum(found) / len(found)

    known = [Known(point, constrained(point)) for point in points]
    told = run_search(make_search(asked, space, resolve, known=known), constrained)
    assert from_points(told[:10]) > 0.5
    left = list(points)
    adopting = make_search(
        asked, space, resolve, lambda config: resolve(left.pop()) if left else None
    )
    assert from_points(run_search(adopting, constrained)[20:]) > 0.5


def test_a_score_puts_every_safe_outcome_before_every_unsafe_one() -> None:
    def score(objective: float, *excess: float) -> float:
        constraints = {str(index): value for index, value in enumerate(excess)}
        return safe_first_score(Outcome("complete", objective, constraints))

    ordered = [
        score(900.5, -1.0), score(900.0, 0.0), score(0.1), score(0.0, -2.0, 0.0), score(-800.0),
        score(1000.0, 0.01, -5.0), score(0.0, 0.5, 0.25), score(1000.0, 3.0),
    ]  # fmt: skip
    assert ordered == sorted(ordered, reverse=True)
    assert len(set(ordered)) == len(ordered)


def test_nsga2_is_told_reward_and_cost_and_the_constraint() -> None:
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    search = make("nsga2", 8)
    assert isinstance(search, OptunaSearch)
    for _ in range(4):
        search.ask()
    search.tell(0, Outcome("pruned", 0.5, {"normalized_cost": -0.25}))
    search.tell(1, Outcome("complete", 0.75, {"normalized_cost": 0.25}))
    for _ in range(2):
        search.ask()
    assert search.study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    pruned, complete = search.study.trials[:2]
    assert pruned.state == TrialState.PRUNED
    assert complete.values == [0.75, 0.25]
    assert complete.constraints == {"normalized_cost": 0.25}


def test_failed_and_pruned_outcomes_reach_the_study() -> None:
    from optuna.trial import TrialState

    search = make_search(options("tpe", 8), BOX, resolve)
    assert isinstance(search, OptunaSearch)
    for _ in range(4):
        search.ask()
    search.tell(0, Outcome("failed"))
    search.tell(1, Outcome("pruned", 0.5, {"normalized_cost": -0.25}))
    search.tell(2, Outcome("complete", 0.75, {"normalized_cost": 0.25}))
    for _ in range(3):
        search.ask()
    states = [trial.state for trial in search.study.trials]
    assert states[:4] == [
        TrialState.FAIL,
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.RUNNING,
    ]
    assert search.study.trials[1].value == 0.5
    assert search.study.trials[1].constraints == {"normalized_cost": -0.25}
    assert search.study.trials[2].constraints == {"normalized_cost": 0.25}


def test_adopted_configurations_replace_suggestions() -> None:
    adopted = {"unsearched": 1, "x": 0.5, "y": 0.125}
    left = [adopted, adopted]
    search = make_search(
        options("tpe", 3), BOX, resolve, lambda config: left.pop() if left else None
    )
    suggestions = run_search(search, constrained)
    assert suggestions[0] == adopted
    assert adopted not in suggestions[1:]
    assert len(suggestions) == 3
