"""How policies do in other tasks than the one that they were trained for."""

from collections.abc import Iterator

import numpy as np

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.measuring import (
    STREAM,
    Row,
    measured_rows,
)
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.population import Population


def transfer(
    population: Population, dataset: Dataset, request: MeasurementRequest
) -> Iterator[Row]:
    """Returns and costs of `size` episodes in each target task, without further training."""
    policy = population.method.evaluated_policies[0]
    seeds = np.random.SeedSequence([population.seeds[0], STREAM]).generate_state(request.size)
    for name in request.target_tasks:
        task = get_task(name)
        outcome = rollout(task, population.policy(policy, request.size), 1, seeds[None])
        rewards, costs = outcome.reward_returns[0], outcome.cost_returns[0]
        yield from measured_rows(task.name, reward=task.normalize_reward(rewards), cost=costs)
