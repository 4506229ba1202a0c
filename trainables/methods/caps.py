"""CAPS: constraint-adaptive policy switching, on implicit Q-learning (Chemingui et al., AAAI 2025).

One training serves every cost limit. Critics of reward and cost are fitted within the data; a
policy of several heads clones the data, each head by other weights: the first for reward, the last
against cost, those between for both. Acting spreads what is left of the limit over the steps that
are left, and takes, of the heads' actions whose cost value is within it, the one with the highest
reward value.

* The public code keeps the heads' log deviations in a list that its optimizer never sees, so that
  they stay 1 and the heads fit weighted least squares: `deviations: published`. By default they are
  learned, as the loss, a weighted log-likelihood, says.
* Its actor's step size is on half a cosine over 1,000,000 steps, of which 100,000 are taken: 2 %
  less at the end, which is left out here.
* Weights come from the slow critics and the value before its own step; which head acts, from the
  critics themselves. Time-outs are terminal and rewards are the task's times 0.1, as in OSRL.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.candidates import best_candidate, select
from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    discounted_cost_limit,
    evaluate_candidates,
    in_sample_critic,
    in_sample_losses,
)
from safesweep.trainables.components.networks import gaussian_log_density, mlp
from safesweep.trainables.methods.caps_config import CAPSConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    LastStep,
    Losses,
    Memory,
    Method,
    Parameters,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)

LOG_STD_RANGE = (-5.0, 2.0)


class CAPS(Method):
    """Switches between policies by what is left of the cost limit (CAPS), one training for all."""

    name = "caps"
    config_class = CAPSConfig
    policies = CAPSConfig.policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 3e-3,
        "target_update_rate": 0.3,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "weight_clip": {"weight_clip": 1.0}
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        critics = ("reward_q", "reward_v", "cost_q", "cost_v")
        deviations = ("log_std",) if self.static.deviations == "learned" else ()
        return (Phase("train", 1.0, (*critics, "actor", *deviations)),)

    def init(self, generator: torch.Generator) -> State:
        params = self.in_sample_networks(generator, "reward", "cost")
        heads = self.static.heads, self.spec.action_dim
        params["actor"] = self.mlp(generator, self.spec.observation_dim, heads[0] * heads[1])
        params["log_std"] = torch.zeros(heads)
        return {"params": params, "target": {name: params[name] for name in ("reward_q", "cost_q")}}

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """IQL of the reward, and of the cost with the expectile reversed; and the heads, each the
        mean of -w log N(a; mu, sigma) over the minibatch, of which the mean counts."""
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        done = batch["terminals"]
        reward = in_sample_critic("reward", params, target, batch)
        cost = in_sample_critic("cost", params, target, batch, lowest=True)
        reward_target = bellman_target(batch["rewards"], reward.next_v, done, hp.discount)
        cost_target = bellman_target(batch["costs"], cost.next_v, done, hp.discount)
        weights = self.head_weights(
            hp.reward_inverse_temperature * (reward.judged - reward.v).detach(),
            hp.cost_inverse_temperature * (cost.v - cost.judged).detach(),
        )
        log_std = params["log_std"].clamp(*LOG_STD_RANGE).unsqueeze(1)
        means = self.head_actions(params, batch["observations"])
        log_density = gaussian_log_density(batch["actions"], means, log_std)
        losses = {
            **in_sample_losses("reward", reward, reward_target, hp.expectile),
            **in_sample_losses("cost", cost, cost_target, hp.expectile, lowest=True),
            "loss/actor": -(weights * log_density).mean(),
        }
        metrics = {
            "reward_q_mean": reward.q.mean(),
            "cost_q_mean": cost.q.mean(),
            "deviation": log_std.exp().mean(),
        }
        return jointly(losses, metrics)

    def head_weights(self, reward_exponent: Tensor, cost_exponent: Tensor) -> Tensor:
        """How much pairs count for each head, of scaled advantages [B]: [K, B].

        w_r for the first head, w_c for the last, and w_r + 2 k / (K - 1) w_c for the k-th between.
        """
        by_reward = clipped_exponential(reward_exponent, self.static.weight_clip)
        by_cost = clipped_exponential(cost_exponent, self.static.weight_clip)
        last = self.static.heads - 1
        between = [by_reward + 2 * k / last * by_cost for k in range(1, last)]
        return torch.stack([by_reward, *between, by_cost])

    def head_actions(self, params: Parameters, observations: Tensor) -> Tensor:
        """The mean action of each head: [B, o] -> [K, B, a]."""
        flat = torch.tanh(mlp(params["actor"], observations))
        heads = flat.reshape(*flat.shape[:-1], self.static.heads, self.spec.action_dim)
        return heads.movedim(-2, 0)

    def begin_episode(self, policy: str, hp: Hyperparameters) -> Memory:
        return {"spent": torch.zeros(()), "steps": torch.zeros(())}

    def act_with_memory(
        self,
        policy: str,
        state: State,
        observations: Tensor,
        hp: Hyperparameters,
        noise: Batch,
        memory: Memory,
        last: LastStep,
    ) -> tuple[Tensor, Memory]:
        """Of the heads' actions whose cost value is within the budget the one with the highest
        reward value; where none is, the one with the lowest cost value."""
        params = state["params"]
        spent = memory["spent"] + last.cost
        budget = self.budget(policy, spent, memory["steps"], hp)
        actions = self.head_actions(params, observations)
        cost = evaluate_candidates(params["cost_q"], observations, actions).amax(0)
        reward = evaluate_candidates(params["reward_q"], observations, actions).amin(0)
        chosen = best_candidate(reward, cost, budget)
        return select(actions, chosen), {"spent": spent, "steps": memory["steps"] + 1}

    def budget(self, policy: str, spent: Tensor, steps: Tensor, hp: Hyperparameters) -> Tensor:
        """What is left of the limit after `spent` [E], spread over the steps that are left after
        `steps` [E], as a discounted value: [E]."""
        left = (self.cost_limit_of(policy) - spent).clamp(min=0)
        return discounted_cost_limit(left, (self.spec.horizon - steps).clamp(min=1), hp.discount)
