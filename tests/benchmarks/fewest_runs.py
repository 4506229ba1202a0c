"""What a budget's choice is worth: how often it is truly safe, and how far from the best.

Run it as `python -m tests.benchmarks.fewest_runs`. Sweeps of made-up problems whose best safe
configuration is known are simulated with the product's own decisions (`sweeps.planning.budget`);
a seed's reward deviates by 0.1, its cost as one of the noise models says, and the limit is 1.
Beside each stands what a random search with fixed seeds chooses: 12 configurations of a tenth of
the runs each, by an upper bound of 90 %. The regret is of the configuration's expected reward, and
below 0 where the choice lies beyond the limit; a sweep in which no bound is within the limit counts
with the configuration that comes nearest.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from safesweep.analysis.selection.bounds import cost_upper_bound
from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.sweeps.planning.budget import BudgetTerms, choose, next_round
from safesweep.sweeps.planning.estimates import Tried
from safesweep.sweeps.planning.positions import UnitSpace
from tests.benchmarks import search_efficiency
from tests.benchmarks.measurement import add_json_option, print_table, write_json

CONFIDENCE = 0.9
REWARD_DEVIATION = 0.1
CONFIGURATIONS = 12
Truth = tuple[float, float]
Noise = Callable[[float, np.random.Generator], float]


@dataclass(frozen=True)
class Problem:
    """A space, and the expected reward and cost of its points."""

    space: SearchSpace
    truth: Callable[[Mapping[str, Any]], Truth]

    @cached_property
    def unit(self) -> UnitSpace:
        """Its positions."""
        return UnitSpace(self.space)

    def evaluate(self, position: Any) -> Truth:
        """Expected reward and cost at a position."""
        return self.truth(self.unit.values(position))

    @cached_property
    def best(self) -> float:
        """The best expected reward of a safe point: of many random ones, improved step by step."""
        generator = np.random.default_rng(0)
        best, at = -math.inf, np.zeros(0)
        pools = [lambda: self.unit.draw(20_000, generator)]
        pools += [
            lambda reach=reach: self.unit.around(at, 3000, reach, generator)  # type: ignore[misc]
            for reach in (0.1, 0.03, 0.01, 0.003)
        ]
        for pool in pools:
            for position in pool():
                reward, cost = self.evaluate(position)
                if cost <= 1 and reward > best:
                    best, at = reward, position
        return best


def example(point: Mapping[str, Any]) -> Truth:
    """The problem of `search_efficiency`."""
    outcome = search_efficiency.evaluate(point)
    assert outcome.objective is not None and outcome.constraints is not None
    return outcome.objective, outcome.constraints["normalized_cost"] + 1


def wide(point: Mapping[str, Any]) -> Truth:
    """Reward and cost rise with the same three of eight hyperparameters."""
    x = [point[f"x{place}"] for place in range(8)]
    push = sum(x[:3]) / 3
    reward = 0.2 + 0.9 * push - 0.6 * (x[3] - 0.4) ** 2 - 0.4 * (x[4] - 0.6) ** 2
    return reward, math.exp(3.0 * (push - 0.62)) * (1 + 1.5 * (x[5] - 0.3) ** 2)


def islands(point: Mapping[str, Any]) -> Truth:
    """Two safe regions in a plain beyond the limit, the better one small."""
    a, b, rate = point["a"], point["b"], (math.log10(point["rate"]) + 4) / 2
    near = math.exp(-((a - 0.8) ** 2 + (b - 0.25) ** 2) / 0.03)
    far = math.exp(-((a - 0.2) ** 2 + (b - 0.75) ** 2) / 0.08)
    reward = 0.5 + 0.35 * a - 0.1 * b - 0.4 * (rate - 0.6) ** 2
    reward += {"p": 0.0, "q": 0.1, "r": -0.1}[point["kind"]]
    return reward, max(0.05, 2.2 - 1.8 * near - 1.7 * far + 0.8 * (rate - 0.5) ** 2)


def cliff(point: Mapping[str, Any]) -> Truth:
    """The cost leaps where a weight passes a threshold that depends on the number of steps."""
    weight, steps, rate = point["weight"], point["steps"], (math.log10(point["rate"]) + 5) / 3
    leap = 2.0 / (1 + math.exp(-(weight - 0.35 - 0.05 * steps) / 0.04))
    reward = 0.4 + 0.5 * weight - 0.03 * abs(steps - 5) - 0.5 * (rate - 0.7) ** 2
    reward += {64: -0.05, 128: 0.0, 256: 0.03}[point["width"]]
    return reward - 0.1 * (point["decay"] - 0.2) ** 2, 0.25 + 0.35 * weight + leap


def _ranges(*names: str) -> list[Hyperparameter]:
    return [Hyperparameter(name, low=0.0, high=1.0) for name in names]


PROBLEMS = {
    "example": Problem(search_efficiency.SPACE, example),
    "wide": Problem(SearchSpace("wide", _ranges(*(f"x{place}" for place in range(8)))), wide),
    "islands": Problem(
        SearchSpace(
            "islands",
            [
                *_ranges("a", "b"),
                Hyperparameter("rate", low=1e-4, high=1e-2, log=True),
                Hyperparameter("kind", choices=("p", "q", "r")),
            ],
        ),
        islands,
    ),
    "cliff": Problem(
        SearchSpace(
            "cliff",
            [
                *_ranges("weight", "decay"),
                Hyperparameter("steps", low=1, high=8, integer=True),
                Hyperparameter("width", choices=(64, 128, 256)),
                Hyperparameter("rate", low=1e-5, high=1e-2, log=True),
            ],
        ),
        cliff,
    ),
}


def heavy(cost: float, generator: np.random.Generator) -> float:
    """Nothing, or with probability cost / 2 an exponential amount of mean 2."""
    chance = min(cost / 2, 1.0)
    return float(generator.exponential(cost / chance)) if generator.random() < chance else 0.0


def mild(cost: float, generator: np.random.Generator) -> float:
    """Normal, with a deviation of 0.4 of the cost."""
    return max(0.0, cost * (1 + 0.4 * generator.standard_normal()))


NOISES: dict[str, Noise] = {"heavy": heavy, "mild": mild}


def seed_of(truth: Truth, noise: Noise, generator: np.random.Generator) -> Truth:
    """What one seed scores."""
    reward = truth[0] + REWARD_DEVIATION * generator.standard_normal()
    return reward, noise(truth[1], generator)


def budget_choice(problem: Problem, noise: Noise, runs: int, seed: int) -> tuple[Truth, bool]:
    """The truth of what a budget ends in, and whether its bound is within the limit."""
    unit, terms = problem.unit, BudgetTerms(runs, seed, CONFIDENCE)
    generator = np.random.default_rng([seed, 77])
    points: list[Mapping[str, Value]] = []
    scores: list[list[Truth]] = []

    def tried() -> list[Tried]:
        return [
            Tried(tuple(unit.position(point)), tuple(r for r, _ in own), tuple(c for _, c in own))
            for point, own in zip(points, scores, strict=True)
        ]

    while (found := next_round(unit, tried(), sum(map(len, scores)), terms)) is not None:
        more = dict(found.more)
        for point in found.new:
            if point not in points:
                points.append(point)
                scores.append([])
            index = points.index(point)
            more[index] = more.get(index, 0) + 1
        for index, count in more.items():
            truth = problem.truth(points[index])
            scores[index] += [seed_of(truth, noise, generator) for _ in range(count)]
    chosen = choose(unit, tried(), CONFIDENCE)
    assert chosen is not None
    return problem.truth(points[chosen.index]), chosen.passed


def fixed_choice(problem: Problem, noise: Noise, runs: int, seed: int) -> tuple[Truth, bool]:
    """The same of a random search with fixed seeds."""
    generator = np.random.default_rng([seed, 5])
    truths = [problem.evaluate(p) for p in problem.unit.draw(CONFIGURATIONS, generator)]
    each = runs // CONFIGURATIONS
    scores = np.array([[seed_of(t, noise, generator) for _ in range(each)] for t in truths])
    bounds = cost_upper_bound(list(scores[:, :, 1]), CONFIDENCE)
    safe = bounds <= 1
    rewards = np.where(safe, scores[:, :, 0].mean(axis=1), -np.inf)
    return truths[int(rewards.argmax() if safe.any() else bounds.argmin())], bool(safe.any())


STRATEGIES = {"budget": budget_choice, "12 configurations, fixed seeds": fixed_choice}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=PROBLEMS, action="append")
    parser.add_argument("--noise", choices=NOISES, action="append")
    parser.add_argument("--runs", type=int, default=120)
    parser.add_argument("--sweeps", type=int, default=100)
    add_json_option(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for problem in arguments.problem or PROBLEMS:
        for noise in arguments.noise or NOISES:
            for strategy, spend in STRATEGIES.items():
                started, best = time.process_time(), PROBLEMS[problem].best
                choices = [
                    spend(PROBLEMS[problem], NOISES[noise], arguments.runs, seed)
                    for seed in range(arguments.sweeps)
                ]
                costs = np.array([cost for (_, cost), _ in choices])
                rows.append(
                    {
                        "problem": problem,
                        "noise": noise,
                        "strategy": strategy,
                        "runs": arguments.runs,
                        "sweeps": arguments.sweeps,
                        "passed": f"{np.mean([passed for _, passed in choices]):.0%}",
                        "truly safe": f"{np.mean(costs <= 1):.0%}",
                        "regret": f"{np.median([best - r for (r, _), _ in choices]):.3f}",
                        "seconds": f"{(time.process_time() - started) / arguments.sweeps:.2f}",
                    }
                )
                print(rows[-1], flush=True)
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
