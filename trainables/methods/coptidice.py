"""COptiDICE: offline constrained policy optimization via stationary distribution correction
estimation (Lee et al., 2022), as OSRL has it.

nu weighs the data's transitions by how much more often the best policy would make them; chi bounds
that policy's cost from above, over distributions near the data's; a multiplier prices the cost. The
policy imitates the weighted data. nu and chi are the smaller of two networks each; the divergence
is soft chi-square, f(x) = x log x - x + 1 below 1 and (x - 1)^2 / 2 above.

All networks are moved at once, while OSRL moves them in turn. What is wrong in OSRL is a choice:

* `cost_scale_of_limit`. The estimated cost is one of a step, under the normalised distribution.
  OSRL compares it with the limit of a discounted episode, 1 / (1 - discount) times too large
  (`published`), so that hardly anything is constrained.
* `policy_density`. OSRL fits a Gaussian to the data's actions and acts with the tangent of its mean
  (`published`): an action of 0.9 becomes 0.72. `squashed` fits the density of the tangent itself.

As in OSRL, the weights are not normalised in the policy's loss, and nu has no gradient penalty.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.critics import discounted_cost_limit
from safesweep.trainables.components.networks import (
    Layers,
    ensemble_mlp,
    gaussian_log_density,
)
from safesweep.trainables.components.squashed_gaussian import (
    most_likely_action,
    squashed_log_density,
    unsquashed,
    unsquashed_distribution,
)
from safesweep.trainables.methods.coptidice_config import COptiDICEConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Noise,
    Parameters,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.osrl_options import PUBLISHED

NETWORKS = ("nu", "chi", "multiplier", "temperature", "policy")


class COptiDICE(Method):
    """Offline constrained policy optimization by stationary distribution correction."""

    name = "coptidice"
    config_class = COptiDICEConfig
    policies = COptiDICEConfig.policies
    # The bound acts through a temperature and a multiplier, which have to move.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {"learning_rate": 0.01}

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, NETWORKS),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds `initial`: at an episode's first step how many times likelier it is there than in
        the data, and 0 elsewhere; and keeps the deviations of states and actions."""
        kept = ("observations", "next_observations", "actions", "rewards", "costs", "terminals")
        prepared = super().prepare(data)
        ends = torch.maximum(data["terminals"], data["timeouts"])
        initial = torch.cat((torch.ones_like(ends[:1]), ends[:-1]))
        self.deviations = {
            name: data[name].std(0, correction=0) for name in ("observations", "actions")
        }
        return {**{name: prepared[name] for name in kept}, "initial": initial / initial.mean()}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        params: Parameters = {
            "nu": self.critic_mlp(generator, observation, ensemble=2),
            "chi": self.critic_mlp(generator, observation, ensemble=2),
            "multiplier": {"raw": torch.ones(())},
            "temperature": {"raw": torch.ones(())},
            "policy": self.mlp(generator, observation, 2 * action),
        }
        return {"params": params, "deviations": dict(self.deviations)}

    def noise(self, phase: str) -> dict[str, Noise]:
        batch = self.static.batch_size
        sizes = {"observations": self.spec.observation_dim, "actions": self.spec.action_dim}
        return {name: Noise((batch, size)) for name, size in sizes.items()}

    @property
    def losses(self) -> Losses:
        return {"train": self.joint_loss}

    def joint_loss(self, inputs: StepInputs) -> StepOutputs:
        """The losses of all networks, each of which reaches its own alone."""
        weight, nu_loss = self.weights(inputs)
        fixed = weight.detach()
        chi_loss, divergence, cost = self.bound(inputs, fixed)
        multiplier = functional.softplus(inputs.params["multiplier"]["raw"])
        temperature = functional.softplus(inputs.params["temperature"]["raw"])
        allowed = self.allowed_cost(inputs.hp)
        losses = {
            "loss/nu": nu_loss,
            "loss/chi": chi_loss,
            "loss/temperature": temperature * (inputs.hp.bound_radius - divergence),
            "loss/multiplier": multiplier * (allowed - cost),
            "loss/policy": self.policy_loss(inputs, fixed),
        }
        metrics = {
            "multiplier": multiplier.detach(),
            "temperature": temperature.detach(),
            "cost_excess": cost - allowed,
            "weight_mean": fixed.mean(),
        }
        return jointly(losses, metrics)

    def weights(self, inputs: StepInputs) -> tuple[Tensor, Tensor]:
        """The correction w of each transition [B], by which the data's distribution becomes the
        policy's, and nu's loss."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        nu, next_nu = self.here_and_after(params["nu"], batch)
        price = functional.softplus(params["multiplier"]["raw"].detach())
        follows = hp.discount * (1 - batch["terminals"])
        advantage = batch["rewards"] - price * batch["costs"] + follows * next_nu - nu
        weight = correction(advantage / hp.divergence_weight)
        start = ((1 - hp.discount) * nu * batch["initial"]).mean()
        gain = weight * advantage - hp.divergence_weight * soft_chi_square(weight)
        return weight, start + gain.mean()

    def bound(self, inputs: StepInputs, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """chi's loss, and without gradient how far its worst distribution is from the data's and
        what a step costs there; each []."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        chi, next_chi = self.here_and_after(params["chi"], batch)
        follows = hp.discount * (1 - batch["terminals"])
        start = (1 - hp.discount) * chi * batch["initial"]
        estimate = start + weight * (batch["costs"] + follows * next_chi - chi)
        temperature = functional.softplus(params["temperature"]["raw"].detach())
        logits = estimate / temperature
        log_share = functional.log_softmax(logits, dim=0) + math.log(len(estimate))
        share = functional.softmax(logits, dim=0) * len(estimate)
        worst = share.detach()
        divergence = (worst * log_share.detach() - worst + 1).mean()
        cost = (worst * weight * batch["costs"]).mean()
        return (share * estimate).mean(), divergence, cost

    def here_and_after(self, layers: Layers, batch: Batch) -> tuple[Tensor, Tensor]:
        """The smaller of two networks at s and s': each [B]."""
        here = ensemble_mlp(layers, batch["observations"])
        after = ensemble_mlp(layers, batch["next_observations"])
        return here.squeeze(-1).amin(0), after.squeeze(-1).amin(0)

    def allowed_cost(self, hp: Hyperparameters) -> Tensor:
        """The cost limit that the cost of a step is compared with, []."""
        limit = discounted_cost_limit(self.spec.cost_limit, self.spec.horizon, hp.discount)
        per_step = self.static.cost_scale_of_limit == "per_step"
        return (1 - hp.discount) * limit if per_step else limit

    def policy_loss(self, inputs: StepInputs, weight: Tensor) -> Tensor:
        """Weighted imitation of pairs with a little noise."""
        noisy = {
            name: inputs.batch[name]
            + inputs.hp.imitation_noise * inputs.state["deviations"][name] * inputs.noise[name]
            for name in ("observations", "actions")
        }
        distribution = unsquashed_distribution(inputs.params["policy"], noisy["observations"])
        if self.static.policy_density == PUBLISHED:
            density = gaussian_log_density(noisy["actions"], *distribution)
        else:
            density = squashed_log_density(unsquashed(noisy["actions"]), *distribution)
        return -(weight * density).mean()

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return most_likely_action(state["params"]["policy"], observations)


def soft_chi_square(ratio: Tensor) -> Tensor:
    """f(x): x log x - x + 1 below 1, (x - 1)^2 / 2 above; its value at 0 is 1."""
    # No gradient of the branch that is not taken may be infinite.
    inside = ratio.clamp(min=1e-10, max=1.0)
    low = inside * inside.log() - inside + 1
    return torch.where(ratio < 1, low, 0.5 * (ratio - 1).square())


def correction(value: Tensor) -> Tensor:
    """The inverse of f', which is never negative: exp(y) below 0, y + 1 above."""
    return torch.where(value < 0, value.clamp(max=0.0).exp(), value + 1)
