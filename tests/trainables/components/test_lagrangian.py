"""Which way a multiplier moves, and what a policy minimizes by it."""

import math

import pytest
import torch

from safesweep.trainables.components.lagrangian import (
    init_multiplier,
    lagrangian,
    positive_multiplier,
)


@pytest.mark.parametrize("excess", [-0.5, 0.5])
def test_a_multiplier_rises_while_the_cost_is_too_high(excess: float) -> None:
    raw = init_multiplier()["raw"].requires_grad_(True)
    multiplier = positive_multiplier({"raw": raw}, torch.tensor(10.0))
    assert float(multiplier.detach()) == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(-multiplier * excess, raw)
    # softplus(10 x) has the slope 5 at 0.
    assert float(gradient) == pytest.approx(-5 * excess)


def test_the_objective_lies_between_reward_and_cost() -> None:
    reward, cost = torch.tensor(3.0), torch.tensor(1.0)
    multiplier = torch.tensor(0.0, requires_grad=True)
    assert float(lagrangian(reward, cost, multiplier)) == -3.0
    assert not lagrangian(reward, cost, multiplier).requires_grad
    assert float(lagrangian(reward, cost, torch.tensor(1.0))) == -1.0
    assert float(lagrangian(reward, cost, torch.tensor(1e9))) == pytest.approx(1.0)
