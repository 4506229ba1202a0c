"""The action autoencoder of batch-constrained methods, as OSRL has it, for one run.

Two networks, `vae_encoder` and `vae_decoder`, imitate the data's actions (BCQ, Fujimoto et al.,
2019). Actions that are like the data's are decoded from a standard normal prior that is clamped, K
of them for a state.
"""

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.cvae import (
    decode,
    decoder_output,
    divergence_from_standard_normal,
    encode,
    reparameterize,
)
from safesweep.trainables.components.networks import (
    Activation,
    Layers,
    Parameters,
    hidden_sizes,
    init_mlp,
)

NETWORKS = ("vae_encoder", "vae_decoder")
LOG_STD_RANGE = (-4.0, 15.0)
PRIOR_BOUND = 0.5


def latent_size(action_dim: int) -> int:
    """Numbers of a latent: two for each of an action."""
    return 2 * action_dim


def init_action_vae(
    generator: torch.Generator, observation_dim: int, action_dim: int, width: int, layers: int
) -> Parameters:
    """Fresh parameters of both networks, with hidden layers of `width`."""
    latent = latent_size(action_dim)
    encoder = hidden_sizes(observation_dim + action_dim, width, layers, 2 * latent)
    decoder = hidden_sizes(observation_dim + latent, width, layers, action_dim)
    sizes = dict(zip(NETWORKS, (encoder, decoder), strict=True))
    return {name: init_mlp(generator, own) for name, own in sizes.items()}


def action_vae_losses(
    params: Parameters,
    observations: Tensor,
    actions: Tensor,
    noise: Tensor,
    kl_coefficient: Tensor,
    activation: Activation = functional.relu,
) -> dict[str, Tensor]:
    """Reconstruction and divergence, each a mean over states and dimensions.

    Args:
        noise: standard normal, [B, d].
    """
    mean, log_std = encode(params["vae_encoder"], observations, actions, activation, LOG_STD_RANGE)
    latent = reparameterize(mean, log_std, noise)
    decoded = decode(params["vae_decoder"], observations, latent, activation)
    divergence = divergence_from_standard_normal(mean, log_std).mean()
    return {
        "loss/reconstruction": (decoded - actions).square().mean(),
        "loss/divergence": kl_coefficient * divergence,
    }


def unsquashed_like_data(
    decoder: Layers,
    observations: Tensor,
    noise: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Actions like the data's, before the hyperbolic tangent that brings them into [-1, 1].

    Args:
        observations: [B, o].
        noise: standard normal, [..., B, d].

    Returns:
        [..., B, a].
    """
    states = observations.expand(*noise.shape[:-1], observations.shape[-1])
    latents = noise.clamp(-PRIOR_BOUND, PRIOR_BOUND)
    decoded = decoder_output(decoder, states.flatten(0, -2), latents.flatten(0, -2), activation)
    return decoded.reshape(*noise.shape[:-1], decoded.shape[-1])


def actions_like_data(
    decoder: Layers,
    observations: Tensor,
    noise: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Actions like the data's; arguments and result as of `unsquashed_like_data`."""
    return torch.tanh(unsquashed_like_data(decoder, observations, noise, activation))


def divergence_of_actions(
    encoder: Layers,
    observations: Tensor,
    actions: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """KL(q(z | s, a) || N(0, 1)), the mean of a latent's dimensions: the larger, the less is an
    action like the data's (CPQ, Xu et al., 2022). [B, o], [..., B, a] -> [..., B]."""
    states = observations.expand(*actions.shape[:-1], observations.shape[-1])
    mean, log_std = encode(
        encoder, states.flatten(0, -2), actions.flatten(0, -2), activation, LOG_STD_RANGE
    )
    divergence: Tensor = divergence_from_standard_normal(mean, log_std).mean(-1)
    return divergence.reshape(actions.shape[:-1])
