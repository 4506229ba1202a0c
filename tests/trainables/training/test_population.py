"""Populations: what they refuse, how phases share the budget, when they stop.

What every method must keep to inside of one is tested in `conformance`.
"""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.training import population as populations
from safesweep.trainables.training.population import BLOCK_STEPS, phase_boundaries, problem_spec
from tests.trainables.conformance.small_populations import build
from tests.trainables.conftest import MakeDataset

STEPS = 200

pytestmark = pytest.mark.parametrize("name", ALGORITHMS)


def test_a_population_that_diverged_whole_stops_training(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = build(name, boat_task, make_dataset(boat_task), [{}], [0], STEPS)
    for leaf in tree_leaves(population.state["params"]):
        leaf.fill_(float("nan"))
    population.advance(STEPS)
    assert population.active == [False]
    assert population.diverged_at == [BLOCK_STEPS]
    assert population.step == STEPS


def test_acting_looks_at_a_part_of_the_state_and_is_none_the_worse_for_it(
    name: str, boat_task: Task, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    population = build(name, boat_task, make_dataset(boat_task), [{}, {}], [0, 1], STEPS)
    observations = np.random.default_rng(0).uniform(-1, 1, (2, 5, 2)).astype(np.float32)
    for policy in population.method.policies:
        part = population._state_for_acting(policy)
        assert len(tree_leaves(part)) < len(tree_leaves(population.state)) or name == "bc"
        actions = population.policy(policy, 5)(observations, 0)
        with monkeypatch.context() as patched:
            patched.setattr(population, "_state_for_acting", lambda policy: population.state)
            assert np.array_equal(actions, population.policy(policy, 5)(observations, 0))


def test_cheap_policies_act_with_one_thread_beside_processes_that_simulate(
    name: str, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("BallRun")
    population = build(name, task, make_dataset(task), [{}, {}], [0, 1], STEPS)
    seen = []

    def rollout(
        task: Task, act: object, members: int, seeds: object, processes: int, **options: bool
    ) -> None:
        seen.append((processes, torch.get_num_threads()))
        if len(seen) == 4:
            raise RuntimeError

    monkeypatch.setattr(populations, "rollout", rollout)
    before, policy = torch.get_num_threads(), population.method.policies[0]
    torch.set_num_threads(2)
    try:
        population.evaluate(policy, 1)
        population.evaluate(policy, 20)
        monkeypatch.setattr(populations, "CHEAP_TO_ACT", 0)
        population.evaluate(policy, 20)
        monkeypatch.setattr(populations, "CHEAP_TO_ACT", float("inf"))
        with pytest.raises(RuntimeError):
            population.evaluate(policy, 20)
        assert seen == [(1, 2), (2, 1), (2, 2), (2, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_members_must_share_their_static_fields(
    name: str, boat_task: Task, make_dataset: MakeDataset
) -> None:
    with pytest.raises(ValueError, match="static"):
        build(name, boat_task, make_dataset(boat_task), [{}, {"hidden_dim": 8}], [0, 1], STEPS)


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
