"""The boat in a river: SafeFQL's first domain, vectorised, with its exact feasible set.

State (x, y) in metres in the box [-3, 2] x [-2, 2]; a current of 2 - 0.5 y^2 carries the boat to
the right: x' = u1 + 2 - 0.5 y^2, y' = u2. Actions are scaled to unit length. One step is one Euler
step, of 0.005 s, after which the state is clipped to the box; an episode has 400 steps, 2 s. These
constants are those of the public BoatNavigation environment of SafeFQL's authors. There are two
further boats, both ours: BoatNavigationHard moves the obstacles so that they close the passage,
and BoatNavigationCoarse takes the same 2 s in 40 steps of 0.05 s, so that one action moves the boat
by 5 to 15 cm instead of 5 to 15 mm.

An evaluated episode starts anywhere in the box from which the obstacles can still be avoided; so do
the authors' evaluations, all of whose starts are feasible. From starts anywhere at all no policy
would have fewer than 2.0 (hard: 5.3) unsafe steps an episode (dynamic programming over the whole
box), twice the limit and more, and every comparison of policies would report that none is safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from safesweep.search_spaces.validation import require_choice

FloatArray = NDArray[np.floating[Any]]

LOW = np.array([-3.0, -2.0])
HIGH = np.array([2.0, 2.0])
GOAL = np.array([1.5, 0.0])


@dataclass(frozen=True, eq=False)
class Boat:
    """What one boat does not share with the others.

    Attributes:
        obstacles: [k, 3], centre x, centre y and radius of each, in metres.
        time_step: seconds in a step.
        horizon: steps in an episode.
        decision_seconds: how long dynamic programming has an action held.
    """

    obstacles: FloatArray
    time_step: float = 0.005
    horizon: int = 400
    decision_seconds: float = 0.1


_OPEN_RIVER = np.array([[-0.5, 0.5, 0.4], [-1.0, -1.2, 0.5]])

BOATS = {
    "BoatNavigation-v0": Boat(_OPEN_RIVER),
    "BoatNavigationHard-v0": Boat(
        np.array([[-0.5, 0.5, 0.5], [-1.0, -1.2, 0.5], [-0.6, -0.35, 0.45]])
    ),
    # A step is a decision, and nothing between two states is looked at.
    "BoatNavigationCoarse-v0": Boat(_OPEN_RIVER, time_step=0.05, horizon=40, decision_seconds=0.05),
}


def boat_of(task_name: str) -> Boat:
    """The boat of a task.

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    return BOATS[require_choice("task", task_name, BOATS)]


def safety_margin(states: ArrayLike, task_name: str = "BoatNavigation-v0") -> FloatArray:
    """h(s): the largest of obstacle radius minus distance to its centre, in metres.

    Args:
        states: [..., 2].

    Returns:
        [...]; positive inside an obstacle.

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    positions = np.asarray(states)[..., :2]
    margins: FloatArray | None = None
    for x, y, radius in boat_of(task_name).obstacles:
        margin = radius - np.hypot(positions[..., 0] - x, positions[..., 1] - y)
        margins = margin if margins is None else np.maximum(margins, margin)
    assert margins is not None
    return margins


def unit_actions(actions: ArrayLike) -> FloatArray:
    """Actions [..., 2] scaled to unit length; a zero action stays zero."""
    array = np.asarray(actions, dtype=np.float64)
    return array / (np.hypot(array[..., 0], array[..., 1])[..., None] + 1e-8)


def advance(states: FloatArray, directions: FloatArray, time_step: float) -> FloatArray:
    """One Euler step of `time_step` seconds; `directions` [..., 2] have unit length."""
    x, y = states[..., 0], states[..., 1]
    next_x = x + time_step * (directions[..., 0] + 2.0 - 0.5 * y * y)
    next_y = y + time_step * directions[..., 1]
    return np.stack([np.clip(next_x, LOW[0], HIGH[0]), np.clip(next_y, LOW[1], HIGH[1])], axis=-1)


def start_states(seeds: Sequence[int], task_name: str = "BoatNavigation-v0") -> FloatArray:
    """Start of the episode of each seed, uniform over the true feasible set: [len(seeds), 2].

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    feasible = true_feasible_set(task_name).feasible
    starts = np.empty((len(seeds), 2))
    for index, seed in enumerate(seeds):
        generator = np.random.default_rng(seed)
        # Blocks of proposals: the first is accepted in 8 (hard) to 9 cases of 10.
        while True:
            proposals = generator.uniform(LOW, HIGH, (4, 2))
            accepted = np.flatnonzero(feasible(proposals))
            if accepted.size:
                starts[index] = proposals[accepted[0]]
                break
    return starts


def spread_starts(count: int, seed: int, task_name: str = "BoatNavigation-v0") -> FloatArray:
    """Starts spread evenly over the true feasible set: [count, 2]; the first ones of more are the
    same.

    The points of an additive lattice that `seed` shifts, of which the infeasible ones are left out.
    Each is uniform over the set, and the mean over many of them is nearer to that over the set than
    with independent starts: of 300, the mean cost of a policy by several times. Source: additive
    recurrence (Kronecker) with the powers of the plastic number, Niederreiter (1992), chapter 3.

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    feasible = true_feasible_set(task_name).feasible
    shift = np.random.default_rng(seed).random(2)
    plastic = 1.324717957244746
    # At least 8 of 10 points are feasible.
    numbers = np.arange(2 * count + 16)[:, None]
    points = (shift + numbers * np.array([1 / plastic, 1 / plastic**2])) % 1.0
    points = np.asarray(LOW) + points * (np.asarray(HIGH) - np.asarray(LOW))
    return np.asarray(points[np.flatnonzero(feasible(points))[:count]])


class BoatEnvironment:
    """Any number of boats stepped together; every array may have any leading shape.

    The reward of step t is minus the distance of s_t to the goal, and its cost is 1 if h(s_t) > 0:
    both describe the state in which the action is taken, so that `costs[t]` labels
    `observations[t]`.
    """

    def __init__(self, task_name: str, states: ArrayLike) -> None:
        """Boats at `states` [..., 2].

        Raises:
            InvalidInput: `task_name` is not one of the boats.
        """
        self.task_name = task_name
        self._time_step = boat_of(task_name).time_step
        self.states: FloatArray = np.array(states, dtype=np.float64)

    @property
    def observations(self) -> FloatArray:
        """The states as float32, [..., 2]."""
        return self.states.astype(np.float32)

    def step(self, actions: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Apply `actions` [..., 2]: returns (next observations, rewards, costs)."""
        distance = np.hypot(self.states[..., 0] - GOAL[0], self.states[..., 1] - GOAL[1])
        costs = (safety_margin(self.states, self.task_name) > 0).astype(np.float64)
        self.states = advance(self.states, unit_actions(actions), self._time_step)
        return self.observations, -distance, costs


@dataclass(frozen=True)
class FeasibleSet:
    """The value V(s) = min over policies of the largest h on the way from s, on a grid.

    V <= 0 where some policy never enters an obstacle. What counts are the states of the steps: a
    coarse boat may cut the edge of an obstacle within a step.

    Attributes:
        grid_x: [nx], ascending.
        grid_y: [ny], ascending.
        value: [nx, ny], metres.
    """

    task_name: str
    grid_x: FloatArray
    grid_y: FloatArray
    value: FloatArray

    def value_at(self, states: ArrayLike) -> FloatArray:
        """V at states [..., 2], by bilinear interpolation; never below h(s), which is exact."""
        array = np.asarray(states, dtype=np.float64)
        corners, weights = _bilinear(array.reshape(-1, 2), self.grid_x, self.grid_y)
        values = (self.value.reshape(-1)[corners] * weights).sum(axis=-1).reshape(array.shape[:-1])
        return np.maximum(values, safety_margin(array, self.task_name))

    def feasible(self, states: ArrayLike) -> NDArray[np.bool_]:
        """Whether some policy keeps the boat out of every obstacle for ever, [...]."""
        return self.value_at(states) <= 0


def _bilinear(
    points: FloatArray, grid_x: FloatArray, grid_y: FloatArray
) -> tuple[NDArray[np.int64], FloatArray]:
    """Flat indices and weights, both [n, 4], of the grid corners around points [n, 2]."""
    scaled_x = (points[:, 0] - grid_x[0]) / (grid_x[1] - grid_x[0])
    scaled_y = (points[:, 1] - grid_y[0]) / (grid_y[1] - grid_y[0])
    left = np.clip(scaled_x.astype(np.int64), 0, len(grid_x) - 2)
    below = np.clip(scaled_y.astype(np.int64), 0, len(grid_y) - 2)
    right_weight = np.clip(scaled_x - left, 0.0, 1.0)
    above_weight = np.clip(scaled_y - below, 0.0, 1.0)
    corner = left * len(grid_y) + below
    corners = np.stack([corner, corner + 1, corner + len(grid_y), corner + len(grid_y) + 1], axis=1)
    weights = np.stack(
        [
            (1 - right_weight) * (1 - above_weight),
            (1 - right_weight) * above_weight,
            right_weight * (1 - above_weight),
            right_weight * above_weight,
        ],
        axis=1,
    )
    return corners, weights


def _grid(resolution: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Grid axes with about `resolution` metres between lines, and their points [nx * ny, 2]."""
    grid_x, grid_y = (
        np.linspace(low, high, round((high - low) / resolution) + 1)
        for low, high in zip(LOW, HIGH, strict=True)
    )
    points = np.stack(np.meshgrid(grid_x, grid_y, indexing="ij"), axis=-1).reshape(-1, 2)
    return grid_x, grid_y, points


def _directions(count: int) -> FloatArray:
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


# A held action is integrated in steps of so many seconds, or the boat's own where these are longer:
# short enough that no obstacle is jumped over that the boat itself would meet.
_SUBSTEP = 0.0125


@cache
def true_feasible_set(
    task_name: str, resolution: float = 0.02, time_step: float | None = None, actions: int = 24
) -> FeasibleSet:
    """The largest set in which the boat can stay out of every obstacle, by dynamic programming.

    Iterates V(s) = min over actions of max(largest h while the action is held, V(s')) from V = h
    to its fixed point. An action is held for `time_step` seconds, where steps are of 0.005 s far
    longer than one: each iteration interpolates V once and so smears it by a fraction of a
    grid cell, and steps that move less than a cell would smear it more than they move it. h is
    checked exactly along the way. Computed once per process and argument list (about a second).

    Args:
        task_name: one of the boats.
        resolution: metres between grid lines.
        time_step: seconds for which an action is held, the boat's `decision_seconds` by default.
        actions: number of directions on the unit circle.

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    from scipy import sparse

    grid_x, grid_y, points = _grid(resolution)
    margin = safety_margin(points, task_name)
    count = len(points)
    sailed = boat_of(task_name)
    time_step = sailed.decision_seconds if time_step is None else time_step
    substeps = max(1, round(time_step / max(_SUBSTEP, sailed.time_step)))
    interpolations, worst = [], []
    for direction in _directions(actions):
        states, largest = points, margin
        for _ in range(substeps):
            states = advance(states, np.broadcast_to(direction, states.shape), time_step / substeps)
            largest = np.maximum(largest, safety_margin(states, task_name))
        corners, weights = _bilinear(states, grid_x, grid_y)
        row_starts = np.arange(0, 4 * count + 1, 4)
        interpolations.append(
            sparse.csr_matrix(
                (weights.reshape(-1), corners.reshape(-1), row_starts),
                shape=(count, count),
            )
        )
        worst.append(largest)
    interpolate = sparse.vstack(interpolations).tocsr()
    largest_on_way = np.stack(worst)
    value = margin
    # Every state leaves the obstacles' columns or rests against a wall within 5 s, so that the
    # iteration ends; the bound only guards against a change that breaks this.
    for _ in range(1000):
        following = (interpolate @ value).reshape(actions, count)
        updated = np.maximum(following, largest_on_way).min(axis=0)
        change = float(np.abs(updated - value).max())
        value = updated
        if change < 1e-5:
            break
    shape = (len(grid_x), len(grid_y))
    return FeasibleSet(task_name, grid_x, grid_y, np.ascontiguousarray(value.reshape(shape)))


def reference_returns(
    task_name: str = "BoatNavigation-v0",
    resolution: float = 0.05,
    decisions: int = 40,
    actions: int = 24,
    episodes: int = 4000,
) -> tuple[float, float]:
    """Mean episode returns over the starts: of uniformly random actions, and of the best.

    The best ignores cost: finite-horizon dynamic programming backwards over `decisions` equal
    parts of an episode, an action being held in each. These are the boats' normalising constants.

    Raises:
        InvalidInput: `task_name` is not one of the boats.
    """
    sailed = boat_of(task_name)
    starts = start_states(range(episodes), task_name)
    generator = np.random.default_rng(episodes)
    boats = BoatEnvironment(task_name, starts)
    random_return = 0.0
    for _ in range(sailed.horizon):
        _, rewards, _ = boats.step(generator.uniform(-1, 1, (episodes, 2)))
        random_return += float(rewards.mean())

    grid_x, grid_y, points = _grid(resolution)
    held = sailed.horizon // decisions
    branches = []
    for direction in _directions(actions):
        states, reward = points, np.zeros(len(points))
        for _ in range(held):
            reward = reward - np.hypot(states[:, 0] - GOAL[0], states[:, 1] - GOAL[1])
            states = advance(states, np.broadcast_to(direction, states.shape), sailed.time_step)
        branches.append((reward, *_bilinear(states, grid_x, grid_y)))
    value = np.zeros(len(points))
    for _ in range(decisions):
        value = np.max(
            [
                reward + (value[corners] * weights).sum(axis=1)
                for reward, corners, weights in branches
            ],
            axis=0,
        )
    corners, weights = _bilinear(starts, grid_x, grid_y)
    return random_return, float((value[corners] * weights).sum(axis=1).mean())
