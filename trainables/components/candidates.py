"""Best of N: which of several candidate actions, latents or chunks to take, for one run."""

import torch
from torch import Tensor


def best_candidate(reward: Tensor, cost: Tensor | None, threshold: Tensor) -> Tensor:
    """Index [B] of the candidate to take, of values [N, B].

    The highest reward value; where there are cost values, among the candidates of at most the
    threshold, or else the lowest cost value.
    """
    if cost is None:
        return reward.argmax(0)
    allowed = cost <= threshold
    among_allowed = torch.where(allowed, reward, -torch.inf).argmax(0)
    return torch.where(allowed.any(0), among_allowed, cost.argmin(0))


def select(candidates: Tensor, chosen: Tensor) -> Tensor:
    """Of candidates [N, B, ...] the chosen [B] one of each: [B, ...]."""
    index = chosen.reshape(1, -1, *[1] * (candidates.dim() - 2))
    return candidates.gather(0, index.expand(1, *candidates.shape[1:])).squeeze(0)
