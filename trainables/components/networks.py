"""Networks as functions of plain parameter dictionaries, for one run.

A layer is a weight [in, out] and a bias [out]; an ensemble of k networks adds a leading axis k to
both, so that its layers are one batched product.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map

Layers = list[dict[str, Tensor]]
Activation = Callable[[Tensor], Tensor]
LARGE_PRODUCT = 2**23


def init_mlp(
    generator: torch.Generator,
    sizes: Sequence[int],
    ensemble: int | None = None,
    final_scale: float = 1.0,
) -> Layers:
    """Parameters of a perceptron with layer `sizes`; uniform in +-1/sqrt(fan in) as torch's Linear.

    `final_scale` shrinks the last layer: 0 gives a network that starts at zero.
    """
    stack = () if ensemble is None else (ensemble,)
    layers = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(fan_in)
        if index == len(sizes) - 2:
            bound *= final_scale
        weight = torch.rand(*stack, fan_in, fan_out, generator=generator) * 2 - 1
        bias = torch.rand(*stack, fan_out, generator=generator) * 2 - 1
        layers.append({"weight": weight * bound, "bias": bias * bound})
    return layers


def mlp(layers: Layers, inputs: Tensor, activation: Activation = functional.relu) -> Tensor:
    """Apply a perceptron: [..., in] -> [..., out]; no activation after the last layer."""
    hidden = inputs
    for layer in layers[:-1]:
        hidden = functional.linear(hidden, layer["weight"].t(), layer["bias"])
        hidden = _activate(hidden, activation)
    last = layers[-1]
    with _output_precision(hidden):
        return functional.linear(hidden.to(last["weight"]), last["weight"].t(), last["bias"])


def ensemble_mlp(
    layers: Layers, inputs: Tensor, activation: Activation = functional.relu
) -> Tensor:
    """Apply k perceptrons to the same inputs: [B, in] -> [k, B, out]."""
    if is_large(inputs.shape[-2], layers[0]["weight"].shape[-1]):
        members = zip(*(_unstack(layer) for layer in layers), strict=True)
        return torch.stack([mlp(list(member), inputs, activation) for member in members])
    hidden = inputs
    for layer in layers[:-1]:
        hidden = torch.matmul(hidden, layer["weight"]) + layer["bias"].unsqueeze(-2)
        hidden = _activate(hidden, activation)
    last = layers[-1]
    with _output_precision(hidden):
        return torch.matmul(hidden.to(last["weight"]), last["weight"]) + last["bias"].unsqueeze(-2)


def is_large(rows: int, width: int) -> bool:
    """Whether one hidden layer's product of `rows` inputs keeps a CPU busy by itself.

    Stacking such products with those of other networks saves nothing: their intermediate results
    leave the cache before they are used again, and a stack of products to a single output is slow.
    """
    return rows * width * width >= LARGE_PRODUCT


def matmul_precision(device: str, precision: str) -> AbstractContextManager[Any]:
    """Within it products of hidden layers are of `precision`: fp32, or bf16."""
    # What autocast remembers of a weight would outlive the `vmap` that it was made in.
    return torch.autocast(device, torch.bfloat16, precision == "bf16", cache_enabled=False)


def _output_precision(hidden: Tensor) -> AbstractContextManager[Any]:
    """Outputs are fp32: three digits of a value would be too few to learn from."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _activate(hidden: Tensor, activation: Activation) -> Tensor:
    # A product's result is nobody else's; new memory would cost more than the arithmetic.
    return torch.relu_(hidden) if activation is functional.relu else activation(hidden)


def _unstack(layer: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    weights, biases = layer["weight"].unbind(), layer["bias"].unbind()
    return [{"weight": w, "bias": b} for w, b in zip(weights, biases, strict=True)]


def hidden_sizes(inputs: int, hidden_dim: int, hidden_layers: int, outputs: int) -> list[int]:
    """Layer sizes of a perceptron with equal hidden layers."""
    return [inputs, *[hidden_dim] * hidden_layers, outputs]


def gaussian_log_density(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(value; mean, exp(log_std)^2), summed over the last axis."""
    standardized = (value - mean) * torch.exp(-log_std)
    per_dimension = -0.5 * standardized.square() - log_std - 0.5 * math.log(2 * math.pi)
    return per_dimension.sum(-1)


def standard_normal_log_density(value: Tensor) -> Tensor:
    """log N(value; 0, I), summed over the last axis."""
    return -0.5 * (value.square() + math.log(2 * math.pi)).sum(-1)


def detach(parameters: Any) -> Any:
    """The same parameters, closed to gradients."""
    return tree_map(Tensor.detach, parameters)
