"""Evaluating runs again from their checkpoints, on episodes and noise that no one has seen."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from safesweep.search_spaces.validation import InvalidInput, require_choice, require_number
from safesweep.trainables.methods.method import Method, ProblemSpec
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store import identity
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.tasks.rollout import Episodes, rollout
from safesweep.trainables.training.population import draw_noise, over_members

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
    evaluations do not use. Checkpoints are read as tensors and plain values only
    (`weights_only`): one that somebody else made cannot run code.

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
    method_class = ALGORITHMS[require_choice("algorithm", algorithm, ALGORITHMS)]
    if policy not in method_class.policies:
        raise InvalidInput(
            f"policy: {policy!r} is not one of {algorithm}'s, {', '.join(method_class.policies)}"
        )
    identifier = confirmation_id(runs, policy, episodes, episode_seed, limit)
    moment = datetime.now(UTC)
    rows = []
    for run in runs:
        state, step = _run_state(writer, run)
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


def _run_state(writer: ResultWriter, run: ChosenRun) -> tuple[Any, int]:
    """One run's state [1, ...] from its trial's checkpoint, and the step at which it was made."""
    path = checkpoint_path(run.trial_id)
    content = writer.read_bytes(path)
    if content is None:
        raise InvalidInput(f"checkpoint: run {run.run_id} has none ({path} is not in the store)")
    try:
        saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        member = saved["run_ids"].index(run.run_id)
        population = saved["population"]
        state = tree_map(lambda leaf: leaf[member : member + 1], population["state"])
        return state, int(population["step"])
    except Exception as problem:
        # Unpickling fails in many ways, and every one means that this is no checkpoint of ours.
        reason = " ".join(str(problem).split())[:200]
        raise InvalidInput(
            f"checkpoint: {path} cannot be read for {run.run_id} ({reason})"
        ) from problem


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
    method = method_class(
        config,
        ProblemSpec(
            observation_dim=task.observation_dim,
            action_dim=task.action_dim,
            horizon=task.horizon,
            reward_scale=task.horizon / (task.max_return - task.min_return),
            cost_limit=cost_limit,
        ),
    )
    hyperparameters = config.hyperparameters_type()(
        **{name: torch.tensor([float(value)]) for name, value in config.batched_values().items()}
    )
    wanted = method.act_noise(policy)
    lifted = over_members(
        lambda state, observations, hp, noise: method.act(policy, state, observations, hp, noise), 1
    )
    streams = [run.seed, CONFIRM_STREAM, episode_seed]

    def act(observations: Any, step: int, members: slice, chosen: slice) -> Any:
        generator = torch.Generator().manual_seed(_number([*streams, 1, step]))
        noise = {
            name: draw_noise(n, (1, episodes), generator)[:, chosen] for name, n in wanted.items()
        }
        with torch.no_grad():
            actions = lifted(state, torch.as_tensor(observations), hyperparameters, noise)
        return torch.nan_to_num(actions).clamp(-1, 1).numpy()

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
