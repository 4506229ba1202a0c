"""Populations: a run does not depend on its company, resumes exactly, and fails alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from search_spaces.validation import InvalidInput
from tests.trainables.conftest import MakeDataset
from trainables.algorithms import ALGORITHMS
from trainables.population import BLOCK_STEPS, Population, phase_boundaries, problem_spec
from trainables.tasks import Task

SMALL = {"hidden_dim": 16, "batch_size": 32}
STEPS = 200

pytestmark = pytest.mark.parametrize("name", ALGORITHMS)


def build(
    name: str,
    task: Task,
    make_dataset: MakeDataset,
    changes: list[dict[str, Any]],
    seeds: list[int],
    steps: int = STEPS,
) -> Population:
    method = ALGORITHMS[name]
    configs = [method.config_class.resolve({**SMALL, **change}) for change in changes]
    return Population(method, configs, seeds, task, make_dataset(task), steps, task.cost_limit)


def assert_states_equal(first: Any, second: Any) -> None:
    for one, other in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert torch.equal(one, other)


def test_a_run_alone_equals_the_run_in_company(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    alone = build(name, boat_task, make_dataset, [{"learning_rate": 1e-3}], [3])
    changes = [{"learning_rate": rate} for rate in (1e-4, 1e-3, 3e-3, 1e-2)] * 2
    company = build(name, boat_task, make_dataset, changes, [3] * 4 + [7] * 4)
    alone.advance(STEPS)
    company.advance(STEPS)
    for lone, shared in zip(
        tree_leaves(alone.member_state(0)), tree_leaves(company.member_state(1)), strict=True
    ):
        torch.testing.assert_close(lone, shared, rtol=1e-3, atol=1e-4)
    other = tree_leaves(company.member_state(5))
    assert any(
        not torch.allclose(lone, leaf, atol=1e-3)
        for lone, leaf in zip(tree_leaves(alone.member_state(0)), other, strict=True)
    )


def test_repeating_and_resuming_are_bit_identical(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    changes, seeds = [{}, {"learning_rate": 1e-3}], [0, 1]
    whole = build(name, boat_task, make_dataset, changes, seeds)
    whole.advance(STEPS)
    stopped = build(name, boat_task, make_dataset, changes, seeds)
    stopped.advance(BLOCK_STEPS + 5)
    saved = tree_map(lambda v: v.clone() if torch.is_tensor(v) else v, stopped.state_dict())
    resumed = build(name, boat_task, make_dataset, changes, seeds)
    resumed.load_state_dict(saved)
    for step in (BLOCK_STEPS + 6, 3 * BLOCK_STEPS, STEPS):
        resumed.advance(step)
    assert_states_equal(whole.state, resumed.state)
    assert whole.step == resumed.step == STEPS


def test_a_run_that_diverges_is_frozen_alone(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    healthy = build(name, boat_task, make_dataset, [{}, {}], [0, 1])
    poisoned = build(name, boat_task, make_dataset, [{}, {}], [0, 1])
    poisoned.advance(10)
    for leaf in tree_leaves(poisoned.state["params"]):
        leaf[0] = float("nan")
    healthy.advance(100)
    poisoned.advance(100)
    assert poisoned.active == [False, True]
    assert poisoned.diverged_at[0] is not None
    assert healthy.active == [True, True]
    assert_states_equal(healthy.member_state(1), poisoned.member_state(1))


def test_a_population_that_diverged_whole_stops_training(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = build(name, boat_task, make_dataset, [{}], [0])
    for leaf in tree_leaves(population.state["params"]):
        leaf.fill_(float("nan"))
    population.advance(STEPS)
    assert population.active == [False]
    assert population.diverged_at == [BLOCK_STEPS]
    assert population.step == STEPS


def test_actions_stay_in_bounds_and_repeat(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = build(name, boat_task, make_dataset, [{"learning_rate": 0.05}, {}], [0, 1])
    population.advance(STEPS)
    observations = np.random.default_rng(0).normal(scale=50, size=(2, 40, 2)).astype(np.float32)
    for policy in population.method.policies:
        actions = population.policy(policy, 40)(observations, 7)
        assert actions.shape == (2, 40, boat_task.action_dim)
        assert np.abs(actions).max() <= 1
        np.testing.assert_array_equal(actions, population.policy(policy, 40)(observations, 7))


def test_members_must_share_their_static_fields(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    with pytest.raises(ValueError, match="static"):
        build(name, boat_task, make_dataset, [{}, {"hidden_dim": 8}], [0, 1])


def test_phases_divide_the_budget(name: str, boat_task: Task, make_dataset: MakeDataset) -> None:
    method_class = ALGORITHMS[name]
    dataset = make_dataset(boat_task)
    method = method_class(method_class.config_class(), problem_spec(boat_task, dataset, 1.0))
    assert sum(phase.share for phase in method.phases) == pytest.approx(1)
    for steps in (len(method.phases), 7, 1000):
        boundaries = phase_boundaries(method, steps)
        assert boundaries[0][1] == 0
        assert boundaries[-1][2] == steps
        assert all(end > start for _, start, end in boundaries)
        assert [b[0].name for b in boundaries] == [phase.name for phase in method.phases]
    with pytest.raises(InvalidInput, match="steps"):
        phase_boundaries(method, 0)


def varied(entry: dict[str, Any]) -> Any:
    """Another value of a hyperparameter, well inside its range."""
    if entry["type"] == "bool":
        return not entry["default"]
    if entry["choices"]:
        return next(choice for choice in entry["choices"] if choice != entry["default"])
    if entry["type"] == "int":
        return entry["default"] + 2
    span = entry["high"] - entry["low"]
    if span <= 1:
        middle = entry["low"] + 0.5 * span
        return middle if abs(middle - entry["default"]) > 0.1 * span else entry["low"] + 0.25 * span
    return entry["default"] * 0.5 if entry["default"] else 3.0


def test_every_hyperparameter_changes_the_result(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    """No option is parsed and ignored: each one, changed alone, changes an action."""
    observations = np.random.default_rng(0).normal(size=(1, 64, 2)).astype(np.float32)
    method = ALGORITHMS[name]
    sensitive = {**SMALL, **method.sensitive_settings}

    def outcomes(base: dict[str, Any], changes: list[dict[str, Any]]) -> list[np.ndarray]:
        settings = [{**base, **change} for change in changes]
        population = build(name, boat_task, make_dataset, settings, [0] * len(changes), steps=40)
        population.advance(40)
        states = np.repeat(observations, len(changes), axis=0)
        actions = [population.policy(p, 64)(states, 0) for p in population.method.policies]
        return list(np.concatenate(actions, axis=1))

    conditional = method.conditional_settings
    groups: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for entry in method.config_class.describe():
        base = {**sensitive, **conditional.get(entry["name"], {})}
        if base not in [known for known, _ in groups]:
            groups.append((base, []))
        next(entries for known, entries in groups if known == base).append(entry)
    ignored = []
    for base, entries in groups:
        changes: dict[str, list[dict[str, Any]]] = {"static": [{}], "batched": [{}]}
        for entry in entries:
            start = base.get(entry["name"], entry["default"])
            changes[entry["kind"]].append({entry["name"]: varied({**entry, "default": start})})
        batched = outcomes(base, changes["batched"])
        static = [outcomes(base, [change])[0] for change in changes["static"]]
        ignored += [
            next(iter(change))
            for kind, results in (("batched", batched), ("static", static))
            for change, result in zip(changes[kind][1:], results[1:], strict=True)
            if np.array_equal(result, results[0])
        ]
    assert not ignored
