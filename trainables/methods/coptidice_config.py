"""The hyperparameters of COptiDICE."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.osrl_options import PUBLISHED, OSRLConfig


@dataclass(frozen=True)
class COptiDICEConfig(OSRLConfig):
    """Hyperparameters of COptiDICE; the defaults are OSRL's, but for its defects."""

    summary = (
        "Offline constrained policy optimization by stationary distribution correction, as in OSRL."
    )
    policies = ("coptidice",)

    learning_rate: float = batched(1e-4, "Adam's step size", source="OSRL", low=1e-8, high=1.0)
    divergence_weight: float = batched(
        0.5, "weight of the divergence from the data", source="OSRL; the authors' code: 0.01",
        alias="alpha", low=1e-4, high=100.0,
    )  # fmt: skip
    bound_radius: float = batched(
        0.01, "divergence over which the cost is bounded from above", source="OSRL",
        alias="cost_ub_epsilon", low=0.0, high=10.0,
    )  # fmt: skip
    imitation_noise: float = batched(
        0.1, "noise on imitated pairs, in their standard deviations", source="OSRL",
        low=0.0, high=1.0,
    )  # fmt: skip
    cost_scale_of_limit: str = static(
        "per_step", "what the cost of a step is compared with: the limit of a step; published: "
        "that of a discounted episode", source="ours; published: OSRL",
        choices=("per_step", PUBLISHED),
    )  # fmt: skip
    policy_density: str = static(
        "squashed", "density that is fitted to actions: of the tangent; published: of what it is "
        "taken of", source="ours; published: OSRL", choices=("squashed", PUBLISHED),
    )  # fmt: skip
