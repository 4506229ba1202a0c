"""Populations without a plan: of a method's class, which need not be registered."""

from collections.abc import Sequence

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.method import Method, MethodConfig
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.request import TrialRequest


def make_population(
    method_class: type[Method],
    configs: Sequence[MethodConfig],
    seeds: Sequence[int],
    task: Task,
    dataset: Dataset,
    steps: int,
    cost_limit: float,
    device: str = "cpu",
    compiled: bool = False,
) -> Population:
    """A population at its first step; arguments as the fields of `TrialRequest`."""
    request = TrialRequest(
        method_class.name,
        task.name,
        [config.to_dict() for config in configs],
        seeds,
        steps,
        cost_limit=cost_limit,
        device=device,
        compiled=compiled,
    )
    return Population(request, task, dataset, method_class)
