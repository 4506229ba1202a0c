"""A Lagrange multiplier that is learned beside a policy, for one run.

With the loss -multiplier (cost - threshold), the cost without gradient, it rises while the cost is
above its threshold.
"""

import torch
from torch import Tensor
from torch.nn import functional


def init_multiplier() -> dict[str, Tensor]:
    """Parameters of a multiplier."""
    return {"raw": torch.zeros(())}


def positive_multiplier(parameters: dict[str, Tensor], speed: Tensor) -> Tensor:
    """lambda = softplus(speed x raw) > 0, which moves `speed` times as fast as weights do: []."""
    return functional.softplus(speed * parameters["raw"])


def lagrangian(reward: Tensor, cost: Tensor, multiplier: Tensor) -> Tensor:
    """(lambda cost - reward) / (1 + lambda), which a policy minimizes: no gradient reaches lambda,
    and however large it is the objective stays of the size of the values."""
    fixed = multiplier.detach()
    return (fixed * cost - reward) / (1 + fixed)
