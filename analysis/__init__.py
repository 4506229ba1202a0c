"""Reading results: the store, the selection rules, and the reproduction of published ablations.
Names load on first use, so that importing the package costs nothing."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.reproduction import ABLATIONS
    from analysis.selection import RULES, select
    from analysis.store import ResultStore

__all__ = ["ABLATIONS", "RULES", "ResultStore", "select"]

_HOMES = {
    "ABLATIONS": "analysis.reproduction",
    "RULES": "analysis.selection",
    "ResultStore": "analysis.store",
    "select": "analysis.selection",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
