"""Collecting a dataset from the real simulator, in DSRL's layout.

For simulators: a cross-entropy search (Rubinstein, 1999) of linear policies on R - lambda * C, one
search per lambda, and blends of the policies that they find. Every episode is kept, so that the
data goes from random to good and from safe to reckless. For MetaDrive: the simulator's own drivers
at speeds from careful to reckless, as DSRL's data was made. For the boats: a mix of hand-written
behaviours that covers the whole box.
The same task, number of episodes and seed always give the same file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import InvalidInput, require_number
from safesweep.trainables.data.cache import collected_file, collector_version, default_episodes
from safesweep.trainables.data.dataset import Progress, write_dataset
from safesweep.trainables.data.dataset_layouts import MARGIN_KEY
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.dsrl_imports import Simulator, make_simulator, simulator_versions
from safesweep.trainables.tasks.metadrive import MetaDriveSimulator
from safesweep.trainables.tasks.registry import Task, get_task

FloatArray = NDArray[np.floating[Any]]

# Weights of cost in R - lambda * C, in units of the task's range of returns per its largest cost.
# Four of the six searches are careful ones: with fewer, hardly any rewarding episode is safe.
COST_WEIGHTS = (8.0, 4.0, 2.0, 1.0, 0.25, 0.0)
# Standard deviations of the noise added to actions; episodes take turns.
ACTION_NOISE = (0.0, 0.0, 0.1, 0.3)
POPULATION = 12
ELITES = 4
_SEARCH_DEVIATION = 0.3
_SMALLEST_DEVIATION = 0.05

# km/h. At 10.7 an episode of the easy road that does not end early costs 10; DSRL drove at 5 to 21.
TARGET_SPEEDS = (5.0, 40.0)
# Standard deviations of the noise added to the drivers' actions, drawn for each episode.
DRIVING_NOISE = (0.0, 0.05, 0.1, 0.2)
# Every so many episodes the expert drives.
_EXPERT_TURN = 6

Act = Callable[[FloatArray], FloatArray]
"""observation [o] -> action [a], which may leave the bounds."""


def collect_dataset(
    task: Task | str,
    episodes: int | None = None,
    seed: int = 0,
    path: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Collect `episodes` episodes of `task` and write them as an HDF5 file.

    Args:
        episodes: default as `default_episodes` says.
        seed: any whole number >= 0.
        path: the file to write, default `datasets.collected_file`.
        progress: called with (episodes done, episodes) as they are done.

    Raises:
        InvalidInput: the simulator is not installed, a bad number, or a place not writable.
    """
    task = get_task(task) if isinstance(task, str) else task
    count = int(
        require_number(
            "episodes",
            default_episodes(task) if episodes is None else episodes,
            low=1,
            integer=True,
        )
    )
    seed = int(require_number("seed", seed, low=0, integer=True))
    destination = Path(path) if path is not None else collected_file(task, count, seed)
    provenance: dict[str, object] = {
        "collector": "safesweep",
        "collector_version": collector_version(task),
        "task": task.name,
        "episodes": count,
        "seed": seed,
    }
    if task.suite == "ogbench":
        raise InvalidInput(f"collect: {task.name} has no collector; its data is OGBench's (fetch)")
    versions = simulator_versions(task)
    if task.suite == "boat":
        arrays = _collect_boat(task, count, seed, progress)
        provenance["method"] = "behaviour mix: " + ", ".join(b.name for b in _BEHAVIOURS)
    elif task.suite == "metadrive":
        arrays = _collect_metadrive(task, count, seed, progress)
        provenance["method"] = "MetaDrive's intelligent driver model and PPO expert, with noise"
        provenance["target_speeds"] = list(TARGET_SPEEDS)
        provenance["action_noise"] = list(DRIVING_NOISE)
        provenance["simulator"] = versions
    else:
        arrays = _collect_simulator(task, count, seed, progress)
        provenance["method"] = "cross-entropy search of linear policies on R - lambda * C"
        provenance["cost_weights"] = list(COST_WEIGHTS)
        provenance["action_noise"] = list(ACTION_NOISE)
        provenance["simulator"] = versions
    return write_dataset(destination, arrays, provenance)


def _collect_simulator(
    task: Task, episodes: int, seed: int, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    simulator = make_simulator(task, reuse=True)
    generator = np.random.default_rng([seed, 0])
    recorded: list[dict[str, NDArray[Any]]] = []

    def record(weights: FloatArray) -> tuple[float, float]:
        noise = ACTION_NOISE[len(recorded) % len(ACTION_NOISE)]
        start = int(generator.integers(2**31))
        observation = simulator.reset(start)
        disturbances = noise * generator.standard_normal((task.horizon, task.action_dim))
        act = partial(_linear_policy, weights)
        episode = _record_episode(simulator, observation, act, disturbances)
        recorded.append(episode)
        if progress is not None:
            progress(len(recorded), episodes)
        return float(episode["rewards"].sum()), float(episode["costs"].sum())

    # Policies are weights [a, o + 1] of the observation and a constant.
    mean = np.zeros((task.action_dim, task.observation_dim + 1))
    found = []
    per_cost = (task.max_return - task.min_return) / task.max_cost
    shares = np.diff(np.linspace(0, episodes, len(COST_WEIGHTS) + 2).astype(int))
    try:
        # From careful to reckless: each search goes on where the last one ended.
        for cost_weight, share in zip(COST_WEIGHTS, shares[:-1], strict=True):
            deviation = np.full(mean.shape, _SEARCH_DEVIATION)
            remaining = int(share)
            while remaining:
                size = min(POPULATION, remaining)
                remaining -= size
                candidates = mean + deviation * generator.standard_normal((size, *mean.shape))
                outcomes = [record(weights) for weights in candidates]
                scores = np.array([reward - cost_weight * per_cost * c for reward, c in outcomes])
                if size > ELITES:
                    best = candidates[np.argsort(-scores, kind="stable")[:ELITES]]
                    mean = best.mean(axis=0)
                    deviation = np.maximum(best.std(axis=0), _SMALLEST_DEVIATION)
            found.append(mean)
        # The searches end at a few places between safe and good; blends lie between those.
        for _ in range(int(shares[-1])):
            first = int(generator.integers(len(found) - 1))
            share = generator.uniform()
            record((1 - share) * found[first] + share * found[first + 1])
    finally:
        simulator.close()
    return _joined(recorded)


def _collect_metadrive(
    task: Task, episodes: int, seed: int, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    simulator = make_simulator(task)
    assert isinstance(simulator, MetaDriveSimulator)
    generator = np.random.default_rng([seed, 0])
    # Spread evenly over the logarithm, so that any number of episodes has careful ones.
    places = (generator.permutation(episodes) + generator.uniform(size=episodes)) / episodes
    slowest, fastest = TARGET_SPEEDS
    recorded = []
    try:
        for episode, speed in enumerate(slowest * (fastest / slowest) ** places):
            start, readiness = (int(number) for number in generator.integers(2**31, size=2))
            observation = simulator.reset(start)
            noise = generator.choice(DRIVING_NOISE)
            disturbances = noise * generator.standard_normal((task.horizon, task.action_dim))
            if episode % _EXPERT_TURN == _EXPERT_TURN - 1:
                driver = simulator.follow_expert()
            else:
                driver = simulator.follow_traffic(speed, readiness)
            recorded.append(_record_episode(simulator, observation, driver, disturbances))
            if progress is not None:
                progress(len(recorded), episodes)
    finally:
        simulator.close()
    return _joined(recorded)


def _joined(episodes: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}


def _linear_policy(weights: FloatArray, observation: FloatArray) -> FloatArray:
    actions: FloatArray = weights[:, :-1] @ observation + weights[:, -1]
    return actions


def _record_episode(
    simulator: Simulator, observation: FloatArray, act: Act, disturbances: FloatArray
) -> dict[str, NDArray[Any]]:
    """Run an episode that has been reset; `disturbances` [horizon, a] are added to actions."""
    observations, actions, rewards, costs = [observation], [], [], []
    terminated = False
    for disturbance in disturbances:
        # What is stored must be what was done, so the rounding to float32 comes first.
        action = np.clip(act(observation) + disturbance, -1.0, 1.0).astype(np.float32)
        observation, reward, cost, terminated = simulator.step(action.astype(np.float64))
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        costs.append(cost)
        if terminated:
            break
    states = np.asarray(observations, dtype=np.float32)
    terminals = np.zeros(len(rewards), dtype=bool)
    timeouts = np.zeros(len(rewards), dtype=bool)
    (terminals if terminated else timeouts)[-1] = True
    return {
        "observations": states[:-1],
        "next_observations": states[1:],
        "actions": np.asarray(actions),
        "rewards": np.asarray(rewards, dtype=np.float32),
        "costs": np.asarray(costs, dtype=np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


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
# learn what a single action of 0.005 s is worth.
_ABRUPT_NOISE = 1.0


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


def _collect_boat(
    task: Task, episodes: int, seed: int, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng([seed, 0])
    obstacles = boat.OBSTACLES[task.name]
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
        actions[:, step] = boat.unit_actions(heading)
        margins[:, step] = boat.safety_margin(boats.states, task.name)
        observations[:, step + 1], rewards[:, step], costs[:, step] = boats.step(actions[:, step])
        if progress is not None:
            progress(episodes * (step + 1) // task.horizon, episodes)
    timeouts = np.zeros((episodes, task.horizon), dtype=bool)
    timeouts[:, -1] = True
    return {
        "observations": observations[:, :-1].reshape(-1, 2),
        "next_observations": observations[:, 1:].reshape(-1, 2),
        "actions": actions.reshape(-1, 2),
        "rewards": rewards.reshape(-1),
        "costs": costs.reshape(-1),
        "terminals": np.zeros(episodes * task.horizon, dtype=bool),
        "timeouts": timeouts.reshape(-1),
        MARGIN_KEY: margins.reshape(-1),
    }
