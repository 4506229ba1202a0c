"""CPQ: constraints penalized Q-learning (Xu, Zhan, Zhu, 2022), as OSRL has it.

A cost critic is taught that actions unlike the data's are costly. The reward critic bootstraps, and
the policy learns, only from actions whose cost value is within the limit. An autoencoder of actions
says how unlike the data's an action is: by the divergence of its latent.

All networks are moved at once, while OSRL moves them in turn, each by the others' new weights; and
what is wrong in OSRL is a choice:

* `ood`. OSRL takes the cost of unlike actions from the slow copy of the critic, without a gradient,
  so that the term moves nothing (`published`); and the actions before the tangent, of which many
  lie outside [-1, 1]. `gradient` takes the critic itself, and actions that can be acted.
* `cost_bootstrap`. OSRL bootstraps costs past the end of an episode (`published`).

As in OSRL, samples that are not unlike count as zeros in the mean, which the multiplier brings to
`ood_margin` times the limit; and where no sampled action is within the limit the policy has no
gradient.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components import action_vae
from safesweep.trainables.components.action_vae import (
    action_vae_losses,
    divergence_of_actions,
    init_action_vae,
    latent_size,
)
from safesweep.trainables.components.critics import (
    bellman_target,
    discounted_cost_limit,
    evaluate_candidates,
    evaluate_ensemble,
    squared_error,
)
from safesweep.trainables.components.networks import detach
from safesweep.trainables.components.quantiles import quantile
from safesweep.trainables.components.squashed_gaussian import (
    most_likely_action,
    sample_unsquashed,
)
from safesweep.trainables.methods.cpq_config import CPQConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Noise,
    Optimization,
    Phase,
    Progress,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.osrl_options import PUBLISHED

TARGETS = ("reward_q", "cost_q")
LOG_MULTIPLIER_BOUND = 5.0


class CPQ(Method):
    """Constraints penalized Q-learning."""

    name = "cpq"
    config_class = CPQConfig
    policies = CPQConfig.policies
    # Whether an action's cost is within the limit has to change within some steps.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 0.01, "actor_rate_factor": 1.0, "multiplier_rate": 0.1,
    }  # fmt: skip

    @property
    def phases(self) -> tuple[Phase, ...]:
        autoencoder = () if self.static.ood == "off" else action_vae.NETWORKS
        return (Phase("train", 1.0, (*autoencoder, *TARGETS, "policy")),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kept = ("observations", "next_observations", "actions", "rewards", "costs", "terminals")
        prepared = super().prepare(data)
        return {name: prepared[name] for name in kept}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        width, layers = self.static.vae_hidden_dim, self.static.hidden_layers
        params = {name: self.critic_mlp(generator, observation + action, 2) for name in TARGETS}
        params["policy"] = self.mlp(generator, observation, 2 * action)
        if self.static.ood != "off":
            params |= init_action_vae(generator, observation, action, width, layers)
        return {
            "params": params,
            "target": {name: params[name] for name in TARGETS},
            "moving": {"log_multiplier": torch.zeros(())},
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        drawn = {name: Noise((batch, action)) for name in ("next_reward", "next_cost", "policy")}
        if self.static.ood != "off":
            drawn["posterior"] = Noise((batch, latent_size(action)))
            drawn["candidates"] = Noise((self.static.candidates, batch, action))
        return drawn

    @property
    def losses(self) -> Losses:
        return {"train": self.joint_loss}

    def joint_loss(self, inputs: StepInputs) -> StepOutputs:
        """The losses of all networks, each of which reaches its own alone."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        losses = {
            "loss/reward_q": self.reward_loss(inputs),
            "loss/cost_q": self.cost_loss(inputs),
            "loss/policy": self.policy_loss(inputs),
        }
        if self.static.ood == "off":
            return jointly(losses)
        losses |= action_vae_losses(
            params, batch["observations"], batch["actions"], inputs.noise["posterior"],
            hp.kl_coefficient,
        )  # fmt: skip
        excess = self.unlike_cost(inputs) - hp.ood_margin * self.cost_threshold(hp)
        log_multiplier = inputs.state["moving"]["log_multiplier"]
        multiplier = log_multiplier.exp()
        losses["loss/unlike_cost"] = -multiplier * excess
        # Gradient ascent on the multiplier's logarithm, up to its bounds.
        risen = log_multiplier - hp.multiplier_rate * multiplier * excess.detach()
        moved = risen.clamp(-LOG_MULTIPLIER_BOUND, LOG_MULTIPLIER_BOUND)
        metrics = {"multiplier": multiplier, "unlike_cost_excess": excess.detach()}
        return jointly(losses, metrics)._replace(moved={"log_multiplier": moved})

    def cost_threshold(self, hp: Hyperparameters) -> Tensor:
        """The cost limit as a value, []."""
        return discounted_cost_limit(self.spec.cost_limit, self.spec.horizon, hp.discount)

    def next_actions(self, inputs: StepInputs, draw: str) -> Tensor:
        """The policy's actions at s', without gradient: [B, a]."""
        policy, states = detach(inputs.params["policy"]), inputs.batch["next_observations"]
        return torch.tanh(sample_unsquashed(policy, states, inputs.noise[draw]))

    def reward_loss(self, inputs: StepInputs) -> Tensor:
        """The constraint-penalized Bellman error: what follows counts only where the next action's
        cost is within the limit."""
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        states, actions = batch["next_observations"], self.next_actions(inputs, "next_reward")
        reward = evaluate_ensemble(target["reward_q"], states, actions).amin(0)
        cost = evaluate_ensemble(target["cost_q"], states, actions).amin(0)
        allowed = (cost <= self.cost_threshold(hp)) * reward
        wanted = bellman_target(batch["rewards"], allowed, batch["terminals"], hp.discount)
        return squared_error(
            evaluate_ensemble(params["reward_q"], batch["observations"], batch["actions"]), wanted
        )

    def cost_loss(self, inputs: StepInputs) -> Tensor:
        """The cost critic's own Bellman error."""
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        states, actions = batch["next_observations"], self.next_actions(inputs, "next_cost")
        cost = evaluate_ensemble(target["cost_q"], states, actions).amin(0)
        done = batch["terminals"]
        if self.static.cost_bootstrap == PUBLISHED:
            done = torch.zeros_like(done)
        wanted = bellman_target(batch["costs"], cost, done, hp.discount)
        return squared_error(
            evaluate_ensemble(params["cost_q"], batch["observations"], batch["actions"]), wanted
        )

    def unlike_cost(self, inputs: StepInputs) -> Tensor:
        """What the cost critic is made to raise: its value of the policy's actions that are unlike
        the data's, []; other actions count as zeros."""
        params, hp, states = inputs.params, inputs.hp, inputs.batch["observations"]
        actions = sample_unsquashed(detach(params["policy"]), states, inputs.noise["candidates"])
        critic = params["cost_q"]
        if self.static.ood == PUBLISHED:
            critic = inputs.target["cost_q"]
        else:
            actions = torch.tanh(actions)
        divergence = divergence_of_actions(detach(params["vae_encoder"]), states, actions)
        unlike = divergence >= quantile(divergence.flatten(), hp.ood_quantile)
        return (unlike * evaluate_candidates(critic, states, actions).amin(0)).mean()

    def policy_loss(self, inputs: StepInputs) -> Tensor:
        """The reward value of actions whose cost is within the limit, which alone counts."""
        params, states = detach(inputs.params), inputs.batch["observations"]
        unsquashed = sample_unsquashed(inputs.params["policy"], states, inputs.noise["policy"])
        actions = torch.tanh(unsquashed)
        reward = evaluate_ensemble(params["reward_q"], states, actions).amin(0)
        cost = evaluate_ensemble(params["cost_q"], states, actions.detach()).amin(0)
        return -((cost <= self.cost_threshold(inputs.hp)) * reward).mean()

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        return Optimization(learning_rates={"policy": hp.learning_rate * hp.actor_rate_factor})

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return most_likely_action(state["params"]["policy"], observations)
