"""Sweeps: what to run, in which order, where. Names load on first use, so that `safesweep --help`
imports neither ray nor torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeps.launch import run_sweep
    from sweeps.queue import SweepSummary
    from sweeps.spec import SweepSpec

__all__ = ["SweepSpec", "SweepSummary", "run_sweep"]

_HOMES = {
    "SweepSpec": "sweeps.spec",
    "SweepSummary": "sweeps.queue",
    "run_sweep": "sweeps.launch",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sweeps' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
