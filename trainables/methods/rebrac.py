"""ReBRAC (Tarasov et al., 2023, arXiv 2305.09836): TD3 that stays near the data twice, as FQL's
public code has it.

The policy's distance to the data's action is taken from its objective, and that of the next action
from the critic's target. The actor moves in every second step. It knows no costs.

The data's next action is that of the next row, which at the end of an episode belongs to another
one: `next_actions: published`. By default nothing is taken there from the target.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_ensemble,
    squared_error,
)
from safesweep.trainables.components.networks import Layers, detach, mlp
from safesweep.trainables.components.windows import steps_left
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Noise,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.rebrac_config import ReBRACConfig


class ReBRAC(Method):
    """Behaviour-regularised actor-critic, twice (ReBRAC). Knows no costs."""

    name = "rebrac"
    config_class = ReBRACConfig
    policies = ReBRACConfig.policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 3e-3,
        "target_update_rate": 0.3,
        "critic_weight": 1.0,
        "actor_weight": 1.0,
        "noise_clip": 0.2,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic_hidden_layers": NETWORK_CONDITIONS["critic_hidden_layers"],
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        networks = ("reward_q", "actor")
        return (Phase("train", 1.0, networks, every={"actor": self.static.policy_delay}),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds the next row's action, and whether it counts."""
        left = steps_left(data["terminals"], data["timeouts"])
        goes_on = (left > 1).float()
        counts = torch.ones_like(left) if self.static.next_actions == "published" else goes_on
        next_actions = data["actions"].roll(-1, 0)
        return {**super().prepare(data), "next_actions": next_actions, "next_counts": counts}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        params = {
            "reward_q": self.critic_mlp(generator, observation + action, ensemble=2),
            "actor": self.mlp(generator, observation, action),
        }
        return {"params": params, "target": dict(params)}

    def noise(self, phase: str) -> dict[str, Noise]:
        return {"target": Noise((self.static.batch_size, self.spec.action_dim))}

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """(Q - (r + gamma (min Q'(s', a~) - alpha_c |a~ - a'|^2)))^2, and
        -Q(s, mu) / |Q| + alpha_a |mu - a|^2."""
        params, batch, hp, target = inputs.params, inputs.batch, inputs.hp, inputs.target
        here, after, activation = (
            batch["observations"], batch["next_observations"], self.critic_activation,
        )  # fmt: skip
        jitter = (hp.target_noise * inputs.noise["target"]).clamp(-hp.noise_clip, hp.noise_clip)
        next_action = (self.action(target["actor"], after) + jitter).clamp(-1, 1)
        both = evaluate_ensemble(target["reward_q"], after, next_action, activation)
        away = batch["next_counts"] * (next_action - batch["next_actions"]).square().sum(-1)
        next_value = both.amin(0) - hp.critic_weight * away
        goal = bellman_target(batch["rewards"], next_value, batch["terminals"], hp.discount)
        predicted = evaluate_ensemble(params["reward_q"], here, batch["actions"], activation)

        action = self.action(params["actor"], here)
        value = evaluate_ensemble(detach(params["reward_q"]), here, action, activation).amin(0)
        size = value.detach().abs().mean() + 1e-6
        distance = (action - batch["actions"]).square().sum(-1)
        return jointly(
            {
                "loss/reward_q": squared_error(predicted, goal),
                "loss/actor": (hp.actor_weight * distance - value / size).mean(),
            }
        )

    def action(self, actor: Layers, observations: Tensor) -> Tensor:
        """mu(s), within [-1, 1]: [B, o] -> [B, a]."""
        return torch.tanh(mlp(actor, observations, self.activation))

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return self.action(state["params"]["actor"], observations)
