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
    jacobian_norm,
    policy_shift,
    pushed_divergence,
)
from safesweep.trainables.components.latent_refiner import (
    EXPERTS,
    Schedule,
    random_order,
    random_order_numbers,
    refinement_path,
    refinement_schedule,
)
from safesweep.trainables.components.networks import (
    constant_output,
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
COST_NETWORKS = ("cost_q", "cost_v")
DECODER_ALTERNATIONS = 5
ACTING_STEPS = {"unrefined": 0, "refined_1": 1, "refined_2": 2, "refined_5": 5, "refined_10": 10}
"""Policies of a trained run beside "flrp", by how many steps they refine (figures 3 and 4)."""


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
    further_policies = tuple(ACTING_STEPS)
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
        self.schedule = self.schedule_of(self.static.refinement_steps)

    def schedule_of(self, steps: int) -> Schedule:
        """The experts of each of some steps of refinement."""
        return refinement_schedule(self.static.refiner, self.static.refinement_order, steps)

    def steps_of(self, policy: str) -> int:
        """How many steps a policy refines; a run that has no trained experts takes none."""
        if not self.schedule:
            return 0
        steps: int = ACTING_STEPS.get(policy, self.static.refinement_steps)
        return steps

    @property
    def phases(self) -> tuple[Phase, ...]:
        by_cost = self.static.feasibility == "cost_quantile"
        base = (*BASE_NETWORKS, *COST_NETWORKS) if by_cost else BASE_NETWORKS
        if not self.schedule:
            return (Phase("pretrain", 1.0, base, by_cost),)
        share, experts = self.static.pretrain_share, self.expert_networks
        pretrain = Phase("pretrain", share, base, by_cost)
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

    @property
    def whole_expert(self) -> str:
        """The expert that minimizes all of eq. 17."""
        return "unified" if self.static.refiner == "unified" else "shared"

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        latent, layers = self.static.latent_dim, self.static.coupling_layers

        def flow(context: int) -> Any:
            return init_coupling_flow(generator, latent, context, layers, *self.hidden)

        params = {
            **self.in_sample_networks(generator, "reward", "feasibility"),
            **(self.in_sample_networks(generator, "cost") if self.targets != TARGETS else {}),
            "prior": flow(observation) if self.static.prior == "flow" else [],
            "posterior": flow(observation + action),
            "decoder": self.mlp(generator, observation + latent, action),
            "decoder_log_std": torch.full((action,), -1.0),
        }
        for expert in self.expert_networks:
            params[expert] = self.mlp(generator, observation + latent, latent, final_scale=0.1)
        return {
            "params": params,
            "target": {name: params[name] for name in self.targets},
            "cost_threshold": torch.zeros(()),
        }

    @property
    def targets(self) -> tuple[str, ...]:
        """The networks that have slow copies."""
        return (*TARGETS, "cost_v") if self.static.feasibility == "cost_quantile" else TARGETS

    def begin(self, state: State, hp: Hyperparameters) -> State:
        """Q_h and V_h start at the safe signal.

        The backup of eq. 7 takes the larger of h(s) and the next value, so that values rise from
        below to the fixed point at once where a violation lies ahead, while a value that starts
        too high falls by a part 1 - gamma a backup: from a random start {Q_h <= 0} may stay empty
        for longer than the training is.
        """
        started = {
            name: constant_output(state["params"][name], hp.safe_signal)
            for name in ("feasibility_q", "feasibility_v")
        }
        target = constant_output(state["target"]["feasibility_v"], hp.safe_signal)
        return {
            **state,
            "params": {**state["params"], **started},
            "target": {**state["target"], "feasibility_v": target},
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, latent = self.static.batch_size, self.static.latent_dim
        if phase == "pretrain":
            return {"posterior": Noise((self.static.posterior_samples, batch, latent))}
        noise = {"base": Noise((batch, latent)), **self.choice_noise(self.visited_steps + 1, batch)}
        if self.static.refiner_losses == "each_step":
            noise["visit"] = Noise((batch,), "uniform")
        return noise

    def choice_noise(self, steps: int, *shape: int) -> dict[str, Noise]:
        """What a random order of refinement draws its experts with."""
        if self.static.refinement_order != "random" or steps == 0:
            return {}
        return {"choice": Noise((*shape, random_order_numbers(steps)), "uniform")}

    @property
    def visited_steps(self) -> int:
        """How many steps a latent may have been refined when an expert learns to move it."""
        if self.static.refiner_losses == "last_step":
            return max(len(self.schedule) - 1, 0)
        longest: int = max(self.static.refinement_steps, *ACTING_STEPS.values())
        return longest - 1

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
        critics = evaluate_critics(inputs.params, inputs.batch)
        return StepOutputs(*self.refiner_losses(inputs, critics))

    def decode_loss(self, inputs: StepInputs) -> StepOutputs:
        """A decoder that is trained in turn with the refiner minimizes the whole of eq. 17."""
        outputs = self.refine_loss(inputs)
        assert isinstance(outputs.losses, dict)
        return outputs._replace(losses=outputs.losses[f"{self.whole_expert}_expert"])

    def judging(self, critics: Critics, inputs: StepInputs) -> Critics:
        """The critics as the flow's weights look at them: without HJ, cost values less the quantile
        of the zero-violation samples', so that <= 0 is feasible. The refiner's training is
        unchanged (section 5, table 2)."""
        if self.static.feasibility == "hj":
            return critics
        observations, actions = inputs.batch["observations"], inputs.batch["actions"]
        cost_v = state_value(inputs.params["cost_v"], observations).detach()
        cost_q = evaluate_ensemble(inputs.params["cost_q"], observations, actions).detach()
        threshold = masked_quantile(
            cost_v, inputs.batch["safe_episodes"], inputs.hp.feasible_quantile
        )
        return critics._replace(feasibility_q=cost_q - threshold, feasibility_v=cost_v - threshold)

    def critic_losses(self, inputs: StepInputs, critics: Critics) -> Metrics:
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
        return {
            **in_sample_losses("feasibility", feasibility, feasibility_target, tau_h, lowest=True),
            **in_sample_losses("reward", reward, reward_target, hp.reward_expectile),
            **(self.cost_losses(inputs) if self.static.feasibility == "cost_quantile" else {}),
        }

    def cost_losses(self, inputs: StepInputs) -> Metrics:
        """The discounted cost, learned as the feasibility is, for the variant without HJ."""
        params, batch, hp = inputs.params, inputs.batch, inputs.hp
        pair = (batch["observations"], batch["actions"])
        cost_q = evaluate_ensemble(params["cost_q"], *pair)
        cost = InSampleCritic(
            cost_q,
            state_value(params["cost_v"], batch["observations"]),
            judged=cost_q.amax(0),
            next_v=state_value(inputs.target["cost_v"], batch["next_observations"]),
        )
        target = bellman_target(batch["costs"], cost.next_v, batch["terminals"], hp.discount)
        return in_sample_losses("cost", cost, target, hp.feasibility_expectile, lowest=True)

    def flow_losses(self, inputs: StepInputs, critics: Critics) -> tuple[Metrics, Metrics]:
        """Eq. 13: safety-weighted ELBO (11), density shaping (12) and the entropy floor.

        Eq. 12 prints exp(Q_r - V_r / beta_r); the advantage belongs in brackets. Its weight is
        clipped at 100 (table 6). The metric `base_energy` is E|u|^2 / d of the encoded data,
        weighted as in eq. 11: 1 where the prior's samples are as far out as the data.
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
        feasible = critics.feasibility_q.detach().amax(0) <= 0
        encoded = base.detach().square().mean((0, 2))
        metrics = {
            "posterior_entropy": entropy,
            "safety_score_mean": w.mean(),
            "feasible_share": feasible.float().mean(),
            "reward_weight_mean": weight.mean(),
            "base_energy": (w * encoded).sum() / w.sum(),
        }
        return losses, metrics

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

        All equations are of u_T. With `refiner_losses` at "each_step" every expert makes the last
        step of a path that is 0 to `visited_steps` long, so that it can be used after any number
        of steps, as figure 4 does; at "last_step" all see the end of the T steps and nothing else.
        """
        reward_pull = reward_regression_weight(critics, inputs.hp, self.static.reward_weight_clip)
        safety_pull = safety_regression_weight(critics, inputs.hp, self.static.safety_weight_clip)
        ends = self.expert_ends(inputs)
        terms = {
            expert: self.refiner_terms(inputs, critics, end, reward_pull, safety_pull)
            for expert, end in ends.items()
        }
        losses = {
            f"{expert}_expert": own.whole
            if expert not in ("reward", "safety")
            else getattr(own, expert) + own.shared
            for expert, own in terms.items()
        }
        whole = terms[self.whole_expert]
        movement = (ends[self.whole_expert] - inputs.noise["base"]).detach()
        metrics = {
            "loss/refiner_reward": whole.reward,
            "loss/refiner_safety": whole.safety,
            "loss/refiner_shared": whole.shared,
            "refinement_distance": movement.square().sum(-1).sqrt().mean(),
            "feasible_share": (critics.feasibility_q.amax(0) <= 0).float().mean(),
            "reward_weight_mean": reward_pull.mean(),
            "safety_weight_mean": safety_pull.mean(),
        }
        return losses, metrics

    def expert_ends(self, inputs: StepInputs) -> dict[str, Tensor]:
        """Where the losses of each expert look at a latent [B, d]."""
        params, noise, observations = inputs.params, inputs.noise, inputs.batch["observations"]
        names = [name.removesuffix("_expert") for name in self.expert_networks]
        if self.static.refiner_losses == "last_step" or self.static.refiner == "averaged":
            end = self.refine(params, observations, noise, len(self.schedule))
            return dict.fromkeys(names, end)
        still, base = detach(params), noise["base"]
        choice = noise.get("choice")
        steps = self.visited_steps
        schedule = self.schedule_of(steps + 1)[:-1]
        order = None if choice is None else random_order(choice, steps)
        move = partial(move_base, still, observations)
        visited = torch.stack(refinement_path(schedule, move, base, order))
        reached = functional.one_hot((noise["visit"] * len(visited)).long(), len(visited))
        start = torch.einsum("kbd,bk->bd", visited, reached.to(visited.dtype)).detach()
        return {name: start + move_base(params, observations, name, start) for name in names}

    def refiner_terms(
        self,
        inputs: StepInputs,
        critics: Critics,
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
        base = {"base": Noise((self.static.latent_dim,))}
        return {**base, **self.choice_noise(self.steps_of(policy))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        refined = self.refine(state["params"], observations, noise, self.steps_of(policy))
        return decode_base(state["params"], observations, refined)

    def refine(self, params: Parameters, observations: Tensor, noise: Batch, steps: int) -> Tensor:
        """u_T from u_0 = noise["base"] for T = `steps` (section 3.3)."""
        choice = noise.get("choice")
        order = None if choice is None else random_order(choice, steps)
        move = partial(move_base, params, observations)
        return refinement_path(self.schedule_of(steps), move, noise["base"], order)[-1]

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        """What the flow is trained by: V_h, or without HJ the cost value less its threshold."""
        if self.static.feasibility == "hj":
            return state_value(state["params"]["feasibility_v"], observations)
        threshold: Tensor = state["cost_threshold"]
        return state_value(state["params"]["cost_v"], observations) - threshold

    def feasible_pairs(self, state: State, data: Batch, hp: Hyperparameters) -> Tensor:
        """{Q_h <= 0}, outside of which the weights of eq. 12, 14 and 15 are zero."""
        pair = (data["observations"], data["actions"])
        return evaluate_ensemble(state["params"]["feasibility_q"], *pair).amax(0) <= 0

    def finish_phase(self, phase: str, state: State, data: Batch, hp: Hyperparameters) -> State:
        """Without HJ, keep the threshold over the whole dataset for `feasibility_value`."""
        value = state_value(state["params"]["cost_v"], data["observations"])
        threshold = masked_quantile(value, data["safe_episodes"], hp.feasible_quantile)
        return {**state, "cost_threshold": threshold}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """How far refinement leaves the base: KL(q_u || N), corollary 1 and proposition 2.

        `base_kl_max` is epsilon_base of proposition 2; `folded_share` says where `base_kl` and what
        follows from it falls short. In a random order it is a mean over the orders, which exceeds
        the divergence of their mixture. The Lipschitz constant of eq. 19 is the decoded mean's
        Jacobian norm at the mean of u_T.
        """
        params, steps = state["params"], len(self.schedule)
        draws = noise["base"].shape[1]
        latents = vmap(
            lambda observation, own: self.refine(params, observation.expand(draws, -1), own, steps)
        )(observations, dict(noise))
        choice = noise.get("choice")

        def end(observation: Tensor, *draw: Tensor) -> Tensor:
            own = {name: value[None] for name, value in zip(noise, draw, strict=True)}
            return self.refine(params, observation[None], own, steps)[0]

        divergence, folded = pushed_divergence(end, observations, noise["base"], choice)
        lipschitz = jacobian_norm(
            lambda observation, u: decode_base(params, observation, u), observations, latents
        )
        shift = policy_shift(divergence, lipschitz, latents, hp.discount)
        return {**shift, "folded_share": folded}


class RefinerTerms(NamedTuple):
    """The refiner's three losses, each weighted, []."""

    reward: Tensor
    safety: Tensor
    shared: Tensor

    @property
    def whole(self) -> Tensor:
        """Eq. 17."""
        return self.reward + self.safety + self.shared


def move_base(params: Parameters, observations: Tensor, expert: str, base: Tensor) -> Tensor:
    """f_k(s, u), the step of one expert: [B, o], [B, d] -> [B, d]."""
    return mlp(params[f"{expert}_expert"], torch.cat((observations, base), dim=-1))


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
