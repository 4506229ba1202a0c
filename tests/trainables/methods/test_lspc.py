"""LSPC's own facts: its critics, its two weights, the latent box, and who is safe in which role."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.trainables.components.critics import InSampleCritic, in_sample_critic
from safesweep.trainables.components.networks import mlp
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.lspc import LSPC, restrict_prior
from safesweep.trainables.methods.lspc_config import LSPCConfig
from safesweep.trainables.methods.method import ProblemSpec
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.population import Population
from tests.trainables.conftest import MakeDataset
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=4.0, cost_limit=10.0)
BATCH = 16
LATENT = 5


def method_and_state(**changes: Any) -> tuple[LSPC, dict[str, Any], Any]:
    config = LSPCConfig.resolve(
        {"hidden_dim": 16, "batch_size": BATCH, "latent_dim": LATENT, **changes}
    )
    method = LSPC(config, SPEC)
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def minibatch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "observations": normal(BATCH, 3),
        "next_observations": normal(BATCH, 3),
        "actions": torch.tanh(normal(BATCH, 2)),
        "rewards": normal(BATCH),
        "costs": (normal(BATCH) > 1).float(),
        "terminals": torch.zeros(BATCH),
    }


def latent_noise() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(BATCH, LATENT, generator=generator) for name in ("posterior", "encoder")
    }


def critic_of(q: float = 0.0, v: float = 0.0) -> InSampleCritic:
    """A critic that says this of one pair."""
    judged, value = torch.tensor([q]), torch.tensor([v])
    return InSampleCritic(judged.expand(2, 1), value, judged, value)


@pytest.mark.parametrize(
    ("cost_q", "cost_v", "expected"),
    [
        (1.0, 1.0, 1.0),
        (1.5, 1.0, math.exp(-1.0)),
        (1.0, 1.5, math.exp(1.0)),
        (0.0, 9.0, 200.0),
        # Costs are not negative: a value below zero is read as zero.
        (0.5, -3.0, math.exp(-1.0)),
    ],
)
def test_the_cost_weight_prefers_cheap_actions(
    cost_q: float, cost_v: float, expected: float
) -> None:
    method, _, hp = method_and_state(**{"lambda": 2.0})
    weight = method.cost_weight(critic_of(cost_q, cost_v), hp)
    torch.testing.assert_close(weight, torch.tensor([expected]))


def test_unclamped_costs_may_be_negative() -> None:
    method, _, hp = method_and_state(clamp_costs=False)
    weight = method.cost_weight(critic_of(0.5, -0.5), hp)
    torch.testing.assert_close(weight, torch.tensor([math.exp(-2.0)]))


@pytest.mark.parametrize(
    ("cost_q", "cost_v", "kept"),
    [(0.01, 0.01, True), (0.03, 0.01, False), (0.01, 0.03, False), (0.03, 0.03, False)],
)
def test_the_mask_leaves_out_pairs_with_either_cost_value_above_it(
    cost_q: float, cost_v: float, kept: bool
) -> None:
    cost = critic_of(cost_q, cost_v)
    method, _, hp = method_and_state(safety_mask=True)
    assert bool(method.cost_weight(cost, hp) > 0) is kept
    method, _, hp = method_and_state()
    assert bool(method.cost_weight(cost, hp) > 0)


def test_the_reward_weight_is_the_clipped_exponential_of_the_advantage() -> None:
    method, _, hp = method_and_state(zeta=3.0)
    ahead = method.reward_weight(critic_of(1.5, 1.0), hp)
    torch.testing.assert_close(ahead, torch.tensor([math.exp(1.5)]))
    far_ahead = method.reward_weight(critic_of(1e6), hp)
    torch.testing.assert_close(far_ahead, torch.tensor([200.0]))


def test_ensembles_are_pessimistic_the_smaller_reward_the_larger_cost() -> None:
    _, state, _ = method_and_state()
    for name, levels in (("reward_q", (3.0, 5.0)), ("cost_q", (3.0, 5.0))):
        last = state["target"][name][-1]
        last["weight"] = torch.zeros_like(last["weight"])
        last["bias"] = torch.tensor(levels).reshape(2, 1)
    critics = state["params"], state["target"], minibatch()
    reward = in_sample_critic("reward", *critics)
    cost = in_sample_critic("cost", *critics, lowest=True)
    torch.testing.assert_close(reward.judged, torch.full((BATCH,), 3.0))
    torch.testing.assert_close(cost.judged, torch.full((BATCH,), 5.0))


@pytest.mark.parametrize("policy", ["lspc_o", "lspc_s"])
@pytest.mark.parametrize("shape", ["clamp", "truncate"])
@pytest.mark.parametrize("epsilon", [0.05, 0.25, 2.0])
def test_latents_stay_inside_epsilon(policy: str, shape: str, epsilon: float) -> None:
    method, state, hp = method_and_state(
        epsilon=epsilon, safe_restriction=0.0, prior_restriction=shape
    )
    encoder = tree_map(lambda leaf: 10 * leaf, state["params"]["safety_encoder"])
    params = {**state["params"], "safety_encoder": encoder}
    generator = torch.Generator().manual_seed(0)
    noise = 3 * torch.randn(5000, LATENT, generator=generator)
    observations = torch.randn(5000, 3, generator=generator)
    latent = method.latent(policy, params, observations, hp, noise)
    assert float(latent.abs().max()) <= epsilon * (1 + 1e-6)
    assert float(latent.abs().max()) > 0.9 * epsilon
    assert torch.equal(method.latent("cvae", params, observations, hp, noise), noise)


def test_the_safe_policy_has_a_box_of_its_own() -> None:
    """A.3.1 prints 0.6 for LSPC-O beside 0.25 for LSPC-S on the Bullet tasks."""
    method, state, hp = method_and_state(epsilon=0.6)
    noise, observations = torch.full((1, LATENT), 50.0), torch.zeros(1, 3)
    safe = method.latent("lspc_s", state["params"], observations, hp, noise)
    torch.testing.assert_close(safe, torch.full((1, LATENT), 0.25))
    rewarding = method.latent("lspc_o", state["params"], observations, hp, noise)
    torch.testing.assert_close(rewarding, torch.full((1, LATENT), 0.6))


def test_the_prior_is_clamped_or_truncated() -> None:
    bound = torch.tensor(0.25)
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    inside = math.erf(0.25 / math.sqrt(2))
    clamped = restrict_prior(noise, bound, "clamp")
    assert float((clamped.abs() == 0.25).float().mean()) == pytest.approx(1 - inside, abs=0.005)
    truncated = restrict_prior(noise, bound, "truncate")
    density = math.exp(-0.5 * 0.25**2) / math.sqrt(2 * math.pi)
    variance = 1 - 2 * 0.25 * density / inside
    assert float(truncated.var()) == pytest.approx(variance, rel=0.01)
    assert float((truncated.abs() < 0.24).float().mean()) == pytest.approx(0.96, abs=0.01)


def test_the_divergence_is_averaged_over_latent_dimensions_or_summed() -> None:
    terms = {}
    for reduction in ("mean", "sum"):
        method, state, hp = method_and_state(kl_reduction=reduction)
        weight = torch.ones(BATCH)
        inputs = step_inputs(state["params"], state, minibatch(), hp, latent_noise())
        losses = method.cvae_losses(inputs, weight)
        terms[reduction] = losses["loss/reconstruction"], losses["loss/divergence"]
    torch.testing.assert_close(terms["sum"][1], LATENT * terms["mean"][1])
    torch.testing.assert_close(terms["sum"][0], terms["mean"][0])


def gradient_sizes(**changes: Any) -> dict[str, float]:
    """Size of the whole loss's gradient in each network."""
    method, state, hp = method_and_state(**changes)
    params = tree_map(lambda leaf: leaf.clone().requires_grad_(True), state["params"])
    inputs = step_inputs(params, state, minibatch(), hp, latent_noise())
    loss = method.losses["train"](inputs).losses
    assert isinstance(loss, Tensor)
    loss.backward()
    return {
        name: sum(float(leaf.grad.abs().sum()) for leaf in tree_leaves(network))
        for name, network in params.items()
    }


def test_the_encoders_loss_passes_through_the_decoder_and_leaves_it_alone() -> None:
    # A mask that keeps no pair switches the cost-weighted loss off.
    nothing_safe = {"safety_mask": True, "cost_threshold": 0.0}
    assert all(size > 0 for size in gradient_sizes().values())
    masked = gradient_sizes(**nothing_safe)
    assert masked["cvae_decoder"] == masked["cvae_encoder"] == 0
    assert masked["safety_encoder"] > 0
    converse = gradient_sizes(role="converse", **nothing_safe)
    assert converse["safety_encoder"] == 0
    assert converse["cvae_decoder"] > 0


@pytest.mark.parametrize(("signal", "share"), [("terminals", 0.25), ("terminals_and_timeouts", 1)])
def test_timeouts_are_bootstrapped_unless_told_otherwise(signal: str, share: float) -> None:
    method, _, _ = method_and_state(done_signal=signal)
    ends = torch.tensor([1.0, 0.0, 0.0, 0.0])
    data = {name: torch.zeros(4, 3) for name in ("observations", "next_observations", "actions")}
    data |= {"rewards": torch.ones(4), "costs": torch.ones(4), "terminals": ends}
    prepared = method.prepare({**data, "timeouts": 1 - ends})
    assert float(prepared["terminals"].mean()) == share
    torch.testing.assert_close(prepared["rewards"], torch.ones(4))


def test_rewards_are_scaled_on_request() -> None:
    method, _, _ = method_and_state(reward_scaling="normalized")
    data = {name: torch.ones(4, 3) for name in ("observations", "next_observations", "actions")}
    data |= {name: torch.ones(4) for name in ("rewards", "costs", "terminals", "timeouts")}
    torch.testing.assert_close(method.prepare(data)["rewards"], torch.full((4,), 4.0))


def bandit(task: Task, make_dataset: MakeDataset) -> Dataset:
    """One-step episodes: action -0.7 is safe and poor, action 0.7 is unsafe and rich."""
    data = make_dataset(task, episodes=10, length=100)
    actions = np.where(np.arange(len(data)) % 2 == 0, -0.7, 0.7).astype(np.float32)
    risky = actions > 0
    return replace(
        data,
        actions=np.repeat(actions[:, None], task.action_dim, axis=1),
        rewards=risky.astype(np.float32),
        costs=risky.astype(np.float32),
        terminals=np.ones(len(data), dtype=bool),
        timeouts=np.zeros(len(data), dtype=bool),
    )


def trained(task: Task, dataset: Dataset, steps: int, **changes: Any) -> Population:
    config = LSPCConfig.resolve(
        {"hidden_dim": 32, "batch_size": 128, "latent_dim": 4, "learning_rate": 3e-3,
         "target_update_rate": 0.05, **changes}
    )  # fmt: skip
    population = make_population(LSPC, [config], [0], task, dataset, steps, 1.0)
    population.advance(steps)
    return population


def test_state_values_are_the_expectiles_of_the_action_values(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Half of the actions pay and cost 1, half nothing: V_r is the 0.7 expectile of {0, 1}, that
    is 0.7, and V_c, which leans to the cheap action, the 0.3 expectile."""
    population = trained(boat_task, bandit(boat_task, make_dataset), 400)
    params = population.member_state(0)["params"]
    observations = torch.zeros(1, boat_task.observation_dim)
    assert float(mlp(params["reward_v"], observations)) == pytest.approx(0.7, abs=0.07)
    assert float(mlp(params["cost_v"], observations)) == pytest.approx(0.3, abs=0.07)


def test_a_constant_cost_adds_up_to_its_discounted_sum(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    data = make_dataset(boat_task)
    data = replace(data, costs=np.ones_like(data.costs), next_observations=data.observations)
    population = trained(boat_task, data, 400, discount=0.75)
    params = population.member_state(0)["params"]
    observations = torch.zeros(1, boat_task.observation_dim)
    assert float(mlp(params["cost_v"], observations)) == pytest.approx(4.0, abs=0.3)


@pytest.mark.parametrize(("role", "sign"), [("normal", -1), ("converse", 1)])
def test_the_role_decides_what_the_restricted_prior_is_good_at(
    boat_task: Task, make_dataset: MakeDataset, role: str, sign: int
) -> None:
    """The CVAE's own side is what both restricted policies play: safe, or in the converse rich."""
    sharp = {"lambda": 8.0, "zeta": 8.0, "learning_rate": 1e-2}
    population = trained(boat_task, bandit(boat_task, make_dataset), 200, role=role, **sharp)
    observations = np.zeros((1, 200, boat_task.observation_dim), dtype=np.float32)
    for policy in ("lspc_s", "lspc_o"):
        actions = population.policy(policy, 200)(observations, 0)
        assert float((sign * actions > 0.4).mean()) > 0.95
