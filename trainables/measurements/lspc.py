"""What the figures of LSPC show of trained networks."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.spatial import Delaunay, QhullError

from safesweep.trainables.components.critics import evaluate_ensemble
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.measurements.measuring import (
    DRAWS,
    Array,
    Row,
    action_plane,
    measured_rows,
    normal_draws,
    only_member,
    states_of_the_data,
)
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.training.population import Population


def lspc_actions(
    population: Population, dataset: Dataset, request: MeasurementRequest
) -> Iterator[Row]:
    """LSPC's figure 3: actions of the three policies and Q_r over the action plane of one state,
    and at `size` states the share of LSPC-O's actions within the hull of LSPC-S's (of their first
    two dimensions), and how much more Q_r they promise.

    The state is the one of the data with the largest spread of LSPC-S's actions.
    """
    state, hp = only_member(population)
    method: Any = population.method
    states = states_of_the_data(dataset, request.size)
    noise = {"latent": normal_draws(population, DRAWS, method.static.latent_dim)}
    drawn = {
        policy: torch.stack(
            [method.act(policy, state, s.expand(DRAWS, -1), hp, noise) for s in states]
        )
        for policy in method.policies
    }
    spread = drawn["lspc_s"].var(1).sum(-1)
    place = int(spread.argmax())
    target, activation = state["target"], method.critic_activation
    actions = action_plane(drawn["lspc_s"][place].mean(0))
    here = states[place].expand(len(actions), -1)
    yield from measured_rows(
        "plane",
        action_1=actions[:, 0],
        action_2=actions[:, 1],
        reward_q=evaluate_ensemble(target["reward_q"], here, actions, activation).amin(0),
        cost_q=evaluate_ensemble(target["cost_q"], here, actions, activation).amax(0),
    )
    for policy, found in drawn.items():
        chosen = found[place]
        yield from measured_rows(policy, action_1=chosen[:, 0], action_2=chosen[:, 1])
    inside, gain = [], []
    for index, observation in enumerate(states):
        ours, safe = drawn["lspc_o"][index], drawn["lspc_s"][index]
        inside.append(share_in_hull(ours[:, :2].numpy(), safe[:, :2].numpy()))
        drawn_states = observation.expand(DRAWS, -1)
        values = [
            evaluate_ensemble(target["reward_q"], drawn_states, a, activation).amin(0).mean()
            for a in (ours, safe)
        ]
        gain.append(float(values[0] - values[1]))
    yield from measured_rows("states", inside_share=np.array(inside), reward_q_gain=np.array(gain))


def share_in_hull(points: Array, corners: Array) -> float:
    """Share of points [n, 2] in the convex hull of others [m, 2]; NaN where they have no area."""
    try:
        hull = Delaunay(corners)
    except QhullError:
        return float("nan")
    return float((hull.find_simplex(points) >= 0).mean())
