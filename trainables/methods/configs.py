"""What methods can be told, without loading them, and torch with them, where that can be helped."""

import sys
from dataclasses import dataclass

from safesweep.search_spaces.plugins import load_installed_plugins
from safesweep.trainables.methods.bcql_config import BCQLConfig
from safesweep.trainables.methods.bearl_config import BEARLConfig
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.methods.config import MethodConfig
from safesweep.trainables.methods.coptidice_config import COptiDICEConfig
from safesweep.trainables.methods.cpq_config import CPQConfig
from safesweep.trainables.methods.flp_config import FLPConfig
from safesweep.trainables.methods.flrp_config import FLRPConfig
from safesweep.trainables.methods.lspc_config import LSPCConfig
from safesweep.trainables.methods.r2pac_config import R2PACConfig
from safesweep.trainables.methods.safefql_config import SafeFQLConfig

CONFIGS: dict[str, type[MethodConfig]] = {
    "flrp": FLRPConfig,
    "lspc": LSPCConfig,
    "r2pac": R2PACConfig,
    "flp": FLPConfig,
    "safefql": SafeFQLConfig,
    "cpq": CPQConfig,
    "bcql": BCQLConfig,
    "bearl": BEARLConfig,
    "coptidice": COptiDICEConfig,
    "bc": BehaviorCloningConfig,
}
"""Of those methods whose hyperparameters need no torch; the registry has all."""

_REGISTRY = "safesweep.trainables.methods.registry"


@dataclass(frozen=True)
class MethodDescription:
    """What a method is, for a reader.

    Attributes:
        summary: one line.
        policies: that a trained run has, further ones included.
        config_class: its hyperparameters.
    """

    summary: str
    policies: tuple[str, ...]
    config_class: type[MethodConfig]


def described_methods() -> dict[str, MethodDescription]:
    """Every method, by name.

    Raises:
        InvalidInput: an installed plugin does not fit.
    """
    from safesweep.trainables.methods.registry import ALGORITHMS

    load_installed_plugins()
    return {
        name: MethodDescription(
            method.config_class.summary or (method.__doc__ or "").strip().partition("\n")[0],
            (*method.policies, *method.further_policies),
            method.config_class,
        )
        for name, method in ALGORITHMS.items()
    }


def config_class_of(name: str) -> type[MethodConfig]:
    """The hyperparameters of a method.

    Raises:
        InvalidInput: there is none of that name; a plugin may have to be given.
    """
    if name in CONFIGS and _REGISTRY not in sys.modules:
        return CONFIGS[name]
    from safesweep.trainables.methods.registry import find_method

    return find_method(name).config_class
