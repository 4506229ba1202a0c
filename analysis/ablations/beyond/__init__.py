"""Comparisons that no paper makes."""

from analysis.ablations.beyond.feasibility import FEASIBILITY
from analysis.ablations.beyond.methods import METHODS

ABLATIONS = (METHODS, FEASIBILITY)

__all__ = ["ABLATIONS"]
