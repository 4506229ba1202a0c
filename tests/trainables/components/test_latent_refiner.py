"""Which expert moves a latent when, and by how much."""

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.latent_refiner import refine, refinement_schedule


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
    in_turn = refine((("adds",), ("doubles",)), move, base, None)
    assert in_turn.tolist() == [[4.0], [8.0]]
    both = (("adds", "doubles"),)
    assert refine(both, move, base, None).tolist() == [[2.0], [5.0]]
    drawn = refine(both, move, base, torch.tensor([[0.4], [0.6]]))
    assert drawn.tolist() == [[2.0], [6.0]]
