"""h(s), the signal of Hamilton-Jacobi feasibility critics, as several methods set it."""

import torch
from torch import Tensor

from safesweep.trainables.methods.method import Batch, Hyperparameters


def safety_signal(kind: str, batch: Batch, hp: Hyperparameters) -> Tensor:
    """h(s) [B]: the dataset's exact margin, or two levels made from the sparse cost.

    The safety margin m is added: the reachability values of h + m are those of h, plus m, so that
    the threshold 0 asks of them to be below -m.
    """
    if kind == "exact":
        signal = batch["safety_margins"]
    else:
        signal = torch.where(batch["costs"] > 0, hp.violation_signal, hp.safe_signal)
    margin: Tensor = hp.safety_margin
    return signal + margin
