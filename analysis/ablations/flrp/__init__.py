"""FLRP's ablations."""

from safesweep.analysis.ablations.flrp.comparisons import COMPARISONS
from safesweep.analysis.ablations.flrp.feasible_set import EXPECTILES, TABLE_8
from safesweep.analysis.ablations.flrp.latents import LATENTS
from safesweep.analysis.ablations.flrp.plane import FIGURE_2

ABLATIONS = (*COMPARISONS, TABLE_8, FIGURE_2, *LATENTS)

__all__ = ["ABLATIONS", "EXPECTILES", "TABLE_8"]
