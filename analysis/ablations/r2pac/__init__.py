"""R2PAC's ablations."""

from safesweep.analysis.ablations.r2pac.components import COMPONENTS
from safesweep.analysis.ablations.r2pac.curves import CURVES
from safesweep.analysis.ablations.r2pac.maps import MAPS

ABLATIONS = (*COMPONENTS, *CURVES, *MAPS)

__all__ = ["ABLATIONS"]
