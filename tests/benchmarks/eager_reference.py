"""A plain eager run of any method, in the usual style of public code: what `training_speed` beats.

One `torch.nn.Module` and one `torch.optim.Adam` a network, the two critics of a pair as two modules
that are called one after the other, one run at a time, a target update parameter by parameter, a
minibatch indexed in every step, and `.item()` of every logged number in every step.

The maths is the method's own: its `loss` is called with modules in the place of parameter
dictionaries, while the functions that apply networks are exchanged for ones that call modules. So
the two cannot drift apart, and the reference is spared the needless work of much public code: no
gradient is taken of networks that are not trained, and values that need none are computed without.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from safesweep.trainables.components import (
    action_vae,
    behaviour_flow,
    cost_feasibility,
    critics,
    cvae,
    diffusion,
    flow_autoencoder,
    flow_matching,
    latent_refiner,
    networks,
    transformer,
)
from safesweep.trainables.components import coupling_flow as flows
from safesweep.trainables.components.networks import _NORM_KEYS
from safesweep.trainables.methods import (
    bcql,
    bearl,
    caps,
    cdt,
    coptidice,
    cpq,
    fisor,
    flp,
    flrp,
    fql,
    ifql,
    iql,
    lagrangian_critics,
    lspc,
    r2pac,
    rebrac,
    safefql,
)
from safesweep.trainables.methods import behavior_cloning as bc
from safesweep.trainables.methods.method import (
    Batch,
    Optimization,
    Phase,
    Progress,
    StepInputs,
)
from safesweep.trainables.training.population import Population

MODULES = (
    action_vae, behaviour_flow, cost_feasibility, critics, cvae, diffusion, flow_autoencoder,
    flow_matching, flows, latent_refiner, networks, transformer, bc, bcql, bearl, caps, cdt,
    coptidice, cpq, fisor, flp, flrp, fql, ifql, iql, lagrangian_critics, lspc, r2pac, rebrac,
    safefql,
)  # fmt: skip


class Perceptron(nn.Module):
    """Linear layers, from the parameters of one network."""

    def __init__(self, layers: list[dict[str, Tensor]]) -> None:
        super().__init__()
        self.linear = nn.ModuleList()
        self.norms = nn.ModuleList()
        self.after = False
        for layer in layers:
            for scale, shift in _NORM_KEYS.values():
                if scale in layer:
                    norm = nn.LayerNorm(len(layer[scale]))
                    norm.weight.data.copy_(layer[scale])
                    norm.bias.data.copy_(layer[shift])
                    self.norms.append(norm)
                    self.after = scale == _NORM_KEYS["after_activation"][0]
            linear = nn.Linear(*layer["weight"].shape)
            linear.weight.data.copy_(layer["weight"].T)
            linear.bias.data.copy_(layer["bias"])
            self.linear.append(linear)

    def forward(self, inputs: Tensor, activation: Any) -> Tensor:
        hidden = inputs
        for index, linear in enumerate(self.linear[:-1]):
            hidden = linear(hidden)
            if self.norms and not self.after:
                hidden = self.norms[index](hidden)
            hidden = activation(hidden)
            if self.norms and self.after:
                hidden = self.norms[index](hidden)
        return self.linear[-1](hidden)


class Frozen:
    """A module of which no gradient is taken, though one may pass through it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.values = {name: value.detach() for name, value in module.named_parameters()}

    def __call__(self, *arguments: Any) -> Any:
        return torch.func.functional_call(self.module, self.values, arguments)


class Pair(nn.Module):
    """The members of an ensemble, one after the other."""

    def __init__(self, layers: list[dict[str, Tensor]]) -> None:
        super().__init__()
        count = len(layers[0]["weight"])
        self.members = nn.ModuleList(
            Perceptron([{name: value[index] for name, value in layer.items()} for layer in layers])
            for index in range(count)
        )

    def forward(self, inputs: Tensor, activation: Any) -> Tensor:
        return torch.stack([member(inputs, activation) for member in self.members])


def as_module(parameters: Any) -> Any:
    """A module (or a list of them, or a bare parameter) for what one network's state holds."""
    if isinstance(parameters, Tensor):
        return nn.Parameter(parameters.clone())
    if isinstance(parameters, dict):
        return {name: as_module(value) for name, value in parameters.items()}
    if parameters and isinstance(parameters[0], dict) and "weight" in parameters[0]:
        return (Pair if parameters[0]["weight"].dim() == 3 else Perceptron)(parameters)
    return [as_module(entry) for entry in parameters]


def leaves(module: Any) -> list[nn.Parameter]:
    """The trained parameters of what `as_module` made."""
    if isinstance(module, nn.Module):
        return list(module.parameters())
    if isinstance(module, nn.Parameter):
        return [module]
    entries = module.values() if isinstance(module, dict) else module
    return [leaf for entry in entries for leaf in leaves(entry)]


def apply(module: Any, inputs: Tensor, activation: Any = functional.relu) -> Tensor:
    """Stands for `mlp` and `ensemble_mlp`."""
    result: Tensor = module(inputs, activation)
    return result


def frozen(parameters: Any) -> Any:
    """Stands for `detach`."""
    return tree_map(
        lambda leaf: Frozen(leaf) if isinstance(leaf, nn.Module) else leaf.detach(), parameters
    )


def judged_again(method: Any, state: Any, batch: Batch) -> Any:
    """Stands for R2PAC's `judged`: as in the paper's algorithm, in every step."""
    with torch.no_grad():
        return method.judge(state, batch["observations"], batch["actions"])


def weighed_again(method: Any, state: Any, batch: Batch, hp: Any) -> Any:
    """Stands for FISOR's `weights_of`: as in the public code, in every step."""
    with torch.no_grad():
        return method.weigh(state, batch["observations"], batch["actions"], hp)


@contextlib.contextmanager
def networks_are_modules() -> Iterator[None]:
    """While this is open, methods call modules."""
    replacements = {"mlp": apply, "ensemble_mlp": apply, "detach": frozen}
    with contextlib.ExitStack() as stack:
        for module in MODULES:
            for name, function in replacements.items():
                if hasattr(module, name):
                    stack.enter_context(patch.object(module, name, function))
        stack.enter_context(patch.object(r2pac.R2PAC, "judged", judged_again))
        stack.enter_context(patch.object(fisor.FISOR, "weights_of", weighed_again))
        yield


class EagerRun:
    """One run that starts where a member of a population is."""

    def __init__(self, population: Population, member: int, phase: Phase) -> None:
        state = population.member_state(member)
        self.method, self.phase, self.data = population.method, phase, population.data
        self.rows = population.training_rows
        # Numbers stay on the processor, where reading one does not wait for a GPU.
        self.hp = tree_map(lambda value: value[member].cpu(), population.hp)
        with population.device:
            self.state = {
                **state,
                "params": {name: as_module(value) for name, value in state["params"].items()},
                "target": {
                    name: as_module(value) for name, value in state.get("target", {}).items()
                },
            }
        for target in self.state["target"].values():
            for leaf in leaves(target):
                leaf.requires_grad_(False)
        # Networks that this phase leaves alone are switched off, as careful public code does.
        for name, network in self.state["params"].items():
            for leaf in leaves(network):
                leaf.requires_grad_(name in phase.trains)
        self.taken = 0
        self.steps = None
        if population.configs[member].looks_at_budget:
            ends = {part.name: end - begin for part, begin, end in population._boundaries}
            self.steps = torch.tensor(float(ends[phase.name]))
        chosen = self.optimization()
        # AdamW's only where there is a decay: public code has the plain one otherwise.
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            name: torch.optim.AdamW(leaves(network), weight_decay=float(chosen.weight_decays[name]))
            if name in chosen.weight_decays
            else torch.optim.Adam(leaves(network))
            for name in phase.trains
            if leaves(network := self.state["params"][name])
        }
        self.log: dict[str, float] = {}

    def progress(self) -> Progress:
        """How far the phase is."""
        return Progress(torch.tensor(float(self.taken)), self.steps)

    def optimization(self) -> Optimization:
        """How the networks move in the next step."""
        return self.method.optimization(self.phase.name, self.hp, self.progress())

    def draw(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A minibatch and noise."""
        device = next(iter(self.data.values())).device
        rows = self.rows[torch.randint(len(self.rows), (self.method.static.batch_size,))].to(device)
        noise = {
            name: (torch.randn if noise.distribution == "normal" else torch.rand)(
                noise.shape, device=device
            )
            for name, noise in self.method.noise(self.phase.name).items()
        }
        return self.method.gather(self.data, rows), noise

    def step(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> None:
        """One gradient step, logged."""
        params = self.state["params"]
        inputs = StepInputs(params, self.state, batch, self.hp, noise, self.progress())
        losses, metrics, moved = self.method.losses[self.phase.name](inputs)
        moving = self.phase.moving(self.taken)
        optimizers = {name: own for name, own in self.optimizers.items() if name in moving}
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        if isinstance(losses, Tensor):
            losses.backward()
        else:
            for name, optimizer in optimizers.items():
                inputs_of = optimizer.param_groups[0]["params"]
                losses[name].backward(inputs=inputs_of, retain_graph=True)
        chosen = self.optimization()
        for name, optimizer in optimizers.items():
            group = optimizer.param_groups[0]
            group["lr"] = float(chosen.learning_rates.get(name, self.hp.learning_rate))
            if name in chosen.gradient_norms:
                largest = float(chosen.gradient_norms[name])
                torch.nn.utils.clip_grad_norm_(group["params"], largest)
            optimizer.step()
        for name, target in self.state["target"].items():
            if name in moving:
                own = chosen.target_rates.get(name)
                rate = float(self.hp.target_update_rate if own is None else own)
                for slow, fast in zip(leaves(target), leaves(params[name]), strict=True):
                    slow.data.copy_(rate * fast.data + (1 - rate) * slow.data)
        self.state["moving"] = {**self.state.get("moving", {}), **moved}
        self.taken += 1
        self.log = {name: value.item() for name, value in metrics.items()}
