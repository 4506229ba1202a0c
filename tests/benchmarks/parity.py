"""LSPC beside a plain reading of its paper: the same start, minibatches and noise, step by step.

    python -m tests.benchmarks.parity [--steps 100] [--json FILE] [--record]

prints the largest difference of each quantity over the steps. The reference shares no loss with
the method: modules of `torch.nn`, an `Adam` a network, and the equations of LSPC (39 to 44) written
out. `--record` writes the reference's values, which
`tests/trainables/methods/test_lspc_parity.py` keeps the method to.
"""

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safesweep.trainables.training.population import Population
from tests.benchmarks.measurement import add_json_option, print_table, write_json

RECORDED = Path(__file__).parents[1] / "trainables" / "methods" / "lspc_parity.json"
SETTINGS: dict[str, Any] = {
    "hidden_dim": 32, "batch_size": 64, "latent_dim": 8, "restriction": 0.6, "discount": 0.97,
    "learning_rate": 1e-3, "target_update_rate": 0.02,
}  # fmt: skip
SEED, PROBES = 3, 32
Values = dict[str, float]


def perceptron(layers: list[dict[str, Tensor]]) -> nn.Sequential:
    """Linear layers with ReLU in between, from parameters of one network."""
    modules: list[nn.Module] = []
    for layer in layers:
        linear = nn.Linear(*layer["weight"].shape)
        with torch.no_grad():
            linear.weight.copy_(layer["weight"].T)
            linear.bias.copy_(layer["bias"])
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def twins(layers: list[dict[str, Tensor]]) -> nn.ModuleList:
    """The two networks of an ensemble."""
    return nn.ModuleList(
        perceptron([{name: value[index] for name, value in layer.items()} for layer in layers])
        for index in range(2)
    )


class PlainLSPC:
    """Algorithm 2, eagerly; hyperparameters by the paper's symbols."""

    def __init__(self, params: Mapping[str, Any], hp: Any, static: Any) -> None:
        self.gamma, self.tau = float(hp.discount), float(hp.target_update_rate)
        self.xi, self.epsilon = float(hp.expectile), float(hp.restriction)
        self.lambda_ = float(hp.cost_inverse_temperature)
        self.zeta = float(hp.reward_inverse_temperature)
        self.beta, self.largest = float(hp.kl_coefficient), float(static.weight_clip)
        self.q_r, self.q_c = twins(params["reward_q"]), twins(params["cost_q"])
        self.v_r, self.v_c = perceptron(params["reward_v"]), perceptron(params["cost_v"])
        self.posterior = perceptron(params["cvae_encoder"])
        self.decoder = perceptron(params["cvae_decoder"])
        self.encoder = perceptron(params["safety_encoder"])
        self.slow_r, self.slow_c = copy.deepcopy(self.q_r), copy.deepcopy(self.q_c)
        rate = float(hp.learning_rate)
        self.optimizers = {
            name: torch.optim.Adam(getattr(self, name).parameters(), lr=rate)
            for name in ("q_r", "q_c", "v_r", "v_c", "posterior", "decoder", "encoder")
        }

    def decode(self, states: Tensor, latent: Tensor) -> Tensor:
        action: Tensor = torch.tanh(self.decoder(torch.cat([states, latent], 1)))
        return action

    def step(self, batch: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> Values:
        """One update of every network; all losses are of the networks before it."""
        s, a, after = batch["observations"], batch["actions"], batch["next_observations"]
        r, c, going_on = batch["rewards"], batch["costs"], 1 - batch["terminals"]
        pair = torch.cat([s, a], 1)
        with torch.no_grad():
            best_r = torch.minimum(*(q(pair)[:, 0] for q in self.slow_r))
            # A cost is not negative, and neither is what is expected of it.
            worst_c = torch.maximum(*(q(pair)[:, 0] for q in self.slow_c)).clamp(min=0)
            target_r = r + self.gamma * going_on * self.v_r(after)[:, 0]
            target_c = c + self.gamma * going_on * self.v_c(after)[:, 0].clamp(min=0)
        v_r, v_c = self.v_r(s)[:, 0], self.v_c(s)[:, 0]
        # Eq. 39 and 41: |xi - 1{u < 0}| u^2, of what is better than V for reward, worse for cost.
        above, below = best_r - v_r, v_c - worst_c
        weight_r = torch.where(above < 0, 1 - self.xi, self.xi)
        weight_c = torch.where(below < 0, 1 - self.xi, self.xi)
        losses = {
            "reward_v": (weight_r * above**2).mean(),
            "cost_v": (weight_c * below**2).mean(),
            # Eq. 40 and 42.
            "reward_q": sum(((q(pair)[:, 0] - target_r) ** 2).mean() for q in self.q_r),
            "cost_q": sum(((q(pair)[:, 0] - target_c) ** 2).mean() for q in self.q_c),
        }
        with torch.no_grad():
            w_c = (self.lambda_ * (v_c.clamp(min=0) - worst_c)).exp().clamp(max=self.largest)
            w_r = (self.zeta * (best_r - v_r)).exp().clamp(max=self.largest)
        # Eq. 43.
        mean, log_std = self.posterior(pair).chunk(2, 1)
        log_std = log_std.clamp(-4, 2)
        decoded = self.decode(s, mean + log_std.exp() * noise["posterior"])
        kl = -0.5 * (1 + 2 * log_std - mean**2 - (2 * log_std).exp())
        losses["reconstruction"] = (w_c * ((decoded - a) ** 2).sum(1)).mean()
        losses["divergence"] = self.beta * (w_c * kl.mean(1)).mean()
        # Eq. 44: the decoder is not moved by it.
        mean, log_std = self.encoder(s).chunk(2, 1)
        latent = mean + log_std.clamp(-10, 2).exp() * noise["encoder"]
        for parameter in self.decoder.parameters():
            parameter.requires_grad_(False)
        decoded = self.decode(s, self.epsilon * torch.tanh(latent))
        losses["encoder"] = (w_r * ((decoded - a) ** 2).sum(1)).mean()
        for parameter in self.decoder.parameters():
            parameter.requires_grad_(True)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in self.optimizers.values():
            optimizer.step()
        with torch.no_grad():
            for fast, slow in ((self.q_r, self.slow_r), (self.q_c, self.slow_c)):
                for new, old in zip(fast.parameters(), slow.parameters(), strict=True):
                    old.mul_(1 - self.tau).add_(self.tau * new)
        return {f"loss/{name}": loss.item() for name, loss in losses.items()}

    def values(self, s: Tensor, a: Tensor) -> dict[str, Tensor]:
        """What each network says of states and actions, by the method's name of it."""
        pair = torch.cat([s, a], 1)
        with torch.no_grad():
            return {
                "reward_q": torch.stack([q(pair)[:, 0] for q in self.q_r]),
                "cost_q": torch.stack([q(pair)[:, 0] for q in self.q_c]),
                "reward_v": self.v_r(s)[:, 0],
                "cost_v": self.v_c(s)[:, 0],
                "cvae_encoder": self.posterior(pair),
                "cvae_decoder": self.decode(s, torch.zeros(len(s), self.latent_dim)),
                "safety_encoder": self.encoder(s),
            }

    @property
    def latent_dim(self) -> int:
        """Dimensions of z."""
        width: int = self.encoder[-1].out_features // 2
        return width


def population(steps: int) -> Population:
    """A single run of the method on random transitions of the boat's shapes."""
    from safesweep.trainables.methods.lspc import LSPC
    from safesweep.trainables.methods.lspc_config import LSPCConfig
    from safesweep.trainables.tasks.registry import get_task
    from tests.trainables.conftest import random_dataset
    from tests.trainables.populations import make_population

    task, config = get_task("BoatNavigation-v0"), LSPCConfig.resolve(SETTINGS)
    return make_population(LSPC, [config], [SEED], task, random_dataset(task), steps, 1.0)


def probes(run: Population) -> tuple[Tensor, Tensor]:
    """The states and actions of the data at which networks are compared."""
    return run.data["observations"][:PROBES], run.data["actions"][:PROBES]


def method_values(run: Population) -> dict[str, Tensor]:
    """`PlainLSPC.values` of the method's networks, by its own functions."""
    from safesweep.trainables.components.cvae import decode
    from safesweep.trainables.components.networks import ensemble_mlp, mlp

    params, (s, a) = run.member_state(0)["params"], probes(run)
    pair, latent = torch.cat([s, a], 1), torch.zeros(len(s), run.method.static.latent_dim)
    return {
        "reward_q": ensemble_mlp(params["reward_q"], pair)[..., 0],
        "cost_q": ensemble_mlp(params["cost_q"], pair)[..., 0],
        "reward_v": mlp(params["reward_v"], s)[:, 0],
        "cost_v": mlp(params["cost_v"], s)[:, 0],
        "cvae_encoder": mlp(params["cvae_encoder"], pair),
        "cvae_decoder": decode(params["cvae_decoder"], s, latent),
        "safety_encoder": mlp(params["safety_encoder"], s),
    }


def draws_of(run: Population, step: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The minibatch and the noise that the method takes in a step."""
    block, offset = divmod(step, 32)
    drawn = run._draw("train", 0, block)
    rows = drawn["indices"][offset, 0]
    batch = {name: column[rows] for name, column in run.data.items()}
    return batch, {name: drawn[name][offset, 0] for name in ("posterior", "encoder")}


def measure(steps: int) -> tuple[dict[str, float], list[Values]]:
    """The largest difference of each quantity over the steps, and the reference's values: losses of
    each step, and mean size of what each network says after it."""
    run = population(steps)
    hp = type(run.hp)(*[value[0] for value in run.hp])
    plain = PlainLSPC(run.member_state(0)["params"], hp, run.method.static)
    largest: dict[str, float] = {}
    recorded: list[Values] = []
    for step in range(steps):
        losses = plain.step(*draws_of(run, step))
        run.advance(step + 1)
        ours = {name: float(value[0]) for name, value in run.take_metrics().items()}
        theirs, mine = plain.values(*probes(run)), method_values(run)
        differences = {name: abs(ours[name] - value) for name, value in losses.items()}
        differences |= {name: float((mine[name] - theirs[name]).abs().max()) for name in theirs}
        for name, difference in differences.items():
            largest[name] = max(largest.get(name, 0.0), difference)
        sizes = {name: float(value.double().abs().mean()) for name, value in theirs.items()}
        recorded.append({**losses, **sizes})
    return largest, recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name}")
    add_json_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    largest, recorded = measure(arguments.steps)
    print_table(
        [
            {
                "quantity": name,
                "largest difference": f"{difference:.1e}",
                "size after the last step": f"{abs(recorded[-1][name]):.3g}",
            }
            for name, difference in largest.items()
        ]
    )
    write_json(largest, arguments.json)
    if arguments.record:
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main()
