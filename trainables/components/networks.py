"""Networks as functions of plain parameter dictionaries, for one run.

A layer is a weight [in, out] and a bias [out]; an ensemble of k networks adds a leading axis k to
both, so that its layers are one batched product. A layer whose output is normalised has a scale and
a shift [out] as well.
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
Parameters = dict[str, Any]
Activation = Callable[[Tensor], Tensor]
LARGE_PRODUCT = 2**23

ACTIVATIONS: dict[str, Activation] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "silu": functional.silu,
}
_NORM_KEYS = {
    "before_activation": ("scale", "shift"),
    "after_activation": ("scale_after", "shift_after"),
}


def init_mlp(
    generator: torch.Generator,
    sizes: Sequence[int],
    ensemble: int | None = None,
    final_scale: float = 1.0,
    layer_norm: str = "none",
) -> Layers:
    """Parameters of a perceptron with layer `sizes`; uniform in +-1/sqrt(fan in) as torch's Linear.

    `final_scale` shrinks the last layer: 0 gives a network that starts at zero. `layer_norm` is one
    of `components.choices.NORMS`; what a layer holds tells `mlp` whether and where it is
    normalised.
    """
    stack = () if ensemble is None else (ensemble,)
    layers = []
    for index, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(fan_in)
        if index == len(sizes) - 2:
            bound *= final_scale
        weight = torch.rand(*stack, fan_in, fan_out, generator=generator) * 2 - 1
        bias = torch.rand(*stack, fan_out, generator=generator) * 2 - 1
        layer = {"weight": weight * bound, "bias": bias * bound}
        if layer_norm != "none" and index < len(sizes) - 2:
            fresh = init_norm(fan_out, stack)
            layer |= dict(zip(_NORM_KEYS[layer_norm], fresh.values(), strict=True))
        layers.append(layer)
    return layers


def constant_output(layers: Layers, value: Tensor) -> Layers:
    """The same perceptron with a last layer that gives `value` [] whatever goes in."""
    last = {**layers[-1], "weight": torch.zeros_like(layers[-1]["weight"])}
    last["bias"] = torch.zeros_like(last["bias"]) + value
    return [*layers[:-1], last]


def starting_at(state: dict[str, Any], names: Sequence[str], value: Tensor) -> dict[str, Any]:
    """A fresh state in which some networks, and their slow copies, give `value` [] everywhere."""

    def started(networks: Parameters) -> Parameters:
        own = {name: constant_output(networks[name], value) for name in names if name in networks}
        return {**networks, **own}

    return {**state, "params": started(state["params"]), "target": started(state["target"])}


def init_norm(width: int, stack: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Scale and shift of a layer norm that changes nothing but mean and variance yet."""
    return {"scale": torch.ones(*stack, width), "shift": torch.zeros(*stack, width)}


def layer_norm(
    layer: dict[str, Tensor], hidden: Tensor, where: str = "before_activation"
) -> Tensor:
    """Zero mean and unit variance over the last axis, then scale and shift; a layer without them
    changes nothing."""
    names = _NORM_KEYS[where]
    if names[0] not in layer:
        return hidden
    normal = functional.layer_norm(hidden, hidden.shape[-1:])
    scale, shift = layer[names[0]], layer[names[1]]
    if scale.dim() > 1:
        # An ensemble's: [k, out] beside [k, B, out].
        scale, shift = scale.unsqueeze(-2), shift.unsqueeze(-2)
    return normal * scale + shift


def mlp(
    layers: Layers,
    inputs: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Apply a perceptron: [..., in] -> [..., out]; no activation after the last layer."""
    hidden = inputs
    for layer in layers[:-1]:
        hidden = functional.linear(hidden, layer["weight"].t(), layer["bias"])
        hidden = _activate_normalised(layer, hidden, activation)
    last = layers[-1]
    with _output_precision(hidden):
        return functional.linear(hidden.to(last["weight"]), last["weight"].t(), last["bias"])


def ensemble_mlp(
    layers: Layers,
    inputs: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """Apply k perceptrons to the same inputs: [B, in] -> [k, B, out]."""
    if is_large(inputs.shape[-2], layers[0]["weight"].shape[-1]):
        members = zip(*(_unstack(layer) for layer in layers), strict=True)
        outputs = [mlp(list(member), inputs, activation) for member in members]
        return torch.stack(outputs)
    hidden = inputs
    for layer in layers[:-1]:
        hidden = torch.matmul(hidden, layer["weight"]) + layer["bias"].unsqueeze(-2)
        hidden = _activate_normalised(layer, hidden, activation)
    last = layers[-1]
    with _output_precision(hidden):
        return torch.matmul(hidden.to(last["weight"]), last["weight"]) + last["bias"].unsqueeze(-2)


def init_residual(
    generator: torch.Generator,
    inputs: int,
    width: int,
    blocks: int,
    outputs: int,
    expansion: int = 4,
) -> Parameters:
    """Parameters of a residual network (as IDQL's and FISOR's): a layer to `width`, `blocks` of
    `width` to `expansion` times it and back, and a layer to `outputs`."""
    return {
        "first": init_mlp(generator, (inputs, width)),
        "blocks": [
            {
                "norm": init_norm(width),
                "layers": init_mlp(generator, (width, expansion * width, width)),
            }
            for _ in range(blocks)
        ],
        "last": init_mlp(generator, (width, outputs)),
    }


def residual_network(
    parameters: Parameters,
    inputs: Tensor,
    activation: Activation = functional.relu,
    dropout_rate: float = 0.0,
    uniform: Tensor | None = None,
) -> Tensor:
    """Apply a residual network: [..., in] -> [..., out].

    A block adds to its input what it makes of it: dropout, layer norm, a layer, the activation and
    a layer. `uniform` [blocks, ..., width] is what dropout needs in training; without it, as in
    acting, there is none.
    """
    hidden = mlp(parameters["first"], inputs)
    for index, block in enumerate(parameters["blocks"]):
        dropped = hidden if uniform is None else dropout(hidden, dropout_rate, uniform[index])
        normal = layer_norm(block["norm"], dropped)
        hidden = hidden + mlp(block["layers"], normal, activation)
    return mlp(parameters["last"], activation(hidden))


def dropout(hidden: Tensor, rate: float, uniform: Tensor) -> Tensor:
    """Each entry is 0 where its number of `uniform` is below `rate`, else divided by 1 - rate, so
    that its mean stays; nothing changes at rate 0. The numbers are a loss's `Noise`."""
    if rate == 0:
        return hidden
    return torch.where(uniform < rate, 0.0, hidden / (1 - rate))


def is_large(rows: int, width: int) -> bool:
    """Whether one hidden layer's product of `rows` inputs keeps a CPU busy by itself.

    Stacking such products with those of other networks saves nothing: their intermediate results
    leave the cache before they are used again, and a stack of products to a single output is slow.
    How many rows there will be is not known where a policy is exported: then it is not large.
    """
    if isinstance(rows, torch.SymInt):
        return False
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


def _activate_normalised(
    layer: dict[str, Tensor], hidden: Tensor, activation: Activation
) -> Tensor:
    active = _activate(layer_norm(layer, hidden), activation)
    return layer_norm(layer, active, "after_activation")


def _activate(hidden: Tensor, activation: Activation) -> Tensor:
    # A product's result is nobody else's; new memory would cost more than the arithmetic.
    return torch.relu_(hidden) if activation is functional.relu else activation(hidden)


def _unstack(layer: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    parts = [value.unbind() for value in layer.values()]
    return [dict(zip(layer, values, strict=True)) for values in zip(*parts, strict=True)]


def hidden_sizes(inputs: int, hidden_dim: int, hidden_layers: int, outputs: int) -> list[int]:
    """Layer sizes of a perceptron with equal hidden layers."""
    return [inputs, *[hidden_dim] * hidden_layers, outputs]


def gaussian_log_density(value: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log N(value; mean, exp(log_std)^2), summed over the last axis."""
    standardized = (value - mean) * torch.exp(-log_std)
    per_dimension = -0.5 * standardized.square() - log_std - 0.5 * math.log(2 * math.pi)
    return per_dimension.sum(-1)


def gaussian_kl(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, diag std^2) || N(0, I)): [B, a] -> [B]."""
    return 0.5 * (torch.exp(2 * log_std) + mean.square() - 1 - 2 * log_std).sum(-1)


def standard_normal_log_density(value: Tensor) -> Tensor:
    """log N(value; 0, I), summed over the last axis."""
    return -0.5 * (value.square() + math.log(2 * math.pi)).sum(-1)


def detach(parameters: Any) -> Any:
    """The same parameters, closed to gradients."""
    return tree_map(Tensor.detach, parameters)
