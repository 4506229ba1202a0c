"""SafeFQL: safe flow Q-learning (sections 1 to 3.2; the text at hand ends in section 3.2).

Two phases, each training its networks in parallel. `critics` fits reward and safety critics
within the data, and the behaviour flow, which no critic's signal enters; when it ends the safety
threshold is calibrated on held-out episodes. `actor` distils the flow into a one-step actor that
maximizes reward where it is predicted to stay safe. Acting is one pass of this actor, without
rejection sampling.

From the paper: both critics, the shared expectile, the larger of two safety critics, the teacher,
the roles of distillation, gate and calibration. Completed by us:

* The actor's objective is FQL's, distillation weight times squared distance to the teacher's
  action from the same noise, with the reward value of an action gated by its feasibility as in the
  authors' public code. That code's default switches distillation off and calibrates nothing; here
  both are on, as the abstract says.
* The paper calibrates last, with the policy fixed. Checking a policy takes its rollouts, which
  held-out data does not contain. Here the critic is calibrated when it is fixed, so that the gate
  uses the calibrated threshold, and the guarantee is about the set: in a new episode with a
  violation, a random one of the states from which a violation follows within `calibration_window`
  steps is declared feasible with probability at most `conformal_level`
  (`trainables.components.conformal`). The correction never loosens the nominal threshold 0.
* Held out are some of the episodes with violations. Where these are too few for the level (K of
  them with (K + 1) delta < 1) there is no guarantee: the nominal threshold stays, and the metric
  `calibrated` is 0.
* h(s) is +25 / -1 from the cost, as in the public code, or the exact margin; the text's words on
  the target, "the maximum of the immediate margin and the discounted future value", are read as
  the backup of the work it cites, (1 - gamma) h + gamma max(h, V'), which the public code has too.
  Literally, max(h, gamma V') drives V to 0 in every state that stays safe, so that its sign tells
  nothing; that is the option `safety_backup` = "discounted_maximum".
* Time-outs are bootstrapped; the public code treats them as terminal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.conformal import (
    calibrated_threshold,
    calibration_split,
    calibration_weights,
    episode_numbers,
    violation_ahead,
)
from safesweep.trainables.components.critics import (
    bellman_target,
    evaluate_ensemble,
    expectile_loss,
    feasible_bellman_target,
    reversed_expectile_loss,
    squared_error,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    init_velocity_field,
    integrate,
    velocity,
)
from safesweep.trainables.components.networks import detach, hidden_sizes, init_mlp, mlp
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

TARGETS = ("reward_q", "safety_q")
CRITIC_NETWORKS = ("reward_q", "reward_v", "safety_q", "safety_v", "teacher")
CALIBRATION_SEED = 0
CHUNK = 8192


@dataclass(frozen=True)
class SafeFQLConfig(MethodConfig):
    """Hyperparameters of SafeFQL. The text at hand prints no value of any."""

    phase_shares = ("critic_share",)

    expectile: float = batched(
        0.9, "expectile of V_r, and reversed of V_h", source="eq. 6, 11; public code",
        alias="tau", low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target networks", source="public code", low=1e-6, high=1.0
    )
    safety_backup: str = static(
        "reachability",
        "discounted reachability, or the maximum of h and gamma V' taken literally",
        source="section 3.1",
        choices=("reachability", "discounted_maximum"),
    )
    safety_signal: str = static(
        "sparse",
        "h(s) from the costs, or the dataset's exact margin",
        source="ours",
        choices=("sparse", "exact"),
    )
    violation_signal: float = batched(
        25.0, "h(s) where the cost is positive", source="public code", low=1e-3, high=1e3
    )
    safe_signal: float = batched(
        -1.0, "h(s) where the cost is zero", source="public code", low=-1e3, high=-1e-3
    )
    flow_steps: int = static(
        10, "Euler steps of the teacher", source="FQL; public code", low=1, high=256
    )
    distillation_weight: float = batched(
        1.0, "weight of the distance to the teacher", source="FQL's alpha; value ours",
        alias="alpha", low=0.0, high=1e4,
    )  # fmt: skip
    safety_weight: float = batched(
        1.0, "weight of the safety value beyond the threshold", source="public code; value ours",
        low=0.0, high=1e5,
    )  # fmt: skip
    normalize_q: bool = static(
        True, "divide the reward term by the batch's mean |Q_r|", source="FQL; public code"
    )
    conformal_level: float = batched(
        0.1, "share of unsafe states that may be declared feasible", source="section 3; ours",
        alias="delta", low=1e-4, high=0.5,
    )  # fmt: skip
    calibration_episodes: int = static(
        40,
        "episodes with violations held out for calibration, at most a third of them",
        source="ours",
        low=1,
        high=100_000,
    )
    calibration_window: int = static(
        10, "steps before a violation that count as unsafe", source="ours", low=0, high=10_000
    )
    critic_share: float = static(
        0.5, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )


class SafeFQL(Method):
    """Safe flow Q-learning: reachability critics, one-step flow actor, conformal threshold."""

    name = "safefql"
    config_class = SafeFQLConfig
    policies = ("safefql",)
    # Safety values around zero, and a threshold that is found on few episodes and is not zero.
    sensitive_settings: ClassVar[Mapping[str, Any]] = {
        "violation_signal": 0.05,
        "safe_signal": -3.0,
        "learning_rate": 6e-3,
        "target_update_rate": 0.3,
        "conformal_level": 0.5,
        "calibration_episodes": 1,
        "calibration_window": 0,
    }
    conditional_settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "calibration_window": {"calibration_episodes": 2}
    }

    @property
    def phases(self) -> tuple[Phase, ...]:
        share = self.static.critic_share
        critics = Phase("critics", share, CRITIC_NETWORKS, concludes=True)
        return (critics, Phase("actor", 1 - share, ("actor",)))

    def prepare(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Adds `held_out`, the calibration episodes, and each calibration state's weight."""
        episodes = episode_numbers(data["terminals"], data["timeouts"])
        doomed = violation_ahead(data["costs"], episodes, self.static.calibration_window)
        count = self.static.calibration_episodes
        held_out = calibration_split(doomed, episodes, count, CALIBRATION_SEED)
        weights = calibration_weights(doomed & (held_out > 0), episodes)
        return {**super().prepare(data), "held_out": held_out, "calibration_weights": weights}

    def init(self, generator: torch.Generator) -> State:
        observation, action = self.spec.observation_dim, self.spec.action_dim
        width, depth = self.static.hidden_dim, self.static.hidden_layers

        def network(inputs: int, outputs: int, **options: Any) -> Any:
            return init_mlp(generator, hidden_sizes(inputs, width, depth, outputs), **options)

        params = {
            "reward_q": network(observation + action, 1, ensemble=2),
            "reward_v": network(observation, 1),
            "safety_q": network(observation + action, 1, ensemble=2),
            "safety_v": network(observation, 1),
            "teacher": init_velocity_field(generator, action, observation, width, depth),
            "actor": network(observation + action, action),
        }
        return {
            "params": params,
            "target": {name: params[name] for name in TARGETS},
            "threshold": torch.zeros(()),
            "calibrated": torch.zeros(()),
        }

    def noise(self, phase: str) -> dict[str, Noise]:
        batch, action = self.static.batch_size, self.spec.action_dim
        start = {"start": Noise((batch, action))}
        return {**start, "time": Noise((batch,), "uniform")} if phase == "critics" else start

    def loss(
        self,
        phase: str,
        params: Parameters,
        state: State,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Losses, Metrics]:
        if phase == "actor":
            return self.actor_loss(params, state, batch, hp, noise)
        return self.critic_loss(params, state["target"], batch, hp, noise)

    def safety_signal(self, batch: Batch, hp: Hyperparameters) -> Tensor:
        """h(s) [B]: the dataset's exact margin, or two levels made from the sparse cost."""
        if self.static.safety_signal == "exact":
            return batch["safety_margins"]
        return torch.where(batch["costs"] > 0, hp.violation_signal, hp.safe_signal)

    def critic_loss(
        self,
        params: Parameters,
        target: Parameters,
        batch: Batch,
        hp: Hyperparameters,
        noise: Batch,
    ) -> tuple[Tensor, Metrics]:
        """Eq. 6 to 11 and the teacher's regression (section 3.2), on the data's actions alone.

        V_r regresses to the smaller of two target Q_r, as IQL; V_h to the larger of two Q_h.
        """
        observations, actions = batch["observations"], batch["actions"]
        after, terminal = batch["next_observations"], batch["terminals"]
        next_reward_v = mlp(detach(params["reward_v"]), after).squeeze(-1)
        next_safety_v = mlp(detach(params["safety_v"]), after).squeeze(-1)
        reward_target = bellman_target(batch["rewards"], next_reward_v, terminal, hp.discount)
        backup = SAFETY_BACKUPS[self.static.safety_backup]
        safety_target = backup(self.safety_signal(batch, hp), next_safety_v, terminal, hp.discount)

        target_reward_q = evaluate_ensemble(target["reward_q"], observations, actions).amin(0)
        target_safety_q = evaluate_ensemble(target["safety_q"], observations, actions).amax(0)
        reward_v = mlp(params["reward_v"], observations).squeeze(-1)
        safety_v = mlp(params["safety_v"], observations).squeeze(-1)
        flow_error = flow_matching_error(
            params["teacher"], actions, noise["start"], noise["time"], observations
        )
        losses = {
            "loss/reward_v": expectile_loss(target_reward_q - reward_v, hp.expectile),
            "loss/reward_q": squared_error(
                evaluate_ensemble(params["reward_q"], observations, actions), reward_target
            ),
            "loss/safety_v": reversed_expectile_loss(target_safety_q - safety_v, hp.expectile),
            "loss/safety_q": squared_error(
                evaluate_ensemble(params["safety_q"], observations, actions), safety_target
            ),
            "loss/teacher": flow_error.mean(),
        }
        return torch.stack(list(losses.values())).sum(), losses

    def actor_loss(
        self, params: Parameters, state: State, batch: Batch, hp: Hyperparameters, noise: Batch
    ) -> tuple[Tensor, Metrics]:
        """Distillation plus the feasibility-gated objective (ours, see the module's docstring):

        alpha |mu(s, z) - flow(s, z)|^2 + 1{Q_h <= c} (-Q_r / |Q_r|) + 1{Q_h > c} w (Q_h - c)

        with c the calibrated threshold, Q_h the larger and Q_r the smaller of two at the actor's
        own action. Inside the gate only reward counts, outside only safety.
        """
        observations = batch["observations"]
        raw_action = one_step_action(params, observations, noise["start"])
        taught = teacher_action(params, observations, noise["start"], self.static.flow_steps)
        distance = (raw_action - taught.detach()).square().mean()

        action = raw_action.clamp(-1, 1)
        reward_q = evaluate_ensemble(params["reward_q"], observations, action).amin(0)
        excess = self.action_safety(params, observations, action) - state["threshold"]
        feasible = (excess <= 0).to(excess.dtype)
        scale = reward_q.detach().abs().mean() + 1e-6 if self.static.normalize_q else 1.0
        losses = {
            "loss/distillation": hp.distillation_weight * distance,
            "loss/reward": -(feasible * reward_q / scale).mean(),
            "loss/safety": hp.safety_weight * functional.relu(excess).mean(),
        }
        metrics = {
            **losses,
            "feasible_share": feasible.mean(),
            "threshold": state["threshold"],
            "calibrated": state["calibrated"],
        }
        return torch.stack(list(losses.values())).sum(), metrics

    def action_safety(self, params: Parameters, observations: Tensor, actions: Tensor) -> Tensor:
        """The larger of two Q_h(s, a): [B]."""
        return evaluate_ensemble(params["safety_q"], observations, actions).amax(0)

    def finish_phase(
        self, phase: str, state: State, data: Mapping[str, Tensor], hp: Hyperparameters
    ) -> State:
        """Calibrate the safety threshold on the held-out states before a violation."""
        weights = data["calibration_weights"]
        rows = torch.nonzero(weights).squeeze(-1)
        scores = [
            self.nominal_value(state, data["observations"][chunk])
            for chunk in torch.split(rows, CHUNK)
        ]
        found = calibrated_threshold(torch.cat(scores), weights[rows], hp.conformal_level)
        calibrated = torch.isfinite(found)
        threshold = torch.where(calibrated, found.clamp(max=0.0), torch.zeros_like(found))
        return {**state, "threshold": threshold, "calibrated": calibrated.to(found.dtype)}

    def act_noise(self, policy: str) -> dict[str, Noise]:
        return {"start": Noise((self.spec.action_dim,))}

    def act(
        self, policy: str, state: State, observations: Tensor, hp: Hyperparameters, noise: Batch
    ) -> Tensor:
        return one_step_action(state["params"], observations, noise["start"]).clamp(-1, 1)

    def nominal_value(self, state: State, observations: Tensor) -> Tensor:
        """V_h [E], before calibration."""
        return mlp(state["params"]["safety_v"], observations).squeeze(-1)

    def feasibility_value(self, state: State, observations: Tensor, hp: Hyperparameters) -> Tensor:
        """V_h minus the calibrated threshold: the calibrated set is where it is <= 0."""
        threshold: Tensor = state["threshold"]
        return self.nominal_value(state, observations) - threshold


def discounted_maximum_target(
    safety_signal: Tensor, next_value: Tensor, terminal: Tensor, discount: Tensor
) -> Tensor:
    """max(h(s), gamma V_h(s')), and h(s) at a terminal state (section 3.1 to the letter)."""
    future = torch.maximum(safety_signal, discount * next_value)
    return torch.where(terminal > 0, safety_signal, future)


SAFETY_BACKUPS = {
    "reachability": feasible_bellman_target,
    "discounted_maximum": discounted_maximum_target,
}


def one_step_action(params: Parameters, observations: Tensor, start: Tensor) -> Tensor:
    """mu(s, z), not yet clipped to [-1, 1]: [B, o], [B, a] -> [B, a]."""
    return mlp(params["actor"], torch.cat((observations, start), dim=-1))


def teacher_action(params: Parameters, observations: Tensor, start: Tensor, steps: int) -> Tensor:
    """The behaviour flow's action from noise z, by Euler's method, within [-1, 1]: [B, a]."""

    def field(value: Tensor, time: float) -> Tensor:
        return velocity(params["teacher"], value, time, observations)

    return integrate(field, start, steps).clamp(-1, 1)
