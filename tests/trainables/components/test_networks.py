import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from safesweep.trainables.components.choices import ACTIVATION_NAMES, NORMS
from safesweep.trainables.components.networks import (
    ACTIVATIONS,
    Layers,
    dropout,
    ensemble_mlp,
    init_mlp,
    init_residual,
    layer_norm,
    matmul_precision,
    mlp,
    residual_network,
    starting_at,
)

LAST_BIT = 2**-8
"""Half the distance between neighbours of bf16, relative to them."""


def test_every_activation_has_a_name_to_choose_it_by() -> None:
    assert tuple(ACTIVATIONS) == ACTIVATION_NAMES


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


@pytest.mark.parametrize("where", NORMS[1:])
def test_normalised_layers_are_torchs(where: str) -> None:
    """Before the activation and after it, of one network and of an ensemble."""
    names = ("scale", "shift") if where == "before_activation" else ("scale_after", "shift_after")
    generator = torch.Generator().manual_seed(0)
    layers = init_mlp(generator, [4, 16, 16, 2], ensemble=2, layer_norm=where)
    for layer in layers[:-1]:
        for name in names:
            layer[name] = torch.rand(2, 16, generator=generator)
    assert layers[-1].keys() == {"weight", "bias"}
    given = inputs(5, 4)
    together = ensemble_mlp(layers, given, functional.gelu)
    for member in range(2):
        own = [{name: value[member] for name, value in layer.items()} for layer in layers]
        hidden = given
        for layer in own[:-1]:
            hidden = hidden @ layer["weight"] + layer["bias"]
            norm = (16,), layer[names[0]], layer[names[1]]
            if where == "before_activation":
                hidden = functional.gelu(functional.layer_norm(hidden, *norm))
            else:
                hidden = functional.layer_norm(functional.gelu(hidden), *norm)
        expected = hidden @ own[-1]["weight"] + own[-1]["bias"]
        torch.testing.assert_close(mlp(own, given, functional.gelu), expected)
        torch.testing.assert_close(together[member], expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_norm_only_normalises() -> None:
    layers = init_mlp(torch.Generator().manual_seed(0), [4, 64, 1], layer_norm="before_activation")
    normal = layer_norm(layers[0], inputs(6, 64) * 3 + 5)
    torch.testing.assert_close(normal.mean(-1), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.var(-1, correction=0), torch.ones(6), rtol=1e-3, atol=0)


def test_a_residual_network_adds_its_blocks() -> None:
    parameters = init_residual(torch.Generator().manual_seed(0), 3, 8, blocks=2, outputs=2)
    given = inputs(5, 3)
    hidden = given @ parameters["first"][0]["weight"] + parameters["first"][0]["bias"]
    for block in parameters["blocks"]:
        wide, narrow = block["layers"]
        assert wide["weight"].shape == (8, 32)
        normal = functional.layer_norm(hidden, (8,))
        inner = functional.mish(normal @ wide["weight"] + wide["bias"])
        hidden = hidden + inner @ narrow["weight"] + narrow["bias"]
    last = parameters["last"][0]
    expected = functional.mish(hidden) @ last["weight"] + last["bias"]
    found = residual_network(parameters, given, functional.mish)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    uniform = torch.rand(2, 5, 8, generator=torch.Generator().manual_seed(2))
    kept = residual_network(parameters, given, functional.mish, 0.0, uniform)
    assert torch.equal(kept, found)
    dropped = residual_network(parameters, given, functional.mish, 0.5, uniform)
    assert not torch.allclose(dropped, found, atol=1e-3)


def test_dropout_keeps_the_mean() -> None:
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    dropped = dropout(torch.ones(20_000), 0.25, uniform)
    assert sorted(set(dropped.tolist())) == pytest.approx([0.0, 1 / 0.75])
    # The standard error is 0.004.
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert torch.equal(dropout(uniform, 0.0, uniform), uniform)


def test_networks_and_their_slow_copies_start_at_a_value() -> None:
    params = {name: network([3, 4, 1]) for name in ("own", "slow", "other")}
    state = {"params": params, "target": {"slow": params["slow"]}, "kept": 7}
    started = starting_at(state, ("own", "slow"), torch.tensor(-2.0))
    rows = inputs(5, 3)
    for layers in (started["params"]["own"], started["params"]["slow"], started["target"]["slow"]):
        assert mlp(layers, rows).tolist() == [[-2.0]] * 5
    assert started["params"]["other"] is params["other"]
    assert (list(started["target"]), started["kept"]) == (["slow"], 7)
    assert torch.equal(mlp(params["own"], rows), mlp(network([3, 4, 1]), rows))
