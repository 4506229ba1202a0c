"""The hyperparameters of ReBRAC; the defaults are those of FQL's public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.fql_options import FQLComparisonConfig


@dataclass(frozen=True)
class ReBRACConfig(FQLComparisonConfig):
    """Hyperparameters of ReBRAC; the defaults are those of FQL's public code."""

    summary = "Behaviour-regularised actor-critic, twice (ReBRAC). Knows no costs."
    policies = ("rebrac",)

    actor_weight: float = batched(
        0.01, "of the policy's squared distance to the data", source="FQL, HumanoidMaze",
        alias="alpha_a", low=0.0, high=1e3,
    )  # fmt: skip
    critic_weight: float = batched(
        0.01, "of the next action's squared distance to the data", source="FQL, HumanoidMaze",
        alias="alpha_c", low=0.0, high=1e3,
    )  # fmt: skip
    target_noise: float = batched(
        0.2, "deviation of the noise in the target's action", source="TD3", low=0.0, high=10.0
    )
    noise_clip: float = batched(0.5, "its largest size", source="TD3", low=0.0, high=10.0)
    policy_delay: int = static(
        2, "the actor moves in every so many-th step", source="TD3", low=1, high=100
    )
    next_actions: str = static(
        "within_episode", "the data's next action: of the same episode, or of the next row",
        source="published: public code of FQL", choices=("within_episode", "published"),
    )  # fmt: skip
