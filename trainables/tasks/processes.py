"""Live simulators of a task: several in this process, or in each of some processes.

An outcome depends on an episode's seed and actions alone, so that it is the same either way. What
was made stays for the next evaluation of the same task.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.plugins import PluginSource, load_plugins, plugin_sources
from safesweep.trainables.tasks.registry import make_simulator, suite_of
from safesweep.trainables.tasks.simulator import Simulator
from safesweep.trainables.tasks.task import Task

FloatArray = NDArray[np.floating[Any]]

Outcome = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
"""Observations [n, o], rewards [n], costs [n], whether each episode has ended [n]."""

WAITING = 2
"""Processes beside those that keep the CPUs busy: each waits for its actions after every step."""

MIN_STEPS = 2_000
"""Simulated steps for which a process is worth starting: it takes about a second to import."""

Wave = Generator[tuple[str, Any], Any, None]
"""Episodes that go side by side, each in a simulator of its own.

It asks for `("reset", seeds [n])` and is sent their first observations [n, o], then for
`("step", actions [n, a])` and is sent their `Outcome`. Where an episode has ended before, its row
of actions is ignored and its outcome is zeros.
"""


class LocalSimulators:
    """Simulators of this process, stepped one after the other."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._live: list[Simulator] = []
        self._ended = np.zeros(0, dtype=bool)

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        self._ended = np.zeros(len(seeds), dtype=bool)
        observations = np.zeros((len(seeds), self.task.observation_dim), dtype=np.float32)
        for row, seed in enumerate(seeds):
            if row == len(self._live):
                self._live.append(make_simulator(self.task))
            observations[row] = self._live[row].reset(int(seed))
        return observations

    def step(self, actions: FloatArray) -> Outcome:
        count = len(self._ended)
        observations = np.zeros((count, self.task.observation_dim), dtype=np.float32)
        rewards, costs = np.zeros(count), np.zeros(count)
        for row in np.flatnonzero(~self._ended):
            observation, reward, cost, ended = self._live[row].step(actions[row])
            observations[row], rewards[row], costs[row] = observation, reward, cost
            self._ended[row] = ended
        return observations, rewards, costs, self._ended.copy()

    def close(self) -> None:
        """Free what they hold."""
        while self._live:
            self._live.pop().close()


class _Process:
    """A process that serves `LocalSimulators` over a socket, and ends when this one does.

    Attributes:
        connection: can be waited for.
    """

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # What this process can import, it must too; a network's threads are no use to it.
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
        }
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        self.connection = Connection(ours.detach())
        self._plugins: tuple[PluginSource, ...] = ()

    def ask(self, task: Task, name: str, given: Any) -> None:
        """Call a function of a task's simulators there; `answer` waits for what it returns.

        Raises:
            RuntimeError: the process has ended.
        """
        known, self._plugins = self._plugins, plugin_sources()
        try:
            self.connection.send((self._plugins[len(known) :], task, name, given))
        except OSError:
            raise self._ended() from None

    def answer(self) -> Any:
        """What the function that was asked for returned.

        Raises:
            RuntimeError: the process has ended.
            Exception: what it raised.
        """
        try:
            result = self.connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(result, Exception):
            raise result
        return result

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"a simulator's process ended with code {self.process.wait()}")

    def end(self) -> None:
        """Let it go."""
        self.connection.close()
        self.process.wait()


_PROCESSES: list[_Process] = []
_local: LocalSimulators | None = None


@atexit.register
def end_simulators() -> None:
    """End this process's simulators, and the processes that simulate for it."""
    _end_local()
    while _PROCESSES:
        _PROCESSES.pop().end()


def _end_local() -> None:
    global _local
    if _local is not None:
        _local.close()
    _local = None


def local_simulators(task: Task) -> LocalSimulators:
    """This process's simulators of a task; those of another task are ended."""
    global _local
    if _local is None or _local.task != task:
        _end_local()
        _local = LocalSimulators(task)
    return _local


def worthwhile_processes(task: Task, episodes: int, cpus: int) -> int:
    """How many processes it pays to simulate so many episodes in, on so many CPUs."""
    if suite_of(task).rollout is not None or cpus == 1:
        return 1
    most = cpus + WAITING
    return max(1, min(most, episodes, episodes * task.horizon // MIN_STEPS))


def simulate(task: Task, waves: Iterable[Wave], processes: int) -> None:
    """Run waves to their ends: here, one after the other, or one in each of so many processes.

    Raises:
        RuntimeError: a process has ended.
        Exception: what a wave or a simulator raised. Nothing goes on after it.
    """
    if processes == 1:
        simulators = local_simulators(task)
        for wave in waves:
            name, given = next(wave)
            with contextlib.suppress(StopIteration):
                while True:
                    name, given = wave.send(getattr(simulators, name)(given))
        return
    _end_local()
    while len(_PROCESSES) < processes:
        _PROCESSES.append(_Process())
    left = iter(waves)
    running: dict[Any, tuple[_Process, Wave]] = {}
    try:
        for process, wave in zip(_PROCESSES[:processes], left, strict=False):
            process.ask(task, *next(wave))
            running[process.connection] = process, wave
        while running:
            # Whichever has answered goes on; nobody waits for the slowest.
            for ready in wait(list(running)):
                process, wave = running.pop(ready)
                try:
                    request = wave.send(process.answer())
                except StopIteration:
                    following = next(left, None)
                    if following is None:
                        continue
                    wave, request = following, next(following)
                process.ask(task, *request)
                running[ready] = process, wave
    except BaseException:
        # An answer that nobody waited for would be taken for the next one.
        end_simulators()
        raise


def _serve(connection: Connection) -> None:
    """Answer requests until the other side closes."""
    while True:
        try:
            plugins, task, name, given = connection.recv()
        except (EOFError, OSError):
            return
        try:
            load_plugins(plugins)
            result = getattr(local_simulators(task), name)(given)
        except Exception as problem:
            result = problem
        try:
            connection.send(result)
        except OSError:
            return


if __name__ == "__main__":
    # Ctrl-C reaches every process of a terminal; this one ends with the one that it serves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Connection(int(sys.argv[1])) as _connection:
        _serve(_connection)
