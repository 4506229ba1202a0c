"""What may vary, method by method."""

from safesweep.search_spaces.behavior_cloning import BEHAVIOR_CLONING_SPACE
from safesweep.search_spaces.flp import FLP_SPACE
from safesweep.search_spaces.flrp import FLRP_SPACE
from safesweep.search_spaces.lspc import LSPC_SPACE
from safesweep.search_spaces.r2pac import R2PAC_SPACE
from safesweep.search_spaces.safefql import SAFEFQL_SPACE
from safesweep.search_spaces.space import Hyperparameter, SearchSpace

SEARCH_SPACES: dict[str, SearchSpace] = {
    "flrp": FLRP_SPACE,
    "lspc": LSPC_SPACE,
    "r2pac": R2PAC_SPACE,
    "flp": FLP_SPACE,
    "safefql": SAFEFQL_SPACE,
    "bc": BEHAVIOR_CLONING_SPACE,
}

__all__ = ["SEARCH_SPACES", "Hyperparameter", "SearchSpace"]
