"""Members that step by themselves, as large ones do on a CPU, end where they end together.

How large is large is lowered to nothing here, so that small members take that path.
"""

import copy

import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.components import networks
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import BLOCK_STEPS, Population, phase_boundaries
from tests.trainables.conformance.small_populations import build
from tests.trainables.conftest import MakeDataset

STEPS = 100
CHANGES = [{"learning_rate": rate} for rate in (1e-4, 1e-3, 3e-3)]
SEEDS = [3, 3, 7]

pytestmark = pytest.mark.parametrize("name", ALGORITHMS)


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "LARGE_PRODUCT", 0)


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


def test_apart_agrees_with_together(
    name: str, boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = trained(name, boat_task, make_dataset)
    apart(monkeypatch)
    alone = trained(name, boat_task, make_dataset)
    for one, other in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    losses, same = together.take_metrics(), alone.take_metrics()
    assert losses.keys() == same.keys()
    for metric, values in losses.items():
        assert values == pytest.approx(same[metric], rel=1e-2, abs=1e-3)


def test_threads_and_company_change_nothing(
    name: str, boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch)
    one, two = (trained(name, boat_task, make_dataset, threads) for threads in (1, 2))
    for leaf, same in zip(
        tree_leaves(one.state_dict()), tree_leaves(two.state_dict()), strict=True
    ):
        assert torch.equal(leaf, same) if torch.is_tensor(leaf) else leaf == same
    lone = build(name, boat_task, make_dataset(boat_task), CHANGES[1:2], SEEDS[1:2], STEPS)
    lone.advance(STEPS)
    for leaf, same in zip(
        tree_leaves(lone.member_state(0)), tree_leaves(one.member_state(1)), strict=True
    ):
        torch.testing.assert_close(leaf, same, rtol=1e-5, atol=1e-6)


def test_resuming_is_bit_identical(
    name: str, boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch)
    whole = trained(name, boat_task, make_dataset)
    begun = trained(name, boat_task, make_dataset, until=STEPS // 3)
    resumed = build(name, boat_task, make_dataset(boat_task), CHANGES, SEEDS, STEPS)
    resumed.load_state_dict(copy.deepcopy(begun.state_dict()))
    resumed.advance(STEPS)
    for leaf, same in zip(tree_leaves(whole.state), tree_leaves(resumed.state), strict=True):
        assert torch.equal(leaf, same)


def test_one_that_diverges_is_frozen_alone(
    name: str, boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart(monkeypatch)
    healthy = trained(name, boat_task, make_dataset)
    population = build(name, boat_task, make_dataset(boat_task), CHANGES, SEEDS, STEPS)
    for leaf in tree_leaves(population.state["params"]):
        leaf[1].fill_(float("nan"))
    population.advance(STEPS)
    first_end = phase_boundaries(population.method, STEPS)[0][2]
    assert population.diverged_at == [None, min(BLOCK_STEPS, first_end), None]
    for leaf, same in zip(tree_leaves(healthy.state), tree_leaves(population.state), strict=True):
        assert torch.equal(leaf[[0, 2]], same[[0, 2]])
