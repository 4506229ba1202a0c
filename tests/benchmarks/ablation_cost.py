"""What a step of each method costs in the ablations below the paper's scale, evaluations included.

    python -m tests.benchmarks.ablation_cost [--scale small] [--methods flrp lspc] [--share 0.1]

trains the default configuration of a method at a scale on the collected boat, all its seeds in one
population on one thread, for a share of the budget, and evaluates it once. Prints the seconds for
1,000 steps of one run: of training, of what falls on 1,000 steps of the whole budget of its
evaluations and of setting up, and the sum, which `analysis.ablations.engine.budgets` holds.
"""

import argparse
import sys
import time

TASK = "BoatNavigation-v0"


def measure(scale: str, algorithm: str, share: float) -> dict[str, float]:
    """Seconds for 1,000 steps of one run of a method's default configuration."""
    from safesweep import train
    from safesweep.analysis.ablations.engine.budgets import EVALUATIONS, make_sweeps

    (sweep,) = make_sweeps("cost", scale, "safesweep", algorithm, [TASK], {}, {})
    steps = max(1, int(share * sweep["steps"]))
    began = time.perf_counter()
    rows = train(
        algorithm, TASK, [sweep["fixed"]], sweep["seeds"], steps=steps, dataset="collect",
        episodes=sweep["evaluate"]["episodes"], device="cpu",
    ).runs  # fmt: skip
    elapsed = (time.perf_counter() - began) / len(rows)
    train_time, evaluate_time = (
        sum(row[name] for row in rows) / len(rows) for name in ("train_seconds", "evaluate_seconds")
    )
    found = {
        "train": train_time / steps,
        "evaluate": evaluate_time * EVALUATIONS[scale] / sweep["steps"],
        "set_up": (elapsed - train_time - evaluate_time) / sweep["steps"],
    }
    found["sum"] = sum(found.values())
    return {name: 1000 * seconds for name, seconds in found.items()}


def main() -> None:
    import torch

    from safesweep.analysis.ablations.engine.budgets import SMALL
    from safesweep.trainables.data.sources import load_dataset

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=("smoke", "small"), default="small")
    parser.add_argument("--methods", nargs="+", choices=SMALL, default=list(SMALL))
    parser.add_argument("--share", type=float, default=0.1, help="of the budget that is trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_dataset(TASK, "collect")
    for algorithm in arguments.methods:
        print(f"measuring {algorithm}", file=sys.stderr)
        found = measure(arguments.scale, algorithm, arguments.share)
        print(algorithm, *(f"{name} {seconds:.2f}" for name, seconds in found.items()))


if __name__ == "__main__":
    main()
