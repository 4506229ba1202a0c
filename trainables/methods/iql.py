"""IQL: implicit Q-learning (Kostrikov et al., 2022, arXiv 2110.06169), as FQL's public code has it.

V is an expectile of the smaller of two slow Q at the data's actions, Q regresses to
r + gamma V(s'), and a Gaussian of deviation 1 is extracted: `extraction: awr` clones the data by
the exponential of their advantage, `ddpg_bc` climbs the critic and stays likely to act as the data.
It knows no costs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    evaluate_ensemble,
    in_sample_critic,
    in_sample_losses,
)
from safesweep.trainables.components.networks import detach, gaussian_log_density, mlp
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.iql_config import IQLConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)

WEIGHT_CLIP = 100.0


class IQL(Method):
    """Implicit Q-learning (IQL). Knows no costs."""

    name = "iql"
    config_class = IQLConfig
    policies = IQLConfig.policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 3e-3,
        "target_update_rate": 0.3,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic_hidden_layers": NETWORK_CONDITIONS["critic_hidden_layers"],
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("reward_q", "reward_v", "actor")),)

    def init(self, generator: torch.Generator) -> State:
        params = self.in_sample_networks(generator, "reward")
        dims = self.spec.observation_dim, self.spec.action_dim
        params["actor"] = self.mlp(generator, *dims, final_scale=0.01)
        return {"params": params, "target": {"reward_q": params["reward_q"]}}

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """The critics', and -w log N(a; mu, 1) with w = min(exp(alpha A), 100), or
        -Q(s, mu) / |Q| - alpha log N(a; mu, 1)."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        activation, here = self.critic_activation, batch["observations"]
        critic = in_sample_critic("reward", params, inputs.target, batch, activation=activation)
        target = bellman_target(batch["rewards"], critic.next_v, batch["terminals"], hp.discount)
        losses = in_sample_losses("reward", critic, target, hp.expectile)
        mean = torch.tanh(mlp(params["actor"], here, self.activation))
        log_density = gaussian_log_density(batch["actions"], mean, torch.zeros_like(mean))
        if self.static.extraction == "awr":
            advantage = (critic.q.amin(0) - critic.v).detach()
            weight = clipped_exponential(hp.extraction_weight * advantage, WEIGHT_CLIP)
            losses["loss/actor"] = -(weight * log_density).mean()
        else:
            fixed = detach(params["reward_q"])
            value = evaluate_ensemble(fixed, here, mean, activation).amin(0)
            size = value.detach().abs().mean() + 1e-6
            losses["loss/actor"] = -(value / size + hp.extraction_weight * log_density).mean()
        return jointly(losses)

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return torch.tanh(mlp(state["params"]["actor"], observations, self.activation))
