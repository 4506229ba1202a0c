"""The registry of methods: a new method is one file, one line here and one search space."""

from trainables.behavior_cloning import BehaviorCloning
from trainables.flp import FLP
from trainables.flrp import FLRP
from trainables.lspc import LSPC
from trainables.method import Method
from trainables.r2pac import R2PAC
from trainables.safefql import SafeFQL

ALGORITHMS: dict[str, type[Method]] = {
    "flrp": FLRP,
    "lspc": LSPC,
    "r2pac": R2PAC,
    "flp": FLP,
    "safefql": SafeFQL,
    "bc": BehaviorCloning,
}
