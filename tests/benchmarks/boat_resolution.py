"""Why methods that act step by step are not safe on the boat at small scale.

    python -m tests.benchmarks.boat_resolution [--steps 2000 8000]

A step of the boat lasts 0.005 s, so that the best and the worst direction differ little in value.
Two measurements, against the true value V of the boat's feasible set:

* Regret of the direction that a trained safety critic prefers, where directions matter: how much
  worse V is after following it for 0.1 s than after the best, as a share of the difference between
  best and worst: SafeFQL's and FLRP's Q_h, LSPC's Q_c, and R2PAC's of a chunk of ten steps in that
  direction. Beside them the same of a perceptron that is told the true value of the next state,
  with nothing to bootstrap.
* Cost of SafeFQL's actor trained as always, but on V itself a little ahead in the place of Q_h.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safesweep import TASKS, load_dataset
from safesweep.trainables.components.critics import evaluate_ensemble
from safesweep.trainables.components.networks import hidden_sizes, init_mlp
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.methods.safefql import SafeFQL
from safesweep.trainables.tasks import boat
from safesweep.trainables.training.optimizer import adam_, differentiable, gradients_of, init_adam
from tests.trainables.populations import make_population

TASK = "BoatNavigation-v0"
SEEDS = (0, 1, 2)
COMMON = {
    "hidden_dim": 64,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "target_update_rate": 0.02,
}
SETTINGS = {**COMMON, "violation_signal": 1.0, "flow_steps": 5}
# Method -> its critic of safety, the steps that it judges at once, and its settings.
CRITICS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "safefql": ("safety_q", 1, {**SETTINGS, "critic_share": 0.95}),
    "flrp": ("feasibility_q", 1, {**COMMON, "violation_signal": 1.0, "latent_dim": 4}),
    "lspc": ("cost_q", 1, {**COMMON, "expectile": 0.9, "latent_dim": 4}),
    "r2pac": (
        "safety_q",
        10,
        {**COMMON, "hidden_layers": 2, "chunk_length": 10, "discount": 0.98, "critic_share": 0.95},
    ),
}
LOOK_AHEAD = 0.1
DIRECTIONS = np.stack(
    [np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1
)


def true_value(states: Tensor) -> Tensor:
    """V at states [B, 2], differentiable: bilinear on the grid of the true feasible set."""
    truth = boat.true_feasible_set(TASK)
    table = torch.as_tensor(truth.value, dtype=torch.float32)
    low = torch.as_tensor(boat.LOW, dtype=torch.float32)
    high = torch.as_tensor(boat.HIGH, dtype=torch.float32)
    last = torch.tensor([side - 1 for side in table.shape])
    place = (states - low) / (high - low) * last
    corner = torch.minimum(place.detach().floor().clamp(min=0), last - 1)
    share = (place - corner).clamp(0, 1)
    index = (corner[:, 0] * table.shape[1] + corner[:, 1]).long()
    flat = table.reshape(-1)
    left = torch.lerp(flat[index], flat[index + 1], share[:, 1])
    right = torch.lerp(flat[index + table.shape[1]], flat[index + table.shape[1] + 1], share[:, 1])
    return torch.lerp(left, right, share[:, 0])


class TrulyInformedSafeFQL(SafeFQL):
    """SafeFQL whose actor is told V, `LOOK_AHEAD` seconds after its action, less a margin."""

    name = "safefql"
    margin = 0.1

    def action_safety(self, params: object, observations: Tensor, actions: Tensor) -> Tensor:
        direction = actions / (actions.norm(dim=-1, keepdim=True) + 1e-6)
        current = 2.0 - 0.5 * observations[:, 1].square()
        drift = torch.stack([current, torch.zeros_like(current)], dim=-1)
        return true_value(observations + LOOK_AHEAD * (direction + drift)) + self.margin


def places_where_directions_matter() -> tuple[np.ndarray, np.ndarray]:
    """States [n, 2] near the obstacles, and V [n, 16] after each direction."""
    truth = boat.true_feasible_set(TASK)
    states = np.random.default_rng(0).uniform(boat.LOW, boat.HIGH, (20_000, 2))
    value = truth.value_at(states)
    states = states[(value > -0.4) & (value < -0.02)]
    after = np.stack(
        [
            truth.value_at(boat.advance(states, np.broadcast_to(d, states.shape), LOOK_AHEAD))
            for d in DIRECTIONS
        ],
        axis=1,
    )
    matters = after.max(1) - after.min(1) > 0.05
    return states[matters], after[matters]


def regret(
    layers: Sequence[dict[str, Tensor]], states: np.ndarray, after: np.ndarray, repeats: int = 1
) -> float:
    """Mean regret of the direction, kept for `repeats` steps, with the lowest value of an
    ensemble's largest."""
    observations = torch.as_tensor(states, dtype=torch.float32)
    with torch.no_grad():
        values = torch.stack(
            [
                evaluate_ensemble(
                    list(layers),
                    observations,
                    torch.as_tensor(d, dtype=torch.float32).repeat(len(states), repeats),
                ).amax(0)
                for d in DIRECTIONS
            ],
            dim=1,
        ).numpy()
    chosen = after[np.arange(len(after)), values.argmin(1)]
    return float(((chosen - after.min(1)) / (after.max(1) - after.min(1))).mean())


def trained_regret(dataset: Dataset, method: str, steps: Sequence[int]) -> list[float]:
    """Regret of a method's critic of safety after each number of steps, mean of the seeds."""
    critic, repeats, settings = CRITICS[method]
    config = ALGORITHMS[method].config_class.resolve(settings)
    population = make_population(
        ALGORITHMS[method], [config] * len(SEEDS), SEEDS, TASKS[TASK], dataset, 2 * max(steps), 1.0
    )
    places, found = places_where_directions_matter(), []
    for step in steps:
        population.advance(step)
        states = [population.member_state(member) for member in range(len(SEEDS))]
        regrets = [regret(state["params"][critic], *places, repeats) for state in states]
        found.append(float(np.mean(regrets)))
    return found


def told_regret(dataset: Dataset, steps: Sequence[int]) -> list[float]:
    """The same of perceptrons of that size, fitted to a function of the next state's true V."""
    truth = boat.true_feasible_set(TASK)
    target = torch.as_tensor(
        2 / (1 + np.exp(-8 * truth.value_at(dataset.next_observations))) - 1, dtype=torch.float32
    )
    pairs = [torch.as_tensor(column) for column in (dataset.observations, dataset.actions)]
    places = places_where_directions_matter()
    found = np.zeros((len(SEEDS), len(steps)))
    for row, seed in enumerate(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        networks = {"q": init_mlp(generator, hidden_sizes(4, 64, 2, 1), ensemble=2)}
        optimizer = init_adam(networks)
        for step in range(1, max(steps) + 1):
            rows = torch.randint(len(target), (256,), generator=generator)
            traced = differentiable(networks)
            error = evaluate_ensemble(traced["q"], pairs[0][rows], pairs[1][rows]) - target[rows]
            gradients = gradients_of(error.square().mean(-1).sum(), traced)
            with torch.no_grad():
                adam_(networks, gradients, optimizer, torch.tensor(1e-3))
            if step in steps:
                found[row, list(steps).index(step)] = regret(networks["q"], *places)
    return [float(value) for value in found.mean(0)]


def informed_cost(dataset: Dataset, safety_weight: float) -> list[float]:
    """Cost of the actor that is told V, 100 episodes a seed."""
    config = SafeFQL.config_class.resolve({**SETTINGS, "safety_weight": safety_weight})
    population = make_population(
        TrulyInformedSafeFQL, [config] * len(SEEDS), SEEDS, TASKS[TASK], dataset, 3000, 1.0
    )
    population.advance(3000)
    return [float(cost) for cost in population.evaluate("safefql", 100).cost_returns.mean(1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[2000, 8000])
    steps = sorted(parser.parse_args().steps)
    torch.set_num_threads(1)
    dataset = load_dataset(TASK)
    _, after = places_where_directions_matter()
    chance = ((after.mean(1) - after.min(1)) / (after.max(1) - after.min(1))).mean()
    print(f"regret of a random direction: {chance:.2f}")
    critics = {f"the critic of {name}": trained_regret(dataset, name, steps) for name in CRITICS}
    told = {"a perceptron that is told the true value": told_regret(dataset, steps)}
    for name, found in (critics | told).items():
        values = ", ".join(
            f"{value:.2f} after {step:,} steps" for step, value in zip(steps, found, strict=True)
        )
        print(f"regret of {name}: {values}")
    for weight in (1.0, 100.0):
        costs = informed_cost(dataset, weight)
        spread = ", ".join(f"{cost:.2f}" for cost in costs)
        print(f"cost of an actor told V, safety_weight {weight:g}: {np.mean(costs):.2f} ({spread})")


if __name__ == "__main__":
    main()
