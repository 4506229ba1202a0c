"""Several live simulators of a task, stepped together: here, or shared out to processes.

An outcome depends on an episode's seed and actions alone, so that it is the same either way. What
was made stays for the next evaluation of the same task.
"""

import atexit
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.dsrl_compatibility import Simulator, make_simulator
from trainables.tasks import Task

FloatArray = NDArray[np.floating]

Outcome = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]
"""Observations [n, o], rewards [n], costs [n], whether each episode has ended [n]."""

MIN_STEPS = 2_000
"""Simulated steps for which a process is worth starting: it takes about a second to import."""


class Simulators(Protocol):
    """Some episodes of a task, each in an environment of its own.

    Attributes:
        processes: how many simulate at a time.
    """

    processes: int

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """Start an episode for each seed: their first observations [n, o]."""

    def step(self, actions: FloatArray) -> Outcome:
        """Take a step of every episode with its row of actions [n, a]. Where one has ended before,
        the row is ignored, and its outcome is zeros."""


class LocalSimulators:
    """Simulators of this process, stepped one after the other."""

    processes = 1

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
    """A process that serves `LocalSimulators` over a socket, and ends when this one does."""

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
        self._connection = Connection(ours.detach())

    def ask(self, name: str, *arguments: Any) -> None:
        """Call a function there; `answer` waits for what it returns.

        Raises:
            RuntimeError: the process has ended.
        """
        try:
            self._connection.send((name, arguments))
        except OSError:
            raise self._ended() from None

    def answer(self) -> Any:
        """What the function that was asked for returned.

        Raises:
            RuntimeError: the process has ended.
            Exception: what it raised.
        """
        try:
            result = self._connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if isinstance(result, Exception):
            raise result
        return result

    def _ended(self) -> RuntimeError:
        return RuntimeError(f"a simulator's process ended with code {self.process.wait()}")

    def end(self) -> None:
        """Let it go."""
        self._connection.close()
        self.process.wait()


class SharedOutSimulators:
    """Simulators of several processes, which step at the same time.

    The processes outlive it, for the next evaluation. After an exception it cannot be used again.
    """

    def __init__(self, task: Task, processes: int) -> None:
        while len(_PROCESSES) < processes:
            _PROCESSES.append(_Process())
        self.processes = processes
        self._task = task
        self._processes = _PROCESSES[:processes]
        self._rows: list[slice] = []

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        bounds = np.linspace(0, len(seeds), len(self._processes) + 1).astype(int)
        self._rows = [slice(*pair) for pair in pairwise(bounds)]
        given = list(map(int, seeds))
        shares = [(self._task, given[rows]) for rows in self._rows]
        return np.concatenate(self._all("reset", shares))

    def step(self, actions: FloatArray) -> Outcome:
        outcomes = self._all("step", [(actions[rows],) for rows in self._rows])
        observations, rewards, costs, ended = map(np.concatenate, zip(*outcomes, strict=True))
        return observations, rewards, costs, ended

    def _all(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        try:
            for process, given in zip(self._processes, arguments, strict=True):
                process.ask(name, *given)
            return [process.answer() for process in self._processes]
        except BaseException:
            # An answer that nobody waited for would be taken for the next one.
            end_simulators()
            raise


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


def open_simulators(task: Task, episodes: int, processes: int) -> Simulators:
    """Simulators for so many episodes of a task, on up to so many processes where it pays.

    Episodes of an earlier call end.
    """
    processes = min(processes, episodes, episodes * task.horizon // MIN_STEPS)
    if processes < 2:
        return local_simulators(task)
    _end_local()
    return SharedOutSimulators(task, processes)


def _serve(connection: Connection) -> None:
    """Answer requests until the other side closes."""
    simulators: LocalSimulators | None = None
    while True:
        try:
            name, arguments = connection.recv()
        except (EOFError, OSError):
            return
        result: Any = None
        try:
            if name == "reset":
                task, *arguments = arguments
                simulators = local_simulators(task)
            if simulators is not None:
                result = getattr(simulators, name)(*arguments)
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
