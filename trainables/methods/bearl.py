"""BEAR-Lag: bootstrapping error accumulation reduction (Kumar et al., 2019) with a multiplier of
the cost that a PID controller moves (Stooke, Achiam, Abbeel, 2020), as OSRL has it.

A squashed Gaussian policy climbs its reward value less its price of cost, while the mean
discrepancy of its actions from those of an autoencoder of the data stays below a threshold. That
constraint has a multiplier of its own, alpha, whose logarithm plain ascent moves: with OSRL's step
size it hardly acts within ten thousand steps, where the original takes Adam. Both sets of actions
are compared before the tangent. It acts with the tangent of the mean, where the original takes the
best of several samples by their value.

All networks are moved at once, while OSRL moves them in turn, each by the others' new weights. What
is wrong in OSRL and a choice here stands in `lagrangian_critics`.
"""

import torch
from torch import Tensor

from safesweep.trainables.components.action_vae import (
    action_vae_losses,
    latent_size,
    unsquashed_like_data,
)
from safesweep.trainables.components.mean_discrepancy import mean_discrepancy
from safesweep.trainables.components.networks import Layers, detach
from safesweep.trainables.components.squashed_gaussian import (
    most_likely_action,
    sample_unsquashed,
)
from safesweep.trainables.methods.bearl_config import BEARLConfig
from safesweep.trainables.methods.lagrangian_critics import LagrangianCritics
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Metrics,
    Noise,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)

LOG_WEIGHT_BOUND = 5.0


class BEARL(LagrangianCritics):
    """BEAR-Lag."""

    name = "bearl"
    config_class = BEARLConfig
    policies = BEARLConfig.policies

    def init_policy(self, generator: torch.Generator) -> Layers:
        return self.mlp(generator, self.spec.observation_dim, 2 * self.spec.action_dim)

    def init_moving(self) -> dict[str, Tensor]:
        return {**super().init_moving(), "log_weight": torch.zeros(())}

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        several = Noise((self.static.candidates, batch, action))
        compared = self.static.discrepancy_samples
        return {
            **super().noise(phase),
            "next_reward": several,
            "next_cost": several,
            "decoded": Noise((compared, batch, latent_size(action))),
            "policy": Noise((compared, batch, action)),
        }

    @property
    def losses(self) -> Losses:
        return {"train": self.joint_loss}

    def joint_loss(self, inputs: StepInputs) -> StepOutputs:
        """The losses of all networks, each of which reaches its own alone."""
        params, batch, noise = inputs.params, inputs.batch, inputs.noise
        after, slow = batch["next_observations"], inputs.target["policy"]
        losses: Metrics = {
            **action_vae_losses(
                params, batch["observations"], batch["actions"], noise["posterior"],
                inputs.hp.kl_coefficient,
            ),
            "loss/reward_q": self.reward_loss(
                inputs, torch.tanh(sample_unsquashed(slow, after, noise["next_reward"]))
            ),
            "loss/cost_q": self.cost_loss(
                inputs, torch.tanh(sample_unsquashed(slow, after, noise["next_cost"]))
            ),
        }  # fmt: skip
        policy = self.policy_loss(inputs)
        assert isinstance(policy.losses, Tensor)
        losses["loss/policy"] = policy.losses
        return jointly(losses, policy.metrics)._replace(moved=policy.moved)

    def policy_loss(self, inputs: StepInputs) -> StepOutputs:
        """-Q_r + alpha (discrepancy - threshold) + lambda (Q_c - l); values are those of the first
        of the samples that are compared."""
        params, hp, noise = inputs.params, inputs.hp, inputs.noise
        states = inputs.batch["observations"]
        samples = sample_unsquashed(params["policy"], states, noise["policy"])
        decoded = unsquashed_like_data(detach(params["vae_decoder"]), states, noise["decoded"])
        discrepancy = mean_discrepancy(decoded, samples, hp.bandwidth, self.static.kernel)
        beyond = discrepancy.mean() - hp.discrepancy_threshold
        reward, cost = self.values(inputs, torch.tanh(samples[0]))
        controlled = self.controlled(inputs, cost)
        log_weight = inputs.state["moving"]["log_weight"]
        weight = log_weight.exp()
        looks = inputs.progress.step >= hp.imitation_steps
        loss = weight * beyond - looks * reward.mean() + controlled.penalty
        risen = log_weight + hp.multiplier_rate * weight * beyond.detach()
        moved = risen.clamp(-LOG_WEIGHT_BOUND, LOG_WEIGHT_BOUND)
        metrics = {"discrepancy": discrepancy.detach().mean(), "discrepancy_weight": weight}
        return StepOutputs(
            loss, {**controlled.metrics, **metrics}, {**controlled.moved, "log_weight": moved}
        )

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return most_likely_action(state["params"]["policy"], observations)
