"""Quantiles whose level is a tensor, as a population's members have it, for one run."""

import torch
from torch import Tensor


def quantile(values: Tensor, level: Tensor) -> Tensor:
    """The `level`-quantile of `values` [B], linear between order statistics."""
    ordered = values.sort().values
    position = level * (len(ordered) - 1)
    below = position.floor().long().clamp(0, len(ordered) - 1)
    above = (below + 1).clamp(max=len(ordered) - 1)
    lower = ordered.gather(0, below.reshape(1)).squeeze(0)
    upper = ordered.gather(0, above.reshape(1)).squeeze(0)
    return torch.lerp(lower, upper, position - below)


def masked_quantile(values: Tensor, mask: Tensor, level: Tensor) -> Tensor:
    """The `level`-quantile of the values [N] where `mask` is one, an order statistic; zero when
    there is none."""
    count = mask.sum()
    ordered = torch.where(mask > 0, values, torch.inf).sort().values
    index = (level * count).ceil().clamp(min=1).long() - 1
    found = ordered.gather(0, index.reshape(1)).squeeze(0)
    return torch.where(count > 0, found, torch.zeros_like(found))
