"""FLRP: flow-guided latent refiner policies.

Two phases. `pretrain` fits Hamilton-Jacobi feasibility critics and reward critics, and a
conditional flow prior, flow posterior and decoder whose density is shaped towards safe, rewarding
actions. `refine` freezes these and trains three experts that move the base latent in T steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any, ClassVar, NamedTuple

import torch
from scipy.special import gammaincinv
from torch import Tensor
from torch.func import jacrev, vmap
from torch.nn import functional

from safesweep.trainables.components.coupling_flow import (
    flow_forward,
    flow_inverse,
    init_coupling_flow,
)
from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    evaluate_ensemble,
    expectile_loss,
    feasible_bellman_target,
    reversed_expectile_loss,
    squared_error,
)
from safesweep.trainables.components.networks import (
    detach,
    ensemble_mlp,
    gaussian_log_density,
    hidden_sizes,
    init_mlp,
    mlp,
    standard_normal_log_density,
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
    StepInputs,
    StepOutputs,
    batched,
    static,
)

REWARD_WEIGHT_CLIP = 100.0
SAFETY_WEIGHT_CLIP = 150.0
DECODER_LOG_STD_RANGE = (-3.0, 0.0)
TARGETS = ("reward_q", "feasibility_v")
DECODER_NETWORKS = ("decoder", "decoder_log_std")
BASE_NETWORKS = (
    "reward_q", "reward_v", "feasibility_q", "feasibility_v",
    "prior", "posterior", "decoder", "decoder_log_std",
)  # fmt: skip


EXPERTS = ("safety", "reward", "shared")
REFINEMENT_ORDERS = (*("-".join(order) for order in permutations(EXPERTS)), "random", "none")
DECODER_ALTERNATIONS = 5


@dataclass(frozen=True)
class FLRPConfig(MethodConfig):
    """Hyperparameters of FLRP. "ours" marks what the paper does not print.

    `beta_r` and `beta_h` are the inverses of FISOR's temperatures 3 and 5, whose clips FLRP
    prints; its "target temperature 3" and "value temperature 5" are read as T_q and T_v.
    """

    phase_shares = ("pretrain_share",)

    batch_size: int = static(512, "transitions in a minibatch", source="table 5", low=1, high=65536)
    feasibility_expectile: float = batched(
        0.9, "expectile of V_h", source="eq. 8, table 6", alias="tau_h", low=0.5, high=0.999
    )
    reward_expectile: float = batched(
        0.9, "expectile of V_r", source="eq. 21, table 6", alias="tau_r", low=0.5, high=0.999
    )
    target_update_rate: float = batched(
        0.001, "Polyak rate of the target networks", source="table 5", low=1e-6, high=1.0
    )
    safety_signal: str = static(
        "sparse",
        "h(s) from the costs, or the dataset's exact margin",
        source="ours",
        choices=("sparse", "exact"),
    )
    feasibility: str = static(
        "hj", "Hamilton-Jacobi values, or cost values below a quantile (w/o HJ)", source="table 2",
        choices=("hj", "cost_quantile"),
    )  # fmt: skip
    feasible_quantile: float = batched(
        0.75, "quantile of zero-violation samples' cost values that bounds the feasible set",
        source="table 2", low=0.0, high=1.0,
    )  # fmt: skip
    violation_signal: float = batched(
        25.0, "h(s) where the cost is positive", source="FISOR's public code", low=1e-3, high=1e3
    )
    safe_signal: float = batched(
        -1.0, "h(s) where the cost is zero", source="FISOR's public code", low=-1e3, high=-1e-3
    )
    prior: str = static(
        "flow", "flow prior, or z = u", source="tables 3 and 7", choices=("flow", "gaussian")
    )
    latent_dim: int = static(8, "dimensions of u and z", source="ours", low=2, high=512)
    coupling_layers: int = static(4, "coupling layers of a flow", source="ours", low=1, high=64)
    posterior_samples: int = static(
        1, "samples of z for the expectation over q", source="eq. 11", low=1, high=256
    )
    q_temperature: float = batched(
        3.0, "temperature of Q_h in w", source="eq. 11, table 6", alias="T_q", low=1e-3, high=1e3
    )
    v_temperature: float = batched(
        5.0, "temperature of V_h in w", source="eq. 11, table 6", alias="T_v", low=1e-3, high=1e3
    )
    kl_coefficient: float = batched(
        0.1, "weight of KL(q || p)", source="eq. 11; value ours", alias="beta", low=0.0, high=1e3
    )
    shaping_weight: float = batched(
        1.0, "weight of density shaping", source="eq. 13 (there 1)", low=0.0, high=1e3
    )
    reward_temperature: float = batched(
        1 / 3, "beta_r of the reward advantage", source="eq. 12, 15; value FISOR's",
        alias="beta_r", low=1e-3, high=1e3,
    )  # fmt: skip
    safety_temperature: float = batched(
        1 / 5, "beta_h of the safety advantage", source="eq. 14; value FISOR's",
        alias="beta_h", low=1e-3, high=1e3,
    )  # fmt: skip
    entropy_weight: float = batched(
        0.1, "weight of the entropy floor", source="eq. 13; value ours",
        alias="lambda_H", low=0.0, high=1e3,
    )  # fmt: skip
    entropy_floor: float = batched(
        0.0, "least posterior entropy, nats a latent dimension", source="eq. 13; value ours",
        alias="H_0", low=-10.0, high=10.0,
    )  # fmt: skip
    refinement_steps: int = static(
        3, "refinement updates; 0 samples the prior", source="section 3.3, table 6",
        alias="T", low=0, high=64,
    )  # fmt: skip
    refiner: str = static(
        "decoupled", "experts in turn, one network for the summed loss, or the experts' mean step",
        source="table 9b", choices=("decoupled", "unified", "averaged"),
    )  # fmt: skip
    refinement_order: str = static(
        "safety-reward-shared", "the last acts last, the first two alternate; random draws each",
        source="figure 3", choices=REFINEMENT_ORDERS,
    )  # fmt: skip
    decoder: str = static(
        "frozen", "in phase 2: frozen, or trained in turn with the refiner",
        source="table 9a", choices=("frozen", "alternating"),
    )  # fmt: skip
    reward_weight: float = batched(
        1.0, "weight of L_r", source="eq. 17, table 6", alias="lambda_r", low=0.0, high=1e3
    )
    safety_weight: float = batched(
        1.0, "weight of L_h", source="eq. 17, table 6", alias="lambda_h", low=0.0, high=1e3
    )
    shared_weight: float = batched(
        0.5, "weight of L_sh", source="eq. 17, table 6", alias="lambda_sh", low=0.0, high=1e3
    )
    pretrain_share: float = static(
        0.75, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )


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
        "feasible_quantile": {"feasibility": "cost_quantile"}
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
        latent = self.static.latent_dim
        width, depth = self.static.hidden_dim, self.static.hidden_layers

        def network(inputs: int, outputs: int, **options: Any) -> Any:
            return init_mlp(generator, hidden_sizes(inputs, width, depth, outputs), **options)

        def flow(context: int) -> Any:
            layers = self.static.coupling_layers
            return init_coupling_flow(generator, latent, context, layers, width, depth)

        experts = self.expert_networks
        params = {
            "reward_q": network(observation + action, 1, ensemble=2),
            "reward_v": network(observation, 1),
            "feasibility_q": network(observation + action, 1, ensemble=2),
            "feasibility_v": network(observation, 1),
            "prior": flow(observation) if self.static.prior == "flow" else [],
            "posterior": flow(observation + action),
            "decoder": network(observation + latent, action),
            "decoder_log_std": torch.full((action,), -1.0),
            **{
                expert: network(observation + latent, latent, final_scale=0.1) for expert in experts
            },
        }
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
            "pretrain": partial(self.loss, "pretrain"),
            "refine": partial(self.loss, "refine"),
            "decode": partial(self.loss, "decode"),
        }

    def loss(self, phase: str, inputs: StepInputs) -> StepOutputs:
        params, state, batch, hp, noise, _ = inputs
        critics = evaluate_critics(params, batch["observations"], batch["actions"])
        if phase == "pretrain":
            critic, critic_metrics = self.critic_loss(params, state["target"], critics, batch, hp)
        if self.static.feasibility == "cost_quantile":
            critics = relative_to_quantile(critics, batch["safe_episodes"], hp.feasible_quantile)
        if phase != "pretrain":
            losses, metrics = self.refiner_loss(params, critics, batch, hp, noise)
            return StepOutputs(losses if phase == "refine" else losses["shared_expert"], metrics)
        flow, flow_metrics = self.flow_loss(params, critics, batch, hp, noise)
        return StepOutputs(critic + flow, {**critic_metrics, **flow_metrics})

    def safety_signal(self, batch: Batch, hp: Hyperparameters) -> Tensor:
        """h(s) [B]: the dataset's exact margin, or two levels made from the sparse cost."""
        if self.static.safety_signal == "exact":
            return batch["safety_margins"]
        return torch.where(batch["costs"] > 0, hp.violation_signal, hp.safe_signal)

    def critic_loss(
        self,
        params: Parameters,
        target: Parameters,
        critics: Critics,
        batch: Batch,
        hp: Hyperparameters,
    ) -> tuple[Tensor, Metrics]:
        """Eq. 8 and 9 (feasibility), 21 and 22 (reward).

        Eq. 8 takes the pessimistic (larger) of two Q_h, eq. 21 the smaller of two target Q_r, as
        IQL's practice that section 3.4 follows. Time-outs are bootstrapped, terminals are not.
        Without HJ the same networks hold the discounted cost (table 2).
        """
        pair = torch.cat((batch["observations"], batch["actions"]), dim=-1)
        target_reward_q = ensemble_mlp(target["reward_q"], pair).squeeze(-1).amin(0)
        next_reward_v = mlp(detach(params["reward_v"]), batch["next_observations"]).squeeze(-1)
        next_feasibility_v = mlp(target["feasibility_v"], batch["next_observations"]).squeeze(-1)

        reward_target = bellman_target(
            batch["rewards"], next_reward_v, batch["terminals"], hp.discount
        )
        if self.static.feasibility == "hj":
            feasibility_target = feasible_bellman_target(
                self.safety_signal(batch, hp), next_feasibility_v, batch["terminals"], hp.discount
            )
        else:
            feasibility_target = bellman_target(
                batch["costs"], next_feasibility_v, batch["terminals"], hp.discount
            )
        losses = {
            "loss/feasibility_v": reversed_expectile_loss(
                critics.feasibility_q.detach().amax(0) - critics.feasibility_v,
                hp.feasibility_expectile,
            ),
            "loss/feasibility_q": squared_error(critics.feasibility_q, feasibility_target),
            "loss/reward_v": expectile_loss(
                target_reward_q - critics.reward_v, hp.reward_expectile
            ),
            "loss/reward_q": squared_error(critics.reward_q, reward_target),
        }
        return torch.stack(list(losses.values())).sum(), losses

    def flow_loss(
        self, params: Parameters, critics: Critics, batch: Batch, hp: Hyperparameters, noise: Batch
    ) -> tuple[Tensor, Metrics]:
        """Eq. 13: safety-weighted ELBO (11), density shaping (12) and the entropy floor.

        Eq. 12 prints exp(Q_r - V_r / beta_r); the advantage belongs in brackets. Its weight is
        clipped at 100 (table 6).
        """
        actions = batch["actions"]
        w = safety_score(critics, hp)
        samples = noise["posterior"].shape[0]
        states = batch["observations"].expand(samples, -1, -1)
        pairs = torch.cat((states, actions.expand(samples, -1, -1)), dim=-1)
        latent, posterior_determinant = flow_forward(params["posterior"], noise["posterior"], pairs)
        base, prior_determinant = flow_inverse(params["prior"], latent, states)
        log_posterior = standard_normal_log_density(noise["posterior"]) - posterior_determinant
        log_prior = standard_normal_log_density(base) + prior_determinant
        log_std = params["decoder_log_std"].clamp(*DECODER_LOG_STD_RANGE)
        log_likelihood = gaussian_log_density(actions, decode(params, states, latent), log_std)

        entropy = -log_posterior.mean() / self.static.latent_dim
        energy = reward_regression_weight(critics, hp) * base.square().sum(-1).mean(0)
        kl = (log_posterior - log_prior).mean(0)
        losses = {
            "loss/reconstruction": -(w * log_likelihood.mean(0)).mean(),
            "loss/kl": hp.kl_coefficient * (w * kl).mean(),
            "loss/shaping": hp.shaping_weight * energy.mean(),
            "loss/entropy": hp.entropy_weight * functional.relu(hp.entropy_floor - entropy),
        }
        metrics = {**losses, "posterior_entropy": entropy, "safety_score_mean": w.mean()}
        return torch.stack(list(losses.values())).sum(), metrics

    def refiner_loss(
        self, params: Parameters, critics: Critics, batch: Batch, hp: Hyperparameters, noise: Batch
    ) -> tuple[dict[str, Tensor], Metrics]:
        """Eq. 14 to 17, one loss an expert.

        Eq. 15 prints a minus sign that would push actions away from the data: here the weighted
        distance is minimized. Eq. 14 writes w_h once of (s, a) and once of (s, a-bar): the data's
        action is used, as in w_r. Eq. 17 is decoupled by expert: the reward expert minimizes
        lambda_r L_r, the safety expert lambda_h L_h, both with lambda_sh L_sh; the shared expert,
        which acts last and alone would only shrink u_T to u_0 / 2, minimizes the whole sum, as do
        the unified refiner and a decoder that is trained in turn.
        """
        observations, actions, start = batch["observations"], batch["actions"], noise["base"]
        refined = self.refine(params, observations, noise)
        mean_action = decode_base(params, observations, refined)
        refined_q = evaluate_ensemble(params["feasibility_q"], observations, mean_action).amax(0)
        distance = (mean_action - actions).square().sum(-1).add(1e-12).sqrt()

        penalty = functional.softplus(refined_q - critics.feasibility_v.detach())
        pull = safety_regression_weight(critics, hp) * distance
        reward = hp.reward_weight * (reward_regression_weight(critics, hp) * distance).mean()
        safety = hp.safety_weight * (penalty + pull).mean()
        movement = refined - start
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
        base = noise["base"]
        for step, experts in enumerate(self.schedule):
            inputs = torch.cat((observations, base), dim=-1)
            moves = torch.stack([mlp(params[f"{name}_expert"], inputs) for name in experts])
            if "choice" in noise:
                chosen = (noise["choice"][..., step] * len(experts)).long()
                picked = functional.one_hot(chosen, len(experts)).to(moves.dtype)
                base = base + torch.einsum("kbd,bk->bd", moves, picked)
            else:
                base = base + moves.mean(0)
        return base

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        value = mlp(state["params"]["feasibility_v"], observations).squeeze(-1)
        threshold: Tensor = state["cost_threshold"]
        return value - threshold

    def finish_phase(self, phase: str, state: State, data: Batch, hp: Hyperparameters) -> State:
        """Without HJ, keep the threshold over the whole dataset for `feasibility_value`."""
        value = mlp(state["params"]["feasibility_v"], data["observations"]).squeeze(-1)
        threshold = masked_quantile(value, data["safe_episodes"], hp.feasible_quantile)
        return {**state, "cost_threshold": threshold}

    def diagnose(
        self, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Metrics:
        """How far refinement leaves the base: KL(q_u || N), corollary 1 and proposition 2.

        `base_kl` is the mean over states of the Gaussian KL with the moments of u_T, `base_kl_max`
        its largest, epsilon_base of proposition 2. The bounds are on the shift from the unrefined
        policy: the mismatch TV(pi_0, pi_beta) that the full ones add is not known. The Lipschitz
        constant of eq. 19 is the decoded mean's Jacobian norm at the mean of u_T, and R_max and
        C_max of proposition 2 are taken as one.
        """
        params, (_, samples, latent_dim) = state["params"], noise["base"].shape

        def one(observation: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
            refined = self.refine(params, observation.expand(samples, -1), draws)
            variance, mean = torch.var_mean(refined, dim=0)
            kl = 0.5 * (variance + mean.square() - 1 - variance.clamp(min=1e-12).log()).sum()
            jacobian = jacrev(lambda u: decode_base(params, observation, u))(mean)
            outside = refined.square().sum(-1) > high_density_radius_squared(latent_dim)
            return kl, jacobian.square().sum().sqrt(), outside.float().mean()

        kl, lipschitz, outside = vmap(one)(observations, dict(noise))
        return {
            "base_kl": kl.mean(),
            "base_kl_max": kl.amax(),
            "total_variation_bound": (0.5 * kl).sqrt().mean(),
            "wasserstein_bound": (lipschitz * (2 * kl).sqrt()).mean(),
            "policy_gap_bound": 2 / (1 - hp.discount) ** 2 * (0.5 * kl.amax()).sqrt(),
            "latents_outside_ball": outside.mean(),
        }


def refinement_schedule(refiner: str, order: str, steps: int) -> tuple[tuple[str, ...], ...]:
    """The experts of each step; several act by the mean of their moves, or by a random pick.

    The last expert of the order acts last and the other two alternate before it: by default
    safety first, shared last (section 3.3), so one step is the shared expert alone. The averaged
    refiner takes a single step (table 9b).
    """
    if steps == 0 or order == "none":
        return ()
    if refiner == "unified":
        return (("unified",),) * steps
    if refiner == "averaged":
        return (EXPERTS,)
    if order == "random":
        return (EXPERTS,) * steps
    first, second, last = order.split("-")
    return (*(((first, second)[t % 2],) for t in range(steps - 1)), (last,))


def high_density_radius_squared(latent_dim: int) -> float:
    """Squared radius of the ball that holds 99 % of a standard normal vector."""
    return float(2 * gammaincinv(latent_dim / 2, 0.99))


def masked_quantile(values: Tensor, mask: Tensor, quantile: Tensor) -> Tensor:
    """The quantile of the values [N] where `mask` is one; zero when there is none."""
    count = mask.sum()
    ordered = torch.where(mask > 0, values, torch.inf).sort().values
    index = (quantile * count).ceil().clamp(min=1).long() - 1
    found = ordered.gather(0, index.reshape(1)).squeeze(0)
    return torch.where(count > 0, found, torch.zeros_like(found))


def relative_to_quantile(critics: Critics, safe: Tensor, quantile: Tensor) -> Critics:
    """Cost values less the quantile of the zero-violation samples': feasible where <= 0."""
    threshold = masked_quantile(critics.feasibility_v.detach(), safe, quantile)
    return critics._replace(
        feasibility_q=critics.feasibility_q - threshold,
        feasibility_v=critics.feasibility_v - threshold,
    )


def decode(params: Parameters, observations: Tensor, latent: Tensor) -> Tensor:
    """Mean action of the decoder pi(a | s, z), within [-1, 1]."""
    return torch.tanh(mlp(params["decoder"], torch.cat((observations, latent), dim=-1)))


def decode_base(params: Parameters, observations: Tensor, base: Tensor) -> Tensor:
    """a-bar(s, u): the base latent through the prior flow, then the decoder's mean."""
    latent, _ = flow_forward(params["prior"], base, observations)
    return decode(params, observations, latent)


def evaluate_critics(params: Parameters, observations: Tensor, actions: Tensor) -> Critics:
    """The critics at state-action pairs."""
    return Critics(
        reward_q=evaluate_ensemble(params["reward_q"], observations, actions),
        feasibility_q=evaluate_ensemble(params["feasibility_q"], observations, actions),
        reward_v=mlp(params["reward_v"], observations).squeeze(-1),
        feasibility_v=mlp(params["feasibility_v"], observations).squeeze(-1),
    )


def safety_score(critics: Critics, hp: Hyperparameters) -> Tensor:
    """w(s, a) of eq. 11, without gradient: sigma(-Q_h / T_q) sigma(-V_h / T_v)."""
    feasibility_q = critics.feasibility_q.detach().amax(0)
    return torch.sigmoid(-feasibility_q / hp.q_temperature) * torch.sigmoid(
        -critics.feasibility_v.detach() / hp.v_temperature
    )


def reward_regression_weight(critics: Critics, hp: Hyperparameters) -> Tensor:
    """w_r(s, a) of eq. 15, also the weight of eq. 12: exp(A_r / beta_r) 1{Q_h <= 0}, clipped."""
    advantage = (critics.reward_q.amin(0) - critics.reward_v).detach()
    feasible = critics.feasibility_q.detach().amax(0) <= 0
    return clipped_exponential(advantage / hp.reward_temperature, REWARD_WEIGHT_CLIP) * feasible


def safety_regression_weight(critics: Critics, hp: Hyperparameters) -> Tensor:
    """w_h(s, a) of eq. 14: exp(-A_h / beta_h) 1{Q_h <= 0}, clipped."""
    feasibility_q = critics.feasibility_q.detach().amax(0)
    advantage = critics.feasibility_v.detach() - feasibility_q
    weight = clipped_exponential(advantage / hp.safety_temperature, SAFETY_WEIGHT_CLIP)
    return weight * (feasibility_q <= 0)
