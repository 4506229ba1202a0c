"""The hyperparameters of FLP: what the paper prints, and what it leaves open."""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import NetworkConfig, ValueConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class FLPConfig(ValueConfig, NetworkConfig):
    """Hyperparameters of FLP. "ours" marks what the paper does not print."""

    summary = "Flow latent policy (algorithm 1), with an optional cost constraint."
    policies = ("flp",)
    phase_shares = ("flow_share",)  # An online phase is more than a share: it is another run.

    target_update_rate: float = batched(
        0.005, "Polyak rate of the target critics", source="FQL", low=1e-6, high=1.0
    )
    kl_coefficient: float = batched(
        1.0, "weight of the KL", source="eq. 4; main results", alias="alpha", low=0.0, high=1e4
    )
    candidates: int = static(
        4, "latents to choose from", source="experimental setup", alias="N", low=1, high=256
    )
    flow_steps: int = static(10, "Euler steps of the flow", source="FQL", low=1, high=256)
    critic_aggregation: str = static(
        "mean", "how two critics count", source="FQL", choices=("mean", "minimum")
    )
    latent_bound: float = batched(
        5.0, "largest size of a latent's entry", source="ours", low=0.1, high=100.0
    )
    flow_share: float = static(
        0.3, "part of the offline gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )
    online_share: float = static(
        0.0, "part of the gradient steps that goes on in the environment", source="table 2: half",
        low=0.0, high=0.95,
    )  # fmt: skip
    replay_capacity: int = static(
        1_000_000, "transitions of the environment that are kept", source="table 2: all of them",
        low=1, high=10**7,
    )  # fmt: skip
    safety: str = static(
        "off", "whether the cost is constrained", source="ours", choices=("off", "lagrangian")
    )
    multiplier_speed: float = batched(
        10.0, "the multiplier's pace, in weights' paces", source="ours", low=0.01, high=1e4
    )

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.safety == "lagrangian"
