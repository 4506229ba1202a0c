"""Evaluating a population at once against one policy and one episode at a time.

    python -m tests.benchmarks.evaluation_speed [--task OfflineBallRun-v0] [--policies 12]
        [--episodes 20] [--method lspc] [--rounds 3] [--threads 2] [--json FILE]

All sides run the same freshly initialised policies of two layers of 256 units, and take turns;
medians count. The population simulates in `--threads` processes. The plain side makes our simulator
for each episode and asks the policy for one action at a time, without a population around it. The
usual side does so in DSRL's own environment, made once and reset, as public evaluation loops do.
Both are measured on `--plain-policies` of the policies. `acting` is the share of the population's
time in which policies are asked; the simulators of several processes go on meanwhile.

Then it prints the latency of acting, for every method at its paper's sizes: of one policy for one
observation, and a policy of a population of `--policies`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.benchmarks.measurement import (
    add_json_option,
    print_table,
    random_dataset,
    write_json,
)
from tests.benchmarks.training_cost import PAPER_SIZES


def population_of(method: str, task_name: str, size: int, values: dict[str, Any]) -> Any:
    """Untrained members of a method."""
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import get_task
    from tests.trainables.populations import make_population

    task = get_task(task_name)
    config = ALGORITHMS[method].config_class.resolve(values)
    seeds = list(range(size))
    return make_population(
        ALGORITHMS[method],
        [config] * size,
        seeds,
        task,
        random_dataset(task_name, 2_000, 100),
        100,
        task.cost_limit,
    )


def plain_action(population: Any, member: int, policy: str) -> Callable[[Any], Any]:
    """One run's policy, asked for one action at a time."""
    import torch
    from torch.utils._pytree import tree_map

    from safesweep.trainables.training.acting import draw_noise

    state = population.member_state(member)
    hp = tree_map(lambda value: value[member], population.hp)
    wanted = population.method.act_noise(policy)
    generator = torch.Generator().manual_seed(member)

    def act(observation: Any) -> Any:
        with torch.no_grad():
            given = torch.as_tensor(np.asarray(observation, dtype=np.float32)).unsqueeze(0)
            noise = {name: draw_noise(noise, (1,), generator) for name, noise in wanted.items()}
            action = population.method.act(policy, state, given, hp, noise)
            return action.clamp(-1, 1).squeeze(0).numpy().astype(np.float64)

    return act


def plain_seconds(population: Any, members: int, episodes: int) -> float:
    """Seconds of one evaluation of every member, one episode after the other, in our simulator."""
    from safesweep.trainables.tasks.registry import make_simulator

    def episode(act: Callable[[Any], Any], seed: int) -> None:
        simulator = make_simulator(population.task)
        observation = simulator.reset(seed)
        for _ in range(population.task.horizon):
            observation, _, _, ended = simulator.step(act(observation))
            if ended:
                break
        simulator.close()

    return _one_by_one(population, members, episodes, episode)


def usual_seconds(population: Any, members: int, episodes: int) -> float:
    """The same in DSRL's own environment, made once and reset for every episode."""
    import dsrl  # noqa: F401
    import gymnasium

    environment: Any = gymnasium.make(population.task.name)

    def episode(act: Callable[[Any], Any], seed: int) -> None:
        observation, _ = environment.reset(seed=seed)
        ended = cut = False
        while not (ended or cut):
            observation, _, ended, cut, _ = environment.step(act(observation))

    seconds = _one_by_one(population, members, episodes, episode)
    environment.close()
    return seconds


def _one_by_one(
    population: Any,
    members: int,
    episodes: int,
    episode: Callable[[Callable[[Any], Any], int], None],
) -> float:
    policy, began = population.method.policies[0], time.perf_counter()
    for member in range(members):
        act = plain_action(population, member, policy)
        for seed in range(episodes):
            episode(act, seed)
    return (time.perf_counter() - began) * population.size / members


def batched_seconds(population: Any, episodes: int) -> tuple[float, float]:
    """Seconds of one evaluation of all members at once, and those in which it was acting."""
    spent = 0.0
    plain = population.policy

    def timed_policy(name: str, episodes: int) -> Any:
        act = plain(name, episodes)

        def timed(*arguments: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            result = act(*arguments)
            spent += time.perf_counter() - began
            return result

        return timed

    with patch.object(population, "policy", timed_policy):
        began = time.perf_counter()
        population.evaluate(population.method.policies[0], episodes)
        whole = time.perf_counter() - began
    return whole, spent


def latency_row(method: str, task: str, policies: int, calls: int = 50) -> dict[str, Any]:
    """Milliseconds to act: a policy alone, and a policy of a population, one observation each."""
    population = population_of(method, task, policies, PAPER_SIZES[method])
    policy = population.method.policies[0]
    observation = np.zeros(population.task.observation_dim, dtype=np.float32)
    alone, act = plain_action(population, 0, policy), population.policy(policy, 1)
    given = np.zeros((policies, 1, len(observation)), dtype=np.float32)

    def median_ms(function: Callable[[int], object]) -> float:
        times = []
        for call in range(calls):
            began = time.perf_counter()
            function(call)
            times.append(time.perf_counter() - began)
        return statistics.median(times) * 1000

    together = median_ms(lambda call: act(given, call))
    return {
        "algorithm": method,
        "alone_ms": round(median_ms(lambda call: alone(observation)), 3),
        f"population_of_{policies}_ms": round(together, 3),
        "per_policy_ms": round(together / policies, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="OfflineBallRun-v0")
    parser.add_argument("--method", default="lspc", choices=PAPER_SIZES)
    parser.add_argument("--policies", type=int, default=12)
    parser.add_argument("--plain-policies", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    add_json_option(parser)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    sizes = {"hidden_dim": 256, "hidden_layers": 2}
    population = population_of(arguments.method, arguments.task, arguments.policies, sizes)
    plain, usual, batched, acting = [], [], [], []
    # Processes that simulate are started once in a trial, and the imports are everyone's.
    population.evaluate(population.method.policies[0], arguments.episodes)
    some = (population, arguments.plain_policies, arguments.episodes)
    for _ in range(arguments.rounds):
        whole, spent = batched_seconds(population, arguments.episodes)
        batched.append(whole)
        acting.append(spent)
        plain.append(plain_seconds(*some))
        usual.append(usual_seconds(*some))
    steps = arguments.policies * arguments.episodes * population.task.horizon
    row = {
        "task": arguments.task,
        "algorithm": arguments.method,
        "policies": arguments.policies,
        "episodes": arguments.episodes,
        "seconds": round(statistics.median(batched), 2),
        "plain_seconds": round(statistics.median(plain), 2),
        "ratio": round(statistics.median(plain) / statistics.median(batched), 2),
        "usual_seconds": round(statistics.median(usual), 2),
        "ratio_to_usual": round(statistics.median(usual) / statistics.median(batched), 2),
        "steps_per_second": round(steps / statistics.median(batched)),
        "acting": round(statistics.median(acting) / statistics.median(batched), 2),
        "threads": arguments.threads,
    }
    print_table([row])
    latencies = [latency_row(name, arguments.task, arguments.policies) for name in PAPER_SIZES]
    print_table(latencies)
    write_json({"evaluation": row, "latency": latencies}, arguments.json)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
