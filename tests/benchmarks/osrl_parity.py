"""Our losses and gradients beside recorded steps of OSRL's own algorithms, quantity by quantity.

    python -m tests.benchmarks.osrl_parity FOLDER [--tolerance 1e-5] [--json FILE]

FOLDER holds recordings as `bc.pt`, `bcql.pt`, `bearl.pt`, `cpq.pt`, `coptidice.pt`, `cdt.pt` (which
`tests.benchmarks.osrl_cdt` reads, to a tolerance of 2e-4); a name may go on after the method's
(`bcql-2.pt`). Each is read by `torch.load(path, weights_only=True)` and holds

* `config`: the numbers that OSRL ran with, by OSRL's names;
* `steps`, each with `batch` (s, s', a, r, c, d; COptiDICE: and which are initial), `random` (every
  random tensor in the order drawn, as name and tensor), `scalars` (what moved without a network,
  before the step), `metrics` (what was logged), and `optimizer_steps`: for each in turn the whole
  `state` by OSRL's parameter names, where `_old` is a slow copy, and the `gradients` of what it
  moved.

OSRL moves its networks in turn, ours are moved at once: each loss and gradient is compared at the
state that OSRL took it at. A difference is relative to what is recorded: a gradient's is that of
the vector of all entries of what an optimizer step moves, in the Euclidean norm. A multiplier that
a controller moves is the difference of larger numbers; its difference is relative to these. Of
COptiDICE neither the share of initial steps nor the deviations of the data are in the layout:
unless `config` has `initial_share`, `observations_std` and `actions_std`, they are fitted to the
recording (the share to nu's gradient, the deviations to one gradient of the policy), and what was
fitted is checked by all else. Its gradients of chi and nu are differences of larger numbers too: in
float64 they are 1.2e-5 and 1.3e-5 from what OSRL recorded in float32. So an ensemble's networks are
applied one after the other here, as OSRL does and as ours are where they are large: then they round
alike.

Prints the largest difference of each quantity over the steps, and ends with 1 if one is above the
tolerance.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.trainables.components import networks
from safesweep.trainables.components.squashed_gaussian import unsquashed_distribution
from safesweep.trainables.methods.method import (
    Method,
    ProblemSpec,
    Progress,
    StepInputs,
    StepOutputs,
)
from safesweep.trainables.methods.registry import ALGORITHMS
from tests.benchmarks import osrl_cdt
from tests.benchmarks.measurement import add_json_option, print_table, write_json

TOLERANCE = 1e-5
COLUMNS = ("observations", "next_observations", "actions", "rewards", "costs", "terminals")
Values = Mapping[str, Tensor]
Settings = Mapping[str, Any]
Quantities = dict[str, tuple[float, Tensor, Tensor]]
"""By name: relative difference, ours, recorded."""


def linear(values: Values, *names: str) -> dict[str, Tensor]:
    """One layer; several are side by side, as two heads are."""
    weights = [values[f"{name}.weight"].T for name in names]
    biases = [values[f"{name}.bias"] for name in names]
    return {"weight": torch.cat(weights, dim=1), "bias": torch.cat(biases)}


def numbered(values: Values, prefix: str) -> list[str]:
    """Names of the layers of a sequence, in their order."""
    found = {
        name.removesuffix(".weight")
        for name in values
        if name.startswith(f"{prefix}.") and name.endswith(".weight")
    }
    return sorted(found, key=lambda name: int(name.rpartition(".")[2]))


def sequence(prefix: str, *heads: str) -> Callable[[Values], Any]:
    """Reads a perceptron: a sequence of layers, and where it has `heads` these as the last one."""

    def read(values: Values) -> Any:
        layers = [linear(values, name) for name in numbered(values, prefix)]
        return layers + ([linear(values, *heads)] if heads else [])

    return read


def named(*layers: tuple[str, ...]) -> Callable[[Values], Any]:
    """Reads a perceptron whose layers have names."""
    return lambda values: [linear(values, *names) for names in layers]


def ensemble(*prefixes: str) -> Callable[[Values], Any]:
    """Reads an ensemble: the networks of each list in turn."""

    def read(values: Values) -> Any:
        members = []
        for prefix in prefixes:
            depth = prefix.count(".") + 1
            numbers = {n.split(".")[depth] for n in values if n.startswith(f"{prefix}.")}
            members += [sequence(f"{prefix}.{n}")(values) for n in sorted(numbers, key=int)]
        return tree_map(lambda *leaves: torch.stack(leaves), *members)

    return read


def scalar(name: str) -> Callable[[Values], Any]:
    """Reads a multiplier."""
    return lambda values: {"raw": torch.as_tensor(values[name])}


VAE = {
    "vae_encoder": named(("vae.e1",), ("vae.e2",), ("vae.mean", "vae.log_std")),
    "vae_decoder": named(("vae.d1",), ("vae.d2",), ("vae.d3",)),
}
GAUSSIAN_ACTOR = sequence("actor.net", "actor.mu_layer", "actor.log_std_layer")
SINGLE_CRITICS = {
    "reward_q": ensemble("critic.q_nets"),
    "cost_q": ensemble("cost_critic.q_nets"),
}
GROUPED_CRITICS = {
    "reward_q": ensemble("critic.q1_nets", "critic.q2_nets"),
    "cost_q": ensemble("cost_critic.q1_nets", "cost_critic.q2_nets"),
}
MULTIPLIER = "loss/lagrangian"
CONTROLLER = {"integral": "controller.error_integral", "last_excess": "controller.error_old"}


@dataclass(frozen=True)
class Reader:
    """How the recording of one method is read.

    Attributes:
        settings: OSRL's numbers -> our hyperparameters.
        networks: ours -> how its parameters are read from OSRL's.
        moved_by: the networks that an optimizer step moves, by the part of a parameter's name
            before the first dot.
        losses: a logged loss -> ours, of which it is the sum.
        slow: networks with slow copies.
        noise: batch size, the step's draws, the parameters -> our noise.
        moving: our numbers that move without a gradient -> OSRL's.
        logged: other things that were logged -> how they follow from what our losses give.
        at_once: parts of names whose losses OSRL takes all at the step's beginning.
        last: optimizer step, by the part of its names, at which `moving` and `logged` are compared.
    """

    settings: Callable[[Settings], dict[str, Any]]
    networks: Mapping[str, Callable[[Values], Any]]
    moved_by: Mapping[str, tuple[str, ...]]
    losses: Mapping[str, tuple[str, tuple[str, ...]]]
    slow: tuple[str, ...] = ()
    noise: Callable[[int, list[Tensor], Any], dict[str, Tensor]] = lambda *_: {}
    moving: Mapping[str, str] = field(default_factory=dict)
    logged: Mapping[str, Callable[[StepOutputs], Tensor]] = field(default_factory=dict)
    at_once: tuple[str, ...] = ()
    last: str = "actor"


def by_state(draw: Tensor, batch: int) -> Tensor:
    """K draws a state, [B K, d] or [B, K, d] with a state's beside each other: [K, B, d]."""
    return draw.reshape(batch, -1, draw.shape[-1]).transpose(0, 1)


def critics_settings(config: Settings) -> dict[str, Any]:
    """What the methods with critics have in common."""
    return {
        "discount": config["gamma"],
        "learning_rate": config["critic_lr"],
        "target_update_rate": config["tau"],
        "kl_coefficient": config["beta"],
        "candidates": config["sample_action_num"],
        "cost_bootstrap": "published",
    }


def lagrangian_settings(config: Settings) -> dict[str, Any]:
    """BCQ-Lag's and BEAR-Lag's."""
    proportional, integral, derivative = config["PID"]
    return {
        **critics_settings(config),
        "pessimism": config["lmbda"],
        "cost_aggregation": "min",
        "proportional_gain": proportional,
        "integral_gain": integral,
        "derivative_gain": derivative,
    }


def bcql_noise(batch: int, draws: list[Tensor], params: Any) -> dict[str, Tensor]:
    posterior, next_reward, next_cost, policy = draws
    return {
        "posterior": posterior,
        "next_reward": by_state(next_reward, batch),
        "next_cost": by_state(next_cost, batch),
        "policy": policy,
    }


def bearl_noise(batch: int, draws: list[Tensor], params: Any) -> dict[str, Tensor]:
    posterior, next_reward, next_cost, decoded, policy = draws
    several = {
        "next_reward": next_reward, "next_cost": next_cost, "decoded": decoded, "policy": policy
    }  # fmt: skip
    return {"posterior": posterior, **{n: by_state(d, batch) for n, d in several.items()}}


def cpq_noise(batch: int, draws: list[Tensor], params: Any) -> dict[str, Tensor]:
    """Candidates are recorded as drawn from the policy. Two draws decide nothing."""
    posterior, next_reward, next_cost, _, candidates, _, policy = draws
    return {
        "posterior": posterior,
        "next_reward": next_reward,
        "next_cost": next_cost,
        "candidates": candidates,
        "policy": policy,
    }


def coptidice_noise(batch: int, draws: list[Tensor], params: Any) -> dict[str, Tensor]:
    """The last draw decides nothing."""
    return {"observations": draws[0], "actions": draws[1]}


CRITIC_LOSSES = {
    "loss/loss_vae": ("vae", ("loss/reconstruction", "loss/divergence")),
    "loss/critic_loss": ("critic", ("loss/reward_q",)),
    "loss/cost_critic_loss": ("cost_critic", ("loss/cost_q",)),
    "loss/actor_loss": ("actor", ("loss/policy",)),
}
CRITICS_MOVED_BY = {
    "vae": ("vae_encoder", "vae_decoder"),
    "critic": ("reward_q",),
    "cost_critic": ("cost_q",),
    "actor": ("policy",),
}
READERS: dict[str, Reader] = {
    "bc": Reader(
        settings=lambda config: {"learning_rate": config["actor_lr"]},
        networks={"policy": sequence("actor.pi")},
        moved_by={"actor": ("policy",)},
        losses={"loss/actor_loss": ("actor", ("loss/policy",))},
    ),
    "bcql": Reader(
        settings=lambda config: {**lagrangian_settings(config), "perturbation": config["phi"]},
        networks={**VAE, **GROUPED_CRITICS, "policy": sequence("actor.pi")},
        moved_by=CRITICS_MOVED_BY,
        losses=CRITIC_LOSSES,
        slow=("reward_q", "cost_q", "policy"),
        noise=bcql_noise,
        moving=CONTROLLER,
        logged={MULTIPLIER: lambda outputs: outputs.metrics["multiplier"]},
    ),
    "bearl": Reader(
        settings=lambda config: {
            **lagrangian_settings(config),
            "discrepancy_samples": config["num_samples_mmd_match"],
            "bandwidth": config["mmd_sigma"],
            "discrepancy_threshold": config["target_mmd_thresh"],
            "kernel": config.get("kernel", "gaussian"),
            "multiplier_rate": config.get("alpha_lr", 1e-3),
            "imitation_steps": config["start_update_policy_step"],
        },
        networks={**VAE, **GROUPED_CRITICS, "policy": GAUSSIAN_ACTOR},
        moved_by=CRITICS_MOVED_BY,
        losses=CRITIC_LOSSES,
        slow=("reward_q", "cost_q", "policy"),
        noise=bearl_noise,
        moving={**CONTROLLER, "log_weight": "log_alpha"},
        logged={
            MULTIPLIER: lambda outputs: outputs.metrics["multiplier"],
            "loss/mmd_loss": lambda outputs: outputs.metrics["discrepancy"],
            "loss/alpha_value": lambda outputs: outputs.moved["log_weight"].exp(),
        },
    ),
    "cpq": Reader(
        settings=lambda config: {
            **critics_settings(config),
            "actor_rate_factor": config["actor_lr"] / config["critic_lr"],
            "ood": "published",
            "ood_margin": config["qc_scalar"],
            "multiplier_rate": config["alpha_lr"],
        },
        networks={**VAE, **SINGLE_CRITICS, "policy": GAUSSIAN_ACTOR},
        moved_by=CRITICS_MOVED_BY,
        losses={
            **CRITIC_LOSSES,
            "loss/cost_critic_loss": ("cost_critic", ("loss/cost_q", "loss/unlike_cost")),
        },
        slow=("reward_q", "cost_q"),
        noise=cpq_noise,
        moving={"log_multiplier": "log_alpha"},
        logged={"loss/alpha_value": lambda outputs: outputs.moved["log_multiplier"].exp()},
        last="cost_critic",
    ),
    "coptidice": Reader(
        settings=lambda config: {
            "discount": config["gamma"],
            "learning_rate": config["critic_lr"],
            "divergence_weight": config["alpha"],
            "bound_radius": config["cost_ub_epsilon"],
            "cost_scale_of_limit": "published",
            "policy_density": "published",
        },
        networks={
            "nu": ensemble("nu_network.q_nets"),
            "chi": ensemble("chi_network.q_nets"),
            "multiplier": scalar("lmbda"),
            "temperature": scalar("tau"),
            "policy": GAUSSIAN_ACTOR,
        },
        moved_by={
            "nu_network": ("nu",),
            "chi_network": ("chi",),
            "lmbda": ("multiplier",),
            "tau": ("temperature",),
            "actor": ("policy",),
        },
        losses={
            "loss/nu_loss": ("nu_network", ("loss/nu",)),
            "loss/chi_loss": ("chi_network", ("loss/chi",)),
            "loss/lmbda_loss": ("lmbda", ("loss/multiplier",)),
            "loss/tau_loss": ("tau", ("loss/temperature",)),
            "loss/actor_loss": ("actor", ("loss/policy",)),
        },
        noise=coptidice_noise,
        logged={
            "loss/lmbda": lambda outputs: outputs.metrics["multiplier"],
            "loss/tau": lambda outputs: outputs.metrics["temperature"],
        },
        at_once=("nu_network", "chi_network", "lmbda", "tau"),
    ),
}


class Recording:
    """One recording, and our method with its numbers.

    Raises:
        ValueError: the method has no reader.
    """

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        if name not in READERS:
            raise ValueError(f"{name}: no reader; there is one of {', '.join(READERS)}")
        self.reader, self.config, self.steps = READERS[name], content["config"], content["steps"]
        states, _, actions = self.steps[0]["batch"][:3]
        spec = ProblemSpec(
            observation_dim=states.shape[1],
            action_dim=actions.shape[1],
            horizon=self.config["episode_len"],
            reward_scale=1.0,
            cost_limit=self.config["cost_limit"],
        )
        method = ALGORITHMS[name]
        config = method.config_class.resolve(self.reader.settings(self.config))
        self.method: Method = method(config, spec)
        self.hp = config.hyperparameters_type()(
            **{name: torch.tensor(value) for name, value in config.batched_values().items()}
        )
        self.initial_share, self.deviations = 1.0, {}
        if name == "coptidice":
            self.initial_share = self.config.get("initial_share") or self.fit_initial_share()
            self.deviations = self.known_deviations() or self.fit_deviations()

    def differences(self) -> list[dict[str, Any]]:
        """A row for each quantity of each step: ours, recorded and their difference."""
        rows = []
        for number in range(len(self.steps)):
            for name, (difference, ours, recorded) in self.compare(number).items():
                row = {"step": number, "quantity": name, "difference": difference}
                rows.append({**row, "ours": size(ours), "recorded": size(recorded)})
        return rows

    def compare(self, number: int) -> Quantities:
        """Losses, gradients and what moves without one, in one step."""
        step, reader = self.steps[number], self.reader
        found: Quantities = {}

        def add(name: str, ours: Tensor, recorded: Any, scale: float = 0.0) -> None:
            recorded = torch.as_tensor(recorded, dtype=ours.dtype)
            found[name] = (relative_difference(ours, recorded, scale), ours, recorded)

        for position, optimizer_step in enumerate(step["optimizer_steps"]):
            part = next(iter(optimizer_step["gradients"])).partition(".")[0]
            params, outputs = self.outputs(number, 0 if part in reader.at_once else position)
            for logged, (moved_part, own) in reader.losses.items():
                if moved_part == part and logged in step["metrics"]:
                    total = torch.stack([outputs.metrics[name] for name in own]).sum()
                    add(logged, total.detach(), step["metrics"][logged])
            networks = reader.moved_by[part]
            gradients = gradients_of(outputs, {name: params[name] for name in networks})
            recorded = [reader.networks[name](optimizer_step["gradients"]) for name in networks]
            add(f"gradient of {part}", flat(gradients), flat(tree_leaves(recorded)))
            if part != reader.last:
                continue
            for logged, read in reader.logged.items():
                if logged in step["metrics"]:
                    scale = controller_scale(outputs, self.hp) if logged == MULTIPLIER else 0.0
                    add(logged, read(outputs).detach(), step["metrics"][logged], scale)
            if number + 1 < len(self.steps):
                after = self.steps[number + 1]["scalars"]
                for name, theirs in reader.moving.items():
                    add(f"moved {name}", outputs.moved[name], after[theirs])
        return found

    def outputs(self, number: int, position: int) -> tuple[Any, StepOutputs]:
        """Our networks, open to gradients, and losses at the state of an optimizer step."""
        step, reader = self.steps[number], self.reader
        scalars = {name: torch.tensor(float(v)) for name, v in step["scalars"].items()}
        values = {**step["optimizer_steps"][position]["state"], **scalars}
        params = {name: read(values) for name, read in reader.networks.items()}
        for leaf in tree_leaves(params):
            leaf.requires_grad_(True)
        slow = {
            name.replace("_old.", ".", 1): value
            for name, value in values.items()
            if "_old." in name
        }
        batch = dict(zip(COLUMNS, step["batch"], strict=False))
        if len(step["batch"]) > len(COLUMNS):
            batch["initial"] = step["batch"][-1] / self.initial_share
        draws = [draw for _, draw in step["random"]]
        noise = reader.noise(len(batch["actions"]), draws, params)
        if "candidates" in noise:
            with torch.no_grad():
                mean, log_std = unsquashed_distribution(params["policy"], batch["observations"])
                noise["candidates"] = (noise["candidates"] - mean) / log_std.exp()
        state = {
            "params": params,
            "target": {name: reader.networks[name](slow) for name in reader.slow},
            "moving": {name: values[theirs] for name, theirs in reader.moving.items()},
            "deviations": self.deviations,
        }
        progress = Progress(torch.tensor(float(number)), None)
        inputs = StepInputs(params, state, batch, self.hp, noise, progress)
        with patch.object(networks, "LARGE_PRODUCT", 0):
            return params, self.method.losses["train"](inputs)

    def known_deviations(self) -> dict[str, Tensor]:
        """Of states and actions, where the recording has them."""
        names = {"observations": "observations_std", "actions": "actions_std"}
        if not set(names.values()) <= set(self.config):
            return {}
        return {
            ours: torch.as_tensor(self.config[theirs]).float() for ours, theirs in names.items()
        }

    def fit_initial_share(self) -> float:
        """The share of initial steps in the data, by nu's gradient, which is linear in its inverse.
        Where no recorded step is initial it decides nothing."""
        number = max(range(len(self.steps)), key=lambda n: float(self.steps[n]["batch"][-1].sum()))
        step = self.steps[number]
        if float(step["batch"][-1].sum()) == 0:
            return 1.0 / float(self.config["episode_len"])
        recorded = next(
            self.reader.networks["nu"](optimizer_step["gradients"])
            for optimizer_step in step["optimizer_steps"]
            if next(iter(optimizer_step["gradients"])).startswith("nu_network")
        )
        self.deviations = self.zero_deviations()
        found = []
        guess = float(self.config["episode_len"])
        for share in (math.inf, 1 / guess):
            self.initial_share = share
            params, outputs = self.outputs(number, 0)
            found.append(flat(gradients_of(outputs, params["nu"])))
        slope = found[1] - found[0]
        wanted = flat(tree_leaves(recorded)) - found[0]
        inverse = guess * float((slope @ wanted) / (slope @ slope))
        # Episodes of one length: the inverse of the share is that length.
        whole = round(inverse)
        return 1 / (whole if abs(inverse / whole - 1) < 1e-5 else inverse)

    def zero_deviations(self) -> dict[str, Tensor]:
        states, _, actions = self.steps[0]["batch"][:3]
        return {
            "observations": torch.zeros(states.shape[1]), "actions": torch.zeros(actions.shape[1])
        }  # fmt: skip

    def fit_deviations(self) -> dict[str, Tensor]:
        """The data's deviations, by which the policy's gradient in the first step is the recorded
        one: Gauss and Newton's method with differences."""
        states, _, actions = self.steps[0]["batch"][:3]
        width, position = states.shape[1], len(self.steps[0]["optimizer_steps"]) - 1
        recorded = self.reader.networks["policy"](
            self.steps[0]["optimizer_steps"][position]["gradients"]
        )
        wanted = flat(tree_leaves(recorded))

        def gradient(values: Tensor) -> Tensor:
            self.deviations = {
                "observations": values[:width].float(), "actions": values[width:].float()
            }  # fmt: skip
            params, outputs = self.outputs(0, position)
            return flat(gradients_of(outputs, params["policy"]))

        guess = torch.cat([states.std(0), actions.std(0)]).double()
        for _ in range(8):
            at = gradient(guess)
            columns = []
            for index in range(len(guess)):
                beside = guess.clone()
                beside[index] += 1e-2
                columns.append((gradient(beside) - at) / 1e-2)
            jacobian = torch.stack(columns, dim=1)
            guess = guess + torch.linalg.lstsq(jacobian, wanted - at).solution
        gradient(guess)
        return self.deviations


def gradients_of(outputs: StepOutputs, networks: Any) -> list[Tensor]:
    """Of the joint loss, in the order of the networks' leaves."""
    assert isinstance(outputs.losses, Tensor)
    return list(
        torch.autograd.grad(
            outputs.losses, tree_leaves(networks), retain_graph=True, materialize_grads=True
        )
    )


def flat(leaves: Sequence[Tensor]) -> Tensor:
    """All numbers of some tensors, float64."""
    return torch.cat([leaf.flatten() for leaf in leaves]).double()


def size(value: Tensor) -> float:
    """A number as it is, and of a vector its norm."""
    return float(value) if value.dim() == 0 else float(value.norm())


def controller_scale(outputs: StepOutputs, hp: Any) -> float:
    """The size of what a controller's multiplier is a sum and difference of."""
    gains = hp.proportional_gain + hp.integral_gain + hp.derivative_gain
    return float(gains * outputs.metrics["cost_excess"].abs())


def relative_difference(ours: Tensor, recorded: Tensor, scale: float = 0.0) -> float:
    """Of two vectors or numbers in the Euclidean norm, relative to the second one's, or to `scale`
    where that is larger."""
    difference = float((ours - recorded).norm())
    largest = max(float(recorded.norm()), scale)
    return difference / largest if difference else 0.0


def cdt_differences(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of `Recording.differences`, of a recording of CDT."""
    rows = []
    for number, step in enumerate(content["steps"]):
        for name, (ours, recorded) in osrl_cdt.compare(content["config"], step).items():
            difference = osrl_cdt.relative_difference(ours, recorded)
            row = {"step": number, "quantity": name, "difference": difference}
            rows.append({**row, "ours": size(ours), "recorded": size(recorded)})
    return rows


def recordings(folder: Path) -> dict[str, Recording]:
    """The recordings of a folder by file, but CDT's and those that no reader knows."""
    return {
        path.name: Recording(method_of(path), torch.load(path, weights_only=True))
        for path in sorted(folder.glob("*.pt"))
        if method_of(path) in READERS
    }


def method_of(path: Path) -> str:
    """The method that a file's name begins with."""
    return path.stem.partition("-")[0]


def summary(name: str, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The largest difference of each quantity over the steps."""
    worst: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        quantity = row["quantity"]
        if quantity not in worst or row["difference"] > worst[quantity]["difference"]:
            worst[quantity] = row
    return [
        {"file": name, "quantity": quantity, "steps": 1 + max(row["step"] for row in rows),
         "difference": f"{row['difference']:.1e}"}
        for quantity, row in worst.items()
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    add_json_option(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    table: list[dict[str, Any]] = []
    unknown = []
    for path in sorted(options.folder.glob("*.pt")):
        method, tolerance = method_of(path), options.tolerance
        if method == "cdt":
            own = cdt_differences(torch.load(path, weights_only=True))
            tolerance = max(tolerance, osrl_cdt.TOLERANCE)
        elif method in READERS:
            own = Recording(method, torch.load(path, weights_only=True)).differences()
        else:
            unknown.append(path.name)
            continue
        table += summary(path.name, own)
        rows += [{"file": path.name, "tolerance": tolerance, **row} for row in own]
    if not rows:
        parser.error(f"{options.folder}: holds no recording of {', '.join((*READERS, 'cdt'))}")
    print_table(table)
    for name in unknown:
        print(f"{name}: not compared; no reader of it", file=sys.stderr)
    write_json(rows, options.json)
    beyond = [row for row in rows if not row["difference"] <= row["tolerance"]]
    print(
        f"{len(rows) - len(beyond)} of {len(rows)} quantities are within their tolerance",
        file=sys.stderr,
    )
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
