"""The squashed Gaussian against torch's own, and where rounding would spoil it."""

import pytest
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from safesweep.trainables.components.squashed_gaussian import (
    LARGEST_ACTION,
    most_likely_action,
    sample_unsquashed,
    squashed_log_density,
    unsquashed,
)


def test_the_density_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, value = torch.randn(3, 20, 2, generator=generator, dtype=torch.float64)
    transformed = TransformedDistribution(
        Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)]
    )
    expected = transformed.log_prob(torch.tanh(value)).sum(-1)
    torch.testing.assert_close(squashed_log_density(value, mean, log_std), expected)


def test_the_density_is_finite_far_out() -> None:
    """1 - tanh(u)^2 is 0 in float32 from 9.1 on; its logarithm is 2 log 2 - 2 |u| there."""
    value = torch.tensor([[30.0], [-30.0]])
    density = squashed_log_density(value, value, torch.zeros(2, 1))
    expected = 60 - 2 * torch.log(torch.tensor(2.0)) - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(density, expected.expand(2))


def test_actions_are_the_tangent_of_what_unsquashed_gives() -> None:
    actions = torch.tensor([-0.9, 0.0, 0.5])
    torch.testing.assert_close(torch.tanh(unsquashed(actions)), actions)
    ends = unsquashed(torch.tensor([-1.0, 1.0, 1.2]))
    assert bool(torch.isfinite(ends).all())
    assert float(torch.tanh(ends.double())[1]) == pytest.approx(LARGEST_ACTION, abs=1e-7)


def test_samples_are_mean_and_deviation_of_the_network() -> None:
    """Mean 0.5 and deviation e^2, the largest, whatever the state."""
    layers = [{"weight": torch.zeros(3, 2), "bias": torch.tensor([0.5, 7.0])}]
    states, noise = torch.randn(4, 3), torch.randn(6, 4, 1)
    samples = sample_unsquashed(layers, states, noise)
    torch.testing.assert_close(samples, 0.5 + torch.tensor(2.0).exp() * noise)
    torch.testing.assert_close(most_likely_action(layers, states), torch.full((4, 1), 0.5).tanh())
