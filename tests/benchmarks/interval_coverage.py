"""How often a nominal 95 % interval over seeds holds the true value, by statistic and seeds.

Run it as `python -m tests.benchmarks.interval_coverage`. Seeds are drawn from laws whose mean,
interquartile mean and median over seeds are known: normal ones, and uniform ones.
"""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from safesweep.analysis.statistics import STATISTICS, estimate
from tests.benchmarks.measurement import add_json_option, print_table, write_json

FloatArray = npt.NDArray[np.float64]
SEEDS = (3, 5, 10)
TASKS = (1, 4)
LAWS: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
    "normal": lambda generator, count: generator.standard_normal(count),
    "uniform": lambda generator, count: generator.uniform(-1, 1, count),
}


def coverage(law: str, statistic: str, tasks: int, seeds: int, cases: int) -> float:
    """The share of cases whose interval holds 0, the true value of every statistic."""
    generator = np.random.default_rng(seeds)
    held = 0
    for case in range(cases):
        scores = {f"task {task}": LAWS[law](generator, seeds) for task in range(tasks)}
        found = estimate(scores, statistic, samples=400, seed=case)
        held += found.low <= 0 <= found.high
    return held / cases


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="simulated a cell (default: 1000)")
    add_json_option(parser)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for law in LAWS:
        for statistic in STATISTICS:
            for tasks in TASKS:
                row: dict[str, object] = {"law": law, "statistic": statistic, "tasks": tasks}
                for seeds in SEEDS:
                    found = coverage(law, statistic, tasks, seeds, arguments.cases)
                    row[f"{seeds} seeds"] = f"{found:.1%}"
                rows.append(row)
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
