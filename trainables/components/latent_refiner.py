"""Refining a latent in a few steps, each by one of three experts or by several (FLRP section 3.3),
for one run."""

from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

EXPERTS = ("safety", "reward", "shared")
REFINEMENT_ORDERS = (*("-".join(order) for order in permutations(EXPERTS)), "random", "none")

Schedule = tuple[tuple[str, ...], ...]


def refinement_schedule(refiner: str, order: str, steps: int) -> Schedule:
    """The experts of each step; several act by the mean of their moves, or by a random pick.

    The last expert of the order acts last and the other two alternate before it: by default
    safety first, shared last (section 3.3), so one step is the shared expert alone. The averaged
    refiner takes a single step (table 9b).
    """
    if steps == 0 or order == "none":
        return ()
    if refiner == "unified":
        return (("unified",),) * steps
    if refiner == "averaged":
        return (EXPERTS,)
    if order == "random":
        return (EXPERTS,) * steps
    first, second, last = order.split("-")
    return (*(((first, second)[t % 2],) for t in range(steps - 1)), (last,))


def refine(
    schedule: Schedule, move: Callable[[str, Tensor], Tensor], base: Tensor, choice: Tensor | None
) -> Tensor:
    """u_T from u_0 = `base` [B, d]: u_{t+1} = u_t + f_k(u_t).

    Args:
        schedule: the experts of each step; several move by their mean, or by one that is drawn.
        move: f_k(u), of an expert by its name.
        choice: uniform numbers [B, T] where experts are drawn.
    """
    for step, experts in enumerate(schedule):
        moves = torch.stack([move(name, base) for name in experts])
        if choice is None:
            base = base + moves.mean(0)
        else:
            chosen = (choice[..., step] * len(experts)).long()
            picked = functional.one_hot(chosen, len(experts)).to(moves.dtype)
            base = base + torch.einsum("kbd,bk->bd", moves, picked)
    return base
