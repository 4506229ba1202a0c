from collections.abc import Callable, Mapping
from typing import Any

import pytest

from search_spaces.space import Hyperparameter, SearchSpace
from sweeps.search import Config, OptunaSearch, Outcome, Search, make_search
from sweeps.spec import SearchOptions

BOX = SearchSpace(
    "example",
    [Hyperparameter("x", low=0.0, high=1.0), Hyperparameter("y", low=0.0, high=1.0)],
)
SMALL = SearchSpace(
    "example", [Hyperparameter("a", choices=(1, 2, 3)), Hyperparameter("b", choices=("p", "q"))]
)


def resolve(parameters: Mapping[str, Any]) -> Config:
    return {"unsearched": 1, **parameters}


def options(method: str, num_configs: int | None = None, seed: int = 0) -> SearchOptions:
    return SearchOptions(method, num_configs, seed, 4 if method == "tpe" else None)


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


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_finite_space_is_used_up_without_repeats(method: str) -> None:
    search = make_search(options(method, 50), SMALL, resolve)
    outcome = Outcome("complete", 1.0, {"normalized_cost": -1.0})
    suggestions = run_search(search, lambda config: outcome)
    assert len(suggestions) == 6
    assert len({(config["a"], config["b"]) for config in suggestions}) == 6


def test_default_point_comes_first() -> None:
    space = SearchSpace("example", list(BOX.entries.values()), {"x": 0.25, "y": 0.5})
    for method in ("random", "tpe"):
        search = make_search(options(method, 3), space, resolve)
        assert search.ask() == {"unsearched": 1, "x": 0.25, "y": 0.5}


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_seeds_decide_and_repeat(method: str) -> None:
    def suggestions(seed: int) -> list[Config]:
        return run_search(make_search(options(method, 14, seed), BOX, resolve), constrained)

    assert suggestions(3) == suggestions(3)
    assert suggestions(3) != suggestions(4)


def test_more_configurations_extend_the_sequence() -> None:
    short = run_search(make_search(options("tpe", 12), BOX, resolve), constrained)
    long = run_search(make_search(options("tpe", 20), BOX, resolve), constrained)
    assert long[:12] == short


def test_random_depends_on_no_results() -> None:
    search = make_search(options("random", 5), BOX, resolve)
    assert search.known_in_advance
    assert len(run_search(search, constrained)) == 5


def test_tpe_waits_for_results_and_ignores_their_order() -> None:
    sequences = []
    for order in ([0, 1, 2, 3], [3, 1, 2, 0], [2, 3, 1, 0]):
        search = make_search(options("tpe", 30), BOX, resolve)
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


def test_tpe_hears_the_constraint() -> None:
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


def test_constrained_tpe_beats_random_in_the_median_over_20_seeds() -> None:
    def median(method: str) -> float:
        scores = sorted(
            best_safe(run_search(make_search(options(method, 40, seed), BOX, resolve), constrained))
            for seed in range(20)
        )
        return (scores[9] + scores[10]) / 2

    assert median("tpe") > median("random") + 0.03


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
