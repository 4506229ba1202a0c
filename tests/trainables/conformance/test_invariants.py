"""What holds for every method, whatever it computes: a run depends on nobody, resumes exactly,
fails alone, acts within bounds, and ignores none of its hyperparameters."""

import copy
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population, phase_boundaries
from tests.trainables.conformance.small_populations import (
    METHODS_BY_DEFAULT,
    build,
    small_settings,
)
from tests.trainables.conftest import MakeDataset

STEPS = 100
# What acts and what it draws do not depend on how long it was trained.
COMPANY_STEPS = 30
RATES = (1e-4, 1e-3, 3e-3, 0.05)


on_two_methods = pytest.mark.parametrize("name", METHODS_BY_DEFAULT, scope="module", indirect=True)


@pytest.fixture(scope="module", params=ALGORITHMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def company(name: str, boat_task: Task, make_dataset: MakeDataset) -> Population:
    """Eight runs after 30 steps: every rate with seed 3, then with seed 7."""
    changes = [{"learning_rate": rate} for rate in RATES] * 2
    seeds = [3] * 4 + [7] * 4
    population = build(name, boat_task, make_dataset(boat_task), changes, seeds, COMPANY_STEPS)
    population.advance(COMPANY_STEPS)
    return population


def assert_equal(first: Any, second: Any) -> None:
    """All leaves are equal to the last bit."""
    for one, other in zip(tree_leaves(first), tree_leaves(second), strict=True):
        assert torch.equal(one, other) if torch.is_tensor(one) else one == other


@on_two_methods
def test_a_run_alone_equals_the_run_in_company(
    name: str, company: Population, boat_task: Task, make_dataset: MakeDataset
) -> None:
    changes = [{"learning_rate": RATES[1]}]
    alone = build(name, boat_task, make_dataset(boat_task), changes, [3], COMPANY_STEPS)
    alone.advance(COMPANY_STEPS)
    lone, shared, other = (
        tree_leaves(state)
        for state in (alone.member_state(0), company.member_state(1), company.member_state(5))
    )
    for one, same in zip(lone, shared, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-3, atol=1e-4)
    assert any(not torch.allclose(a, b, atol=1e-3) for a, b in zip(lone, other, strict=True))


def through_a_file(saved: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint's file gives back, without unpickling anything but tensors."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert isinstance(loaded, dict)
    return loaded


@on_two_methods
def test_repeating_and_resuming_are_bit_identical(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Stopped twice: in the middle of a phase and of a block of draws, and in the last phase."""
    steps, stops = 80, (37, 70)

    def fresh() -> Population:
        changes = [{}, {"learning_rate": 1e-3}]
        return build(name, boat_task, make_dataset(boat_task), changes, [0, 1], steps)

    boundaries = phase_boundaries(fresh().method, steps)
    assert all(stop not in (start, end) for stop in stops for _, start, end in boundaries)
    assert boundaries[-1][1] < stops[-1]
    whole, resumed = fresh(), fresh()
    whole.advance(steps)
    for stop in stops:
        resumed.advance(stop)
        saved = through_a_file(resumed.state_dict())
        resumed = fresh()
        resumed.load_state_dict(saved)
    resumed.advance(steps)
    assert whole.step == resumed.step == steps
    for part in ("state", "optimizers"):
        assert_equal(whole.state_dict()[part], resumed.state_dict()[part])


@on_two_methods
def test_a_run_that_diverges_is_frozen_alone(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    healthy = build(name, boat_task, make_dataset(boat_task), [{}, {}], [0, 1], STEPS)
    healthy.advance(10)
    poisoned = copy.deepcopy(healthy)
    for leaf in tree_leaves(poisoned.state["params"]):
        leaf[0] = float("nan")
    healthy.advance(40)
    poisoned.advance(40)
    assert poisoned.active == [False, True]
    assert poisoned.diverged_at[0] is not None
    assert healthy.active == [True, True]
    assert_equal(healthy.member_state(1), poisoned.member_state(1))


@on_two_methods
def test_members_that_go_on_without_the_others_are_not_changed(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    changes = [{"learning_rate": rate} for rate in RATES]
    whole = build(name, boat_task, make_dataset(boat_task), changes, [3, 4, 5, 6], STEPS)
    whole.advance(40)
    part = whole.part([1, 3])
    assert (part.size, part.seeds) == (2, [4, 6])
    assert_equal(part.member_state(1), whole.member_state(3))
    part.advance(80)
    assert whole.step == 40
    whole.advance(80)
    for member, same in ((0, 1), (1, 3)):
        pair = (part.member_state(member), whole.member_state(same))
        for one, other in zip(*map(tree_leaves, pair), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_some_members_act_in_some_episodes_as_all_do(name: str, company: Population) -> None:
    observations = np.random.default_rng(0).normal(size=(8, 6, 2)).astype(np.float32)
    for policy in company.method.policies:
        act = company.policy(policy, 6)
        whole = act(observations, 3)
        for members, episodes in ((slice(2, 5), slice(0, 6)), (slice(7, 8), slice(1, 4))):
            some = act(observations[members, episodes], 3, members, episodes)
            np.testing.assert_allclose(some, whole[members, episodes], rtol=0, atol=1e-4)
        assert np.abs(np.diff(whole, axis=0)).max() > 1e-2


def test_actions_stay_in_bounds_and_repeat(name: str, company: Population, boat_task: Task) -> None:
    observations = np.random.default_rng(0).normal(scale=50, size=(8, 40, 2)).astype(np.float32)
    for policy in company.method.policies:
        actions = company.policy(policy, 40)(observations, 7)
        assert actions.shape == (8, 40, boat_task.action_dim)
        assert np.abs(actions).max() <= 1
        np.testing.assert_array_equal(actions, company.policy(policy, 40)(observations, 7))


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


@on_two_methods
def test_every_hyperparameter_changes_the_result(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    """No option is parsed and ignored: each one, changed alone, changes an action."""
    steps = 30
    observations = np.random.default_rng(0).normal(size=(1, 64, 2)).astype(np.float32)
    method, dataset = ALGORITHMS[name], make_dataset(boat_task)
    # Some hyperparameters are about the second or third limit alone.
    task = replace(boat_task, cost_limits=(1.0, 2.0, 4.0))
    sensitive = {**small_settings(name), **method.sensitive_settings}

    def outcomes(base: dict[str, Any], changes: list[dict[str, Any]]) -> list[np.ndarray]:
        settings = [{**base, **change} for change in changes]
        population = build(name, task, dataset, settings, [0] * len(changes), steps)
        population.advance(steps)
        states = np.repeat(observations, len(changes), axis=0)
        named = population.method.evaluated_policies
        actions = [population.policy(p, 64)(states, 0) for p in named]
        return list(np.concatenate(actions, axis=1))

    # Hyperparameters that matter under the same settings are varied together.
    groups: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for entry in method.config_class.describe():
        base = {**sensitive, **method.conditional_settings.get(entry["name"], {})}
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
        # Of another population's shape, the same run differs in its last digits: compared to its
        # own kind.
        static = [outcomes(base, [change])[0] for change in changes["static"]]
        ignored += [
            next(iter(change))
            for kind, results in (("batched", batched), ("static", static))
            for change, result in zip(changes[kind][1:], results[1:], strict=True)
            if np.array_equal(result, results[0])
        ]
    assert not ignored
