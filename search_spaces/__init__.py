"""What may vary, method by method."""

from search_spaces.flrp import FLRP_SPACE
from search_spaces.space import Hyperparameter, SearchSpace

SEARCH_SPACES: dict[str, SearchSpace] = {"flrp": FLRP_SPACE}

__all__ = ["SEARCH_SPACES", "Hyperparameter", "SearchSpace"]
