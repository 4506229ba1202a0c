"""FLRP: flow-guided latent refiner policies.

Two phases. `pretrain` fits Hamilton-Jacobi feasibility critics and reward critics, and a
conditional flow prior, flow posterior and decoder whose density is shaped towards safe, rewarding
actions. `refine` freezes these and trains three experts that move the base latent in T steps.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.choices import REFINED_POLICIES
from safesweep.trainables.components.cost_feasibility import (
    COST_NETWORKS,
    cost_feasibility,
    cost_losses,
    cost_threshold,
)
from safesweep.trainables.components.coupling_flow import init_coupling_flow
from safesweep.trainables.components.critics import (
    InSampleCritic,
    bellman_target,
    evaluate_ensemble,
    feasible_bellman_target,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.flow_autoencoder import decode_base, encode_pairs
from safesweep.trainables.components.latent_bounds import refinement_shift
from safesweep.trainables.components.latent_refiner import LatentRefiner, expert_network
from safesweep.trainables.components.networks import detach, starting_at
from safesweep.trainables.components.pair_weights import PairCritics
from safesweep.trainables.methods.flrp_config import FLRPConfig
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
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.safety_signals import safety_signal

TARGETS = ("reward_q", "feasibility_v")
DECODER_NETWORKS = ("decoder", "decoder_log_std")
BASE_NETWORKS = (
    "reward_q", "reward_v", "feasibility_q", "feasibility_v",
    "prior", "posterior", "decoder", "decoder_log_std",
)  # fmt: skip
DECODER_ALTERNATIONS = 5


class FLRP(Method):
    """Flow-guided latent refiner policies (FLRP sections 3.1 to 3.4, algorithm 1)."""

    name = "flrp"
    config_class = FLRPConfig
    policies = FLRPConfig.policies
    further_policies = FLRPConfig.further_policies
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "entropy_floor": 2.0,
        "violation_signal": 0.5,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "feasible_quantile": {"feasibility": "cost_quantile"},
        "reward_weight_clip": {"reward_weight_clip": 0.1},
        "safety_weight_clip": {"safety_weight_clip": 1.0},
        "decoder_log_std_low": {"decoder_log_std_low": -0.5},
        "decoder_log_std_high": {"decoder_log_std_high": -1.5},
    }

    def __init__(self, config: MethodConfig, spec: ProblemSpec) -> None:
        super().__init__(config, spec)
        if self.static.evaluated_steps == "several":
            self.evaluated_policies = (*self.policies, *self.further_policies)
        self.refiner = LatentRefiner(
            self.static.refiner,
            self.static.refinement_order,
            self.static.refinement_steps,
            longest=max(self.static.refinement_steps, *REFINED_POLICIES.values()),
            at_each_step=self.static.refiner_losses == "each_step",
        )

    def steps_of(self, policy: str) -> int:
        """How many steps a policy refines; a run that has no trained experts takes none."""
        if not self.refiner.schedule:
            return 0
        steps: int = REFINED_POLICIES.get(policy, self.static.refinement_steps)
        return steps

    @property
    def by_cost(self) -> bool:
        """Whether the flow is trained by cost values in place of feasibility values (w/o HJ)."""
        return bool(self.static.feasibility == "cost_quantile")

    @property
    def targets(self) -> tuple[str, ...]:
        """The networks that have slow copies."""
        return (*TARGETS, "cost_v") if self.by_cost else TARGETS

    @property
    def phases(self) -> tuple[Phase, ...]:
        base = (*BASE_NETWORKS, *COST_NETWORKS) if self.by_cost else BASE_NETWORKS
        if not self.refiner.schedule:
            return (Phase("pretrain", 1.0, base, self.by_cost),)
        share, experts = self.static.pretrain_share, self.refiner.networks
        pretrain = Phase("pretrain", share, base, self.by_cost)
        if self.static.decoder == "frozen":
            return (pretrain, Phase("refine", 1 - share, experts))
        part = (1 - share) / (2 * DECODER_ALTERNATIONS)
        turns = (Phase("refine", part, experts), Phase("decode", part, DECODER_NETWORKS))
        return (pretrain, *turns * DECODER_ALTERNATIONS)

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        latent, layers = self.static.latent_dim, self.static.coupling_layers

        def flow(context: int) -> Any:
            return init_coupling_flow(generator, latent, context, layers, *self.hidden)

        params = {
            **self.in_sample_networks(generator, "reward", "feasibility"),
            **(self.in_sample_networks(generator, "cost") if self.by_cost else {}),
            "prior": flow(observation) if self.static.prior == "flow" else [],
            "posterior": flow(observation + action),
            "decoder": self.mlp(generator, observation + latent, action),
            "decoder_log_std": torch.full((action,), -1.0),
        }
        for expert in self.refiner.networks:
            params[expert] = self.mlp(generator, observation + latent, latent, final_scale=0.1)
        return {
            "params": params,
            "target": {name: params[name] for name in self.targets},
            "cost_threshold": torch.zeros(()),
        }

    def begin(self, state: State, hp: Hyperparameters) -> State:
        """Q_h and V_h start at the safe signal.

        The backup of eq. 7 takes the larger of h(s) and the next value, so that values rise from
        below to the fixed point at once where a violation lies ahead, while a value that starts
        too high falls by a part 1 - gamma a backup: from a random start {Q_h <= 0} may stay empty
        for longer than the training is.
        """
        return starting_at(state, ("feasibility_q", "feasibility_v"), hp.safe_signal)

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, latent = self.static.batch_size, self.static.latent_dim
        if phase == "pretrain":
            return {"posterior": Noise((self.static.posterior_samples, batch, latent))}
        noise = self.refiner_noise(self.refiner.visited_steps + 1, batch)
        if self.static.refiner_losses == "each_step":
            noise["visit"] = Noise((batch,), "uniform")
        return noise

    def refiner_noise(self, steps: int, *shape: int) -> dict[str, Noise]:
        """Base latents, and what a random order draws the experts of some steps with."""
        base, numbers = Noise((*shape, self.static.latent_dim)), self.refiner.numbers_of(steps)
        choice = {"choice": Noise((*shape, numbers), "uniform")} if numbers else {}
        return {"base": base, **choice}

    @property
    def losses(self) -> Losses:
        return {
            "pretrain": self.pretrain_loss,
            "refine": self.refine_loss,
            "decode": self.decode_loss,
        }

    def pretrain_loss(self, inputs: StepInputs) -> StepOutputs:
        """The critics, and the flows and decoder by what the critics say."""
        critics = PairCritics.of(inputs.params, inputs.batch)
        flow_losses, metrics = self.flow_losses(inputs, self.judging(critics, inputs))
        return jointly({**self.critic_losses(inputs, critics), **flow_losses}, metrics)

    def refine_loss(self, inputs: StepInputs) -> StepOutputs:
        """Every expert by a loss of its own."""
        critics = PairCritics.of(inputs.params, inputs.batch)
        return StepOutputs(*self.refiner_losses(inputs, critics))

    def decode_loss(self, inputs: StepInputs) -> StepOutputs:
        """A decoder that is trained in turn with the refiner minimizes the whole of eq. 17."""
        outputs = self.refine_loss(inputs)
        assert isinstance(outputs.losses, dict)
        return outputs._replace(losses=outputs.losses[expert_network(self.refiner.whole_expert)])

    def judging(self, critics: PairCritics, inputs: StepInputs) -> PairCritics:
        """The critics as the flow's weights look at them: without HJ, cost values less the quantile
        of the zero-violation samples', so that <= 0 is feasible. The refiner's training is
        unchanged (section 5, table 2)."""
        if not self.by_cost:
            return critics
        own = cost_feasibility(inputs.params, inputs.batch, inputs.hp.feasible_quantile)
        return critics._replace(feasibility_q=own[0], feasibility_v=own[1])

    def critic_losses(self, inputs: StepInputs, critics: PairCritics) -> Metrics:
        """Eq. 8 and 9 (feasibility), 21 and 22 (reward).

        Eq. 8 takes the pessimistic (larger) of two Q_h, eq. 21 the smaller of two target Q_r, as
        IQL's practice that section 3.4 follows. Time-outs are bootstrapped, terminals are not.
        """
        params, target, batch, hp = inputs.params, inputs.target, inputs.batch, inputs.hp
        pair, after = (batch["observations"], batch["actions"]), batch["next_observations"]
        reward = InSampleCritic(
            critics.reward_q,
            critics.reward_v,
            judged=evaluate_ensemble(target["reward_q"], *pair).amin(0),
            next_v=state_value(detach(params["reward_v"]), after),
        )
        feasibility = InSampleCritic(
            critics.feasibility_q,
            critics.feasibility_v,
            judged=critics.feasibility_q.amax(0),
            next_v=state_value(target["feasibility_v"], after),
        )
        done, next_h, tau_h = batch["terminals"], feasibility.next_v, hp.feasibility_expectile
        reward_target = bellman_target(batch["rewards"], reward.next_v, done, hp.discount)
        signal = safety_signal(self.static.safety_signal, batch, hp)
        feasibility_target = feasible_bellman_target(signal, next_h, done, hp.discount)
        by_cost = {}
        if self.by_cost:
            by_cost = cost_losses(params, target, batch, hp.discount, tau_h)
        return {
            **in_sample_losses("feasibility", feasibility, feasibility_target, tau_h, lowest=True),
            **in_sample_losses("reward", reward, reward_target, hp.reward_expectile),
            **by_cost,
        }

    def flow_losses(self, inputs: StepInputs, critics: PairCritics) -> tuple[Metrics, Metrics]:
        """Eq. 13: safety-weighted ELBO (11), density shaping (12) and the entropy floor.

        Eq. 12 prints exp(Q_r - V_r / beta_r); the advantage belongs in brackets. Its weight is
        clipped at 100 (table 6). The metric `base_energy` is E|u|^2 / d of the encoded data,
        weighted as in eq. 11: 1 where the prior's samples are as far out as the data.
        """
        params, _, batch, hp, noise, _ = inputs
        w = critics.safety_score(hp.q_temperature, hp.v_temperature)
        log_std, pair = self.decoder_log_std(params), (batch["observations"], batch["actions"])
        encoded = encode_pairs(params, *pair, noise["posterior"], log_std)
        entropy = -encoded.log_posterior.mean() / self.static.latent_dim
        weight = critics.reward_weight(hp.reward_temperature, self.static.reward_weight_clip)
        energy = weight * encoded.base.square().sum(-1).mean(0)
        kl = (encoded.log_posterior - encoded.log_prior).mean(0)
        losses = {
            "loss/reconstruction": -(w * encoded.log_likelihood.mean(0)).mean(),
            "loss/kl": hp.kl_coefficient * (w * kl).mean(),
            "loss/shaping": hp.shaping_weight * energy.mean(),
            "loss/entropy": hp.entropy_weight * functional.relu(hp.entropy_floor - entropy),
        }
        distance = encoded.base.detach().square().mean((0, 2))
        metrics = {
            "posterior_entropy": entropy,
            "safety_score_mean": w.mean(),
            "feasible_share": critics.feasible.float().mean(),
            "reward_weight_mean": weight.mean(),
            "base_energy": (w * distance).sum() / w.sum(),
        }
        return losses, metrics

    def decoder_log_std(self, params: Parameters) -> Tensor:
        """Log standard deviation [a] of the decoder."""
        low, high = self.static.decoder_log_std_low, self.static.decoder_log_std_high
        log_std: Tensor = params["decoder_log_std"].clamp(low, high)
        return log_std

    def refiner_losses(self, inputs: StepInputs, critics: PairCritics) -> tuple[Metrics, Metrics]:
        """Eq. 14 to 17, one loss an expert.

        Eq. 15 prints a minus sign that would push actions away from the data: here the weighted
        distance is minimized. Eq. 14 writes w_h once of (s, a) and once of (s, a-bar): the data's
        action is used, as in w_r. Eq. 17 is decoupled by expert: the reward expert minimizes
        lambda_r L_r, the safety expert lambda_h L_h, both with lambda_sh L_sh; the shared expert,
        which acts last and alone would only shrink u_T to u_0 / 2, minimizes the whole sum, as do
        the unified refiner and a decoder that is trained in turn.

        All equations are of u_T; `LatentRefiner.expert_ends` says which latents that are.
        """
        hp = inputs.hp
        reward_pull = critics.reward_weight(hp.reward_temperature, self.static.reward_weight_clip)
        safety_pull = critics.safety_weight(hp.safety_temperature, self.static.safety_weight_clip)
        ends = self.refiner.expert_ends(inputs.params, inputs.batch["observations"], inputs.noise)
        terms = {
            expert: self.refiner_terms(inputs, critics, end, reward_pull, safety_pull)
            for expert, end in ends.items()
        }
        losses = {
            expert_network(expert): own.whole
            if expert not in ("reward", "safety")
            else getattr(own, expert) + own.shared
            for expert, own in terms.items()
        }
        whole = terms[self.refiner.whole_expert]
        movement = (ends[self.refiner.whole_expert] - inputs.noise["base"]).detach()
        metrics = {
            "loss/refiner_reward": whole.reward,
            "loss/refiner_safety": whole.safety,
            "loss/refiner_shared": whole.shared,
            "refinement_distance": movement.square().sum(-1).sqrt().mean(),
            "feasible_share": critics.feasible.float().mean(),
            "reward_weight_mean": reward_pull.mean(),
            "safety_weight_mean": safety_pull.mean(),
        }
        return losses, metrics

    def refiner_terms(
        self,
        inputs: StepInputs,
        critics: PairCritics,
        refined: Tensor,
        reward_pull: Tensor,
        safety_pull: Tensor,
    ) -> "RefinerTerms":
        """Weighted L_r, L_h and L_sh (eq. 14 to 16) of refined latents [B, d]."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        mean_action = decode_base(params, batch["observations"], refined)
        values = evaluate_ensemble(params["feasibility_q"], batch["observations"], mean_action)
        distance = (mean_action - batch["actions"]).square().sum(-1).add(1e-12).sqrt()
        penalty = functional.softplus(values.amax(0) - critics.feasibility_v.detach())
        energy = refined.square().sum(-1) + (refined - inputs.noise["base"]).square().sum(-1)
        return RefinerTerms(
            reward=hp.reward_weight * (reward_pull * distance).mean(),
            safety=hp.safety_weight * (penalty + safety_pull * distance).mean(),
            shared=hp.shared_weight * energy.mean(),
        )

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return self.refiner_noise(self.steps_of(policy))

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        steps = self.steps_of(policy)
        refined = self.refiner.refine(state["params"], observations, noise, steps)
        return decode_base(state["params"], observations, refined)

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        """What the flow is trained by: V_h, or without HJ the cost value less its threshold."""
        if not self.by_cost:
            return state_value(state["params"]["feasibility_v"], observations)
        threshold: Tensor = state["cost_threshold"]
        return state_value(state["params"]["cost_v"], observations) - threshold

    def feasible_pairs(self, state: State, data: Batch, hp: Hyperparameters) -> Tensor:
        """{Q_h <= 0}, outside of which the weights of eq. 12, 14 and 15 are zero."""
        pair = (data["observations"], data["actions"])
        return evaluate_ensemble(state["params"]["feasibility_q"], *pair).amax(0) <= 0

    def finish_phase(self, phase: str, state: State, data: Batch, hp: Hyperparameters) -> State:
        """Without HJ, keep the threshold over the whole dataset for `feasibility_value`."""
        threshold = cost_threshold(state["params"], data, hp.feasible_quantile)
        return {**state, "cost_threshold": threshold}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """How far refinement leaves the base (corollary 1, proposition 2)."""
        params, steps = state["params"], len(self.refiner.schedule)
        return refinement_shift(
            lambda states, own: self.refiner.refine(params, states, own, steps),
            partial(decode_base, params), observations, noise, hp.discount,
        )  # fmt: skip


class RefinerTerms(NamedTuple):
    """The refiner's three losses, each weighted, []."""

    reward: Tensor
    safety: Tensor
    shared: Tensor

    @property
    def whole(self) -> Tensor:
        """Eq. 17."""
        return self.reward + self.safety + self.shared
