"""A trained policy as a program uses it: numpy in, numpy out. Needs torch and numpy alone.

`safesweep export` puts a copy of this file beside an exported policy:

    from policy import Policy

    policy = Policy.load("folder")
    policy.reset()
    action = policy.act(observation)
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

PROGRAM_FILE = "policy.pt2"
DESCRIPTION_FILE = "policy.json"

Tensors = dict[str, torch.Tensor]
Respond = Callable[[torch.Tensor, Tensors, Tensors, torch.Tensor], tuple[torch.Tensor, Tensors]]
"""(observations [E, o], noise, memory, reward and cost of the step before [2, E]) -> actions
[E, a], memory."""


class Policy:
    """One policy of one run.

    Args:
        respond: the network.
        description: what `policy.json` holds: sizes, the noise and the memory that the policy
            needs, and the entropy of its noise.
    """

    def __init__(self, respond: Respond, description: Mapping[str, Any]) -> None:
        self._respond = respond
        self.description = dict(description)
        self.reset()

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The policy that `safesweep export --format torch` wrote to a folder."""
        folder = Path(folder)
        description = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        program = torch.export.load(folder / PROGRAM_FILE)
        return cls(program.module(), description)

    def reset(self, seed: int | None = None) -> None:
        """Begin an episode: the first step, without a memory.

        Args:
            seed: of the policy's noise; by default that of the run's last evaluation, in which the
                actions are then those of the evaluation, for as many observations at once.
        """
        entropy = self.description["noise_entropy"]
        self._entropy = list(entropy) if seed is None else [int(seed)]
        self._step = 0
        self._memory: Tensors | None = None

    def act(
        self, observation: ArrayLike, reward: ArrayLike = 0.0, cost: ArrayLike = 0.0
    ) -> NDArray[np.float32]:
        """The action of the next step, [a] for an observation [o]; [E, a] for E episodes at once,
        [E, o]. Within [-1, 1].

        Args:
            reward: of the step before, for policies that remember; 0 at the first step. A number,
                or [E].
            cost: likewise.

        Raises:
            ValueError: an observation of another size, or another number of episodes than before.
        """
        given = np.asarray(observation, dtype=np.float32)
        size = self.description["observation_dim"]
        if given.ndim not in (1, 2) or given.shape[-1] != size:
            raise ValueError(f"observation: has shape {given.shape}; it must be [{size}]")
        observations = torch.from_numpy(np.array(np.atleast_2d(given)))
        episodes = len(observations)
        memory = self._begin(episodes) if self._memory is None else self._memory
        if any(len(value) != episodes for value in memory.values()):
            raise ValueError(f"observation: {episodes} episodes are not those begun; reset first")
        last = np.stack([np.broadcast_to(np.asarray(x), (episodes,)) for x in (reward, cost)])
        last_step = torch.from_numpy(last.astype(np.float32))
        with torch.no_grad():
            actions, self._memory = self._respond(
                observations, self._noise(episodes), memory, last_step
            )
        self._step += 1
        found: NDArray[np.float32] = actions.numpy()
        return found if given.ndim == 2 else found[0]

    def _begin(self, episodes: int) -> Tensors:
        begun = {}
        for name, value in self.description["memory"].items():
            one = torch.tensor(value["value"], dtype=getattr(torch, value["dtype"]))
            begun[name] = one.repeat(episodes, *[1] * one.dim())
        return begun

    def _noise(self, episodes: int) -> Tensors:
        """As a rollout's: from the entropy and the step alone."""
        sequence = np.random.SeedSequence([*self._entropy, self._step])
        number = int(sequence.generate_state(1, np.uint64)[0]) >> 1
        generator = torch.Generator().manual_seed(number)
        noise = {}
        for name, wanted in self.description["noise"].items():
            draw = torch.randn if wanted["distribution"] == "normal" else torch.rand
            noise[name] = draw((episodes, *wanted["shape"]), generator=generator)
        return noise
