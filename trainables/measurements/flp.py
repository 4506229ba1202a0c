"""What figure 2 of FLP shows: policies trained on the toy of `trainables.measurements.bandit`."""

from typing import Any

import numpy as np

from safesweep.trainables.measurements.bandit import bandit_dataset, bandit_task
from safesweep.trainables.measurements.measuring import DRAWS, measured_rows
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.request import TrialRequest

# Steps and weights of the toy of FLP's figure 2, which prints neither.
BANDIT_STRENGTHS = {"flp": (0.01, 0.1, 1.0, 10.0), "safefql": (0.1, 1.0, 10.0, 100.0)}


def bandit_rows(request: MeasurementRequest) -> list[dict[str, Any]]:
    """Rows of the table `measurements`: actions of FLP for several KL coefficients, and of FQL's
    one-step actor for several weights of distillation.

    The actor is SafeFQL's, which is FQL's where nothing costs. Rows have no run; the view is the
    method and the strength of its regularization.
    """
    dataset, task = bandit_dataset(), bandit_task()
    seeds = [0, 1, 2]
    rows: list[dict[str, Any]] = []
    strengths = {"flp": "kl_coefficient", "safefql": "distillation_weight"}
    for algorithm, hyperparameter in strengths.items():
        method = ALGORITHMS[algorithm]
        levels = BANDIT_STRENGTHS[algorithm]
        shared = {"hidden_dim": 64, "batch_size": 128, "learning_rate": 1e-3}
        members = TrialRequest(
            algorithm,
            task.name,
            [{**shared, hyperparameter: level} for level in levels for _ in seeds],
            [seed for _ in levels for seed in seeds],
            request.size,
            cost_limit=1.0,
            device="cpu",
        )
        population = Population(members, task, dataset)
        population.advance(request.size)
        act = population.policy(method.policies[0], DRAWS)
        actions = act(np.zeros((population.size, DRAWS, 1), dtype=np.float32), 0)
        for member in range(population.size):
            level = levels[member // len(seeds)]
            keys = {
                "run_id": "",
                "algorithm": algorithm,
                "task": task.name,
                "seed": population.seeds[member],
            }
            rows += [
                {**keys, "view": view, "point": point, "quantity": quantity, "value": value}
                for view, point, quantity, value in measured_rows(
                    f"{algorithm} {level:g}",
                    action_1=actions[member, :, 0],
                    action_2=actions[member, :, 1],
                )
            ]
    return rows
