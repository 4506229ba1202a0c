"""What tiny runs of every method came to when the results were recorded, and how to record anew.

`python -m tests.trainables.conformance.recorded_results [METHOD ...]` writes the file, of all
methods or of those that are named: do so only for a new method, or where a change is meant to alter
results, and say so.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task, get_task
from tests.trainables.conformance.small_populations import build
from tests.trainables.conftest import random_dataset

RECORDED = Path(__file__).with_suffix(".json")
STEPS = 40
RATES = (3e-4, 1e-3, 3e-3)
# How many runs: a run alone, and a population.
SIZES = {"alone": 1, "population": len(RATES)}

Results = dict[str, list[float]]


def results(name: str, size: int, task: Task, dataset: Dataset) -> Results:
    """Of some runs of a method, each a number a member: of every network the mean size of its
    parameters, the mean losses and diagnostics, and the mean returns of two episodes."""
    changes = [{"learning_rate": rate} for rate in RATES[:size]]
    population = build(name, task, dataset, changes, list(range(3, 3 + size)), STEPS)
    population.advance(STEPS)
    found: Results = {}
    for network, parameters in population.state["params"].items():
        leaves = tree_leaves(parameters)
        if leaves:
            flat = torch.cat([leaf.reshape(size, -1) for leaf in leaves], dim=1)
            found[f"size of {network}"] = flat.double().abs().mean(1).tolist()
    for metric, values in population.take_metrics().items():
        found[metric] = [float(value) for value in values]
    for policy in population.method.evaluated_policies:
        episodes = population.evaluate(policy, 2)
        found[f"return of {policy}"] = episodes.reward_returns.mean(1).tolist()
        found[f"cost of {policy}"] = episodes.cost_returns.mean(1).tolist()
    return found


def record(names: Sequence[str]) -> None:
    """Write the results of some methods as they are now."""
    task = get_task("BoatNavigation-v0")
    dataset = random_dataset(task)
    everything = recorded() if RECORDED.exists() else {}
    for name in names:
        everything[name] = {
            kind: results(name, size, task, dataset) for kind, size in SIZES.items()
        }
    ordered = {name: everything[name] for name in ALGORITHMS if name in everything}
    RECORDED.write_text(json.dumps(ordered, indent=1) + "\n")


def recorded() -> dict[str, dict[str, Results]]:
    """The recorded results: by method, alone or in a population."""
    found: dict[str, dict[str, Results]] = json.loads(RECORDED.read_text())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    record(sys.argv[1:] or list(ALGORITHMS))
