"""How far a policy's latents leave the standard normal law that a decoder was trained for, and what
may follow from it (FLRP, corollary 1 and proposition 2)."""

from collections.abc import Callable

import torch
from scipy.special import gammaincinv
from torch import Tensor
from torch.func import jacrev, vmap


def gaussian_divergence(latents: Tensor) -> Tensor:
    """KL(q || N(0, I)) of the Gaussian with the moments of latents [S, K, d], of K draws: [S]."""
    variance, mean = torch.var_mean(latents, dim=1)
    return 0.5 * (variance + mean.square() - 1 - variance.clamp(min=1e-12).log()).sum(-1)


def jacobian_norm(
    decode: Callable[[Tensor, Tensor], Tensor], observations: Tensor, latents: Tensor
) -> Tensor:
    """Norm of the derivative of `decode(observation, latent)` [a] by the latent, at the mean of
    latents [S, K, d] in each of the states [S, o]: [S]."""

    def one(observation: Tensor, latent: Tensor) -> Tensor:
        jacobian: Tensor = jacrev(lambda u: decode(observation, u))(latent)
        return jacobian.square().sum().sqrt()

    norms: Tensor = vmap(one)(observations, latents.mean(1))
    return norms


def high_density_radius_squared(latent_dim: int) -> float:
    """Squared radius of the ball that holds 99 % of a standard normal vector."""
    return float(2 * gammaincinv(latent_dim / 2, 0.99))


def shift_bounds(
    divergence: Tensor, lipschitz: Tensor, latents: Tensor, discount: Tensor
) -> dict[str, Tensor]:
    """What the divergence [S] of latents [S, K, d] bounds, on average over S states.

    The bounds are on the shift from the policy of standard normal latents, whose own distance from
    the data's policy is not known. Rewards and costs of proposition 2 are taken as at most one.

    Args:
        lipschitz: of the decoder, [S].
        discount: scalar.
    """
    outside = latents.square().sum(-1) > high_density_radius_squared(latents.shape[-1])
    return {
        "base_kl": divergence.mean(),
        "base_kl_max": divergence.amax(),
        "total_variation_bound": (0.5 * divergence).sqrt().mean(),
        "wasserstein_bound": (lipschitz * (2 * divergence).sqrt()).mean(),
        "policy_gap_bound": 2 / (1 - discount) ** 2 * (0.5 * divergence.amax()).sqrt(),
        "latents_outside_ball": outside.float().mean(),
    }
