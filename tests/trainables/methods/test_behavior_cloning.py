"""Behaviour cloning: what it fits, and which episodes it clones."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.behavior_cloning import (
    BehaviorCloning,
    episode_costs,
    near_frontier,
)
from safesweep.trainables.methods.behavior_cloning_config import BehaviorCloningConfig
from safesweep.trainables.methods.method import ProblemSpec
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from tests.trainables.conftest import MakeDataset
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=2.0)
# Three episodes of two, three and two steps, which cost 0, 2 (the limit) and 3.
COSTS = torch.tensor([0.0, 0.0, 1.0, 0.0, 1.0, 1.5, 1.5])
TERMINALS = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
TIMEOUTS = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0])


def method_of(**changes: Any) -> BehaviorCloning:
    return BehaviorCloning(BehaviorCloningConfig.resolve({"hidden_dim": 8, **changes}), SPEC)


def columns(**changes: Tensor) -> dict[str, Tensor]:
    steps = torch.arange(7.0).unsqueeze(-1)
    return {
        "observations": steps.expand(7, 3),
        "actions": torch.zeros(7, 2),
        "rewards": torch.tensor([1.0, 1.0, 3.0, 3.0, 3.0, 2.0, 2.0]),
        "costs": COSTS,
        "terminals": TERMINALS,
        "timeouts": TIMEOUTS,
        **changes,
    }


@pytest.mark.parametrize(
    ("discount", "expected"), [(1.0, [0.0, 2.0, 3.0]), (0.5, [0.0, 1.25, 2.25]), (0.0, [0, 1, 1.5])]
)
def test_episode_costs_are_discounted_from_each_episodes_start(
    discount: float, expected: list[float]
) -> None:
    costs, episodes = episode_costs(COSTS, TERMINALS + TIMEOUTS, discount)
    assert costs.tolist() == expected
    assert episodes.tolist() == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"data": "safe"}, [0, 1, 2, 3, 4]),
        ({"data": "safe", "discount": 0.25}, [0, 1, 2, 3, 4, 5, 6]),
        # Above 1 and at most 3.
        ({"data": "boundary"}, [2, 3, 4, 5, 6]),
        # Returns 2, 9 and 4: the frontier is through the first two, where cost 3 has 12.5.
        ({"data": "frontier", "frontier_degree": 1}, [0, 1, 2, 3, 4]),
        ({"data": "frontier", "frontier_degree": 1, "frontier_range": 1.0}, [0, 1, 2, 3, 4]),
    ],
)
def test_safe_clones_the_episodes_within_the_limit(
    changes: dict[str, Any], kept: list[int]
) -> None:
    prepared = method_of(**changes).prepare(columns())
    assert prepared["observations"][:, 0].tolist() == kept
    assert len(prepared["actions"]) == len(kept)


def test_risky_are_those_of_twice_the_limit() -> None:
    prepared = method_of(data="risky").prepare(columns(costs=COSTS + 0.5))
    # 1, 3.5 and 4: the last one alone.
    assert prepared["observations"][:, 0].tolist() == [5, 6]


def test_one_frontier_through_few_episodes_keeps_its_degree_down() -> None:
    """A single episode that no other one beats: a constant."""
    kept = near_frontier(
        torch.tensor([5.0, 4.9, 0.0]).double(), torch.tensor([0.0, 1.0, 2.0]).double(), 3, 0.2
    )
    assert kept.tolist() == [True, True, False]


def test_a_policy_that_is_told_costs_acts_by_the_limit(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Episodes that cost 0 act 0.6, those that cost 25 act -0.6: so does the policy near those."""
    task = replace(boat_task, cost_limits=(1.0, 25.0))
    data = make_dataset(task, episodes=40)
    cheap = np.arange(len(data)) // 25 % 2 == 0
    actions = np.where(cheap, 0.6, -0.6).astype(np.float32)
    data = replace(
        data,
        observations=np.zeros_like(data.observations),
        actions=np.repeat(actions[:, None], task.action_dim, axis=1),
        costs=(~cheap).astype(np.float32),
    )
    population = cloned(task, data, data="multi_task")
    assert population.method.evaluated_policies == ("bc@1", "bc@25")
    states = np.zeros((1, 1, task.observation_dim), dtype=np.float32)
    for policy, expected in (("bc@1", 0.6), ("bc@25", -0.6)):
        action = population.policy(policy, 1)(states, 0)
        np.testing.assert_allclose(action, np.full_like(action, expected), atol=0.15)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": "boundary"}, "the lowest-cost of 3 episodes costs 0, beside the limit 2"),
        ({"data": "risky"}, "the dearest of 3 episodes costs 0, below twice the limit 2"),
        (
            {"data": "frontier", "frontier_degree": 0, "frontier_range": 0.0},
            "no return of 3 episodes is within 0 of their range from the frontier (frontier_range)",
        ),
    ],
)
def test_a_choice_that_leaves_no_episode_is_refused_in_one_line(
    changes: dict[str, Any], why: str
) -> None:
    costs = torch.zeros(7) if changes["data"] != "frontier" else COSTS
    with pytest.raises(InvalidInput) as problem:
        method_of(**changes).prepare(columns(costs=costs))
    assert str(problem.value) == f"data: {changes['data']!r} leaves nothing to clone; {why}"


def test_safe_without_a_safe_episode_is_refused() -> None:
    with pytest.raises(InvalidInput) as problem:
        method_of(data="safe").prepare(columns(costs=COSTS + 2.0))
    assert str(problem.value) == (
        "data: 'safe' leaves nothing to clone; "
        "the lowest-cost of 3 episodes costs 4, above the limit 2"
    )


def test_the_loss_is_the_mean_squared_error() -> None:
    method = method_of()
    state = method.init(torch.Generator().manual_seed(0))
    last = state["params"]["policy"][-1]
    last["weight"] = torch.zeros_like(last["weight"])
    last["bias"] = torch.atanh(torch.tensor([0.5, -0.5]))
    batch = {"observations": torch.randn(4, 3), "actions": torch.full((4, 2), 0.5)}
    loss, metrics, _ = method.losses["train"](step_inputs(state["params"], state, batch, None, {}))
    assert isinstance(loss, Tensor)
    assert float(loss) == pytest.approx(0.5)
    assert float(metrics["loss/policy"]) == float(loss)


def cloned(task: Task, dataset: Dataset, **changes: Any) -> Population:
    config = BehaviorCloningConfig.resolve(
        {"hidden_dim": 32, "batch_size": 64, "learning_rate": 3e-3, **changes}
    )
    population = make_population(
        BehaviorCloning, [config], [0], task, dataset, 600, task.cost_limit
    )
    population.advance(600)
    return population


def test_a_policy_is_recovered(boat_task: Task, make_dataset: MakeDataset) -> None:
    data = make_dataset(boat_task, episodes=40)
    first = np.tanh(data.observations[:, :1])
    data = replace(data, actions=np.repeat(first, boat_task.action_dim, axis=1))
    population = cloned(boat_task, data)
    grid = np.linspace(-1.5, 1.5, 31, dtype=np.float32)
    states = np.stack([grid, np.zeros_like(grid)], axis=1)[None]
    actions = population.policy("bc", 31)(states, 0)
    np.testing.assert_allclose(actions[0, :, 0], np.tanh(grid), atol=0.1)


@pytest.mark.parametrize(("choice", "expected"), [("all", 0.0), ("safe", 0.6)])
def test_two_ways_of_acting_are_averaged_unless_one_is_left_out(
    boat_task: Task, make_dataset: MakeDataset, choice: str, expected: float
) -> None:
    """Safe episodes act 0.6, costly ones -0.6, equally often and from the same states."""
    data = make_dataset(boat_task, episodes=40)
    safe = np.arange(len(data)) // 25 % 2 == 0
    actions = np.where(safe, 0.6, -0.6).astype(np.float32)
    data = replace(
        data,
        observations=np.zeros_like(data.observations),
        actions=np.repeat(actions[:, None], boat_task.action_dim, axis=1),
        costs=(~safe).astype(np.float32),
    )
    population = cloned(boat_task, data, data=choice)
    states = np.zeros((1, 1, boat_task.observation_dim), dtype=np.float32)
    action = population.policy("bc", 1)(states, 0)
    np.testing.assert_allclose(action, np.full_like(action, expected), atol=0.15)
