"""Populations small enough to train in a test, of every method."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from tests.trainables.populations import make_population

SMALL: Mapping[str, Any] = {"hidden_dim": 16, "batch_size": 32}
# Loop counts and depths that only cost time; a method that is not named keeps its own.
SMALLER: Mapping[str, Mapping[str, Any]] = {
    "flrp": {"coupling_layers": 2, "latent_dim": 4},
    "lspc": {"latent_dim": 4},
    "r2pac": {"hidden_layers": 2, "chunk_length": 3, "flow_steps": 4, "candidates": 4},
    "flp": {"flow_steps": 3},
    "safefql": {"flow_steps": 3},
    "cpq": {"vae_hidden_dim": 16, "candidates": 3},
    "bcql": {"vae_hidden_dim": 16, "candidates": 3},
    "bearl": {"vae_hidden_dim": 16, "candidates": 3, "discrepancy_samples": 3},
    "fisor": {"actor_layers": 1, "sampling_steps": 3, "candidates": 4, "critic_batch_size": 0},
    "cdt": {"hidden_layers": 1, "attention_heads": 2, "context_length": 4},
    "fql": {"hidden_layers": 2, "flow_steps": 3},
    "ifql": {"hidden_layers": 2, "flow_steps": 3, "candidates": 4},
    "iql": {"hidden_layers": 2},
    "rebrac": {"hidden_layers": 2},
}

# What the population does for its members, whatever their method, is tried on these by default: one
# without and one with several phases, networks and a moving state. The others are `slow` tests.
BY_DEFAULT = ("bc", "safefql")
METHODS_BY_DEFAULT = [
    pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in ALGORITHMS
]


def graph_counters() -> Any:
    """What torch counts of the graphs that it compiles. Loading the compiler takes seconds."""
    from torch._dynamo.utils import counters

    return counters


def traced_step(population: Population) -> Any:
    """A population's gradient step as one traced graph, which nothing compiles."""
    from safesweep.trainables.training.compilation import compiled

    return compiled(population._gradient_step, "eager")


def small_settings(name: str) -> dict[str, Any]:
    """Hyperparameters of a method in its smallest form that still does all it does."""
    return {**SMALL, **SMALLER.get(name, {})}


def build(
    name: str,
    task: Task,
    dataset: Dataset,
    changes: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    steps: int,
    compiled: bool = False,
) -> Population:
    """A population of small runs: one for each change of the hyperparameters, and its seed."""
    method = ALGORITHMS[name]
    configs = [
        method.config_class.resolve({**small_settings(name), **change}) for change in changes
    ]
    return make_population(
        method, configs, seeds, task, dataset, steps, task.cost_limit, compiled=compiled
    )
