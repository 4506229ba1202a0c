"""Flow matching with straight lines (R2PAC eq. 19 to 21), for one run, under any condition.

A velocity field v(x, i, c) carries noise at i = 0 to data at i = 1. The condition c is a plain
vector (a state, a state and an optimality label, ...); a field without one takes `condition_dim` 0
and conditions [B, 0]. Kept here rather than taken from a library: it is a few functions over plain
tensors, so that it runs under `vmap` without module state.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.networks import Activation, Layers, hidden_sizes, init_mlp, mlp

Velocity = Callable[[Tensor, float], Tensor]


def init_velocity_field(
    generator: torch.Generator,
    value_dim: int,
    condition_dim: int,
    hidden_dim: int,
    hidden_layers: int,
    layer_norm: str = "none",
) -> Layers:
    """Parameters of a perceptron v(x [d], i, c) -> [d]."""
    sizes = hidden_sizes(value_dim + 1 + condition_dim, hidden_dim, hidden_layers, value_dim)
    return init_mlp(generator, sizes, layer_norm=layer_norm)


def velocity(
    field: Layers,
    value: Tensor,
    time: Tensor | float,
    condition: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """v(x, i, c): [..., B, d], time a number or [..., B], condition [B, c] -> [..., B, d].

    Leading axes of `value` (candidates, samples) share the condition.
    """
    leading = value.shape[:-1]
    if not isinstance(time, Tensor):
        time = torch.full_like(value[..., 0], time)
    column = time.expand(leading).unsqueeze(-1)
    inputs = torch.cat((value, column, condition.expand(*leading, condition.shape[-1])), dim=-1)
    return mlp(field, inputs, activation)


def interpolate(start: Tensor, data: Tensor, time: Tensor) -> Tensor:
    """The point (1 - i) x0 + i x1 of the straight line (R2PAC eq. 20); `time` [..., B]."""
    weight = time.unsqueeze(-1)
    return (1 - weight) * start + weight * data


def flow_matching_error(
    field: Layers,
    data: Tensor,
    start: Tensor,
    time: Tensor,
    condition: Tensor,
    activation: Activation = functional.relu,
) -> Tensor:
    """|v(x_i, i, c) - (x1 - x0)|^2 of each sample (R2PAC eq. 19, before its mean): -> [..., B].

    Args:
        data: x1 [..., B, d].
        start: x0 [..., B, d], standard normal.
        time: i [..., B], uniform on [0, 1].
        condition: c [B, c].
    """
    predicted = velocity(field, interpolate(start, data, time), time, condition, activation)
    return (predicted - (data - start)).square().sum(-1)


def guided_velocity(
    field: Layers,
    value: Tensor,
    time: Tensor | float,
    condition: Tensor,
    null_condition: Tensor,
    scale: Tensor | float,
    activation: Activation = functional.relu,
) -> Tensor:
    """v(x, i, null) + w (v(x, i, c) - v(x, i, null)), classifier-free guidance (R2PAC eq. 21).

    A scale w of 0 is the unconditional field and 1 the conditional one; more overshoots it.
    """
    free = velocity(field, value, time, null_condition, activation)
    conditional = velocity(field, value, time, condition, activation)
    return free + scale * (conditional - free)


def integrate(field: Velocity, start: Tensor, steps: int) -> Tensor:
    """x1 from x0 by Euler's method in `steps` steps of 1 / steps; `field(x, i) -> dx/di`.

    R2PAC's algorithm 2 prints another step: with it the time would not end at 1.
    """
    value = start
    for index in range(steps):
        value = value + field(value, index / steps) / steps
    return value


def integrate_inverse(field: Velocity, end: Tensor, steps: int, corrections: int = 0) -> Tensor:
    """x0 from x1: Euler's method backwards in time, which errs by O(1 / steps).

    Each of the `corrections` is a fixed-point iteration of x_k = x_{k+1} - v(x_k, i_k) / steps;
    they converge to the exact inverse of `integrate` with as many steps if v's Lipschitz constant
    is below `steps`.
    """
    value = end
    for index in reversed(range(steps)):
        after = value
        value = after - field(after, (index + 1) / steps) / steps
        for _ in range(corrections):
            value = after - field(value, index / steps) / steps
    return value


def generate(
    field: Layers,
    start: Tensor,
    condition: Tensor,
    steps: int,
    activation: Activation = functional.relu,
) -> Tensor:
    """Data from noise [..., B, d] under a condition [B, c]; see `integrate`."""

    def flow(value: Tensor, time: float) -> Tensor:
        return velocity(field, value, time, condition, activation)

    return integrate(flow, start, steps)


def invert(
    field: Layers,
    end: Tensor,
    condition: Tensor,
    steps: int,
    corrections: int = 0,
    activation: Activation = functional.relu,
) -> Tensor:
    """The noise that becomes data [..., B, d] under a condition [B, c]; see `integrate_inverse`."""

    def flow(value: Tensor, time: float) -> Tensor:
        return velocity(field, value, time, condition, activation)

    return integrate_inverse(flow, end, steps, corrections)
