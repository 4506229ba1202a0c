"""What BCQ-Lag and BEAR-Lag share: their critics, and the multiplier that a controller moves.

Either keeps its policy near the data by its own means, bootstraps from the best reward and from the
worst cost of several actions of a slow policy, and is charged for the cost beyond the limit.

What is wrong in OSRL is a choice:

* `cost_bootstrap`. OSRL bootstraps costs past the end of an episode, and rewards not (`published`).
* `cost_aggregation`. OSRL takes the smallest cost value of a group of critics as it does for
  rewards, where it is the optimistic one (`min`).

As in OSRL, the controller's integral has no upper bound, so that a cost that stays above its limit
raises the multiplier without end.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from safesweep.trainables.components.action_vae import init_action_vae, latent_size
from safesweep.trainables.components.critics import (
    bellman_target,
    discounted_cost_limit,
    evaluate_candidates,
    evaluate_ensemble,
    squared_error,
)
from safesweep.trainables.components.grouped_critics import GROUPS, mixed_value, worst_value
from safesweep.trainables.components.lagrangian import Gains, pid_multiplier
from safesweep.trainables.components.networks import Layers, detach
from safesweep.trainables.methods.lagrangian_critics_config import MAXIMUM
from safesweep.trainables.methods.method import (
    Hyperparameters,
    Method,
    Noise,
    Parameters,
    Phase,
    State,
    StepInputs,
)
from safesweep.trainables.methods.osrl_options import PUBLISHED

TARGETS = ("reward_q", "cost_q", "policy")


class Controlled(NamedTuple):
    """What the controller made of a step. `penalty` [] joins the policy's loss; `moved` are the
    next values of its numbers."""

    penalty: Tensor
    metrics: dict[str, Tensor]
    moved: dict[str, Tensor]


class LagrangianCritics(Method):
    """Base of BCQ-Lag and BEAR-Lag."""

    networks = ("vae_encoder", "vae_decoder", *TARGETS)
    # The controller does nothing before the cost value is above the limit.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {"learning_rate": 0.01}

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, self.networks),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kept = ("observations", "next_observations", "actions", "rewards", "costs", "terminals")
        prepared = super().prepare(data)
        return {name: prepared[name] for name in kept}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        pair, critics = observation + action, GROUPS * self.static.group_size
        params: Parameters = {
            **init_action_vae(
                generator, observation, action, self.static.vae_hidden_dim,
                self.static.hidden_layers,
            ),
            "reward_q": self.critic_mlp(generator, pair, critics),
            "cost_q": self.critic_mlp(generator, pair, critics),
            "policy": self.init_policy(generator),
        }  # fmt: skip
        return {
            "params": params,
            "target": {name: params[name] for name in TARGETS},
            "moving": self.init_moving(),
        }

    def init_policy(self, generator: torch.Generator) -> Layers:
        """Fresh parameters of the policy."""
        raise NotImplementedError

    def init_moving(self) -> dict[str, Tensor]:
        """The controller's numbers, which no gradient moves."""
        return {"integral": torch.zeros(()), "last_excess": torch.zeros(())}

    def noise(self, phase: str) -> dict[str, Noise]:
        return {"posterior": Noise((self.static.batch_size, latent_size(self.spec.action_dim)))}

    def cost_threshold(self, hp: Hyperparameters) -> Tensor:
        """The cost limit as a value, []."""
        return discounted_cost_limit(self.spec.cost_limit, self.spec.horizon, hp.discount)

    @property
    def largest_cost(self) -> bool:
        """Whether of several cost values the largest counts."""
        return bool(self.static.cost_aggregation == MAXIMUM)

    def reward_loss(self, inputs: StepInputs, actions: Tensor) -> Tensor:
        """Bellman error of the reward critics; `actions` [K, B, a] at s', of which the best counts
        (BCQ, eq. 13)."""
        hp, batch = inputs.hp, inputs.batch
        values = evaluate_candidates(inputs.target["reward_q"], batch["next_observations"], actions)
        best = mixed_value(values, hp.pessimism).amax(0)
        wanted = bellman_target(batch["rewards"], best, batch["terminals"], hp.discount)
        critic = inputs.params["reward_q"]
        return squared_error(
            evaluate_ensemble(critic, batch["observations"], batch["actions"]), wanted
        )

    def cost_loss(self, inputs: StepInputs, actions: Tensor) -> Tensor:
        """Bellman error of the cost critics; of `actions` [K, B, a] at s' the costliest counts."""
        hp, batch = inputs.hp, inputs.batch
        values = evaluate_candidates(inputs.target["cost_q"], batch["next_observations"], actions)
        worst = mixed_value(values, hp.pessimism, self.largest_cost).amax(0)
        done = batch["terminals"]
        if self.static.cost_bootstrap == PUBLISHED:
            done = torch.zeros_like(done)
        wanted = bellman_target(batch["costs"], worst, done, hp.discount)
        critic = inputs.params["cost_q"]
        return squared_error(
            evaluate_ensemble(critic, batch["observations"], batch["actions"]), wanted
        )

    def values(self, inputs: StepInputs, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and cost values of a policy's actions [B, a], open to the actions' gradient alone:
        each [B]."""
        params, states = detach(inputs.params), inputs.batch["observations"]
        reward = evaluate_ensemble(params["reward_q"], states, actions)
        cost = evaluate_ensemble(params["cost_q"], states, actions)
        return worst_value(reward), worst_value(cost, self.largest_cost)

    def controlled(self, inputs: StepInputs, cost: Tensor) -> Controlled:
        """The penalty lambda (Q_c - l), lambda by the controller (Stooke et al., 2020)."""
        hp, moving = inputs.hp, inputs.state["moving"]
        excess = cost.mean() - self.cost_threshold(hp)
        gains = Gains(hp.proportional_gain, hp.integral_gain, hp.derivative_gain)
        error = excess.detach()
        multiplier, integral = pid_multiplier(
            error, moving["integral"], moving["last_excess"], gains
        )
        metrics = {"multiplier": multiplier, "cost_excess": error}
        return Controlled(
            multiplier * excess, metrics, {"integral": integral, "last_excess": error}
        )
