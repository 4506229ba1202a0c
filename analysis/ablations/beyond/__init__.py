"""Comparisons that no paper makes."""

from analysis.ablations.beyond.feasibility import FEASIBILITY
from analysis.ablations.beyond.methods import METHODS
from analysis.ablations.beyond.sensitivity import SENSITIVITY
from analysis.ablations.beyond.tradeoff import TRADEOFF

ABLATIONS = (METHODS, TRADEOFF, SENSITIVITY, FEASIBILITY)

__all__ = ["ABLATIONS"]
