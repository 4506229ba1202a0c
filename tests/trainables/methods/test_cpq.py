"""CPQ: its losses where networks say one number, and what its defects do."""

from typing import Any

import pytest
import torch

from tests.trainables.methods.losses_by_hand import Example, ends_of, squared_errors

# kappa 1 over 10 steps at discount 0.75.
DISCOUNT = 0.75
THRESHOLD = (1 - DISCOUNT**10) / ((1 - DISCOUNT) * 10)


def example(**settings: Any) -> Example:
    return Example("cpq", **{"discount": DISCOUNT, "candidates": 4, **settings})


@pytest.mark.parametrize("published", [False, True])
def test_costs_are_bootstrapped_until_the_end_or_past_it(published: bool) -> None:
    found = example(cost_bootstrap="published" if published else "done")
    found.constant("cost_q", 2.0)
    wanted = found.batch["costs"] + DISCOUNT * (1 - ends_of(found.batch, published)) * 2.0
    loss = float(found.outputs().metrics["loss/cost_q"])
    assert loss == pytest.approx(squared_errors(2.0, wanted, networks=2))


@pytest.mark.parametrize(("cost", "counts"), [(0.9 * THRESHOLD, 1.0), (1.1 * THRESHOLD, 0.0)])
def test_what_follows_counts_where_its_cost_is_within_the_limit(cost: float, counts: float) -> None:
    found = example()
    found.constant("cost_q", cost)
    found.constant("reward_q", 3.0)
    going_on = 1 - found.batch["terminals"]
    wanted = found.batch["rewards"] + DISCOUNT * going_on * counts * 3.0
    metrics = found.outputs().metrics
    assert float(metrics["loss/reward_q"]) == pytest.approx(squared_errors(3.0, wanted, 2))
    assert float(metrics["loss/policy"]) == pytest.approx(-counts * 3.0)


@pytest.mark.parametrize(("cost", "moves"), [(0.9 * THRESHOLD, True), (1.1 * THRESHOLD, False)])
def test_nothing_brings_the_policy_back_from_beyond_the_limit(cost: float, moves: bool) -> None:
    """The indicator has no slope: what it shuts out pulls in no direction."""
    found = example()
    found.constant("cost_q", cost)
    assert bool(found.gradient("policy").any()) == moves


def test_unlike_actions_are_a_quarter_of_the_sampled_ones() -> None:
    """24 samples at six states, of which the 6 or 7 furthest from the data count."""
    found = example()
    found.constant("cost_q", 2.0)
    excess = float(found.outputs().metrics["unlike_cost_excess"])
    share = (excess + 1.5 * THRESHOLD) / 2.0
    assert share == pytest.approx(6 / 24, abs=1.1 / 24)


@pytest.mark.parametrize(("ood", "moves"), [("gradient", True), ("published", False)])
def test_the_term_of_unlike_actions_moves_the_cost_critic(ood: str, moves: bool) -> None:
    """OSRL takes it from the slow copy: with any multiplier the gradient is the same."""
    found = example(ood=ood)
    gradients = []
    for log_multiplier in (-4.0, 4.0):
        found.state["moving"]["log_multiplier"] = torch.tensor(log_multiplier)
        gradients.append(found.gradient("cost_q"))
    assert torch.equal(*gradients) != moves


def test_the_term_raises_what_the_critic_says_of_unlike_actions() -> None:
    found = example(multiplier_rate=0.0)
    found.state["moving"]["log_multiplier"] = torch.tensor(4.0)
    before = float(found.outputs().metrics["unlike_cost_excess"])
    gradient = torch.split(found.gradient("cost_q"), [leaf.numel() for leaf in _leaves(found)])
    for leaf, change in zip(_leaves(found), gradient, strict=True):
        leaf.data -= 1e-3 * change.reshape(leaf.shape)
    assert float(found.outputs().metrics["unlike_cost_excess"]) > before


def _leaves(found: Example) -> list[torch.Tensor]:
    return [value for layer in found.state["params"]["cost_q"] for value in layer.values()]


@pytest.mark.parametrize("cost", [0.0, 20.0])
def test_the_multiplier_falls_where_the_critic_says_enough(cost: float) -> None:
    found = example(multiplier_rate=0.1)
    found.constant("cost_q", cost)
    moved = float(found.outputs().moved["log_multiplier"])
    assert (moved < 0) == (cost > 0)
    assert abs(moved) <= 5.0


def test_without_the_term_there_is_no_autoencoder() -> None:
    found = example(ood="off")
    assert set(found.state["params"]) == {"reward_q", "cost_q", "policy"}
    assert found.method.phases[0].trains == ("reward_q", "cost_q", "policy")
    assert not found.outputs().moved
