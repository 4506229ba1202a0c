"""BCQ-Lag and BEAR-Lag: targets where critics say one number, the switches, and the controller."""

from typing import Any

import pytest
import torch

from safesweep.trainables.methods.bcql import BCQL
from tests.trainables.methods.losses_by_hand import Example, ends_of, squared_errors

DISCOUNT = 0.75
THRESHOLD = (1 - DISCOUNT**10) / ((1 - DISCOUNT) * 10)

both = pytest.mark.parametrize("name", ["bcql", "bearl"])


def example(name: str, **settings: Any) -> Example:
    return Example(name, **{"discount": DISCOUNT, "candidates": 4, **settings})


@both
@pytest.mark.parametrize("published", [False, True])
def test_costs_are_bootstrapped_until_the_end_or_past_it(name: str, published: bool) -> None:
    found = example(name, cost_bootstrap="published" if published else "done")
    found.constant("cost_q", 2.0)
    found.constant("reward_q", 3.0)
    metrics, batch = found.outputs().metrics, found.batch
    wanted = batch["costs"] + DISCOUNT * (1 - ends_of(batch, published)) * 2.0
    assert float(metrics["loss/cost_q"]) == pytest.approx(squared_errors(2.0, wanted, 4))
    wanted = batch["rewards"] + DISCOUNT * (1 - batch["terminals"]) * 3.0
    assert float(metrics["loss/reward_q"]) == pytest.approx(squared_errors(3.0, wanted, 4))


def _critics_that_say(found: Example, network: str, values: list[float]) -> None:
    found.constant(network, 0.0)
    for part in ("params", "target"):
        bias = found.state[part][network][-1]["bias"]
        found.state[part][network][-1]["bias"] = torch.tensor(values).reshape(bias.shape)


@both
@pytest.mark.parametrize(("aggregation", "counts", "mixed"), [
    ("max", 4.0, 0.75 * 4 + 0.25 * 2), ("min", 1.0, 0.75 * 1 + 0.25 * 3),
])  # fmt: skip
def test_the_largest_or_the_smallest_cost_counts(
    name: str, aggregation: str, counts: float, mixed: float
) -> None:
    """Groups (1, 2) and (3, 4)."""
    found = example(name, cost_aggregation=aggregation)
    _critics_that_say(found, "cost_q", [1.0, 2.0, 3.0, 4.0])
    metrics, batch = found.outputs().metrics, found.batch
    assert float(metrics["cost_excess"]) == pytest.approx(counts - THRESHOLD)
    wanted = batch["costs"] + DISCOUNT * (1 - batch["terminals"]) * mixed
    expected = sum(squared_errors(value, wanted, 1) for value in (1.0, 2.0, 3.0, 4.0))
    assert float(metrics["loss/cost_q"]) == pytest.approx(expected)


@both
def test_the_controller_prices_the_cost_beyond_the_limit(name: str) -> None:
    found = example(
        name, proportional_gain=0.5, integral_gain=0.1, derivative_gain=0.0, reward_scale=1.0
    )
    found.constant("cost_q", 2.0)
    found.state["moving"]["integral"] = torch.tensor(3.0)
    outputs, excess = found.outputs(), 2.0 - THRESHOLD
    assert float(outputs.metrics["multiplier"]) == pytest.approx(0.6 * excess + 0.3, rel=1e-5)
    assert float(outputs.moved["integral"]) == pytest.approx(3.0 + excess)
    assert float(outputs.moved["last_excess"]) == pytest.approx(excess)


@both
def test_a_policy_within_the_limit_pays_nothing(name: str) -> None:
    found = example(name)
    found.constant("cost_q", 0.0)
    outputs = found.outputs()
    assert float(outputs.metrics["multiplier"]) == 0.0
    assert float(outputs.moved["integral"]) == 0.0


def test_the_perturbation_bounds_how_far_an_action_is_moved() -> None:
    found = example("bcql", perturbation=0.1)
    method, params = found.method, found.state["params"]
    assert isinstance(method, BCQL)
    states, noise = torch.randn(50, 3), torch.randn(4, 50, 4)
    moved = method.actions(params, states, noise, found.hp)
    still = method.actions(params, states, noise, found.hp._replace(perturbation=torch.tensor(0.0)))
    change = (moved - still).abs()
    assert moved.shape == (4, 50, 2) and 0 < float(change.max()) <= 0.1 + 1e-6


def test_the_discrepancys_weight_rises_while_it_is_too_large() -> None:
    for threshold, sign in ((0.0, 1.0), (9.0, -1.0)):
        found = example("bearl", discrepancy_threshold=threshold, multiplier_rate=0.01)
        outputs = found.outputs()
        beyond = float(outputs.metrics["discrepancy"]) - threshold
        assert sign * beyond > 0
        assert float(outputs.moved["log_weight"]) == pytest.approx(0.01 * beyond, rel=1e-5)


def test_at_first_the_policy_may_imitate_alone() -> None:
    found = example("bearl", imitation_steps=10.0)
    found.constant("cost_q", 0.0)
    found.constant("reward_q", 3.0)
    metrics = found.outputs().metrics
    imitation = float(metrics["discrepancy"]) - 0.05
    assert float(metrics["loss/policy"]) == pytest.approx(imitation, abs=1e-6)
    late = found.inputs()
    late = late._replace(progress=late.progress._replace(step=torch.tensor(10.0)))
    later = found.method.losses["train"](late).metrics
    assert float(later["loss/policy"]) == pytest.approx(imitation - 3.0, abs=1e-5)
