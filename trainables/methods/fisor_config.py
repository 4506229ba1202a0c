"""The hyperparameters of FISOR; the defaults are those of its public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import SafetySignalConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class FISORConfig(SafetySignalConfig):
    """Hyperparameters of FISOR; the defaults are those of its public code."""

    summary = "Feasibility-guided diffusion (FISOR); SafeIFQL and IDQL are options of it."
    policies = ("fisor",)
    phase_shares = ("critic_share",)

    batch_size: int = static(
        1024, "transitions in a minibatch", source="public code", low=1, high=65536
    )
    critic_batch_size: int = static(
        256, "the first so many transitions of a minibatch are the critics'; 0: all of them",
        source="public code", low=0, high=65536,
    )  # fmt: skip
    reward_expectile: float = batched(
        0.9, "expectile of V_r", source="public code", low=0.5, high=0.999
    )
    feasibility_expectile: float = batched(
        0.9, "reversed expectile of V_h", source="public code", alias="tau",
        low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target critics", source="public code", low=1e-6, high=1.0
    )
    actor_update_rate: float = batched(
        0.001, "Polyak rate of the actor that acts", source="public code", low=1e-6, high=1.0
    )
    safety: str = static(
        "feasibility", "weights and choice by feasibility, or by reward alone (IDQL)",
        source="ours; IDQL", choices=("feasibility", "off"),
    )  # fmt: skip
    reward_inverse_temperature: float = batched(
        3.0, "of the reward advantage of a feasible pair", source="public code",
        alias="alpha_1", low=0.0, high=100.0,
    )  # fmt: skip
    safety_inverse_temperature: float = batched(
        5.0, "of the feasibility advantage in an infeasible state", source="public code",
        alias="alpha_2", low=0.0, high=100.0,
    )  # fmt: skip
    reward_weight_clip: float = static(
        100.0, "largest weight of a feasible pair", source="public code", low=1e-3, high=1e6
    )
    safety_weight_clip: float = static(
        150.0, "largest weight in an infeasible state", source="public code", low=1e-3, high=1e6
    )
    actor: str = static(
        "diffusion", "what clones: a diffusion, or a flow (SafeIFQL)",
        source="FISOR; public code of SafeFQL", choices=("diffusion", "flow"),
    )  # fmt: skip
    actor_layers: int = static(
        3, "residual blocks of the diffusion, or hidden layers of the flow",
        source="public code", low=1, high=16,
    )  # fmt: skip
    actor_dropout: float = static(
        0.0, "share of a residual block's inputs that is dropped; its random numbers take time",
        source="ours; public code: 0.1", low=0.0, high=0.9,
    )  # fmt: skip
    actor_decay: float = static(
        2 / 3, "how far half a cosine takes the actor's step size down; 0: not at all",
        source="public code: 2e6 of 3e6 steps", low=0.0, high=1.0,
    )  # fmt: skip
    sampling_steps: int = static(
        5, "steps from noise to an action", source="public code", alias="T", low=1, high=256
    )
    candidates: int = static(
        16, "actions to choose from", source="public code", alias="N", low=1, high=1024
    )
    selection: str = static(
        "least_unsafe", "the lowest feasibility value, or the highest reward value among feasible "
        "ones (SafeIFQL)", source="public code; that of SafeFQL",
        choices=("least_unsafe", "best_feasible"),
    )  # fmt: skip
    critic_share: float = static(
        1 / 3, "part of the gradient steps in phase 1", source="public code's steps of both",
        low=0.05, high=0.95,
    )  # fmt: skip

    @property
    def trains_to_budget(self) -> bool:
        return self.actor_decay > 0
