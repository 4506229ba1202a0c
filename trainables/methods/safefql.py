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
  (`trainables.components.conformal`).
* The correction of the threshold (the paper's correction level, and the public code's
  `safety_delta` with its sign changed) is never above 0. Where all that the critic calls feasible
  misses fewer unsafe states than the level allows, a positive threshold would spend the rest of
  the level on states that the critic itself says are lost. Whether it is below 0 depends on the
  window: a critic sees the last steps before a violation however poor it is, and errs on those
  further away. With a window of 10 the threshold stayed at 0 on the boats at every level, which
  made calibration do nothing. With 50, 5 to 7 % of such states in new episodes are declared
  feasible at the threshold 0, and 1 to 2 % at level 0.05
  (`python -m tests.benchmarks.conformal_coverage --seeds 1`).
* Held out are some of the episodes with violations. Where these are too few for the level (K of
  them with (K + 1) times the level below 1) there is no guarantee: the nominal threshold stays, and
  the metric `calibrated` is 0.
* h(s) is +25 / -1 from the cost, as in the public code, or the exact margin; the text's words on
  the target, "the maximum of the immediate margin and the discounted future value", are read as
  the backup of the work it cites, (1 - gamma) h + gamma max(h, V'), which the public code has too.
  Literally, max(h, gamma V') drives V to 0 in every state that stays safe, so that its sign tells
  nothing; that is the option `safety_backup` = "discounted_maximum".
* Time-outs are bootstrapped; the public code treats them as terminal.
"""

from collections.abc import Mapping
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
    feasible_bellman_target,
    in_sample_critic,
    in_sample_losses,
    state_value,
)
from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    init_velocity_field,
)
from safesweep.trainables.components.networks import Activation, mlp
from safesweep.trainables.methods.common_options import NETWORK_CONDITIONS
from safesweep.trainables.methods.method import (
    Batch,
    Hyperparameters,
    Losses,
    Method,
    Noise,
    Parameters,
    Phase,
    State,
    StepInputs,
    StepOutputs,
    jointly,
)
from safesweep.trainables.methods.safefql_config import SafeFQLConfig
from safesweep.trainables.methods.safety_signals import safety_signal

TARGETS = ("reward_q", "safety_q")
CRITIC_NETWORKS = ("reward_q", "reward_v", "safety_q", "safety_v", "teacher")
CALIBRATION_SEED, CHUNK = 0, 8192


class SafeFQL(Method):
    """Safe flow Q-learning: reachability critics, one-step flow actor, conformal threshold."""

    name = "safefql"
    config_class = SafeFQLConfig
    policies = SafeFQLConfig.policies
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
        **NETWORK_CONDITIONS,
        "calibration_window": {"calibration_episodes": 2},
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
        params = {
            **self.in_sample_networks(generator, "reward", "safety"),
            "teacher": init_velocity_field(generator, action, observation, *self.hidden),
            "actor": self.mlp(generator, observation + action, action),
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

    @property
    def losses(self) -> Losses:
        return {"critics": self.critic_loss, "actor": self.actor_loss}

    def critic_loss(self, inputs: StepInputs) -> StepOutputs:
        """Eq. 6 to 11 and the teacher's regression (section 3.2), on the data's actions alone.

        V_r regresses to the smaller of two target Q_r, as IQL; V_h to the larger of two Q_h.
        """
        params, whole, hp, noise = inputs.params, inputs.batch, inputs.hp, inputs.noise
        first = self.static.critic_batch_size or self.static.batch_size
        batch = {name: column[:first] for name, column in whole.items()}
        activation = self.critic_activation
        reward = in_sample_critic("reward", params, inputs.target, batch, False, activation)
        safety = in_sample_critic("safety", params, inputs.target, batch, True, activation)
        done = batch["terminals"]
        reward_target = bellman_target(batch["rewards"], reward.next_v, done, hp.discount)
        backup = SAFETY_BACKUPS[self.static.safety_backup]
        signal = safety_signal(self.static.safety_signal, batch, hp)
        safety_target = backup(signal, safety.next_v, done, hp.discount)
        flow_error = flow_matching_error(
            params["teacher"], whole["actions"], noise["start"], noise["time"],
            whole["observations"], self.activation,
        )  # fmt: skip
        return jointly(
            {
                **in_sample_losses("reward", reward, reward_target, hp.expectile),
                **in_sample_losses("safety", safety, safety_target, hp.expectile, lowest=True),
                "loss/teacher": flow_error.mean(),
            }
        )

    def actor_loss(self, inputs: StepInputs) -> StepOutputs:
        """Distillation plus the feasibility-gated objective (ours, see the module's docstring):

        alpha |mu(s, z) - flow(s, z)|^2 + 1{Q_h <= c} (-Q_r / |Q_r|) + 1{Q_h > c} w (Q_h - c)

        with c the calibrated threshold, Q_h the larger and Q_r the smaller of two at the actor's
        own action. Inside the gate only reward counts, outside only safety.
        """
        params, state, hp = inputs.params, inputs.state, inputs.hp
        observations, start = inputs.batch["observations"], inputs.noise["start"]
        raw_action = one_step_action(params, observations, start, self.activation)
        taught = teacher_action(
            params, observations, start, self.static.flow_steps, self.activation
        )
        distance = (raw_action - taught.detach()).square().mean()

        action = raw_action.clamp(-1, 1)
        reward_q = evaluate_ensemble(
            params["reward_q"], observations, action, self.critic_activation
        ).amin(0)
        excess = self.action_safety(params, observations, action) - state["threshold"]
        feasible = (excess <= 0).to(excess.dtype)
        size = reward_q.detach().abs().mean() + 1e-6
        scale = size if self.static.normalize_q else 1.0
        safety_scale = size if self.static.normalize_safety else 1.0
        losses = {
            "loss/distillation": hp.distillation_weight * distance,
            "loss/reward": -(feasible * reward_q / scale).mean(),
            "loss/safety": hp.safety_weight * (functional.relu(excess) / safety_scale).mean(),
        }
        calibration = {name: state[name] for name in ("threshold", "calibrated")}
        return jointly(losses, {"feasible_share": feasible.mean(), **calibration})

    def action_safety(self, params: Parameters, observations: Tensor, actions: Tensor) -> Tensor:
        """The larger of two Q_h(s, a): [B]."""
        return evaluate_ensemble(
            params["safety_q"], observations, actions, self.critic_activation
        ).amax(0)

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
        return one_step_action(
            state["params"], observations, noise["start"], self.activation
        ).clamp(-1, 1)

    def nominal_value(self, state: State, observations: Tensor) -> Tensor:
        """V_h [E], before calibration."""
        return state_value(state["params"]["safety_v"], observations, self.critic_activation)

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


def one_step_action(
    params: Parameters,
    observations: Tensor,
    start: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """mu(s, z), not yet clipped to [-1, 1]: [B, o], [B, a] -> [B, a]."""
    return mlp(params["actor"], torch.cat((observations, start), dim=-1), activation)


def teacher_action(
    params: Parameters,
    observations: Tensor,
    start: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """The behaviour flow's action from noise z, by Euler's method, within [-1, 1]: [B, a]."""
    return generate(params["teacher"], start, observations, steps, activation).clamp(-1, 1)
