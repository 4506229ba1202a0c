"""`torch.compile` takes a population's whole update as one graph, and changes nothing.

The update is `Population`'s gradient step: losses, gradients, Adam and the targets, of all members.
"""

from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population, phase_boundaries
from tests.trainables.conformance.small_populations import build, graph_counters, traced_step
from tests.trainables.conftest import MakeDataset

STEPS = 40
LONG_STEPS = 240
# Tracing takes 2 to 30 s a method on one core; most are `slow` tests.
TRACED_BY_DEFAULT = ("bc",)

traced = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in TRACED_BY_DEFAULT else pytest.mark.slow)
        for name in ALGORITHMS
    ],
)


def compare(task: Task, make_dataset: MakeDataset, name: str, precision: str = "fp32") -> int:
    """Take a traced step from the start of each phase, and the same one without; states must agree.
    Returns the number of graphs that the phase with the most was traced to."""
    shared, dataset = {"matmul_precision": precision}, make_dataset(task)
    changes = [shared, {**shared, "learning_rate": 1e-3}]

    def at(start: int, compiled: bool = False) -> Population:
        population = build(name, task, dataset, changes, [0, 1], STEPS)
        population.advance(start)
        population._compiled = compiled
        return population

    first = at(0)
    most = 0
    seen = set()
    for phase, start, end in phase_boundaries(first.method, STEPS):
        if phase.name in seen:
            continue
        seen.add(phase.name)
        plain, compiled = at(start), at(start, compiled=True)
        counters = graph_counters()
        counters.clear()
        compiled._compiled_step = traced_step(compiled)
        # Short of the phase's end, so that nothing but updates is compared.
        until = min(start + 1, end - 1)
        assert until > start
        for population in (plain, compiled):
            population.advance(until)
        most = max(most, counters["stats"]["unique_graphs"])
        for one, other in zip(tree_leaves(plain.state), tree_leaves(compiled.state), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        moved = tree_leaves(at(start).state["params"])
        after = tree_leaves(compiled.state["params"])
        assert any(not torch.equal(a, b) for a, b in zip(moved, after, strict=True))
    return most


@traced
def test_the_update_is_one_graph(name: str, boat_task: Task, make_dataset: MakeDataset) -> None:
    assert compare(boat_task, make_dataset, name) == 1


def test_so_it_is_in_bf16(boat_task: Task, make_dataset: MakeDataset) -> None:
    assert compare(boat_task, make_dataset, "bc", "bf16") == 1


def test_a_falling_learning_rate_falls_in_the_graph_too(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Along half of the cosine, where a rate that the graph held as a constant would show."""
    falling = {"learning_rate_schedule": "cosine"}
    changes = [{**falling, "learning_rate": rate} for rate in (1e-2, 1e-3)]

    def population(*changes: dict[str, Any]) -> Population:
        return build("bc", boat_task, make_dataset(boat_task), changes, [0, 1], STEPS)

    plain, traced = population(*changes), population(*changes)
    counters = graph_counters()
    counters.clear()
    traced._compiled, traced._compiled_step = True, traced_step(traced)
    for one in (plain, traced):
        one.advance(STEPS // 2)
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
    pairs = zip(tree_leaves(plain.state), tree_leaves(traced.state), strict=True)
    for expected, found in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_compiled_population_agrees_with_a_plain_one(
    name: str, size: int, boat_task: Task, make_dataset: MakeDataset
) -> None:
    changes = [{"learning_rate": rate} for rate in (3e-4, 1e-3, 1e-4)[:size]]
    seeds = list(range(size))
    dataset = make_dataset(boat_task)
    plain = build(name, boat_task, dataset, changes, seeds, LONG_STEPS)
    compiled = build(name, boat_task, dataset, changes, seeds, LONG_STEPS, compiled=True)
    counters = graph_counters()
    counters.clear()
    for population in (plain, compiled):
        population.advance(LONG_STEPS)
    # Steps that move other networks are other graphs. The first one of a kind holds Adam's step
    # count as a constant, the second as an input.
    kinds = sum(
        len({frozenset(phase.moving(step)) for step in range(LONG_STEPS)})
        for phase in plain.method.phases
    )
    assert 1 <= counters["stats"]["unique_graphs"] <= 2 * kinds
    for one, other in zip(tree_leaves(plain.state), tree_leaves(compiled.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_large_networks_are_not_compiled(boat_task: Task, make_dataset: MakeDataset) -> None:
    large = {"hidden_dim": 512, "batch_size": 64}
    population = build("bc", boat_task, make_dataset(boat_task), [large], [0], 4, compiled=True)
    population.advance(1)
    assert population._compiled_step is None
