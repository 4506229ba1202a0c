"""Latents that become the actions they were made of."""

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.behaviour_flow import (
    AT_ONCE,
    decode,
    encode,
    encode_all,
    inversion_error,
)
from safesweep.trainables.components.flow_matching import init_velocity_field
from safesweep.trainables.components.networks import Layers


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flow() -> Layers:
    return init_velocity_field(torch.Generator().manual_seed(0), 2, 3, 32, 2)


def still_flow() -> Layers:
    """Moves nothing: a latent is its action."""
    return [{name: torch.zeros_like(leaf) for name, leaf in layer.items()} for layer in flow()]


def test_inverting_undoes_decoding() -> None:
    # Small enough that decoded actions are not clipped at the bounds.
    latents, observations = 0.3 * normal(16, 2), normal(16, 3, seed=1)
    actions = decode(flow(), observations, latents, 10)
    assert float(actions.abs().max()) < 1
    found = encode(flow(), observations, actions, 10)
    torch.testing.assert_close(found, latents, atol=1e-4, rtol=0)


def test_all_actions_are_inverted_each_in_its_state() -> None:
    rows = AT_ONCE + 5
    data = {"observations": normal(rows, 3), "actions": 0.3 * normal(rows, 2, seed=1)}
    latents = encode_all(flow(), data, torch.tensor(9.0), 4)
    last = encode(flow(), data["observations"][-5:], data["actions"][-5:], 4)
    torch.testing.assert_close(latents[-5:], last)
    assert latents.shape == (rows, 2)


def test_the_error_is_that_of_what_the_bound_cut_off() -> None:
    """Of the actions 0.1 and 0.8, cut at 0.5, only the second is wrong, by 0.3."""
    data = {"observations": normal(2, 3), "actions": torch.tensor([[0.1, -0.1], [0.8, -0.8]])}
    latents = encode_all(still_flow(), data, torch.tensor(0.5), 3)
    torch.testing.assert_close(latents, data["actions"].clamp(-0.5, 0.5))
    error = inversion_error(still_flow(), data, latents, 3)
    assert float(error) == pytest.approx(0.3 / 2**0.5)
