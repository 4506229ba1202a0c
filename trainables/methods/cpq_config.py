"""The hyperparameters of CPQ."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.osrl_options import PUBLISHED, OSRLCriticsConfig


@dataclass(frozen=True)
class CPQConfig(OSRLCriticsConfig):
    """Hyperparameters of CPQ; the defaults are OSRL's, but for its defects."""

    summary = "Constraints penalized Q-learning, as OSRL has it."
    policies = ("cpq",)

    actor_rate_factor: float = batched(
        0.1,
        "the policy's step size, as a factor of the others'",
        source="OSRL",
        low=1e-4,
        high=10.0,
    )
    ood: str = static(
        "gradient", "how actions unlike the data's are made costly: by the critic's gradient; "
        "published: by none; off", source="paper; published: OSRL",
        choices=("gradient", PUBLISHED, "off"),
    )  # fmt: skip
    ood_quantile: float = batched(
        0.75, "share of the sampled actions that count as like the data's", source="OSRL",
        low=0.0, high=1.0,
    )  # fmt: skip
    ood_margin: float = batched(
        1.5, "times the cost limit that the sampled actions' cost is brought to", source="OSRL",
        low=0.0, high=100.0,
    )  # fmt: skip
    multiplier_rate: float = batched(
        1e-4, "step size of the logarithm of the weight of that cost", source="OSRL",
        alias="alpha_lr", low=0.0, high=1.0,
    )  # fmt: skip
