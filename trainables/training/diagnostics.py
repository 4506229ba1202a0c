"""How well a method's feasible set {V_h <= 0} agrees with what is known to be feasible."""

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.tasks.registry import SUITES, suite_of
from safesweep.trainables.tasks.suite import KnownFeasibility
from safesweep.trainables.tasks.task import Task
from safesweep.trainables.training.population import Population

BoolArray = NDArray[np.bool_]
DATASET_STATES = 20_000
METHOD_STATES = 64
METHOD_DRAWS = 64


def classification_rates(predicted: BoolArray, actual: BoolArray) -> dict[str, float]:
    """Recall, precision and specificity of `predicted` against `actual`; NaN where undefined."""

    def share(hits: BoolArray, of: BoolArray) -> float:
        return float(hits[of].mean()) if of.any() else float("nan")

    return {
        "recall": share(predicted, actual),
        "precision": share(actual, predicted),
        "specificity": share(~predicted, ~actual),
    }


def method_diagnostics(population: Population, dataset: Dataset) -> list[dict[str, float]]:
    """The method's own diagnostics at evenly spaced states of the dataset, one dictionary a
    member."""
    chosen = np.unique(np.linspace(0, len(dataset) - 1, METHOD_STATES).astype(int))
    found = population.diagnose(dataset.observations[chosen], METHOD_DRAWS)
    return [
        {name: float(values[member]) for name, values in found.items()}
        for member in range(population.size)
    ]


def feasibility_diagnostics(
    population: Population, task: Task, dataset: Dataset
) -> list[dict[str, float]]:
    """Rates of {V_h <= 0}, one dictionary a member; empty for methods without such a critic.

    `feasible_*`: against the steps of the dataset's zero-cost trajectories (FLRP table 8), on at
    most 20,000 evenly spaced steps. `true_*`: on a task whose feasible set is known, against it on
    a grid of states; `true_infeasible_recall` is the specificity over the states that are
    infeasible though outside every obstacle.
    """
    chosen = np.linspace(0, len(dataset.observations) - 1, DATASET_STATES).astype(int)
    chosen = np.unique(chosen)
    values = population.feasibility_values(dataset.observations[chosen])
    if values is None:
        return [{} for _ in range(population.size)]
    safe = np.repeat(dataset.cost_returns() == 0, dataset.episode_lengths)[chosen]
    found = []
    for member in range(population.size):
        rates = classification_rates(values[member] <= 0, safe)
        found.append({f"feasible_{k}": v for k, v in rates.items() if k != "specificity"})
    known = suite_of(task).known_feasibility if task.suite in SUITES else None
    if known is not None:
        for member, rates in enumerate(_true_rates(population, known(task))):
            found[member].update(rates)
    return found


def _true_rates(population: Population, known: KnownFeasibility) -> list[dict[str, float]]:
    values = population.feasibility_values(known.states.astype(np.float32))
    assert values is not None
    rates = []
    for member in range(population.size):
        predicted = values[member] <= 0
        row = {f"true_{k}": v for k, v in classification_rates(predicted, known.feasible).items()}
        row["true_infeasible_recall"] = float((~predicted)[known.doomed].mean())
        rates.append(row)
    return rates
