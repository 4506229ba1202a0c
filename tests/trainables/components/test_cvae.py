"""The CVAE's pieces: its divergence, its samples, its bounds."""

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.cvae import (
    ENCODER_LOG_STD_RANGE,
    decode,
    divergence_from_standard_normal,
    encode,
    init_gaussian,
    reparameterize,
)
from safesweep.trainables.components.networks import (
    Layers,
    gaussian_log_density,
    init_mlp,
    standard_normal_log_density,
)


def constant_gaussian(mean: float, log_std: float, latent: int) -> Layers:
    """One layer that gives the same Gaussian for every input of 5 numbers."""
    bias = torch.cat((torch.full((latent,), mean), torch.full((latent,), log_std)))
    return [{"weight": torch.zeros(5, 2 * latent), "bias": bias}]


@pytest.mark.parametrize(
    ("mean", "log_std", "expected"),
    [(0.0, 0.0, 0.0), (2.0, 0.0, 2.0), (0.0, 0.5, 0.5 * (2.718281828 - 1) - 0.5)],
)
def test_the_divergence_has_its_closed_form(mean: float, log_std: float, expected: float) -> None:
    per_dimension = divergence_from_standard_normal(
        torch.full((4, 3), mean), torch.full((4, 3), log_std)
    )
    torch.testing.assert_close(per_dimension, torch.full((4, 3), expected), atol=1e-6, rtol=1e-6)


def test_the_divergence_is_the_expected_log_ratio() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.tensor([0.3, -1.2, 0.8]), torch.tensor([-0.7, 0.2, -1.5])
    noise = torch.randn(200_000, 3, generator=generator)
    latent = reparameterize(mean, log_std, noise)
    ratio = gaussian_log_density(latent, mean, log_std) - standard_normal_log_density(latent)
    expected = float(divergence_from_standard_normal(mean, log_std).sum())
    assert float(ratio.mean()) == pytest.approx(expected, rel=0.01)


def test_samples_have_the_encoders_moments() -> None:
    observations, actions = torch.zeros(100_000, 3), torch.zeros(100_000, 2)
    mean, log_std = encode(constant_gaussian(0.7, -0.5, latent=2), observations, actions)
    noise = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
    latent = reparameterize(mean, log_std, noise)
    assert float(latent.mean()) == pytest.approx(0.7, abs=0.01)
    assert float(latent.std().log()) == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("extreme", [-50.0, 50.0])
def test_the_encoders_deviation_is_bounded(extreme: float) -> None:
    layers = constant_gaussian(0.0, extreme, latent=2)
    _, log_std = encode(layers, torch.zeros(1, 3), torch.zeros(1, 2))
    low, high = ENCODER_LOG_STD_RANGE
    assert float(log_std[0, 0]) == (low if extreme < 0 else high)


def test_the_decoder_depends_on_state_and_latent_and_stays_in_bounds() -> None:
    decoder = init_mlp(torch.Generator().manual_seed(0), [5, 16, 2])

    def act(state: float, latent: float) -> Tensor:
        return decode(decoder, torch.full((1, 3), state), torch.full((1, 2), latent))

    assert not torch.equal(act(0.0, 0.0), act(1.0, 0.0))
    assert not torch.equal(act(0.0, 0.0), act(0.0, 1.0))
    assert float(act(1e4, 1e4).abs().max()) <= 1


def test_a_fresh_encoder_has_a_mean_and_a_deviation_for_each_latent() -> None:
    encoder = init_gaussian(torch.Generator().manual_seed(0), 5, 4, hidden_dim=8, hidden_layers=2)
    mean, log_std = encode(encoder, torch.randn(6, 3), torch.randn(6, 2))
    assert mean.shape == log_std.shape == (6, 4)
    assert [layer["weight"].shape for layer in encoder] == [(5, 8), (8, 8), (8, 8)]
