"""safesweep: sweeps, selection and ablations of offline safe reinforcement learning.

The public names. They load on first use, so that `import safesweep` costs nothing and light parts
never pay for torch or Ray. The four folders of the repository are its subpackages.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesweep.analysis.reproduction import ABLATIONS
    from safesweep.analysis.selection.choice import select
    from safesweep.analysis.selection.rules import RULES
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.search_spaces import SEARCH_SPACES
    from safesweep.sweeps.execution.ray_tune import run_sweep
    from safesweep.sweeps.execution.scheduler import SweepSummary
    from safesweep.sweeps.spec.sweep_spec import SweepSpec
    from safesweep.trainables.data.sources import load_dataset
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import TASKS
    from safesweep.trainables.trainable import SafeRLTrainable
    from safesweep.trainables.training.trial import train

__all__ = [
    "ABLATIONS",
    "ALGORITHMS",
    "RULES",
    "SEARCH_SPACES",
    "TASKS",
    "ResultStore",
    "SafeRLTrainable",
    "SweepSpec",
    "SweepSummary",
    "load_dataset",
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
    "RULES": "analysis.selection.rules",
    "ResultStore": "analysis.store.reader",
    "SEARCH_SPACES": "search_spaces",
    "SafeRLTrainable": "trainables.trainable",
    "SweepSpec": "sweeps.spec.sweep_spec",
    "SweepSummary": "sweeps.execution.scheduler",
    "TASKS": "trainables.tasks.registry",
    "load_dataset": "trainables.data.sources",
    "run_sweep": "sweeps.execution.ray_tune",
    "select": "analysis.selection.choice",
    "train": "trainables.training.trial",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'safesweep' has no attribute {name!r}")
    return getattr(import_module(f"safesweep.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
