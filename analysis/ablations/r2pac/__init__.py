"""R2PAC's ablations."""

from analysis.ablations.r2pac.components import COMPONENTS
from analysis.ablations.r2pac.curves import CURVES
from analysis.ablations.r2pac.maps import MAPS

ABLATIONS = (*COMPONENTS, *CURVES, *MAPS)

__all__ = ["ABLATIONS"]
