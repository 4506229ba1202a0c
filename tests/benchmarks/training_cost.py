"""What gradient steps of each method cost with its paper's settings: time and memory of 1,000.

    python -m tests.benchmarks.training_cost [--methods flrp lspc] [--population 1]
        [--steps 40] [--threads 2] [--device auto] [--json FILE]

trains each method, in a process of its own, on random data of CarGoal2's shapes (72 numbers a state
and 2 an action; neither time nor memory of a step depends on their values), for `--steps` measured
steps of each phase after 8 that warm it up. Time is the phases' mean by their shares of the budget;
what happens once between phases (inverting the dataset, calibrating) is left out. Memory is the
process's largest resident set beyond that of the imported libraries, or on a GPU what its allocator
held at most; the dataset, 20,000 steps, is part of it.

Prints a table, and the same rows as JSON with `--json` (- for standard output).
"""

import argparse
import resource
import sys
import time
from typing import Any

from tests.benchmarks.measurement import (
    add_json_option,
    measured_apart,
    print_table,
    random_dataset,
    write_json,
)

# What other benchmarks measure speed with: the sizes alone, the rest every method's default. Where
# the paper prints no size: LSPC, behaviour cloning and OSRL's own methods OSRL's two layers of 256,
# FLP and SafeFQL FQL's four of 512.
PAPER_SIZES: dict[str, dict[str, Any]] = {
    "flrp": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512, "refinement_steps": 3},
    "lspc": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 1024, "latent_dim": 32},
    "r2pac": {
        "hidden_dim": 512, "hidden_layers": 4, "batch_size": 1024, "chunk_length": 5,
        "flow_steps": 32,
    },
    "flp": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
    "safefql": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
    "cpq": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512},
    "bcql": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512},
    "bearl": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512},
    "coptidice": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512},
    "bc": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 512},
    "fisor": {"hidden_dim": 256, "hidden_layers": 2, "batch_size": 1024},
    "caps": {"hidden_dim": 512, "hidden_layers": 2, "batch_size": 512},
    "cdt": {
        "hidden_dim": 128, "hidden_layers": 3, "batch_size": 2048, "sampling_cost_bound": 0.0,
    },
    "fql": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
    "ifql": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
    "iql": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
    "rebrac": {"hidden_dim": 512, "hidden_layers": 4, "batch_size": 256},
}  # fmt: skip
TASK = "OfflineCarGoal2Gymnasium-v0"
DATA = (20_000, 1_000)
"""Steps of data, and of an episode."""
WARM_UP = 8
MODULE = "tests.benchmarks.training_cost"


def measure(method: str, population: int, steps: int, threads: int, device: str) -> dict[str, Any]:
    """One row of the table, measured in this process."""
    import torch
    from torch.utils._pytree import tree_leaves

    from safesweep.trainables.methods.paper_settings import printed_settings
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import get_task
    from safesweep.trainables.training.devices import pick_device
    from safesweep.trainables.training.population import phase_boundaries, problem_spec
    from tests.trainables.populations import make_population

    torch.set_num_threads(threads)
    device = pick_device(device)
    before = resident_megabytes()
    task, dataset = get_task(TASK), random_dataset(TASK, *DATA)
    config_class = ALGORITHMS[method].config_class
    # Random episodes cost more than CDT would draw.
    drawn = {"sampling_cost_bound": 0.0} if method == "cdt" else {}
    config = config_class.resolve({**printed_settings(method, TASK).values, **drawn})
    phases = ALGORITHMS[method](config, problem_spec(task, dataset, task.cost_limit)).phases
    # Long enough that the shortest phase has room for what is measured.
    budget = int((WARM_UP + steps + 1) / min(phase.share for phase in phases)) + len(phases)
    runs = make_population(
        ALGORITHMS[method], [config] * population, list(range(population)), task, dataset, budget,
        task.cost_limit, device,
    )  # fmt: skip
    seconds, done = 0.0, set()
    for phase, start, end in phase_boundaries(runs.method, budget):
        if phase.name not in done:
            done.add(phase.name)
            runs.step = start
            runs.advance(start + WARM_UP)
            _synchronize(device)
            began = time.perf_counter()
            runs.advance(start + WARM_UP + steps)
            _synchronize(device)
            share = sum(p.share for p in phases if p.name == phase.name)
            seconds += share * (time.perf_counter() - began) / steps * 1000
        # The next phase starts from what this one leaves, its last step alone included.
        runs.step = end - 1
        runs.advance(end)
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    else:
        memory = resident_megabytes() - before
    parameters = sum(leaf[0].numel() for leaf in tree_leaves(runs.state["params"]))
    return {
        "algorithm": method,
        "population": population,
        "batch_size": config.batch_size,
        "hidden": f"{config.hidden_layers} x {config.hidden_dim}",
        "parameters": parameters,
        "seconds_per_1000_steps": round(seconds, 2),
        "run_steps_per_second": round(1000 * population / seconds, 1),
        "memory_megabytes": round(memory),
        "device": device,
        "threads": threads,
    }


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def resident_megabytes() -> float:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=PAPER_SIZES, default=list(PAPER_SIZES))
    parser.add_argument("--population", type=int, default=1, help="runs trained together")
    parser.add_argument("--steps", type=int, default=40, help="measured steps of each phase")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_json_option(parser)
    arguments = parser.parse_args()
    sizes = (arguments.population, arguments.steps, arguments.threads)
    rows = []
    for method in arguments.methods:
        print(f"measuring {method}", file=sys.stderr)
        rows.append(measured_apart(MODULE, method, *sizes, arguments.device))
    print_table(rows)
    write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
