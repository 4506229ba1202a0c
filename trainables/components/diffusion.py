"""Denoising diffusion of actions under a state (Ho et al., 2020, as IDQL and FISOR use it), for one
run: the twin of `components.flow_matching`.

A few steps suffice with the variance-preserving schedule of Xiao et al. (2022). The network
predicts the noise in a noised action; time goes in through Fourier features whose frequencies are
learned.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.networks import (
    Parameters,
    init_mlp,
    init_residual,
    mlp,
    residual_network,
)

LEAST_BETA, LARGEST_BETA = 0.1, 10.0
FREQUENCIES, FREQUENCY_SCALE, TIME_WIDTH = 32, 0.2, 128


class NoiseSchedule(NamedTuple):
    """By step t = 0 (nearly the data) to T - 1 (nearly noise), each [T]: `beta`, the variance that
    the step adds, and `kept`, the product of 1 - beta up to it."""

    beta: Tensor
    kept: Tensor


def noise_schedule(steps: int, device: torch.device | None = None) -> NoiseSchedule:
    """beta_t = 1 - exp(-0.1 / T - (10 - 0.1) (2t - 1) / (2 T^2)) for t = 1..T, in which the odd
    numbers add up to squares."""
    t = torch.arange(1, steps + 1, device=device)
    growth = (LARGEST_BETA - LEAST_BETA) / (2 * steps**2)
    beta = 1 - torch.exp(-LEAST_BETA / steps - growth * (2 * t - 1))
    return NoiseSchedule(beta, torch.exp(-LEAST_BETA * t / steps - growth * t**2))


def init_noise_network(
    generator: torch.Generator, value_dim: int, condition_dim: int, width: int, blocks: int
) -> Parameters:
    """Parameters of eps(x [d], c, t) -> [d]: Fourier features of t, two layers for them, and a
    residual network of `blocks`."""
    frequencies = torch.randn(FREQUENCIES, generator=generator) * FREQUENCY_SCALE
    inputs = value_dim + condition_dim + TIME_WIDTH
    return {
        "frequencies": frequencies,
        "time": init_mlp(generator, (2 * FREQUENCIES, TIME_WIDTH, TIME_WIDTH)),
        "residual": init_residual(generator, inputs, width, blocks, value_dim),
    }


def predicted_noise(
    network: Parameters,
    noised: Tensor,
    step: Tensor,
    condition: Tensor,
    dropout_rate: float = 0.0,
    uniform: Tensor | None = None,
) -> Tensor:
    """eps(x, c, t): noised [..., B, d], step [..., B] or [], condition [B, c] -> [..., B, d].

    Leading axes of `noised` (candidates) share the condition. `uniform` is what dropout needs in
    training.
    """
    angles = 2 * math.pi * step.unsqueeze(-1) * network["frequencies"]
    features = torch.cat((angles.cos(), angles.sin()), dim=-1)
    time = mlp(network["time"], features, functional.mish)
    leading = noised.shape[:-1]
    parts = (noised, condition.expand(*leading, -1), time.expand(*leading, -1))
    inputs = torch.cat(parts, dim=-1)
    return residual_network(network["residual"], inputs, functional.mish, dropout_rate, uniform)


def noised(data: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
    """sqrt(kept) x + sqrt(1 - kept) eps: data and noise [..., B, d], kept [..., B]."""
    share = kept.unsqueeze(-1)
    return share.sqrt() * data + (1 - share).sqrt() * noise


def diffusion_error(
    network: Parameters,
    data: Tensor,
    noise: Tensor,
    uniform_time: Tensor,
    condition: Tensor,
    steps: int,
    dropout_rate: float = 0.0,
    uniform: Tensor | None = None,
) -> Tensor:
    """|eps(x_t, c, t) - eps|^2 of each sample, before its mean: -> [..., B].

    Args:
        data: x [..., B, d].
        noise: eps [..., B, d], standard normal.
        uniform_time: [..., B] on [0, 1), of which the step t is made.
        condition: c [B, c].
    """
    step = (uniform_time * steps).long().clamp(max=steps - 1)
    kept = noise_schedule(steps, data.device).kept[step]
    found = predicted_noise(
        network, noised(data, noise, kept), step.to(data.dtype), condition, dropout_rate, uniform
    )
    return (found - noise).square().sum(-1)


def denoise(network: Parameters, noise: Tensor, condition: Tensor) -> Tensor:
    """Data within [-1, 1] from noise [T, ..., B, d]: the start, and what each step but the last
    adds anew. Every step's result is clipped."""
    steps = len(noise)
    beta, kept = noise_schedule(steps, noise.device)
    value = noise[0]
    for step in reversed(range(steps)):
        time = torch.full((), float(step), device=noise.device)
        found = predicted_noise(network, value, time, condition)
        value = (value - beta[step] / (1 - kept[step]).sqrt() * found) / (1 - beta[step]).sqrt()
        if step > 0:
            value = value + beta[step].sqrt() * noise[steps - step]
        value = value.clamp(-1, 1)
    return value
