"""The feasible set of cost values."""

import pytest
import torch

from safesweep.trainables.components.cost_feasibility import (
    cost_feasibility,
    cost_losses,
    cost_threshold,
)
from safesweep.trainables.components.networks import Parameters


def linear_critics() -> Parameters:
    """Q_c(s, a) = s + a and s + 2 a, V_c(s) = s, of one number each."""
    weights = torch.tensor([[[1.0], [1.0]], [[1.0], [2.0]]])
    return {
        "cost_q": [{"weight": weights, "bias": torch.zeros(2, 1)}],
        "cost_v": [{"weight": torch.ones(1, 1), "bias": torch.zeros(1)}],
    }


def minibatch() -> dict[str, torch.Tensor]:
    states = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])
    return {
        "observations": states,
        "next_observations": states + 1,
        "actions": torch.ones(5, 1),
        "costs": torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]),
        "terminals": torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]),
        "safe_episodes": torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0]),
    }


def test_three_quarters_of_the_samples_without_a_violation_are_feasible() -> None:
    level = torch.tensor(0.75)
    assert float(cost_threshold(linear_critics(), minibatch(), level)) == 2.0
    by_action, by_state = cost_feasibility(linear_critics(), minibatch(), level)
    assert by_state.tolist() == [-2.0, -1.0, 0.0, 1.0, 8.0]
    assert by_action.tolist() == [[-1.0, 0.0, 1.0, 2.0, 9.0], [0.0, 1.0, 2.0, 3.0, 10.0]]


def test_the_cost_is_learned_from_the_slow_value_and_the_larger_critic() -> None:
    params, half = linear_critics(), torch.tensor(0.5)
    slow = {"cost_v": [{"weight": torch.ones(1, 1), "bias": torch.ones(1)}]}
    losses = cost_losses(params, slow, minibatch(), half, half)
    # V_c is 2 below the larger Q_c everywhere; an expectile of 0.5 halves the squared error.
    assert float(losses["loss/cost_v"]) == pytest.approx(0.5 * 4.0)
    # c + (s + 2) / 2, and c alone at the terminal: of Q_c = s + a or s + 2 a.
    targets = torch.tensor([1.0, 1.5, 2.0, 3.5, 1.0])
    states = minibatch()["observations"][:, 0]
    errors = [(states + size - targets).square().mean() for size in (1, 2)]
    assert float(losses["loss/cost_q"]) == pytest.approx(float(sum(errors)))
