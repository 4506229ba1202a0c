"""What every method estimates and chooses on five problems whose answers are known.

Each method states what it claims in `CLAIMS`; what it does not claim (behaviour cloning is
unconstrained, FLP knows no cost) is stated and tested too. A method that is registered without a
claim fails here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.critics import evaluate_candidates, state_value
from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.training.population import Population
from tests.quick import slow_but
from tests.trainables.conformance.analytic_problems import (
    COST_LIMIT,
    DISCOUNT,
    GAP,
    MIDDLE,
    analytic_dataset,
    analytic_task,
    points,
)
from tests.trainables.populations import make_population

DRAWS = 400
# Values here lie between -1 and 4.
TOLERANCE = 0.2
COMMON: Mapping[str, Any] = {
    "hidden_dim": 32, "batch_size": 128, "learning_rate": 5e-3, "discount": DISCOUNT,
    "target_update_rate": 0.1,
}  # fmt: skip

# A step of networks this small is mostly overhead: few steps at large rates are the quick way. What
# is not `SLOWER` holds for the seeds 0, 1 and 2.
FASTER: Mapping[str, Any] = {"learning_rate": 1e-2}
SLOWER: Mapping[str, Any] = {"learning_rate": 3e-3, "target_update_rate": 0.05}

Read = Callable[[Population, Tensor], Tensor]
Share = tuple[float, float]


@dataclass(frozen=True)
class Claims:
    """What one method, or one variant of it, says about the five problems.

    Attributes:
        algorithm: its name in ALGORITHMS.
        settings: small sizes, and what it takes to have an answer within a few hundred steps.
        reward_value: reads V_r [n] at observations [n, o]; None where there is no such critic.
        cost_value: reads a cost or feasibility value likewise.
        two_step_cost: the cost values of `cost_ahead` and `costly`.
        feasibility: whether `feasibility_value` tells doomed states from free ones.
        rich: by policy, the range of the share of actions at `fork` that are rich and unsafe.
        middle: by policy, the range of the share of actions at `modes` between the two modes.
        both_modes: policies that keep both modes.
        one_action: policies that have a single action for a state.
    """

    algorithm: str
    settings: Mapping[str, Any]
    steps: int
    rich: Mapping[str, Share]
    middle: Mapping[str, Share]
    reward_value: Read | None = None
    cost_value: Read | None = None
    two_step_cost: tuple[float, float] | None = None
    feasibility: bool = False
    both_modes: tuple[str, ...] = ()
    one_action: tuple[str, ...] = ()


def state_network(name: str) -> Read:
    """Reads a perceptron of the state."""

    def read(population: Population, observations: Tensor) -> Tensor:
        layers = population.member_state(0)["params"][name]
        return state_value(layers, observations, population.method.critic_activation)

    return read


def critic_over_the_box(population: Population, observations: Tensor) -> Tensor:
    """The mean of a critic over actions of the whole box."""
    critics = population.member_state(0)["params"]["reward_q"]
    generator = torch.Generator().manual_seed(0)
    actions = 1.8 * torch.rand(DRAWS, len(observations), 2, generator=generator) - 0.9
    activation = population.method.critic_activation
    return evaluate_candidates(critics, observations, actions, activation).mean((0, 1))


def chunk_network(name: str) -> Read:
    """Reads one of R2PAC's values of the state."""

    def read(population: Population, observations: Tensor) -> Tensor:
        params = population.member_state(0)["params"]
        return state_value(params[name], observations, functional.gelu)

    return read


def latent_critic(name: str) -> Read:
    """Reads FLP's critic of a state and a latent: its mean over the behaviour's latents."""

    def read(population: Population, observations: Tensor) -> Tensor:
        method, params = population.method, population.member_state(0)["params"]
        assert isinstance(method, FLP)
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(DRAWS, len(observations), 2, generator=generator)
        value = getattr(method.values(params, observations, latents), name)
        assert isinstance(value, Tensor)
        return value.mean(0)

    return read


def pair_critic(name: str, largest: bool = False) -> Read:
    """Reads critics of a state and an action: the smallest, or the largest, of an ensemble, in its
    mean over actions as the data has them."""

    def read(population: Population, observations: Tensor) -> Tensor:
        critic = population.member_state(0)["params"][name]
        generator = torch.Generator().manual_seed(0)
        uniform = 2 * torch.rand(DRAWS, len(observations), 2, generator=generator) - 1
        actions = uniform * torch.tensor([0.9, 0.5])
        values = evaluate_candidates(critic, observations, actions)
        return (values.amax(0) if largest else values.amin(0)).mean(0)

    return read


# h = 1 where there is a cost, and so V_h = 0.5 a step before it.
LEVELS = {"violation_signal": 1.0, "safe_signal": -1.0}
# Episodes that are cut off go on for ever; rewards as they are.
OSRL_SETTINGS: Mapping[str, Any] = {"done_signal": "terminals", "reward_scale": 1.0}
AUTOENCODER: Mapping[str, Any] = {"vae_hidden_dim": 32, "candidates": 5}
NEVER, ALWAYS = (0.0, 0.1), (0.9, 1.0)
SMALL_FQL: Mapping[str, Any] = {"hidden_dim": 64, "hidden_layers": 2, "flow_steps": 5}
CLAIMS: dict[str, Claims] = {
    "flrp": Claims(
        algorithm="flrp",
        settings={
            **SLOWER, **LEVELS, "coupling_layers": 2, "latent_dim": 4, "refinement_steps": 2,
        },
        steps=600,
        reward_value=state_network("reward_v"),
        cost_value=state_network("feasibility_v"),
        two_step_cost=(0.5, 1.0),
        feasibility=True,
        rich={"flrp": NEVER},
        middle={"flrp": (0.0, 0.2)},
        both_modes=("flrp",),
    ),
    # Only the whole prior keeps the modes. The box around latent 0 lies between them in the
    # decoder: the encoder settles on one point of it, the clamped prior often on its middle.
    "lspc": Claims(
        algorithm="lspc",
        settings={
            "expectile": 0.9, "cost_inverse_temperature": 8.0, "reward_inverse_temperature": 8.0,
            "latent_dim": 4,
        },
        steps=350,
        reward_value=state_network("reward_v"),
        cost_value=state_network("cost_v"),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"lspc_o": NEVER, "lspc_s": NEVER, "cvae": NEVER},
        middle={"lspc_s": (0.3, 1.0), "cvae": (0.0, 0.25)},
        both_modes=("cvae",),
        one_action=("lspc_o",),
    ),
    # Chunks of two steps; of several candidates the cheapest, so that one mode may win.
    "r2pac": Claims(
        algorithm="r2pac",
        settings={
            "chunk_length": 2, "threshold": "cost_limit", "hidden_layers": 2, "flow_steps": 8,
            "candidates": 8, "critic_share": 0.6,
        },
        steps=300,
        reward_value=chunk_network("reward_v"),
        cost_value=chunk_network("safety_v"),
        two_step_cost=(DISCOUNT, 1.0),
        feasibility=True,
        rich={"r2pac": NEVER},
        middle={"r2pac": NEVER},
    ),
    # Without its constraint it follows reward, and in the modes the behaviour.
    "flp": Claims(
        algorithm="flp",
        settings={**SLOWER, "hidden_dim": 64, "flow_share": 0.6, "flow_steps": 8},
        steps=1200,
        reward_value=latent_critic("reward"),
        rich={"flp": (0.8, 1.0)},
        middle={"flp": (0.0, 0.3)},
        both_modes=("flp",),
    ),
    "flp-lagrangian": Claims(
        algorithm="flp",
        settings={**FASTER, "flow_share": 0.6, "flow_steps": 8, "safety": "lagrangian"},
        steps=300,
        reward_value=latent_critic("reward"),
        cost_value=latent_critic("cost"),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"flp": NEVER},
        middle={"flp": NEVER},
    ),
    # Calibrated on the violations themselves: with a window, `fork` would count as unsafe, since
    # half of its episodes go on to a violation.
    "safefql": Claims(
        algorithm="safefql",
        settings={
            **LEVELS, "calibration_window": 0, "conformal_level": 0.2, "flow_steps": 8,
            "distillation_weight": 10.0, "safety_weight": 10.0, "hidden_dim": 64,
        },
        steps=400,
        reward_value=state_network("reward_v"),
        cost_value=state_network("safety_v"),
        two_step_cost=(0.5, 1.0),
        feasibility=True,
        rich={"safefql": NEVER},
        middle={"safefql": (0.0, 0.2)},
        both_modes=("safefql",),
    ),
    # Its policy climbs the reward value alone, where the cost value is within the limit, and has no
    # gradient beyond: at `fork` it climbs over the border and stays there. Where all actions are
    # worth the same, as at the modes, it may be anywhere.
    "cpq": Claims(
        algorithm="cpq",
        settings={
            **SLOWER, **OSRL_SETTINGS, **AUTOENCODER, "multiplier_rate": 0.1, "ood_margin": 0.1,
            "ood_quantile": 0.95,
        },
        steps=800,
        reward_value=pair_critic("reward_q"),
        cost_value=pair_critic("cost_q"),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"cpq": ALWAYS},
        middle={},
        one_action=("cpq",),
    ),
    # At `fork` the multiplier has to be above 1 / 0.75; the modes' middle costs.
    "bcql": Claims(
        algorithm="bcql",
        settings={
            **OSRL_SETTINGS, **AUTOENCODER, "proportional_gain": 1.0, "integral_gain": 1.0,
            "perturbation": 1.0,
        },
        steps=300,
        reward_value=pair_critic("reward_q"),
        cost_value=pair_critic("cost_q", largest=True),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"bcql": NEVER},
        middle={"bcql": (0.0, 0.2)},
    ),
    "bearl": Claims(
        algorithm="bearl",
        settings={**FASTER, **OSRL_SETTINGS, **AUTOENCODER, "integral_gain": 0.15},
        steps=250,
        reward_value=pair_critic("reward_q"),
        cost_value=pair_critic("cost_q", largest=True),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"bearl": NEVER},
        middle={},
        one_action=("bearl",),
    ),
    # It has no values of rewards and costs. With the published limit nothing is constrained.
    "coptidice": Claims(
        algorithm="coptidice",
        settings={**FASTER, **OSRL_SETTINGS, "divergence_weight": 0.1},
        steps=300,
        rich={"coptidice": NEVER},
        middle={"coptidice": ALWAYS},
        one_action=("coptidice",),
    ),
    "coptidice-published": Claims(
        algorithm="coptidice",
        settings={
            **FASTER, **OSRL_SETTINGS, "divergence_weight": 0.1, "cost_scale_of_limit": "published",
        },
        steps=200,
        rich={"coptidice": ALWAYS},
        middle={"coptidice": ALWAYS},
        one_action=("coptidice",),
    ),
    # Least squares: the mean of both actions, which is neither.
    "bc": Claims(
        algorithm="bc",
        settings={**FASTER, "discount": 1.0},
        steps=200,
        rich={"bc": (0.0, 0.0)},
        middle={"bc": ALWAYS},
        one_action=("bc",),
    ),
    # Of several candidates the safest, so that one mode may win.
    "fisor": Claims(
        algorithm="fisor",
        settings={
            **SLOWER, **LEVELS, "hidden_dim": 64, "critic_batch_size": 0, "actor_update_rate": 0.05,
            "candidates": 8,
        },
        steps=1500,
        reward_value=state_network("reward_v"),
        cost_value=state_network("feasibility_v"),
        two_step_cost=(0.5, 1.0),
        feasibility=True,
        rich={"fisor": NEVER},
        middle={"fisor": NEVER},
    ),
    # A candidate that is feasible for the better reward, which is the same in both modes.
    "safeifql": Claims(
        algorithm="fisor",
        settings={
            **SLOWER, **LEVELS, "hidden_dim": 64, "critic_batch_size": 0, "actor_update_rate": 0.05,
            "actor": "flow", "selection": "best_feasible", "candidates": 2,
        },
        steps=1500,
        reward_value=state_network("reward_v"),
        cost_value=state_network("feasibility_v"),
        two_step_cost=(0.5, 1.0),
        feasibility=True,
        rich={"fisor": NEVER},
        middle={"fisor": (0.0, 0.2)},
        both_modes=("fisor",),
    ),
    # Knows no cost, and follows reward.
    "idql": Claims(
        algorithm="fisor",
        settings={
            **SLOWER, "hidden_dim": 64, "critic_batch_size": 0, "actor_update_rate": 0.05,
            "safety": "off", "candidates": 8, "reward_expectile": 0.7,
        },
        steps=1500,
        reward_value=state_network("reward_v"),
        rich={"fisor": (0.8, 1.0)},
        middle={"fisor": (0.0, 0.3)},
    ),
    # Gaussian heads: the mean of both modes, which is neither.
    "caps": Claims(
        algorithm="caps",
        settings={
            **FASTER, "done_signal": "terminals", "reward_scale": 1.0, "expectile": 0.9,
        },
        steps=400,
        reward_value=state_network("reward_v"),
        cost_value=state_network("cost_v"),
        two_step_cost=(DISCOUNT, 1.0),
        rich={"caps": NEVER},
        middle={"caps": ALWAYS},
        one_action=("caps",),
    ),
    # No values: it clones what led to the wanted return at the allowed cost, the rich action here.
    "cdt": Claims(
        algorithm="cdt",
        settings={
            "learning_rate": 3e-3, "hidden_dim": 16, "batch_size": 64, "gradient_norm": 1.0,
            "discount": 1.0, "hidden_layers": 1, "attention_heads": 2, "context_length": 2,
            "warmup_steps": 50.0, "reward_scale": 1.0, "sampling_cost_bound": 0.0,
            "targets": "given", "target_return": 1.0, "augmented_share": 0.0,
        },
        steps=400,
        rich={"cdt": ALWAYS},
        middle={"cdt": ALWAYS},
        one_action=("cdt",),
    ),
    # FQL and what it is compared with know no cost, and follow reward; the Gaussian of IQL and the
    # one action of ReBRAC lie between the modes.
    "fql": Claims(
        algorithm="fql",
        settings={**FASTER, **SMALL_FQL, "behavior_weight": 0.3},
        steps=350,
        reward_value=critic_over_the_box,
        rich={"fql": (0.8, 1.0)},
        middle={"fql": (0.0, 0.3)},
        both_modes=("fql",),
    ),
    "fbrac": Claims(
        algorithm="fql",
        settings={**SLOWER, **SMALL_FQL, "behavior_weight": 0.3, "actor": "flow"},
        steps=1000,
        reward_value=critic_over_the_box,
        rich={"fql": (0.8, 1.0)},
        middle={"fql": (0.0, 0.3)},
        both_modes=("fql",),
    ),
    "fawac": Claims(
        algorithm="fql",
        settings={**SLOWER, **SMALL_FQL, "actor": "weighted_flow", "advantage_weight": 5.0},
        steps=800,
        reward_value=critic_over_the_box,
        rich={"fql": (0.8, 1.0)},
        middle={"fql": (0.0, 0.3)},
        both_modes=("fql",),
    ),
    "ifql": Claims(
        algorithm="ifql",
        settings={**FASTER, **SMALL_FQL, "flow_steps": 8, "candidates": 8},
        steps=250,
        reward_value=state_network("reward_v"),
        rich={"ifql": (0.8, 1.0)},
        middle={"ifql": (0.0, 0.5)},
    ),
    "iql": Claims(
        algorithm="iql",
        settings={**FASTER, "hidden_layers": 2, "extraction_weight": 5.0},
        steps=200,
        reward_value=state_network("reward_v"),
        rich={"iql": ALWAYS},
        middle={"iql": ALWAYS},
        one_action=("iql",),
    ),
    "rebrac": Claims(
        algorithm="rebrac",
        settings={
            **FASTER, "hidden_layers": 2, "actor_weight": 0.1, "critic_weight": 0.01,
        },
        steps=200,
        reward_value=critic_over_the_box,
        rich={"rebrac": ALWAYS},
        middle={"rebrac": ALWAYS},
        one_action=("rebrac",),
    ),
}  # fmt: skip

# Learning them all takes a minute. Options that make another method of one are slow too.
QUICK = (
    "lspc", "r2pac", "flp-lagrangian", "safefql", "coptidice", "bc", "caps", "ifql", "iql",
    "rebrac",
)  # fmt: skip
case = pytest.mark.parametrize("name", slow_but(QUICK, CLAIMS))


@cache
def trained(name: str) -> Population:
    """The method of a claim, trained on all five problems at once."""
    claims = CLAIMS[name]
    method = ALGORITHMS[claims.algorithm]
    known = set(method.config_class.field_names())
    settings = {key: value for key, value in COMMON.items() if key in known}
    config = method.config_class.resolve({**settings, **claims.settings})
    population = make_population(
        method, [config], [0], analytic_task(), analytic_dataset(), claims.steps, COST_LIMIT
    )
    population.advance(claims.steps)
    assert population.active == [True]
    return population


def values(name: str, read: Read | None, *states: str) -> list[float]:
    assert read is not None
    return read(trained(name), torch.as_tensor(points(states))).tolist()


def first_actions(name: str, policy: str, state: str) -> np.ndarray:
    """The number of an action that matters, of many draws: [DRAWS]."""
    observations = np.repeat(points([state]), DRAWS, axis=0)[None]
    return trained(name).policy(policy, DRAWS)(observations, 0)[0, :, 0]


def test_every_method_states_what_it_claims() -> None:
    assert {claims.algorithm for claims in CLAIMS.values()} == set(ALGORITHMS)
    for claims in CLAIMS.values():
        policies = set(ALGORITHMS[claims.algorithm].policies)
        assert set(claims.rich) == set(claims.middle) | set(claims.one_action) == policies


@case
def test_a_constant_reward_is_worth_its_discounted_sum(name: str) -> None:
    claims = CLAIMS[name]
    if claims.reward_value is None:
        assert not {"reward_q", "reward_v"} & set(trained(name).state["params"])
        return
    (value,) = values(name, claims.reward_value, "constant")
    assert value == pytest.approx(1 / (1 - DISCOUNT), rel=0.1)


@case
def test_a_cost_two_steps_ahead_is_discounted_once(name: str) -> None:
    claims = CLAIMS[name]
    if claims.two_step_cost is None:
        assert claims.cost_value is None
        assert not {"cost_q", "cost_v", "safety_v"} & set(trained(name).state["params"])
        return
    found = values(name, claims.cost_value, "cost_ahead", "costly")
    assert found == pytest.approx(claims.two_step_cost, abs=TOLERANCE)


@case
def test_an_unavoidable_violation_is_told_from_an_avoidable_one(name: str) -> None:
    claims = CLAIMS[name]
    states = ("doomed", "free", "left_violation", "right_violation", "outlet")
    found = trained(name).feasibility_values(points(states))
    assert (found is not None) == claims.feasibility
    if found is not None:
        np.testing.assert_array_equal(found[0] > 0, [True, False, True, True, False])
    if claims.cost_value is not None:
        doomed, ahead = values(name, claims.cost_value, "doomed", "cost_ahead")
        free, outlet = values(name, claims.cost_value, "free", "outlet")
        # Whatever is done there, the cost comes in a step; from `free` only half of the actions
        # lead to it.
        assert doomed == pytest.approx(ahead, abs=TOLERANCE)
        assert outlet - 0.1 < free < doomed - 0.2


@case
def test_the_safe_but_poor_action_is_preferred_to_the_rich_but_unsafe(name: str) -> None:
    for policy, (low, high) in CLAIMS[name].rich.items():
        rich = float((first_actions(name, policy, "fork") > GAP).mean())
        assert low <= rich <= high, policy


@case
def test_modes_are_not_averaged_into_an_unsafe_action(name: str) -> None:
    claims = CLAIMS[name]
    for policy, (low, high) in claims.middle.items():
        actions = first_actions(name, policy, "modes")
        assert low <= float((np.abs(actions) < MIDDLE).mean()) <= high, policy
    for policy in claims.both_modes:
        actions = first_actions(name, policy, "modes")
        assert float((actions > MIDDLE).mean()) > 0.15, policy
        assert float((actions < -MIDDLE).mean()) > 0.15, policy
    for policy in claims.one_action:
        assert float(first_actions(name, policy, "modes").std()) < 0.1, policy
