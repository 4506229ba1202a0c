"""What the figures of FLRP show of trained networks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safesweep.trainables.components.choices import EXPERTS
from safesweep.trainables.components.critics import evaluate_ensemble
from safesweep.trainables.components.flow_autoencoder import decode_base
from safesweep.trainables.components.latent_refiner import expert_move, expert_network
from safesweep.trainables.components.networks import gaussian_log_density
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.measuring import (
    DRAWS,
    Row,
    action_plane,
    measured_rows,
    normal_draws,
    only_member,
    states_of_the_data,
)
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.training.population import Population

EXPERT_STEPS = 3


def flrp_refinement(
    population: Population, dataset: Dataset, request: MeasurementRequest
) -> Iterator[Row]:
    """FLRP's figure 2: values and density over the action plane of one state, and what each expert
    does alone, there step by step and at `size` states on average.

    The state is the feasible one of the data that is nearest to the border of the feasible set.
    """
    state, hp = only_member(population)
    params = state["params"]
    experts: Any = population.method
    states = states_of_the_data(dataset, request.size)
    values = experts.feasibility_value(state, states, hp)
    feasible = torch.where(values <= 0, values, -torch.inf)
    here = states[int(feasible.argmax())]
    latents = normal_draws(population, DRAWS, experts.static.latent_dim)

    means = decode_base(params, here.expand(DRAWS, -1), latents)
    actions = action_plane(means.mean(0))
    yield from measured_rows("plane", action_1=actions[:, 0], action_2=actions[:, 1])
    yield from measured_rows("plane", **_flrp_values(experts, params, here, actions, latents))
    for name in EXPERTS:
        if expert_network(name) not in params:
            continue
        base = latents[:8]
        for step in range(EXPERT_STEPS + 1):
            path = decode_base(params, here.expand(len(base), -1), base)
            yield from measured_rows(
                f"{name} step {step}", action_1=path[:, 0], action_2=path[:, 1]
            )
            base = _moved(params, name, here, base)
        changes: dict[str, list[float]] = {}
        for observation in states:
            start = latents[:32]
            moved = start
            for _ in range(EXPERT_STEPS):
                moved = _moved(params, name, observation, moved)
            places = [decode_base(params, observation.expand(32, -1), u) for u in (start, moved)]
            ends = [_flrp_values(experts, params, observation, a, latents) for a in places]
            for quantity, before in ends[0].items():
                change = (ends[1][quantity] - before).mean()
                changes.setdefault(quantity, []).append(float(change))
        yield from measured_rows(
            f"{name} change", **{key: np.array(found) for key, found in changes.items()}
        )


def _moved(params: Any, expert: str, observation: Tensor, base: Tensor) -> Tensor:
    return base + expert_move(params, observation.expand(len(base), -1), expert, base)


def _flrp_values(
    method: Any, params: Any, observation: Tensor, actions: Tensor, latents: Tensor
) -> dict[str, Tensor]:
    """Q_r, Q_h and the log density of the unrefined policy at actions [n, a] in one state; the
    density is the mean over the latents, which is a lower bound on average."""
    states = observation.expand(len(actions), -1)
    means = decode_base(params, observation.expand(len(latents), -1), latents)
    log_std = method.decoder_log_std(params)
    by_latent = gaussian_log_density(actions[:, None], means[None], log_std)
    return {
        "reward_q": evaluate_ensemble(params["reward_q"], states, actions).amin(0),
        "safety_q": evaluate_ensemble(params["feasibility_q"], states, actions).amax(0),
        "log_density": by_latent.logsumexp(1) - np.log(len(latents)),
    }
