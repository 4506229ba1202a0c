"""What a critic of safety must tell an actor on the boats, and which data and signals let it.

    python -m tests.benchmarks.boat_resolution [--steps 6000] [--exact-only]

Two measurements:

* What a *perfect* critic is worth, by its signal h: the discounted reachability value
  V = (1 - gamma) h + gamma max(h, min_a V') by dynamic programming, nothing learned. Where
  directions matter, how much worse the true value is after 0.1 s in the direction that the critic
  prefers than in the best, as a share of the difference between best and worst (the regret), and in
  what share of these places the critic calls all directions the same. And the cost of gating with
  it, which is what SafeFQL's actor is taught: to the goal where Q_h of that is at most a threshold,
  else in the direction of the lowest Q_h.
* What the lengths of the data's actions do to learned ones, on the coarse boat: SafeFQL on the data
  as it is collected, whose actions fill [-1, 1]^2, and on the same motion with actions of length 1.
  The cosine between the direction that Q_h prefers and the best one, by the length of the actions
  that it is asked about, and the cost of the actor.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from safesweep import TASKS, load_dataset
from safesweep.trainables.components.critics import evaluate_ensemble
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks import boat
from tests.trainables.populations import make_population

Array = npt.NDArray[np.floating[Any]]

BOATS = ("BoatNavigation-v0", "BoatNavigationCoarse-v0")
RESOLUTION = 0.04
LOOK_AHEAD = 0.1
EPISODES = 300
ANGLES = np.arange(16) * np.pi / 8
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)

SEEDS = (0, 1, 2)
SETTINGS: dict[str, Any] = {
    "hidden_dim": 64,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "target_update_rate": 0.02,
    "discount": 0.97,
    "violation_signal": 5.0,
    "safety_weight": 3.0,
    "distillation_weight": 0.03,
    "flow_steps": 5,
}
LENGTHS = (1.0, 0.6, 0.2)


@dataclass(frozen=True)
class Signal:
    """h, a discount, and the threshold of the gate.

    `violation` is h where there is cost, beside -1 elsewhere; None for the distance into the
    obstacle, in metres.
    """

    name: str
    violation: float | None
    discount: float
    threshold: float = 0.0

    def of(self, margins: Array) -> Array:
        """h of states with these safety margins."""
        return margins if self.violation is None else np.where(margins > 0, self.violation, -1.0)


SIGNALS = (
    Signal("+1/-1, discount 0.97", 1.0, 0.97),
    Signal("+5/-1, discount 0.97", 5.0, 0.97),
    Signal("+5/-1, discount 0.99", 5.0, 0.99),
    Signal("+25/-1, discount 0.99", 25.0, 0.99),
    Signal("margin, discount 0.99", None, 0.99),
    Signal("margin, discount 0.99, threshold -0.05", None, 0.99, -0.05),
    Signal("margin, discount 0.99, threshold -0.1", None, 0.99, -0.1),
)


class ExactCritic:
    """The value of a signal on a grid; an action is held for some steps, h is exact in each."""

    def __init__(self, task: str, signal: Signal) -> None:
        self._task, self._signal = task, signal
        sailed = boat.boat_of(task)
        self._time_step = sailed.time_step
        held = round(sailed.decision_seconds / sailed.time_step)
        self._x, self._y, points = boat._grid(RESOLUTION)
        signals = np.empty((held, len(DIRECTIONS), len(points)))
        ends = []
        for number, direction in enumerate(DIRECTIONS):
            states = points
            for step in range(held):
                signals[step, number] = signal.of(boat.safety_margin(states, task))
                states = boat.advance(
                    states, np.broadcast_to(direction, states.shape), self._time_step
                )
            ends.append(boat._bilinear(states, self._x, self._y))
        self._value = signals[0, 0]
        for _ in range(1000):
            following = np.stack([(self._value[at] * by).sum(axis=1) for at, by in ends])
            for h in signals[::-1]:
                following = _backup(h, following, signal.discount)
            updated = following.min(axis=0)
            change = float(np.abs(updated - self._value).max())
            self._value = updated
            if change < 1e-5:
                break

    def after(self, states: Array, directions: Array) -> Array:
        """Q_h(s, a): [..., 2] and unit directions [..., 2] -> [...]."""
        h = self._signal.of(boat.safety_margin(states, self._task))
        moved = boat.advance(states, directions, self._time_step)
        corners, weights = boat._bilinear(moved.reshape(-1, 2), self._x, self._y)
        following = (self._value[corners] * weights).sum(axis=1).reshape(h.shape)
        return _backup(h, following, self._signal.discount)

    def of_all_directions(self, states: Array) -> Array:
        """Q_h of every direction: [n, 2] -> [n, 16]."""
        shape = (len(states), *DIRECTIONS.shape)
        return self.after(
            np.broadcast_to(states[:, None], shape), np.broadcast_to(DIRECTIONS, shape)
        )


def _backup(h: Array, following: Array, discount: float) -> Array:
    return (1 - discount) * h + discount * np.maximum(h, following)


def places_where_directions_matter(task: str) -> tuple[Array, Array]:
    """States [n, 2] near the obstacles, and the true value [n, 16] after each direction."""
    truth = boat.true_feasible_set(task)
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


def regret(values: Array, after: Array) -> float:
    """Mean regret of the direction of the lowest value, both [n, 16]."""
    chosen = after[np.arange(len(after)), values.argmin(1)]
    return float(((chosen - after.min(1)) / (after.max(1) - after.min(1))).mean())


def gated_cost(task: str, critic: ExactCritic, threshold: float) -> float:
    """Mean episode cost of heading for the goal where the critic allows it."""
    boats = boat.BoatEnvironment(task, boat.spread_starts(EPISODES, 1, task))
    total = np.zeros(EPISODES)
    for _ in range(boat.boat_of(task).horizon):
        states = boats.states
        goal = boat.unit_actions(boat.GOAL - states)
        safest = DIRECTIONS[critic.of_all_directions(states).argmin(1)]
        allowed = critic.after(states, goal) <= threshold
        _, _, costs = boats.step(np.where(allowed[:, None], goal, safest))
        total += costs
    return float(total.mean())


def print_exact_critics(task: str) -> None:
    """A line for each signal."""
    states, after = places_where_directions_matter(task)
    chance = ((after.mean(1) - after.min(1)) / (after.max(1) - after.min(1))).mean()
    print(f"{task}: regret of a random direction {chance:.2f}; of perfect critics by their signal")
    for signal in SIGNALS:
        critic = ExactCritic(task, signal)
        values = critic.of_all_directions(states)
        spread = values.max(1) - values.min(1)
        same = float((spread < 1e-3 * (values.max() - values.min())).mean())
        cost = gated_cost(task, critic, signal.threshold)
        print(
            f"  {signal.name}: regret {regret(values, after):.2f}, all directions the same in "
            f"{same:.0%}, cost of gating {cost:.2f}",
            flush=True,
        )


def on_the_circle(dataset: Dataset) -> Dataset:
    """The same motion with actions of length 1."""
    return replace(dataset, actions=boat.unit_actions(dataset.actions).astype(np.float32))


def print_learned_critics(dataset: Dataset, name: str, steps: int) -> None:
    """Cosines of SafeFQL's critic by the length of actions, and the cost of its actor."""
    task = TASKS[BOATS[1]]
    config = ALGORITHMS["safefql"].config_class.resolve(SETTINGS)
    population = make_population(
        ALGORITHMS["safefql"], [config] * len(SEEDS), SEEDS, task, dataset, steps, task.cost_limit
    )
    population.advance(steps)
    states, after = places_where_directions_matter(task.name)
    best = ANGLES[after.argmin(1)]
    observations = torch.as_tensor(states, dtype=torch.float32)
    cosines = np.empty((len(SEEDS), len(LENGTHS)))
    for member in range(len(SEEDS)):
        layers = population.member_state(member)["params"]["safety_q"]
        for column, length in enumerate(LENGTHS):
            asked = torch.as_tensor(length * DIRECTIONS, dtype=torch.float32)
            with torch.no_grad():
                values = [
                    evaluate_ensemble(layers, observations, one.repeat(len(states), 1)).amax(0)
                    for one in asked
                ]
            preferred = ANGLES[torch.stack(values).argmin(0).numpy()]
            cosines[member, column] = np.cos(preferred - best).mean()
    costs = population.evaluate("safefql", EPISODES).cost_returns.mean(1)
    shown = ", ".join(
        f"{cosine:+.2f} at length {length:g}"
        for cosine, length in zip(cosines.mean(0), LENGTHS, strict=True)
    )
    spread = ", ".join(f"{cost:.2f}" for cost in costs)
    print(f"  actions {name}: cosine {shown}; the actor's cost {spread}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--exact-only", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for task in BOATS:
        print_exact_critics(task)
    if arguments.exact_only:
        return
    dataset = load_dataset(BOATS[1], "collect")
    print(f"{BOATS[1]}: SafeFQL's critic after {arguments.steps:,} steps, by the data's actions")
    print_learned_critics(dataset, "that fill the box", arguments.steps)
    print_learned_critics(on_the_circle(dataset), "of length 1", arguments.steps)


if __name__ == "__main__":
    main()
