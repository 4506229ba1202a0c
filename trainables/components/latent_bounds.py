"""How far a policy's latents leave the standard normal law that a decoder was trained for, and what
may follow from it (FLRP, corollary 1 and proposition 2)."""

from collections.abc import Callable, Mapping

import torch
from scipy.special import gammaincinv
from torch import Tensor
from torch.func import jacrev, vmap

STATES_AT_ONCE = 8


def refinement_shift(
    refine: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
    decode: Callable[[Tensor, Tensor], Tensor],
    observations: Tensor,
    noise: Mapping[str, Tensor],
    discount: Tensor,
) -> dict[str, Tensor]:
    """How far refinement leaves the base: KL(q_u || N), corollary 1 and proposition 2.

    `base_kl_max` is epsilon_base of proposition 2; `folded_share` says where `base_kl` and what
    follows from it falls short. In a random order it is a mean over the orders, which exceeds the
    divergence of their mixture. The Lipschitz constant of eq. 19 is the decoded mean's Jacobian
    norm at the mean of u_T.

    Args:
        refine: u_T of observations [B, o] and noise [B, ...]: [B, d].
        decode: the mean action of one observation [o] and latent u [d]: [a].
        observations: [S, o].
        noise: `base`, K draws of u_0 a state [S, K, d], and whatever else `refine` draws.
        discount: scalar.
    """
    draws = noise["base"].shape[1]
    latents = vmap(lambda observation, own: refine(observation.expand(draws, -1), own))(
        observations, dict(noise)
    )

    def end(observation: Tensor, *draw: Tensor) -> Tensor:
        own = {name: value[None] for name, value in zip(noise, draw, strict=True)}
        return refine(observation[None], own)[0]

    divergence, folded = pushed_divergence(end, observations, noise["base"], noise.get("choice"))
    lipschitz = jacobian_norm(decode, observations, latents)
    shift = policy_shift(divergence, lipschitz, latents, discount)
    return {**shift, "folded_share": folded}


def pushed_divergence(
    move: Callable[..., Tensor],
    observations: Tensor,
    bases: Tensor,
    further: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(q_u || N(0, I)) in nats, [S], where q_u is the law of `move(observation, u)` [d] and u is
    standard normal; and the share of u at which the map folds, [].

    By change of variables the log density ratio at u_T = move(u) is
    (|u_T|^2 - |u|^2) / 2 - log|det du_T / du|, of which this is the mean. Where the map folds,
    other u lead to the same place, and the mean falls short of the divergence: a determinant that
    is negative somewhere and positive elsewhere says so.

    Args:
        observations: [S, o].
        bases: standard normal draws of each state, [S, K, d].
        further: what else the map takes with each draw, [S, K, ...].
    """

    def one(observation: Tensor, base: Tensor, *own: Tensor) -> tuple[Tensor, Tensor]:
        def moved(u: Tensor) -> tuple[Tensor, Tensor]:
            end = move(observation, u, *own)
            return end, end

        jacobian, end = jacrev(moved, has_aux=True)(base)
        sign, log_determinant = torch.linalg.slogdet(jacobian)
        ratio = 0.5 * (end.square().sum() - base.square().sum()) - log_determinant
        return ratio, sign

    draws = (bases,) if further is None else (bases, further)
    over_draws = vmap(one, (None, *(0 for _ in draws)))
    # A few states at a time: a Jacobian a draw is much to hold for all members of a population.
    ratios, signs = vmap(over_draws, chunk_size=STATES_AT_ONCE)(observations, *draws)
    return ratios.mean(-1), (signs < 0).float().mean()


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


def policy_shift(
    divergence: Tensor, lipschitz: Tensor, latents: Tensor, discount: Tensor
) -> dict[str, Tensor]:
    """What the divergence [S] of latents [S, K, d] says of the policy, on average over S states.

    All is about the shift from the policy of standard normal latents, whose own distance from the
    data's policy is not known. `total_variation_bound` is Pinsker's, and holds up to the sampling
    error of the divergence where no latent folds. The others are estimates and no bounds:
    corollary 1 asks for a Lipschitz constant where one norm is known, and proposition 2 for the
    largest divergence of all states; its rewards and costs are taken as at most one.

    Args:
        lipschitz: norm of the decoder's derivative, [S].
        discount: scalar.
    """
    outside = latents.square().sum(-1) > high_density_radius_squared(latents.shape[-1])
    # The mean of a finite sample may be negative.
    divergence = divergence.clamp(min=0)
    return {
        "base_kl": divergence.mean(),
        "base_kl_max": divergence.amax(),
        "total_variation_bound": (0.5 * divergence).sqrt().clamp(max=1).mean(),
        "wasserstein_estimate": (lipschitz * (2 * divergence).sqrt()).mean(),
        "policy_gap_estimate": 2 / (1 - discount) ** 2 * (0.5 * divergence.amax()).sqrt(),
        "latents_outside_ball": outside.float().mean(),
    }
