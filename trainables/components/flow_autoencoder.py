"""Conditional variational autoencoder over actions whose prior and posterior are normalizing flows
(FLRP section 3.2), for one run. Its networks are `prior`, `posterior` and `decoder`."""

from typing import NamedTuple

import torch
from torch import Tensor

from safesweep.trainables.components.coupling_flow import flow_forward, flow_inverse
from safesweep.trainables.components.networks import (
    Parameters,
    gaussian_log_density,
    mlp,
    standard_normal_log_density,
)


class EncodedPairs(NamedTuple):
    """K latents z ~ q(z | s, a) of each pair, and what is known of them.

    Attributes:
        base: u with f(u; s) = z, [K, B, d].
        log_posterior: log q(z | s, a), [K, B].
        log_prior: log p(z | s) (eq. 10), [K, B].
        log_likelihood: log pi(a | s, z), [K, B].
    """

    base: Tensor
    log_posterior: Tensor
    log_prior: Tensor
    log_likelihood: Tensor


def encode_pairs(
    params: Parameters,
    observations: Tensor,
    actions: Tensor,
    noise: Tensor,
    log_std: Tensor,
) -> EncodedPairs:
    """Latents of pairs [B, o], [B, a], from standard normal `noise` [K, B, d].

    Args:
        log_std: log standard deviation of the decoder, [a].
    """
    samples = noise.shape[0]
    states = observations.expand(samples, -1, -1)
    pairs = torch.cat((states, actions.expand(samples, -1, -1)), dim=-1)
    latent, posterior_determinant = flow_forward(params["posterior"], noise, pairs)
    base, prior_determinant = flow_inverse(params["prior"], latent, states)
    return EncodedPairs(
        base,
        log_posterior=standard_normal_log_density(noise) - posterior_determinant,
        log_prior=standard_normal_log_density(base) + prior_determinant,
        log_likelihood=gaussian_log_density(actions, decode(params, states, latent), log_std),
    )


def decode(params: Parameters, observations: Tensor, latent: Tensor) -> Tensor:
    """Mean action of the decoder pi(a | s, z), within [-1, 1]."""
    return torch.tanh(mlp(params["decoder"], torch.cat((observations, latent), dim=-1)))


def decode_base(params: Parameters, observations: Tensor, base: Tensor) -> Tensor:
    """a-bar(s, u): the base latent through the prior flow, then the decoder's mean."""
    latent, _ = flow_forward(params["prior"], base, observations)
    return decode(params, observations, latent)
