"""`torch.compile` takes a population's whole update as one graph, and changes nothing.

The update is `Population`'s gradient step: losses, gradients, Adam and the targets, of all members.
"""

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_leaves

from tests.trainables.conformance.small_populations import build
from tests.trainables.conftest import MakeDataset
from trainables.algorithms import ALGORITHMS
from trainables.population import Population, phase_boundaries
from trainables.tasks import Task

STEPS = 40
# Tracing takes 2 to 30 s a method on one core; most are `slow` tests.
TRACED_BY_DEFAULT = ("bc", "flp")

traced = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in TRACED_BY_DEFAULT else pytest.mark.slow)
        for name in ALGORITHMS
    ],
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        yield
    torch._dynamo.reset()


def compare(task: Task, make_dataset: MakeDataset, name: str, backend: str, steps: int) -> int:
    """Take `steps` compiled steps from the start of each phase, and the same ones without; states
    must agree. Returns the number of graphs that the phase with the most was compiled to."""
    changes, dataset = [{}, {"learning_rate": 1e-3}], make_dataset(task)

    def at(start: int) -> Population:
        population = build(name, task, dataset, changes, [0, 1], STEPS)
        population.advance(start)
        return population

    first = at(0)
    most = 0
    seen = set()
    for phase, start, end in phase_boundaries(first.method, STEPS):
        if phase.name in seen:
            continue
        seen.add(phase.name)
        plain, compiled = at(start), at(start)
        torch._dynamo.reset()
        counters.clear()
        compiled._gradient_step = torch.compile(  # type: ignore[method-assign]
            compiled._gradient_step, fullgraph=True, backend=backend
        )
        # Short of the phase's end, so that nothing but updates is compared.
        until = min(start + steps, end - 1)
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
    assert compare(boat_task, make_dataset, name, "eager", steps=1) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_compiled_update_agrees_with_the_plain_one(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    # The first graph holds Adam's step count as a constant, the second as an input.
    assert compare(boat_task, make_dataset, name, "inductor", steps=6) <= 2
