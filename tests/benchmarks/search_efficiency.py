"""How many configurations a search tries until it has found the best safe one.

Run it as `python -m tests.benchmarks.search_efficiency`; the medians and quartiles are over search
seeds. The problem is made up, with a constrained optimum that is known: the reward peaks where the
cost is 2.26 times its limit, so the best safe point lies on the limit, where a search that ignores
the constraint does not stay.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.sweeps.planning.search import (
    OPTUNA_SEARCHES,
    Known,
    Outcome,
    Search,
    make_search,
)
from safesweep.sweeps.spec.sweep_spec import ADAPTIVE_METHODS, SearchOptions

SPACE = SearchSpace(
    "example",
    [
        Hyperparameter("reward_weight", low=0.0, high=1.0),
        Hyperparameter("safety_threshold", low=0.0, high=1.0),
        Hyperparameter("learning_rate", low=1e-5, high=1e-1, log=True),
        Hyperparameter("refiner", choices=("none", "shared", "own")),
        Hyperparameter("refiner_rate", low=0.0, high=1.0, when=("refiner", ("shared", "own"))),
    ],
)
PEAK = (0.8, 0.7)
COST_LIMIT = 0.5
# The peak's projection on the circle of radius sqrt(COST_LIMIT).
BEST_SAFE_OBJECTIVE = 1 - (math.hypot(*PEAK) - math.sqrt(COST_LIMIT)) ** 2
TOLERANCE = 0.1
KNOWN_SEED = 1000
"""From here on the seeds of what is known before."""


def evaluate(config: Mapping[str, Any]) -> Outcome:
    """The outcome of a configuration; its constraint is the normalised cost minus 1."""
    weight, threshold = config["reward_weight"], config["safety_threshold"]
    objective = 1 - (weight - PEAK[0]) ** 2 - (threshold - PEAK[1]) ** 2
    objective -= (math.log10(config["learning_rate"]) + 3.5) ** 2 / 20
    if config["refiner"] == "none":
        objective -= 0.05
    else:
        share = 0.1 if config["refiner"] == "own" else 0.2
        objective -= share * (config["refiner_rate"] - 0.3) ** 2
    cost = (weight**2 + threshold**2) / COST_LIMIT
    return Outcome("complete", objective, {"normalized_cost": cost - 1})


def known_before(seed: int, count: int) -> list[Known]:
    """What a random search has found on the problem, for a search to begin with."""
    drawn = search("random", seed, max(count, 1))
    configs = [drawn.ask() for _ in range(count)]
    return [Known(config, evaluate(config)) for config in configs if config is not None]


def search(method: str, seed: int, num_configs: int, known: Sequence[Known] = ()) -> Search:
    """A search on the problem, with four suggestions open at a time where it is adaptive."""
    parallel = 4 if method in ADAPTIVE_METHODS else None
    options = SearchOptions(method=method, num_configs=num_configs, seed=seed, parallel=parallel)

    def resolve(parameters: Mapping[str, Value]) -> dict[str, Any]:
        return dict(parameters)

    return make_search(options, SPACE, resolve, constraints=("normalized_cost",), known=known)


def outcomes(
    method: str, seed: int, num_configs: int, known: Sequence[Known] = ()
) -> Iterator[Outcome]:
    """What a search sees, in the order of its suggestions; the oldest open one always ends next."""
    return told_in_order(search(method, seed, num_configs, known), evaluate)


def told_in_order(
    asked: Search, judge: Callable[[Mapping[str, Any]], Outcome]
) -> Iterator[Outcome]:
    """The outcomes that a search is told until it is exhausted, the oldest open one first."""
    told = 0
    while not asked.exhausted or told < len(asked.suggestions):
        if asked.ready:
            asked.ask()
        else:
            outcome = judge(asked.suggestions[told])
            asked.tell(told, outcome)
            told += 1
            yield outcome


def trials_to_best(
    method: str,
    seed: int,
    num_configs: int,
    tolerance: float = TOLERANCE,
    known: Sequence[Known] = (),
) -> int:
    """Configurations tried until a safe one is within `tolerance` of the best safe objective;
    `num_configs` + 1 where none is."""
    for count, outcome in enumerate(outcomes(method, seed, num_configs, known), 1):
        assert outcome.objective is not None
        if outcome.safe and outcome.objective >= BEST_SAFE_OBJECTIVE - tolerance:
            return count
    return num_configs + 1


def main() -> None:
    """Print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--num-configs", type=int, default=120)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument(
        "--known", type=int, default=0, help="configurations of a random search that are told first"
    )
    parser.add_argument("--method", choices=OPTUNA_SEARCHES, action="append")
    arguments = parser.parse_args()
    for method in arguments.method or OPTUNA_SEARCHES:
        counts = [
            trials_to_best(
                method,
                seed,
                arguments.num_configs,
                arguments.tolerance,
                known_before(KNOWN_SEED + seed, arguments.known),
            )
            for seed in range(arguments.seeds)
        ]
        lower, median, upper = np.percentile(counts, [25, 50, 75])
        found = sum(count <= arguments.num_configs for count in counts)
        print(
            f"{method:8} median {median:g} configurations (quartiles {lower:g}, {upper:g}); "
            f"found by {found} of {arguments.seeds} seeds within {arguments.num_configs}"
        )


if __name__ == "__main__":
    main()
