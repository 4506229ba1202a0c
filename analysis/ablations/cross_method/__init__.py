"""Comparisons that no paper makes."""

from safesweep.analysis.ablations.cross_method.feasibility import FEASIBILITY
from safesweep.analysis.ablations.cross_method.methods import METHODS
from safesweep.analysis.ablations.cross_method.published_defects import PUBLISHED_DEFECTS
from safesweep.analysis.ablations.cross_method.sensitivity import SENSITIVITY
from safesweep.analysis.ablations.cross_method.tradeoff import TRADEOFF

ABLATIONS = (METHODS, TRADEOFF, SENSITIVITY, FEASIBILITY, PUBLISHED_DEFECTS)

__all__ = ["ABLATIONS"]
