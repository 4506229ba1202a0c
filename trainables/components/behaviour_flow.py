"""A behaviour flow as a map between latents and actions (FLP, algorithm 1, lines 3 and 4), for one
run.

Euler's method backwards does not undo Euler's method: each inverse step is corrected by fixed-point
iterations.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.flow_matching import generate, invert
from safesweep.trainables.components.networks import Activation, Layers

INVERSION_CORRECTIONS = 5
AT_ONCE = 8192
"""Rows that are inverted together."""


def decode(
    flow: Layers,
    observations: Tensor,
    latents: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """f(z; s): latents [B, a] -> actions within [-1, 1]."""
    return generate(flow, latents, observations, steps, activation).clamp(-1, 1)


def encode(
    flow: Layers,
    observations: Tensor,
    actions: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """f^-1(a; s): actions [B, a] -> latents."""
    return invert(flow, actions, observations, steps, INVERSION_CORRECTIONS, activation)


def encode_all(
    flow: Layers,
    data: Mapping[str, Tensor],
    bound: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """Latents [N, a] of all `actions` [N, a] in `observations` [N, o], each entry clipped to
    +-`bound`."""
    columns = [torch.split(data[name], AT_ONCE) for name in ("observations", "actions")]
    latents = [
        encode(flow, here, action, steps, activation) for here, action in zip(*columns, strict=True)
    ]
    return torch.cat([torch.clamp(part, -bound, bound) for part in latents])


def inversion_error(
    flow: Layers,
    data: Mapping[str, Tensor],
    latents: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """Root mean square difference, per action dimension, between `actions` [N, a] in `observations`
    [N, o] and their latents [N, a] decoded again: []."""
    columns = (data["observations"], data["actions"], latents)
    squared_errors = [
        (decode(flow, here, latent, steps, activation) - action).square().sum()
        for here, action, latent in zip(*(torch.split(c, AT_ONCE) for c in columns), strict=True)
    ]
    return (torch.stack(squared_errors).sum() / latents.numel()).sqrt()
