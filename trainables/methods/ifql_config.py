"""The hyperparameters of IFQL; the defaults are those of FQL's public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.fql_options import FQLComparisonConfig


@dataclass(frozen=True)
class IFQLConfig(FQLComparisonConfig):
    """Hyperparameters of IFQL; the defaults are those of FQL's public code."""

    summary = "Implicit Q-learning with a flow and best-of-N. Knows no costs."
    policies = ("ifql",)

    expectile: float = batched(
        0.9, "expectile of V", source="public code of FQL", alias="tau", low=0.5, high=0.999
    )
    candidates: int = static(
        32, "actions to choose from", source="public code of FQL", alias="N", low=1, high=1024
    )
    flow_steps: int = static(
        10, "Euler steps of the flow", source="public code of FQL", low=1, high=256
    )
