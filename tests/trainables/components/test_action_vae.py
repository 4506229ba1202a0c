"""The action autoencoder: its losses by hand, and the actions that it decodes."""

import math

import pytest
import torch

from safesweep.trainables.components.action_vae import (
    PRIOR_BOUND,
    action_vae_losses,
    actions_like_data,
    divergence_of_actions,
    init_action_vae,
    latent_size,
    unsquashed_like_data,
)

GENERATOR = torch.Generator().manual_seed(0)


def constant(inputs: int, *outputs: float) -> list[dict[str, torch.Tensor]]:
    return [{"weight": torch.zeros(inputs, len(outputs)), "bias": torch.tensor(outputs)}]


def test_losses_are_means_over_states_and_dimensions() -> None:
    """A latent of two numbers with mean (1, 0) and deviations (1, e): divergences 1/2 and
    (e^2 - 1)/2 - 1. The decoder always says tanh(0.5)."""
    params = {"vae_encoder": constant(3, 1.0, 0.0, 0.0, 1.0), "vae_decoder": constant(4, 0.5)}
    states, actions = torch.zeros(2, 2), torch.tensor([[0.0], [1.0]])
    found = action_vae_losses(params, states, actions, torch.zeros(2, 2), torch.tensor(0.5))
    divergence = 0.5 * (0.5 + (math.e**2 - 1) / 2 - 1) / 2
    said = math.tanh(0.5)
    assert float(found["loss/divergence"]) == pytest.approx(divergence)
    assert float(found["loss/reconstruction"]) == pytest.approx((said**2 + (1 - said) ** 2) / 2)


def test_decoded_actions_are_of_a_clamped_prior() -> None:
    """A decoder that gives the latent's first number."""
    decoder = [{"weight": torch.eye(4)[:, 2:3], "bias": torch.zeros(1)}]
    noise = torch.tensor([0.2, -3.0, 9.0]).reshape(3, 1, 1).expand(3, 5, 2)
    found = unsquashed_like_data(decoder, torch.ones(5, 2), noise)
    expected = torch.tensor([0.2, -PRIOR_BOUND, PRIOR_BOUND]).reshape(3, 1, 1).expand(3, 5, 1)
    torch.testing.assert_close(found, expected)
    acted = actions_like_data(decoder, torch.ones(5, 2), noise)
    torch.testing.assert_close(acted, torch.tanh(expected))


def test_one_draw_a_state_needs_no_further_axis() -> None:
    networks = init_action_vae(GENERATOR, 3, 2, 8, 2)
    states, noise = torch.randn(4, 3), torch.randn(4, latent_size(2))
    one = actions_like_data(networks["vae_decoder"], states, noise)
    several = actions_like_data(networks["vae_decoder"], states, noise.unsqueeze(0))
    torch.testing.assert_close(several[0], one)


def test_the_divergence_of_several_actions_is_that_of_each() -> None:
    networks = init_action_vae(GENERATOR, 3, 2, 8, 2)
    states, actions = torch.randn(4, 3), torch.rand(5, 4, 2)
    several = divergence_of_actions(networks["vae_encoder"], states, actions)
    assert several.shape == (5, 4) and bool((several >= 0).all())
    for own, action in zip(several, actions, strict=True):
        torch.testing.assert_close(
            divergence_of_actions(networks["vae_encoder"], states, action), own
        )
