"""Losses of in-sample critics, for one run; every mean is over the batch axis only."""

import math

import torch
from torch import Tensor

from safesweep.trainables.components.networks import Layers, ensemble_mlp


def expectile_loss(residual: Tensor, expectile: Tensor) -> Tensor:
    """|tau - 1{u < 0}| u^2 (FLRP eq. 21, from IQL): 0.5 is the mean, towards 1 the maximum."""
    weight = torch.where(residual < 0, 1 - expectile, expectile)
    return (weight * residual.square()).mean()


def reversed_expectile_loss(residual: Tensor, expectile: Tensor) -> Tensor:
    """|tau - 1{u > 0}| u^2 (FLRP eq. 8): 0.5 is the mean, towards 1 the minimum."""
    return expectile_loss(-residual, expectile)


def bellman_target(
    reward: Tensor, next_value: Tensor, terminal: Tensor, discount: Tensor
) -> Tensor:
    """r + gamma V(s') (FLRP eq. 22), without V(s') where the episode truly ended."""
    return reward + discount * (1 - terminal) * next_value


def feasible_bellman_target(
    safety_signal: Tensor, next_value: Tensor, terminal: Tensor, discount: Tensor
) -> Tensor:
    """(1 - gamma) h(s) + gamma max(h(s), V_h(s')) (FLRP eq. 7), and h(s) at a terminal state."""
    future = torch.where(terminal > 0, safety_signal, torch.maximum(safety_signal, next_value))
    return (1 - discount) * safety_signal + discount * future


def evaluate_ensemble(layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
    """Q(s, a) of each network of an ensemble: [k, B]."""
    return ensemble_mlp(layers, torch.cat((observations, actions), dim=-1)).squeeze(-1)


def squared_error(ensemble: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each network to a fixed target, summed over the ensemble."""
    return (ensemble - target.detach()).square().mean(-1).sum()


def clipped_exponential(exponent: Tensor, clip: float) -> Tensor:
    """min(exp(x), clip), without overflow on the way."""
    return torch.exp(exponent.clamp(max=math.log(clip)))
