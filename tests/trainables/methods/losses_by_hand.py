"""One step's losses of a method of a few numbers, on a minibatch of one's own."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.trainables.components.networks import constant_output
from safesweep.trainables.methods.method import (
    Method,
    ProblemSpec,
    State,
    StepInputs,
    StepOutputs,
)
from safesweep.trainables.methods.registry import ALGORITHMS
from tests.trainables.methods.step_inputs import step_inputs

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=10, reward_scale=1.0, cost_limit=1.0)
SMALL = {"hidden_dim": 8, "batch_size": 6}


class Example:
    """A method, its fresh state, a minibatch of six transitions of which the last two end, and
    noise; tests change what they are about."""

    def __init__(self, name: str, **settings: Any) -> None:
        config = ALGORITHMS[name].config_class.resolve({**SMALL, **settings})
        self.method: Method = ALGORITHMS[name](config, SPEC)
        self.hp = config.hyperparameters_type()(
            **{key: torch.tensor(value) for key, value in config.batched_values().items()}
        )
        generator = torch.Generator().manual_seed(0)
        self.method.prepare(self.data(generator))
        self.state: State = tree_map(torch.clone, self.method.init(generator))
        self.batch = self.data(generator)
        self.noise = {
            key: (torch.randn if noise.distribution == "normal" else torch.rand)(
                noise.shape, generator=generator
            )
            for key, noise in self.method.noise("train").items()
        }

    def data(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Six transitions; every other one costs."""
        states, after = torch.randn(2, 6, 3, generator=generator)
        ends = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0])
        return {
            "observations": states,
            "next_observations": after,
            "actions": 1.8 * torch.rand(6, 2, generator=generator) - 0.9,
            "rewards": torch.randn(6, generator=generator),
            "costs": torch.tensor([0.0, 1.0] * 3),
            "terminals": ends,
            "timeouts": torch.zeros(6),
        }

    def constant(self, network: str, value: float) -> None:
        """Let a network and its slow copy give one number everywhere."""
        for part in ("params", "target"):
            if network in self.state.get(part, {}):
                layers = self.state[part][network]
                self.state[part][network] = constant_output(layers, torch.tensor(value))

    def inputs(self) -> StepInputs:
        """What the losses are made of, networks open to gradients."""
        for leaf in tree_leaves(self.state["params"]):
            leaf.requires_grad_(True)
        return step_inputs(self.state["params"], self.state, self.batch, self.hp, self.noise)

    def outputs(self) -> StepOutputs:
        """The losses."""
        return self.method.losses["train"](self.inputs())

    def gradient(self, network: str) -> Tensor:
        """The joint loss's gradient of one network, all numbers of it."""
        losses = self.outputs().losses
        assert isinstance(losses, Tensor)
        leaves = tree_leaves(self.state["params"][network])
        gradients = torch.autograd.grad(losses, leaves, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])


def squared_errors(values: float, wanted: Tensor, networks: int) -> float:
    """Mean squared error of as many networks that all say `values`, summed."""
    return networks * float((values - wanted).square().mean())


def ends_of(batch: Mapping[str, Tensor], published: bool) -> Tensor:
    """Where nothing is bootstrapped."""
    return torch.zeros_like(batch["terminals"]) if published else batch["terminals"]
