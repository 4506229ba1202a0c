"""COptiDICE: its divergence, its weights and losses by hand, and what its defects do."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from safesweep.trainables.methods.coptidice import COptiDICE, correction, soft_chi_square
from tests.trainables.methods.losses_by_hand import Example

DISCOUNT = 0.75
THRESHOLD = (1 - DISCOUNT**10) / ((1 - DISCOUNT) * 10)
PRICE = math.log1p(math.e)


def example(**settings: Any) -> Example:
    found = Example("coptidice", **{"discount": DISCOUNT, **settings})
    found.batch["initial"] = torch.tensor([2.0, 0.0, 0.0, 2.0, 0.0, 0.0])
    for network in ("nu", "chi"):
        layers = found.state["params"][network]
        layers[-1] = {name: torch.zeros_like(value) for name, value in layers[-1].items()}
    return found


@given(st.floats(-5.0, 5.0))
def test_the_correction_is_where_the_divergence_has_that_slope(slope: float) -> None:
    ratio = correction(torch.tensor(slope, dtype=torch.float64)).requires_grad_(True)
    assert float(ratio.detach()) > 0
    (found,) = torch.autograd.grad(soft_chi_square(ratio), ratio)
    assert float(found) == pytest.approx(slope, abs=1e-6)


def test_the_divergence_of_the_data_from_itself_is_none() -> None:
    assert float(soft_chi_square(torch.tensor(1.0))) == 0.0
    assert float(soft_chi_square(torch.tensor(0.0))) == pytest.approx(1.0)
    assert float(soft_chi_square(torch.tensor(3.0))) == 2.0


def test_losses_where_nu_and_chi_are_zero() -> None:
    """Without rewards a transition's advantage is what its cost is priced at."""
    found = example(divergence_weight=1.0)
    found.batch["rewards"] = torch.zeros(6)
    metrics = found.outputs().metrics
    # Half of the transitions cost 1: their weight is exp(-price), that of the others 1.
    weight = math.exp(-PRICE)
    assert float(metrics["weight_mean"]) == pytest.approx((1 + weight) / 2)
    divergence = weight * math.log(weight) - weight + 1
    assert float(metrics["loss/nu"].detach()) == pytest.approx(-0.5 * (weight * PRICE + divergence))
    # chi's worst distribution weighs costly transitions by exp(weight / temperature).
    heavy = math.exp(weight / PRICE)
    share = heavy / (1 + heavy)
    cost = share * weight
    allowed = (1 - DISCOUNT) * THRESHOLD
    assert float(metrics["loss/chi"].detach()) == pytest.approx(cost, rel=1e-5)
    assert float(metrics["cost_excess"]) == pytest.approx(cost - allowed, rel=1e-4)
    assert float(metrics["loss/multiplier"]) == pytest.approx(PRICE * (allowed - cost), rel=1e-4)


@pytest.mark.parametrize(("scale", "rises"), [("per_step", True), ("published", False)])
def test_the_multiplier_rises_where_the_cost_exceeds_the_limit(scale: str, rises: bool) -> None:
    """A step costs 0.15 as in the test above; the limit of a step is 0.09, an episode's 0.38."""
    found = example(cost_scale_of_limit=scale, divergence_weight=1.0)
    found.batch["rewards"] = torch.zeros(6)
    gradient = found.gradient("multiplier")
    assert (float(gradient) < 0) == rises


def test_the_published_density_fits_what_the_tangent_is_taken_of() -> None:
    """A policy whose mean is 0.9 acts tanh(0.9) = 0.72; fitted to actions of 0.9 the published loss
    is at its smallest there, the other one where the tangent of the mean is 0.9."""
    minima = {}
    for density in ("published", "squashed"):
        found = example(policy_density=density, imitation_noise=0.0)
        found.batch["actions"] = torch.full((6, 2), 0.9)
        losses = {}
        for mean in torch.linspace(0.5, 2.0, 151).tolist():
            layers = found.state["params"]["policy"]
            last = {name: torch.zeros_like(value) for name, value in layers[-1].items()}
            last["bias"] = torch.tensor([mean, mean, -1.0, -1.0])
            found.state["params"]["policy"] = [*layers[:-1], last]
            losses[mean] = float(found.outputs().metrics["loss/policy"])
        minima[density] = math.tanh(min(losses, key=lambda mean: losses[mean]))
    assert minima["published"] == pytest.approx(math.tanh(0.9), abs=0.01)
    assert minima["squashed"] == pytest.approx(0.9, abs=0.01)


def test_initial_steps_are_those_after_an_end() -> None:
    method = example().method
    assert isinstance(method, COptiDICE)
    data = {
        "observations": torch.randn(6, 3), "next_observations": torch.randn(6, 3),
        "actions": torch.rand(6, 2), "rewards": torch.zeros(6), "costs": torch.zeros(6),
        "terminals": torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        "timeouts": torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 1.0]),
    }  # fmt: skip
    assert method.prepare(data)["initial"].tolist() == [2.0, 0.0, 2.0, 0.0, 2.0, 0.0]
    states = data["observations"]
    torch.testing.assert_close(
        method.deviations["observations"], (states - states.mean(0)).square().mean(0).sqrt()
    )
