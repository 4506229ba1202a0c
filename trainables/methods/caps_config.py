"""The hyperparameters of CAPS(IQL); the defaults are those of its table 14 and public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import ValueConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class CAPSConfig(ValueConfig):
    """Hyperparameters of CAPS(IQL); the defaults are those of its table 14 and public code."""

    summary = (
        "Switches between policies by what is left of the cost limit, one training for all limits."
    )
    policies = ("caps",)

    hidden_dim: int = static(512, "units of a hidden layer", source="table 14", low=1, high=8192)
    batch_size: int = static(
        512, "transitions in a minibatch", source="table 14", low=1, high=65536
    )
    done_signal: str = static(
        "terminals_and_timeouts", "steps after which nothing follows",
        source="public code, as OSRL", choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    reward_scaling: str = static(
        "none", "rewards of the task's unit (order one a step), or as the data has them",
        source="public code", choices=("normalized", "none"),
    )  # fmt: skip
    reward_scale: float = static(
        0.1, "factor of the rewards, on top of `reward_scaling`", source="public code, as OSRL",
        low=1e-6, high=1e6,
    )  # fmt: skip
    expectile: float = batched(
        0.7, "expectile of V_r, and reversed of V_c", source="table 14; MetaDrive: 0.5",
        alias="tau", low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target critics", source="public code", low=1e-6, high=1.0
    )
    reward_inverse_temperature: float = batched(
        3.0, "of the reward advantage in a weight", source="table 14", low=0.0, high=100.0
    )
    cost_inverse_temperature: float = batched(
        3.0, "of the cost advantage in a weight", source="table 14; a note in its code: 5",
        low=0.0, high=100.0,
    )  # fmt: skip
    weight_clip: float = static(
        100.0, "largest weight of a pair", source="public code", low=1e-3, high=1e6
    )
    heads: int = static(
        2, "policies to switch between", source="public code; its tables also 4 and 8", alias="K",
        low=2, high=64,
    )  # fmt: skip
    deviations: str = static(
        "learned", "the heads' standard deviations: learned, or 1 for ever",
        source="published: public code", choices=("learned", "published"),
    )  # fmt: skip

    @property
    def acts_to_cost_limit(self) -> bool:
        return True
