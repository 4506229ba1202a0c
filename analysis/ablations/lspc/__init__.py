"""LSPC's ablations."""

from safesweep.analysis.ablations.lspc.comparisons import COMPARISONS
from safesweep.analysis.ablations.lspc.policies import FIGURE_3, FIGURE_12

ABLATIONS = (*COMPARISONS, FIGURE_3, FIGURE_12)

__all__ = ["ABLATIONS"]
