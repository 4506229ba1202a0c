"""What the methods of FQL's comparison share: its networks, sizes and rates (Park et al., 2025,
arXiv 2502.02538, and its public code). None of them knows costs."""

from dataclasses import dataclass

from safesweep.trainables.components.choices import ACTIVATION_NAMES, NORMS
from safesweep.trainables.methods.common_options import NetworkConfig, ValueConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class FQLComparisonConfig(ValueConfig, NetworkConfig):
    """Hyperparameters that all methods of FQL's comparison have; the defaults are its code's."""

    hidden_dim: int = static(
        512, "units of a hidden layer", source="public code of FQL", low=1, high=8192
    )
    hidden_layers: int = static(
        4, "hidden layers of a network", source="public code of FQL", low=1, high=16
    )
    activation: str = static(
        "gelu", "activation of hidden layers", source="public code of FQL",
        choices=ACTIVATION_NAMES,
    )  # fmt: skip
    layer_norm: str = static(
        "after_activation", "where the critics' hidden layers are normalised",
        source="public code of FQL", choices=NORMS,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the slow copies", source="public code of FQL", low=1e-6, high=1.0
    )
