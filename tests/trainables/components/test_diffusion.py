"""Diffusion: its schedule, and that a perfect prediction of the noise finds the data."""

import math

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components import diffusion
from safesweep.trainables.components.diffusion import (
    denoise,
    diffusion_error,
    init_noise_network,
    noise_schedule,
    noised,
    predicted_noise,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_schedule_is_the_known_one() -> None:
    beta = noise_schedule(5).beta
    assert float(beta[0]) == pytest.approx(1 - math.exp(-0.02 - 4.95 / 25))
    assert float(beta[-1]) == pytest.approx(1 - math.exp(-0.02 - 4.95 * 9 / 25))
    # The exponents add up to 0.1 + 4.95, whatever the number of steps.
    for steps in (1, 5, 20):
        assert float(noise_schedule(steps).kept[-1]) == pytest.approx(math.exp(-5.05), rel=1e-5)


def test_a_noised_action_lies_between_data_and_noise() -> None:
    data, noise = normal(4, 3), normal(4, 3, seed=1)
    torch.testing.assert_close(noised(data, noise, torch.ones(4)), data)
    torch.testing.assert_close(noised(data, noise, torch.zeros(4)), noise)
    torch.testing.assert_close(
        noised(data, noise, torch.full((4,), 0.36)), 0.6 * data + 0.8 * noise
    )


def test_who_knows_the_noise_finds_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data are one point: its noise follows from where a sample is."""
    point = torch.tensor([0.3, -0.7])
    kept = noise_schedule(4).kept

    def perfect(network: object, value: Tensor, step: Tensor, condition: Tensor) -> Tensor:
        share = kept[step.long()]
        return (value - share.sqrt() * point) / (1 - share).sqrt()

    monkeypatch.setattr(diffusion, "predicted_noise", perfect)
    found = denoise({}, normal(4, 6, 3, 2), torch.zeros(3, 1))
    torch.testing.assert_close(found, point.expand(6, 3, 2), rtol=1e-5, atol=1e-5)


def test_who_predicts_no_noise_errs_by_all_of_it() -> None:
    network = init_noise_network(torch.Generator().manual_seed(0), 2, 3, 16, 1)
    for leaf in network["residual"]["last"][0].values():
        leaf.zero_()
    noise = normal(5, 2, seed=1)
    uniform = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0])
    error = diffusion_error(network, normal(5, 2), noise, uniform, normal(5, 3), 4)
    torch.testing.assert_close(error, noise.square().sum(-1))


def test_time_condition_and_dropout_matter_and_candidates_share_the_condition() -> None:
    network = init_noise_network(torch.Generator().manual_seed(0), 2, 3, 16, 2)
    value, condition = normal(4, 5, 2), normal(5, 3)
    early, late = torch.zeros(()), torch.ones(())
    found = predicted_noise(network, value, early, condition)
    assert found.shape == (4, 5, 2)
    torch.testing.assert_close(found[2], predicted_noise(network, value[2], early, condition))
    assert not torch.allclose(found, predicted_noise(network, value, late, condition))
    assert not torch.allclose(found, predicted_noise(network, value, early, condition + 1))
    uniform = torch.rand(2, 4, 5, 16, generator=torch.Generator().manual_seed(0))
    dropped = predicted_noise(network, value, early, condition, 0.5, uniform)
    assert not torch.allclose(found, dropped)
