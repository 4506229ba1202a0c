"""The registry of methods: a new one has a file, its settings beside it, a line here and one in
`configs`, and a search space. Plugins extend it.
"""

from typing import Any

from safesweep.search_spaces.plugins import Entries, extended_by_plugins, load_installed_plugins
from safesweep.search_spaces.validation import InvalidInput, require_choice, shown
from safesweep.trainables.methods.bcql import BCQL
from safesweep.trainables.methods.bearl import BEARL
from safesweep.trainables.methods.behavior_cloning import BehaviorCloning
from safesweep.trainables.methods.caps import CAPS
from safesweep.trainables.methods.cdt import CDT
from safesweep.trainables.methods.coptidice import COptiDICE
from safesweep.trainables.methods.cpq import CPQ
from safesweep.trainables.methods.fisor import FISOR
from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.flrp import FLRP
from safesweep.trainables.methods.fql import FQL
from safesweep.trainables.methods.ifql import IFQL
from safesweep.trainables.methods.iql import IQL
from safesweep.trainables.methods.lspc import LSPC
from safesweep.trainables.methods.method import Method
from safesweep.trainables.methods.printed_only import unknown_method
from safesweep.trainables.methods.r2pac import R2PAC
from safesweep.trainables.methods.rebrac import ReBRAC
from safesweep.trainables.methods.safefql import SafeFQL

ALGORITHMS: dict[str, type[Method]] = {
    "flrp": FLRP,
    "lspc": LSPC,
    "r2pac": R2PAC,
    "flp": FLP,
    "safefql": SafeFQL,
    "cpq": CPQ,
    "bcql": BCQL,
    "bearl": BEARL,
    "coptidice": COptiDICE,
    "bc": BehaviorCloning,
    "fisor": FISOR,
    "caps": CAPS,
    "cdt": CDT,
    "fql": FQL,
    "ifql": IFQL,
    "iql": IQL,
    "rebrac": ReBRAC,
}


def find_method(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        InvalidInput: there is none; a plugin may have to be given. Of some methods the papers'
            numbers are at hand, and no code.
    """
    if name not in ALGORITHMS:
        load_installed_plugins()
    try:
        return ALGORITHMS[require_choice("algorithm", name, ALGORITHMS)]
    except InvalidInput as problem:
        raise unknown_method(name, problem) from None


def _accept(name: str, value: Any, plugin: Entries) -> type[Method]:
    if not (isinstance(value, type) and issubclass(value, Method)):
        raise InvalidInput(f"must be a class of Method, not {shown(value)}")
    for attribute in ("name", "config_class", "policies"):
        if not hasattr(value, attribute):
            raise InvalidInput(f"{value.__name__} does not define {attribute}")
    if value.name != name:
        raise InvalidInput(f"{value.__name__} calls itself {shown(value.name)}")
    space = plugin.get("SEARCH_SPACES", {}).get(name)
    for searched in getattr(space, "entries", ()):
        if searched not in value.config_class.field_names():
            raise InvalidInput(
                f"its space holds {shown(searched)}, which is no hyperparameter of "
                f"{value.config_class.__name__}"
            )
    return value


extended_by_plugins("ALGORITHMS", ALGORITHMS, _accept)
