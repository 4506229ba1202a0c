"""IFQL: implicit Q-learning with a flow (FQL's comparison; public code of Park et al., 2025).

IQL's critics beside a flow that clones all data alike. Acting draws actions from the flow and takes
the one with the highest value: IDQL with a flow in the place of its diffusion. It knows no costs.
The public code's choice works for one state at a time alone; this one for any number.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from safesweep.trainables.components.candidates import select
from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_candidates,
    in_sample_critic,
    in_sample_losses,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    init_velocity_field,
)
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.ifql_config import IFQLConfig
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


class IFQL(Method):
    """Implicit Q-learning with a flow and best-of-N (IFQL). Knows no costs."""

    name = "ifql"
    config_class = IFQLConfig
    policies = IFQLConfig.policies
    # Values matter by which of the candidates is the best one.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "learning_rate": 0.02,
        "target_update_rate": 0.3,
        "candidates": 64,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "critic_hidden_layers": NETWORK_CONDITIONS["critic_hidden_layers"],
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, ("reward_q", "reward_v", "flow")),)

    def init(self, generator: torch.Generator) -> State:
        params = self.in_sample_networks(generator, "reward")
        dims = self.spec.action_dim, self.spec.observation_dim
        params["flow"] = init_velocity_field(generator, *dims, *self.hidden)
        return {"params": params, "target": {"reward_q": params["reward_q"]}}

    def noise(self, phase: str) -> dict[str, Noise]:
        batch = self.static.batch_size
        return {
            "start": Noise((batch, self.spec.action_dim)),
            "time": Noise((batch,), "uniform"),
        }

    @property
    def losses(self) -> Losses:
        return {"train": self.loss}

    def loss(self, inputs: StepInputs) -> StepOutputs:
        """IQL's losses, and the flow's mean over dimensions."""
        params, batch, hp, noise = inputs.params, inputs.batch, inputs.hp, inputs.noise
        critic = in_sample_critic(
            "reward", params, inputs.target, batch, activation=self.critic_activation
        )
        target = bellman_target(batch["rewards"], critic.next_v, batch["terminals"], hp.discount)
        error = flow_matching_error(
            params["flow"], batch["actions"], noise["start"], noise["time"],
            batch["observations"], self.activation,
        )  # fmt: skip
        losses = in_sample_losses("reward", critic, target, hp.expectile)
        return jointly({**losses, "loss/flow": error.mean() / self.spec.action_dim})

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"start": Noise((self.static.candidates, self.spec.action_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        params, start = state["params"], noise["start"].transpose(0, 1)
        steps = self.static.flow_steps
        actions = generate(params["flow"], start, observations, steps, self.activation)
        actions = actions.clamp(-1, 1)
        values = evaluate_candidates(
            params["reward_q"], observations, actions, self.critic_activation
        )
        return select(actions, values.amin(0).argmax(0))
