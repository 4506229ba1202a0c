"""Run-steps per second of every method at its paper's sizes, against plain eager training.

    python -m tests.benchmarks.training_speed [--methods lspc flrp] [--populations 1 4 16]
        [--threads 2] [--device cpu] [--compile] [--hidden-dim N] [--batch-size N]
        [--matmul-precision fp32]
        [--rounds 5] [--seconds 6] [--json FILE]

For each method and population size, in a process of its own: a population and one run of
`tests.benchmarks.eager_reference`, both on random data of CarGoal2's shapes (neither's time depends
on the values), take turns in every phase for `--rounds` rounds; medians count, and the phases'
times are joined by their shares of the budget. A round of the population is whole blocks (draws,
copies and the check for divergence included), or as many steps as fit in about `--seconds`, in a
block cut to that length, so that what a block costs once then counts more than in training.

`gflops` is the arithmetic of the matrix products that were done per second, `peak` that of one
large fp32 product on the same threads, measured in the same process. The reference is always fp32.

With `--compile` the population's step is compiled, which takes minutes and is not counted, where
its members step together: on a GPU, or with `--hidden-dim` and `--batch-size` smaller than the
papers'.

Prints a table, and the same rows as JSON with `--json` (- for standard output).
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.measurement import (
    add_json_option,
    measured_apart,
    print_table,
    random_dataset,
    write_json,
)
from tests.benchmarks.training_cost import DATA, PAPER_SIZES, TASK

BUDGET = 100_000
MODULE = "tests.benchmarks.training_speed"


def measure(
    method: str,
    population: int,
    threads: int,
    rounds: int,
    seconds: float,
    device: str,
    compiled: bool,
    sizes: dict[str, Any],
) -> dict[str, Any]:
    """One row of the table, measured in this process."""
    import torch

    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import get_task
    from safesweep.trainables.training import population as populations
    from safesweep.trainables.training.population import phase_boundaries
    from tests.benchmarks.eager_reference import EagerRun, networks_are_modules
    from tests.trainables.populations import make_population

    torch.set_num_threads(threads)
    task, dataset = get_task(TASK), random_dataset(TASK, *DATA)
    config = ALGORITHMS[method].config_class.resolve({**PAPER_SIZES[method], **sizes})
    runs = make_population(
        ALGORITHMS[method], [config] * population, list(range(population)), task, dataset, BUDGET,
        task.cost_limit, device, compiled,
    )  # fmt: skip
    whole_block = populations.BLOCK_STEPS
    shares: dict[str, float] = {}
    for phase in runs.method.phases:
        shares[phase.name] = shares.get(phase.name, 0.0) + phase.share
    ours, plain, ratios, products = 0.0, 0.0, [], 0.0
    for phase, start, _ in phase_boundaries(runs.method, BUDGET):
        if phase.name not in shares:
            continue
        share = shares.pop(phase.name)
        # What happens once between phases does not change a step's time.
        runs.step = start
        populations.BLOCK_STEPS = 1
        # The first two steps are compiled to a graph each.
        runs.advance(start + 2)
        runs.step = start
        once = _seconds(lambda: runs.advance(runs.step + 1))
        steps = max(1, min(whole_block, int(seconds / once)))
        populations.BLOCK_STEPS, runs.step, runs._block = steps, start, None
        run = EagerRun(runs, 0, phase)

        def plainly(run: EagerRun = run, steps: int = steps) -> None:
            for _ in range(steps):
                run.step(*run.draw())

        # Of a population and of a run, so many steps at a time.
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(_seconds(lambda steps=steps: runs.advance(runs.step + steps)) / steps)
            with networks_are_modules():
                theirs.append(_seconds(plainly) / steps)
        with networks_are_modules():
            products += share * _product_flops(plainly) / steps
        ours += share * statistics.median(mine)
        plain += share * statistics.median(theirs)
        ratios.append(population * statistics.median(theirs) / statistics.median(mine))
    return {
        "algorithm": method,
        "population": population,
        "threads": threads,
        "device": device,
        "compiled": runs._compiled_step is not None,
        "matmul_precision": config.matmul_precision,
        "run_steps_per_second": round(population / ours, 2),
        "reference": round(1 / plain, 2),
        "ratio": round(population * plain / ours, 2),
        "ratio_by_phase": "/".join(f"{ratio:.2f}" for ratio in ratios),
        "gflops": round(population * products / ours / 1e9, 1),
        "peak": round(_peak_gflops(device), 1),
    }


def _seconds(function: Callable[[], object]) -> float:
    import torch

    began = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _product_flops(function: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def _peak_gflops(device: str) -> float:
    import torch

    size = 1024 if device == "cpu" else 8192
    one, other = torch.randn(2, size, size, device=device)
    return max(2 * size**3 / _seconds(lambda: one @ other) for _ in range(10)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=PAPER_SIZES, default=list(PAPER_SIZES))
    parser.add_argument("--populations", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--hidden-dim", type=int, help="in place of the paper's")
    parser.add_argument("--batch-size", type=int, help="in place of the paper's")
    parser.add_argument("--matmul-precision", choices=("fp32", "bf16"), help="of the population")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="about, of a round")
    add_json_option(parser)
    arguments = parser.parse_args()
    replaced = ("hidden_dim", "batch_size", "matmul_precision")
    given = {name: getattr(arguments, name) for name in replaced}
    sizes = {name: value for name, value in given.items() if value is not None}
    rows = []
    for method in arguments.methods:
        for population in arguments.populations:
            print(f"measuring {method}, population {population}", file=sys.stderr)
            options = (
                population, arguments.threads, arguments.rounds, arguments.seconds,
                arguments.device, arguments.compile, sizes,
            )  # fmt: skip
            rows.append(measured_apart(MODULE, method, *options))
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
