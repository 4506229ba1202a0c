"""LSPC: latent safety-prioritized constraints.

IQL critics for reward and cost weigh two regressions. A CVAE imitates the actions that cost less
than expected; its prior, restricted to a box of half width epsilon, is the safe policy LSPC-S. A
second encoder looks in that same box for the latents that the decoder turns into rewarding
actions: LSPC-O. The paper trains all of it together, and so does the one phase here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    evaluate_ensemble,
    expectile_loss,
    reversed_expectile_loss,
    squared_error,
)
from safesweep.trainables.components.cvae import (
    decode,
    divergence_from_standard_normal,
    encode,
    gaussian,
    init_gaussian,
    reparameterize,
)
from safesweep.trainables.components.networks import detach, hidden_sizes, init_mlp, mlp
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    MethodConfig,
    Metrics,
    Noise,
    Parameters,
    Phase,
    State,
    batched,
    static,
)

WEIGHT_CLIP = 200.0
LATENT_POLICY_LOG_STD_RANGE = (-10.0, 2.0)
TARGETS = ("reward_q", "cost_q")
NETWORKS = (
    "reward_q", "reward_v", "cost_q", "cost_v",
    "cvae_encoder", "cvae_decoder", "safety_encoder",
)  # fmt: skip


@dataclass(frozen=True)
class LSPCConfig(MethodConfig):
    """Hyperparameters of LSPC.

    Where paper and public code differ or the paper is silent: rewards are not scaled and negative
    cost values are read as 0 (the public code's choices); time-outs are bootstrapped (ours; the
    public code ends the episode there). On the Bullet tasks but AntRun the paper takes epsilon 0.6.
    """

    batch_size: int = static(
        1024, "transitions in a minibatch", source="table 2", low=1, high=65536
    )
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target Q networks", source="table 2", low=1e-6, high=1.0
    )
    expectile: float = batched(
        0.7, "expectile of V_r; of V_c in reverse", source="eq. 39, 41, table 2",
        alias="xi", low=0.5, high=0.999,
    )  # fmt: skip
    cost_inverse_temperature: float = batched(
        2.0, "sharpness of the cost weight", source="eq. 43, table 2",
        alias="lambda", low=0.0, high=1e3,
    )  # fmt: skip
    reward_inverse_temperature: float = batched(
        2.0, "sharpness of the reward weight", source="eq. 44, table 2",
        alias="zeta", low=0.0, high=1e3,
    )  # fmt: skip
    latent_dim: int = static(32, "dimensions of z", source="A.3.1", low=1, high=512)
    kl_coefficient: float = batched(
        0.5, "weight of the CVAE's divergence", source="A.3.1", low=0.0, high=1e3
    )
    kl_reduction: str = static(
        "mean", "divergence over the latent dimensions: their mean or eq. 43's sum",
        source="public code", choices=("mean", "sum"),
    )  # fmt: skip
    restriction: float = batched(
        0.25, "half width of the latent box of LSPC-O", source="A.3.1",
        alias="epsilon", low=1e-3, high=10.0,
    )  # fmt: skip
    safe_restriction: float = batched(
        0.25, "half width of the latent box of LSPC-S; 0 takes that of LSPC-O", source="A.3.1",
        low=0.0, high=10.0,
    )  # fmt: skip
    prior_restriction: str = static(
        "clamp", "how the prior is brought into the box of LSPC-S: clamped or truncated",
        source="public code", choices=("clamp", "truncate"),
    )  # fmt: skip
    safety_mask: bool = static(
        False, "leave out pairs with a cost value above the threshold", source="A.3, MetaDrive"
    )
    cost_threshold: float = batched(
        0.02, "cost value above which the cost weight is 0", source="A.3", low=0.0, high=1e6
    )
    role: str = static(
        "normal", "CVAE safe and encoder rewarding, or the converse",
        source="figure 5", choices=("normal", "converse"),
    )  # fmt: skip
    clamp_costs: bool = static(True, "read negative cost values as 0", source="public code")
    done_signal: str = static(
        "terminals", "steps after which nothing follows",
        source="ours; public code: both", choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    reward_scaling: str = static(
        "none", "rewards as they are, or of order one a step",
        source="public code; normalized is FISOR's", choices=("none", "normalized"),
    )  # fmt: skip


class Values(NamedTuple):
    """The critics at a minibatch's pairs, each [B]: target Q of the ensembles, V online."""

    reward_q: Tensor
    reward_v: Tensor
    cost_q: Tensor
    cost_v: Tensor


class LSPC(Method):
    """Latent safety-prioritized constraints (LSPC sections 2.3, 3 and A.3, algorithm 2)."""

    name = "lspc"
    config_class = LSPCConfig
    policies = ("lspc_o", "lspc_s", "cvae")
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "cost_threshold": {"safety_mask": True, "cost_threshold": 0.5}
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("train", 1.0, NETWORKS),)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scale = self.spec.reward_scale if self.static.reward_scaling == "normalized" else 1.0
        done = data["terminals"]
        if self.static.done_signal == "terminals_and_timeouts":
            done = torch.maximum(done, data["timeouts"])
        kept = ("observations", "next_observations", "actions", "costs")
        return {
            **{name: data[name] for name in kept},
            "rewards": data["rewards"] * scale,
            "terminals": done,
        }

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        latent = self.static.latent_dim
        width, depth = self.static.hidden_dim, self.static.hidden_layers

        def network(inputs: int, outputs: int, **options: Any) -> Any:
            return init_mlp(generator, hidden_sizes(inputs, width, depth, outputs), **options)

        params = {
            "reward_q": network(observation + action, 1, ensemble=2),
            "reward_v": network(observation, 1),
            "cost_q": network(observation + action, 1, ensemble=2),
            "cost_v": network(observation, 1),
            "cvae_encoder": init_gaussian(generator, observation + action, latent, width, depth),
            "cvae_decoder": network(observation + latent, action),
            "safety_encoder": init_gaussian(generator, observation, latent, width, depth),
        }
        return {"params": params, "target": {name: params[name] for name in TARGETS}}

    def noise(self, phase: str) -> dict[str, Noise]:
        shape = (self.static.batch_size, self.static.latent_dim)
        return {"posterior": Noise(shape), "encoder": Noise(shape)}

    def loss(
        self,
        phase: str,
        params: Parameters,
        state: State,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Losses, Metrics]:
        values = self.evaluate_critics(params, state["target"], batch)
        cost_weight = self.cost_weight(values, hp)
        reward_weight = self.reward_weight(values, hp)
        weights = (cost_weight, reward_weight)
        cvae_weight, encoder_weight = weights if self.static.role == "normal" else weights[::-1]
        reconstruction, divergence = self.cvae_loss(params, cvae_weight, batch, hp, noise)
        losses = {
            **self.critic_loss(params, values, batch, hp),
            "loss/reconstruction": reconstruction,
            "loss/divergence": divergence,
            "loss/encoder": self.encoder_loss(params, encoder_weight, batch, hp, noise),
        }
        metrics = {
            **losses,
            "cost_weight_mean": cost_weight.mean(),
            "reward_weight_mean": reward_weight.mean(),
        }
        return torch.stack(list(losses.values())).sum(), metrics

    def evaluate_critics(self, params: Parameters, target: Parameters, batch: Batch) -> Values:
        """The smaller target Q_r, the larger target Q_c (A.3), and the state values."""
        observations, actions = batch["observations"], batch["actions"]
        cost_q = evaluate_ensemble(target["cost_q"], observations, actions).amax(0)
        return Values(
            reward_q=evaluate_ensemble(target["reward_q"], observations, actions).amin(0),
            reward_v=mlp(params["reward_v"], observations).squeeze(-1),
            cost_q=self.read_cost(cost_q),
            cost_v=mlp(params["cost_v"], observations).squeeze(-1),
        )

    def read_cost(self, value: Tensor) -> Tensor:
        """A cost value where it is used. The public code also clamps V_c inside its own
        regression, where a negative one then has no gradient: that is not done here."""
        return functional.relu(value) if self.static.clamp_costs else value

    def critic_loss(
        self, params: Parameters, values: Values, batch: Batch, hp: Hyperparameters
    ) -> dict[str, Tensor]:
        """Eq. 39 to 42. V_r leans to the best action of the data, V_c to the cheapest one: eq. 41
        weighs V_c > Q_c by xi, so a larger xi lowers V_c, though the text calls it conservative
        (what it makes stricter is the weight of eq. 43)."""
        observations, actions = batch["observations"], batch["actions"]
        after, done = batch["next_observations"], batch["terminals"]
        next_reward_v = mlp(detach(params["reward_v"]), after).squeeze(-1)
        next_cost_v = self.read_cost(mlp(detach(params["cost_v"]), after).squeeze(-1))
        reward_target = bellman_target(batch["rewards"], next_reward_v, done, hp.discount)
        cost_target = bellman_target(batch["costs"], next_cost_v, done, hp.discount)
        return {
            "loss/reward_v": expectile_loss(values.reward_q - values.reward_v, hp.expectile),
            "loss/cost_v": reversed_expectile_loss(values.cost_q - values.cost_v, hp.expectile),
            "loss/reward_q": squared_error(
                evaluate_ensemble(params["reward_q"], observations, actions), reward_target
            ),
            "loss/cost_q": squared_error(
                evaluate_ensemble(params["cost_q"], observations, actions), cost_target
            ),
        }

    def cost_weight(self, values: Values, hp: Hyperparameters) -> Tensor:
        """w_c of eq. 43 [B], without gradient: exp(lambda (V_c - Q_c)) up to 200.

        The mask's sentence in A.3 has lost a part; as in the public code it leaves out pairs of
        which Q_c or V_c exceeds the threshold.
        """
        cost_q, cost_v = values.cost_q, self.read_cost(values.cost_v.detach())
        weight = clipped_exponential(hp.cost_inverse_temperature * (cost_v - cost_q), WEIGHT_CLIP)
        if self.static.safety_mask:
            weight = weight * (torch.maximum(cost_q, cost_v) <= hp.cost_threshold)
        return weight

    def reward_weight(self, values: Values, hp: Hyperparameters) -> Tensor:
        """exp(zeta (Q_r - V_r)) of eq. 44 [B], without gradient, up to 200."""
        advantage = values.reward_q - values.reward_v.detach()
        return clipped_exponential(hp.reward_inverse_temperature * advantage, WEIGHT_CLIP)

    def cvae_loss(
        self,
        params: Parameters,
        weight: Tensor,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Tensor, Tensor]:
        """Eq. 43: weighted reconstruction and weighted divergence.

        -log p(a | s, z) is the squared distance. The printed coefficient 0.5 belongs to the mean
        over latent dimensions, as in the public code; on eq. 43's sum it is 32 times as strong.
        """
        observations, actions = batch["observations"], batch["actions"]
        mean, log_std = encode(params["cvae_encoder"], observations, actions)
        latent = reparameterize(mean, log_std, noise["posterior"])
        decoded = decode(params["cvae_decoder"], observations, latent)
        distance = (decoded - actions).square().sum(-1)
        divergence = divergence_from_standard_normal(mean, log_std)
        by_pair = divergence.sum(-1) if self.static.kl_reduction == "sum" else divergence.mean(-1)
        return (weight * distance).mean(), hp.kl_coefficient * (weight * by_pair).mean()

    def encoder_loss(
        self,
        params: Parameters,
        weight: Tensor,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> Tensor:
        """Eq. 44: weighted regression of the encoder's latent through the frozen decoder."""
        observations = batch["observations"]
        latent = restricted_latent(params["safety_encoder"], observations, hp, noise["encoder"])
        decoded = decode(detach(params["cvae_decoder"]), observations, latent)
        return (weight * (decoded - batch["actions"]).square().sum(-1)).mean()

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"latent": Noise((self.static.latent_dim,))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        latent = self.latent(policy, state["params"], observations, hp, noise["latent"])
        return decode(state["params"]["cvae_decoder"], observations, latent)

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
            return restricted_latent(params["safety_encoder"], observations, hp, noise)
        if policy == "lspc_s":
            own = hp.safe_restriction
            bound = torch.where(own > 0, own, hp.restriction)
            return restrict_prior(noise, bound, self.static.prior_restriction)
        return noise


def restricted_latent(
    encoder: Any, observations: Tensor, hp: Hyperparameters, noise: Tensor
) -> Tensor:
    """z = epsilon tanh(sample of mu(z | s)) (section 3.2): [B, o], [B, d] -> [B, d]."""
    mean, log_std = gaussian(encoder, observations, LATENT_POLICY_LOG_STD_RANGE)
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
