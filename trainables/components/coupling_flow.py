"""Conditional RealNVP flow (FLRP eq. 2, 3), for one run.

Kept here rather than taken from a library: it is two functions over plain tensors, so that it runs
under `vmap` without module state.
"""

import torch
from torch import Tensor

from safesweep.trainables.components.networks import Layers, hidden_sizes, init_mlp, mlp

LOG_SCALE_BOUND = 2.0


def init_coupling_flow(
    generator: torch.Generator,
    latent_dim: int,
    context_dim: int,
    coupling_layers: int,
    hidden_dim: int,
    hidden_layers: int,
) -> list[Layers]:
    """Parameters of a flow over `latent_dim` numbers; it starts near the identity.

    Layers transform the second and the first half of the latent in turn.
    """
    flow = []
    for index in range(coupling_layers):
        transformed = _transformed(index, latent_dim)
        inputs = latent_dim - transformed + context_dim
        sizes = hidden_sizes(inputs, hidden_dim, hidden_layers, 2 * transformed)
        flow.append(init_mlp(generator, sizes, final_scale=0.1))
    return flow


def flow_forward(flow: list[Layers], base: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """z = f(u; context) and log|det dz/du|: [B, d], [B, c] -> [B, d], [B]."""
    latent = base
    log_determinant = torch.zeros_like(base[..., 0])
    for index, layer in enumerate(flow):
        kept, moved = _split(index, latent)
        log_scale, shift = _scale_and_shift(layer, kept, context)
        latent = _join(index, kept, moved * log_scale.exp() + shift)
        log_determinant = log_determinant + log_scale.sum(-1)
    return latent, log_determinant


def flow_inverse(flow: list[Layers], latent: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """u = f^-1(z; context) and log|det du/dz|: [B, d], [B, c] -> [B, d], [B]."""
    base = latent
    log_determinant = torch.zeros_like(latent[..., 0])
    for index in reversed(range(len(flow))):
        kept, moved = _split(index, base)
        log_scale, shift = _scale_and_shift(flow[index], kept, context)
        base = _join(index, kept, (moved - shift) * (-log_scale).exp())
        log_determinant = log_determinant - log_scale.sum(-1)
    return base, log_determinant


def _transformed(index: int, latent_dim: int) -> int:
    return latent_dim // 2 if index % 2 else latent_dim - latent_dim // 2


def _split(index: int, values: Tensor) -> tuple[Tensor, Tensor]:
    half = values.shape[-1] // 2
    first, second = values[..., :half], values[..., half:]
    return (second, first) if index % 2 else (first, second)


def _join(index: int, kept: Tensor, moved: Tensor) -> Tensor:
    return torch.cat((moved, kept) if index % 2 else (kept, moved), dim=-1)


def _scale_and_shift(layer: Layers, kept: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    raw_scale, shift = mlp(layer, torch.cat((kept, context), dim=-1)).chunk(2, dim=-1)
    return LOG_SCALE_BOUND * torch.tanh(raw_scale / LOG_SCALE_BOUND), shift
