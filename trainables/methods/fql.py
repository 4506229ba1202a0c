"""FQL: flow Q-learning (Park et al., 2025, arXiv 2502.02538), with FBRAC and FAWAC as options.

A flow clones the data; a critic is learned of the policy's own next actions. Which policy that is,
`actor` says:

* `one_step` (FQL): a network that makes an action of noise at once. It is taught by the flow's
  action from the same noise, and climbs the critic.
* `flow` (FBRAC): the flow itself, which climbs the critic through all its steps.
* `weighted_flow` (FAWAC): the flow itself, whose regression counts pairs by the exponential of
  their advantage over the policy's own action. No code of it is public: a reconstruction.

It knows no costs. Time-outs are bootstrapped, terminals not.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    evaluate_ensemble,
    squared_error,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    init_velocity_field,
)
from safesweep.trainables.components.networks import Parameters, detach
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.fql_config import FQLConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Metrics,
    Noise,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.safefql import one_step_action

WEIGHT_CLIP = 100.0


class FQL(Method):
    """Flow Q-learning (FQL); FBRAC and FAWAC are options of it. Knows no costs."""

    name = "fql"
    config_class = FQLConfig
    policies = FQLConfig.policies
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic_hidden_layers": NETWORK_CONDITIONS["critic_hidden_layers"],
        "advantage_weight": {"actor": "weighted_flow"},
    }

    @property
    def one_step(self) -> bool:
        """Whether a network of its own acts."""
        return bool(self.static.actor == "one_step")

    @property
    def phases(self) -> tuple[Phase, ...]:
        actor = ("actor",) if self.one_step else ()
        return (Phase("train", 1.0, ("reward_q", "flow", *actor)),)

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        params = {
            "reward_q": self.critic_mlp(generator, observation + action, ensemble=2),
            "flow": init_velocity_field(generator, action, observation, *self.hidden),
        }
        if self.one_step:
            params["actor"] = self.mlp(generator, observation + action, action)
        return {"params": params, "target": {"reward_q": params["reward_q"]}}

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        drawn = {name: Noise((batch, action)) for name in ("start", "policy", "next")}
        return {**drawn, "time": Noise((batch,), "uniform")}

    def policy_action(self, params: Parameters, observations: Tensor, start: Tensor) -> Tensor:
        """The action that the policy makes of noise, not yet clipped: [B, o], [B, a] -> [B, a]."""
        if self.one_step:
            return one_step_action(params, observations, start, self.activation)
        return generate(
            params["flow"], start, observations, self.static.flow_steps, self.activation
        )

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """The critic's (Q - (r + gamma Q'(s', pi(s', z))))^2, and the policy's."""
        params, hp, batch, noise = inputs.params, inputs.hp, inputs.batch, inputs.noise
        here, after = batch["observations"], batch["next_observations"]
        fixed = detach({name: net for name, net in params.items() if name != "reward_q"})
        next_action = self.policy_action(fixed, after, noise["next"]).clamp(-1, 1)
        activation = self.critic_activation
        both = evaluate_ensemble(inputs.target["reward_q"], after, next_action, activation)
        next_value = both.mean(0) if self.static.critic_aggregation == "mean" else both.amin(0)
        target = bellman_target(batch["rewards"], next_value, batch["terminals"], hp.discount)
        predicted = evaluate_ensemble(params["reward_q"], here, batch["actions"], activation)
        losses = {"loss/reward_q": squared_error(predicted, target)}
        return jointly({**losses, **self.policy_losses(inputs, predicted.detach().mean(0))})

    def policy_losses(self, inputs: StepInputs, data_value: Tensor) -> Metrics:
        """-Q(s, pi(s, z)) beside what keeps the policy at the data.

        Args:
            data_value: Q at the data's actions, [B].
        """
        params, hp, batch, noise = inputs.params, inputs.hp, inputs.batch, inputs.noise
        here = batch["observations"]
        error = flow_matching_error(
            params["flow"], batch["actions"], noise["start"], noise["time"], here, self.activation
        ) / self.spec.action_dim  # fmt: skip
        if self.static.actor == "weighted_flow":
            own = self.policy_action(detach(params), here, noise["policy"]).clamp(-1, 1)
            exponent = hp.advantage_weight * (data_value - self.value(params, here, own))
            return {"loss/flow": (clipped_exponential(exponent, WEIGHT_CLIP) * error).mean()}
        raw = self.policy_action(params, here, noise["policy"])
        value = self.value(params, here, raw.clamp(-1, 1))
        size = value.detach().abs().mean() + 1e-6 if self.static.normalize_q else 1.0
        losses = {"loss/reward": -(value / size).mean()}
        if not self.one_step:
            return {**losses, "loss/flow": hp.behavior_weight * error.mean()}
        taught = generate(
            detach(params["flow"]), noise["policy"], here, self.static.flow_steps, self.activation
        ).clamp(-1, 1)
        distance = (raw - taught.detach()).square().mean()
        losses["loss/distillation"] = hp.behavior_weight * distance
        return {**losses, "loss/flow": error.mean()}

    def value(self, params: Parameters, observations: Tensor, actions: Tensor) -> Tensor:
        """The mean of two critics, which are not trained by it: [B]."""
        critics = detach(params["reward_q"])
        return evaluate_ensemble(critics, observations, actions, self.critic_activation).mean(0)

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"start": Noise((self.spec.action_dim,))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return self.policy_action(state["params"], observations, noise["start"]).clamp(-1, 1)
