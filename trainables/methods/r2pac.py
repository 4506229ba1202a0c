"""R2PAC: region-based reward penalty over action chunks.

Two phases, the two loops of algorithm 3. `critics` fits in-sample critics of h-step chunks: of the
cost, whose value and a threshold l divide states into safe and unsafe, and of the reward, in which
a chunk that ends in an unsafe state leads to an absorbing state of constant penalty. `actor` trains
a policy over chunks, of which only the first action is executed.

No public code is known; where the paper is silent, wrong or ambiguous, this is what is done:
- Two networks a critic, the smaller reward and the larger cost, as IQL's practice; target copies
  are used where a value is fitted to Q, and by the actor.
- Table 5 prints the penalty "C-bar" as 1 or 10, though eq. 12 makes C-bar = -C / (1 - gamma)
  negative: it is read as C, the penalty a step. Proposition 1's proof needs rewards >= 0, so C is
  counted from the lowest reward of the data where that is negative (`penalty_base`).
- Rewards are scaled by the task's range of returns (table 4 scales some tasks by hand).
- The threshold "during training" is the quantile of V_c over the minibatch's states; the actor's
  is that over the dataset, taken once when the critics are done. Until then it is 0.
- Eq. 15 judges a chunk by the state after it. A chunk that is done has none: it is judged by its
  own cost, which is all that the episode still had.
- HJ feasibility (appendix E.6) has its own threshold, 0. Its h(s) is FISOR's, made from the costs.
- Eq. 11 swaps its arguments and eq. 16 prints the expectile as 2; eq. 3 shows what is meant.
- Exponential weights (eq. 40, 41) are clipped at 100, as in IQL; the Gaussian actor samples, so
  that all actors choose among candidates.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.action_chunks import (
    chunk_columns,
    chunk_feasibility_target,
    chunk_target,
)
from safesweep.trainables.components.critics import (
    clipped_exponential,
    expectile_loss,
    reversed_expectile_loss,
    squared_error,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    guided_velocity,
    init_velocity_field,
    integrate,
    velocity,
)
from safesweep.trainables.components.networks import (
    Layers,
    ensemble_mlp,
    gaussian_log_density,
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
    ProblemSpec,
    State,
    StepOutputs,
    batched,
    static,
)

WEIGHT_CLIP = 100.0
VIOLATION_SIGNAL, SAFE_SIGNAL = 25.0, -1.0
GAUSSIAN_HIDDEN_LAYERS = 2  # "three-layer MLP"
LOG_STD_RANGE = (-5.0, 2.0)
THRESHOLD_STATES = 20_000
JUDGED_AT_ONCE = 16_384
CRITICS = ("reward_q", "reward_v", "safety_q", "safety_v")
NULL, POOR, OPTIMAL = 0, 1, 2


class Judgement(NamedTuple):
    """Of chunks: the advantage [B] in what the actor follows, and whether V_c > l [B]."""

    advantage: Tensor
    unsafe: Tensor


@dataclass(frozen=True)
class R2PACConfig(MethodConfig):
    """Hyperparameters of R2PAC. "ours" marks what the paper does not print."""

    phase_shares = ("critic_share",)

    hidden_dim: int = static(512, "units of a hidden layer", source="table 4", low=1, high=8192)
    hidden_layers: int = static(
        4, "hidden layers of critics and flow", source="table 4", low=1, high=16
    )
    batch_size: int = static(1024, "chunks in a minibatch", source="table 4", low=1, high=65536)
    chunk_length: int = static(
        5, "steps in a chunk", source="eq. 14, table 4", alias="h", low=1, high=100
    )
    done_signal: str = static(
        "terminals", "what ends an episode for the critics", source="appendix E.5, table 8",
        choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    expectile: float = batched(
        0.9, "expectile of V_r and V_c", source="eq. 11, 16, table 4",
        alias="tau", low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target networks", source="table 4", low=1e-6, high=1.0
    )
    safety_metric: str = static(
        "cost", "what divides states into safe and unsafe", source="appendix E.6, eq. 43",
        choices=("cost", "feasibility"),
    )  # fmt: skip
    threshold: str = static(
        "quantile", "l of the cost value: quantile in the data, or from the cost limit",
        source="section 4.3, eq. 42", choices=("quantile", "cost_limit"),
    )  # fmt: skip
    quantile: float = batched(
        0.9, "share of the data's states that V_c <= l calls safe", source="section 4.3, table 5",
        alias="alpha", low=0.0, high=1.0,
    )  # fmt: skip
    value: str = static(
        "penalized", "reward value: with the penalty, or without", source="eq. 15, table 2",
        choices=("penalized", "vanilla"),
    )  # fmt: skip
    penalty: float = batched(
        1.0, "penalty a step in the absorbing state, in scaled reward", source="eq. 7, table 5",
        alias="C", low=0.0, high=1e3,
    )  # fmt: skip
    penalty_base: str = static(
        "lowest_reward", "where the penalty counts from; zero is eq. 7 as printed", source="ours",
        choices=("lowest_reward", "zero"),
    )  # fmt: skip
    actor: str = static(
        "cfg", "policy and its loss", source="section 4.3, appendix E.2",
        choices=("cfg", "awr_gaussian", "awr_flow"),
    )  # fmt: skip
    unsafe_objective: str = static(
        "cost_value", "what the actor follows in unsafe states: V_c, or V_r as elsewhere",
        source="eq. 17, table 2", choices=("cost_value", "none"),
    )  # fmt: skip
    guidance_scale: float = batched(
        2.0, "guidance of `cfg`; 0 is the behaviour policy", source="eq. 21, table 4",
        alias="omega", low=0.0, high=20.0,
    )  # fmt: skip
    unconditional_share: float = batched(
        0.1, "share of samples that train `cfg` without its label", source="algorithm 1",
        low=0.0, high=1.0,
    )  # fmt: skip
    reward_temperature: float = batched(
        6.0, "factor of the reward advantage in `awr_*` exponents", source="eq. 40, appendix E.2",
        low=0.0, high=1e3,
    )  # fmt: skip
    cost_temperature: float = batched(
        6.0, "factor of the cost advantage in `awr_*` exponents", source="eq. 40, appendix E.2",
        alias="beta", low=0.0, high=1e3,
    )  # fmt: skip
    flow_steps: int = static(32, "Euler steps of the flow", source="table 4", low=1, high=1000)
    candidates: int = static(
        16, "chunks to choose the lowest Q_c from", source="table 4, table 6", low=1, high=1024
    )
    critic_share: float = static(
        0.5, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.safety_metric == "cost" and self.threshold == "cost_limit"


class R2PAC(Method):
    """Region-based reward penalty over action chunks (R2PAC section 4, algorithms 1 to 3)."""

    name = "r2pac"
    config_class = R2PACConfig
    policies = ("r2pac",)
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "actor": "awr_flow",
        "learning_rate": 1e-3,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "guidance_scale": {"actor": "cfg"},
        "unconditional_share": {"actor": "cfg"},
    }

    def __init__(self, config: MethodConfig, spec: ProblemSpec) -> None:
        super().__init__(config, spec)
        self.chunk_dim = self.static.chunk_length * spec.action_dim

    @property
    def phases(self) -> tuple[Phase, ...]:
        share = self.static.critic_share
        gaussian = self.static.actor == "awr_gaussian"
        actor = ("actor", "actor_log_std") if gaussian else ("actor",)
        return (Phase("critics", share, CRITICS, concludes=True), Phase("actor", 1 - share, actor))

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Chunks, with the lowest scaled reward of the data (at most 0) in each row, and `row`, by
        which a minibatch finds how its chunks were judged; counts them on the way."""
        scaled = super().prepare(data)
        timeouts_are_done = self.static.done_signal == "terminals_and_timeouts"
        columns = chunk_columns(scaled, self.static.chunk_length, timeouts_are_done)
        lowest = scaled["rewards"].min().clamp(max=0.0)
        self.chunks = len(columns["rewards"])
        row = torch.arange(self.chunks)
        return {**columns, "lowest_reward": lowest.repeat(self.chunks), "row": row}

    def init(self, generator: torch.Generator) -> State:
        observation, width = self.spec.observation_dim, self.static.hidden_dim
        depth = self.static.hidden_layers

        def network(inputs: int, outputs: int, depth: int = depth, **options: Any) -> Layers:
            return init_mlp(generator, hidden_sizes(inputs, width, depth, outputs), **options)

        params: Parameters = {
            "reward_q": network(observation + self.chunk_dim, 1, ensemble=2),
            "reward_v": network(observation, 1),
            "safety_q": network(observation + self.chunk_dim, 1, ensemble=2),
            "safety_v": network(observation, 1),
        }
        if self.static.actor == "awr_gaussian":
            params["actor"] = network(observation, self.chunk_dim, GAUSSIAN_HIDDEN_LAYERS)
            params["actor_log_std"] = torch.full((self.chunk_dim,), -1.0)
        else:
            condition = observation + (3 if self.static.actor == "cfg" else 0)
            params["actor"] = init_velocity_field(
                generator, self.chunk_dim, condition, width, depth
            )
        target = {name: params[name] for name in ("reward_q", "safety_q")}
        return {
            "params": params,
            "target": target,
            "threshold": torch.tensor(0.0),
            "advantage": torch.zeros(self.chunks),
            "unsafe": torch.zeros(self.chunks, dtype=torch.bool),
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch = self.static.batch_size
        if phase == "critics" or self.static.actor == "awr_gaussian":
            return {}
        drawn = {"start": Noise((batch, self.chunk_dim)), "time": Noise((batch,), "uniform")}
        if self.static.actor == "cfg":
            drawn["unconditional"] = Noise((batch,), "uniform")
        return drawn

    @property
    def losses(self) -> Losses:
        return {
            "critics": lambda s: StepOutputs(*self.critic_loss(s.params, s.target, s.batch, s.hp)),
            "actor": lambda s: StepOutputs(
                *self.actor_loss(s.params, self.judged(s.state, s.batch), s.batch, s.hp, s.noise)
            ),
        }

    def critic_loss(
        self, params: Parameters, target: Parameters, batch: Batch, hp: Hyperparameters
    ) -> tuple[Tensor, Metrics]:
        """Eq. 15 and 16 (reward), 10 and 11 over chunks as in eq. 14, or 43 (safety)."""
        observations, dones = batch["observations"], batch["dones"]
        pair = torch.cat((observations, batch["actions"]), dim=-1)
        safety_v = state_value(params["safety_v"], observations)
        next_safety_v = state_value(params["safety_v"], batch["next_observations"]).detach()
        reward_v = state_value(params["reward_v"], observations)
        next_reward_v = state_value(params["reward_v"], batch["next_observations"]).detach()

        safety_target = self.safety_target(batch, next_safety_v, hp)
        threshold = self.threshold_of(safety_v.detach(), hp)
        # A fitted quantile may lie just below the cost 0, which is safe beyond doubt.
        done_unsafe = safety_target > threshold.clamp(min=0)
        unsafe = torch.where(dones.amax(-1) > 0, done_unsafe, next_safety_v > threshold)
        reward_target = chunk_target(batch["rewards"], next_reward_v, dones, hp.discount)
        if self.static.value == "penalized":
            base = batch["lowest_reward"] if self.static.penalty_base == "lowest_reward" else 0.0
            absorbed = (base - hp.penalty) / (1 - hp.discount)
            reward_target = torch.where(unsafe, absorbed, reward_target)
        safety_q = chunk_value(params["safety_q"], pair)
        reward_q = chunk_value(params["reward_q"], pair)
        losses = {
            "loss/safety_v": reversed_expectile_loss(
                chunk_value(target["safety_q"], pair).amax(0) - safety_v, hp.expectile
            ),
            "loss/safety_q": squared_error(safety_q, safety_target),
            "loss/reward_v": expectile_loss(
                chunk_value(target["reward_q"], pair).amin(0) - reward_v, hp.expectile
            ),
            "loss/reward_q": squared_error(reward_q, reward_target),
        }
        metrics = {
            **losses,
            "reward_q_mean": reward_q.mean(),
            "safety_q_mean": safety_q.mean(),
            "threshold": threshold,
            "unsafe_share": unsafe.float().mean(),
        }
        return torch.stack(list(losses.values())).sum(), metrics

    def safety_target(self, batch: Batch, next_value: Tensor, hp: Hyperparameters) -> Tensor:
        """Discounted cost of the chunk and after it (eq. 14), or its feasibility (eq. 43): [B]."""
        if self.static.safety_metric == "cost":
            return chunk_target(batch["costs"], next_value, batch["dones"], hp.discount)
        signals = torch.where(batch["costs"] > 0, VIOLATION_SIGNAL, SAFE_SIGNAL)
        return chunk_feasibility_target(signals, next_value, batch["dones"], hp.discount)

    def threshold_of(self, safety_values: Tensor, hp: Hyperparameters) -> Tensor:
        """l for safety values [B] of the data: their alpha-quantile, eq. 42, or 0 (feasibility)."""
        if self.static.safety_metric == "feasibility":
            return torch.zeros_like(hp.discount)
        if self.static.threshold == "cost_limit":
            return discounted_cost_limit(self.spec.cost_limit, self.spec.horizon, hp.discount)
        return quantile(safety_values, hp.quantile)

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Fix the threshold over the dataset, at most 20,000 evenly spaced chunks of it, and judge
        every chunk: the critics learn no more, and the actor sees each chunk many times."""
        observations = data["observations"]
        stride = math.ceil(len(observations) / THRESHOLD_STATES)
        values = state_value(state["params"]["safety_v"], observations[::stride])
        state = {**state, "threshold": self.threshold_of(values, hp)}
        parts = zip(
            torch.split(observations, JUDGED_AT_ONCE),
            torch.split(data["actions"], JUDGED_AT_ONCE),
            strict=True,
        )
        judged = [self.judge(state, *part) for part in parts]
        advantage, unsafe = (torch.cat(column) for column in zip(*judged, strict=True))
        return {**state, "advantage": advantage, "unsafe": unsafe}

    def judge(self, state: State, observations: Tensor, actions: Tensor) -> Judgement:
        """How good chunks are at what the actor follows in their states (eq. 17, 18)."""
        pair = torch.cat((observations, actions), dim=-1)
        reward_q = chunk_value(state["target"]["reward_q"], pair).amin(0)
        safety_q = chunk_value(state["target"]["safety_q"], pair).amax(0)
        reward_v = state_value(state["params"]["reward_v"], observations)
        safety_v = state_value(state["params"]["safety_v"], observations)
        unsafe = safety_v > state["threshold"]
        follows_cost = self.follows_cost(unsafe)
        advantage = torch.where(follows_cost, safety_v - safety_q, reward_q - reward_v)
        return Judgement(advantage.detach(), unsafe)

    def follows_cost(self, unsafe: Tensor) -> Tensor:
        """Where the actor follows V_c."""
        return torch.zeros_like(unsafe) if self.static.unsafe_objective == "none" else unsafe

    def judged(self, state: State, batch: Batch) -> Judgement:
        """What `judge` said of a minibatch when the critics were done."""
        return Judgement(state["advantage"][batch["row"]], state["unsafe"][batch["row"]])

    def actor_loss(
        self,
        params: Parameters,
        judged: Judgement,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Tensor, Metrics]:
        """Eq. 19 with the labels of eq. 18, eq. 40, or eq. 41."""
        observations, actions = batch["observations"], batch["actions"]
        advantage, unsafe = judged
        if self.static.actor == "cfg":
            label = torch.where(advantage >= 0, OPTIMAL, POOR)
            label = torch.where(noise["unconditional"] < hp.unconditional_share, NULL, label)
            condition = labelled(observations, label)
            weight = torch.ones_like(advantage)
        else:
            condition = observations
            temperature = torch.where(
                self.follows_cost(unsafe), hp.cost_temperature, hp.reward_temperature
            )
            weight = clipped_exponential(temperature * advantage, WEIGHT_CLIP)
        if self.static.actor == "awr_gaussian":
            mean, log_std = gaussian_chunk(params, observations)
            error = -gaussian_log_density(actions, mean, log_std)
        else:
            error = flow_matching_error(
                params["actor"], actions, noise["start"], noise["time"], condition, functional.gelu
            )
        loss = (weight * error).mean()
        metrics = {
            "loss/actor": loss,
            "unsafe_share": unsafe.float().mean(),
            "better_share": (advantage >= 0).float().mean(),
        }
        return loss, metrics

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"start": Noise((self.static.candidates, self.chunk_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        """The first action of that candidate chunk whose Q_c is lowest (section 4.3)."""
        start = noise["start"].transpose(0, 1)
        chunks = self.propose(state["params"], observations, start, hp).clamp(-1, 1)
        states = observations.expand(*chunks.shape[:-1], observations.shape[-1])
        pairs = torch.cat((states, chunks), dim=-1).flatten(0, 1)
        cost = chunk_value(state["target"]["safety_q"], pairs).amax(0).reshape(chunks.shape[:-1])
        lowest = cost.argmin(0).reshape(1, -1, 1).expand(1, -1, self.chunk_dim)
        return torch.gather(chunks, 0, lowest).squeeze(0)[:, : self.spec.action_dim]

    def propose(
        self, params: Parameters, observations: Tensor, start: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """Chunks [n, E, h * a] from noise of that shape: eq. 21 with o = 1, or the awr actors."""
        if self.static.actor == "awr_gaussian":
            mean, log_std = gaussian_chunk(params, observations)
            return mean + log_std.exp() * start
        if self.static.actor == "awr_flow":

            def field(value: Tensor, time: float) -> Tensor:
                return velocity(params["actor"], value, time, observations, functional.gelu)

        else:
            shape = observations[..., 0]
            optimal = labelled(observations, torch.full_like(shape, OPTIMAL, dtype=torch.long))
            free = labelled(observations, torch.full_like(shape, NULL, dtype=torch.long))

            def field(value: Tensor, time: float) -> Tensor:
                return guided_velocity(
                    params["actor"], value, time, optimal, free, hp.guidance_scale, functional.gelu
                )

        return integrate(field, start, self.static.flow_steps)

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        """V_c(s) - l, or V_h(s)."""
        threshold: Tensor = state["threshold"]
        return state_value(state["params"]["safety_v"], observations) - threshold


def state_value(layers: Layers, observations: Tensor) -> Tensor:
    """V(s): [B, o] -> [B]."""
    return mlp(layers, observations, functional.gelu).squeeze(-1)


def chunk_value(layers: Layers, pairs: Tensor) -> Tensor:
    """Q(s, a_{t:t+h}) of each network of an ensemble: [B, o + h * a] -> [k, B]."""
    return ensemble_mlp(layers, pairs, functional.gelu).squeeze(-1)


def gaussian_chunk(params: Parameters, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [B, h * a] within [-1, 1] and log standard deviation [h * a] of the Gaussian actor."""
    mean = torch.tanh(mlp(params["actor"], observations, functional.gelu))
    return mean, params["actor_log_std"].clamp(*LOG_STD_RANGE)


def labelled(observations: Tensor, label: Tensor) -> Tensor:
    """The flow's condition: a state [B, o] and an optimality label [B] -> [B, o + 3]."""
    options = torch.arange(3, device=label.device)
    return torch.cat((observations, (label.unsqueeze(-1) == options).to(observations)), dim=-1)


def quantile(values: Tensor, level: Tensor) -> Tensor:
    """The `level`-quantile of `values` [B], linear between order statistics."""
    ordered = values.sort().values
    position = level * (len(ordered) - 1)
    below = position.floor().long().clamp(0, len(ordered) - 1)
    above = (below + 1).clamp(max=len(ordered) - 1)
    lower = ordered.gather(0, below.reshape(1)).squeeze(0)
    upper = ordered.gather(0, above.reshape(1)).squeeze(0)
    return torch.lerp(lower, upper, position - below)


def discounted_cost_limit(cost_limit: float, horizon: int, discount: Tensor) -> Tensor:
    """An episode's cost limit as a discounted value: kappa (1 - gamma^T) / ((1 - gamma) T)."""
    return cost_limit * (1 - discount**horizon) / ((1 - discount) * horizon)
