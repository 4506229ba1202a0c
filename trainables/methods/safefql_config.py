"""The hyperparameters of SafeFQL, of which the text at hand prints no value."""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import NetworkConfig, SafetySignalConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class SafeFQLConfig(SafetySignalConfig, NetworkConfig):
    """Hyperparameters of SafeFQL. The text at hand prints no value of any."""

    summary = (
        "Safe flow Q-learning: reachability critics, one-step flow actor, conformal threshold."
    )
    policies = ("safefql",)
    phase_shares = ("critic_share",)

    expectile: float = batched(
        0.9, "expectile of V_r, and reversed of V_h", source="eq. 6, 11; public code",
        alias="tau", low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target networks", source="public code", low=1e-6, high=1.0
    )
    safety_backup: str = static(
        "reachability", "discounted reachability, or the maximum of h and gamma V' taken literally",
        source="section 3.1", choices=("reachability", "discounted_maximum"),
    )  # fmt: skip
    flow_steps: int = static(
        10, "Euler steps of the teacher", source="FQL; public code", low=1, high=256
    )
    distillation_weight: float = batched(
        1.0, "weight of the distance to the teacher", source="FQL's alpha; value ours",
        alias="alpha", low=0.0, high=1e4,
    )  # fmt: skip
    safety_weight: float = batched(
        1.0, "weight of the safety value beyond the threshold", source="public code; value ours",
        low=0.0, high=1e5,
    )  # fmt: skip
    normalize_q: bool = static(
        True, "divide the reward term by the batch's mean |Q_r|", source="FQL; public code"
    )
    normalize_safety: bool = static(
        False, "divide the safety term by the batch's mean |Q_r| too", source="public code"
    )
    critic_batch_size: int = static(
        0, "the first so many transitions of a minibatch are the critics'; 0: all of them",
        source="public code", low=0, high=65536,
    )  # fmt: skip
    conformal_level: float = batched(
        0.1, "share of unsafe states that may be declared feasible: conformal miscoverage",
        source="section 3; value ours", low=1e-4, high=0.5,
    )  # fmt: skip
    calibration_episodes: int = static(
        40, "episodes with violations held out for calibration, at most a third of them",
        source="ours", low=1, high=100_000,
    )  # fmt: skip
    calibration_window: int = static(
        50, "steps before a violation that count as unsafe", source="ours", low=0, high=10_000
    )
    critic_share: float = static(
        0.5, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )
