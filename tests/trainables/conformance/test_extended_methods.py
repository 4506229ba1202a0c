"""What the contract offers beyond today's methods: known answers, alone and in a population the
same, resumed exactly, and compiled as one graph."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components import networks
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.confirmation import require_policy
from safesweep.trainables.methods.behavior_cloning import BehaviorCloning
from safesweep.trainables.methods.method import Phase
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.tasks.boat import BoatEnvironment, start_states
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.continuation import reason_to_train_anew
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests.trainables.conformance.extended_methods import EXTENDED, OBSTACLE, VARIED, Spender
from tests.trainables.conformance.small_populations import graph_counters, traced_step
from tests.trainables.conftest import random_dataset
from tests.trainables.populations import make_population

STEPS = 80
LIMITS = (1.0, 20.0)

every_method = pytest.mark.parametrize("name", EXTENDED)


def rising_dataset(task: Task) -> Dataset:
    """Rewards 0, 1, 2, ... in episodes of 25 steps."""
    dataset = random_dataset(task)
    return replace(dataset, rewards=(np.arange(len(dataset)) % 25).astype(np.float32))


@pytest.fixture(scope="module")
def task(boat_task: Task) -> Task:
    return replace(boat_task, cost_limits=LIMITS)


def build(
    name: str, task: Task, changes: Sequence[dict[str, Any]], steps: int = STEPS, limit: float = 1.0
) -> Population:
    method = EXTENDED[name]
    configs = [method.config_class.resolve(change) for change in changes]
    seeds = [VARIED[name].index(change) for change in changes]
    return make_population(method, configs, seeds, task, rising_dataset(task), steps, limit)


def trained(name: str, task: Task, changes: Sequence[dict[str, Any]], steps: int) -> Population:
    population = build(name, task, changes, steps)
    population.advance(steps)
    assert all(population.active)
    return population


def number(population: Population, member: int, network: str, part: str = "params") -> float:
    return float(population.member_state(member)[part][network]["value"])


@every_method
def test_alone_and_in_a_population_are_equal(
    name: str, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together in one `vmap`, and side by side as large members are on a CPU."""
    company = trained(name, task, VARIED[name], STEPS)
    monkeypatch.setattr(networks, "LARGE_PRODUCT", 0)
    apart = trained(name, task, VARIED[name], STEPS)
    for member, change in enumerate(VARIED[name]):
        lone = trained(name, task, [change], STEPS)
        for other, index in ((company, member), (apart, member)):
            pair = tree_leaves(lone.member_state(0)), tree_leaves(other.member_state(index))
            for one, same in zip(*pair, strict=True):
                torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-6)
    states = [tree_leaves(company.member_state(member)) for member in range(2)]
    assert any(not torch.equal(a, b) for a, b in zip(*states, strict=True))


@every_method
def test_resumed_from_a_checkpoint_it_is_the_same(name: str, task: Task) -> None:
    whole = trained(name, task, VARIED[name], STEPS)
    begun = build(name, task, VARIED[name])
    begun.advance(37)
    buffer = io.BytesIO()
    torch.save(begun.state_dict(), buffer)
    buffer.seek(0)
    resumed = build(name, task, VARIED[name])
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    resumed.advance(STEPS)
    for one, same in zip(tree_leaves(whole.state), tree_leaves(resumed.state), strict=True):
        assert torch.equal(one, same)


@every_method
def test_one_that_diverges_stays_where_it_was(name: str, task: Task) -> None:
    population = build(name, task, VARIED[name])
    population.advance(32)
    before = population.member_state(0)
    for leaf in tree_leaves(population.state["params"]):
        leaf[0] = float("nan")
    population.advance(STEPS)
    assert population.active == [False, True, True]
    kept = ("moving", "target")
    for part in (part for part in kept if part in before):
        pair = tree_leaves(before[part]), tree_leaves(population.member_state(0)[part])
        for one, same in zip(*pair, strict=True):
            assert torch.equal(one, same)


@every_method
def test_a_step_compiles_to_one_graph(name: str, task: Task) -> None:
    """Whatever the step: its number is an input."""
    plain, compiled = (build(name, task, VARIED[name]) for _ in range(2))
    compiled._compiled = True
    counters = graph_counters()
    counters.clear()
    compiled._compiled_step = traced_step(compiled)
    for population in (plain, compiled):
        population.advance(6)
    # Of Adam's count: a constant at first, then an input; one more where networks rest in between.
    rests = any(phase.every for phase in plain.method.phases)
    assert counters["stats"]["unique_graphs"] <= 2 + rests
    for one, other in zip(tree_leaves(plain.state), tree_leaves(compiled.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_multiplier_finds_the_price_of_its_constraint(task: Task) -> None:
    population = trained("multiplier", task, VARIED["multiplier"], 800)
    for member, change in enumerate(VARIED["multiplier"]):
        allowed, gain = change.get("allowed", 1.0), change.get("integral_gain", 0.05)
        assert number(population, member, "x") == pytest.approx(allowed, abs=0.02)
        integral = float(population.member_state(member)["moving"]["integral"])
        assert integral * gain == pytest.approx(2.0 - allowed, abs=0.05)


def test_every_network_moves_at_its_own_rate(task: Task) -> None:
    population = trained("marcher", task, VARIED["marcher"], STEPS)
    for member, config in enumerate(population.configs):
        hp: Any = config
        first, second, third = 0.0, 1.0, 0.0
        slow_first, slow_second = first, second
        for step in range(STEPS):
            first -= hp.learning_rate * 0.5 * (1 + np.cos(np.pi * step / STEPS))
            rate = hp.learning_rate * hp.second_factor * min((step + 1) / 10, 1.0)
            second = second * (1 - rate * hp.weight_decay) - rate
            # Adam divides the gradient by its own size plus 1e-8.
            size = min(1.0, hp.largest_norm)
            third -= hp.learning_rate * size / (size + 1e-8)
            slow_first += hp.target_update_rate * (first - slow_first)
            slow_second += hp.second_target_rate * (second - slow_second)
        for network, expected in (("first", first), ("second", second), ("third", third)):
            found = number(population, member, network)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6), network
        assert number(population, member, "first", "target") == pytest.approx(slow_first, rel=1e-4)
        assert number(population, member, "second", "target") == pytest.approx(
            slow_second, rel=1e-4, abs=1e-6
        )


def test_a_network_that_moves_in_every_third_step_rests_between_them(task: Task) -> None:
    """As with an optimizer of torch's own for each, of which one is stepped in every third step."""
    for steps in (2, STEPS):
        population = trained("follower", task, VARIED["follower"], steps)
        for member, config in enumerate(population.configs):
            hp: Any = config
            critic, actor = (torch.tensor(v, requires_grad=True) for v in (0.0, -1.0))
            slow = {"critic": 0.0, "actor": -1.0}
            optimizers = [torch.optim.Adam([x], lr=hp.learning_rate) for x in (critic, actor)]
            for step in range(1, steps + 1):
                losses = (critic - 1) ** 2 / 2, (actor - critic.detach()) ** 2 / 2
                moving = {"critic": critic, "actor": actor} if step % 3 == 0 else {"critic": critic}
                for optimizer, loss in list(zip(optimizers, losses, strict=True))[: len(moving)]:
                    optimizer.zero_grad()
                    loss.backward()
                for optimizer in optimizers[: len(moving)]:
                    optimizer.step()
                for name, value in moving.items():
                    slow[name] += hp.target_update_rate * (float(value.detach()) - slow[name])
            for name, value in (("critic", critic), ("actor", actor)):
                found = number(population, member, name)
                assert found == pytest.approx(float(value.detach()), rel=1e-5, abs=1e-6)
                found = number(population, member, name, "target")
                assert found == pytest.approx(slow[name], rel=1e-5, abs=1e-6)
    assert number(population, 0, "actor") != -1.0


@pytest.mark.parametrize("every", [{"actor": 0}, {"actor": 1.5}, {"critic": 2}])
def test_a_delay_is_a_whole_number_of_a_network_that_is_trained(every: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"it must be a whole number >= 1 for one of actor"):
        Phase("train", 1.0, ("actor",), every=every)


def test_a_schedule_over_the_budget_is_not_carried_on() -> None:
    method = EXTENDED["marcher"]
    config = method.config_class()
    reason = reason_to_train_anew(method, config, 100, config, 200)
    assert reason == "it trains to its budget, which was 100 and is 200"
    method = EXTENDED["spender"]
    assert (
        reason_to_train_anew(method, method.config_class(), 100, method.config_class(), 200) is None
    )


def test_windows_end_where_their_episodes_do(task: Task) -> None:
    population = trained("window_slope", task, VARIED["window_slope"], 300)
    scale = population.method.spec.reward_scale
    for member in range(3):
        assert number(population, member, "slope") == pytest.approx(1.0, abs=0.01)
    assert scale != 1.0  # The method took the rewards as they are.


def test_rows_are_drawn_by_their_weights(task: Task) -> None:
    """Rewards 0 to 24 with these weights: sum of squares over sum, 49 / 3; the 0 never."""
    population = trained("weighted_mean", task, VARIED["weighted_mean"][:1], 1500)
    assert number(population, 0, "mean") == pytest.approx(49 / 3, abs=0.3)
    population = build("weighted_mean", task, [{}])
    drawn = population.data["rewards"][population._draw("train", 0, 0)["indices"]]
    assert drawn.min() >= 1
    shares = torch.bincount(drawn.flatten().long(), minlength=25) / drawn.numel()
    # 8,192 draws: the largest deviation of a share of at most 0.08 is below 0.015.
    torch.testing.assert_close(shares, torch.arange(25) / 300, rtol=0, atol=0.015)


def test_weights_that_are_none_are_refused(task: Task) -> None:
    method = EXTENDED["weighted_mean"]
    dataset = rising_dataset(task)
    for rewards in (-dataset.rewards, 0 * dataset.rewards, np.nan * dataset.rewards):
        with pytest.raises(InvalidInput, match="sampling_weight: weights must be finite"):
            make_population(
                method,
                [method.config_class()],
                [0],
                task,
                replace(dataset, rewards=rewards),
                10,
                1.0,
            )


def spent(task: Task, seed: int, limit: float) -> tuple[float, float]:
    """Reward and cost of one boat whose driver counts the cost by hand."""
    boat = BoatEnvironment(task.name, start_states([seed], task.name)[0])
    reward_return = cost_return = 0.0
    for _ in range(task.horizon):
        way = 1.0 if cost_return < limit else -1.0
        direction = np.float32(OBSTACLE) - boat.observations
        _, reward, cost = boat.step(way * np.clip(direction, -1, 1))
        reward_return, cost_return = reward_return + float(reward), cost_return + float(cost)
    return reward_return, cost_return


def test_a_policy_remembers_what_its_episode_cost(task: Task) -> None:
    """Two members in eight episodes, by each of the policies of one training."""
    population = trained("spender", task, VARIED["spender"][:2], 40)
    assert population.method.evaluated_policies == ("spender@1", "spender@20")
    costs = {}
    for policy, limit in zip(population.method.evaluated_policies, LIMITS, strict=True):
        seeds = np.arange(16).reshape(2, 8)
        episodes = rollout(task, population.policy(policy, 8), population.size, seeds)
        by_hand = [[spent(task, int(seed), limit) for seed in row] for row in seeds]
        rewards, costs[policy] = np.moveaxis(np.array(by_hand), -1, 0)
        np.testing.assert_allclose(episodes.reward_returns, rewards, rtol=1e-4)
        np.testing.assert_array_equal(episodes.cost_returns, costs[policy])
    assert not np.array_equal(costs["spender@1"], costs["spender@20"])


def test_called_without_its_memory_a_policy_acts_as_at_the_start(task: Task) -> None:
    population = trained("spender", task, VARIED["spender"][:2], 40)
    policy = population.policy("spender@1", 3)
    observations = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)
    memory = policy.begin(slice(None), (2, 3))
    assert memory is not None
    nothing = np.zeros((2, 3))
    whole = slice(None)
    first, after = policy.respond(observations, 0, whole, whole, memory, nothing, nothing)
    np.testing.assert_array_equal(policy(observations, 0), first)
    later, _ = policy.respond(observations, 1, whole, whole, after, nothing, nothing + 1)
    np.testing.assert_array_equal(later, -first)
    assert float(memory["steps"].max()) == 0 and float(after["steps"].min()) == 1


def test_one_training_is_evaluated_at_every_limit(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ALGORITHMS, "spender", Spender)

    def finished(limit: float) -> Trial:
        config = Spender.config_class()
        dataset = rising_dataset(task)
        request = TrialRequest("spender", task.name, [config.to_dict()], [0], 40, 40, 2, limit)
        trial = Trial(request, task, dataset)
        trial.advance()
        return trial

    tight, loose, other = finished(1.0), finished(20.0), finished(7.0)
    assert tight.config_ids == loose.config_ids != other.config_ids
    for trial, first in ((tight, [1.0, 20.0]), (loose, [20.0, 1.0]), (other, [7.0, 1.0, 20.0])):
        rows = trial.rows.evaluations
        assert [row["cost_limit"] for row in rows] == first
        assert [row["policy"] for row in rows] == [f"spender@{limit:g}" for limit in first]
        for row in rows:
            assert row["normalized_cost"] == row["cost_return_mean"] / row["cost_limit"]


def test_a_policy_is_confirmed_at_any_limit_that_it_acts_to() -> None:
    for allowed in ("spender", "spender@1", "spender@7.5"):
        require_policy(Spender, {}, allowed)
    for refused in ("spender@", "spender@much", "spendthrift@1"):
        with pytest.raises(InvalidInput, match="is not one of spender's, spender, and each at"):
            require_policy(Spender, {}, refused)
    with pytest.raises(InvalidInput, match=r"policy: 'bc@10' is not one of bc's, bc$"):
        require_policy(BehaviorCloning, {}, "bc@10")
