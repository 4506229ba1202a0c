"""FLP's own facts: inversion, closed-form KL, best-of-N, and the cost constraint."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from safesweep.trainables.components.behaviour_flow import decode
from safesweep.trainables.components.critics import evaluate_candidates
from safesweep.trainables.components.networks import ensemble_mlp, gaussian_kl
from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.flp_config import FLPConfig
from safesweep.trainables.methods.method import ProblemSpec
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from tests.trainables.conftest import MakeDataset
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
BATCH = 16


def method_and_state(**changes: Any) -> tuple[FLP, dict[str, Any], Any]:
    config = FLPConfig.resolve({"hidden_dim": 16, "batch_size": BATCH, **changes})
    method = FLP(config, SPEC)
    method.prepare({"actions": torch.zeros(BATCH, 2), "rewards": torch.zeros(BATCH)})
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def constant_critic(params: dict[str, Any], name: str, values: tuple[float, float]) -> None:
    for layer in params[name]:
        for leaf in layer.values():
            leaf.zero_()
    params[name][-1]["bias"][:, 0] = torch.tensor(values)


def test_the_closed_form_kl_is_the_divergence() -> None:
    mean, log_std = normal(BATCH, 2), 0.5 * normal(BATCH, 2, seed=1)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(gaussian_kl(mean, log_std), expected)
    noise = normal(100_000, BATCH, 2, seed=2)
    drawn = mean + log_std.exp() * noise
    log_ratio = Normal(mean, log_std.exp()).log_prob(drawn) - Normal(0.0, 1.0).log_prob(drawn)
    torch.testing.assert_close(
        gaussian_kl(mean, log_std), log_ratio.sum(-1).mean(0), rtol=0.02, atol=0.02
    )
    assert float(gaussian_kl(torch.zeros(1, 2), torch.zeros(1, 2))) == 0.0


def test_the_whole_dataset_is_inverted_with_the_frozen_flow(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(boat_task)
    config = FLPConfig.resolve({"hidden_dim": 16, "batch_size": 32, "latent_bound": 100.0})
    population = make_population(FLP, [config] * 2, [0, 1], boat_task, dataset, 100, 1.0)
    population.advance(40)
    metrics = population.take_metrics()
    assert metrics["inversion_error"].max() < 1e-3
    flow = [
        {k: v.clone() for k, v in layer.items()} for layer in population.state["params"]["flow"]
    ]
    latents = population.state["latents"].clone()
    population.advance(100)
    for layer, before in zip(population.state["params"]["flow"], flow, strict=True):
        assert all(torch.equal(layer[k], before[k]) for k in layer)
    assert torch.equal(population.state["latents"], latents)
    state = population.member_state(1)
    observations, actions = population.data["observations"], population.data["actions"]
    decoded = decode(state["params"]["flow"], observations, state["latents"], 10)
    torch.testing.assert_close(decoded, actions, atol=1e-2, rtol=0)


def test_the_inversion_error_tells_of_latents_that_were_cut(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    config = FLPConfig.resolve({"hidden_dim": 16, "batch_size": 32, "latent_bound": 0.1})
    population = make_population(FLP, [config], [0], boat_task, make_dataset(boat_task), 100, 1.0)
    population.advance(40)
    assert float(population.take_metrics()["inversion_error"][0]) > 0.1
    assert float(population.state["latents"].abs().max()) == pytest.approx(0.1)


def test_the_critic_regresses_to_the_best_of_n_at_the_datas_latents() -> None:
    """Eq. 5 by hand: one transition after the other."""
    method, state, hp = method_and_state(candidates=3, discount=0.9)
    params, target = state["params"], state["target"]
    state["latents"] = normal(BATCH, 2, seed=4)
    rows = torch.arange(BATCH).flip(0)
    terminals = (torch.arange(BATCH) % 4 == 0).float()
    batch = {
        "observations": normal(BATCH, 3), "next_observations": normal(BATCH, 3, seed=1),
        "rewards": normal(BATCH, seed=2), "costs": torch.zeros(BATCH), "terminals": terminals,
        "row": rows,
    }  # fmt: skip
    noise = {"policy": normal(BATCH, 2, seed=5), "next": normal(3, BATCH, 2, seed=6)}
    losses, _ = method.critic_losses(step_inputs(params, state, batch, hp, noise))

    expected = torch.zeros(2)
    for index in range(BATCH):
        after = batch["next_observations"][index : index + 1]
        values = []
        for candidate in range(3):
            drawn = noise["next"][candidate, index : index + 1]
            latent = method.latents(params["policy"], after, drawn, hp)
            pair = torch.cat((after, latent), dim=-1)
            values.append(float(ensemble_mlp(target["reward_q"], pair).mean()))
        future = 0.0 if terminals[index] else 0.9 * max(values)
        pair = torch.cat((batch["observations"][index], state["latents"][rows[index]]))[None]
        predicted = ensemble_mlp(params["reward_q"], pair).reshape(2)
        expected += (predicted - batch["rewards"][index] - future).square() / BATCH
    torch.testing.assert_close(losses["reward_q"], expected.sum().detach(), rtol=1e-4, atol=1e-5)


def test_acting_takes_the_best_of_its_candidates() -> None:
    method, state, hp = method_and_state(candidates=4)
    observations, noise = normal(BATCH, 3), normal(BATCH, 4, 2, seed=1)
    actions = method.act("flp", state, observations, hp, {"policy": noise})
    params = state["params"]
    for index in range(BATCH):
        here = observations[index].expand(4, -1)
        latents = method.latents(params["policy"], here, noise[index], hp)
        best = evaluate_candidates(params["reward_q"], here, latents).mean(0).argmax()
        expected = decode(params["flow"], here[:1], latents[best][None], 10)
        torch.testing.assert_close(actions[index], expected[0])


@pytest.mark.parametrize(("aggregation", "expected"), [("mean", 2.0), ("minimum", 1.0)])
def test_two_critics_count_by_their_mean_or_minimum(aggregation: str, expected: float) -> None:
    method, state, _ = method_and_state(critic_aggregation=aggregation)
    constant_critic(state["params"], "reward_q", (1.0, 3.0))
    values = method.values(state["params"], normal(BATCH, 3), normal(BATCH, 2))
    torch.testing.assert_close(values.reward, torch.full((BATCH,), expected))
    assert values.cost is None


def test_the_cost_threshold_is_the_discounted_limit() -> None:
    method, _, hp = method_and_state(discount=0.9)
    by_hand = sum(10.0 / 100 * 0.9**step for step in range(100))
    assert float(method.cost_threshold(hp)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("cost", "rises"), [(5.0, True), (0.0, False)])
def test_the_multiplier_rises_only_above_the_threshold(cost: float, rises: bool) -> None:
    method, state, hp = method_and_state(safety="lagrangian", discount=0.9)
    params = state["params"]
    constant_critic(params, "cost_q", (cost, cost - 1))
    raw = params["multiplier"]["raw"].requires_grad_(True)
    noise = {"policy": normal(BATCH, 2)}
    batch = {"observations": normal(BATCH, 3)}
    losses, metrics = method.policy_losses(step_inputs(params, state, batch, hp, noise))
    threshold = float(method.cost_threshold(hp))
    assert float(metrics["cost_excess"]) == pytest.approx(cost - threshold, rel=1e-5)
    (gradient,) = torch.autograd.grad(losses["multiplier"], raw)
    assert (float(gradient) < 0) == rises


def bandit(boat_task: Task, make_dataset: MakeDataset, **changes: Any) -> Population:
    """FLP where r = a_0, and a_0 > 0 costs 1; every step is the last. Of the steps one in ten may
    cost something."""
    data = make_dataset(boat_task, episodes=40)
    risky = data.actions[:, 0] > 0
    dataset = replace(
        data,
        rewards=data.actions[:, 0] / (boat_task.horizon / 100),
        costs=risky.astype(np.float32),
        terminals=np.ones(len(data), dtype=bool),
        timeouts=np.zeros(len(data), dtype=bool),
    )
    config = FLPConfig.resolve(
        {"hidden_dim": 32, "batch_size": 64, "learning_rate": 3e-3, "alpha": 0.01, "N": 8,
         "target_update_rate": 0.05, "flow_steps": 5, "discount": 0.0, **changes}
    )  # fmt: skip
    return make_population(FLP, [config], [0], boat_task, dataset, 700, 0.1 * boat_task.horizon)


def costly_share(population: Population) -> float:
    """Cost of a step under the policy: the share of its actions with a_0 > 0."""
    observations = population.data["observations"][:200].numpy()[None]
    return float((population.policy("flp", 200)(observations, 0)[0, :, 0] > 0).mean())


def test_without_the_constraint_the_richest_actions_are_taken(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = bandit(boat_task, make_dataset)
    population.advance(700)
    assert costly_share(population) > 0.9


@pytest.mark.slow
def test_the_multiplier_rises_until_the_cost_is_below_its_limit(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = bandit(boat_task, make_dataset, safety="lagrangian", N=1)
    population.advance(210)
    shares, multipliers, excess = [costly_share(population)], [], []
    for step in (245, 280, 420, 560, 700):
        population.advance(step)
        metrics = population.take_metrics()
        shares.append(costly_share(population))
        multipliers.append(float(metrics["multiplier"][0]))
        excess.append(float(metrics["cost_excess"][0]))
    # One candidate: nothing but the multiplier, which starts at log 2, tells of the limit.
    assert shares[0] > 0.3
    assert excess[0] > 0
    assert max(multipliers) > 1.3 * math.log(2)
    assert min(shares) < 0.1
    assert max(shares[3:]) < 0.15
    assert max(excess[2:]) < 0


@pytest.mark.slow
def test_the_choice_among_candidates_keeps_the_limit_too(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    population = bandit(boat_task, make_dataset, safety="lagrangian")
    population.advance(700)
    assert costly_share(population) < 0.25
