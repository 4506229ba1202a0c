"""safesweep: sweeps, selection and ablations of offline safe reinforcement learning.

The public names. They load on first use, so that `import safesweep` costs nothing and light parts
never pay for torch or Ray. The four folders of the repository are its subpackages.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safesweep.analysis.ablations.engine.claim_builders import rises
    from safesweep.analysis.ablations.engine.plots import draw_along
    from safesweep.analysis.ablations.engine.settings import COST, REWARD, along, settings_ablation
    from safesweep.analysis.reproduction import ABLATIONS, register_ablation
    from safesweep.analysis.selection.choice import choose, select
    from safesweep.analysis.selection.rules import RULES, Criterion, RuleVerdict, register_rule
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.search_spaces import SEARCH_SPACES
    from safesweep.search_spaces.plugins import load_plugin
    from safesweep.search_spaces.space import Hyperparameter, SearchSpace
    from safesweep.sweeps.execution.ray_tune import run_sweep
    from safesweep.sweeps.execution.scheduler import SweepSummary
    from safesweep.sweeps.spec.sweep_spec import SweepSpec
    from safesweep.sweeps.upkeep import archive_sweeps, delete_sweeps
    from safesweep.trainables.components.networks import mlp
    from safesweep.trainables.data.sources import load_dataset
    from safesweep.trainables.methods.behavior_cloning import BehaviorCloning
    from safesweep.trainables.methods.method import jointly
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.policies.loading import load_policy
    from safesweep.trainables.store.compaction import compact
    from safesweep.trainables.store.imports import import_evaluations, import_files
    from safesweep.trainables.store.labels import note_sweep, tag_sweep
    from safesweep.trainables.store.scores import within_limit
    from safesweep.trainables.tasks.registry import SUITES, TASKS
    from safesweep.trainables.tasks.suite import Suite
    from safesweep.trainables.tasks.task import Task
    from safesweep.trainables.trainable import SafeRLTrainable
    from safesweep.trainables.training.observers import OBSERVERS, Observer
    from safesweep.trainables.training.trial import train

__all__ = [
    "ABLATIONS",
    "ALGORITHMS",
    "COST",
    "OBSERVERS",
    "REWARD",
    "RULES",
    "SEARCH_SPACES",
    "SUITES",
    "TASKS",
    "BehaviorCloning",
    "Criterion",
    "Hyperparameter",
    "Observer",
    "ResultStore",
    "RuleVerdict",
    "SafeRLTrainable",
    "SearchSpace",
    "Suite",
    "SweepSpec",
    "SweepSummary",
    "Task",
    "along",
    "archive_sweeps",
    "choose",
    "compact",
    "delete_sweeps",
    "draw_along",
    "import_evaluations",
    "import_files",
    "jointly",
    "load_dataset",
    "load_plugin",
    "load_policy",
    "mlp",
    "note_sweep",
    "register_ablation",
    "register_rule",
    "rises",
    "run_sweep",
    "select",
    "settings_ablation",
    "tag_sweep",
    "train",
    "within_limit",
]

# Each subpackage is a link to a folder beside this one. Where links were lost in copying, the
# folders are found there.
if not (Path(__file__).parent / "trainables" / "__init__.py").is_file():
    __path__.append(str(Path(__file__).resolve().parents[1]))

_HOMES = {
    "ABLATIONS": "analysis.reproduction",
    "ALGORITHMS": "trainables.methods.registry",
    "BehaviorCloning": "trainables.methods.behavior_cloning",
    "COST": "analysis.ablations.engine.settings",
    "Criterion": "analysis.selection.rules",
    "Hyperparameter": "search_spaces.space",
    "OBSERVERS": "trainables.training.observers",
    "Observer": "trainables.training.observers",
    "REWARD": "analysis.ablations.engine.settings",
    "RULES": "analysis.selection.rules",
    "ResultStore": "analysis.store.reader",
    "RuleVerdict": "analysis.selection.rules",
    "SEARCH_SPACES": "search_spaces",
    "SUITES": "trainables.tasks.registry",
    "SafeRLTrainable": "trainables.trainable",
    "SearchSpace": "search_spaces.space",
    "Suite": "trainables.tasks.suite",
    "SweepSpec": "sweeps.spec.sweep_spec",
    "SweepSummary": "sweeps.execution.scheduler",
    "TASKS": "trainables.tasks.registry",
    "Task": "trainables.tasks.task",
    "along": "analysis.ablations.engine.settings",
    "archive_sweeps": "sweeps.upkeep",
    "choose": "analysis.selection.choice",
    "compact": "trainables.store.compaction",
    "delete_sweeps": "sweeps.upkeep",
    "draw_along": "analysis.ablations.engine.plots",
    "import_evaluations": "trainables.store.imports",
    "import_files": "trainables.store.imports",
    "jointly": "trainables.methods.method",
    "load_dataset": "trainables.data.sources",
    "load_policy": "trainables.policies.loading",
    "load_plugin": "search_spaces.plugins",
    "mlp": "trainables.components.networks",
    "note_sweep": "trainables.store.labels",
    "register_ablation": "analysis.reproduction",
    "register_rule": "analysis.selection.rules",
    "rises": "analysis.ablations.engine.claim_builders",
    "run_sweep": "sweeps.execution.ray_tune",
    "select": "analysis.selection.choice",
    "settings_ablation": "analysis.ablations.engine.settings",
    "tag_sweep": "trainables.store.labels",
    "train": "trainables.training.trial",
    "within_limit": "trainables.store.scores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'safesweep' has no attribute {name!r}")
    import_module("safesweep.search_spaces.plugins").load_installed_plugins()
    return getattr(import_module(f"safesweep.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
