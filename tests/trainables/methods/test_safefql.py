"""SafeFQL's own facts: its gate, its distillation, its backup, its calibrated threshold."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.conformal import calibrated_threshold
from safesweep.trainables.components.critics import feasible_bellman_target
from safesweep.trainables.methods.method import Noise, ProblemSpec
from safesweep.trainables.methods.safefql import (
    SafeFQL,
    discounted_maximum_target,
    one_step_action,
    teacher_action,
)
from safesweep.trainables.methods.safefql_config import SafeFQLConfig
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from tests.trainables.conftest import MakeDataset
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
BATCH = 16


def method_and_state(**changes: Any) -> tuple[SafeFQL, dict[str, Any], Any]:
    config = SafeFQLConfig.resolve({"hidden_dim": 16, "batch_size": BATCH, **changes})
    method = SafeFQL(config, SPEC)
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def constant_critic(state: dict[str, Any], name: str, value: float) -> None:
    """Make every network of an ensemble return `value` whatever its input."""
    for layer in state["params"][name]:
        for leaf in layer.values():
            leaf.zero_()
    state["params"][name][-1]["bias"].fill_(value)


def minibatch() -> dict[str, Tensor]:
    return {"observations": torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(0))}


def start() -> dict[str, Tensor]:
    return {"start": torch.randn(BATCH, 2, generator=torch.Generator().manual_seed(1))}


def actor_metrics(
    method: SafeFQL, state: dict[str, Any], hp: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    inputs = step_inputs(state["params"], state, minibatch(), hp, start())
    loss, metrics, _ = method.actor_loss(inputs)
    assert isinstance(loss, Tensor)
    return loss, metrics


def test_inside_the_gate_only_reward_counts_and_outside_only_safety() -> None:
    method, state, hp = method_and_state(normalize_q=False, safety_weight=3.0)
    constant_critic(state, "reward_q", 2.0)
    for safety, reward_loss, safety_loss in ((-0.5, -2.0, 0.0), (0.0, -2.0, 0.0), (0.5, 0.0, 1.5)):
        constant_critic(state, "safety_q", safety)
        _, metrics = actor_metrics(method, state, hp)
        assert float(metrics["loss/reward"]) == pytest.approx(reward_loss)
        assert float(metrics["loss/safety"]) == pytest.approx(safety_loss)


def test_the_gate_moves_with_the_calibrated_threshold() -> None:
    method, state, hp = method_and_state(normalize_q=False)
    constant_critic(state, "reward_q", 2.0)
    constant_critic(state, "safety_q", -0.5)
    state["threshold"] = torch.tensor(-0.75)
    _, metrics = actor_metrics(method, state, hp)
    assert float(metrics["loss/reward"]) == 0.0
    assert float(metrics["loss/safety"]) == pytest.approx(0.25)
    observations = minibatch()["observations"]
    nominal = method.nominal_value(state, observations)
    torch.testing.assert_close(method.feasibility_value(state, observations, hp), nominal + 0.75)


def test_the_gate_takes_the_larger_safety_and_the_smaller_reward_critic() -> None:
    method, state, hp = method_and_state(normalize_q=False)
    for name in ("reward_q", "safety_q"):
        constant_critic(state, name, 0.0)
    state["params"]["reward_q"][-1]["bias"][:, 0] = torch.tensor([1.0, 5.0])
    state["params"]["safety_q"][-1]["bias"][:, 0] = torch.tensor([-2.0, -1.0])
    _, metrics = actor_metrics(method, state, hp)
    assert float(metrics["loss/reward"]) == pytest.approx(-1.0)
    state["params"]["safety_q"][-1]["bias"][:, 0] = torch.tensor([-2.0, 1.0])
    _, metrics = actor_metrics(method, state, hp)
    assert float(metrics["loss/reward"]) == 0.0


def test_a_normalized_reward_term_does_not_depend_on_the_rewards_size() -> None:
    method, state, hp = method_and_state(normalize_q=True)
    constant_critic(state, "safety_q", -1.0)
    for size in (0.1, 300.0):
        constant_critic(state, "reward_q", size)
        _, metrics = actor_metrics(method, state, hp)
        assert float(metrics["loss/reward"]) == pytest.approx(-1.0, rel=1e-3)


def test_distillation_is_the_distance_to_the_teacher_from_the_same_noise() -> None:
    method, state, hp = method_and_state(distillation_weight=2.0)
    observations, noise = minibatch()["observations"], start()["start"]
    _, metrics = actor_metrics(method, state, hp)
    student = one_step_action(state["params"], observations, noise)
    teacher = teacher_action(state["params"], observations, noise, 10)
    expected = 2.0 * (student - teacher).square().mean()
    torch.testing.assert_close(metrics["loss/distillation"], expected)
    flipped = {"start": noise.flip(0)}
    inputs = step_inputs(state["params"], state, minibatch(), hp, flipped)
    other = method.actor_loss(inputs).metrics
    assert float(other["loss/distillation"]) != float(metrics["loss/distillation"])


def test_acting_is_one_pass_from_one_noise() -> None:
    """No candidates to reject: one noise vector an observation, and no critic is asked."""
    method, state, hp = method_and_state()
    assert method.act_noise("safefql") == {"start": Noise((2,))}
    observations = minibatch()["observations"]
    actor_only = {"params": {"actor": state["params"]["actor"]}}
    actions = method.act("safefql", actor_only, observations, hp, start())
    assert actions.shape == (BATCH, 2)


def test_only_the_reachability_backup_keeps_the_sign_of_safe_states() -> None:
    """A state that stays safe for ever: V is the fixed point of its own target."""
    discount, signal, never = torch.tensor(0.9), torch.tensor([-1.0]), torch.tensor([0.0])
    fixed_points = []
    for backup in (feasible_bellman_target, discounted_maximum_target):
        value = torch.tensor([-1.0])
        for _ in range(500):
            value = backup(signal, value, never, discount)
        fixed_points.append(float(value))
    assert fixed_points == pytest.approx([-1.0, 0.0], abs=1e-6)
    ended = torch.tensor([1.0])
    assert float(discounted_maximum_target(signal, torch.tensor([9.0]), ended, discount)) == -1.0
    assert float(
        discounted_maximum_target(signal, torch.tensor([9.0]), never, discount)
    ) == pytest.approx(8.1)


def populate(
    task: Task, make_dataset: MakeDataset, steps: int, episodes: int = 60, **changes: Any
) -> Population:
    config = SafeFQLConfig.resolve({"hidden_dim": 16, "batch_size": 64, **changes})
    dataset = make_dataset(task, episodes=episodes)
    return make_population(SafeFQL, [config], [0], task, dataset, steps, 1.0)


def test_held_out_episodes_are_never_trained_on(boat_task: Task, make_dataset: MakeDataset) -> None:
    population = populate(boat_task, make_dataset, 10, calibration_episodes=7)
    held_out = population.data["held_out"].reshape(60, 25)
    assert int(held_out[:, 0].sum()) == 7
    assert set(population.training_rows.tolist()) == set(
        torch.nonzero(population.data["held_out"] == 0).squeeze(-1).tolist()
    )
    assert (population.data["calibration_weights"][population.training_rows] == 0).all()
    assert float(population.data["calibration_weights"].sum()) == pytest.approx(7 / 8)


def test_the_threshold_is_the_conformal_quantile_and_never_above_zero(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = populate(boat_task, make_dataset, 20, conformal_level=0.25)
    method, state, data = population.method, population.member_state(0), population.data
    hp = type(population.hp)(*[value[0] for value in population.hp])
    weights = data["calibration_weights"]
    chosen = weights > 0
    assert isinstance(method, SafeFQL)
    for shift in (-5.0, 0.0, 5.0):
        state["params"]["safety_v"][-1]["bias"] += shift
        scores = method.nominal_value(state, data["observations"][chosen])
        expected = calibrated_threshold(scores, weights[chosen], torch.tensor(0.25))
        finished = method.finish_phase("critics", state, data, hp)
        assert float(finished["threshold"]) == pytest.approx(min(float(expected), 0.0))
        assert float(finished["calibrated"]) == 1.0
    assert float(finished["threshold"]) <= 0.0


def test_too_few_violations_leave_the_nominal_threshold_and_say_so(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = populate(boat_task, make_dataset, 20, calibration_episodes=3, conformal_level=0.2)
    population.advance(20)
    metrics = population.take_metrics()
    assert float(metrics["calibrated"][0]) == 0.0
    assert float(metrics["threshold"][0]) == 0.0


@pytest.mark.slow
def test_a_trained_critic_covers_the_boats_true_infeasible_set(boat_task: Task) -> None:
    """Coverage >= 1 - level over 500 calibration draws, for V_h trained on a collected dataset."""
    from safesweep.trainables.data.sources import load_dataset

    config = SafeFQLConfig.resolve(
        {"hidden_dim": 64, "learning_rate": 1e-3, "expectile": 0.9, "safety_signal": "exact"}
    )
    dataset = load_dataset(boat_task.name)
    population = make_population(SafeFQL, [config], [0], boat_task, dataset, 1000, 1.0)
    population.advance(500)
    rng = np.random.default_rng(0)
    states = rng.uniform(boat.LOW, boat.HIGH, size=(50_000, 2))
    infeasible = states[~boat.true_feasible_set(boat_task.name).feasible(states)]
    values = population.feasibility_values(infeasible.astype(np.float32))
    assert values is not None
    level, count = 0.1, 148
    weights = torch.full((count,), 1 / (count + 1), dtype=torch.float64)
    covered = []
    for _ in range(500):
        drawn = torch.as_tensor(rng.choice(values[0], count))
        cut = float(calibrated_threshold(drawn, weights, torch.tensor(level)))
        covered.append((values[0] > cut).mean())
    assert np.mean(covered) >= 1 - level


def test_the_safety_term_may_be_divided_by_the_reward_values_size() -> None:
    """As the public code does with the whole of its objective."""
    method, state, hp = method_and_state(safety_weight=3.0, normalize_safety=True)
    constant_critic(state, "reward_q", -4.0)
    constant_critic(state, "safety_q", 0.5)
    _, metrics = actor_metrics(method, state, hp)
    assert float(metrics["loss/safety"]) == pytest.approx(3.0 * 0.5 / 4.0, rel=1e-5)


def test_critics_may_have_sizes_and_a_batch_of_their_own() -> None:
    settings = {"critic_hidden_dim": 4, "critic_hidden_layers": 3, "critic_batch_size": 5}
    method, state, hp = method_and_state(layer_norm="after_activation", **settings)
    assert [layer["weight"].shape for layer in state["params"]["safety_v"]] == [
        (3, 4), (4, 4), (4, 4), (4, 1),
    ]  # fmt: skip
    assert "scale_after" in state["params"]["reward_q"][0]
    assert "scale_after" not in state["params"]["actor"][0]
    assert state["params"]["actor"][0]["weight"].shape == (5, 16)
    rng = torch.Generator().manual_seed(0)
    batch = {
        "observations": torch.randn(BATCH, 3, generator=rng),
        "next_observations": torch.randn(BATCH, 3, generator=rng),
        "actions": torch.rand(BATCH, 2, generator=rng),
        "rewards": torch.rand(BATCH, generator=rng),
        "costs": torch.zeros(BATCH),
        "terminals": torch.zeros(BATCH),
    }
    noise = {**start(), "time": torch.rand(BATCH, generator=rng)}

    def losses() -> dict[str, float]:
        outputs = method.critic_loss(step_inputs(state["params"], state, batch, hp, noise))
        return {name: float(value) for name, value in outputs.metrics.items()}

    before = losses()
    batch = {**batch, "rewards": torch.where(torch.arange(BATCH) < 5, batch["rewards"], 9.0)}
    assert losses() == before
    batch = {**batch, "actions": torch.where(torch.arange(BATCH)[:, None] < 5, batch["actions"], 0)}
    after = losses()
    assert after["loss/teacher"] != before["loss/teacher"]
    assert after["loss/reward_q"] == before["loss/reward_q"]


def test_calibration_acts_where_the_critic_is_too_hopeful_far_from_a_violation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A critic that sees violations up to 20 steps ahead. In the last 10 it is right, and there is
    nothing to correct; of the 50 of the default the correction follows the level."""
    episodes, length = 90, 80
    ahead = torch.arange(length - 1, -1, -1).repeat(episodes).float()
    data = {
        "observations": ahead.unsqueeze(-1).expand(-1, 3),
        "actions": torch.zeros(len(ahead), 2),
        "rewards": torch.zeros(len(ahead)),
        "costs": (ahead == 0).float(),
        "terminals": torch.zeros(len(ahead)),
        "timeouts": (ahead == 0).float(),
    }

    def threshold(**changes: Any) -> float:
        method, state, hp = method_and_state(**changes)
        monkeypatch.setattr(method, "nominal_value", lambda _, states: 1 - states[:, 0] / 20)
        return float(method.finish_phase("critics", state, method.prepare(data), hp)["threshold"])

    assert threshold(calibration_window=10) == 0.0
    at = {level: threshold(conformal_level=level) for level in (0.05, 0.1, 0.2)}
    # The level's share of the furthest of 51 steps, whose values fall by 1/20 each.
    for level, found in at.items():
        assert found == pytest.approx(1 - (50 - 51 * level) / 20, abs=0.2)
    assert at[0.05] < at[0.1] < at[0.2] < 0
    assert threshold() == at[0.1]
