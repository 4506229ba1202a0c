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
* The flow is inverted with corrections (`components.behaviour_flow`); `inversion_error` is the root
  mean square difference between the data's actions and their latents decoded again.
* Latents are clipped to +-`latent_bound` per dimension, since actions outside the flow's support,
  on the bounds [-1, 1] say, invert to arbitrarily far ones. Decoded actions are clipped to [-1, 1].
* The log standard deviation of the policy is clipped to [-5, 2].
* Fine-tuning (table 2) is a third phase, `online`, for `online_share` of the steps: the flow stays
  frozen, critics and policy train on as before. The public code of FQL, whose evaluation the paper
  follows, acts one step before each gradient step; here a run acts an episode's horizon of steps
  before as many gradient steps, with what the policy then is, so that a run can be resumed. Latents
  of new actions are found as those of the data are, and Adam's moments start anew.

FLP knows no costs. With `safety` = "lagrangian" (ours, off by default) a latent cost critic, the
larger of two, is trained next to the reward's, and a multiplier keeps its mean under the policy
below the cost limit, spread over an episode and discounted as OSRL does. The best of N latents has
the highest value among those whose cost value is below that threshold, or else the lowest of these.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from safesweep.trainables.components.behaviour_flow import decode, encode_all, inversion_error
from safesweep.trainables.components.candidates import best_candidate, select
from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_candidates,
    squared_error,
)
from safesweep.trainables.components.cvae import gaussian, reparameterize
from safesweep.trainables.components.flow_matching import flow_matching_error, init_velocity_field
from safesweep.trainables.components.lagrangian import (
    init_multiplier,
    lagrangian,
    positive_multiplier,
)
from safesweep.trainables.components.networks import Activation, Layers, detach, gaussian_kl
from safesweep.trainables.components.replay import (
    add_to_totals,
    empty_replay,
    no_totals,
    replace_oldest,
    with_replayed,
)
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.flp_config import FLPConfig
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

LOG_STD_RANGE = (-5.0, 2.0)


class Values(NamedTuple):
    """What latents are worth: reward values and, where cost is constrained, cost values."""

    reward: Tensor
    cost: Tensor | None


class FLP(Method):
    """Flow latent policy (algorithm 1), with an optional cost constraint."""

    name = "flp"
    config_class = FLPConfig
    policies = FLPConfig.policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {"latent_bound": 0.5, "learning_rate": 3e-3}
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **NETWORK_CONDITIONS,
        "multiplier_speed": {"safety": "lagrangian"},
        "replay_capacity": {"online_share": 0.5, "replay_capacity": 5},
    }

    @property
    def constrained(self) -> bool:
        """Whether cost is kept below the limit."""
        return bool(self.static.safety == "lagrangian")

    @property
    def phases(self) -> tuple[Phase, ...]:
        trained = ("reward_q", "policy", *(("cost_q", "multiplier") if self.constrained else ()))
        share, offline = self.static.flow_share, 1 - self.static.online_share
        flow = Phase("flow", share * offline, ("flow",), concludes=True)
        policy = Phase("policy", (1 - share) * offline, trained)
        if not self.goes_online:
            return (flow, policy)
        return (flow, policy, Phase("online", self.static.online_share, trained, online=True))

    @property
    def goes_online(self) -> bool:
        """Whether training goes on in the environment."""
        return bool(self.static.online_share > 0)

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds `row`, by which a minibatch finds its latents; counts them on the way."""
        self.samples = len(data["actions"])
        return {**super().prepare(data), "row": torch.arange(self.samples)}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        params: Parameters = {
            "flow": init_velocity_field(generator, action, observation, *self.hidden),
            "reward_q": self.critic_mlp(generator, observation + action, ensemble=2),
            # Starts at the prior, where its KL is zero.
            "policy": self.mlp(generator, observation, 2 * action, final_scale=0.01),
        }
        if self.constrained:
            params["cost_q"] = self.critic_mlp(generator, observation + action, ensemble=2)
            params["multiplier"] = init_multiplier()
        state: State = {
            "params": params,
            "target": {name: params[name] for name in params if name.endswith("_q")},
            "latents": torch.zeros(self.samples, action),
            "inversion_error": torch.zeros(()),
        }
        if self.goes_online:
            row = {name: () for name in ("rewards", "costs", "terminals")}
            here = {name: (observation,) for name in ("observations", "next_observations")}
            state["replay"] = empty_replay(
                self.static.replay_capacity, {**here, "latents": (action,), **row}
            )
            state["online"] = no_totals()
        return state

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        if phase == "flow":
            return {"start": Noise((batch, action)), "time": Noise((batch,), "uniform")}
        drawn = {
            "policy": Noise((batch, action)),
            "next": Noise((self.static.candidates, batch, action)),
        }
        if phase == "online":
            drawn |= {name: Noise((batch,), "uniform") for name in ("replayed", "place")}
        return drawn

    @property
    def losses(self) -> Losses:
        return {"flow": self.flow_loss, "policy": self.latent_loss, "online": self.online_loss}

    def flow_loss(self, inputs: StepInputs) -> StepOutputs:
        """Eq. 3."""
        params, _, batch, _, noise, _ = inputs
        error = flow_matching_error(
            params["flow"], batch["actions"], noise["start"], noise["time"],
            batch["observations"], self.activation,
        )  # fmt: skip
        return jointly({"loss/flow": error.mean()})

    def latent_loss(self, inputs: StepInputs) -> StepOutputs:
        """The critics and the policy, each by its own loss."""
        critic_losses, critic_metrics = self.critic_losses(inputs)
        policy_losses, policy_metrics = self.policy_losses(inputs)
        inversion = {"inversion_error": inputs.state["inversion_error"]}
        metrics = {**critic_metrics, **policy_metrics, **inversion}
        return StepOutputs({**critic_losses, **policy_losses}, metrics)

    def critic_losses(self, inputs: StepInputs) -> tuple[Metrics, Metrics]:
        """Eq. 5: (Q(s, z) - (r + gamma Q(s', z*)))^2 at the data's latents, and so for costs."""
        params, state, batch, hp, noise, _ = inputs
        here, after, done = batch["observations"], batch["next_observations"], batch["terminals"]
        candidates = self.latents(detach(params["policy"]), after, noise["next"], hp)
        values = self.values(inputs.target, after, candidates)
        chosen = best_candidate(*values, self.cost_threshold(hp))
        latents = batch["latents"] if "latents" in batch else state["latents"][batch["row"]]
        signals, losses = (batch["rewards"], batch["costs"]), {}
        for name, signal, value in zip(("reward_q", "cost_q"), signals, values, strict=True):
            if value is None:
                continue
            target = bellman_target(signal, select(value, chosen), done, hp.discount)
            predicted = evaluate_candidates(params[name], here, latents, self.critic_activation)
            losses[name] = squared_error(predicted, target)
        return losses, {f"loss/{name}": loss for name, loss in losses.items()}

    def policy_losses(self, inputs: StepInputs) -> tuple[Metrics, Metrics]:
        """Eq. 4: -Q(s, z) + alpha KL(pi || N(0, I)), z reparameterized; -Q gives way to a weighted
        mean with the cost where that is constrained."""
        params, _, batch, hp, noise, _ = inputs
        observations = batch["observations"]
        latent = self.latents(params["policy"], observations, noise["policy"], hp)
        values = self.values(detach(params), observations, latent)
        distribution = gaussian(params["policy"], observations, LOG_STD_RANGE, self.activation)
        kl = gaussian_kl(*distribution).mean()
        if values.cost is None:
            objective, losses, metrics = -values.reward.mean(), {}, {}
        else:
            multiplier = positive_multiplier(params["multiplier"], hp.multiplier_speed)
            objective = lagrangian(values.reward.mean(), values.cost.mean(), multiplier)
            excess = values.cost.detach().mean() - self.cost_threshold(hp)
            losses = {"multiplier": -multiplier * excess}
            metrics = {"multiplier": multiplier.detach(), "cost_excess": excess}
        losses["policy"] = objective + hp.kl_coefficient * kl
        return losses, {**metrics, "loss/policy": losses["policy"], "latent_kl": kl}

    def values(self, critics: Parameters, observations: Tensor, latents: Tensor) -> Values:
        """Values of latents [..., B, a] in states [B, o]: each [..., B]."""
        activation = self.critic_activation
        both = evaluate_candidates(critics["reward_q"], observations, latents, activation)
        reward = both.mean(0) if self.static.critic_aggregation == "mean" else both.amin(0)
        if not self.constrained:
            return Values(reward, None)
        costs = evaluate_candidates(critics["cost_q"], observations, latents, activation)
        return Values(reward, costs.amax(0))

    def cost_threshold(self, hp: Hyperparameters) -> Tensor:
        """The discounted cost of an episode that spreads the limit evenly over its steps."""
        horizon = self.spec.horizon
        discounted_steps: Tensor = (1 - hp.discount**horizon) / (1 - hp.discount)
        return self.spec.cost_limit / horizon * discounted_steps

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Invert the dataset: z = f^-1(a; s) of every step, with the frozen flow."""
        latents = self.data_latents(state, data, hp)
        error = inversion_error(state["params"]["flow"], data, latents, *self.flow_options)
        return {**state, "latents": latents, "inversion_error": error}

    def data_latents(self, state: State, data: Batch, hp: Hyperparameters) -> Tensor:
        """f^-1(a; s) of every step, within the bound: [N, a]."""
        return encode_all(state["params"]["flow"], data, hp.latent_bound, *self.flow_options)

    @property
    def flow_options(self) -> tuple[int, Activation]:
        """With which the flow is followed."""
        return self.static.flow_steps, self.activation

    def online_loss(self, inputs: StepInputs) -> StepOutputs:
        """As offline, of transitions drawn evenly from the data and those of the environment."""
        state, noise = inputs.state, inputs.noise
        batch = {**inputs.batch, "latents": state["latents"][inputs.batch["row"]]}
        mixed = with_replayed(
            batch, state["replay"], state["online"]["steps"], self.samples,
            noise["replayed"], noise["place"],
        )  # fmt: skip
        return self.latent_loss(inputs._replace(batch=mixed))

    def take_in(
        self, state: State, transitions: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Keep transitions, with their latents, over the oldest ones; and what they came to."""
        latents = self.data_latents(state, transitions, hp)
        columns = {**Method.prepare(self, transitions), "latents": latents}
        replay = replace_oldest(state["replay"], columns, int(state["online"]["steps"]))
        return {**state, "replay": replay, "online": add_to_totals(state["online"], transitions)}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """What training in the environment has come to so far: costs of exploring are costs."""
        return {f"online_{name}": total for name, total in state.get("online", {}).items()}

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"policy": Noise((self.static.candidates, self.spec.action_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        params, drawn = state["params"], noise["policy"].transpose(0, 1)
        candidates = self.latents(params["policy"], observations, drawn, hp)
        values = self.values(params, observations, candidates)
        chosen = best_candidate(*values, self.cost_threshold(hp))
        latents = select(candidates, chosen)
        return decode(params["flow"], observations, latents, *self.flow_options)

    def latents(
        self, policy: Layers, observations: Tensor, noise: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """z = mu(s) + sigma(s) noise, within the bound; gradients pass: [..., B, a]."""
        mean, log_std = gaussian(policy, observations, LOG_STD_RANGE, self.activation)
        sampled = reparameterize(mean, log_std, noise)
        return torch.clamp(sampled, -hp.latent_bound, hp.latent_bound)
