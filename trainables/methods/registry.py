"""The registry of methods: a new method is one file, one line here and one search space."""

from safesweep.trainables.methods.behavior_cloning import BehaviorCloning
from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.flrp import FLRP
from safesweep.trainables.methods.lspc import LSPC
from safesweep.trainables.methods.method import Method
from safesweep.trainables.methods.r2pac import R2PAC
from safesweep.trainables.methods.safefql import SafeFQL

ALGORITHMS: dict[str, type[Method]] = {
    "flrp": FLRP,
    "lspc": LSPC,
    "r2pac": R2PAC,
    "flp": FLP,
    "safefql": SafeFQL,
    "bc": BehaviorCloning,
}
