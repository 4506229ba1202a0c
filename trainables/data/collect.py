"""Collecting a dataset from the real simulator, in DSRL's layout.

Where a suite has no collector of its own: a cross-entropy search (Rubinstein, 1999) of linear
policies on R - lambda * C, one search per lambda, and blends of the policies that they find. Every
episode is kept, so that the data goes from random to good and from safe to reckless.
The same task, number of episodes and seed always give the same file.
"""

from functools import partial
from pathlib import Path

import numpy as np

from safesweep.search_spaces.validation import InvalidInput, require_number
from safesweep.trainables.data.cache import collected_file, collector_version, default_episodes
from safesweep.trainables.data.dataset import Progress, write_dataset
from safesweep.trainables.tasks.recording import joined, record_episode
from safesweep.trainables.tasks.registry import (
    get_task,
    make_simulator,
    simulator_versions,
    suite_of,
)
from safesweep.trainables.tasks.simulator import FloatArray
from safesweep.trainables.tasks.suite import Arrays
from safesweep.trainables.tasks.task import Task

# Weights of cost in R - lambda * C, in units of the task's range of returns per its largest cost.
# Four of the six searches are careful ones: with fewer, hardly any rewarding episode is safe.
COST_WEIGHTS = (8.0, 4.0, 2.0, 1.0, 0.25, 0.0)
# Standard deviations of the noise added to actions; episodes take turns.
ACTION_NOISE = (0.0, 0.0, 0.1, 0.3)
POPULATION = 12
ELITES = 4
_SEARCH_DEVIATION = 0.3
_SMALLEST_DEVIATION = 0.05


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
    suite = suite_of(task)
    if not suite.collectable:
        source = (
            "its data is fetched"
            if task.dataset_urls
            else "give a file of its data (dataset: path.hdf5)"
        )
        raise InvalidInput(f"collect: {task.name} has no collector; {source}")
    versions = simulator_versions(task)
    arrays, said = (suite.collect or _search_policies)(task, count, seed, progress)
    provenance |= said
    if versions:
        provenance["simulator"] = versions
    return write_dataset(destination, arrays, provenance)


def _search_policies(
    task: Task, episodes: int, seed: int, progress: Progress | None
) -> tuple[Arrays, dict[str, object]]:
    simulator = make_simulator(task, collecting=True)
    generator = np.random.default_rng([seed, 0])
    recorded: list[Arrays] = []

    def record(weights: FloatArray) -> tuple[float, float]:
        noise = ACTION_NOISE[len(recorded) % len(ACTION_NOISE)]
        start = int(generator.integers(2**31))
        observation = simulator.reset(start)
        disturbances = noise * generator.standard_normal((task.horizon, task.action_dim))
        act = partial(_linear_policy, weights)
        episode = record_episode(simulator, observation, act, disturbances)
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
    return joined(recorded), {
        "method": "cross-entropy search of linear policies on R - lambda * C",
        "cost_weights": list(COST_WEIGHTS),
        "action_noise": list(ACTION_NOISE),
    }


def _linear_policy(weights: FloatArray, observation: FloatArray) -> FloatArray:
    actions: FloatArray = weights[:, :-1] @ observation + weights[:, -1]
    return actions
