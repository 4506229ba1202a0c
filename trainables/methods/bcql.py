"""BCQ-Lag: batch-constrained Q-learning (Fujimoto, Meger, Precup, 2019) with a multiplier of the
cost that a PID controller moves (Stooke, Achiam, Abbeel, 2020), as OSRL has it.

An autoencoder decodes actions like the data's; the policy moves each by at most `perturbation` to
where its reward value less its price of cost is higher. It acts with one decoded action, where the
original takes the best of a hundred by their value.

All networks are moved at once, while OSRL moves them in turn, each by the others' new weights. What
is wrong in OSRL and a choice here stands in `lagrangian_critics`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safesweep.trainables.components.action_vae import (
    action_vae_losses,
    actions_like_data,
    latent_size,
)
from safesweep.trainables.components.networks import Layers, detach, mlp
from safesweep.trainables.methods.bcql_config import BCQLConfig
from safesweep.trainables.methods.lagrangian_critics import LagrangianCritics
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Noise,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)


class BCQL(LagrangianCritics):
    """BCQ-Lag."""

    name = "bcql"
    config_class = BCQLConfig
    policies = BCQLConfig.policies

    def init_policy(self, generator: torch.Generator) -> Layers:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        return self.mlp(generator, observation + action, action)

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, latent = self.static.batch_size, latent_size(self.spec.action_dim)
        several = Noise((self.static.candidates, batch, latent))
        drawn = {"next_reward": several, "next_cost": several, "policy": Noise((batch, latent))}
        return {**super().noise(phase), **drawn}

    @property
    def losses(self) -> Losses:
        return {"train": self.joint_loss}

    def joint_loss(self, inputs: StepInputs) -> StepOutputs:
        """The losses of all networks, each of which reaches its own alone."""
        params, batch, hp, noise = inputs.params, inputs.batch, inputs.hp, inputs.noise
        states, after = batch["observations"], batch["next_observations"]
        fixed = {**detach(params), "policy": inputs.target["policy"]}
        acting = {**fixed, "policy": params["policy"]}
        reward, cost = self.values(inputs, self.actions(acting, states, noise["policy"], hp))
        controlled = self.controlled(inputs, cost)
        losses = {
            **action_vae_losses(
                params, states, batch["actions"], noise["posterior"], hp.kl_coefficient
            ),
            "loss/reward_q": self.reward_loss(
                inputs, self.actions(fixed, after, noise["next_reward"], hp)
            ),
            "loss/cost_q": self.cost_loss(
                inputs, self.actions(fixed, after, noise["next_cost"], hp)
            ),
            "loss/policy": controlled.penalty - reward.mean(),
        }
        return jointly(losses, controlled.metrics)._replace(moved=controlled.moved)

    def actions(
        self,
        networks: Mapping[str, Any],
        observations: Tensor,
        noise: Tensor,
        hp: Hyperparameters,
    ) -> Tensor:
        """xi(s, u) = u + phi tanh(mlp(s, u)) within [-1, 1], of decoded actions u: [B, o],
        [..., B, d] -> [..., B, a]."""
        decoded = actions_like_data(networks["vae_decoder"], observations, noise)
        states = observations.expand(*decoded.shape[:-1], observations.shape[-1])
        pairs = torch.cat((states, decoded), dim=-1)
        change = mlp(networks["policy"], pairs.flatten(0, -2), torch.tanh).reshape(decoded.shape)
        acted: Tensor = decoded + hp.perturbation * torch.tanh(change)
        return acted.clamp(-1, 1)

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"latent": Noise((latent_size(self.spec.action_dim),))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return self.actions(state["params"], observations, noise["latent"], hp)
