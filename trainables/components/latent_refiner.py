"""Refining a latent in a few steps, each by one of three experts or by several (FLRP section 3.3),
for one run."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.choices import EXPERTS
from safesweep.trainables.components.networks import Parameters, detach, mlp

Schedule = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class LatentRefiner:
    """The refiner of section 3.3: from u_0 ~ N(0, I), u_{t+1} = u_t + f_k(s, u_t), k one of the
    experts, for t = 0, ..., T - 1.

    The equations of the losses are of u_T. Experts that learn `at_each_step` make the last step of
    a path that is 0 to `visited_steps` long instead, so that they can be used after any number of
    steps, as figure 4 does.

    Attributes:
        kind: `decoupled`, experts in turn; `unified`, one network; `averaged`, the experts' mean.
        order: one of `REFINEMENT_ORDERS`.
        steps: T.
        longest: the most steps that it is asked to act with, T or more.
        at_each_step: whether experts learn their step from wherever experts lead, or all of them
            together from the end of the T steps.
    """

    kind: str
    order: str
    steps: int
    longest: int
    at_each_step: bool

    @property
    def experts(self) -> tuple[str, ...]:
        """By name."""
        return ("unified",) if self.kind == "unified" else EXPERTS

    @property
    def whole_expert(self) -> str:
        """The expert that minimizes all of eq. 17: the one that acts last by default."""
        return self.experts[-1]

    @property
    def networks(self) -> tuple[str, ...]:
        """The experts' networks, f_k."""
        return tuple(expert_network(expert) for expert in self.experts)

    def schedule_of(self, steps: int) -> Schedule:
        """The experts of each of some steps of refinement."""
        return refinement_schedule(self.kind, self.order, steps)

    @cached_property
    def schedule(self) -> Schedule:
        """The experts of each of the T steps; none where nothing refines."""
        return self.schedule_of(self.steps)

    @property
    def visited_steps(self) -> int:
        """How many steps a latent may have been refined when an expert learns to move it."""
        return self.longest - 1 if self.at_each_step else max(len(self.schedule) - 1, 0)

    def numbers_of(self, steps: int) -> int:
        """How many uniform numbers the experts of some steps are drawn with: 0 but in a random
        order."""
        return random_order_numbers(steps) if self.order == "random" else 0

    def refine(
        self, params: Parameters, observations: Tensor, noise: Mapping[str, Tensor], steps: int
    ) -> Tensor:
        """u_T [B, d] for T = `steps`.

        Args:
            observations: [B, o].
            noise: `base`, u_0 [B, d]; in a random order `choice`, uniform, [B, `numbers_of`].
        """
        return self._path(params, observations, noise, self.schedule_of(steps), steps)[-1]

    def expert_ends(
        self, params: Parameters, observations: Tensor, noise: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Where the losses of each expert look at a latent [B, d].

        Args:
            noise: as of `refine`; at each step also `visit` [B], uniform, which draws how many
                steps precede the one that is learned.
        """
        if not self.at_each_step or self.kind == "averaged":
            end = self.refine(params, observations, noise, len(self.schedule))
            return dict.fromkeys(self.experts, end)
        steps = self.visited_steps
        schedule = self.schedule_of(steps + 1)[:-1]
        visited = torch.stack(self._path(detach(params), observations, noise, schedule, steps))
        reached = functional.one_hot((noise["visit"] * len(visited)).long(), len(visited))
        start = torch.einsum("kbd,bk->bd", visited, reached.to(visited.dtype)).detach()
        return {
            expert: start + expert_move(params, observations, expert, start)
            for expert in self.experts
        }

    def _path(
        self,
        params: Parameters,
        observations: Tensor,
        noise: Mapping[str, Tensor],
        schedule: Schedule,
        steps: int,
    ) -> list[Tensor]:
        """u_0, u_1, ... along a schedule."""
        choice = noise.get("choice")
        order = None if choice is None else random_order(choice, steps)
        move = partial(expert_move, params, observations)
        return refinement_path(schedule, move, noise["base"], order)


def expert_network(expert: str) -> str:
    """The name of an expert's network."""
    return f"{expert}_expert"


def expert_move(params: Parameters, observations: Tensor, expert: str, base: Tensor) -> Tensor:
    """f_k(s, u), the step of one expert: [B, o], [B, d] -> [B, d]."""
    return mlp(params[expert_network(expert)], torch.cat((observations, base), dim=-1))


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
            # Not `one_hot`, which looks at its values and cannot be differentiated around.
            picked = choice[..., step, None] == torch.arange(len(experts), device=choice.device)
            path.append(path[-1] + torch.einsum("kbd,bk->bd", moves, picked.to(moves.dtype)))
    return path
