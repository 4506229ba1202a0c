"""Which expert moves a latent when, and by how much."""

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.latent_refiner import (
    LatentRefiner,
    random_order,
    random_order_numbers,
    refinement_path,
    refinement_schedule,
)


@pytest.mark.parametrize(
    ("steps", "order"),
    [
        (0, []),
        (1, ["shared"]),
        (2, ["safety", "shared"]),
        (3, ["safety", "reward", "shared"]),
        (6, ["safety", "reward", "safety", "reward", "safety", "shared"]),
    ],
)
def test_safety_acts_first_and_shared_last(steps: int, order: list[str]) -> None:
    schedule = refinement_schedule("decoupled", "safety-reward-shared", steps)
    assert schedule == tuple((expert,) for expert in order)


def test_other_refiners_and_orders_have_their_own_schedule() -> None:
    experts = ("safety", "reward", "shared")
    assert refinement_schedule("decoupled", "reward-safety-shared", 3) == (
        ("reward",), ("safety",), ("shared",),
    )  # fmt: skip
    assert refinement_schedule("decoupled", "random", 2) == (experts, experts)
    assert refinement_schedule("decoupled", "none", 3) == ()
    assert refinement_schedule("unified", "safety-reward-shared", 2) == (("unified",),) * 2
    assert refinement_schedule("averaged", "safety-reward-shared", 3) == (experts,)


def test_a_latent_is_moved_step_by_step_by_the_mean_or_by_a_draw() -> None:
    """Experts that add 1 and double: two steps of each, by hand."""

    def move(expert: str, base: Tensor) -> Tensor:
        return torch.ones_like(base) if expert == "adds" else base

    base = torch.tensor([[1.0], [3.0]])
    in_turn = refinement_path((("adds",), ("doubles",)), move, base, None)
    assert [place.tolist() for place in in_turn] == [[[1], [3]], [[2], [4]], [[4], [8]]]
    both = (("adds", "doubles"),)
    assert refinement_path(both, move, base, None)[-1].tolist() == [[2.0], [5.0]]
    drawn = refinement_path(both, move, base, torch.tensor([[0], [1]]))
    assert drawn[-1].tolist() == [[2.0], [6.0]]
    assert refinement_path((), move, base, None) == [base]


def test_a_random_order_is_a_permutation_every_three_steps() -> None:
    uniform = torch.rand(600, random_order_numbers(5), generator=torch.Generator().manual_seed(0))
    assert uniform.shape[-1] == 6
    order = random_order(uniform, 5)
    assert order.shape == (600, 5)
    assert (order[:, :3].sort(-1).values == torch.arange(3)).all()
    assert all(len(set(row[3:].tolist())) == 2 for row in order)
    orders, counts = order[:, :3].unique(dim=0, return_counts=True)
    assert len(orders) == 6
    assert counts.min() > 70


def test_a_refiner_knows_its_networks_and_how_far_experts_learn() -> None:
    def refiner(kind: str = "decoupled", order: str = "random", each: bool = True) -> LatentRefiner:
        return LatentRefiner(kind, order, steps=3, longest=10, at_each_step=each)

    assert refiner().networks == ("safety_expert", "reward_expert", "shared_expert")
    assert refiner(kind="unified").networks == ("unified_expert",)
    assert (refiner().whole_expert, refiner(kind="unified").whole_expert) == ("shared", "unified")
    assert [refiner().numbers_of(steps) for steps in (0, 1, 3, 4)] == [0, 3, 3, 6]
    assert refiner(order="safety-reward-shared").numbers_of(4) == 0
    assert refiner().visited_steps == 9
    assert refiner(each=False).visited_steps == 2
    assert refiner(kind="averaged", each=False).visited_steps == 0
