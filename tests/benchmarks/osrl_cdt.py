"""CDT's losses and gradients beside recorded steps of OSRL's own.

    python -m tests.benchmarks.osrl_cdt FILE [--tolerance 2e-4]

FILE is read by `torch.load(path, weights_only=True)` and holds `config`, OSRL's numbers by its
names, and `steps`, each with `batch` (states, actions, returns and costs to go, time steps, mask,
the episode's cost, costs), `metrics` (what was logged) and two `optimizer_steps`, of the model and
of the temperature: `state` by OSRL's parameter names, `scalars`, and the `gradients` of what was
moved, the model's cut to their largest norm.

Prints the largest relative difference of each quantity over the steps, and ends with 1 if one is
above the tolerance. A gradient's is that of the vector of all entries, in the Euclidean norm.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.trainables.components.networks import Parameters
from safesweep.trainables.methods.cdt import CDT, shares_of_steps
from safesweep.trainables.methods.cdt_config import CDTConfig
from safesweep.trainables.methods.method import ProblemSpec, Progress, StepInputs
from safesweep.trainables.training.optimizer import clipped, gradients_of
from tests.benchmarks.measurement import print_table

TOLERANCE = 2e-4
LOGGED = {
    "train/nll": ("log_likelihood", -1.0), "train/ent": ("entropy", 1.0),
    "train/ent_reg": ("temperature", 1.0), "train/act_loss": ("loss/policy", 1.0),
    "train/cost_loss": ("loss/costs", 1.0),
}  # fmt: skip
Quantities = dict[str, tuple[Tensor, Tensor]]
"""Ours and OSRL's, by name."""


def transformer_of(values: Mapping[str, Tensor], blocks: int) -> Parameters:
    """Our transformer from OSRL's parameters, without its prediction of states, of weight 0."""

    def linear(name: str, join: str = ".") -> dict[str, Tensor]:
        return {"weight": values[f"{name}{join}weight"].T, "bias": values[f"{name}{join}bias"]}

    def norm(name: str) -> dict[str, Tensor]:
        return {"scale": values[f"{name}.weight"], "shift": values[f"{name}.bias"]}

    def block(name: str) -> dict[str, Any]:
        return {
            "attention_norm": norm(f"{name}.norm1"),
            "queries_keys_values": [linear(f"{name}.attention.in_proj", "_")],
            "mixed": [linear(f"{name}.attention.out_proj")],
            "layers_norm": norm(f"{name}.norm2"),
            "layers": [linear(f"{name}.mlp.0"), linear(f"{name}.mlp.2")],
        }

    return {
        **{token: [linear(f"{token}_emb")] for token in ("return", "cost", "state", "action")},
        "steps": values["timestep_emb.weight"],
        "first_norm": norm("emb_norm"),
        "blocks": [block(f"blocks.{index}") for index in range(blocks)],
        "last_norm": norm("out_norm"),
        "mean": [linear("action_head.mu")],
        "log_std": [linear("action_head.log_std")],
        "costs": [linear("cost_pred_head")],
    }


def method_of(config: Mapping[str, Any], step: Mapping[str, Any]) -> tuple[CDT, Any]:
    """CDT with OSRL's numbers, and its batched hyperparameters."""
    values = CDTConfig.resolve(
        {
            "hidden_dim": config["embedding_dim"], "hidden_layers": config["num_layers"],
            "attention_heads": config["num_heads"], "context_length": config["seq_len"],
            "gradient_norm": config["clip_grad"], "weight_decay": config["weight_decay"],
            "cost_prediction_weight": config["loss_cost_weight"], "entropy_target": "published",
        }
    )  # fmt: skip
    states, actions = step["batch"][:2]
    spec = ProblemSpec(
        states.shape[-1], actions.shape[-1], config["episode_len"], 1.0, config["cost_limit"]
    )
    numbers = {name: torch.tensor(value) for name, value in values.batched_values().items()}
    return CDT(values, spec), values.hyperparameters_type()(**numbers)


def compare(config: Mapping[str, Any], step: Mapping[str, Any]) -> Quantities:
    """Losses and gradients of one step, ours and recorded."""
    method, hp = method_of(config, step)
    model, temperature = step["optimizer_steps"]
    blocks = config["num_layers"]
    transformer = tree_map(
        lambda leaf: leaf.clone().requires_grad_(True), transformer_of(model["state"], blocks)
    )
    log = torch.tensor(float(model["scalars"]["log_temperature"]), requires_grad=True)
    states, actions, returns, costs_to_go, time_steps, mask, _, costs = step["batch"]
    batch = {
        "observations": states, "actions": actions, "returns_to_go": returns,
        "costs_to_go": costs_to_go, "steps": time_steps.float(), "costs": costs,
        **shares_of_steps(mask.float()),
    }  # fmt: skip
    params = {"transformer": transformer, "temperature": {"log": log}}
    outputs = method.loss(StepInputs(params, {}, batch, hp, {}, Progress(torch.zeros(()), None)))
    assert isinstance(outputs.losses, dict)
    found: Quantities = {
        logged: (sign * outputs.metrics[name].detach(), torch.as_tensor(step["metrics"][logged]))
        for logged, (name, sign) in LOGGED.items()
    }
    total = outputs.losses["transformer"].detach()
    found["train/all_loss"] = (total, torch.as_tensor(step["metrics"]["train/all_loss"]))
    networks = {"transformer": transformer}
    ours = gradients_of({"transformer": outputs.losses["transformer"]}, networks)
    ours = clipped(ours, networks, {"transformer": hp.gradient_norm})
    recorded = tree_leaves(transformer_of(model["gradients"], blocks))
    found["gradient of the model"] = (_flat(ours), _flat(recorded))
    (own,) = torch.autograd.grad(outputs.losses["temperature"], log)
    found["gradient of the temperature"] = (own, temperature["gradients"]["log_temperature"])
    return found


def relative_difference(ours: Tensor, recorded: Tensor) -> float:
    """In the Euclidean norm, relative to the recorded one's."""
    return float((ours.double() - recorded.double()).norm() / recorded.double().norm())


def _flat(leaves: list[Tensor]) -> Tensor:
    return torch.cat([leaf.flatten() for leaf in leaves])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    options = parser.parse_args()
    recording = torch.load(options.file, weights_only=True)
    worst: dict[str, float] = {}
    for step in recording["steps"]:
        for name, pair in compare(recording["config"], step).items():
            worst[name] = max(worst.get(name, 0.0), relative_difference(*pair))
    print_table([{"quantity": name, "difference": f"{value:.1e}"} for name, value in worst.items()])
    return 1 if max(worst.values()) > options.tolerance else 0


if __name__ == "__main__":
    sys.exit(main())
