"""The reference that the benchmark of training compares with takes the same steps."""

import pytest
import torch

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import phase_boundaries
from tests.benchmarks.eager_reference import EagerRun, as_module, leaves, networks_are_modules
from tests.trainables.conformance.small_populations import build
from tests.trainables.conftest import MakeDataset

STEPS = 120
COMPARED = 6


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_reference_takes_the_same_steps(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = build(name, boat_task, make_dataset(boat_task), [{}], [0], STEPS)
    for phase, start, end in phase_boundaries(population.method, STEPS):
        population.advance(start)
        run = EagerRun(population, 0, phase)
        draws = population._draw(phase.name, start, 0)
        with networks_are_modules():
            for step in range(COMPARED):
                batch = population.method.gather(population.data, draws["indices"][step, 0])
                noise = {key: draw[step, 0] for key, draw in draws.items() if key != "indices"}
                run.step(batch, noise)
        population.advance(start + COMPARED)
        state = population.member_state(0)
        for part in ("params", "target"):
            for network, parameters in state.get(part, {}).items():
                ours = leaves(as_module(parameters))
                for one, other in zip(leaves(run.state[part][network]), ours, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
        assert run.log
        assert end > start + COMPARED
