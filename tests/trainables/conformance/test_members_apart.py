"""Members that step by themselves, as large ones do on a CPU, end where they end together.

How large is large is lowered to nothing here, so that small members take that path.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.components import networks
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import BLOCK_STEPS, Population, phase_boundaries
from tests.trainables.conformance.small_populations import METHODS_BY_DEFAULT, build
from tests.trainables.conftest import MakeDataset

STEPS = 100
CHANGES = [{"learning_rate": rate} for rate in (1e-4, 1e-3, 3e-3)]
SEEDS = [3, 3, 7]


def trained(
    name: str, task: Task, make_dataset: MakeDataset, threads: int = 1, until: int = STEPS
) -> Population:
    population = build(name, task, make_dataset(task), CHANGES, SEEDS, STEPS)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    population.advance(until)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    return population


@pytest.fixture(scope="module", params=METHODS_BY_DEFAULT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def together(name: str, boat_task: Task, make_dataset: MakeDataset) -> Population:
    """Three members after their training, in one `vmap`."""
    return trained(name, boat_task, make_dataset)


@pytest.fixture(scope="module")
def alone(
    name: str, together: Population, boat_task: Task, make_dataset: MakeDataset
) -> Iterator[Population]:
    """The same three, one after the other, as whatever is trained while this fixture lives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "LARGE_PRODUCT", 0)
        yield trained(name, boat_task, make_dataset)


def test_apart_agrees_with_together(together: Population, alone: Population) -> None:
    for one, other in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    losses, same = (copy.deepcopy(one).take_metrics() for one in (together, alone))
    assert losses.keys() == same.keys()
    for metric, values in losses.items():
        assert values == pytest.approx(same[metric], rel=1e-2, abs=1e-3)


def test_threads_and_company_change_nothing(
    name: str, alone: Population, boat_task: Task, make_dataset: MakeDataset
) -> None:
    two = trained(name, boat_task, make_dataset, threads=2)
    for leaf, same in zip(
        tree_leaves(alone.state_dict()), tree_leaves(two.state_dict()), strict=True
    ):
        assert torch.equal(leaf, same) if torch.is_tensor(leaf) else leaf == same
    lone = build(name, boat_task, make_dataset(boat_task), CHANGES[1:2], SEEDS[1:2], STEPS)
    lone.advance(STEPS)
    for leaf, same in zip(
        tree_leaves(lone.member_state(0)), tree_leaves(alone.member_state(1)), strict=True
    ):
        torch.testing.assert_close(leaf, same, rtol=1e-5, atol=1e-6)


def test_resuming_is_bit_identical(
    name: str, alone: Population, boat_task: Task, make_dataset: MakeDataset
) -> None:
    begun = trained(name, boat_task, make_dataset, until=STEPS // 3)
    resumed = build(name, boat_task, make_dataset(boat_task), CHANGES, SEEDS, STEPS)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    resumed.advance(STEPS)
    for leaf, same in zip(tree_leaves(alone.state), tree_leaves(resumed.state), strict=True):
        assert torch.equal(leaf, same)


def test_one_that_diverges_is_frozen_alone(
    name: str, alone: Population, boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = build(name, boat_task, make_dataset(boat_task), CHANGES, SEEDS, STEPS)
    for leaf in tree_leaves(population.state["params"]):
        leaf[1].fill_(float("nan"))
    population.advance(STEPS)
    first_end = phase_boundaries(population.method, STEPS)[0][2]
    assert population.diverged_at == [None, min(BLOCK_STEPS, first_end), None]
    for leaf, same in zip(tree_leaves(alone.state), tree_leaves(population.state), strict=True):
        assert torch.equal(leaf[[0, 2]], same[[0, 2]])
