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
* Fine-tuning (table 2) is a third phase, `online`, for `online_share` of the steps: the flow stays
  frozen, critics and policy train on as before. The public code of FQL, whose evaluation the paper
  follows, acts one step before each gradient step; here a run acts an episode's horizon of steps
  before as many gradient steps, with what the policy then is, so that a run can be resumed. Latents
  of new actions are found as those of the data are, and Adam's moments start anew. The metrics
  `online_steps`, `online_episodes`, `online_cost` and `online_reward` count what acting came to:
  costs of exploring are costs.

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

from safesweep.trainables.components.candidates import best_candidate, select
from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_candidates,
    squared_error,
)
from safesweep.trainables.components.cvae import gaussian, reparameterize
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    init_velocity_field,
    invert,
)
from safesweep.trainables.components.networks import Activation, Layers, detach
from safesweep.trainables.methods.common_options import (
    NETWORK_CONDITIONS,
    NetworkConfig,
    ValueConfig,
)
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
    batched,
    in_parts,
    jointly,
    static,
)

LOG_STD_RANGE = (-5.0, 2.0)
INVERSION_CORRECTIONS = 5
CHUNK = 8192
ONLINE_SUMS = ("steps", "episodes", "cost", "reward")


@dataclass(frozen=True)
class FLPConfig(ValueConfig, NetworkConfig):
    """Hyperparameters of FLP. "ours" marks what the paper does not print."""

    phase_shares = ("flow_share",)  # An online phase is more than a share: it is another run.

    target_update_rate: float = batched(
        0.005, "Polyak rate of the target critics", source="FQL", low=1e-6, high=1.0
    )
    kl_coefficient: float = batched(
        1.0, "weight of the KL", source="eq. 4; main results", alias="alpha", low=0.0, high=1e4
    )
    candidates: int = static(
        4, "latents to choose from", source="experimental setup", alias="N", low=1, high=256
    )
    flow_steps: int = static(10, "Euler steps of the flow", source="FQL", low=1, high=256)
    critic_aggregation: str = static(
        "mean", "how two critics count", source="FQL", choices=("mean", "minimum")
    )
    latent_bound: float = batched(
        5.0, "largest size of a latent's entry", source="ours", low=0.1, high=100.0
    )
    flow_share: float = static(
        0.3, "part of the offline gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )
    online_share: float = static(
        0.0, "part of the gradient steps that goes on in the environment", source="table 2: half",
        low=0.0, high=0.95,
    )  # fmt: skip
    replay_capacity: int = static(
        1_000_000, "transitions of the environment that are kept", source="table 2: all of them",
        low=1, high=10**7,
    )  # fmt: skip
    safety: str = static(
        "off", "whether the cost is constrained", source="ours", choices=("off", "lagrangian")
    )
    multiplier_speed: float = batched(
        10.0, "the multiplier's pace, in weights' paces", source="ours", low=0.01, high=1e4
    )

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
            params["multiplier"] = {"raw": torch.zeros(())}
        state: State = {
            "params": params,
            "target": {name: params[name] for name in params if name.endswith("_q")},
            "latents": torch.zeros(self.samples, action),
            "inversion_error": torch.zeros(()),
        }
        if self.goes_online:
            shapes: dict[str, tuple[int, ...]] = {
                "observations": (observation,), "next_observations": (observation,),
                "latents": (action,), "rewards": (), "costs": (), "terminals": (),
            }  # fmt: skip
            capacity = self.static.replay_capacity
            state["replay"] = {n: torch.zeros(capacity, *shape) for n, shape in shapes.items()}
            state["online"] = {name: torch.zeros(()) for name in ONLINE_SUMS}
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
        return {
            "flow": self.flow_loss,
            "policy": self.latent_loss,
            "online": self.online_loss,
        }

    def online_loss(self, inputs: StepInputs) -> StepOutputs:
        """As offline, of transitions drawn evenly from the data and those of the environment."""
        return self.latent_loss(inputs._replace(batch=self.with_replayed(inputs)))

    def with_replayed(self, inputs: StepInputs) -> Batch:
        """The minibatch, with so many of its transitions replaced by ones of the environment as
        that has of all transitions."""
        state, noise = inputs.state, inputs.noise
        held = state["online"]["steps"].clamp(max=self.static.replay_capacity)
        chosen = noise["replayed"] < held / (held + self.samples)
        rows = (noise["place"] * held).long().clamp(max=self.static.replay_capacity - 1)
        batch = {**inputs.batch, "latents": state["latents"][inputs.batch["row"]]}

        def mixed(name: str) -> Tensor:
            own, column = state["replay"][name][rows], batch[name]
            return torch.where(chosen.reshape(-1, *[1] * (column.dim() - 1)), own, column)

        return {name: mixed(name) for name in state["replay"]}

    def take_in(
        self, state: State, transitions: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Keep transitions, with their latents, over the oldest ones; and what they came to."""
        latents = [
            self.bounded_latents(state, observations, actions, hp)
            for observations, actions in in_parts(
                CHUNK, transitions["observations"], transitions["actions"]
            )
        ]
        prepared = Method.prepare(self, transitions)
        columns = {**prepared, "latents": torch.cat(latents)}
        before, online = state["online"], {
            "steps": float(len(columns["rewards"])),
            "episodes": transitions["begun"],
            "cost": transitions["costs"].sum(),
            "reward": transitions["rewards"].sum(),
        }  # fmt: skip
        capacity = self.static.replay_capacity
        places = int(before["steps"]) + torch.arange(len(columns["rewards"]))
        places = places.to(columns["rewards"].device)[-capacity:] % capacity
        replay = {
            name: column.index_copy(0, places, columns[name][-capacity:])
            for name, column in state["replay"].items()
        }
        sums = {name: before[name] + value for name, value in online.items()}
        return {**state, "replay": replay, "online": sums}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """What training in the environment has come to so far: sums over all of its steps."""
        if not self.goes_online:
            return {}
        return {f"online_{name}": state["online"][name] for name in ONLINE_SUMS}

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
        after, terminal = batch["next_observations"], batch["terminals"]
        candidates = self.latents(detach(params["policy"]), after, noise["next"], hp)
        values = self.values(inputs.target, after, candidates)
        chosen = best_candidate(*values, self.cost_threshold(hp))
        latents = batch["latents"] if "latents" in batch else state["latents"][batch["row"]]
        losses = {}
        for name, signal, candidate_values in (
            ("reward_q", batch["rewards"], values.reward),
            ("cost_q", batch["costs"], values.cost),
        ):
            if candidate_values is None:
                continue
            target = bellman_target(signal, select(candidate_values, chosen), terminal, hp.discount)
            predicted = evaluate_candidates(
                params[name], batch["observations"], latents, self.critic_activation
            )
            losses[name] = squared_error(predicted, target)
        return losses, {f"loss/{name}": loss for name, loss in losses.items()}

    def policy_losses(self, inputs: StepInputs) -> tuple[Metrics, Metrics]:
        """Eq. 4: -Q(s, z) + alpha KL(pi || N(0, I)), z reparameterized.

        Constrained, the policy minimizes (-Q + lambda Q_c) / (1 + lambda) + alpha KL, and the
        multiplier lambda rises while the mean of Q_c is above its threshold.
        """
        params, _, batch, hp, noise, _ = inputs
        observations = batch["observations"]
        latent = self.latents(params["policy"], observations, noise["policy"], hp)
        values = self.values(detach(params), observations, latent)
        distribution = gaussian(params["policy"], observations, LOG_STD_RANGE, self.activation)
        kl = gaussian_kl(*distribution).mean()
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
        flow, flow_options = state["params"]["flow"], (self.static.flow_steps, self.activation)
        chunks, squared_errors = [], []
        for observations, actions in in_parts(CHUNK, data["observations"], data["actions"]):
            latent = self.bounded_latents(state, observations, actions, hp)
            decoded = decode(flow, observations, latent, *flow_options)
            squared_errors.append((decoded - actions).square().sum())
            chunks.append(latent)
        error = (torch.stack(squared_errors).sum() / data["actions"].numel()).sqrt()
        return {**state, "latents": torch.cat(chunks), "inversion_error": error}

    def bounded_latents(
        self, state: State, observations: Tensor, actions: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """f^-1(a; s) within the bound: [B, a]."""
        options = self.static.flow_steps, self.activation
        latent = encode(state["params"]["flow"], observations, actions, *options)
        return torch.clamp(latent, -hp.latent_bound, hp.latent_bound)

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"policy": Noise((self.static.candidates, self.spec.action_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        params, drawn = state["params"], noise["policy"].transpose(0, 1)
        candidates = self.latents(params["policy"], observations, drawn, hp)
        values = self.values(params, observations, candidates)
        chosen = best_candidate(*values, self.cost_threshold(hp))
        latent = select(candidates, chosen)
        return decode(params["flow"], observations, latent, self.static.flow_steps, self.activation)

    def latents(
        self, policy: Layers, observations: Tensor, noise: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """`sample_latents` of this configuration's policy."""
        return sample_latents(policy, observations, noise, hp.latent_bound, self.activation)


def sample_latents(
    policy: Layers,
    observations: Tensor,
    noise: Tensor,
    bound: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """z = mu(s) + sigma(s) noise, within the bound; gradients pass: noise [..., B, a] -> same."""
    mean, log_std = gaussian(policy, observations, LOG_STD_RANGE, activation)
    return torch.clamp(reparameterize(mean, log_std, noise), -bound, bound)


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)): [B, a] -> [B]."""
    return 0.5 * (torch.exp(2 * log_std) + mean.square() - 1 - 2 * log_std).sum(-1)


def decode(
    flow: Layers,
    observations: Tensor,
    latents: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """f(z; s): latents [B, a] -> actions within [-1, 1]."""
    return generate(flow, latents, observations, steps, activation).clamp(-1, 1)


def encode(
    flow: Layers,
    observations: Tensor,
    actions: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """f^-1(a; s): actions [B, a] -> latents."""
    return invert(flow, actions, observations, steps, INVERSION_CORRECTIONS, activation)
