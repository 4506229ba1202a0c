from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from safesweep.trainables.tasks import processes as simulators
from safesweep.trainables.tasks import rollout as environments
from safesweep.trainables.tasks.registry import SUITES, get_task
from safesweep.trainables.tasks.rollout import rollout


class LinearPolicies:
    """One deterministic linear policy per member; actions often leave the bounds."""

    def __init__(self, task, members):
        shape = (members, task.action_dim, task.observation_dim)
        self.weights = np.random.default_rng(0).normal(size=shape) * 2

    def __call__(self, observations, step, members, episodes):
        assert observations.dtype == np.float32
        assert observations.shape[1] == episodes.stop - episodes.start
        return np.einsum("meo,mao->mea", observations, self.weights[members]) + 0.5

    def only(self, member):
        alone = object.__new__(LinearPolicies)
        alone.weights = self.weights[member : member + 1]
        return alone


def arrays(episodes):
    return np.stack([episodes.reward_returns, episodes.cost_returns, episodes.lengths])


@pytest.mark.parametrize("key", ["BallRun", "HopperVelocity", "BoatNavigationHard"])
def test_outcomes_repeat_and_do_not_depend_on_other_members(key):
    task = get_task(key)
    policies = LinearPolicies(task, 3)
    together = arrays(rollout(task, policies, 3, [4, 5]))
    assert together.shape == (3, 3, 2)
    np.testing.assert_array_equal(arrays(rollout(task, policies, 3, [4, 5])), together)
    alone = arrays(rollout(task, policies.only(1), 1, [4, 5]))
    np.testing.assert_array_equal(alone[:, 0], together[:, 1])
    fewer = arrays(rollout(task, policies, 3, [5]))
    np.testing.assert_array_equal(fewer[:, :, 0], together[:, :, 1])
    assert len(np.unique(together[0])) == 6


@pytest.mark.parametrize("key", ["BallRun", "BoatNavigation"])
def test_each_member_may_have_seeds_of_its_own(key):
    task = get_task(key)
    policies = LinearPolicies(task, 2)
    separate = arrays(rollout(task, policies, 2, np.array([[4, 5], [6, 4]], dtype=np.uint32)))
    np.testing.assert_array_equal(
        separate[:, 0], arrays(rollout(task, policies.only(0), 1, [4, 5]))[:, 0]
    )
    np.testing.assert_array_equal(
        separate[:, 1], arrays(rollout(task, policies.only(1), 1, [6, 4]))[:, 0]
    )


def test_waves_give_the_same_outcomes(monkeypatch):
    task = get_task("BallRun")
    policies = LinearPolicies(task, 2)
    together = arrays(rollout(task, policies, 2, [1, 2, 3]))
    monkeypatch.setitem(SUITES, "bullet", replace(SUITES["bullet"], simulators_a_process=2))
    simulators.end_simulators()
    made = []
    original = simulators.make_simulator

    def counted(task):
        made.append(original(task))
        return made[-1]

    monkeypatch.setattr(simulators, "make_simulator", counted)
    np.testing.assert_array_equal(arrays(rollout(task, policies, 2, [1, 2, 3])), together)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("members", "episodes", "most", "processes", "waves", "largest"),
    [
        (12, 20, 64, 4, 4, 60),  # three members each
        (12, 20, 64, 1, 4, 60),
        (3, 20, 64, 4, 6, 10),  # otherwise a process would have nothing to do
        (3, 20, 8, 1, 9, 7),
        (1, 100, 64, 1, 2, 50),
        (2, 3, 1, 2, 6, 1),
        (1, 1, 64, 4, 1, 1),
    ],
)
def test_waves_hold_every_episode_once(members, episodes, most, processes, waves, largest):
    seen = np.zeros((members, episodes), dtype=int)
    blocks = list(environments.wave_blocks(members, episodes, most, processes))
    for block in blocks:
        seen[block] += 1
    assert (seen == 1).all()
    assert len(blocks) == waves
    assert max(seen[block].size for block in blocks) == largest <= most


def test_live_simulators_take_a_share_of_the_memory(monkeypatch):
    task, gigabyte = get_task("BallRun"), 2**30

    def live(memory, processors):
        monkeypatch.setattr(
            environments.psutil, "virtual_memory", lambda: SimpleNamespace(total=memory)
        )
        monkeypatch.setattr(environments, "usable_cpus", lambda: processors)
        return environments.live_simulators(task)

    assert live(24 * gigabyte, 2) == 64
    assert live(16 * gigabyte, 8) == 17
    assert live(gigabyte, 64) == 1


def test_simulators_stay_for_the_next_evaluation_of_their_task():
    task, other = get_task("BallRun"), get_task("HopperVelocity")
    rollout(task, LinearPolicies(task, 1), 1, [1, 2])
    kept = simulators.local_simulators(task)
    live = list(kept._live)
    rollout(task, LinearPolicies(task, 1), 1, [3, 4])
    assert simulators.local_simulators(task) is kept and kept._live == live
    rollout(other, LinearPolicies(other, 1), 1, [1])
    assert all(simulator._environment is None for simulator in live)


def test_episode_ends_with_the_environment_or_at_the_horizon():
    hopper = rollout(
        get_task("HopperVelocity"), LinearPolicies(get_task("HopperVelocity"), 1), 1, [0]
    )
    assert 1 <= hopper.lengths[0, 0] < 1000
    ball = get_task("BallRun")
    assert rollout(ball, LinearPolicies(ball, 1), 1, [0]).lengths[0, 0] == ball.horizon
    boat = get_task("BoatNavigation")
    assert rollout(boat, LinearPolicies(boat, 1), 1, [0]).lengths[0, 0] == 400


def test_actions_are_clipped():
    task = get_task("BallRun")

    def far(observations, step, members, episodes):
        return np.full((*observations.shape[:2], 2), 50.0)

    def bound(observations, step, members, episodes):
        return np.ones((*observations.shape[:2], 2))

    np.testing.assert_array_equal(
        arrays(rollout(task, far, 1, [0])), arrays(rollout(task, bound, 1, [0]))
    )


def test_returns_are_sums_over_the_steps():
    task = get_task("BoatNavigation")

    def right(observations, step, members, episodes):
        return np.broadcast_to([1.0, 0.0], (*observations.shape[:2], 2))

    episodes = rollout(task, right, 1, [0])
    from safesweep.trainables.tasks.boat import BoatEnvironment, start_states

    boats = BoatEnvironment(task.name, start_states([0]))
    steps = [boats.step([[1.0, 0.0]])[1:] for _ in range(400)]
    assert episodes.reward_returns[0, 0] == sum(reward[0] for reward, _ in steps)
    assert episodes.cost_returns[0, 0] == sum(cost[0] for _, cost in steps)
