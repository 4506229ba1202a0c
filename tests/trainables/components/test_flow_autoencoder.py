"""Log densities of latents and actions where they are known."""

import math

import torch

from safesweep.trainables.components.coupling_flow import init_coupling_flow
from safesweep.trainables.components.flow_autoencoder import decode, decode_base, encode_pairs
from safesweep.trainables.components.networks import Parameters, init_mlp

SAMPLES, PAIRS, LATENT, STATE, ACTION = 5, 7, 4, 3, 2


def networks() -> Parameters:
    generator = torch.Generator().manual_seed(0)
    return {
        "prior": init_coupling_flow(generator, LATENT, STATE, 2, 8, 1),
        "posterior": init_coupling_flow(generator, LATENT, STATE + ACTION, 2, 8, 1),
        "decoder": init_mlp(generator, [STATE + LATENT, 8, ACTION]),
    }


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(PAIRS, STATE, generator=generator)
    actions = torch.tanh(torch.randn(PAIRS, ACTION, generator=generator))
    return observations, actions, torch.randn(SAMPLES, PAIRS, LATENT, generator=generator)


def test_without_flows_both_laws_are_standard_normal() -> None:
    observations, actions, noise = pairs()
    params = {**networks(), "prior": [], "posterior": []}
    found = encode_pairs(params, observations, actions, noise, torch.zeros(ACTION))
    torch.testing.assert_close(found.base, noise)
    expected = -0.5 * noise.square().sum(-1) - LATENT / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(found.log_prior, expected)
    torch.testing.assert_close(found.log_posterior, expected)


def test_the_base_latent_leads_to_the_same_action() -> None:
    observations, actions, noise = pairs()
    params = networks()
    deviation = torch.full((ACTION,), 0.5)
    found = encode_pairs(params, observations, actions, noise, deviation.log())
    mean = decode_base(params, observations.expand(SAMPLES, -1, -1), found.base)
    law = torch.distributions.Normal(mean, deviation)
    torch.testing.assert_close(found.log_likelihood, law.log_prob(actions).sum(-1))
    still = {**params, "prior": []}
    torch.testing.assert_close(
        decode_base(still, observations, noise[0]), decode(params, observations, noise[0])
    )
