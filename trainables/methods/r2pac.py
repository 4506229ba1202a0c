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
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.action_chunks import (
    chunk_columns,
    chunk_feasibility_target,
    chunk_target,
)
from safesweep.trainables.components.candidates import select
from safesweep.trainables.components.critics import (
    clipped_exponential,
    discounted_cost_limit,
    evaluate_candidates,
    evaluate_ensemble,
    in_sample_critic,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    guided_velocity,
    init_velocity_field,
    integrate,
)
from safesweep.trainables.components.networks import (
    Activation,
    gaussian_log_density,
    hidden_sizes,
    init_mlp,
    mlp,
)
from safesweep.trainables.components.quantiles import quantile
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    MethodConfig,
    Noise,
    Parameters,
    Phase,
    ProblemSpec,
    State,
    StepInputs,
    StepOutputs,
    in_parts,
    jointly,
)
from safesweep.trainables.methods.r2pac_config import R2PACConfig

WEIGHT_CLIP = 100.0
VIOLATION_SIGNAL, SAFE_SIGNAL = 25.0, -1.0
GAUSSIAN_HIDDEN_LAYERS = 2  # "three-layer MLP"
LOG_STD_RANGE = (-5.0, 2.0)
THRESHOLD_STATES = 20_000
JUDGED_AT_ONCE = 16_384
CRITICS = ("reward_q", "reward_v", "safety_q", "safety_v")
NULL, POOR, OPTIMAL = 0, 1, 2


class ChunkScores(NamedTuple):
    """Of chunks: the advantage [B] in what the actor follows, and whether V_c > l [B]."""

    advantage: Tensor
    unsafe: Tensor


class R2PAC(Method):
    """Region-based reward penalty over action chunks (R2PAC section 4, algorithms 1 to 3)."""

    name = "r2pac"
    config_class = R2PACConfig
    policies = R2PACConfig.policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "actor": "awr_flow",
        "learning_rate": 1e-3,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **NETWORK_CONDITIONS,
        "guidance_scale": {"actor": "cfg"},
        "unconditional_share": {"actor": "cfg"},
        "safety_margin": {"safety_metric": "feasibility"},
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
        # Chunks have a done of their own.
        scaled = {**data, "rewards": data["rewards"] * self.reward_factor}
        timeouts_are_done = self.static.done_signal == "terminals_and_timeouts"
        columns = chunk_columns(scaled, self.static.chunk_length, timeouts_are_done)
        lowest = scaled["rewards"].min().clamp(max=0.0)
        self.chunks = len(columns["rewards"])
        row = torch.arange(self.chunks)
        return {**columns, "lowest_reward": lowest.repeat(self.chunks), "row": row}

    def init(self, generator: torch.Generator) -> State:
        observation, chunk = self.spec.observation_dim, self.chunk_dim
        params = self.in_sample_networks(generator, "reward", "safety", action_dim=chunk)
        if self.static.actor == "awr_gaussian":
            sizes = hidden_sizes(observation, self.static.hidden_dim, GAUSSIAN_HIDDEN_LAYERS, chunk)
            params["actor"] = init_mlp(generator, sizes)
            params["actor_log_std"] = torch.full((chunk,), -1.0)
        else:
            condition = observation + (3 if self.static.actor == "cfg" else 0)
            params["actor"] = init_velocity_field(generator, chunk, condition, *self.hidden)
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
        return {"critics": self.critic_loss, "actor": self.actor_loss}

    def critic_loss(self, inputs: StepInputs) -> StepOutputs:
        """Eq. 15 and 16 (reward), 10 and 11 over chunks as in eq. 14, or 43 (safety)."""
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        dones = batch["dones"]
        activation = self.critic_activation
        safety = in_sample_critic("safety", params, target, batch, True, activation)
        reward = in_sample_critic("reward", params, target, batch, False, activation)
        safety_target = self.safety_target(batch, safety.next_v, hp)
        threshold = self.threshold_of(safety.v.detach(), hp)
        # A fitted quantile may lie just below the cost 0, which is safe beyond doubt.
        done_unsafe = safety_target > threshold.clamp(min=0)
        unsafe = torch.where(dones.amax(-1) > 0, done_unsafe, safety.next_v > threshold)
        reward_target = chunk_target(batch["rewards"], reward.next_v, dones, hp.discount)
        if self.static.value == "penalized":
            base = batch["lowest_reward"] if self.static.penalty_base == "lowest_reward" else 0.0
            absorbed = (base - hp.penalty) / (1 - hp.discount)
            reward_target = torch.where(unsafe, absorbed, reward_target)
        losses = {
            **in_sample_losses("safety", safety, safety_target, hp.expectile, lowest=True),
            **in_sample_losses("reward", reward, reward_target, hp.expectile),
        }
        metrics = {
            "reward_q_mean": reward.q.mean(),
            "safety_q_mean": safety.q.mean(),
            "threshold": threshold,
            "unsafe_share": unsafe.float().mean(),
        }
        return jointly(losses, metrics)

    def safety_target(self, batch: Batch, next_value: Tensor, hp: Hyperparameters) -> Tensor:
        """Discounted cost of the chunk and after it (eq. 14), or its feasibility (eq. 43): [B]."""
        if self.static.safety_metric == "cost":
            return chunk_target(batch["costs"], next_value, batch["dones"], hp.discount)
        signals = torch.where(batch["costs"] > 0, VIOLATION_SIGNAL, SAFE_SIGNAL) + hp.safety_margin
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
        values = self.state_values(state, "safety_v", observations[::stride])
        state = {**state, "threshold": self.threshold_of(values, hp)}
        parts = in_parts(JUDGED_AT_ONCE, observations, data["actions"])
        judged = [self.judge(state, *part) for part in parts]
        advantage, unsafe = (torch.cat(column) for column in zip(*judged, strict=True))
        return {**state, "advantage": advantage, "unsafe": unsafe}

    def judge(self, state: State, observations: Tensor, actions: Tensor) -> ChunkScores:
        """How good chunks are at what the actor follows in their states (eq. 17, 18)."""
        target = state["target"]
        activation = self.critic_activation
        reward_q = evaluate_ensemble(target["reward_q"], observations, actions, activation).amin(0)
        safety_q = evaluate_ensemble(target["safety_q"], observations, actions, activation).amax(0)
        reward_v = self.state_values(state, "reward_v", observations)
        safety_v = self.state_values(state, "safety_v", observations)
        unsafe = safety_v > state["threshold"]
        follows_cost = self.follows_cost(unsafe)
        advantage = torch.where(follows_cost, safety_v - safety_q, reward_q - reward_v)
        return ChunkScores(advantage.detach(), unsafe)

    def state_values(self, state: State, name: str, observations: Tensor) -> Tensor:
        """V(s) of the critic `name`: [B, o] -> [B]."""
        return state_value(state["params"][name], observations, self.critic_activation)

    def follows_cost(self, unsafe: Tensor) -> Tensor:
        """Where the actor follows V_c."""
        return torch.zeros_like(unsafe) if self.static.unsafe_objective == "none" else unsafe

    def judged(self, state: State, batch: Batch) -> ChunkScores:
        """What `judge` said of a minibatch when the critics were done."""
        return ChunkScores(state["advantage"][batch["row"]], state["unsafe"][batch["row"]])

    def actor_loss(self, inputs: StepInputs) -> StepOutputs:
        """Eq. 19 with the labels of eq. 18, eq. 40, or eq. 41."""
        params, state, batch, hp, noise, _ = inputs
        observations, actions = batch["observations"], batch["actions"]
        advantage, unsafe = self.judged(state, batch)
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
            mean, log_std = gaussian_chunk(params, observations, self.activation)
            error = -gaussian_log_density(actions, mean, log_std)
        else:
            error = flow_matching_error(
                params["actor"], actions, noise["start"], noise["time"], condition, self.activation
            )
        metrics = {
            "unsafe_share": unsafe.float().mean(),
            "better_share": (advantage >= 0).float().mean(),
        }
        return jointly({"loss/actor": (weight * error).mean()}, metrics)

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"start": Noise((self.static.candidates, self.chunk_dim))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        """The first action of that candidate chunk whose Q_c is lowest (section 4.3)."""
        start = noise["start"].transpose(0, 1)
        chunks = self.propose(state["params"], observations, start, hp).clamp(-1, 1)
        candidates = evaluate_candidates(
            state["target"]["safety_q"], observations, chunks, self.critic_activation
        )
        return select(chunks, candidates.amax(0).argmin(0))[:, : self.spec.action_dim]

    def propose(
        self, params: Parameters, observations: Tensor, start: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """Chunks [n, E, h * a] from noise of that shape: eq. 21 with o = 1, or the awr actors."""
        if self.static.actor == "awr_gaussian":
            mean, log_std = gaussian_chunk(params, observations, self.activation)
            return mean + log_std.exp() * start
        steps = self.static.flow_steps
        if self.static.actor == "awr_flow":
            return generate(params["actor"], start, observations, steps, self.activation)
        shape = observations[..., 0]
        optimal = labelled(observations, torch.full_like(shape, OPTIMAL, dtype=torch.long))
        free = labelled(observations, torch.full_like(shape, NULL, dtype=torch.long))

        def field(value: Tensor, time: float) -> Tensor:
            return guided_velocity(
                params["actor"], value, time, optimal, free, hp.guidance_scale, self.activation
            )

        return integrate(field, start, steps)

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        """V_c(s) - l, or V_h(s)."""
        threshold: Tensor = state["threshold"]
        return self.state_values(state, "safety_v", observations) - threshold


def gaussian_chunk(
    params: Parameters, observations: Tensor, activation: Activation = functional.gelu
) -> tuple[Tensor, Tensor]:
    """Mean [B, h * a] within [-1, 1] and log standard deviation [h * a] of the Gaussian actor."""
    mean = torch.tanh(mlp(params["actor"], observations, activation))
    return mean, params["actor_log_std"].clamp(*LOG_STD_RANGE)


def labelled(observations: Tensor, label: Tensor) -> Tensor:
    """The flow's condition: a state [B, o] and an optimality label [B] -> [B, o + 3]."""
    options = torch.arange(3, device=label.device)
    return torch.cat((observations, (label.unsqueeze(-1) == options).to(observations)), dim=-1)
