"""Maximum mean discrepancy of two sets of samples (Gretton et al., 2012), as BEAR takes it."""

import torch
from torch import Tensor

# No root of a difference that rounding has made negative.
SMALLEST_SQUARE = 1e-6


def mean_discrepancy(
    one: Tensor, other: Tensor, bandwidth: Tensor, kernel: str = "gaussian"
) -> Tensor:
    """The discrepancy of N samples [N, B, a] from M others [M, B, a], state by state: [B]."""
    within = kernel_mean(one, one, bandwidth, kernel) + kernel_mean(other, other, bandwidth, kernel)
    across = kernel_mean(one, other, bandwidth, kernel)
    return torch.sqrt(within - 2 * across + SMALLEST_SQUARE)


def kernel_mean(one: Tensor, other: Tensor, bandwidth: Tensor, kernel: str) -> Tensor:
    """Mean over all pairs of exp(-distance / (2 bandwidth)): [N, B, a], [M, B, a] -> [B].

    The distance is the squared Euclidean one, or of the Laplacian kernel the sum of absolute
    differences.
    """
    # A state's pairs side by side: fewer roundings in their mean, of which little is left.
    difference = one.transpose(0, 1).unsqueeze(2) - other.transpose(0, 1).unsqueeze(1)
    size = difference.square() if kernel == "gaussian" else difference.abs()
    return torch.exp(-size.sum(-1) / (2 * bandwidth)).mean((1, 2))
