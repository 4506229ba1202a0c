"""A suite: tasks that share a simulator, and all that the platform has to know of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.tasks.simulator import Act, Episodes, Simulator, VisibleSimulator
from safesweep.trainables.tasks.task import Task

Arrays = dict[str, NDArray[Any]]
"""A dataset by its keys, in DSRL's layout."""

Collect = Callable[
    [Task, int, int, Callable[[int, int], None] | None], tuple[Arrays, dict[str, object]]
]
"""(task, episodes, seed, called with episodes done and episodes) -> the dataset, and what is said
of how it was made. The same arguments always give the same data."""

Rollout = Callable[[Task, Act, NDArray[np.int64], bool], Episodes]
"""(task, policies of M members, seeds [M, E], whether all members get the same starts, spread
evenly as the first seed has it) -> outcomes, all episodes at once."""


@dataclass(frozen=True)
class KnownFeasibility:
    """States of which it is known whether cost can be avoided for good.

    Attributes:
        states: [n, o].
        feasible: [n], whether it can.
        doomed: [n], where it cannot though nothing costs yet.
    """

    states: NDArray[np.floating[Any]]
    feasible: NDArray[np.bool_]
    doomed: NDArray[np.bool_]


@dataclass(frozen=True)
class Suite:
    """Tasks that share a simulator.

    Attributes:
        name: as in `Task.suite`.
        tasks: their suite and, where they have none of their own, key and limits are set here.
        cost_limits: the limits on the episode cost of tasks without any of their own.
        simulator: makes a live environment of a task; not needed beside `rollout`.
        packages: the distributions that the simulator is made of.
        installation: how to get those that do not come with safesweep, in words.
        rollout: runs a population's episodes at once, without a simulator.
        simulators_a_process: each wave of so many asks its policies again; more than some gain
            little.
        simulator_megabytes: of memory that one takes.
        collect: makes a dataset; a search of linear policies in the simulator when None.
        collectable: False where data cannot be made here.
        collecting_simulator: for the search of linear policies, instead of `simulator`.
        online_simulator: for methods that train in the environment, where `simulator` has other
            rewards than the data, or there is none.
        collected_episodes: unless told otherwise; about 100,000 steps when None.
        collector_version: changes when the same arguments would give other data.
        fetch: (task, folder to keep files in) -> the published dataset and where it comes from,
            for data that is no file in our layout; raises OSError.
        reward_scale: what brings rewards to the unit that methods learn from, for tasks without
            any of their own; 1 for rewards as they are, and horizon / (max return - min return)
            when None.
        visible: makes an environment that can be looked at; None where that is not possible.
        data_licence: of the published data, in words.
        trajectory_pieces: whether data are pieces of trajectories that go on.
        known_feasibility: of a task whose feasible set is known.
    """

    name: str
    tasks: tuple[Task, ...]
    cost_limits: tuple[float, ...]
    simulator: Callable[[Task], Simulator] | None = None
    packages: tuple[str, ...] = ()
    installation: str = ""
    rollout: Rollout | None = None
    simulators_a_process: int = 16
    simulator_megabytes: float = 50
    collect: Collect | None = None
    collectable: bool = True
    collecting_simulator: Callable[[Task], Simulator] | None = None
    online_simulator: Callable[[Task], Simulator] | None = None
    collected_episodes: int | None = None
    collector_version: int = 2
    fetch: Callable[[Task, Path], tuple[Arrays, Mapping[str, object]]] | None = None
    reward_scale: float | None = None
    visible: Callable[[Task], VisibleSimulator] | None = None
    data_licence: str = ""
    trajectory_pieces: bool = False
    known_feasibility: Callable[[Task], KnownFeasibility] | None = None

    def __post_init__(self) -> None:
        completed = tuple(
            replace(
                task,
                key=task.key or task.name,
                suite=self.name,
                cost_limits=task.cost_limits or self.cost_limits,
                reward_scale=self.reward_scale if task.reward_scale is None else task.reward_scale,
            )
            for task in self.tasks
        )
        object.__setattr__(self, "tasks", completed)

    def package_versions(self, task: Task) -> dict[str, str]:
        """The versions of the distributions that the simulator is made of.

        Raises:
            InvalidInput: they are not installed; says how to install them.
        """
        try:
            return {name: version(name) for name in self.packages}
        except PackageNotFoundError as problem:
            how = f"; {self.installation}" if self.installation else ""
            raise InvalidInput(
                f"task: {task.name} needs the simulator {problem.name}, which is not installed{how}"
            ) from None

    def make_online_simulator(self, task: Task) -> Simulator:
        """A live environment of one of the tasks, with the rewards of its data.

        Raises:
            InvalidInput: there is none, or one that is not installed.
        """
        if self.online_simulator is None:
            return self.make_simulator(task)
        if self.installation:
            self.package_versions(task)
        return self.online_simulator(task)

    def make_simulator(self, task: Task, collecting: bool = False) -> Simulator:
        """A live environment of one of the tasks.

        Args:
            collecting: for data collection, where episodes may depend on those before.

        Raises:
            InvalidInput: the suite needs no simulator, or one that is not installed.
        """
        make = self.collecting_simulator if collecting else None
        make = make or self.simulator
        if make is None:
            raise InvalidInput(f"task: {task.name} is embedded and needs no simulator")
        self.package_versions(task)
        return make(task)
