"""What may vary, method by method."""

from typing import Any

from safesweep.search_spaces.bcql import BCQL_SPACE
from safesweep.search_spaces.bearl import BEARL_SPACE
from safesweep.search_spaces.behavior_cloning import BEHAVIOR_CLONING_SPACE
from safesweep.search_spaces.caps import CAPS_SPACE
from safesweep.search_spaces.cdt import CDT_SPACE
from safesweep.search_spaces.coptidice import COPTIDICE_SPACE
from safesweep.search_spaces.cpq import CPQ_SPACE
from safesweep.search_spaces.fisor import FISOR_SPACE
from safesweep.search_spaces.flp import FLP_SPACE
from safesweep.search_spaces.flrp import FLRP_SPACE
from safesweep.search_spaces.fql import FQL_SPACE, IFQL_SPACE, IQL_SPACE, REBRAC_SPACE
from safesweep.search_spaces.lspc import LSPC_SPACE
from safesweep.search_spaces.plugins import Entries, extended_by_plugins
from safesweep.search_spaces.r2pac import R2PAC_SPACE
from safesweep.search_spaces.safefql import SAFEFQL_SPACE
from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.search_spaces.validation import InvalidInput, shown

SEARCH_SPACES: dict[str, SearchSpace] = {
    "flrp": FLRP_SPACE,
    "lspc": LSPC_SPACE,
    "r2pac": R2PAC_SPACE,
    "flp": FLP_SPACE,
    "safefql": SAFEFQL_SPACE,
    "cpq": CPQ_SPACE,
    "bcql": BCQL_SPACE,
    "bearl": BEARL_SPACE,
    "coptidice": COPTIDICE_SPACE,
    "bc": BEHAVIOR_CLONING_SPACE,
    "fisor": FISOR_SPACE,
    "caps": CAPS_SPACE,
    "cdt": CDT_SPACE,
    "fql": FQL_SPACE,
    "ifql": IFQL_SPACE,
    "iql": IQL_SPACE,
    "rebrac": REBRAC_SPACE,
}


def _accept(name: str, value: Any, plugin: Entries) -> SearchSpace:
    if not isinstance(value, SearchSpace):
        raise InvalidInput(f"must be a SearchSpace, not {shown(value)}")
    if value.algorithm != name:
        raise InvalidInput(f"is the space of {shown(value.algorithm)}")
    return value


extended_by_plugins("SEARCH_SPACES", SEARCH_SPACES, _accept)

__all__ = ["SEARCH_SPACES", "Hyperparameter", "SearchSpace"]
