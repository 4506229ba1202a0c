"""LSPC: latent safety-prioritized constraints.

IQL critics for reward and cost weigh two regressions. A CVAE imitates the actions that cost less
than expected; its prior, restricted to a box of half width epsilon, is the safe policy LSPC-S. A
second encoder looks in that same box for the latents that the decoder turns into rewarding
actions: LSPC-O. The paper trains all of it together, and so does the one phase here.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.critics import (
    InSampleCritic,
    bellman_target,
    clipped_exponential,
    in_sample_critic,
    in_sample_losses,
)
from safesweep.trainables.components.cvae import (
    decode,
    divergence_from_standard_normal,
    encode,
    gaussian,
    reparameterize,
)
from safesweep.trainables.components.networks import detach
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.lspc_config import LSPCConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Metrics,
    Noise,
    Parameters,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)

LATENT_POLICY_LOG_STD_RANGE = (-10.0, 2.0)
TARGETS = ("reward_q", "cost_q")
NETWORKS = (
    "reward_q", "reward_v", "cost_q", "cost_v",
    "cvae_encoder", "cvae_decoder", "safety_encoder",
)  # fmt: skip


class LSPC(Method):
    """Latent safety-prioritized constraints (LSPC sections 2.3, 3 and A.3, algorithm 2)."""

    name = "lspc"
    config_class = LSPCConfig
    policies = LSPCConfig.policies
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **NETWORK_CONDITIONS,
        "cost_threshold": {"safety_mask": True, "cost_threshold": 0.5},
        "weight_clip": {"weight_clip": 1.0},
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, NETWORKS),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kept = ("observations", "next_observations", "actions", "costs", "rewards", "terminals")
        prepared = super().prepare(data)
        return {name: prepared[name] for name in kept}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        latent = self.static.latent_dim
        params = {
            **self.in_sample_networks(generator, "reward", "cost"),
            "cvae_encoder": self.mlp(generator, observation + action, 2 * latent),
            "cvae_decoder": self.mlp(generator, observation + latent, action),
            "safety_encoder": self.mlp(generator, observation, 2 * latent),
        }
        return {"params": params, "target": {name: params[name] for name in TARGETS}}

    def noise(self, phase: str) -> dict[str, Noise]:
        shape = (self.static.batch_size, self.static.latent_dim)
        return {"posterior": Noise(shape), "encoder": Noise(shape)}

    @property
    def losses(self) -> Losses:
        return {"train": self.joint_loss}

    def joint_loss(self, inputs: StepInputs) -> StepOutputs:
        """All of algorithm 2's losses at once; see the module's docstring."""
        params, batch, hp, target = inputs.params, inputs.batch, inputs.hp, inputs.target
        activation = self.critic_activation
        reward = in_sample_critic("reward", params, target, batch, False, activation)
        cost = in_sample_critic("cost", params, target, batch, True, activation)
        judged, next_v = self.read_cost(cost.judged), self.read_cost(cost.next_v)
        cost = cost._replace(judged=judged, next_v=next_v)
        if self.static.clamp_in_regression:
            cost = cost._replace(v=functional.relu(cost.v))
        cost_weight, reward_weight = self.cost_weight(cost, hp), self.reward_weight(reward, hp)
        weights = (cost_weight, reward_weight)
        cvae_weight, encoder_weight = weights if self.static.role == "normal" else weights[::-1]
        losses = {
            **self.critic_losses(reward, cost, batch, hp),
            **self.cvae_losses(inputs, cvae_weight),
            "loss/encoder": self.encoder_loss(inputs, encoder_weight),
        }
        means = {"cost_weight_mean": cost_weight.mean(), "reward_weight_mean": reward_weight.mean()}
        return jointly(losses, means)

    def read_cost(self, value: Tensor) -> Tensor:
        """A cost value where it is used. The public code also clamps V_c inside its own
        regression, where a negative one then has no gradient: `clamp_in_regression`."""
        return functional.relu(value) if self.static.clamp_costs else value

    def critic_losses(
        self, reward: InSampleCritic, cost: InSampleCritic, batch: Batch, hp: Hyperparameters
    ) -> Metrics:
        """Eq. 39 to 42. V_r leans to the best action of the data, V_c to the cheapest one: eq. 41
        weighs V_c > Q_c by xi, so a larger xi lowers V_c, though the text calls it conservative
        (what it makes stricter is the weight of eq. 43)."""
        done, xi = batch["terminals"], hp.expectile
        reward_target = bellman_target(batch["rewards"], reward.next_v, done, hp.discount)
        cost_target = bellman_target(batch["costs"], cost.next_v, done, hp.discount)
        return {
            **in_sample_losses("reward", reward, reward_target, xi),
            **in_sample_losses("cost", cost, cost_target, xi, lowest=True),
        }

    def cost_weight(self, cost: InSampleCritic, hp: Hyperparameters) -> Tensor:
        """w_c of eq. 43 [B], without gradient: exp(lambda (V_c - Q_c)) up to the clip.

        The mask's sentence in A.3 has lost a part; as in the public code it leaves out pairs of
        which Q_c or V_c exceeds the threshold.
        """
        cost_q, cost_v = cost.judged, self.read_cost(cost.v.detach())
        advantage = hp.cost_inverse_temperature * (cost_v - cost_q)
        weight = clipped_exponential(advantage, self.static.weight_clip)
        if self.static.safety_mask:
            weight = weight * (torch.maximum(cost_q, cost_v) <= hp.cost_threshold)
        return weight

    def reward_weight(self, reward: InSampleCritic, hp: Hyperparameters) -> Tensor:
        """exp(zeta (Q_r - V_r)) of eq. 44 [B], without gradient, up to the clip."""
        advantage = hp.reward_inverse_temperature * (reward.judged - reward.v.detach())
        return clipped_exponential(advantage, self.static.weight_clip)

    def cvae_losses(self, inputs: StepInputs, weight: Tensor) -> Metrics:
        """Eq. 43: weighted reconstruction and weighted divergence.

        -log p(a | s, z) is the squared distance. The printed coefficient 0.5 belongs to the mean
        over latent dimensions, as in the public code; on eq. 43's sum it is 32 times as strong.
        """
        params, batch = inputs.params, inputs.batch
        observations, actions = batch["observations"], batch["actions"]
        mean, log_std = encode(params["cvae_encoder"], observations, actions, self.activation)
        latent = reparameterize(mean, log_std, inputs.noise["posterior"])
        decoded = decode(params["cvae_decoder"], observations, latent, self.activation)
        distance = (decoded - actions).square().sum(-1)
        divergence = divergence_from_standard_normal(mean, log_std)
        by_pair = divergence.sum(-1) if self.static.kl_reduction == "sum" else divergence.mean(-1)
        return {
            "loss/reconstruction": (weight * distance).mean(),
            "loss/divergence": inputs.hp.kl_coefficient * (weight * by_pair).mean(),
        }

    def encoder_loss(self, inputs: StepInputs, weight: Tensor) -> Tensor:
        """Eq. 44: weighted regression of the encoder's latent through the frozen decoder."""
        params, observations = inputs.params, inputs.batch["observations"]
        latent = self.restricted_latent(params, observations, inputs.hp, inputs.noise["encoder"])
        decoded = decode(detach(params["cvae_decoder"]), observations, latent, self.activation)
        return (weight * (decoded - inputs.batch["actions"]).square().sum(-1)).mean()

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"latent": Noise((self.static.latent_dim,))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        latent = self.latent(policy, state["params"], observations, hp, noise["latent"])
        return decode(state["params"]["cvae_decoder"], observations, latent, self.activation)

    def latent(
        self,
        policy: str,
        params: Parameters,
        observations: Tensor,
        hp: Hyperparameters,
        noise: Tensor,
    ) -> Tensor:
        """z [E, d] of a policy: of the encoder, of the restricted prior, or of the whole prior."""
        if policy == "lspc_o":
            return self.restricted_latent(params, observations, hp, noise)
        if policy == "lspc_s":
            own = hp.safe_restriction
            bound = torch.where(own > 0, own, hp.restriction)
            return restrict_prior(noise, bound, self.static.prior_restriction)
        return noise

    def restricted_latent(
        self, params: Parameters, observations: Tensor, hp: Hyperparameters, noise: Tensor
    ) -> Tensor:
        """z = epsilon tanh(sample of mu(z | s)) (section 3.2): [B, o], [B, d] -> [B, d]."""
        encoder = params["safety_encoder"]
        mean, log_std = gaussian(
            encoder, observations, LATENT_POLICY_LOG_STD_RANGE, self.activation
        )
        restriction: Tensor = hp.restriction
        return restriction * torch.tanh(reparameterize(mean, log_std, noise))


def restrict_prior(noise: Tensor, bound: Tensor, how: str) -> Tensor:
    """Standard normal numbers brought into [-bound, bound].

    The paper samples "a high-probability region". `clamp`, the public code's way, puts most
    numbers on the bound itself; `truncate` maps them to the normal law given that region.
    """
    if how == "truncate":
        outside = torch.special.ndtr(-bound)
        level = outside + torch.special.ndtr(noise) * (1 - 2 * outside)
        noise = torch.special.ndtri(level)
    return torch.minimum(torch.maximum(noise, -bound), bound)
