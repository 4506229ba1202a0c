"""The hyperparameters of BEAR-Lag."""

from dataclasses import dataclass

from safesweep.trainables.components.choices import KERNELS
from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.lagrangian_critics_config import LagrangianCriticsConfig


@dataclass(frozen=True)
class BEARLConfig(LagrangianCriticsConfig):
    """Hyperparameters of BEAR-Lag; the defaults are OSRL's, but for its defects."""

    summary = "BEAR with a Lagrange multiplier by PID control, as OSRL has it."
    policies = ("bearl",)

    discrepancy_samples: int = static(
        10, "actions of either set that are compared at a state", source="OSRL", low=1, high=256
    )
    kernel: str = static("gaussian", "of the discrepancy", source="OSRL", choices=KERNELS)
    bandwidth: float = batched(
        50.0, "sigma of the kernel exp(-distance / (2 sigma))", source="OSRL", alias="mmd_sigma",
        low=1e-3, high=1e4,
    )  # fmt: skip
    discrepancy_threshold: float = batched(
        0.05, "largest discrepancy from the data's actions", source="OSRL",
        alias="target_mmd_thresh", low=0.0, high=10.0,
    )  # fmt: skip
    multiplier_rate: float = batched(
        1e-3, "step size of the logarithm of the discrepancy's weight", source="OSRL",
        low=0.0, high=1.0,
    )  # fmt: skip
    imitation_steps: float = batched(
        0.0, "gradient steps at first in which the policy does not look at its reward value",
        source="OSRL; the original: 40,000", alias="start_update_policy_step", low=0.0, high=1e9,
    )  # fmt: skip
