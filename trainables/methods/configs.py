"""What each method can be told, and what it is, without loading it (and torch with it).

A method of the product has one line here and one in the registry, which has the methods themselves.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safesweep.search_spaces.plugins import is_extended, load_installed_plugins
from safesweep.search_spaces.validation import InvalidInput, require_choice
from safesweep.trainables.methods.bcql_config import BCQLConfig
from safesweep.trainables.methods.bearl_config import BEARLConfig
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.methods.caps_config import CAPSConfig
from safesweep.trainables.methods.cdt_config import CDTConfig
from safesweep.trainables.methods.config import MethodConfig
from safesweep.trainables.methods.coptidice_config import COptiDICEConfig
from safesweep.trainables.methods.cpq_config import CPQConfig
from safesweep.trainables.methods.fisor_config import FISORConfig
from safesweep.trainables.methods.flp_config import FLPConfig
from safesweep.trainables.methods.flrp_config import FLRPConfig
from safesweep.trainables.methods.fql_config import FQLConfig
from safesweep.trainables.methods.ifql_config import IFQLConfig
from safesweep.trainables.methods.iql_config import IQLConfig
from safesweep.trainables.methods.lspc_config import LSPCConfig
from safesweep.trainables.methods.printed_only import unknown_method
from safesweep.trainables.methods.r2pac_config import R2PACConfig
from safesweep.trainables.methods.rebrac_config import ReBRACConfig
from safesweep.trainables.methods.safefql_config import SafeFQLConfig

if TYPE_CHECKING:
    from safesweep.trainables.methods.method import Method

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
    "fisor": FISORConfig,
    "caps": CAPSConfig,
    "cdt": CDTConfig,
    "fql": FQLConfig,
    "ifql": IFQLConfig,
    "iql": IQLConfig,
    "rebrac": ReBRACConfig,
}

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
    """Every method, by name; those that plugins bring are loaded for it.

    Raises:
        InvalidInput: an installed plugin does not fit.
    """
    methods = _methods()
    if methods is None:
        return {
            name: MethodDescription(
                config.summary, (*config.policies, *config.further_policies), config
            )
            for name, config in CONFIGS.items()
        }
    return {
        name: MethodDescription(
            method.config_class.summary or (method.__doc__ or "").strip().partition("\n")[0],
            (*method.policies, *method.further_policies),
            method.config_class,
        )
        for name, method in methods.items()
    }


def config_class_of(name: str) -> type[MethodConfig]:
    """The hyperparameters of a method.

    Raises:
        InvalidInput: there is none of that name; a plugin may have to be given.
    """
    methods = _methods()
    try:
        if methods is None:
            return CONFIGS[require_choice("algorithm", name, CONFIGS)]
        return methods[require_choice("algorithm", name, methods)].config_class
    except InvalidInput as problem:
        raise unknown_method(name, problem) from None


def _methods() -> "Mapping[str, type[Method]] | None":
    """The methods themselves where they are loaded, or have to be for those of plugins."""
    load_installed_plugins()
    if not is_extended("ALGORITHMS") and _REGISTRY not in sys.modules:
        return None
    from safesweep.trainables.methods.registry import ALGORITHMS

    return ALGORITHMS
