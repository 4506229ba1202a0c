"""Five tiny safe decision problems whose answers are known, side by side in one dataset.

Each has states of its own, far enough apart that a small network keeps them apart, so that one
training answers all five. The discount is `DISCOUNT`, and of an action's two numbers only the
first, a, matters.

1. constant_reward: reward 1 a step for ever (its episodes are cut off, they do not end), so that
   V_r = 1 / (1 - discount) = 4.
2. two_step_cost: `cost_ahead`, then `costly` with cost 1, where the episode ends. The discounted
   costs are 0.75 and 1. With h = 1 where the cost is and -1 elsewhere, the feasibility values are
   -(1 - discount) + discount = 0.5 and 1.
3. unavoidable_violation: from `doomed` every action leads to a violation, to one for a < 0 and to
   another for a > 0; from `free` the action a > 0 leads out.
4. poor_or_rich: at `fork`, a < 0 is safe and pays nothing; a > 0 pays 1 and leads to a cost of 1.
5. two_modes: at `modes` the data act a = -0.8 or 0.8, which is safe, each in 45 of 100 episodes;
   in the other 10 |a| is below 0.2, which costs 1. The mean of the modes is unsafe.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.tasks.registry import Task, get_task

DISCOUNT = 0.75
COST_LIMIT = 1.0
MODE = 0.8
MIDDLE = 0.25
GAP = 0.3
END = "end"

# Points of the plane, 1.5 apart along a ring of radius 3.
_NAMES = (
    "constant", "cost_ahead", "costly", "doomed", "free", "left_violation", "right_violation",
    "outlet", "fork", "poor", "rich", "modes", "end",
)  # fmt: skip
STATES: dict[str, tuple[float, float]] = {
    name: (
        float(3 * np.cos(2 * np.pi * index / len(_NAMES))),
        float(3 * np.sin(2 * np.pi * index / len(_NAMES))),
    )
    for index, name in enumerate(_NAMES)
}

# A step: state, first number of the action, reward, cost, next state.
Step = tuple[str, float, float, float, str]


def analytic_task() -> Task:
    """A task of these shapes; one of its steps is worth reward 1 after scaling."""
    return replace(
        get_task("BoatNavigation-v0"),
        name="AnalyticProblems",
        horizon=10,
        min_return=0.0,
        max_return=10.0,
        cost_limits=(COST_LIMIT,),
    )


def analytic_dataset(seed: int = 0) -> Dataset:
    """Episodes of all five problems in turn, about 2,300 steps."""
    rng = np.random.default_rng(seed)
    episodes: list[list[Step]] = []
    ended: list[bool] = []

    def add(steps: list[Step], terminal: bool = True) -> None:
        episodes.append(steps)
        ended.append(terminal)

    def anything() -> float:
        return float(rng.uniform(-0.9, 0.9))

    for number in range(200):
        sign = 1 if number % 2 else -1
        choice = float(sign * rng.uniform(GAP, 0.9))
        if number % 2:
            stay: list[Step] = [("constant", anything(), 1.0, 0.0, "constant") for _ in range(4)]
            add(stay, terminal=False)
        add([("cost_ahead", anything(), 0.0, 0.0, "costly"), ("costly", anything(), 0.0, 1.0, END)])
        side = "right_violation" if sign > 0 else "left_violation"
        add([("doomed", choice, 0.0, 0.0, side), (side, anything(), 0.0, 1.0, END)])
        way, cost = ("outlet", 0.0) if sign > 0 else ("left_violation", 1.0)
        add([("free", choice, 0.0, 0.0, way), (way, anything(), 0.0, cost, END)])
        way, paid = ("rich", 1.0) if sign > 0 else ("poor", 0.0)
        add([("fork", choice, paid, 0.0, way), (way, anything(), 0.0, paid, END)])
        middle = number % 20 < 2
        act = float(
            rng.uniform(-0.2, 0.2) if middle else sign * rng.uniform(MODE - 0.1, MODE + 0.1)
        )
        add([("modes", act, 0.0, float(middle), END)])
    return _as_dataset(episodes, ended, rng)


def _as_dataset(
    episodes: Sequence[list[Step]], ended: Sequence[bool], rng: np.random.Generator
) -> Dataset:
    steps = [step for episode in episodes for step in episode]
    last = np.cumsum([len(episode) for episode in episodes]) - 1
    terminals, timeouts = np.zeros((2, len(steps)), dtype=bool)
    terminals[last], timeouts[last] = np.array(ended), ~np.array(ended)
    second = rng.uniform(-0.5, 0.5, size=len(steps))
    actions = np.stack([[step[1] for step in steps], second], axis=1)
    return Dataset(
        task="AnalyticProblems",
        dataset_id="analytic",
        observations=points([step[0] for step in steps]),
        next_observations=points([step[4] for step in steps]),
        actions=actions.astype(np.float32),
        rewards=np.array([step[2] for step in steps], dtype=np.float32),
        costs=np.array([step[3] for step in steps], dtype=np.float32),
        terminals=terminals,
        timeouts=timeouts,
    )


def points(names: Sequence[str]) -> NDArray[np.float32]:
    """Observations [n, 2] of states by name."""
    return np.array([STATES[name] for name in names], dtype=np.float32)
