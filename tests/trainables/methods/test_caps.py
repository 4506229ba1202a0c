"""CAPS's own facts: its heads' weights, its budget, its switch; one training at three limits."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from safesweep.trainables.methods.caps import CAPS
from safesweep.trainables.methods.caps_config import CAPSConfig
from safesweep.trainables.methods.method import LastStep, ProblemSpec
from tests.trainables.conformance.analytic_problems import GAP, points
from tests.trainables.conformance.test_analytic_problems import DRAWS, trained
from tests.trainables.methods.step_inputs import step_inputs

SPEC = ProblemSpec(
    observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0,
    cost_limits=(10.0, 20.0, 40.0),
)  # fmt: skip


def method_and_state(**changes: Any) -> tuple[CAPS, dict[str, Any], Any]:
    config = CAPSConfig.resolve({"hidden_dim": 16, "batch_size": 8, **changes})
    method = CAPS(config, SPEC)
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def test_one_training_has_a_policy_for_each_limit() -> None:
    method, _, _ = method_and_state()
    assert method.evaluated_policies == ("caps@10", "caps@20", "caps@40")
    assert not CAPSConfig().trains_to_cost_limit


def test_heads_go_from_reward_to_cost() -> None:
    method, _, _ = method_and_state(heads=4)
    weights = method.head_weights(torch.tensor([0.0, math.log(3.0)]), torch.tensor([1.0, 9.0]))
    by_reward, by_cost = [1.0, 3.0], [math.e, 100.0]
    expected = [
        by_reward,
        [r + 2 / 3 * c for r, c in zip(by_reward, by_cost, strict=True)],
        [r + 4 / 3 * c for r, c in zip(by_reward, by_cost, strict=True)],
        by_cost,
    ]
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-5)


def test_the_budget_is_what_is_left_spread_over_the_steps_that_are_left() -> None:
    method, _, hp = method_and_state()
    spent, steps = torch.tensor([0.0, 4.0, 12.0, 9.0]), torch.tensor([0.0, 50.0, 50.0, 99.0])
    found = method.budget("caps@10", spent, steps, hp)
    discounted = [(1 - 0.99**left) / (0.01 * left) for left in (100, 50, 50, 1)]
    expected = [10 * discounted[0], 6 * discounted[1], 0.0, 1.0]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert float(method.budget("caps@40", spent, steps, hp)[1]) == pytest.approx(
        36 * discounted[1], rel=1e-4
    )


def test_costs_are_remembered_and_the_switch_follows_the_budget() -> None:
    """Two heads, rich and dear or poor and cheap, with cost values 5 and 0."""
    method, state, hp = method_and_state()
    params = dict(state["params"])
    for layer in params["actor"]:
        for leaf in layer.values():
            leaf.zero_()
    params["actor"][-1]["bias"] = torch.tensor([0.8, 0.0, -0.8, 0.0])
    weight = torch.zeros(2, 5, 1)
    weight[:, 3] = 5 / (2 * math.tanh(0.8))
    params["cost_q"] = [{"weight": weight, "bias": torch.full((2, 1), 2.5)}]
    params["reward_q"] = [{"weight": weight, "bias": torch.zeros(2, 1)}]
    state = {**state, "params": params}

    memory = {
        name: value.unsqueeze(0) for name, value in method.begin_episode("caps@10", hp).items()
    }
    cost, seen = 0.0, []
    for _ in range(4):
        last = LastStep(torch.zeros(1), torch.tensor([cost]))
        action, memory = method.act_with_memory(
            "caps@10", state, torch.zeros(1, 3), hp, {}, memory, last
        )
        seen.append(float(action[0, 0]))
        cost = 3.0 if seen[-1] > 0 else 0.0
    # Budgets of about 6.34, 4.4: one costly step is all that the limit has room for.
    assert [value > 0 for value in seen] == [True, False, False, False]
    assert float(memory["spent"]) == 3.0 and float(memory["steps"]) == 4.0


def test_published_deviations_stay_one_and_learned_ones_move() -> None:
    generator = torch.Generator().manual_seed(1)
    batch = {
        "observations": torch.randn(8, 3, generator=generator),
        "next_observations": torch.randn(8, 3, generator=generator),
        "actions": torch.zeros(8, 2), "rewards": torch.ones(8), "costs": torch.zeros(8),
        "terminals": torch.zeros(8),
    }  # fmt: skip
    for deviations, trained_too in (("published", False), ("learned", True)):
        method, state, hp = method_and_state(deviations=deviations)
        (phase,) = method.phases
        assert ("log_std" in phase.trains) == trained_too
        log_std = state["params"]["log_std"].requires_grad_(True)
        loss, metrics, _ = method.loss(step_inputs(state["params"], state, batch, hp, {}))
        assert isinstance(loss, torch.Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(metrics["deviation"].detach()) == 1.0
        # Actions nearer to the mean than one deviation ask for a smaller one.
        assert bool((log_std.grad > 0).all())


def test_one_training_spends_more_where_the_limit_is_higher() -> None:
    """At the fork the rich action costs 0.75, which limits of 5 have room for and others not."""
    observations = np.repeat(points(["fork"]), DRAWS, axis=0)[None]
    population = trained("caps")
    rich = [
        float((population.policy(f"caps@{limit}", DRAWS)(observations, 0)[0, :, 0] > GAP).mean())
        for limit in (0.1, 1, 5)
    ]
    assert rich == [0.0, 0.0, 1.0]
