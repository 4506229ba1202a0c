"""The coupling flow: exact inverse, exact log-determinant."""

import pytest
import torch
from torch.func import jacrev, vmap

from safesweep.trainables.components.coupling_flow import (
    flow_forward,
    flow_inverse,
    init_coupling_flow,
)


def trained_like_flow(latent_dim: int, layers: int) -> list:
    """A flow away from its near-identity start, in double precision."""
    generator = torch.Generator().manual_seed(1)
    flow = init_coupling_flow(generator, latent_dim, 3, layers, 32, 2)
    return [
        [
            {
                k: (v + 0.3 * torch.randn(v.shape, generator=generator)).double()
                for k, v in p.items()
            }
            for p in net
        ]
        for net in flow
    ]


@pytest.mark.parametrize(("latent_dim", "layers"), [(2, 1), (3, 4), (8, 4), (5, 6)])
def test_the_flow_inverts(latent_dim: int, layers: int) -> None:
    flow = trained_like_flow(latent_dim, layers)
    base, context = torch.randn(64, latent_dim).double(), torch.randn(64, 3).double()
    latent, forward = flow_forward(flow, base, context)
    back, inverse = flow_inverse(flow, latent, context)
    torch.testing.assert_close(back, base)
    torch.testing.assert_close(forward, -inverse)
    assert (latent - base).abs().mean() > 0.1


@pytest.mark.parametrize(("latent_dim", "layers"), [(2, 1), (3, 4), (8, 4)])
def test_the_log_determinant_is_autograds(latent_dim: int, layers: int) -> None:
    flow = trained_like_flow(latent_dim, layers)
    base, context = torch.randn(16, latent_dim).double(), torch.randn(16, 3).double()
    _, claimed = flow_forward(flow, base, context)
    jacobian = vmap(jacrev(lambda u, c: flow_forward(flow, u, c)[0]))(base, context)
    torch.testing.assert_close(claimed, torch.linalg.slogdet(jacobian)[1])


def test_a_fresh_flow_is_near_the_identity() -> None:
    flow = init_coupling_flow(torch.Generator().manual_seed(0), 4, 3, 4, 64, 2)
    base = torch.randn(256, 4)
    latent, _ = flow_forward(flow, base, torch.randn(256, 3))
    assert (latent - base).abs().mean() < 0.1
