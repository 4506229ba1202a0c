"""FQL, FBRAC, FAWAC, IFQL, IQL and ReBRAC: targets and policies' losses against values by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from safesweep.trainables.methods.fql import FQL
from safesweep.trainables.methods.ifql import IFQL
from safesweep.trainables.methods.iql import IQL
from safesweep.trainables.methods.method import Method, ProblemSpec
from safesweep.trainables.methods.rebrac import ReBRAC
from tests.trainables.methods.step_inputs import step_inputs

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
SIZES = {"hidden_dim": 8, "hidden_layers": 2, "batch_size": 4, "layer_norm": "none"}


def method_and_state(kind: type[Method], **changes: Any) -> tuple[Any, dict[str, Any], Any]:
    config = kind.config_class.resolve({**SIZES, **changes})
    method = kind(config, SPEC)
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def answering(layers: list[dict[str, Tensor]], *values: float) -> list[dict[str, Tensor]]:
    """Networks that give these values whatever goes in."""
    fresh = [{name: torch.zeros_like(leaf) for name, leaf in layer.items()} for layer in layers]
    fresh[-1]["bias"] = torch.tensor(values).reshape(fresh[-1]["bias"].shape)
    return fresh


def by_first_action(slope: float, inputs: int = 5) -> list[dict[str, Tensor]]:
    """Two critics, both slope times the first number of an action."""
    weight = torch.zeros(2, inputs, 1)
    weight[:, 3] = slope
    return [{"weight": weight, "bias": torch.zeros(2, 1)}]


def minibatch(**columns: Tensor) -> dict[str, Tensor]:
    zeros = torch.zeros(4)
    return {
        "observations": torch.zeros(4, 3), "next_observations": torch.zeros(4, 3),
        "actions": torch.tensor([[0.5, 0.0]] * 4), "rewards": torch.ones(4), "costs": zeros,
        "terminals": torch.tensor([0.0, 0.0, 0.0, 1.0]), **columns,
    }  # fmt: skip


def noise(**columns: Tensor) -> dict[str, Tensor]:
    zeros = torch.zeros(4, 2)
    return {"start": zeros, "policy": zeros, "next": zeros, "time": torch.zeros(4), **columns}


def losses_of(
    method: Any, state: dict[str, Any], hp: Any, batch: dict[str, Tensor], drawn: dict[str, Tensor]
) -> dict[str, float]:
    _, metrics, _ = method.loss(step_inputs(state["params"], state, batch, hp, drawn))
    return {name: float(value) for name, value in metrics.items()}


@pytest.mark.parametrize(("aggregation", "value"), [("mean", 2.0), ("minimum", 1.0)])
def test_fqls_critic_regresses_to_the_value_of_its_own_next_action(
    aggregation: str, value: float
) -> None:
    method, state, hp = method_and_state(FQL, critic_aggregation=aggregation)
    state["target"]["reward_q"] = answering(state["target"]["reward_q"], 1.0, 3.0)
    state["params"]["reward_q"] = answering(state["params"]["reward_q"], 0.0, 0.0)
    found = losses_of(method, state, hp, minibatch(), noise())["loss/reward_q"]
    expected = 2 * (3 * (1 + 0.99 * value) ** 2 + 1) / 4
    assert found == pytest.approx(expected, rel=1e-5)


def test_fqls_one_step_policy_climbs_the_critic_and_stays_near_the_flow() -> None:
    method, state, hp = method_and_state(FQL)
    state["params"] = {
        **state["params"],
        "reward_q": by_first_action(2.0),
        "actor": answering(state["params"]["actor"], 0.3, 0.0),
        "flow": answering(state["params"]["flow"], 0.1, 0.0),
    }
    found = losses_of(method, state, hp, minibatch(), noise())
    assert found["loss/reward"] == pytest.approx(-0.6)
    # Ten steps of velocity 0.1 from 0 make 0.1.
    assert found["loss/distillation"] == pytest.approx(10 * 0.2**2 / 2, rel=1e-4)
    assert found["loss/flow"] == pytest.approx(0.4**2 / 2, rel=1e-4)


def test_fbrac_climbs_the_critic_through_the_flow() -> None:
    method, state, hp = method_and_state(FQL, actor="flow")
    assert "actor" not in state["params"] and method.phases[0].trains == ("reward_q", "flow")
    state["params"]["reward_q"] = by_first_action(2.0)
    flow = answering(state["params"]["flow"], 0.1, 0.0)
    flow[-1]["bias"].requires_grad_(True)
    state["params"]["flow"] = flow
    inputs = step_inputs(state["params"], state, minibatch(), hp, noise())
    metrics = method.loss(inputs).metrics
    assert float(metrics["loss/reward"]) == pytest.approx(-0.2, rel=1e-4)
    (gradient,) = torch.autograd.grad(metrics["loss/reward"], flow[-1]["bias"])
    assert gradient.tolist() == pytest.approx([-2.0, 0.0], abs=1e-4)


def test_fawac_weighs_pairs_by_their_advantage_over_the_policy() -> None:
    method, state, hp = method_and_state(FQL, actor="weighted_flow", advantage_weight=2.0)
    state["params"]["reward_q"] = by_first_action(1.0)
    state["params"]["flow"] = answering(state["params"]["flow"], 0.1, 0.0)
    found = losses_of(method, state, hp, minibatch(), noise())
    assert found["loss/flow"] == pytest.approx(math.exp(2 * 0.4) * 0.4**2 / 2, rel=1e-4)


def test_iql_clones_by_the_advantage_or_climbs() -> None:
    method, state, hp = method_and_state(IQL, extraction_weight=2.0)
    state["params"] = {
        **state["params"],
        "reward_q": answering(state["params"]["reward_q"], 1.0, 2.0),
        "reward_v": answering(state["params"]["reward_v"], 0.7),
        "actor": answering(state["params"]["actor"], 0.0, 0.0),
    }
    negative = 0.5 * 0.25 + math.log(2 * math.pi)
    found = losses_of(method, state, hp, minibatch(), {})["loss/actor"]
    assert found == pytest.approx(math.exp(2 * 0.3) * negative, rel=1e-4)
    method, _, hp = method_and_state(IQL, extraction="ddpg_bc", extraction_weight=2.0)
    found = losses_of(method, state, hp, minibatch(), {})["loss/actor"]
    assert found == pytest.approx(2 * negative - 1, rel=1e-4)


def test_ifql_acts_with_the_best_of_its_flows_actions() -> None:
    method, state, hp = method_and_state(IFQL, candidates=3)
    state["params"]["reward_q"] = by_first_action(1.0)
    state["params"]["flow"] = answering(state["params"]["flow"], 0.0, 0.0)
    start = torch.tensor([[[0.1, 0.5], [0.4, -0.5], [-0.9, 0.2]], [[3.0, 0.0], [0.2, 0], [0, 0]]])
    found = method.act("ifql", state, torch.zeros(2, 3), hp, {"start": start})
    torch.testing.assert_close(found, torch.tensor([[0.4, -0.5], [1.0, 0.0]]))


def test_rebrac_takes_the_distance_to_the_data_from_the_target_and_the_objective() -> None:
    method, state, hp = method_and_state(ReBRAC, critic_weight=0.5, actor_weight=2.0)
    state["target"] = {
        "reward_q": answering(state["target"]["reward_q"], 1.0, 3.0),
        "actor": answering(state["target"]["actor"], 0.0, 0.0),
    }
    state["params"] = {
        "reward_q": answering(state["params"]["reward_q"], 0.0, 0.0),
        "actor": answering(state["params"]["actor"], 0.0, 0.0),
    }
    batch = minibatch(
        next_actions=torch.tensor([[0.6, 0.8]] * 4), next_counts=torch.tensor([1.0, 1.0, 0.0, 1.0])
    )
    # Noise of 0.2 x 10 is cut to 0.5.
    drawn = {"target": torch.tensor([[10.0, 0.0]] * 4)}
    found = losses_of(method, state, hp, batch, drawn)
    away = 0.5 * (0.1**2 + 0.8**2)
    targets = [1 + 0.99 * (1 - away), 1 + 0.99 * (1 - away), 1 + 0.99, 1.0]
    assert found["loss/reward_q"] == pytest.approx(2 * sum(t**2 for t in targets) / 4, rel=1e-4)
    assert found["loss/actor"] == pytest.approx(2 * 0.25)


def test_rebracs_next_action_ends_with_the_episode_unless_published() -> None:
    data = {
        "actions": torch.arange(8.0).reshape(4, 2), "rewards": torch.ones(4),
        "terminals": torch.tensor([0.0, 1.0, 0.0, 0.0]),
        "timeouts": torch.tensor([0.0, 0.0, 0.0, 1.0]),
    }  # fmt: skip
    for choice, counts in (("within_episode", [1, 0, 1, 0]), ("published", [1, 1, 1, 1])):
        method, _, _ = method_and_state(ReBRAC, next_actions=choice)
        columns = method.prepare(data)
        assert columns["next_counts"].tolist() == counts
        assert torch.equal(columns["next_actions"][:3], data["actions"][1:])
    assert method.phases[0].every == {"actor": 2}
