import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from trainables import simulators
from trainables.environments import rollout
from trainables.simulators import (
    LocalSimulators,
    SharedOutSimulators,
    end_simulators,
    open_simulators,
)
from trainables.tasks import get_task

TASK = get_task("BallRun")


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    end_simulators()


def drive(group, seeds, steps=12, action_dim=2):
    rng = np.random.default_rng(0)
    outcomes = [(group.reset(seeds),)]
    for _ in range(steps):
        outcomes.append(group.step(rng.uniform(-1, 1, (len(seeds), action_dim))))
    return outcomes


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_change_no_outcome(processes):
    here = drive(LocalSimulators(TASK), [3, 1, 4, 1, 5])
    shared = SharedOutSimulators(TASK, processes)
    for _ in range(2):
        for one, other in zip(here, drive(shared, [3, 1, 4, 1, 5]), strict=True):
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, theirs)
                assert mine.dtype == theirs.dtype


def test_a_whole_evaluation_is_the_same(monkeypatch):
    monkeypatch.setattr(simulators, "MIN_STEPS", 1)

    def act(observations, step, episodes):
        return np.sin(observations[..., :2] * (step + 1))

    seeds = np.arange(10).reshape(2, 5)
    here, shared = rollout(TASK, act, 2, seeds), rollout(TASK, act, 2, seeds, processes=2)
    assert len(simulators._PROCESSES) == 2
    for name in ("reward_returns", "cost_returns", "lengths"):
        np.testing.assert_array_equal(getattr(here, name), getattr(shared, name))


def test_what_has_ended_takes_no_more_steps():
    hopper = get_task("HopperVelocity")
    outcomes = drive(LocalSimulators(hopper), [0, 1], 400, 3)[1:]
    ended = np.array([outcome[3] for outcome in outcomes])
    assert ended[-1].all() and not ended[0].any()
    for before, (observations, rewards, costs, _) in zip(ended[:-1], outcomes[1:], strict=True):
        assert not observations[before].any()
        assert not rewards[before].any() and not costs[before].any()
        assert observations[~before].any(axis=1).all()
    assert all((later >= earlier).all() for earlier, later in pairwise(ended))


def test_a_process_is_started_only_for_enough_steps():
    enough = simulators.MIN_STEPS // TASK.horizon

    def processes(episodes, allowed):
        opened = open_simulators(TASK, episodes, allowed)
        return len(opened._processes) if isinstance(opened, SharedOutSimulators) else 0

    assert processes(2 * enough - 1, 64) == 0
    assert processes(2 * enough, 1) == 0
    assert processes(2 * enough, 64) == 2
    assert processes(3 * enough, 64) == 3
    assert processes(3 * enough, 2) == 2


def test_an_exception_is_raised_here_and_the_next_evaluation_starts_anew():
    shared = SharedOutSimulators(TASK, 2)
    shared.reset([0, 1])
    first = [process.process.pid for process in simulators._PROCESSES]
    with pytest.raises(IndexError):
        shared.step(np.zeros((1, 2)))
    again = SharedOutSimulators(TASK, 2)
    assert again.reset([0, 1]).shape == (2, TASK.observation_dim)
    assert not {process.process.pid for process in simulators._PROCESSES} & set(first)


def test_an_evaluation_fails_with_what_its_simulator_said(monkeypatch):
    monkeypatch.setattr(simulators, "MIN_STEPS", 1)

    def act(observations, step, episodes):
        return np.zeros((*observations.shape[:2], 7))

    with pytest.raises(ValueError) as alone:
        rollout(TASK, act, 2, [0, 1])
    with pytest.raises(ValueError, match=re.escape(str(alone.value))):
        rollout(TASK, act, 2, [0, 1], processes=2)


def test_a_process_that_dies_is_said():
    shared = SharedOutSimulators(TASK, 2)
    shared.reset([0, 1])
    simulators._PROCESSES[1].process.kill()
    with pytest.raises(RuntimeError, match="process ended with code -9"):
        for _ in range(3):
            shared.step(np.zeros((2, 2)))


def test_processes_end_with_the_one_that_they_serve():
    code = (
        "import time; from trainables.simulators import SharedOutSimulators, _PROCESSES\n"
        "from trainables.tasks import get_task\n"
        "SharedOutSimulators(get_task('BallRun'), 2).reset([0, 1])\n"
        "print(*[process.process.pid for process in _PROCESSES], flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    children = list(map(int, parent.stdout.readline().split()))
    assert len(children) == 2
    for child in children:
        os.kill(child, signal.SIGINT)
    time.sleep(0.2)
    assert all(_alive(child) for child in children)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while any(_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"
