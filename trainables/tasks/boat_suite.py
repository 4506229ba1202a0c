"""The boats as a suite: rolled out all at once, collected by hand-written behaviours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.data.dataset_layouts import MARGIN_KEY
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.boat_picture import VisibleBoat
from safesweep.trainables.tasks.simulator import Act, EpisodeBlock, Episodes, FloatArray
from safesweep.trainables.tasks.suite import Arrays, KnownFeasibility, Suite
from safesweep.trainables.tasks.task import Task

TRUTH_GRID = 101
"""States along each side of the grid on which feasibility is told."""


def _boat_task(
    key: str, returns: tuple[float, float], cost_limit: float, collected_episodes: int
) -> Task:
    """A boat's constants; `returns` normalise to 0 and 1."""
    name = f"{key}-v0"
    horizon = boat.BOATS[name].horizon
    return Task(
        name=name,
        key=key,
        observation_dim=2,
        action_dim=2,
        horizon=horizon,
        min_return=returns[0],
        max_return=returns[1],
        max_cost=float(horizon),
        cost_limits=(cost_limit,),
        collected_episodes=collected_episodes,
    )


def sail(task: Task, act: Act, seeds: NDArray[np.int64], spread: bool) -> Episodes:
    """Every boat of a population at once; an episode has no other end than the horizon.

    Args:
        seeds: [members, episodes].
        spread: the same starts for all members, spread evenly over the feasible set.
    """
    shape = seeds.shape
    if spread:
        starts = boat.spread_starts(shape[1], int(seeds[0, 0]), task.name)
    else:
        starts = boat.start_states(seeds.reshape(-1).tolist(), task.name).reshape(*shape, 2)
    boats = boat.BoatEnvironment(task.name, np.broadcast_to(starts, (*shape, 2)))
    reward_returns, cost_returns = np.zeros(shape), np.zeros(shape)
    policies = EpisodeBlock(act, slice(0, shape[0]), slice(0, shape[1]), shape)
    for step in range(task.horizon):
        asked = policies.actions(boats.observations, step)
        actions = np.clip(asked, -1.0, 1.0)
        _, rewards, costs = boats.step(actions)
        policies.answered(rewards, costs)
        reward_returns += rewards
        cost_returns += costs
    return Episodes(reward_returns, cost_returns, np.full(shape, task.horizon, dtype=np.int64))


class Voyage:
    """One boat, stepped by itself: a `Simulator` for methods that train in the environment."""

    def __init__(self, task: Task) -> None:
        self._name = task.name
        self._boat = boat.BoatEnvironment(task.name, np.zeros(2))

    def reset(self, seed: int) -> FloatArray:
        self._boat = boat.BoatEnvironment(self._name, boat.start_states([seed], self._name)[0])
        return self._boat.observations

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        observation, reward, cost = self._boat.step(action)
        return observation, float(reward), float(cost), False

    def close(self) -> None:
        """Nothing is held."""


def known_feasibility(task: Task) -> KnownFeasibility:
    """The true feasible set on a uniform grid over the box."""
    axes = [np.linspace(boat.LOW[i], boat.HIGH[i], TRUTH_GRID) for i in range(2)]
    states = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    feasible = boat.true_feasible_set(task.name).feasible(states)
    doomed = ~feasible & (boat.safety_margin(states, task.name) <= 0)
    return KnownFeasibility(states, feasible, doomed)


@dataclass(frozen=True)
class _Behaviour:
    """How a boat steers: heading(states [n, 2], obstacles [k, 3], parameters [n]) -> [n, 2].

    `parameters` are uniform in [-1, 1], one for each boat and episode.
    """

    name: str
    heading: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    noise: float


def _to_goal(states: FloatArray, obstacles: FloatArray, parameters: FloatArray) -> FloatArray:
    direction: FloatArray = boat.GOAL - states
    return direction


def _around(states: FloatArray, obstacles: FloatArray, parameters: FloatArray) -> FloatArray:
    """To the goal, pushed off the obstacles near by: upwards where the parameter is positive."""
    direction = boat.unit_actions(boat.GOAL - states)
    for x, y, radius in obstacles:
        away = states - np.array([x, y])
        distance = np.hypot(away[:, 0], away[:, 1])[:, None]
        nearness = np.exp(-np.maximum(distance - radius, 0.0) / 0.3)
        ahead = (away[:, :1] < radius).astype(float)
        side = np.stack([np.zeros(len(states)), np.sign(parameters)], axis=1)
        direction = direction + nearness * (away / distance + 2.0 * ahead * side)
    return direction


def _upstream(states: FloatArray, obstacles: FloatArray, parameters: FloatArray) -> FloatArray:
    """Against the current, drifting towards a height of its own."""
    height = 2.0 * parameters
    return np.stack([-np.ones(len(states)), 2.0 * (height - states[:, 1])], axis=1)


def _straight(states: FloatArray, obstacles: FloatArray, parameters: FloatArray) -> FloatArray:
    angle = np.pi * parameters
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


_BEHAVIOURS = (
    _Behaviour("to the goal", _to_goal, 0.5),
    _Behaviour("around the obstacles", _around, 0.3),
    _Behaviour("upstream", _upstream, 0.5),
    _Behaviour("straight", _straight, 0.3),
    _Behaviour("random", _straight, 3.0),
)

# Steps over which the boats' steering noise keeps its direction.
_NOISE_STEPS = 20
# Standard deviation of the noise that does not: it has a state's actions differ, from which critics
# learn what a single action is worth.
_ABRUPT_NOISE = 1.0


def _filling_the_box(directions: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Actions [n, 2] in these directions, uniform over their part of [-1, 1]^2.

    The boat scales an action to unit length, so that its length changes nothing. Were all of them
    on the unit circle, critics would have learned nothing off it, and an actor that climbs one goes
    there: what it outputs then is scaled to an arbitrary direction.
    """
    edge = 1.0 / np.abs(directions).max(axis=1, keepdims=True)
    # The share of a triangle's area that lies within a length grows with its square.
    shares = np.sqrt(generator.uniform(size=(len(directions), 1)))
    actions: FloatArray = directions * edge * shares
    return actions


def _spread_starts(episodes: int, generator: np.random.Generator) -> FloatArray:
    """Starts [episodes, 2] evenly spread over the box (a Latin square), denser upstream.

    The current carries every boat to the right, where it stays; uniform starts would leave few
    steps on the left.
    """
    places = [generator.permutation(episodes) + generator.uniform(size=episodes) for _ in range(2)]
    unit = np.stack(places, axis=1) / episodes
    unit[:, 0] **= 1.5
    starts: FloatArray = boat.LOW + (boat.HIGH - boat.LOW) * unit
    return starts


def collect_voyages(
    task: Task, episodes: int, seed: int, progress: Callable[[int, int], None] | None
) -> tuple[Arrays, dict[str, object]]:
    """A mix of hand-written behaviours that covers the whole box, with every state's margin."""
    generator, lengths = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    obstacles = boat.boat_of(task.name).obstacles
    boats = boat.BoatEnvironment(task.name, _spread_starts(episodes, generator))
    parameters = generator.uniform(-1.0, 1.0, episodes)
    chosen = np.arange(episodes) % len(_BEHAVIOURS)
    disturbance = np.zeros((episodes, 2))
    keep = np.exp(-1.0 / _NOISE_STEPS)
    observations = np.empty((episodes, task.horizon + 1, 2), dtype=np.float32)
    actions = np.empty((episodes, task.horizon, 2), dtype=np.float32)
    rewards = np.empty((episodes, task.horizon), dtype=np.float32)
    costs = np.empty_like(rewards)
    margins = np.empty_like(rewards)
    observations[:, 0] = boats.observations
    for step in range(task.horizon):
        fresh, abrupt = generator.standard_normal((2, episodes, 2))
        disturbance = keep * disturbance + np.sqrt(1 - keep**2) * fresh
        heading = np.empty((episodes, 2))
        for index, behaviour in enumerate(_BEHAVIOURS):
            rows = chosen == index
            planned = boat.unit_actions(
                behaviour.heading(boats.states[rows], obstacles, parameters[rows])
            )
            noise = behaviour.noise * disturbance[rows] + _ABRUPT_NOISE * abrupt[rows]
            heading[rows] = planned + noise
        actions[:, step] = _filling_the_box(boat.unit_actions(heading), lengths)
        margins[:, step] = boat.safety_margin(boats.states, task.name)
        observations[:, step + 1], rewards[:, step], costs[:, step] = boats.step(actions[:, step])
        if progress is not None:
            progress(episodes * (step + 1) // task.horizon, episodes)
    timeouts = np.zeros((episodes, task.horizon), dtype=bool)
    timeouts[:, -1] = True
    arrays = {
        "observations": observations[:, :-1].reshape(-1, 2),
        "next_observations": observations[:, 1:].reshape(-1, 2),
        "actions": actions.reshape(-1, 2),
        "rewards": rewards.reshape(-1),
        "costs": costs.reshape(-1),
        "terminals": np.zeros(episodes * task.horizon, dtype=bool),
        "timeouts": timeouts.reshape(-1),
        MARGIN_KEY: margins.reshape(-1),
    }
    method = "behaviour mix: " + ", ".join(behaviour.name for behaviour in _BEHAVIOURS)
    return arrays, {"method": method}


# Returns that normalise to 0 and 1 are those of uniformly random actions, and the best achievable
# when cost is ignored, each averaged over the starts (boat.reference_returns). The first two boats
# share dynamics and reward, so they share these. The limits: one step of 0.005 s, and a tenth of a
# step of 0.05 s, of which one is ten of the others and cloning keeps a limit of 1.
BOAT = Suite(
    name="boat",
    tasks=(
        _boat_task("BoatNavigation", (-710.8, -424.2), cost_limit=1.0, collected_episodes=700),
        _boat_task("BoatNavigationHard", (-710.8, -424.2), cost_limit=1.0, collected_episodes=700),
        _boat_task("BoatNavigationCoarse", (-71.7, -43.4), cost_limit=0.1, collected_episodes=3000),
    ),
    cost_limits=(1.0,),
    data_licence="none: data is collected by safesweep itself",
    rollout=sail,
    visible=VisibleBoat,
    online_simulator=Voyage,
    collect=collect_voyages,
    collector_version=4,
    known_feasibility=known_feasibility,
)
