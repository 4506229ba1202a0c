"""A Gaussian policy squashed into [-1, 1] by the hyperbolic tangent (SAC, Haarnoja et al., 2018,
appendix C), for one run. Its network gives the mean and the log deviation before the tangent."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.cvae import gaussian, reparameterize
from safesweep.trainables.components.networks import Activation, Layers, gaussian_log_density

LOG_STD_RANGE = (-20.0, 2.0)
LARGEST_ACTION = 1 - 1e-6


def unsquashed_distribution(
    policy: Layers, observations: Tensor, activation: Activation = functional.relu
) -> tuple[Tensor, Tensor]:
    """Mean and log deviation before the tangent: [B, o] -> [B, a], [B, a]."""
    return gaussian(policy, observations, LOG_STD_RANGE, activation)


def sample_unsquashed(
    policy: Layers,
    observations: Tensor,
    noise: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Samples before the tangent, of standard normal noise: [B, o], [..., B, a] -> [..., B, a]."""
    mean, log_std = unsquashed_distribution(policy, observations, activation)
    return reparameterize(mean, log_std, noise)


def most_likely_action(
    policy: Layers, observations: Tensor, activation: Activation = functional.relu
) -> Tensor:
    """The tangent of the mean, with which such policies act: [B, o] -> [B, a]."""
    mean, _ = unsquashed_distribution(policy, observations, activation)
    return torch.tanh(mean)


def unsquashed(actions: Tensor) -> Tensor:
    """What actions are the tangent of; those on the bounds themselves are taken a little inside."""
    return torch.atanh(actions.clamp(-LARGEST_ACTION, LARGEST_ACTION))


def squashed_log_density(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log density of the action tanh(value), summed over the last axis."""
    # log(1 - tanh(u)^2), without the difference that loses its digits where u is large.
    shrinkage = 2 * (math.log(2) - value - functional.softplus(-2 * value))
    return gaussian_log_density(value, mean, log_std) - shrinkage.sum(-1)
