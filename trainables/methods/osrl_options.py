"""Hyperparameters that OSRL's methods share, with OSRL's values where these are no defects.

OSRL multiplies rewards by 0.1 on every task and leaves costs as they are; an episode ends for it at
a time-out as well as at a terminal state.
"""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import ValueConfig
from safesweep.trainables.methods.config import batched, static

PUBLISHED = "published"


@dataclass(frozen=True)
class OSRLConfig(ValueConfig):
    """Hyperparameters of every one of OSRL's constrained methods."""

    batch_size: int = static(512, "transitions in a minibatch", source="OSRL", low=1, high=65536)
    done_signal: str = static(
        "terminals_and_timeouts", "steps after which nothing follows", source="OSRL",
        choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    reward_scaling: str = static(
        "none", "rewards as the data has them, or of the task's unit (order one a step)",
        source="OSRL", choices=("normalized", "none"),
    )  # fmt: skip
    reward_scale: float = static(
        0.1, "factor of the rewards, on top of `reward_scaling`", source="OSRL",
        low=1e-6, high=1e6,
    )  # fmt: skip

    @property
    def trains_to_cost_limit(self) -> bool:
        return True


@dataclass(frozen=True)
class OSRLCriticsConfig(OSRLConfig):
    """Hyperparameters of those that have critics and an autoencoder of actions."""

    learning_rate: float = batched(1e-3, "Adam's step size", source="OSRL", low=1e-8, high=1.0)
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target networks", source="OSRL", low=1e-6, high=1.0
    )
    candidates: int = static(
        10, "actions that are sampled at a state", source="OSRL", low=1, high=256
    )
    vae_hidden_dim: int = static(
        400, "units of a hidden layer of the action autoencoder", source="OSRL", low=1, high=8192
    )
    kl_coefficient: float = batched(
        0.5, "weight of the autoencoder's divergence", source="OSRL", alias="beta",
        low=0.0, high=1e3,
    )  # fmt: skip
    cost_bootstrap: str = static(
        "done", "where costs stop being bootstrapped: where nothing follows; published: nowhere, "
        "so that a cost value is 1 / (1 - discount^horizon) times too large beside its limit",
        source="ours; published: OSRL", choices=("done", PUBLISHED),
    )  # fmt: skip
