"""Conditional variational autoencoder over actions (LSPC eq. 7, section 3.1; BCQ, Fujimoto et al.,
2019), for one run."""

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.networks import (
    Activation,
    Layers,
    hidden_sizes,
    init_mlp,
    mlp,
)

ENCODER_LOG_STD_RANGE = (-4.0, 2.0)


def init_gaussian(
    generator: torch.Generator, inputs: int, outputs: int, hidden_dim: int, hidden_layers: int
) -> Layers:
    """Parameters of a perceptron that gives the mean and log deviation of `outputs` numbers."""
    return init_mlp(generator, hidden_sizes(inputs, hidden_dim, hidden_layers, 2 * outputs))


def gaussian(
    layers: Layers,
    inputs: Tensor,
    log_std_range: tuple[float, float],
    activation: Activation = functional.relu,
) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of a diagonal Gaussian: [B, in] -> [B, d], [B, d]."""
    mean, log_std = mlp(layers, inputs, activation).chunk(2, dim=-1)
    return mean, log_std.clamp(*log_std_range)


def encode(
    encoder: Layers,
    observations: Tensor,
    actions: Tensor,
    activation: Activation = functional.relu,
    log_std_range: tuple[float, float] = ENCODER_LOG_STD_RANGE,
) -> tuple[Tensor, Tensor]:
    """q(z | s, a): mean and log standard deviation [B, d]."""
    pair = torch.cat((observations, actions), dim=-1)
    return gaussian(encoder, pair, log_std_range, activation)


def reparameterize(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """A sample as a differentiable function of its distribution and of standard normal `noise`."""
    return mean + log_std.exp() * noise


def divergence_from_standard_normal(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, exp(log_std)^2) || N(0, 1)) of each latent dimension, in nats: [B, d]."""
    return 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std


def decode(
    decoder: Layers,
    observations: Tensor,
    latent: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Mean action of p(a | s, z), within [-1, 1]: [B, o], [B, d] -> [B, a]."""
    return torch.tanh(decoder_output(decoder, observations, latent, activation))


def decoder_output(
    decoder: Layers,
    observations: Tensor,
    latent: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """What the mean action is the hyperbolic tangent of: [B, o], [B, d] -> [B, a]."""
    return mlp(decoder, torch.cat((observations, latent), dim=-1), activation)
