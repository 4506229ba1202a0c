"""Divergences and bounds of latents whose law is known."""

import math

import pytest
import torch

from safesweep.trainables.components.latent_bounds import (
    high_density_radius_squared,
    jacobian_norm,
    policy_shift,
    pushed_divergence,
)


def test_the_divergence_of_a_shifted_and_stretched_normal() -> None:
    draws = torch.randn(2, 20_000, 3, generator=torch.Generator().manual_seed(0))
    states = torch.tensor([[1.0, 1.0], [0.0, 2.0]])
    found, folded = pushed_divergence(lambda s, u: s[0] + s[1] * u, states, draws)
    expected = [1.5, 3 * 0.5 * (4 - 1 - math.log(4))]
    assert found.tolist() == pytest.approx(expected, rel=0.03)
    assert float(folded) == 0.0


def test_the_divergence_exceeds_that_of_the_moments() -> None:
    """sinh(u) is far from normal: its moments alone say less than the change of variables, which
    is E[(sinh(u)^2 - u^2) / 2 - log cosh(u)]; sinh's second moment is (e^2 - 1) / 2."""
    draws = torch.randn(1, 200_000, 1, generator=torch.Generator().manual_seed(1))
    found, _ = pushed_divergence(lambda s, u: torch.sinh(u), torch.zeros(1, 1), draws)
    second = (math.exp(2) - 1) / 2
    grid = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-grid.square() / 2) / math.sqrt(2 * math.pi)
    log_cosh = float((density * grid.cosh().log()).sum() * (grid[1] - grid[0]))
    exact = (second - 1) / 2 - log_cosh
    assert float(found) == pytest.approx(exact, rel=0.05)
    assert exact > 0.5 * (second - 1 - math.log(second)) + 0.1


def test_a_map_that_folds_says_so() -> None:
    draws = torch.randn(1, 20_000, 1, generator=torch.Generator().manual_seed(2))
    found, folded = pushed_divergence(lambda s, u: u.square(), torch.zeros(1, 1), draws)
    assert float(folded) == pytest.approx(0.5, abs=0.02)
    powers = torch.full((1, 20_000), 2.0)
    zero = torch.zeros(1, 1)
    same, _ = pushed_divergence(lambda s, u, power: u**power, zero, draws, powers)
    assert float(found) == pytest.approx(float(same), rel=1e-3)


def test_the_norm_of_a_linear_decoders_jacobian() -> None:
    matrix = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    norms = jacobian_norm(
        lambda s, u: matrix @ u * s[0], torch.tensor([[1.0], [2.0]]), torch.zeros(2, 4, 3)
    )
    assert norms.tolist() == pytest.approx([5.0, 10.0])


def test_bounds_by_hand() -> None:
    latents = torch.zeros(2, 4, 2)
    latents[0, 0] = 10.0
    found = policy_shift(
        torch.tensor([0.5, 2.0]), torch.tensor([1.0, 3.0]), latents, torch.tensor(0.5)
    )
    expected = {
        "base_kl": 1.25, "base_kl_max": 2.0, "total_variation_bound": 0.75,
        "wasserstein_estimate": 3.5, "policy_gap_estimate": 8.0, "latents_outside_ball": 1 / 8,
    }  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


def test_the_ball_of_two_dimensions() -> None:
    """Of a two-dimensional normal vector |u|^2 / 2 is exponential."""
    assert high_density_radius_squared(2) == pytest.approx(-2 * math.log(0.01))
