"""The hyperparameters of BCQ-Lag."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched
from safesweep.trainables.methods.lagrangian_critics_config import LagrangianCriticsConfig


@dataclass(frozen=True)
class BCQLConfig(LagrangianCriticsConfig):
    """Hyperparameters of BCQ-Lag; the defaults are OSRL's, but for its defects."""

    summary = "BCQ with a Lagrange multiplier by PID control, as OSRL has it."
    policies = ("bcql",)

    perturbation: float = batched(
        0.05, "by how much the policy may move a decoded action", source="OSRL", alias="phi",
        low=0.0, high=2.0,
    )  # fmt: skip
