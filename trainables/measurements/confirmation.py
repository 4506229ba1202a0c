"""Evaluating runs again from their checkpoints, on episodes and noise that no one has seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from safesweep.search_spaces.validation import InvalidInput, require_number
from safesweep.trainables.methods.method import Method, policy_cost_limit
from safesweep.trainables.methods.registry import find_method
from safesweep.trainables.store import identity
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.tasks.simulator import Episodes
from safesweep.trainables.training.acting import Policy, draw_noise, task_problem
from safesweep.trainables.training.checkpoints import run_state

# Beside the streams of `trainables.training.population.STREAMS`, which training and its evaluations
# use.
CONFIRM_STREAM = 100


@dataclass(frozen=True)
class ChosenRun:
    """A run of the store that is to be evaluated again."""

    run_id: str
    config_id: str
    trial_id: str
    seed: int
    config: Mapping[str, Any]


def confirmation_id(
    runs: Sequence[ChosenRun], policy: str, episodes: int, episode_seed: int, cost_limit: float
) -> str:
    """Identity of a confirmation: the same request always has the same."""
    request = f"{policy}/{episodes}/{episode_seed}/{cost_limit:g}/common starts"
    return identity.trial_id(f"{run.run_id}/{request}" for run in runs)


def evaluate_again(
    writer: ResultWriter,
    algorithm: str,
    task: str,
    runs: Sequence[ChosenRun],
    policy: str,
    episodes: int,
    episode_seed: int = 1,
    cost_limit: float | None = None,
    rule: str | None = None,
    kind: str = "evaluated",
) -> list[dict[str, Any]]:
    """Evaluate runs from their checkpoints and write the rows to the table `confirmations`.

    The episodes' starts follow from `episode_seed` alone, so that all runs meet the same, and the
    policy's noise from (seed of the run, `episode_seed`); both from streams that training and its
    evaluations do not use.

    Args:
        writer: of the sweep that the runs belong to.
        runs: runs of one configuration, completed.
        episodes: episodes a run.
        episode_seed: another number gives other episodes.
        cost_limit: what costs are normalised by; the task's own when None.
        rule: by which the configuration was chosen, for the record.
        kind: "evaluated" for the runs that were chosen by, "retrained" for fresh seeds.

    Raises:
        InvalidInput: a checkpoint is missing, is not one of these runs', or does not load.
    """
    require_number("episodes", episodes, 1, integer=True)
    require_number("episode_seed", episode_seed, 0, integer=True)
    found = get_task(task)
    limit = found.limit_or_own(cost_limit)
    method_class = find_method(algorithm)
    for run in runs:
        require_policy(method_class, run.config, policy)
    limit = policy_cost_limit(policy, limit)
    identifier = confirmation_id(runs, policy, episodes, episode_seed, limit)
    moment = datetime.now(UTC)
    rows = []
    for run in runs:
        state, step = run_state(writer, run.trial_id, run.run_id)
        outcome = _evaluate(method_class, found, run, state, policy, episodes, episode_seed, limit)
        rows.append(
            {
                "confirmation_id": identifier,
                "run_id": run.run_id,
                "config_id": run.config_id,
                "algorithm": algorithm,
                "task": found.name,
                "seed": run.seed,
                "step": step,
                "policy": policy,
                "kind": kind,
                "rule": rule,
                "episode_seed": episode_seed,
                **_scores(found, outcome, limit),
                "code_version": identity.code_version(),
                "confirmed_at": moment,
            }
        )
    writer.write_confirmation(identifier, rows)
    return rows


def require_policy(method_class: type[Method], config: Mapping[str, Any], policy: str) -> None:
    """Refuse a name that is no policy's; one that acts to a cost limit may name any, `name@limit`.

    Raises:
        InvalidInput: it is not one of the method's.
    """
    policies = (*method_class.policies, *method_class.further_policies)
    allowed = ", ".join(policies)
    name, at, limit = policy.partition("@")
    known = name in policies
    if at:
        by_limit = method_class.config_class.resolve(dict(config)).acts_to_cost_limit
        known = known and by_limit and limit.replace(".", "", 1).isdecimal()
        allowed += ", and each at a cost limit (name@10)" if by_limit else ""
    if not known:
        raise InvalidInput(f"policy: {policy!r} is not one of {method_class.name}'s, {allowed}")


def _evaluate(
    method_class: type[Method],
    task: Task,
    run: ChosenRun,
    state: Any,
    policy: str,
    episodes: int,
    episode_seed: int,
    cost_limit: float,
) -> Episodes:
    """Roll one run's policy out: arrays [1, episodes]."""
    config = method_class.config_class.resolve(dict(run.config))
    method = method_class(config, task_problem(task, cost_limit))
    hyperparameters = config.hyperparameters_type()(
        **{name: torch.tensor([float(value)]) for name, value in config.batched_values().items()}
    )
    wanted = method.act_noise(policy)
    streams = [run.seed, CONFIRM_STREAM, episode_seed]

    def draw(step: int, members: slice, chosen: slice) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(_number([*streams, 1, step]))
        return {
            name: draw_noise(n, (1, episodes), generator)[:, chosen] for name, n in wanted.items()
        }

    act = Policy(method, policy, state, hyperparameters, draw, torch.device("cpu"))
    # Common to all runs, as in training, and others than there.
    starts = np.random.SeedSequence([CONFIRM_STREAM, episode_seed]).generate_state(episodes)
    return rollout(task, act, 1, starts, spread=True)


def _number(entropy: Sequence[int]) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def _scores(task: Task, outcome: Episodes, cost_limit: float) -> dict[str, Any]:
    rewards, costs = outcome.reward_returns[0], outcome.cost_returns[0]
    return {
        "reward_return_mean": float(rewards.mean()),
        "cost_return_mean": float(costs.mean()),
        "normalized_reward": float(task.normalize_reward(rewards.mean())),
        "normalized_cost": float(task.normalize_cost(costs.mean(), cost_limit)),
        "cost_limit": cost_limit,
        "violation_rate": float((costs > cost_limit).mean()),
        "episodes": len(costs),
    }
