"""Why FLRP's policy costs on the coarse boat although its feasible set is right.

`python -m tests.benchmarks.flrp_on_the_boat [--seeds 0 1] [--steps 4000] [--set NAME=VALUE ...]`
trains FLRP and plays 200 episodes from starts spread over the true feasible set, with its own
policies and with what the same prior and critics give without experts: of some samples of the
prior, the one with the lowest Q_h, or with the highest Q_r where Q_h <= 0. Costs are told apart by
whether V_h calls the start feasible. Every pair of the data beyond {Q_h <= 0} has weight 0 in the
experts' losses.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from safesweep.trainables.components.critics import evaluate_ensemble, state_value
from safesweep.trainables.components.flow_autoencoder import decode_base
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.methods.flrp import FLRP
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.request import TrialRequest

TASK = "BoatNavigationCoarse-v0"
EPISODES = 200
SETTINGS: dict[str, Any] = {
    "hidden_dim": 64, "batch_size": 256, "learning_rate": 1e-3, "target_update_rate": 0.02,
    "discount": 0.97, "latent_dim": 4, "coupling_layers": 2, "pretrain_share": 0.6,
    "feasibility_expectile": 0.7, "violation_signal": 3.0, "q_temperature": 0.3,
    "v_temperature": 0.5, "safety_temperature": 0.03, "safety_weight": 7.5, "shared_weight": 0.1,
}  # fmt: skip
STEPS = (0, 2, 3, 5, 10)
CANDIDATES = 32

Act = Callable[[Tensor], Tensor]


def play(act: Act) -> tuple[np.ndarray, np.ndarray]:
    """Cost and normalised reward of an episode from each start, [EPISODES]."""
    boats = boat.BoatEnvironment(TASK, starts())
    costs, rewards = np.zeros(EPISODES), np.zeros(EPISODES)
    for _ in range(boat.boat_of(TASK).horizon):
        actions = act(torch.as_tensor(boats.observations)).clamp(-1, 1).numpy()
        _, reward, cost = boats.step(actions)
        rewards, costs = rewards + reward, costs + cost
    return costs, np.asarray(get_task(TASK).normalize_reward(rewards))


def starts() -> np.ndarray:
    """Starts [EPISODES, 2] spread over the true feasible set."""
    return boat.spread_starts(EPISODES, 12345, TASK)


def violating_share(costs: np.ndarray) -> float:
    """Of some episodes those that cost anything; NaN of none."""
    return float((costs > 0).mean()) if costs.size else float("nan")


def policies(method: FLRP, params: Any, generator: torch.Generator) -> Iterator[tuple[str, Act]]:
    """What acts, by name."""

    def latents(*shape: int) -> Tensor:
        return torch.randn(*shape, method.static.latent_dim, generator=generator)

    def refined(steps: int) -> Act:
        def act(states: Tensor) -> Tensor:
            base = {"base": latents(len(states))}
            return decode_base(params, states, method.refiner.refine(params, states, base, steps))

        return act

    def chosen(gated: bool) -> Act:
        def act(states: Tensor) -> Tensor:
            repeated = states.repeat(CANDIDATES, 1)
            actions = decode_base(params, repeated, latents(len(repeated)))
            unsafe = evaluate_ensemble(params["feasibility_q"], repeated, actions).amax(0)
            rich = evaluate_ensemble(params["reward_q"], repeated, actions).amin(0)
            score = torch.where(unsafe <= 0, rich, -1e6 - unsafe) if gated else -unsafe
            best = score.reshape(CANDIDATES, -1).argmax(0)
            return actions.reshape(CANDIDATES, len(states), -1)[best, torch.arange(len(states))]

        return act

    yield from ((f"T = {steps}" if steps else "unrefined", refined(steps)) for steps in STEPS)
    yield f"of {CANDIDATES} prior samples, lowest Q_h", chosen(gated=False)
    yield f"of {CANDIDATES}, highest Q_r with Q_h <= 0", chosen(gated=True)


def rows_of(population: Population, member: int) -> list[dict[str, Any]]:
    """A row for each policy of one run."""
    state = tree_map(lambda leaf: leaf[member], population.state)
    params, method = state["params"], population.method
    assert isinstance(method, FLRP)
    generator = torch.Generator().manual_seed(7)
    begun = torch.as_tensor(starts().astype(np.float32))
    inside = (state_value(params["feasibility_v"], begun) <= 0).numpy()
    rows = []
    for name, act in policies(method, params, generator):
        costs, rewards = play(act)
        rows.append(
            {
                "seed": population.seeds[member],
                "policy": name,
                "cost": costs.mean(),
                "violating": violating_share(costs),
                "reward": rewards.mean(),
                "starts_called_feasible": inside.mean(),
                "violating_from_there": violating_share(costs[inside]),
                "violating_from_others": violating_share(costs[~inside]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    changes = {name: float(value) for name, value in (word.split("=") for word in arguments.set)}
    torch.set_num_threads(1)
    dataset = load_dataset(TASK, "collect")
    request = TrialRequest(
        "flrp", TASK, [{**SETTINGS, **changes}] * len(arguments.seeds), arguments.seeds,
        arguments.steps, None, 1, None, "cpu",
    )  # fmt: skip
    population = Population(request, get_task(TASK), dataset)
    population.advance(arguments.steps)
    with torch.no_grad():
        rows = [row for member in range(population.size) for row in rows_of(population, member)]
    frame = pandas.DataFrame(rows)
    print(frame.round(3).to_string(index=False))
    print(frame.drop(columns="seed").groupby("policy", sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    main()
