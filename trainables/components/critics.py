"""Losses of in-sample critics, for one run; every mean is over the batch axis only."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.networks import (
    Activation,
    Layers,
    Parameters,
    detach,
    ensemble_mlp,
    mlp,
)


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


def state_value(
    layers: Layers, observations: Tensor, activation: Activation = functional.relu
) -> Tensor:
    """V(s): [..., o] -> [...]."""
    return mlp(layers, observations, activation).squeeze(-1)


def evaluate_ensemble(
    layers: Layers,
    observations: Tensor,
    actions: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Q(s, a) of each network of an ensemble: [k, B]."""
    return ensemble_mlp(layers, torch.cat((observations, actions), dim=-1), activation).squeeze(-1)


def squared_error(ensemble: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each network to a fixed target, summed over the ensemble."""
    return (ensemble - target.detach()).square().mean(-1).sum()


def evaluate_candidates(
    layers: Layers,
    observations: Tensor,
    candidates: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Q(s, a) of each network of an ensemble, for candidates [..., B, a] that share the states
    [B, o]: [k, ..., B]."""
    states = observations.expand(*candidates.shape[:-1], observations.shape[-1])
    pairs = torch.cat((states, candidates), dim=-1)
    flat = ensemble_mlp(layers, pairs.flatten(0, -2), activation).squeeze(-1)
    return flat.reshape(*flat.shape[:-1], *candidates.shape[:-1])


class InSampleCritic(NamedTuple):
    """A critic of one signal, asked about a minibatch's own actions alone, as IQL's are.

    Attributes:
        q: Q(s, a) of each network, [k, B].
        v: V(s), [B].
        judged: one value of the action, [B], without gradient, that V is an expectile of.
        next_v: V(s'), [B], without gradient.
    """

    q: Tensor
    v: Tensor
    judged: Tensor
    next_v: Tensor


def in_sample_critic(
    name: str,
    params: Parameters,
    target: Parameters,
    batch: Mapping[str, Tensor],
    lowest: bool = False,
    activation: Activation = functional.relu,
) -> InSampleCritic:
    """The networks `<name>_q` and `<name>_v`: actions are judged by the slow copies of Q, the
    smallest of which counts, or the largest of a signal whose `lowest` value is best."""
    pair = batch["observations"], batch["actions"]
    judged = evaluate_ensemble(target[f"{name}_q"], *pair, activation)
    value = params[f"{name}_v"]
    return InSampleCritic(
        q=evaluate_ensemble(params[f"{name}_q"], *pair, activation),
        v=state_value(value, pair[0], activation),
        judged=judged.amax(0) if lowest else judged.amin(0),
        next_v=state_value(detach(value), batch["next_observations"], activation),
    )


def in_sample_losses(
    name: str, critic: InSampleCritic, target: Tensor, expectile: Tensor, lowest: bool = False
) -> dict[str, Tensor]:
    """IQL's two losses, `loss/<name>_v` and `loss/<name>_q`: V is an expectile of what the actions
    are judged by, the higher the nearer to the best of them, and every Q regresses to `target` [B].
    """
    fit = reversed_expectile_loss if lowest else expectile_loss
    return {
        f"loss/{name}_v": fit(critic.judged.detach() - critic.v, expectile),
        f"loss/{name}_q": squared_error(critic.q, target),
    }


def discounted_cost_limit(
    cost_limit: float | Tensor, horizon: int | Tensor, discount: Tensor
) -> Tensor:
    """A cost limit, spread evenly over the steps to the horizon, as a discounted value (OSRL):
    kappa (1 - gamma^T) / ((1 - gamma) T)."""
    return cost_limit * (1 - discount**horizon) / ((1 - discount) * horizon)


def clipped_exponential(exponent: Tensor, clip: float) -> Tensor:
    """min(exp(x), clip), without overflow on the way."""
    return torch.exp(exponent.clamp(max=math.log(clip)))
