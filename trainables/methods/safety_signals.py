"""h(s), the signal of Hamilton-Jacobi feasibility critics, as several methods set it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from safesweep.trainables.methods.common_options import ValueConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    batched,
    static,
)


@dataclass(frozen=True)
class SafetySignalConfig(ValueConfig):
    """Hyperparameters of a method whose critics look at h(s), positive where it is unsafe."""

    safety_signal: str = static(
        "sparse", "h(s) from the costs, or the dataset's exact margin", source="ours",
        choices=("sparse", "exact"),
    )  # fmt: skip
    violation_signal: float = batched(
        25.0, "h(s) where the cost is positive", source="public code of FISOR and SafeFQL",
        low=1e-3, high=1e3,
    )  # fmt: skip
    safe_signal: float = batched(
        -1.0, "h(s) where the cost is zero", source="public code of FISOR and SafeFQL",
        low=-1e3, high=-1e-3,
    )  # fmt: skip
    safety_margin: float = batched(
        0.0, "added to h(s): how far a safe state's value must stay below 0", source="ours",
        low=0.0, high=1e3,
    )  # fmt: skip


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
