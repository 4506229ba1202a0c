"""Divergences and bounds of latents whose law is known."""

import math

import pytest
import torch

from safesweep.trainables.components.latent_bounds import (
    gaussian_divergence,
    high_density_radius_squared,
    jacobian_norm,
    shift_bounds,
)


def test_the_divergence_of_a_shifted_and_stretched_normal() -> None:
    draws = torch.randn(2, 50_000, 3, generator=torch.Generator().manual_seed(0))
    moved = torch.stack((draws[0] + 1.0, 2.0 * draws[1]))
    expected = [1.5, 3 * 0.5 * (4 - 1 - math.log(4))]
    assert gaussian_divergence(moved).tolist() == pytest.approx(expected, rel=0.02)


def test_the_norm_of_a_linear_decoders_jacobian() -> None:
    matrix = torch.tensor([[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    norms = jacobian_norm(
        lambda s, u: matrix @ u * s[0], torch.tensor([[1.0], [2.0]]), torch.zeros(2, 4, 3)
    )
    assert norms.tolist() == pytest.approx([5.0, 10.0])


def test_bounds_by_hand() -> None:
    latents = torch.zeros(2, 4, 2)
    latents[0, 0] = 10.0
    found = shift_bounds(
        torch.tensor([0.5, 2.0]), torch.tensor([1.0, 3.0]), latents, torch.tensor(0.5)
    )
    expected = {
        "base_kl": 1.25, "base_kl_max": 2.0, "total_variation_bound": 0.75,
        "wasserstein_bound": 3.5, "policy_gap_bound": 8.0, "latents_outside_ball": 1 / 8,
    }  # fmt: skip
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected)


def test_the_ball_of_two_dimensions() -> None:
    """Of a two-dimensional normal vector |u|^2 / 2 is exponential."""
    assert high_density_radius_squared(2) == pytest.approx(-2 * math.log(0.01))
