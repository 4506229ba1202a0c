"""FLRP: flow-guided latent refiner policies.

Two phases. `pretrain` fits Hamilton-Jacobi feasibility critics and reward critics, and a
conditional flow prior, flow posterior and decoder whose density is shaped towards safe, rewarding
actions. `refine` freezes these and trains three experts that move the base latent in T steps.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from safesweep.trainables.components.coupling_flow import (
    flow_forward,
    flow_inverse,
    init_coupling_flow,
)
from safesweep.trainables.components.critics import (
    InSampleCritic,
    bellman_target,
    clipped_exponential,
    evaluate_ensemble,
    feasible_bellman_target,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.latent_bounds import (
    gaussian_divergence,
    jacobian_norm,
    shift_bounds,
)
from safesweep.trainables.components.latent_refiner import EXPERTS, refine, refinement_schedule
from safesweep.trainables.components.networks import (
    detach,
    gaussian_log_density,
    mlp,
    standard_normal_log_density,
)
from safesweep.trainables.components.quantiles import masked_quantile
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


class Critics(NamedTuple):
    """Critics at a minibatch's pairs: the action values [2, B], the state values [B]."""

    reward_q: Tensor
    feasibility_q: Tensor
    reward_v: Tensor
    feasibility_v: Tensor


class FLRP(Method):
    """Flow-guided latent refiner policies (FLRP sections 3.1 to 3.4, algorithm 1)."""

    name = "flrp"
    config_class = FLRPConfig
    policies = ("flrp",)
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
        self.schedule = refinement_schedule(
            self.static.refiner, self.static.refinement_order, self.static.refinement_steps
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        concludes = self.static.feasibility != "hj"
        if not self.schedule:
            return (Phase("pretrain", 1.0, BASE_NETWORKS, concludes),)
        share, experts = self.static.pretrain_share, self.expert_networks
        pretrain = Phase("pretrain", share, BASE_NETWORKS, concludes)
        if self.static.decoder == "frozen":
            return (pretrain, Phase("refine", 1 - share, experts))
        part = (1 - share) / (2 * DECODER_ALTERNATIONS)
        turns = (Phase("refine", part, experts), Phase("decode", part, DECODER_NETWORKS))
        return (pretrain, *turns * DECODER_ALTERNATIONS)

    @property
    def expert_networks(self) -> tuple[str, ...]:
        """The networks that refine."""
        names = ("unified",) if self.static.refiner == "unified" else EXPERTS
        return tuple(f"{name}_expert" for name in names)

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        latent, layers = self.static.latent_dim, self.static.coupling_layers

        def flow(context: int) -> Any:
            return init_coupling_flow(generator, latent, context, layers, *self.hidden)

        params = {
            **self.in_sample_networks(generator, "reward", "feasibility"),
            "prior": flow(observation) if self.static.prior == "flow" else [],
            "posterior": flow(observation + action),
            "decoder": self.mlp(generator, observation + latent, action),
            "decoder_log_std": torch.full((action,), -1.0),
        }
        for expert in self.expert_networks:
            params[expert] = self.mlp(generator, observation + latent, latent, final_scale=0.1)
        return {
            "params": params,
            "target": {name: params[name] for name in TARGETS},
            "cost_threshold": torch.zeros(()),
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, latent = self.static.batch_size, self.static.latent_dim
        if phase == "pretrain":
            return {"posterior": Noise((self.static.posterior_samples, batch, latent))}
        return {"base": Noise((batch, latent)), **self.choice_noise(batch)}

    def choice_noise(self, *shape: int) -> dict[str, Noise]:
        """What a random order of refinement draws its experts with."""
        if self.static.refinement_order != "random":
            return {}
        return {"choice": Noise((*shape, self.static.refinement_steps), "uniform")}

    @property
    def losses(self) -> Losses:
        return {
            "pretrain": self.pretrain_loss,
            "refine": self.refine_loss,
            "decode": self.decode_loss,
        }

    def pretrain_loss(self, inputs: StepInputs) -> StepOutputs:
        """The critics, and the flows and decoder by what the critics say."""
        critics = evaluate_critics(inputs.params, inputs.batch)
        flow_losses, metrics = self.flow_losses(inputs, self.judging(critics, inputs))
        return jointly({**self.critic_losses(inputs, critics), **flow_losses}, metrics)

    def refine_loss(self, inputs: StepInputs) -> StepOutputs:
        """Every expert by a loss of its own."""
        critics = self.judging(evaluate_critics(inputs.params, inputs.batch), inputs)
        return StepOutputs(*self.refiner_losses(inputs, critics))

    def decode_loss(self, inputs: StepInputs) -> StepOutputs:
        """A decoder that is trained in turn with the refiner minimizes the whole of eq. 17."""
        outputs = self.refine_loss(inputs)
        assert isinstance(outputs.losses, dict)
        return outputs._replace(losses=outputs.losses["shared_expert"])

    def judging(self, critics: Critics, inputs: StepInputs) -> Critics:
        """The critics as weights look at them: without HJ, cost values less the quantile of the
        zero-violation samples', so that <= 0 is feasible (table 2)."""
        if self.static.feasibility == "hj":
            return critics
        threshold = masked_quantile(
            critics.feasibility_v.detach(),
            inputs.batch["safe_episodes"],
            inputs.hp.feasible_quantile,
        )
        return critics._replace(
            feasibility_q=critics.feasibility_q - threshold,
            feasibility_v=critics.feasibility_v - threshold,
        )

    def critic_losses(self, inputs: StepInputs, critics: Critics) -> Metrics:
        """Eq. 8 and 9 (feasibility), 21 and 22 (reward).

        Eq. 8 takes the pessimistic (larger) of two Q_h, eq. 21 the smaller of two target Q_r, as
        IQL's practice that section 3.4 follows. Time-outs are bootstrapped, terminals are not.
        Without HJ the same networks hold the discounted cost (table 2).
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
        if self.static.feasibility == "hj":
            signal = safety_signal(self.static.safety_signal, batch, hp)
            feasibility_target = feasible_bellman_target(signal, next_h, done, hp.discount)
        else:
            feasibility_target = bellman_target(batch["costs"], next_h, done, hp.discount)
        return {
            **in_sample_losses("feasibility", feasibility, feasibility_target, tau_h, lowest=True),
            **in_sample_losses("reward", reward, reward_target, hp.reward_expectile),
        }

    def flow_losses(self, inputs: StepInputs, critics: Critics) -> tuple[Metrics, Metrics]:
        """Eq. 13: safety-weighted ELBO (11), density shaping (12) and the entropy floor.

        Eq. 12 prints exp(Q_r - V_r / beta_r); the advantage belongs in brackets. Its weight is
        clipped at 100 (table 6).
        """
        params, _, batch, hp, noise, _ = inputs
        actions, w = batch["actions"], safety_score(critics, hp)
        samples = noise["posterior"].shape[0]
        states = batch["observations"].expand(samples, -1, -1)
        pairs = torch.cat((states, actions.expand(samples, -1, -1)), dim=-1)
        latent, posterior_determinant = flow_forward(params["posterior"], noise["posterior"], pairs)
        base, prior_determinant = flow_inverse(params["prior"], latent, states)
        log_posterior = standard_normal_log_density(noise["posterior"]) - posterior_determinant
        log_prior = standard_normal_log_density(base) + prior_determinant
        log_std = self.decoder_log_std(params)
        log_likelihood = gaussian_log_density(actions, decode(params, states, latent), log_std)

        entropy = -log_posterior.mean() / self.static.latent_dim
        weight = reward_regression_weight(critics, hp, self.static.reward_weight_clip)
        energy = weight * base.square().sum(-1).mean(0)
        kl = (log_posterior - log_prior).mean(0)
        losses = {
            "loss/reconstruction": -(w * log_likelihood.mean(0)).mean(),
            "loss/kl": hp.kl_coefficient * (w * kl).mean(),
            "loss/shaping": hp.shaping_weight * energy.mean(),
            "loss/entropy": hp.entropy_weight * functional.relu(hp.entropy_floor - entropy),
        }
        return losses, {"posterior_entropy": entropy, "safety_score_mean": w.mean()}

    def decoder_log_std(self, params: Parameters) -> Tensor:
        """Log standard deviation [a] of the decoder."""
        low, high = self.static.decoder_log_std_low, self.static.decoder_log_std_high
        log_std: Tensor = params["decoder_log_std"].clamp(low, high)
        return log_std

    def refiner_losses(self, inputs: StepInputs, critics: Critics) -> tuple[Metrics, Metrics]:
        """Eq. 14 to 17, one loss an expert.

        Eq. 15 prints a minus sign that would push actions away from the data: here the weighted
        distance is minimized. Eq. 14 writes w_h once of (s, a) and once of (s, a-bar): the data's
        action is used, as in w_r. Eq. 17 is decoupled by expert: the reward expert minimizes
        lambda_r L_r, the safety expert lambda_h L_h, both with lambda_sh L_sh; the shared expert,
        which acts last and alone would only shrink u_T to u_0 / 2, minimizes the whole sum, as do
        the unified refiner and a decoder that is trained in turn.
        """
        params, _, batch, hp, noise, _ = inputs
        observations, actions = batch["observations"], batch["actions"]
        refined = self.refine(params, observations, noise)
        mean_action = decode_base(params, observations, refined)
        refined_q = evaluate_ensemble(params["feasibility_q"], observations, mean_action).amax(0)
        distance = (mean_action - actions).square().sum(-1).add(1e-12).sqrt()

        reward_pull = reward_regression_weight(critics, hp, self.static.reward_weight_clip)
        safety_pull = safety_regression_weight(critics, hp, self.static.safety_weight_clip)
        penalty = functional.softplus(refined_q - critics.feasibility_v.detach())
        reward = hp.reward_weight * (reward_pull * distance).mean()
        safety = hp.safety_weight * (penalty + safety_pull * distance).mean()
        movement = refined - noise["base"]
        energy = refined.square().sum(-1) + movement.square().sum(-1)
        shared = hp.shared_weight * energy.mean()
        losses = {
            "safety_expert": safety + shared,
            "reward_expert": reward + shared,
            "shared_expert": reward + safety + shared,
            "unified_expert": reward + safety + shared,
        }
        metrics = {
            "loss/refiner_reward": reward,
            "loss/refiner_safety": safety,
            "loss/refiner_shared": shared,
            "refinement_distance": movement.square().sum(-1).sqrt().mean(),
        }
        return losses, metrics

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"base": Noise((self.static.latent_dim,)), **self.choice_noise()}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        refined = self.refine(state["params"], observations, noise)
        return decode_base(state["params"], observations, refined)

    def refine(self, params: Parameters, observations: Tensor, noise: Batch) -> Tensor:
        """u_T from u_0 = noise["base"] (section 3.3): u_{t+1} = u_t + f_k(s, u_t)."""

        def move(expert: str, base: Tensor) -> Tensor:
            return mlp(params[f"{expert}_expert"], torch.cat((observations, base), dim=-1))

        return refine(self.schedule, move, noise["base"], noise.get("choice"))

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        threshold: Tensor = state["cost_threshold"]
        return state_value(state["params"]["feasibility_v"], observations) - threshold

    def finish_phase(self, phase: str, state: State, data: Batch, hp: Hyperparameters) -> State:
        """Without HJ, keep the threshold over the whole dataset for `feasibility_value`."""
        value = state_value(state["params"]["feasibility_v"], data["observations"])
        threshold = masked_quantile(value, data["safe_episodes"], hp.feasible_quantile)
        return {**state, "cost_threshold": threshold}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """How far refinement leaves the base: KL(q_u || N), corollary 1 and proposition 2.

        `base_kl_max` is epsilon_base of proposition 2. The Lipschitz constant of eq. 19 is the
        decoded mean's Jacobian norm at the mean of u_T.
        """
        params, samples = state["params"], noise["base"].shape[1]

        def refined(observation: Tensor, draws: dict[str, Tensor]) -> Tensor:
            return self.refine(params, observation.expand(samples, -1), draws)

        latents = vmap(refined)(observations, dict(noise))
        lipschitz = jacobian_norm(
            lambda observation, u: decode_base(params, observation, u), observations, latents
        )
        return shift_bounds(gaussian_divergence(latents), lipschitz, latents, hp.discount)


def decode(params: Parameters, observations: Tensor, latent: Tensor) -> Tensor:
    """Mean action of the decoder pi(a | s, z), within [-1, 1]."""
    return torch.tanh(mlp(params["decoder"], torch.cat((observations, latent), dim=-1)))


def decode_base(params: Parameters, observations: Tensor, base: Tensor) -> Tensor:
    """a-bar(s, u): the base latent through the prior flow, then the decoder's mean."""
    latent, _ = flow_forward(params["prior"], base, observations)
    return decode(params, observations, latent)


def evaluate_critics(params: Parameters, batch: Batch) -> Critics:
    """The critics at a minibatch's state-action pairs."""
    observations, actions = batch["observations"], batch["actions"]
    return Critics(
        reward_q=evaluate_ensemble(params["reward_q"], observations, actions),
        feasibility_q=evaluate_ensemble(params["feasibility_q"], observations, actions),
        reward_v=state_value(params["reward_v"], observations),
        feasibility_v=state_value(params["feasibility_v"], observations),
    )


def safety_score(critics: Critics, hp: Hyperparameters) -> Tensor:
    """w(s, a) of eq. 11, without gradient: sigma(-Q_h / T_q) sigma(-V_h / T_v)."""
    feasibility_q = critics.feasibility_q.detach().amax(0)
    return torch.sigmoid(-feasibility_q / hp.q_temperature) * torch.sigmoid(
        -critics.feasibility_v.detach() / hp.v_temperature
    )


def reward_regression_weight(critics: Critics, hp: Hyperparameters, clip: float) -> Tensor:
    """w_r(s, a) of eq. 15, also the weight of eq. 12: exp(A_r / beta_r) 1{Q_h <= 0}, clipped."""
    advantage = (critics.reward_q.amin(0) - critics.reward_v).detach()
    feasible = critics.feasibility_q.detach().amax(0) <= 0
    return clipped_exponential(advantage / hp.reward_temperature, clip) * feasible


def safety_regression_weight(critics: Critics, hp: Hyperparameters, clip: float) -> Tensor:
    """w_h(s, a) of eq. 14: exp(-A_h / beta_h) 1{Q_h <= 0}, clipped."""
    feasibility_q = critics.feasibility_q.detach().amax(0)
    advantage = critics.feasibility_v.detach() - feasibility_q
    return clipped_exponential(advantage / hp.safety_temperature, clip) * (feasibility_q <= 0)
