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

from safesweep.trainables.tasks import processes as simulators
from safesweep.trainables.tasks.processes import end_simulators, simulate, worthwhile_processes
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.tasks.rollout import rollout
from tests.quick import slow_but

TASK = get_task("BallRun")


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    yield
    end_simulators()


def episodes(seeds, seen, steps=12, action_dim=2):
    rng = np.random.default_rng(len(seeds))
    seen.append(((yield "reset", seeds),))
    for _ in range(steps):
        seen.append((yield "step", rng.uniform(-1, 1, (len(seeds), action_dim))))


def run(processes, task=TASK, waves=((3, 1), (4, 1, 5), (9,)), **options):
    """What each wave of episodes was sent."""
    seen = [[] for _ in waves]
    pairs = zip(waves, seen, strict=True)
    simulate(task, [episodes(list(wave), own, **options) for wave, own in pairs], processes)
    return seen


@pytest.mark.parametrize("processes", slow_but([2], [2, 3, 4]))
def test_processes_change_no_outcome(processes):
    here = run(1)
    for _ in range(2):
        for one, other in zip(here, run(processes), strict=True):
            assert len(one) == len(other) == 13
            for mine, theirs in zip(one, other, strict=True):
                for number, again in zip(mine, theirs, strict=True):
                    np.testing.assert_array_equal(number, again)
                    assert number.dtype == again.dtype


def test_a_whole_evaluation_is_the_same():
    def act(observations, step, members, episodes):
        return np.sin(observations[..., :2] * (step + 1))

    seeds = np.arange(10).reshape(2, 5)
    here, shared = rollout(TASK, act, 2, seeds), rollout(TASK, act, 2, seeds, processes=2)
    assert len(simulators._PROCESSES) == 2
    for name in ("reward_returns", "cost_returns", "lengths"):
        np.testing.assert_array_equal(getattr(here, name), getattr(shared, name))


def test_what_has_ended_takes_no_more_steps():
    hopper = get_task("HopperVelocity")
    outcomes = run(1, hopper, [(0, 1)], steps=400, action_dim=3)[0][1:]
    ended = np.array([outcome[3] for outcome in outcomes])
    assert ended[-1].all() and not ended[0].any()
    for before, (observations, rewards, costs, _) in zip(ended[:-1], outcomes[1:], strict=True):
        assert not observations[before].any()
        assert not rewards[before].any() and not costs[before].any()
        assert observations[~before].any(axis=1).all()
    assert all((later >= earlier).all() for earlier, later in pairwise(ended))


def test_a_process_is_started_only_for_enough_steps():
    enough = simulators.MIN_STEPS // TASK.horizon
    assert worthwhile_processes(TASK, 2 * enough - 1, 64) == 1
    assert worthwhile_processes(TASK, 2 * enough, 1) == 1
    assert worthwhile_processes(TASK, 2 * enough, 64) == 2
    assert worthwhile_processes(TASK, 3 * enough, 64) == 3
    assert worthwhile_processes(TASK, 3 * enough, 2) == 3
    assert worthwhile_processes(TASK, 64 * enough, 2) == 2 + simulators.WAITING
    assert worthwhile_processes(get_task("HopperVelocity"), 1, 2) == 1
    assert worthwhile_processes(get_task("BoatNavigation"), 1_000, 2) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_is_raised_here_and_the_next_evaluation_starts_anew(processes):
    run(processes)
    first = {process.process.pid for process in simulators._PROCESSES}

    def failing():
        yield "reset", [0, 1]
        yield "step", np.zeros((1, 2))

    with pytest.raises(IndexError):
        simulate(TASK, [episodes([3], []), failing(), episodes([4], [])], processes)
    assert not simulators._PROCESSES
    np.testing.assert_array_equal(run(processes)[0][-1][0], run(1)[0][-1][0])
    assert not {process.process.pid for process in simulators._PROCESSES} & first


def test_what_a_wave_raises_is_raised():
    def failing():
        yield "reset", [0]
        raise KeyError("policy")

    with pytest.raises(KeyError, match="policy"):
        simulate(TASK, [episodes([3], []), failing()], 2)
    assert not simulators._PROCESSES


def test_an_evaluation_fails_with_what_its_simulator_said():
    def act(observations, step, members, episodes):
        return np.zeros((*observations.shape[:2], 7))

    with pytest.raises(ValueError) as alone:
        rollout(TASK, act, 2, [0, 1])
    with pytest.raises(ValueError, match=re.escape(str(alone.value))):
        rollout(TASK, act, 2, [0, 1], processes=2)


def test_a_process_that_dies_is_said():
    def killing():
        yield "reset", [0]
        simulators._PROCESSES[0].process.kill()
        while True:
            yield "step", np.zeros((1, 2))

    with pytest.raises(RuntimeError, match="process ended with code -9"):
        simulate(TASK, [killing(), episodes([3], [], steps=1_000)], 2)


def test_processes_end_with_the_one_that_they_serve():
    code = (
        "import time; from safesweep.trainables.tasks.processes import simulate, _PROCESSES\n"
        "from safesweep.trainables.tasks.registry import get_task\n"
        "def wave(seed): yield 'reset', [seed]\n"
        "simulate(get_task('BallRun'), [wave(0), wave(1)], 2)\n"
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
