"""Options that several methods have, under the same names: what is learned from,
networks, and signals of safety."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safesweep.trainables.components.choices import ACTIVATION_NAMES, NORMS
from safesweep.trainables.methods.config import MethodConfig, batched, static

AS_OTHERS = "same"
NETWORK_CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "critic_hidden_layers": {"hidden_layers": 1},
    "critic_activation": {"activation": "gelu"},
}
"""`Method.conditional_settings` of these options."""


@dataclass(frozen=True)
class ValueConfig(MethodConfig):
    """Hyperparameters of a method that learns values of what follows."""

    done_signal: str = static(
        "terminals", "steps after which nothing follows",
        source="ours; public code of FISOR, LSPC, SafeFQL: both",
        choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    reward_scaling: str = static(
        "normalized", "rewards of the task's unit (order one a step), or as the data has them",
        source="public code of FISOR", choices=("normalized", "none"),
    )  # fmt: skip
    reward_scale: float = static(
        1.0, "factor of the rewards, on top of `reward_scaling`", source="R2PAC's reward scale",
        low=1e-6, high=1e6,
    )  # fmt: skip


@dataclass(frozen=True)
class NetworkConfig(MethodConfig):
    """Hyperparameters of networks beyond width and depth; critics may have their own."""

    activation: str = static(
        "relu", "activation of hidden layers", source="common", choices=ACTIVATION_NAMES
    )
    layer_norm: str = static(
        "none", "where the critics' hidden layers are normalised", source="public code of FQL",
        choices=NORMS,
    )  # fmt: skip
    critic_hidden_dim: int = static(
        0, "units of a critic's hidden layer; 0: as in other networks",
        source="public code of SafeFQL", low=0, high=8192,
    )  # fmt: skip
    critic_hidden_layers: int = static(
        0, "hidden layers of a critic; 0: as many as in other networks",
        source="public code of SafeFQL", low=0, high=16,
    )  # fmt: skip
    critic_activation: str = static(
        AS_OTHERS, "activation of critics; same: as in other networks",
        source="public code of SafeFQL", choices=(AS_OTHERS, *ACTIVATION_NAMES),
    )  # fmt: skip


@dataclass(frozen=True)
class SafetySignalConfig(ValueConfig):
    """Hyperparameters of a method whose critics look at h(s), positive where it is unsafe."""

    safety_signal: str = static(
        "sparse", "h(s) from the costs, or the dataset's exact margin", source="ours",
        choices=("sparse", "exact"),
    )  # fmt: skip
    violation_signal: float = batched(
        25.0, "h(s) where the cost is positive", source="public code of FISOR and SafeFQL",
        low=1e-3, high=1e3,
    )  # fmt: skip
    safe_signal: float = batched(
        -1.0, "h(s) where the cost is zero", source="public code of FISOR and SafeFQL",
        low=-1e3, high=-1e-3,
    )  # fmt: skip
    safety_margin: float = batched(
        0.0, "added to h(s): how far a safe state's value must stay below 0", source="ours",
        low=0.0, high=1e3,
    )  # fmt: skip
