"""A plugin of every kind: TD3+BC with a cost critic, a suite of one task, a rule and an observer.

Loaded by its path: `safesweep run SWEEP --plugin tests/plugins/example_plugin.py`.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from safesweep.analysis.selection.rules import Criterion, RuleVerdict
from safesweep.search_spaces import Hyperparameter, SearchSpace
from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_ensemble,
    squared_error,
)
from safesweep.trainables.components.networks import detach, mlp
from safesweep.trainables.methods.method import (
    Losses,
    Method,
    MethodConfig,
    Noise,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    batched,
)
from safesweep.trainables.store.scores import within_limit
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task
from safesweep.trainables.training.observers import ObservedTrial, Observer, TrialRows


@dataclass(frozen=True)
class CostTD3BCConfig(MethodConfig):
    """TD3+BC's hyperparameters (Fujimoto and Gu, 2021), and the weight of the cost critic."""

    reward_weight: float = batched(
        2.5, "weight of the normalised Q_r", source="TD3+BC", alias="alpha", low=0.0, high=100.0
    )
    cost_weight: float = batched(1.0, "weight of Q_c", source="ours", low=0.0, high=1000.0)
    policy_noise: float = batched(
        0.2, "deviation of the target's action", source="TD3+BC", low=0.0, high=1.0
    )
    target_update_rate: float = batched(
        0.005, "Polyak rate of the targets", source="TD3+BC", alias="tau", low=1e-4, high=1.0
    )


class CostTD3BC(Method):
    """TD3+BC whose actor also pays for the cost that a second critic expects."""

    name = "td3bc_cost"
    config_class = CostTD3BCConfig
    policies = ("td3bc_cost",)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("actor", "reward_q", "cost_q"), every={"actor": 2}),)

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        params = {
            "actor": self.mlp(generator, observation, action),
            "reward_q": self.mlp(generator, observation + action, 1, ensemble=2),
            "cost_q": self.mlp(generator, observation + action, 1, ensemble=2),
        }
        return {"params": params, "target": dict(params)}

    def noise(self, phase: str) -> dict[str, Noise]:
        return {"smoothing": Noise((self.static.batch_size, self.spec.action_dim))}

    @property
    def losses(self) -> Losses:
        return {"train": self.train_losses}

    def train_losses(self, inputs: StepInputs) -> StepOutputs:
        """Both critics follow the target policy; each network has a loss of its own."""
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        observations, after = batch["observations"], batch["next_observations"]
        smoothing = (hp.policy_noise * inputs.noise["smoothing"]).clamp(-0.5, 0.5)
        next_action = (torch.tanh(mlp(target["actor"], after)) + smoothing).clamp(-1, 1)
        losses = {}
        # Of two critics the smaller reward and the larger cost are believed.
        for name, signal, pick in (("reward_q", "rewards", "amin"), ("cost_q", "costs", "amax")):
            ahead = getattr(evaluate_ensemble(target[name], after, next_action), pick)(0)
            aim = bellman_target(batch[signal], ahead, batch["terminals"], hp.discount)
            values = evaluate_ensemble(params[name], observations, batch["actions"])
            losses[name] = squared_error(values, aim)
        action = torch.tanh(mlp(params["actor"], observations))
        reward = evaluate_ensemble(detach(params["reward_q"]), observations, action).amin(0)
        cost = evaluate_ensemble(detach(params["cost_q"]), observations, action).amax(0)
        scale = reward.detach().abs().mean() + 1e-6
        gain = hp.reward_weight * (reward - hp.cost_weight * cost).mean() / scale
        losses["actor"] = (action - batch["actions"]).square().mean() - gain
        return StepOutputs(losses, {f"loss/{name}": value for name, value in losses.items()})

    def act(self, policy: str, state: Any, observations: Tensor, hp: Any, noise: Any) -> Tensor:
        return torch.tanh(mlp(state["params"]["actor"], observations))


SPACE = SearchSpace(
    "td3bc_cost",
    [
        Hyperparameter("cost_weight", low=0.1, high=10.0, log=True, source="ours"),
        Hyperparameter("reward_weight", choices=(1.0, 2.5, 4.0), source="TD3+BC, figure 3"),
    ],
    defaults={"cost_weight": 1.0, "reward_weight": 2.5},
)


class Corridor:
    """A point in [-1, 1]^2 that earns what it moves to the right; its upper half costs."""

    def __init__(self, task: Task) -> None:
        self._place = np.zeros(2)

    def reset(self, seed: int) -> NDArray[np.float64]:
        self._place = np.random.default_rng(seed).uniform(-1.0, 1.0, 2) * [0.1, 1.0] - [0.9, 0.0]
        return self._place.copy()

    def step(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], float, float, bool]:
        before = self._place[0]
        self._place = np.clip(self._place + 0.1 * np.asarray(action), -1.0, 1.0)
        return self._place.copy(), float(self._place[0] - before), float(self._place[1] > 0), False

    def close(self) -> None:
        """Holds nothing."""


CORRIDOR = Suite(
    name="corridor",
    tasks=(
        Task(
            name="Corridor-v0", observation_dim=2, action_dim=2, horizon=30, min_return=0.0,
            max_return=1.9, max_cost=30.0,
        ),
    ),
    cost_limits=(5.0,),
    simulator=Corridor,
    collected_episodes=40,
)  # fmt: skip


def median_cost_safe(candidates: Any, settings: Any) -> RuleVerdict:
    """The median seed's cost within the limit, then the highest reward."""
    costs = np.array([float(np.median(costs)) for costs in candidates["seed_costs"]])
    safe = within_limit(costs)
    rewards = candidates["normalized_reward"].to_numpy()
    preferred = (
        Criterion("safe", safe.astype(float), maximize=True),
        Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
        Criterion("cost", costs),
    )
    return RuleVerdict(safe, preferred)


class JsonLines(Observer):
    """Appends a line for each start, evaluation and end to `events/<trial>.jsonl` in the store."""

    def on_start(self, trial: ObservedTrial) -> None:
        self._write(trial, {"event": "start", "step": trial.step})

    def on_evaluation(self, trial: ObservedTrial, rows: TrialRows) -> None:
        costs = [row["normalized_cost"] for row in rows.evaluations]
        self._write(trial, {"event": "evaluation", "step": trial.step, "costs": costs})

    def on_end(self, trial: ObservedTrial, rows: TrialRows) -> None:
        statuses = {row["run_id"]: row["status"] for row in rows.runs}
        self._write(trial, {"event": "end", "statuses": statuses})

    def _write(self, trial: ObservedTrial, event: dict[str, Any]) -> None:
        if self.writer is not None:
            path = f"events/{trial.trial_id}.jsonl"
            lines = self.writer.read_bytes(path) or b""
            self.writer.write_bytes(path, lines + json.dumps(event).encode() + b"\n")


ALGORITHMS = {"td3bc_cost": CostTD3BC}
SEARCH_SPACES = {"td3bc_cost": SPACE}
SUITES = {"corridor": CORRIDOR}
RULES = {"median_cost_safe": median_cost_safe}
OBSERVERS = {"json_lines": JsonLines}
