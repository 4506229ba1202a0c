"""How often the bound that judges candidates together holds, also where its model is wrong.

Run it as `python -m tests.benchmarks.shared_bound_coverage`. Forty configurations have expected
costs from a population, their seeds cost by a law, and `shared_cost_bound` bounds all forty from 3
to 16 seeds each. A row says in how many of all cases the expected cost is at most its bound, in how
many of those above the limit (the hardest: a bound that leans on the others errs there first), and
how many of the configurations that the bound calls safe are not.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from safesweep.analysis.selection.bounds import shared_cost_bound
from tests.benchmarks.measurement import add_json_option, print_table, write_json

FloatArray = npt.NDArray[np.float64]
Law = Callable[[np.random.Generator, FloatArray, int], FloatArray]
CONFIGURATIONS = 40
SEEDS = (3, 5, 8, 12, 16)


def normal(generator: np.random.Generator, means: FloatArray, seeds: int) -> FloatArray:
    """Deviations of 0.4 of the mean."""
    return means[:, None] * (1 + 0.4 * generator.standard_normal((len(means), seeds))).clip(0)


def zero_inflated(generator: np.random.Generator, means: FloatArray, seeds: int) -> FloatArray:
    """Nothing, or with probability mean / 2 an exponential amount of mean 2, as on BallRun."""
    chance = np.minimum(means / 2, 1)[:, None]
    shape = (len(means), seeds)
    return (generator.random(shape) < chance) * generator.exponential(
        means[:, None] / chance, shape
    )


def heavy_tailed(generator: np.random.Generator, means: FloatArray, seeds: int) -> FloatArray:
    """Log-normal amounts whose logarithm deviates by 1.2: one in a hundred is 8 times the mean."""
    normal = generator.standard_normal((len(means), seeds))
    return means[:, None] * np.exp(1.2 * normal - 0.72)


def rare_failures(generator: np.random.Generator, means: FloatArray, seeds: int) -> FloatArray:
    """Little costs, 0 to 0.2, and with probability mean / 10 an exponential amount of mean 9: what
    seeds cost is two things that the model takes for one."""
    shape = (len(means), seeds)
    fails = generator.random(shape) < ((means - 0.1) / 9).clip(0)[:, None]
    return np.where(fails, generator.exponential(9, shape), 0.2 * generator.random(shape))


def unlike_amounts(generator: np.random.Generator, means: FloatArray, seeds: int) -> FloatArray:
    """Every other configuration costs often and little, the others seldom and much: amounts that
    differ by a factor of 8."""
    often = np.arange(len(means)) % 2 == 0
    amount = np.where(often, 0.5 * np.maximum(1, means / 0.45), 4.0)[:, None]
    shape = (len(means), seeds)
    return (generator.random(shape) < means[:, None] / amount) * generator.exponential(
        np.broadcast_to(amount, shape)
    )


LAWS: dict[str, Law] = {
    "normal": normal,
    "zero-inflated": zero_inflated,
    "heavy-tailed": heavy_tailed,
    "rare failures": rare_failures,
    "unlike amounts": unlike_amounts,
}


def spread(generator: np.random.Generator) -> FloatArray:
    """Expected costs about the limit, between a quarter and four times it for most."""
    return np.exp(0.7 * generator.standard_normal(CONFIGURATIONS)).clip(0.15, 1.9)


def in_two_groups(generator: np.random.Generator) -> FloatArray:
    """Most configurations at a quarter of the limit, and one in eight just above it."""
    return np.where(np.arange(CONFIGURATIONS) % 8 == 0, 1.1, 0.25)


POPULATIONS = {"spread": spread, "two groups": in_two_groups}


def coverage(
    law: Law, population: Callable[[np.random.Generator], FloatArray], seeds: int, cases: int,
    confidence: float,
) -> dict[str, float]:  # fmt: skip
    """Shares over `cases` sets of configurations."""
    generator = np.random.default_rng(seeds)
    means, bounds = [], []
    for _ in range(cases):
        true = population(generator)
        bounds.append(shared_cost_bound(list(law(generator, true, seeds)), confidence))
        means.append(true)
    true, bound = np.concatenate(means), np.concatenate(bounds)
    called = bound <= 1
    return {
        "holds": float((true <= bound).mean()),
        "holds above the limit": float((true <= bound)[true > 1].mean()),
        "called safe": float(called.mean()),
        "of these unsafe": float((true > 1)[called].mean()) if called.any() else 0.0,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50, help="sets a cell (default: 50)")
    parser.add_argument("--confidence", type=float, default=0.9, help="level (default: 0.9)")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name, population in POPULATIONS.items():
        for law, draw in LAWS.items():
            for seeds in SEEDS:
                found = coverage(draw, population, seeds, arguments.cases, arguments.confidence)
                shares = {key: f"{value:.1%}" for key, value in found.items()}
                rows.append({"population": name, "law": law, "seeds": seeds, **shares})
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
