"""Policies of a population as episodes are played with them: many members and episodes at once."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.trainables.methods.method import LastStep, Memory, Method, Noise, ProblemSpec
from safesweep.trainables.tasks.task import Task

DrawNoise = Callable[[int, slice, slice], Mapping[str, Tensor]]
"""(step index, which of the members, which of the episodes) -> noise [M, E, ...] by name."""


def task_problem(task: Task, cost_limit: float) -> ProblemSpec:
    """What a method is told of a task, at a cost limit."""
    return ProblemSpec(
        observation_dim=task.observation_dim,
        action_dim=task.action_dim,
        horizon=task.horizon,
        reward_scale=task.unit_scale,
        cost_limit=cost_limit,
        cost_limits=task.cost_limits,
    )


class Policy:
    """One policy of several members: `policy(observations, step, members, episodes) -> actions`.

    A function of its arguments. What a policy remembers of an episode is one of them: a rollout
    takes it from `begin`, gives it to `respond`, and gets it back. Called without it, the policy
    acts as in the first step of an episode.

    Args:
        name: one of the method's policies.
        state: what the policy needs of the members' states, stacked [P, ...].
        hp: the members' hyperparameters, each [P].
        draw: noise of a step, the same whenever it is asked for.
    """

    def __init__(
        self,
        method: Method,
        name: str,
        state: Any,
        hp: Any,
        draw: DrawNoise,
        device: torch.device,
    ) -> None:
        self.method, self.name, self.draw, self.device = method, name, draw, device
        self.has_memory = bool(method.begin_episode(name, tree_map(lambda value: value[0], hp)))

        @cache
        def part(first: int | None, last: int | None) -> tuple[Any, Any]:
            some: tuple[Any, Any] = tree_map(lambda leaf: leaf[first:last], (state, hp))
            return some

        self._part = part

    def __call__(
        self,
        observations: NDArray[Any],
        step: int,
        members: slice = slice(None),
        episodes: slice = slice(None),
    ) -> NDArray[Any]:
        """Actions [M, E, a] at `observations` [M, E, o]."""
        first = np.zeros(observations.shape[:2], dtype=np.float32)
        memory = self.begin(members, first.shape)
        if memory is not None:
            actions, _ = self.respond(observations, step, members, episodes, memory, first, first)
            return actions

        def one(state: Any, observations: Tensor, hp: Any, noise: Any) -> Tensor:
            return self.method.act(self.name, state, observations, hp, noise)

        return _as_actions(self._ask(one, observations, step, members, episodes))

    def begin(self, members: slice, shape: tuple[int, ...]) -> Memory | None:
        """What is remembered at the start of `shape` [M, E] episodes; None without a memory."""
        if not self.has_memory:
            return None
        _, hp = self._part(members.start, members.stop)

        def one(hp: Any) -> Memory:
            return self.method.begin_episode(self.name, hp)

        with torch.no_grad():
            begun = over_members(one, shape[0])(hp)
        return {
            name: value.to(self.device).unsqueeze(1).repeat(1, shape[1], *[1] * (value.dim() - 1))
            for name, value in begun.items()
        }

    def respond(
        self,
        observations: NDArray[Any],
        step: int,
        members: slice,
        episodes: slice,
        memory: Memory,
        rewards: NDArray[Any],
        costs: NDArray[Any],
    ) -> tuple[NDArray[Any], Memory]:
        """Actions [M, E, a], and the memory to give at the next step.

        Args:
            rewards: of the step before, [M, E]; 0 at the first.
            costs: likewise.
        """
        last = LastStep(
            *(torch.as_tensor(x, dtype=torch.float32, device=self.device) for x in (rewards, costs))
        )

        def one(
            state: Any, observations: Tensor, hp: Any, noise: Any, memory: Memory, last: LastStep
        ) -> tuple[Tensor, Memory]:
            return self.method.act_with_memory(
                self.name, state, observations, hp, noise, memory, last
            )

        actions, after = self._ask(one, observations, step, members, episodes, memory, last)
        return _as_actions(actions), after

    def _ask(
        self,
        function: Callable[..., Any],
        observations: NDArray[Any],
        step: int,
        members: slice,
        episodes: slice,
        *further: Any,
    ) -> Any:
        noise = {
            name: value.to(self.device)
            for name, value in self.draw(step, members, episodes).items()
        }
        with torch.no_grad():
            state, hp = self._part(members.start, members.stop)
            given = torch.as_tensor(observations, device=self.device)
            return over_members(function, len(observations))(state, given, hp, noise, *further)


def _as_actions(actions: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = torch.nan_to_num(actions).clamp(-1, 1).cpu().numpy()
    return found


def over_members(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """Apply a function of one run to stacked arguments; one member alone needs no `vmap`."""
    if size > 1:
        return vmap(function)

    def alone(*arguments: Any) -> Any:
        result = function(*tree_map(lambda leaf: leaf.squeeze(0), arguments))
        return tree_map(lambda leaf: leaf.unsqueeze(0), result)

    return alone


def draw_noise(noise: Noise, leading: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers of shape [*leading, *noise.shape]."""
    draw = torch.randn if noise.distribution == "normal" else torch.rand
    return draw((*leading, *noise.shape), generator=generator)


class Watched(dict[str, Any]):
    """Nested dictionaries that note which of their entries are looked up."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(
            {key: Watched(value) if isinstance(value, dict) else value
             for key, value in content.items()}
        )  # fmt: skip
        self._seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self._seen.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._seen.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        self._seen.update(super().keys())
        return super().values()

    def items(self) -> Any:
        self._seen.update(super().keys())
        return super().items()

    def looked_up(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of `content` at the places that were looked up; of a dictionary that was
        taken and never looked into, all."""
        found = {}
        for key in content:
            if key in self._seen:
                inner = dict.__getitem__(self, key)
                looked_into = isinstance(inner, Watched) and inner._seen
                found[key] = inner.looked_up(content[key]) if looked_into else content[key]
        return found


def looked_at(method: Method, policy: str, state: Any, hp: Any) -> Watched:
    """One run's state after a policy has acted with it: what it needs is what it looked up; most
    of a state is for training.

    Args:
        state: without the members' axis.
        hp: the run's batched hyperparameters, each [].
    """
    watched = Watched(state)
    device = next(leaf.device for leaf in tree_leaves(state) if isinstance(leaf, Tensor))
    observation = torch.zeros((1, method.spec.observation_dim), device=device)
    noise = {
        key: torch.zeros((1, *noise.shape), device=device)
        for key, noise in method.act_noise(policy).items()
    }
    memory = {
        key: value.to(device).unsqueeze(0)
        for key, value in method.begin_episode(policy, hp).items()
    }
    with torch.no_grad():
        if memory:
            last = LastStep(*torch.zeros((2, 1), device=device))
            method.act_with_memory(policy, watched, observation, hp, noise, memory, last)
        else:
            method.act(policy, watched, observation, hp, noise)
    return watched
