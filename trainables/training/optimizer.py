"""Gradient steps of a population: every member has its own step size, moments and gradients.

`torch.optim.Adam` takes one step size for all of its tensors, which a population does not have.
Parameters are stacked leaves [P, ...]; a member's loss touches its own slice alone, so one
backward pass of the summed losses gives every member its own gradient.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

FIRST_MOMENT_DECAY = 0.9
SECOND_MOMENT_DECAY = 0.999
EPSILON = 1e-8


def init_adam(parameters: Any) -> dict[str, Any]:
    """Moments of Adam (Kingma and Ba, 2014) for stacked `parameters`, and its step count."""
    return {
        "first_moment": tree_map(torch.zeros_like, parameters),
        "second_moment": tree_map(torch.zeros_like, parameters),
        "count": 0,
    }


def adam_(
    parameters: Any,
    gradients: list[Tensor],
    state: dict[str, Any],
    learning_rate: Tensor | list[Tensor],
) -> None:
    """One step of Adam with bias correction, in place; `learning_rate` is [P], for all leaves or
    one a leaf.

    Parameters of a single run without the members' axis take a `learning_rate` without one; on a
    CPU that is a single pass over each of them.
    """
    leaves = tree_leaves(parameters)
    first, second = (tree_leaves(state["first_moment"]), tree_leaves(state["second_moment"]))
    state["count"] += 1
    rates = [learning_rate] if isinstance(learning_rate, Tensor) else learning_rate
    if rates[0].dim() == 0 and rates[0].device.type == "cpu":
        count = torch.tensor(float(state["count"]))
        together = len(leaves) if isinstance(learning_rate, Tensor) else 1
        for index, rate in enumerate(rates):
            part = slice(index, index + together)
            torch._fused_adam_(
                leaves[part], gradients[part], first[part], second[part], [],
                [count] * together, lr=rate, beta1=FIRST_MOMENT_DECAY, beta2=SECOND_MOMENT_DECAY,
                weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
        return
    correction = (1 - SECOND_MOMENT_DECAY ** state["count"]) ** 0.5
    step_sizes = [rate / (1 - FIRST_MOMENT_DECAY ** state["count"]) for rate in rates]
    if isinstance(learning_rate, Tensor):
        step_sizes *= len(leaves)
    torch._foreach_lerp_(first, gradients, 1 - FIRST_MOMENT_DECAY)
    torch._foreach_mul_(second, SECOND_MOMENT_DECAY)
    torch._foreach_addcmul_(second, gradients, gradients, 1 - SECOND_MOMENT_DECAY)
    scale = torch._foreach_sqrt(second)
    torch._foreach_div_(scale, correction)
    torch._foreach_add_(scale, EPSILON)
    change = torch._foreach_div(first, scale)
    torch._foreach_mul_(
        change, [per_member(step, leaf) for step, leaf in zip(step_sizes, leaves, strict=True)]
    )
    torch._foreach_sub_(leaves, change)


def adam_of_some_(
    networks: dict[str, Any],
    gradients: list[Tensor],
    state: dict[str, Any],
    learning_rate: Tensor | list[Tensor],
    every: Mapping[str, int],
) -> None:
    """As `adam_`, of those `networks` that move in this step. The state is that of all; the count
    of its steps that a network has taken itself is by `every`, 1 where it is not named."""
    for name, leaves, part in _by_network(networks):
        own = {
            "first_moment": state["first_moment"][name],
            "second_moment": state["second_moment"][name],
            "count": (state["count"] + 1) // every.get(name, 1) - 1,
        }
        rate = learning_rate if isinstance(learning_rate, Tensor) else learning_rate[part]
        if leaves:
            adam_(networks[name], gradients[part], own, rate)
    state["count"] += 1


def decay_(
    parameters: dict[str, Any],
    learning_rate: Tensor | list[Tensor],
    decays: Mapping[str, Tensor],
) -> None:
    """Shrink the networks that have a decay by learning rate times decay, in place: AdamW's way
    (Loshchilov and Hutter, 2019), before Adam's step."""
    for name, leaves, part in _by_network(parameters):
        if name in decays:
            if isinstance(learning_rate, Tensor):
                rates = [learning_rate] * len(leaves)
            else:
                rates = learning_rate[part]
            kept = [1 - rate * decays[name] for rate in rates]
            if rates and rates[0].dim() == 0:
                # Members that step side by side are views of one tensor: what one of them changes
                # must not count as a change of what another one's gradient is made of.
                leaves = [leaf.data for leaf in leaves]
            torch._foreach_mul_(
                leaves, [per_member(k, leaf) for k, leaf in zip(kept, leaves, strict=True)]
            )


def clipped(
    gradients: list[Tensor], networks: dict[str, Any], largest: Mapping[str, Tensor]
) -> list[Tensor]:
    """The gradients of the networks' leaves; that of a network with a `largest` norm [P] is scaled
    down to it, each member's by its own norm over all leaves of the network."""
    found: list[Tensor] = []
    for name, _, part in _by_network(networks):
        own = gradients[part]
        if name in largest and own:
            limit = largest[name]
            squares = [leaf.square().reshape(*limit.shape, -1).sum(-1) for leaf in own]
            norm = torch.stack(squares).sum(0).sqrt()
            # No division by a norm of zero.
            scale = (limit / norm.clamp(min=1e-12)).clamp(max=1.0)
            own = [leaf * per_member(scale, leaf) for leaf in own]
        found += own
    return found


def one_a_leaf(
    values: Mapping[str, Tensor], networks: dict[str, Any], otherwise: Tensor
) -> list[Tensor]:
    """For each leaf of the networks its network's value, or what holds otherwise."""
    return [
        values.get(name, otherwise) for name, leaves, _ in _by_network(networks) for _ in leaves
    ]


def _by_network(networks: dict[str, Any]) -> Iterator[tuple[str, list[Tensor], slice]]:
    """Name and leaves of each network, and where these are among the leaves of all."""
    first = 0
    for name, network in networks.items():
        leaves = tree_leaves(network)
        yield name, leaves, slice(first, first + len(leaves))
        first += len(leaves)


def polyak_(target: Any, online: Any, rate: Tensor) -> None:
    """Move the target a share `rate` [P], or [] for one run, towards `online`, in place."""
    slow, fast = tree_leaves(target), tree_leaves(online)
    torch._foreach_lerp_(slow, fast, [per_member(rate, leaf) for leaf in slow])


def gradients_of(losses: Tensor | dict[str, Tensor], networks: dict[str, Any]) -> list[Tensor]:
    """Gradients of stacked losses [P], in the order of the networks' leaves.

    One tensor of losses reaches every network; a dictionary gives each network its own.
    """
    if isinstance(losses, Tensor):
        return list(
            torch.autograd.grad(losses.sum(), tree_leaves(networks), materialize_grads=True)
        )
    gradients: list[Tensor] = []
    for index, (name, network) in enumerate(networks.items()):
        last = index == len(networks) - 1
        gradients += torch.autograd.grad(
            losses[name].sum(), tree_leaves(network), retain_graph=not last, materialize_grads=True
        )
    return gradients


def differentiable(networks: dict[str, Any]) -> dict[str, Any]:
    """The same parameters as leaves of a new autograd graph, sharing their memory."""
    leaves, structure = tree_flatten(networks)
    fresh = [leaf.detach().requires_grad_(True) for leaf in leaves]
    parameters: dict[str, Any] = tree_unflatten(fresh, structure)
    return parameters


def per_member(values: Tensor, like: Tensor) -> Tensor:
    """Shape [P] numbers so that they broadcast over the members' axis of `like`; [] stays []."""
    if values.dim() == 0:
        return values
    return values.reshape(-1, *[1] * (like.dim() - 1))
