"""safesweep: sweeps, selection and ablations of offline safe reinforcement learning.

The public names. They load on first use, so that `import safesweep` costs nothing and light parts
never pay for torch or Ray. The four folders of the repository are its subpackages.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesweep.analysis.reproduction import ABLATIONS
    from safesweep.analysis.selection.choice import choose, select
    from safesweep.analysis.selection.rules import RULES
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.search_spaces import SEARCH_SPACES
    from safesweep.search_spaces.plugins import load_plugin
    from safesweep.sweeps.execution.ray_tune import run_sweep
    from safesweep.sweeps.execution.scheduler import SweepSummary
    from safesweep.sweeps.spec.sweep_spec import SweepSpec
    from safesweep.trainables.data.sources import load_dataset
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import SUITES, TASKS
    from safesweep.trainables.tasks.suite import Suite
    from safesweep.trainables.trainable import SafeRLTrainable
    from safesweep.trainables.training.observers import OBSERVERS, Observer
    from safesweep.trainables.training.trial import train

__all__ = [
    "ABLATIONS",
    "ALGORITHMS",
    "OBSERVERS",
    "RULES",
    "SEARCH_SPACES",
    "SUITES",
    "TASKS",
    "Observer",
    "ResultStore",
    "SafeRLTrainable",
    "Suite",
    "SweepSpec",
    "SweepSummary",
    "choose",
    "load_dataset",
    "load_plugin",
    "run_sweep",
    "select",
    "train",
]

# Each subpackage is a link to a folder beside this one. Where links were lost in copying, the
# folders are found there.
if not (Path(__file__).parent / "trainables" / "__init__.py").is_file():
    __path__.append(str(Path(__file__).resolve().parents[1]))

_HOMES = {
    "ABLATIONS": "analysis.reproduction",
    "ALGORITHMS": "trainables.methods.registry",
    "OBSERVERS": "trainables.training.observers",
    "Observer": "trainables.training.observers",
    "RULES": "analysis.selection.rules",
    "ResultStore": "analysis.store.reader",
    "SEARCH_SPACES": "search_spaces",
    "SUITES": "trainables.tasks.registry",
    "SafeRLTrainable": "trainables.trainable",
    "Suite": "trainables.tasks.suite",
    "SweepSpec": "sweeps.spec.sweep_spec",
    "SweepSummary": "sweeps.execution.scheduler",
    "TASKS": "trainables.tasks.registry",
    "choose": "analysis.selection.choice",
    "load_dataset": "trainables.data.sources",
    "load_plugin": "search_spaces.plugins",
    "run_sweep": "sweeps.execution.ray_tune",
    "select": "analysis.selection.choice",
    "train": "trainables.training.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'safesweep' has no attribute {name!r}")
    import_module("safesweep.search_spaces.plugins").load_installed_plugins()
    return getattr(import_module(f"safesweep.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
