"""Which way a multiplier moves, and what a policy minimizes by it."""

import math

import pytest
import torch

from safesweep.trainables.components.lagrangian import (
    Gains,
    init_multiplier,
    lagrangian,
    pid_multiplier,
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


def test_a_controller_answers_to_excess_sum_and_rise() -> None:
    """Excesses 2, 3, -4, 1 in turn, with gains 0.1, 0.01 and 1."""
    gains = Gains(torch.tensor(0.1), torch.tensor(0.01), torch.tensor(1.0))
    integral = last = torch.zeros(())
    found = []
    for excess in (2.0, 3.0, -4.0, 1.0):
        multiplier, integral = pid_multiplier(torch.tensor(excess), integral, last, gains)
        last = torch.tensor(excess)
        found.append((float(multiplier), float(integral)))
    expected = [
        (0.2 + 0.02 + 2.0, 2.0),
        (0.3 + 0.05 + 1.0, 5.0),
        # Below the threshold the sum alone counts, and falls.
        (0.01, 1.0),
        (0.1 + 0.02 + 5.0, 2.0),
    ]
    assert found == [pytest.approx(pair) for pair in expected]
