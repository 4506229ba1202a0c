import pytest
import torch
from torch import Tensor
from torch.func import vmap

from safesweep.trainables.components.networks import (
    Layers,
    ensemble_mlp,
    init_mlp,
    matmul_precision,
    mlp,
)

LAST_BIT = 2**-8
"""Half the distance between neighbours of bf16, relative to them."""


def network(sizes: list[int], ensemble: int | None = None) -> Layers:
    return init_mlp(torch.Generator().manual_seed(0), sizes, ensemble)


def inputs(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1))


def rounded(value: Tensor) -> Tensor:
    return value.bfloat16().float()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_layer_that_gives_outputs_is_exact(precision: str) -> None:
    layers, given = network([64, 3]), inputs(5, 64)
    with matmul_precision("cpu", precision):
        found = mlp(layers, given)
    expected = given @ layers[0]["weight"] + layers[0]["bias"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_hidden_layers_multiply_what_is_rounded() -> None:
    layers, given = network([32, 16, 1]), inputs(7, 32)
    first, last = layers
    hidden = rounded(given) @ rounded(first["weight"]) + rounded(first["bias"])
    with matmul_precision("cpu", "bf16"):
        found = mlp(layers, given)
    # The result of the product is rounded too.
    error = hidden.abs().amax(1, keepdim=True) * LAST_BIT * last["weight"].abs().sum()
    expected = torch.relu(hidden) @ last["weight"] + last["bias"]
    assert ((found - expected).abs() <= error).all()
    assert not torch.equal(found, mlp(layers, given))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_ensemble_is_its_networks(precision: str) -> None:
    layers, given = network([8, 16, 16, 2], ensemble=3), inputs(6, 8)
    with matmul_precision("cpu", precision):
        together = ensemble_mlp(layers, given)
        alone = [
            mlp([{n: value[member] for n, value in layer.items()} for layer in layers], given)
            for member in range(3)
        ]
    tolerance = 1e-6 if precision == "fp32" else 8 * LAST_BIT
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=tolerance)
    assert together.dtype == torch.float32


def test_gradients_stay_fp32() -> None:
    first, last = network([8, 16, 1])
    weights, given = first["weight"].expand(2, -1, -1).clone().requires_grad_(), inputs(6, 8)

    def loss(weight: Tensor) -> Tensor:
        return mlp([{**first, "weight": weight}, last], given).square().mean()

    def gradient(precision: str) -> Tensor:
        with matmul_precision("cpu", precision):
            losses = vmap(loss)(weights)
        return torch.autograd.grad(losses.sum(), weights)[0]

    exact, found = gradient("fp32"), gradient("bf16")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
    assert not torch.equal(found, exact)
