"""The hyperparameters of IQL; the defaults are those of FQL's public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.fql_options import FQLComparisonConfig


@dataclass(frozen=True)
class IQLConfig(FQLComparisonConfig):
    """Hyperparameters of IQL; the defaults are those of FQL's public code."""

    summary = "Implicit Q-learning. Knows no costs."
    policies = ("iql",)

    expectile: float = batched(
        0.9, "expectile of V", source="public code of FQL", alias="tau", low=0.5, high=0.999
    )
    extraction: str = static(
        "awr", "weighted cloning, or climbing the critic near the data",
        source="public code of FQL", choices=("awr", "ddpg_bc"),
    )  # fmt: skip
    extraction_weight: float = batched(
        10.0, "of the advantage in the exponent, or of the likelihood", source="public code of FQL",
        alias="alpha", low=0.0, high=1e4,
    )  # fmt: skip
