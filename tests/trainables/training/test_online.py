"""Training that goes on in the environment, by FLP's third phase on the coarse boat."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.flp_config import FLPConfig
from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.registry import Task, get_task
from safesweep.trainables.training.online import collect_transitions
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.trial import train
from tests.trainables.conftest import random_dataset
from tests.trainables.populations import make_population

SETTINGS: dict[str, Any] = {
    "hidden_dim": 16, "batch_size": 32, "flow_steps": 2, "online_share": 0.5,
    "replay_capacity": 70, "learning_rate": 1e-3,
}  # fmt: skip
STEPS, ONLINE = 200, 100


@pytest.fixture(scope="module")
def coarse() -> Task:
    return get_task("BoatNavigationCoarse")


def build(task: Task, seeds: list[int], **changes: Any) -> Population:
    config = FLPConfig.resolve({**SETTINGS, **changes})
    configs = [config] * len(seeds)
    return make_population(FLP, configs, seeds, task, random_dataset(task), STEPS, 1.0)


def steer(observations: np.ndarray, step: int, members: slice, episodes: slice) -> np.ndarray:
    """Each member by a constant action of its own, longer than the bounds allow."""
    actions = np.array([[3.0, 0.2], [-0.5, -0.5]], dtype=np.float32)
    return actions[: len(observations), None]


def test_what_is_seen_are_whole_episodes_and_a_last_one_that_is_cut(coarse: Task) -> None:
    def seen() -> dict[str, np.ndarray]:
        return collect_transitions(coarse, steer, 2, 100, lambda member, begun: 7 * member + begun)

    found, again = seen(), seen()
    for name, column in found.items():
        np.testing.assert_array_equal(column, again[name])
    assert found["begun"].tolist() == [3, 3]
    for member in range(2):
        assert np.flatnonzero(found["timeouts"][member]).tolist() == [39, 79, 99]
        start = boat.start_states([7 * member + 1], coarse.name)[0].astype(np.float32)
        np.testing.assert_array_equal(found["observations"][member, 40], start)
    assert not found["terminals"].any()
    assert found["actions"][0, 0].tolist() == [1.0, np.float32(0.2)]
    # What follows a step is where the next one begins, except at an episode's end.
    inside = ~found["timeouts"][0]
    np.testing.assert_array_equal(
        found["next_observations"][0, inside], found["observations"][0, 1:][inside[:-1]]
    )
    margins = boat.safety_margin(found["observations"], coarse.name)
    clear = np.abs(margins) > 1e-3
    np.testing.assert_array_equal((margins > 0)[clear], found["costs"][clear] > 0)


def test_steps_in_the_environment_are_counted_with_their_costs(coarse: Task) -> None:
    population = build(coarse, [0, 1])
    population.advance(STEPS)
    counted = population.diagnose(np.zeros((1, 2), dtype=np.float32), 1)
    assert counted["online_steps"].tolist() == [ONLINE, ONLINE]
    # Rounds of 40 steps, and one of 20: each begins an episode.
    assert counted["online_episodes"].tolist() == [3, 3]
    assert (counted["online_cost"] >= 0).all() and (counted["online_reward"] < 0).all()
    # The last 70 of 100 transitions are kept, the newest over the oldest.
    replay = population.member_state(0)["replay"]
    assert float(replay["rewards"].abs().min()) > 0
    plain = build(coarse, [0], online_share=0.0)
    assert plain.diagnose(np.zeros((1, 2), dtype=np.float32), 1) == {}


def test_a_run_that_is_stopped_in_the_environment_goes_on_as_if_it_had_not_been(
    coarse: Task,
) -> None:
    whole, resumed = build(coarse, [0, 1]), build(coarse, [0, 1])
    whole.advance(STEPS)
    for stop in (ONLINE, ONLINE + 40, ONLINE + 53):
        resumed.advance(stop)
        saved = resumed.state_dict()
        resumed = build(coarse, [0, 1])
        resumed.load_state_dict(saved)
    resumed.advance(STEPS)
    for one, other in zip(tree_leaves(whole.state), tree_leaves(resumed.state), strict=True):
        assert torch.equal(one, other)


def test_a_run_sees_the_same_alone_and_in_company(coarse: Task) -> None:
    company, alone = build(coarse, [0, 1]), build(coarse, [1])
    company.advance(ONLINE + 1)
    alone.advance(ONLINE + 1)
    for name, column in alone.member_state(0)["replay"].items():
        torch.testing.assert_close(
            column, company.member_state(1)["replay"][name], rtol=1e-2, atol=1e-2
        )


def test_the_tables_hold_what_acting_came_to(coarse: Task) -> None:
    rows = train(
        "flp", coarse.name, [SETTINGS], [0], steps=STEPS, dataset=random_dataset(coarse),
        evaluate_every=ONLINE, episodes=2, device="cpu",
    )  # fmt: skip
    steps = {m["step"]: m["value"] for m in rows.metrics if m["name"] == "online_steps"}
    assert steps == {ONLINE: 0.0, STEPS: float(ONLINE)}
    assert any(m["name"] == "online_cost" for m in rows.metrics)
