"""FISOR's own facts: its weights, its choice among candidates, its actor's schedule."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from safesweep.trainables.methods.fisor import FISOR
from safesweep.trainables.methods.fisor_config import FISORConfig
from safesweep.trainables.methods.method import ProblemSpec, Progress
from tests.trainables.methods.step_inputs import step_inputs

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
SIZES = {"hidden_dim": 16, "batch_size": 8, "critic_batch_size": 4, "candidates": 3}
STATES = torch.zeros(1, 3)


def method_and_state(**changes: Any) -> tuple[FISOR, dict[str, Any], Any]:
    config = FISORConfig.resolve({**SIZES, **changes})
    method = FISOR(config, SPEC)
    method.samples = 8
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def answering(layers: list[dict[str, Tensor]], *values: float) -> list[dict[str, Tensor]]:
    """Networks that give these values whatever goes in: one each, or that of a single network."""
    fresh = [{name: torch.zeros_like(leaf) for name, leaf in layer.items()} for layer in layers]
    fresh[-1]["bias"] = torch.tensor(values).reshape(fresh[-1]["bias"].shape)
    return fresh


def with_critics(
    state: dict[str, Any], reward_q: tuple[float, float], reward_v: float,
    safety_q: tuple[float, float], safety_v: float,
) -> dict[str, Any]:  # fmt: skip
    params, target = dict(state["params"]), dict(state["target"])
    params["reward_v"] = answering(params["reward_v"], reward_v)
    params["feasibility_v"] = answering(params["feasibility_v"], safety_v)
    target["reward_q"] = answering(target["reward_q"], *reward_q)
    target["feasibility_q"] = answering(target["feasibility_q"], *safety_q)
    return {**state, "params": params, "target": target}


@pytest.mark.parametrize(
    ("safety_q", "safety_v", "expected"),
    [
        # An infeasible state: exp(5 (V_h - Q_h)), Q_h the larger, cut at 150.
        ((0.1, 0.3), 0.5, math.exp(5 * (0.5 - 0.3))),
        ((-2.0, -3.0), 0.5, 150.0),
        # A feasible pair: exp(3 (Q_r - V_r)), Q_r the smaller.
        ((-0.5, -0.2), -0.1, math.exp(3 * (1.0 - 0.8))),
        # An infeasible action in a feasible state.
        ((-0.5, 0.2), -0.1, 0.0),
    ],
)
def test_a_pair_counts_by_the_feasibility_of_state_and_action(
    safety_q: tuple[float, float], safety_v: float, expected: float
) -> None:
    method, state, hp = method_and_state()
    state = with_critics(state, (1.4, 1.0), 0.8, safety_q, safety_v)
    found = method.weigh(state, STATES, torch.zeros(1, 2), hp)
    assert found.tolist() == pytest.approx([expected])


def test_a_feasible_pairs_weight_is_cut_too() -> None:
    method, state, hp = method_and_state()
    state = with_critics(state, (9.0, 9.0), 0.0, (-1.0, -1.0), -1.0)
    assert method.weigh(state, STATES, torch.zeros(1, 2), hp).tolist() == pytest.approx([100.0])


def test_without_safety_every_pair_counts_alike() -> None:
    method, state, hp = method_and_state(safety="off")
    assert not [name for name in state["params"] if name.startswith("feasibility")]
    assert method.weigh(state, STATES, torch.zeros(1, 2), hp).tolist() == [1.0]


def by_first_number(slope: float, offset: float = 0.0) -> list[dict[str, Tensor]]:
    """Two critics: slope times the first number of an action, plus an offset."""
    weight = torch.zeros(2, 5, 1)
    weight[:, 3] = slope
    return [{"weight": weight, "bias": torch.full((2, 1), offset)}]


@pytest.mark.parametrize(
    ("changes", "offset", "expected"),
    [
        # The lowest feasibility value, which rises with the action.
        ({}, 0.0, -0.8),
        # The highest reward value among the feasible ones, whose action is at most 0.3 or -0.9.
        ({"selection": "best_feasible"}, -0.3, 0.2),
        ({"selection": "best_feasible"}, 0.9, -0.8),
        ({"safety": "off"}, 0.0, 0.6),
    ],
)
def test_which_candidate_acts(changes: dict[str, Any], offset: float, expected: float) -> None:
    method, _, _ = method_and_state(**changes)
    critics = {"reward_q": by_first_number(2.0), "feasibility_q": by_first_number(1.0, offset)}
    actions = torch.tensor([[[-0.8, 0.0]], [[0.2, 0.0]], [[0.6, 0.0]]])
    chosen = method.choose(critics, STATES, actions)
    assert float(actions[int(chosen), 0, 0]) == pytest.approx(expected)


def test_the_actors_step_size_goes_two_thirds_down_half_a_cosine() -> None:
    method, _, hp = method_and_state()
    steps = torch.tensor(300.0)
    for step, factor in ((0.0, 1.0), (150.0, 0.75), (300.0, 0.25)):
        found = method.optimization("actor", hp, Progress(torch.tensor(step), steps))
        assert float(found.learning_rates["actor"]) == pytest.approx(3e-4 * factor)
        assert found.target_rates["actor"] == hp.actor_update_rate
    assert not method.optimization("critics", hp, Progress(steps, steps)).target_rates
    steady, _, hp = method_and_state(actor_decay=0.0)
    assert not steady.optimization("actor", hp, Progress(steps, None)).learning_rates


def test_critics_see_the_first_transitions_of_a_minibatch_alone() -> None:
    method, state, hp = method_and_state()
    generator = torch.Generator().manual_seed(1)
    batch = {
        "observations": torch.randn(8, 3, generator=generator),
        "next_observations": torch.randn(8, 3, generator=generator),
        "actions": torch.randn(8, 2, generator=generator),
        "rewards": torch.ones(8), "costs": torch.zeros(8), "terminals": torch.zeros(8),
    }  # fmt: skip

    def losses(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return method.critic_loss(step_inputs(state["params"], state, batch, hp, {})).metrics

    rest = {name: torch.cat((column[:4], column[4:] + 1)) for name, column in batch.items()}
    for name, loss in losses(batch).items():
        assert float(loss) == float(losses(rest)[name])
        assert float(loss) > 0
