"""Refining a latent in a few steps, each by one of three experts or by several (FLRP section 3.3),
for one run."""

import math
from collections.abc import Callable
from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional

EXPERTS = ("safety", "reward", "shared")
REFINEMENT_ORDERS = (*("-".join(order) for order in permutations(EXPERTS)), "random", "none")

Schedule = tuple[tuple[str, ...], ...]


def refinement_schedule(refiner: str, order: str, steps: int) -> Schedule:
    """The experts of each step; several act by the mean of their moves, or in a random order.

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


def random_order_numbers(steps: int) -> int:
    """How many uniform numbers it takes to draw the experts of `steps` steps."""
    return len(EXPERTS) * math.ceil(steps / len(EXPERTS))


def random_order(uniform: Tensor, steps: int) -> Tensor:
    """Experts in a random order, by their number: [..., random_order_numbers(steps)] -> [..., T].

    One permutation follows another, so that three steps in a row from the first on take each
    expert once (figure 3).
    """
    rounds = uniform.reshape(*uniform.shape[:-1], -1, len(EXPERTS))
    return rounds.argsort(-1).reshape(uniform.shape)[..., :steps]


def refinement_path(
    schedule: Schedule, move: Callable[[str, Tensor], Tensor], base: Tensor, choice: Tensor | None
) -> list[Tensor]:
    """u_0 = `base` [B, d], u_1, ..., u_T: u_{t+1} = u_t + f_k(u_t).

    Args:
        schedule: the experts of each step; several move by their mean, or by one that is drawn.
        move: f_k(u), of an expert by its name.
        choice: numbers of the experts [B, T] where they are drawn.
    """
    path = [base]
    for step, experts in enumerate(schedule):
        moves = torch.stack([move(name, path[-1]) for name in experts])
        if choice is None:
            path.append(path[-1] + moves.mean(0))
        else:
            picked = functional.one_hot(choice[..., step], len(experts)).to(moves.dtype)
            path.append(path[-1] + torch.einsum("kbd,bk->bd", moves, picked))
    return path
