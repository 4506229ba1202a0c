"""FISOR: feasibility-guided safe offline RL (Zheng et al., 2024, arXiv 2401.10700), with SafeIFQL
and IDQL as options.

Two phases, each training its networks in parallel. `critics` fits in-sample reward critics and
Hamilton-Jacobi feasibility critics; when it ends every pair of the data is given its weight.
`actor` clones the weighted pairs with a diffusion model. Acting draws candidates and takes one.

* FISOR: the defaults. Of the candidates the one with the lowest feasibility value acts, so that the
  cost limit has no effect.
* SafeIFQL (public code beside SafeFQL's): `actor: flow, selection: best_feasible`. A flow instead
  of the diffusion; of the feasible candidates the one with the highest reward value acts.
* IDQL (Hansen-Estruch et al., 2023, arXiv 2304.10573): `safety: off`, and its own expectile 0.7 and
  64 candidates. Every pair counts alike; the candidate with the highest reward value acts.

The public code trains everything at once, on minibatches of 2,048 of which the actor takes two
steps of 1,024 and the critics one of the first 256. Critics never look at the actor, so they are
fitted first here, and weights are those of the final critics; `critic_share` 1/3 keeps the public
number of steps of both. Its time-outs are terminal (`done_signal`, by default they are bootstrapped
here). Weights start as torch's layers do, not by Xavier's rule.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.candidates import best_candidate, select
from safesweep.trainables.components.critics import (
    bellman_target,
    clipped_exponential,
    evaluate_candidates,
    evaluate_ensemble,
    feasible_bellman_target,
    in_sample_critic,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.diffusion import (
    denoise,
    diffusion_error,
    init_noise_network,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    init_velocity_field,
)
from safesweep.trainables.components.schedules import cosine
from safesweep.trainables.methods.fisor_config import FISORConfig
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Noise,
    Optimization,
    Phase,
    Progress,
    State,
    StepInputs,
    StepOutputs,
    in_parts,
    jointly,
)
from safesweep.trainables.methods.safety_signals import safety_signal

JUDGED_AT_ONCE = 16_384


class FISOR(Method):
    """Feasibility-guided diffusion (FISOR); SafeIFQL and IDQL are options of it."""

    name = "fisor"
    config_class = FISORConfig
    policies = FISORConfig.policies
    # Both kinds of weights occur, and neither is clipped or all but zero.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "violation_signal": 0.05,
        "safe_signal": -1.0,
        "learning_rate": 0.01,
        "critic_share": 0.7,
        "target_update_rate": 0.3,
        "actor_update_rate": 0.3,
        "critic_batch_size": 16,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "reward_weight_clip": {"reward_weight_clip": 1.0},
        "safety_weight_clip": {"safety_weight_clip": 1.0},
    }

    @property
    def constrained(self) -> bool:
        """Whether costs count."""
        return bool(self.static.safety == "feasibility")

    @property
    def phases(self) -> tuple[Phase, ...]:
        signals = ("reward", "feasibility") if self.constrained else ("reward",)
        critics = tuple(f"{signal}_{kind}" for signal in signals for kind in ("q", "v"))
        share = self.static.critic_share
        return (
            Phase("critics", share, critics, concludes=True),
            Phase("actor", 1 - share, ("actor",)),
        )

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds `row`, by which a minibatch finds its weights; counts them on the way."""
        self.samples = len(data["actions"])
        return {**super().prepare(data), "row": torch.arange(self.samples)}

    def init(self, generator: torch.Generator) -> State:
        signals = ("reward", "feasibility") if self.constrained else ("reward",)
        params = self.in_sample_networks(generator, *signals)
        sizes = self.static.hidden_dim, self.static.actor_layers
        new = init_noise_network if self.static.actor == "diffusion" else init_velocity_field
        dims = self.spec.action_dim, self.spec.observation_dim
        params["actor"] = new(generator, *dims, *sizes)
        slow = {name: params[name] for name in params if not name.endswith("_v")}
        return {"params": params, "target": slow, "weights": torch.zeros(self.samples)}

    def noise(self, phase: str) -> dict[str, Noise]:
        if phase == "critics":
            return {}
        batch, width = self.static.batch_size, self.static.hidden_dim
        drawn = {
            "start": Noise((batch, self.spec.action_dim)),
            "time": Noise((batch,), "uniform"),
        }
        if self.static.actor == "diffusion" and self.static.actor_dropout > 0:
            drawn["dropout"] = Noise((self.static.actor_layers, batch, width), "uniform")
        return drawn

    @property
    def losses(self) -> Losses:
        return {"critics": self.critic_loss, "actor": self.actor_loss}

    def critic_loss(self, inputs: StepInputs) -> StepOutputs:
        """IQL's losses of the reward, and of feasibility with the expectile reversed and the
        reachability backup (FLRP eq. 7 to 9 and 21 to 22, which are FISOR's)."""
        params, target, hp = inputs.params, inputs.target, inputs.hp
        first = self.static.critic_batch_size or self.static.batch_size
        batch = {name: column[:first] for name, column in inputs.batch.items()}
        done = batch["terminals"]
        reward = in_sample_critic("reward", params, target, batch)
        goal = bellman_target(batch["rewards"], reward.next_v, done, hp.discount)
        losses = in_sample_losses("reward", reward, goal, hp.reward_expectile)
        if self.constrained:
            safety = in_sample_critic("feasibility", params, target, batch, lowest=True)
            signal = safety_signal(self.static.safety_signal, batch, hp)
            goal = feasible_bellman_target(signal, safety.next_v, done, hp.discount)
            expectile = hp.feasibility_expectile
            losses |= in_sample_losses("feasibility", safety, goal, expectile, lowest=True)
        return jointly(losses)

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Weigh every pair: the critics learn no more, and the actor sees each pair many times."""
        parts = in_parts(JUDGED_AT_ONCE, data["observations"], data["actions"])
        weights = [self.weigh(state, here, actions, hp) for here, actions in parts]
        return {**state, "weights": torch.cat(weights)}

    def weigh(
        self, state: State, observations: Tensor, actions: Tensor, hp: Hyperparameters
    ) -> Tensor:
        """The weights of pairs, the form of FISOR's optimal policy: [B].

        Where V_h > 0 exp(alpha_2 (V_h - Q_h)); where V_h <= 0 and Q_h <= 0
        exp(alpha_1 (Q_r - V_r)); 0 for an infeasible action in a feasible state.
        """
        params, target = state["params"], state["target"]
        if not self.constrained:
            return torch.ones_like(observations[:, 0])
        reward_q = evaluate_ensemble(target["reward_q"], observations, actions).amin(0)
        safety_q = evaluate_ensemble(target["feasibility_q"], observations, actions).amax(0)
        gain = reward_q - state_value(params["reward_v"], observations)
        safety_v = state_value(params["feasibility_v"], observations)
        by_reward = clipped_exponential(
            hp.reward_inverse_temperature * gain, self.static.reward_weight_clip
        )
        by_safety = clipped_exponential(
            hp.safety_inverse_temperature * (safety_v - safety_q), self.static.safety_weight_clip
        )
        return torch.where(safety_v > 0, by_safety, by_reward * (safety_q <= 0))

    def weights_of(self, state: State, batch: Batch, hp: Hyperparameters) -> Tensor:
        """What `weigh` said of a minibatch when the critics were done."""
        weights: Tensor = state["weights"][batch["row"]]
        return weights

    def actor_loss(self, inputs: StepInputs) -> StepOutputs:
        """Weighted regression of the noise, or of a flow's velocity: mean w |error|^2."""
        params, state, batch, hp, noise, _ = inputs
        weights = self.weights_of(state, batch, hp)
        pairs = batch["actions"], noise["start"], noise["time"], batch["observations"]
        if self.static.actor == "diffusion":
            error = diffusion_error(
                params["actor"], *pairs, self.static.sampling_steps, self.static.actor_dropout,
                noise.get("dropout"),
            )  # fmt: skip
        else:
            error = flow_matching_error(params["actor"], *pairs, functional.gelu)
        counted = {"weighted_share": (weights > 0).float().mean()}
        return jointly({"loss/actor": (weights * error).mean()}, counted)

    def optimization(self, phase: str, hp: Hyperparameters, progress: Progress) -> Optimization:
        if phase == "critics":
            return Optimization()
        rates = {}
        if self.static.actor_decay > 0:
            assert progress.steps is not None
            factor = cosine(progress.step * self.static.actor_decay, progress.steps)
            rates["actor"] = hp.learning_rate * factor
        return Optimization(learning_rates=rates, target_rates={"actor": hp.actor_update_rate})

    def act_noise(self, policy: str) -> dict[str, Noise]:
        each = self.static.candidates, self.spec.action_dim
        if self.static.actor == "diffusion":
            return {"noise": Noise((self.static.sampling_steps, *each))}
        return {"noise": Noise(each)}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        """One of the slow actor's candidates, by the target critics."""
        target = state["target"]
        # Episodes come first in what was drawn, and last but one in what networks are given.
        drawn = noise["noise"].movedim(0, -2)
        if self.static.actor == "diffusion":
            actions = denoise(target["actor"], drawn, observations)
        else:
            steps = self.static.sampling_steps
            actions = generate(target["actor"], drawn, observations, steps, functional.gelu)
            actions = actions.clamp(-1, 1)
        return select(actions, self.choose(target, observations, actions))

    def choose(self, critics: Mapping[str, Any], observations: Tensor, actions: Tensor) -> Tensor:
        """Which of the candidates [N, E, a] acts: [E]."""
        unsafe = None
        if self.constrained:
            unsafe = evaluate_candidates(critics["feasibility_q"], observations, actions).amax(0)
            if self.static.selection == "least_unsafe":
                return unsafe.argmin(0)
        reward = evaluate_candidates(critics["reward_q"], observations, actions).amin(0)
        return best_candidate(reward, unsafe, torch.zeros_like(reward[0]))

    def feasibility_value(
        self, state: State, observations: Tensor, hp: Hyperparameters
    ) -> Tensor | None:
        """V_h."""
        if not self.constrained:
            return None
        return state_value(state["params"]["feasibility_v"], observations)
