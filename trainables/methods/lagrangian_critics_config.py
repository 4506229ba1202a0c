"""The hyperparameters that BCQ-Lag and BEAR-Lag share."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.osrl_options import OSRLCriticsConfig

MAXIMUM = "max"


@dataclass(frozen=True)
class LagrangianCriticsConfig(OSRLCriticsConfig):
    """Hyperparameters of both; the defaults are OSRL's, but for its defects."""

    group_size: int = static(2, "critics in each of the two groups", source="OSRL", low=1, high=16)
    pessimism: float = batched(
        0.75, "weight of the worse group's value in targets", source="OSRL", alias="lmbda",
        low=0.0, high=1.0,
    )  # fmt: skip
    cost_aggregation: str = static(
        MAXIMUM, "which of several cost values counts: the largest, or as for rewards the smallest",
        source="ours; min: OSRL", choices=(MAXIMUM, "min"),
    )  # fmt: skip
    proportional_gain: float = batched(
        0.1, "the controller's, of the cost beyond the limit", source="OSRL", alias="KP",
        low=0.0, high=1e3,
    )  # fmt: skip
    integral_gain: float = batched(
        0.003, "the controller's, of the sum of that cost over the steps", source="OSRL",
        alias="KI", low=0.0, high=1e3,
    )  # fmt: skip
    derivative_gain: float = batched(
        0.001, "the controller's, of that cost's rise since the step before", source="OSRL",
        alias="KD", low=0.0, high=1e3,
    )  # fmt: skip
