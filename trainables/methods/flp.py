"""FLP: behaviour regularization with a flow latent policy.

Two phases. `flow` fits a behaviour flow by flow matching (eq. 3). When it ends it is frozen and
the dataset's actions are inverted to latents (algorithm 1, line 4). `policy` trains a latent
critic and a Gaussian latent policy on these, with the closed-form KL to N(0, I) (eq. 4, 5). Acting
draws N latents, and decodes the one with the highest value.

Where the paper is silent, ours:

* Flow steps, widths and the number of critics are not printed. The flow has FQL's ten Euler steps,
  and there are two critics of which the mean counts (FQL's default) or the minimum.
* Algorithm 1 bootstraps from the critic itself; its preliminaries (eq. 2) write a target network,
  which is used here. z* is chosen by that same target. Time-outs are bootstrapped, terminals not.
* Euler's method backwards does not undo Euler's method: each inverse step is corrected by
  fixed-point iterations, and the metric `inversion_error` is the root mean square difference, per
  action dimension, between the data's actions and their latents decoded again.
* Latents are clipped to +-`latent_bound` per dimension, since actions outside the flow's support,
  on the bounds [-1, 1] say, invert to arbitrarily far ones. Decoded actions are clipped to [-1, 1].
* The log standard deviation of the policy is clipped to [-5, 2].

FLP knows no costs. With `safety` = "lagrangian" (ours, off by default) a latent cost critic, the
larger of two, is trained next to the reward's, and a multiplier keeps its mean under the policy
below the cost limit, spread over an episode and discounted as OSRL does. Of N latents the best is
then the one of highest value among those whose cost value is below that threshold, or the one of
lowest cost value if there is none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.critics import bellman_target, squared_error
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    init_velocity_field,
    integrate,
    integrate_inverse,
    velocity,
)
from safesweep.trainables.components.networks import (
    Layers,
    detach,
    ensemble_mlp,
    hidden_sizes,
    init_mlp,
    mlp,
)
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

LOG_STD_RANGE = (-5.0, 2.0)
INVERSION_CORRECTIONS = 5
CHUNK = 8192


@dataclass(frozen=True)
class FLPConfig(MethodConfig):
    """Hyperparameters of FLP. "ours" marks what the paper does not print."""

    phase_shares = ("flow_share",)

    target_update_rate: float = batched(
        0.005, "Polyak rate of the target critics", source="FQL", low=1e-6, high=1.0
    )
    kl_coefficient: float = batched(
        1.0, "weight of KL(pi || N(0, I))", source="eq. 4; main results",
        alias="alpha", low=0.0, high=1e4,
    )  # fmt: skip
    candidates: int = static(
        4, "latents drawn, of which the best counts", source="experimental setup",
        alias="N", low=1, high=256,
    )  # fmt: skip
    flow_steps: int = static(10, "Euler steps of the flow", source="FQL", low=1, high=256)
    critic_aggregation: str = static(
        "mean", "how two critics count", source="FQL", choices=("mean", "minimum")
    )
    latent_bound: float = batched(
        5.0, "largest size of a latent's entry", source="ours", low=0.1, high=100.0
    )
    flow_share: float = static(
        0.3, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )
    safety: str = static(
        "off", "whether the cost is constrained", source="ours", choices=("off", "lagrangian")
    )
    multiplier_speed: float = batched(
        10.0, "how much faster than a weight the multiplier moves", source="ours",
        low=0.01, high=1e4,
    )  # fmt: skip

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.safety == "lagrangian"


class Values(NamedTuple):
    """What latents are worth: reward values and, where cost is constrained, cost values."""

    reward: Tensor
    cost: Tensor | None


class FLP(Method):
    """Flow latent policy (algorithm 1), with an optional cost constraint."""

    name = "flp"
    config_class = FLPConfig
    policies = ("flp",)
    sensitive_settings: ClassVar[Mapping[str, Any]] = {"latent_bound": 0.5, "learning_rate": 3e-3}
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "multiplier_speed": {"safety": "lagrangian"}
    }

    @property
    def constrained(self) -> bool:
        """Whether cost is kept below the limit."""
        return bool(self.static.safety == "lagrangian")

    @property
    def phases(self) -> tuple[Phase, ...]:
        trained = ("reward_q", "policy", *(("cost_q", "multiplier") if self.constrained else ()))
        share = self.static.flow_share
        return (
            Phase("flow", share, ("flow",), concludes=True),
            Phase("policy", 1 - share, trained),
        )

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds `row`, by which a minibatch finds its latents; counts them on the way."""
        self.samples = len(data["actions"])
        return {**super().prepare(data), "row": torch.arange(self.samples)}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        width, depth = self.static.hidden_dim, self.static.hidden_layers

        def network(inputs: int, outputs: int, **options: Any) -> Any:
            return init_mlp(generator, hidden_sizes(inputs, width, depth, outputs), **options)

        params = {
            "flow": init_velocity_field(generator, action, observation, width, depth),
            "reward_q": network(observation + action, 1, ensemble=2),
            # Starts at the prior, where its KL is zero.
            "policy": network(observation, 2 * action, final_scale=0.01),
        }
        if self.constrained:
            params["cost_q"] = network(observation + action, 1, ensemble=2)
            params["multiplier"] = {"raw": torch.zeros(())}
        critics = ("reward_q", "cost_q") if self.constrained else ("reward_q",)
        return {
            "params": params,
            "target": {name: params[name] for name in critics},
            "latents": torch.zeros(self.samples, action),
            "inversion_error": torch.zeros(()),
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        if phase == "flow":
            return {"start": Noise((batch, action)), "time": Noise((batch,), "uniform")}
        return {
            "policy": Noise((batch, action)),
            "next": Noise((self.static.candidates, batch, action)),
        }

    def loss(
        self,
        phase: str,
        params: Parameters,
        state: State,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Losses, Metrics]:
        if phase == "flow":
            error = flow_matching_error(
                params["flow"],
                batch["actions"],
                noise["start"],
                noise["time"],
                batch["observations"],
            ).mean()
            return error, {"loss/flow": error}
        critic_losses, critic_metrics = self.critic_loss(params, state, batch, hp, noise)
        policy_losses, policy_metrics = self.policy_loss(params, batch, hp, noise)
        metrics = {
            **critic_metrics,
            **policy_metrics,
            "inversion_error": state["inversion_error"],
        }
        return {**critic_losses, **policy_losses}, metrics

    def critic_loss(
        self, params: Parameters, state: State, batch: Batch, hp: Hyperparameters, noise: Batch
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Eq. 5: (Q(s, z) - (r + gamma Q(s', z*)))^2 at the data's latents, and so for costs."""
        after, terminal = batch["next_observations"], batch["terminals"]
        candidates = sample_latents(detach(params["policy"]), after, noise["next"], hp.latent_bound)
        values = self.values(state["target"], after, candidates)
        chosen = best_candidate(values, self.cost_threshold(hp))
        latents = state["latents"][batch["row"]]
        losses = {}
        for name, signal, candidate_values in (
            ("reward_q", batch["rewards"], values.reward),
            ("cost_q", batch["costs"], values.cost),
        ):
            if candidate_values is None:
                continue
            target = bellman_target(signal, select(candidate_values, chosen), terminal, hp.discount)
            predicted = evaluate_latents(params[name], batch["observations"], latents)
            losses[name] = squared_error(predicted, target)
        return losses, {f"loss/{name}": loss for name, loss in losses.items()}

    def policy_loss(
        self, params: Parameters, batch: Batch, hp: Hyperparameters, noise: Batch
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Eq. 4: -Q(s, z) + alpha KL(pi || N(0, I)), z reparameterized.

        Constrained, the policy minimizes (-Q + lambda Q_c) / (1 + lambda) + alpha KL, and the
        multiplier lambda rises while the mean of Q_c is above its threshold.
        """
        observations = batch["observations"]
        latent = sample_latents(params["policy"], observations, noise["policy"], hp.latent_bound)
        values = self.values(detach(params), observations, latent)
        kl = gaussian_kl(*latent_distribution(params["policy"], observations)).mean()
        if values.cost is None:
            objective = -values.reward.mean()
            losses, metrics = {}, {}
        else:
            multiplier = functional.softplus(hp.multiplier_speed * params["multiplier"]["raw"])
            fixed = multiplier.detach()
            objective = (fixed * values.cost.mean() - values.reward.mean()) / (1 + fixed)
            excess = values.cost.detach().mean() - self.cost_threshold(hp)
            losses = {"multiplier": -multiplier * excess}
            metrics = {"multiplier": fixed, "cost_excess": excess}
        losses["policy"] = objective + hp.kl_coefficient * kl
        return losses, {**metrics, "loss/policy": losses["policy"], "latent_kl": kl}

    def values(self, critics: Parameters, observations: Tensor, latents: Tensor) -> Values:
        """Values of latents [..., B, a] in states [B, o]: each [..., B]."""
        both = evaluate_latents(critics["reward_q"], observations, latents)
        reward = both.mean(0) if self.static.critic_aggregation == "mean" else both.amin(0)
        if not self.constrained:
            return Values(reward, None)
        return Values(reward, evaluate_latents(critics["cost_q"], observations, latents).amax(0))

    def cost_threshold(self, hp: Hyperparameters) -> Tensor:
        """The discounted cost of an episode that spreads the limit evenly over its steps."""
        horizon = self.spec.horizon
        discounted_steps: Tensor = (1 - hp.discount**horizon) / (1 - hp.discount)
        return self.spec.cost_limit / horizon * discounted_steps

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Invert the dataset: z = f^-1(a; s) of every step, with the frozen flow."""
        flow, steps = state["params"]["flow"], self.static.flow_steps
        chunks, squared_errors = [], []
        for observations, actions in zip(
            torch.split(data["observations"], CHUNK),
            torch.split(data["actions"], CHUNK),
            strict=True,
        ):
            latent = encode(flow, observations, actions, steps)
            latent = torch.clamp(latent, -hp.latent_bound, hp.latent_bound)
            decoded = decode(flow, observations, latent, steps)
            squared_errors.append((decoded - actions).square().sum())
            chunks.append(latent)
        error = (torch.stack(squared_errors).sum() / data["actions"].numel()).sqrt()
        return {**state, "latents": torch.cat(chunks), "inversion_error": error}

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"policy": Noise((self.static.candidates, self.spec.action_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        params, drawn = state["params"], noise["policy"].transpose(0, 1)
        candidates = sample_latents(params["policy"], observations, drawn, hp.latent_bound)
        values = self.values(params, observations, candidates)
        chosen = best_candidate(values, self.cost_threshold(hp))
        latent = select(candidates, chosen)
        return decode(params["flow"], observations, latent, self.static.flow_steps)


def latent_distribution(policy: Layers, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log standard deviation of pi(z | s), each [B, a]."""
    mean, log_std = mlp(policy, observations).chunk(2, dim=-1)
    return mean, log_std.clamp(*LOG_STD_RANGE)


def sample_latents(policy: Layers, observations: Tensor, noise: Tensor, bound: Tensor) -> Tensor:
    """z = mu(s) + sigma(s) noise, within the bound; gradients pass: noise [..., B, a] -> same."""
    mean, log_std = latent_distribution(policy, observations)
    return torch.clamp(mean + log_std.exp() * noise, -bound, bound)


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)): [B, a] -> [B]."""
    return 0.5 * (torch.exp(2 * log_std) + mean.square() - 1 - 2 * log_std).sum(-1)


def evaluate_latents(layers: Layers, observations: Tensor, latents: Tensor) -> Tensor:
    """Q(s, z) of each network of an ensemble, for latents [..., B, a]: -> [k, ..., B]."""
    states = observations.expand(*latents.shape[:-1], observations.shape[-1])
    pairs = torch.cat((states, latents), dim=-1)
    flat = ensemble_mlp(layers, pairs.flatten(0, -2)).squeeze(-1)
    return flat.reshape(*flat.shape[:-1], *latents.shape[:-1])


def best_candidate(values: Values, cost_threshold: Tensor) -> Tensor:
    """Index [B] of the candidate to take, of values [N, B].

    The highest reward value; where cost is constrained, among the candidates below the threshold,
    or else the lowest cost value.
    """
    if values.cost is None:
        return values.reward.argmax(0)
    allowed = values.cost <= cost_threshold
    among_allowed = torch.where(allowed, values.reward, -torch.inf).argmax(0)
    return torch.where(allowed.any(0), among_allowed, values.cost.argmin(0))


def select(candidates: Tensor, chosen: Tensor) -> Tensor:
    """Of candidates [N, B, ...] the chosen [B] one of each: [B, ...]."""
    index = chosen.reshape(1, -1, *[1] * (candidates.dim() - 2))
    return candidates.gather(0, index.expand(1, *candidates.shape[1:])).squeeze(0)


def decode(flow: Layers, observations: Tensor, latents: Tensor, steps: int) -> Tensor:
    """f(z; s): latents [B, a] -> actions within [-1, 1]."""

    def field(value: Tensor, time: float) -> Tensor:
        return velocity(flow, value, time, observations)

    return integrate(field, latents, steps).clamp(-1, 1)


def encode(flow: Layers, observations: Tensor, actions: Tensor, steps: int) -> Tensor:
    """f^-1(a; s): actions [B, a] -> latents."""

    def field(value: Tensor, time: float) -> Tensor:
        return velocity(flow, value, time, observations)

    return integrate_inverse(field, actions, steps, INVERSION_CORRECTIONS)
