"""A Lagrange multiplier that is learned beside a policy, for one run.

With the loss -multiplier (cost - threshold), the cost without gradient, it rises while the cost is
above its threshold. One that a controller moves needs no gradient.
"""

from typing import NamedTuple

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


class Gains(NamedTuple):
    """Of a PID controller: of the error, of its sum, and of its rise. Each []."""

    proportional: Tensor
    integral: Tensor
    derivative: Tensor


def pid_multiplier(
    excess: Tensor, integral: Tensor, last_excess: Tensor, gains: Gains
) -> tuple[Tensor, Tensor]:
    """The multiplier and the integral's next value (Stooke et al., 2020, algorithm 2); each [].

    Args:
        excess: by how much the cost is above its threshold.
        integral: sum of the excesses so far, which is never below 0.
        last_excess: that of the step before.
    """
    summed = torch.relu(integral + excess)
    multiplier = (
        gains.proportional * torch.relu(excess)
        + gains.integral * summed
        + gains.derivative * torch.relu(excess - last_excess)
    )
    return torch.relu(multiplier), summed
