"""FLRP's own facts: its expectations, its experts, its weights."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.coupling_flow import flow_forward, flow_inverse
from safesweep.trainables.components.flow_autoencoder import decode, decode_base
from safesweep.trainables.components.networks import (
    gaussian_log_density,
    mlp,
    standard_normal_log_density,
)
from safesweep.trainables.methods.flrp import FLRP
from safesweep.trainables.methods.flrp_config import FLRPConfig
from safesweep.trainables.methods.method import ProblemSpec
from safesweep.trainables.tasks.registry import Task
from tests.trainables.components.flat_critics import flat_critics
from tests.trainables.conftest import MakeDataset
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
BATCH = 16


def method_and_state(**changes: Any) -> tuple[FLRP, dict[str, Any], Any]:
    """A small FLRP with parameters well away from their start, and its hyperparameters."""
    config = FLRPConfig.resolve({"hidden_dim": 16, "batch_size": BATCH, "latent_dim": 3, **changes})
    method = FLRP(config, SPEC)
    generator = torch.Generator().manual_seed(0)
    state = method.init(generator)
    for name in ("prior", "posterior"):
        for layer in state["params"][name]:
            layer[-1]["weight"] *= 5
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    return method, state, config.hyperparameters_type()(**values)


def minibatch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "observations": normal(BATCH, 3),
        "next_observations": normal(BATCH, 3),
        "actions": torch.tanh(normal(BATCH, 2)),
        "rewards": normal(BATCH),
        "costs": (normal(BATCH) > 1).float(),
        "terminals": torch.zeros(BATCH),
        "safety_margins": normal(BATCH),
    }


def test_the_elbos_expectation_over_q_is_a_monte_carlo_mean() -> None:
    """Eq. 11 by hand, one sample of z at a time, against the loss with many samples."""
    samples = 256
    method, state, hp = method_and_state(posterior_samples=samples, shaping_weight=0.0)
    params, batch = state["params"], minibatch()
    critics = flat_critics(BATCH, feasibility_q=-1.0, feasibility_v=-1.0)
    noise = torch.randn(samples, BATCH, 3, generator=torch.Generator().manual_seed(5))
    inputs = step_inputs(params, state, batch, hp, {"posterior": noise})
    losses, _ = method.flow_losses(inputs, critics)

    pair = torch.cat((batch["observations"], batch["actions"]), dim=-1)
    other = torch.Generator().manual_seed(6)
    log_likelihood, divergence = [], []
    for _ in range(1000):
        start = torch.randn(BATCH, 3, generator=other)
        latent, log_det = flow_forward(params["posterior"], start, pair)
        back, log_det_back = flow_inverse(params["prior"], latent, batch["observations"])
        log_q = standard_normal_log_density(start) - log_det
        log_p = standard_normal_log_density(back) + log_det_back
        mean = decode(params, batch["observations"], latent)
        log_likelihood.append(
            gaussian_log_density(batch["actions"], mean, params["decoder_log_std"])
        )
        divergence.append(log_q - log_p)
    score = torch.sigmoid(torch.tensor(1 / 3.0)) * torch.sigmoid(torch.tensor(1 / 5.0))
    expected = -score * torch.stack(log_likelihood).mean()
    expected_kl = hp.kl_coefficient * score * torch.stack(divergence).mean()
    assert float(losses["loss/reconstruction"]) == pytest.approx(float(expected), rel=0.03)
    assert float(losses["loss/kl"]) == pytest.approx(float(expected_kl), rel=0.08)


def test_kl_of_equal_flows_is_zero() -> None:
    method, state, hp = method_and_state(posterior_samples=64)
    params = dict(state["params"])
    # A posterior whose networks ignore their context is the prior itself.
    for name in ("prior", "posterior"):
        params[name] = [
            [{k: torch.zeros_like(v) for k, v in layer.items()} for layer in net]
            for net in params[name]
        ]
    noise = {"posterior": torch.randn(64, BATCH, 3)}
    inputs = step_inputs(params, state, minibatch(), hp, noise)
    losses, metrics = method.flow_losses(inputs, flat_critics(BATCH))
    assert float(losses["loss/kl"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["posterior_entropy"]) == pytest.approx(1.4189, abs=0.05)


def test_the_entropy_floor_acts_only_below_it() -> None:
    method, state, hp = method_and_state()
    noise = {"posterior": torch.randn(1, BATCH, 3, generator=torch.Generator().manual_seed(0))}

    def penalty(floor: float) -> float:
        raised = hp._replace(entropy_floor=torch.tensor(floor), entropy_weight=torch.tensor(2.0))
        inputs = step_inputs(state["params"], state, minibatch(), raised, noise)
        losses, _ = method.flow_losses(inputs, flat_critics(BATCH))
        return float(losses["loss/entropy"])

    assert penalty(-9.0) == 0.0
    assert penalty(6.0) - penalty(5.0) == pytest.approx(2.0, rel=1e-4)


def test_a_random_order_draws_every_expert() -> None:
    method, state, _ = method_and_state(refinement_order="random", T=1)
    observations, base = torch.randn(6, 3), torch.randn(6, 3)
    choice = torch.tensor([[0.1, 0.4, 0.9], [0.4, 0.1, 0.9], [0.9, 0.4, 0.1]] * 2)
    noise = {"base": base, "choice": choice}
    refined = method.refiner.refine(state["params"], observations, noise, 1)
    inputs = torch.cat((observations, base), dim=-1)
    for row, expert in enumerate(["safety", "reward", "shared"] * 2):
        move = mlp(state["params"][f"{expert}_expert"], inputs)[row]
        torch.testing.assert_close(refined[row], base[row] + move)


def test_the_averaged_refiner_takes_the_experts_mean_step() -> None:
    method, state, _ = method_and_state(refiner="averaged")
    observations, base = torch.randn(6, 3), torch.randn(6, 3)
    inputs = torch.cat((observations, base), dim=-1)
    moves = [mlp(state["params"][f"{e}_expert"], inputs) for e in ("safety", "reward", "shared")]
    refined = method.refiner.refine(state["params"], observations, {"base": base}, 3)
    torch.testing.assert_close(refined, base + torch.stack(moves).mean(0))


def test_a_gaussian_prior_is_the_identity() -> None:
    method, state, hp = method_and_state(prior="gaussian", T=0)
    observations, base = torch.randn(6, 3), torch.randn(6, 3)
    acted = method.act("flrp", state, observations, hp, {"base": base})
    torch.testing.assert_close(acted, decode(state["params"], observations, base))


def test_without_hj_three_quarters_of_the_safe_samples_are_feasible(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    config = FLRPConfig.resolve(
        {"hidden_dim": 16, "batch_size": 64, "feasibility": "cost_quantile"}
    )
    dataset = make_dataset(boat_task, episodes=60, length=4)
    population = make_population(FLRP, [config], [0], boat_task, dataset, 40, 1.0)
    population.advance(40)
    values = population.feasibility_values(dataset.observations)
    assert values is not None
    safe = np.repeat(dataset.cost_returns() == 0, dataset.episode_lengths)
    assert safe.any()
    assert (values[0][safe] <= 0).mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    "variant",
    [
        {"prior": "gaussian"},
        {"feasibility": "cost_quantile"},
        {"refiner": "unified"},
        {"refiner": "averaged"},
        {"refinement_order": "random"},
        {"refinement_order": "none"},
        {"decoder": "alternating"},
        {"decoder": "alternating", "refiner": "unified"},
        {"refiner_losses": "last_step"},
        {"refiner_losses": "last_step", "refinement_order": "random"},
    ],
)
def test_every_variant_trains_and_acts(
    boat_task: Task, make_dataset: MakeDataset, variant: dict[str, Any]
) -> None:
    configs = [FLRPConfig.resolve({"hidden_dim": 8, "batch_size": 16, **variant})] * 2
    population = make_population(FLRP, configs, [0, 1], boat_task, make_dataset(boat_task), 16, 1.0)
    before = [leaf.clone() for leaf in tree_leaves(population.state["params"]["decoder"])]
    population.advance(12)
    middle = [leaf.clone() for leaf in tree_leaves(population.state["params"]["decoder"])]
    population.advance(16)
    after = tree_leaves(population.state["params"]["decoder"])
    assert population.active == [True, True]
    assert not all(torch.equal(a, b) for a, b in zip(before, middle, strict=True))
    frozen = all(torch.equal(a, b) for a, b in zip(middle, after, strict=True))
    trained = variant.get("decoder") == "alternating" or variant.get("refinement_order") == "none"
    assert frozen != trained
    actions = population.policy("flrp", 5)(np.zeros((2, 5, 2), dtype=np.float32), 0)
    assert np.isfinite(actions).all()


def test_the_base_kl_of_a_known_shift() -> None:
    """Experts that add a constant c: u_T = u_0 + c, so KL(q_u || N) = |c|^2 / 2."""
    method, state, hp = method_and_state(T=1)
    shift = torch.tensor([1.0, -2.0, 0.5])
    expert = state["params"]["shared_expert"]
    for layer in expert:
        layer["weight"].zero_()
        layer["bias"].zero_()
    expert[-1]["bias"] += shift
    noise = {"base": torch.randn(4, 5_000, 3, generator=torch.Generator().manual_seed(0))}
    found = method.diagnose(state, torch.randn(4, 3), hp, noise)
    kl = float(shift.square().sum() / 2)
    assert float(found["base_kl"]) == pytest.approx(kl, rel=0.05)
    assert float(found["total_variation_bound"]) == 1.0
    gap = 2 / (1 - 0.99) ** 2 * (kl / 2) ** 0.5
    assert float(found["policy_gap_estimate"]) == pytest.approx(gap, rel=0.05)
    assert float(found["latents_outside_ball"]) > 0.1
    for layer in expert:
        layer["bias"].zero_()
    still = method.diagnose(state, torch.randn(4, 3), hp, noise)
    assert float(still["base_kl"]) == pytest.approx(0.0, abs=0.01)
    assert float(still["latents_outside_ball"]) == pytest.approx(0.01, abs=0.003)


def test_a_random_order_is_diagnosed(boat_task: Task, make_dataset: MakeDataset) -> None:
    """Every expert adds the same constant, so that the order must not matter."""
    settings = {"hidden_dim": 8, "batch_size": 16, "latent_dim": 3, "T": 2}
    configs = [FLRPConfig.resolve({**settings, "refinement_order": "random"})] * 2
    dataset = make_dataset(boat_task)
    population = make_population(FLRP, configs, [0, 1], boat_task, dataset, 60, 1.0)
    for name in ("safety_expert", "reward_expert", "shared_expert"):
        for layer in population.state["params"][name]:
            layer["weight"].zero_()
            layer["bias"].zero_()
        population.state["params"][name][-1]["bias"] += 0.5
    found = population.diagnose(dataset.observations[:8], 2000)
    # |c|^2 / 2 of a shift by 1 in each of three dimensions.
    assert found["base_kl"].tolist() == pytest.approx([1.5, 1.5], rel=0.05)


def test_no_refinement_samples_the_prior() -> None:
    method, state, hp = method_and_state(T=0)
    observations, base = torch.randn(8, 3), torch.randn(8, 3)
    acted = method.act("flrp", state, observations, hp, {"base": base})
    latent, _ = flow_forward(state["params"]["prior"], base, observations)
    torch.testing.assert_close(acted, decode(state["params"], observations, latent))
    assert [phase.name for phase in method.phases] == ["pretrain"]


def refiner_gradient(name: str, **weights: float) -> dict[str, float]:
    """Size of the gradient that each expert receives under the given weights."""
    method, state, hp = method_and_state()
    values = {"reward_weight": 0.0, "safety_weight": 0.0, "shared_weight": 0.0, **weights}
    hp = hp._replace(**{key: torch.tensor(value) for key, value in values.items()})
    critics = flat_critics(BATCH, feasibility_q=-1.0, reward_q=0.1)
    params = dict(state["params"])
    experts = ("safety_expert", "reward_expert", "shared_expert")
    for expert in experts:
        params[expert] = [
            {k: v.clone().requires_grad_(True) for k, v in layer.items()}
            for layer in params[expert]
        ]
    noise = {"base": torch.randn(BATCH, 3), "visit": torch.rand(BATCH)}
    inputs = step_inputs(params, state, minibatch(), hp, noise)
    losses, _ = method.refiner_losses(inputs, critics)
    leaves = [leaf for layer in params[name] for leaf in layer.values()]
    gradients = torch.autograd.grad(losses[name], leaves, allow_unused=True)
    return {"size": float(sum(g.abs().sum() for g in gradients if g is not None))}


@pytest.mark.parametrize(
    ("expert", "weight", "reached"),
    [
        ("reward_expert", "reward_weight", True),
        ("reward_expert", "safety_weight", False),
        ("reward_expert", "shared_weight", True),
        ("safety_expert", "safety_weight", True),
        ("safety_expert", "reward_weight", False),
        ("safety_expert", "shared_weight", True),
        ("shared_expert", "reward_weight", True),
        ("shared_expert", "safety_weight", True),
        ("shared_expert", "shared_weight", True),
    ],
)
def test_each_expert_answers_to_its_own_losses(expert: str, weight: str, reached: bool) -> None:
    assert (refiner_gradient(expert, **{weight: 1.0})["size"] > 0) == reached


def test_descending_the_reward_loss_brings_actions_to_the_data() -> None:
    """Eq. 15 with its printed sign would do the opposite."""
    method, state, hp = method_and_state(lambda_h=0.0, lambda_sh=0.0, refiner_losses="last_step")
    params, batch = state["params"], minibatch()
    critics = flat_critics(BATCH, feasibility_q=-1.0)
    noise = {"base": torch.randn(BATCH, 3)}

    def distance(expert: list[dict[str, Tensor]]) -> Tensor:
        networks = {**params, "reward_expert": expert}
        refined = method.refiner.refine(networks, batch["observations"], noise, 3)
        return (decode_base(params, batch["observations"], refined) - batch["actions"]).norm()

    expert = params["reward_expert"]
    before = float(distance(expert))
    for _ in range(200):
        live = [{k: v.clone().requires_grad_(True) for k, v in layer.items()} for layer in expert]
        inputs = step_inputs({**params, "reward_expert": live}, state, batch, hp, noise)
        losses, _ = method.refiner_losses(inputs, critics)
        leaves = [leaf for layer in live for leaf in layer.values()]
        gradients = iter(torch.autograd.grad(losses["reward_expert"], leaves))
        expert = [
            {k: v.detach() - 1.0 * next(gradients) for k, v in layer.items()} for layer in live
        ]
    assert float(distance(expert)) < before - 0.1


def test_feasibility_critics_find_a_known_feasible_set(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Transitions that stay where they are: V_h must take the sign of h itself."""
    data = make_dataset(boat_task, episodes=40)
    still = {**vars(data), "next_observations": data.observations}
    dataset = type(data)(**{k: v for k, v in still.items() if k in data.__dataclass_fields__})
    config = FLRPConfig.resolve(
        {"hidden_dim": 32, "batch_size": 64, "violation_signal": 1.0, "learning_rate": 1e-2,
         "target_update_rate": 0.1, "T": 0, "coupling_layers": 1, "latent_dim": 2}
    )  # fmt: skip
    population = make_population(FLRP, [config], [0], boat_task, dataset, 150, 1.0)
    population.advance(150)
    grid = np.linspace(-2, 2.5, 40)
    states = np.stack([grid, np.zeros(40)], axis=1).astype(np.float32)
    values = population.feasibility_values(states)
    assert values is not None
    clear = np.abs(grid - 0.8) > 0.4
    assert ((values[0] > 0) == (grid > 0.8))[clear].mean() > 0.95


def test_a_decoder_range_without_numbers_in_it_is_refused() -> None:
    with pytest.raises(InvalidInput) as problem:
        FLRPConfig.resolve({"decoder_log_std_low": 1.0})
    assert str(problem.value) == (
        "decoder_log_std_low: 1 is not allowed; it must be <= decoder_log_std_high, which is 0"
    )


def test_feasibility_critics_start_at_the_safe_signal(
    boat_task: Task, make_dataset: MakeDataset
) -> None:
    configs = [
        FLRPConfig.resolve({"hidden_dim": 8, "batch_size": 16, "safe_signal": signal})
        for signal in (-1.0, -0.25)
    ]
    dataset = make_dataset(boat_task)
    population = make_population(FLRP, configs, [0, 1], boat_task, dataset, 60, 1.0)
    values = population.feasibility_values(dataset.observations)
    assert values is not None
    np.testing.assert_allclose(values, np.repeat([[-1.0], [-0.25]], len(dataset), axis=1))
    parameters = tree_leaves(population.state["params"]["feasibility_v"])
    slow = tree_leaves(population.state["target"]["feasibility_v"])
    for own, copied in zip(parameters, slow, strict=True):
        assert torch.equal(own, copied)
        assert own.data_ptr() != copied.data_ptr()


def test_policies_of_one_run_refine_as_many_steps_as_they_say() -> None:
    method, state, hp = method_and_state(refinement_order="reward-safety-shared", T=2)
    observations, base = torch.randn(6, 3), torch.randn(6, 3)

    def move(name: str, u: Tensor) -> Tensor:
        return u + mlp(state["params"][f"{name}_expert"], torch.cat((observations, u), dim=-1))

    paths = {
        "unrefined": (), "refined_1": ("shared",), "flrp": ("reward", "shared"),
        "refined_5": ("reward", "safety", "reward", "safety", "shared"),
    }  # fmt: skip
    for policy, experts in paths.items():
        end = base
        for expert in experts:
            end = move(expert, end)
        acted = method.act(policy, state, observations, hp, {"base": base})
        torch.testing.assert_close(acted, decode_base(state["params"], observations, end))


def test_a_run_is_evaluated_with_other_steps_where_that_is_asked() -> None:
    assert method_and_state()[0].evaluated_policies == ("flrp",)
    several = method_and_state(evaluated_steps="several")[0]
    assert several.evaluated_policies == (
        "flrp", "unrefined", "refined_1", "refined_2", "refined_5", "refined_10",
    )  # fmt: skip


def test_an_expert_learns_from_every_place_on_the_way() -> None:
    """At each step: the end of one move from u_k, k drawn, which other experts' losses ignore."""
    method, state, _ = method_and_state()
    params, batch = state["params"], minibatch()
    base = torch.randn(BATCH, 3)
    visit = torch.full((BATCH,), 0.25)
    observations = batch["observations"]

    def move(name: str, u: Tensor) -> Tensor:
        return u + mlp(params[f"{name}_expert"], torch.cat((observations, u), dim=-1))

    # Ten places, u_0 to u_9: 0.25 is u_2, after the safety and the reward expert.
    reached = move("reward", move("safety", base))
    ends = method.refiner.expert_ends(params, observations, {"base": base, "visit": visit})
    assert list(ends) == ["safety", "reward", "shared"]
    for name, end in ends.items():
        torch.testing.assert_close(end, move(name, reached))


def test_the_last_steps_losses_look_at_the_end_alone() -> None:
    method, state, _ = method_and_state(refiner_losses="last_step")
    noise = {"base": torch.randn(BATCH, 3)}
    observations = minibatch()["observations"]
    end = method.refiner.refine(state["params"], observations, noise, 3)
    for own in method.refiner.expert_ends(state["params"], observations, noise).values():
        torch.testing.assert_close(own, end)
    assert set(method.noise("refine")) == {"base"}


def test_without_hj_only_the_flow_is_trained_by_costs() -> None:
    """Table 2: the refiner's training is unchanged."""
    method, state, hp = method_and_state(feasibility="cost_quantile")
    params, batch = state["params"], {**minibatch(), "safe_episodes": torch.ones(BATCH)}
    noise = {"base": torch.randn(BATCH, 3), "visit": torch.rand(BATCH)}
    noise["posterior"] = torch.randn(1, BATCH, 3)

    def outcome(changed: str, loss: str) -> list[float]:
        """Losses with one critic moved far up."""
        moved = [*params[changed][:-1], {**params[changed][-1]}]
        moved[-1]["bias"] = moved[-1]["bias"] + 50.0
        inputs = step_inputs({**params, changed: moved}, state, batch, hp, noise)
        found = method.losses[loss](inputs)
        names = {"pretrain": ("loss/shaping", "loss/reconstruction")}.get(
            loss, ("loss/refiner_reward", "loss/refiner_safety")
        )
        return [float(found.metrics[name]) for name in names]

    assert outcome("cost_q", "refine") == outcome("cost_v", "refine")
    assert outcome("feasibility_q", "refine") != outcome("cost_q", "refine")
    assert outcome("feasibility_q", "pretrain") == outcome("feasibility_v", "pretrain")
    assert outcome("cost_q", "pretrain") != outcome("feasibility_q", "pretrain")
