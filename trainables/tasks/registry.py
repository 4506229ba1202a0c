"""Every suite and every task: the 38 of DSRL (Liu et al., 2024), three embedded ones, and fifty of
OGBench (Park et al., 2025), which have no costs. A new suite is one file, and one line here."""

import re
from collections.abc import Mapping
from typing import Any

from safesweep.search_spaces.plugins import Entries, extended_by_plugins, load_installed_plugins
from safesweep.search_spaces.validation import InvalidInput, did_you_mean, shown
from safesweep.trainables.tasks.boat_suite import BOAT
from safesweep.trainables.tasks.bullet import BULLET
from safesweep.trainables.tasks.gymnasium_task import suite_of_file
from safesweep.trainables.tasks.metadrive import METADRIVE
from safesweep.trainables.tasks.ogbench import OGBENCH
from safesweep.trainables.tasks.safety_gymnasium import NAVIGATION, VELOCITY
from safesweep.trainables.tasks.simulator import Simulator
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

__all__ = [
    "SUITES",
    "TASKS",
    "Suite",
    "Task",
    "get_task",
    "make_simulator",
    "simulator_installed",
    "simulator_versions",
    "suite_of",
    "task_called",
    "tasks_named_in",
]

SUITES: dict[str, Suite] = {
    "boat": BOAT,
    "bullet": BULLET,
    "safety_gymnasium_navigation": NAVIGATION,
    "safety_gymnasium_velocity": VELOCITY,
    "metadrive": METADRIVE,
    "ogbench": OGBENCH,
}

TASKS: dict[str, Task] = {}

_KEYS: dict[str, Task] = {}


def _index() -> None:
    TASKS.clear()
    TASKS.update({task.name: task for suite in SUITES.values() for task in suite.tasks})
    _KEYS.clear()
    _KEYS.update({task.key: task for task in TASKS.values()})


def _accept(name: str, value: Any, plugin: Entries) -> Suite:
    if isinstance(value, Mapping):
        value = suite_of_file(value)
    if not isinstance(value, Suite):
        raise InvalidInput(f"must be a Suite, not {shown(value)}")
    if value.name != name:
        raise InvalidInput(f"calls itself {shown(value.name)}")
    if value.simulator is None and value.rollout is None:
        raise InvalidInput("has neither a simulator nor a rollout")
    for task in value.tasks:
        taken = TASKS.get(task.name) or _KEYS.get(task.key)
        if taken is not None:
            raise InvalidInput(f"its task {task.name} is known already, in the suite {taken.suite}")
        if not task.cost_limits:
            raise InvalidInput(f"its task {task.name} has no cost limit")
        if task.max_return <= task.min_return:
            raise InvalidInput(f"its task {task.name}: max_return must be above min_return")
    return value


_index()
extended_by_plugins("SUITES", SUITES, _accept, _index)


def suite_of(task: Task) -> Suite:
    """The suite that a task belongs to.

    Raises:
        InvalidInput: there is none of that name.
    """
    if task.suite not in SUITES:
        raise InvalidInput(f"task: {task.name} is of the unknown suite {shown(task.suite)}")
    return SUITES[task.suite]


def simulator_versions(task: Task) -> dict[str, str]:
    """The versions of the distributions that the task's simulator is made of.

    Raises:
        InvalidInput: they are not installed; says how to install them.
    """
    return suite_of(task).package_versions(task)


def simulator_installed(task: Task) -> bool:
    """Whether the task can be simulated here."""
    try:
        simulator_versions(task)
    except InvalidInput:
        return False
    return True


def make_simulator(task: Task, collecting: bool = False) -> Simulator:
    """A live environment of a task; see `Suite.make_simulator`."""
    return suite_of(task).make_simulator(task, collecting)


def get_task(name: str) -> Task:
    """The task with this canonical id or short key.

    Raises:
        InvalidInput: unknown; names the nearest task.
    """
    if isinstance(name, str):
        if name not in TASKS and name not in _KEYS:
            load_installed_plugins()
        found = TASKS.get(name) or _KEYS.get(name)
        if found is not None:
            return found
    hint = did_you_mean(str(name), [*TASKS, *_KEYS])
    raise InvalidInput(
        f"task: {shown(name)} is unknown{hint} (safesweep tasks lists all {len(TASKS)}; "
        "one from outside needs its plugin, --plugin)"
    )


def tasks_named_in(text: str) -> list[Task]:
    """The tasks whose id, key or environment's id (`SafetyBallRun-v0`) stands in a text, such as a
    file's name, and is no part of another one's there."""
    places = {
        task: [
            match.span()
            for match in re.finditer(
                rf"(?<![A-Za-z0-9])(?:{_spellings(task)})(?![A-Za-z0-9])", text
            )
        ]
        for task in TASKS.values()
    }
    every = {span for spans in places.values() for span in spans}

    def stands_alone(span: tuple[int, int]) -> bool:
        start, end = span
        return not any(other != span and other[0] <= start and end <= other[1] for other in every)

    return [task for task, spans in places.items() if any(map(stands_alone, spans))]


def task_called(name: str) -> Task | None:
    """The task of this id or key, or whose environment has this id (`SafetyBallRun-v0`); None
    where there is none."""
    known = TASKS.get(name) or _KEYS.get(name)
    if known is not None:
        return known
    return next(
        (t for t in TASKS.values() if re.fullmatch(rf"(?:{_spellings(t)})(?:-v\d+)?", name)), None
    )


def _spellings(task: Task) -> str:
    key, name = re.escape(task.key), re.escape(task.name)
    return rf"{name}|(?:Safety|Offline|offline-)?{key}(?:Gymnasium)?"
