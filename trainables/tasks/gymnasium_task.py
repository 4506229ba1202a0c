"""A task of one's own from an environment of gymnasium, described in a YAML file.

    name: MyRobot-v0             # as sweeps call it
    environment: my_robots:Arm-v1  # gymnasium's id; before the colon what has to be imported
    horizon: 200                 # the most steps in an episode
    min_return: 0.0              # the episode return that normalises to 0
    max_return: 150.0            # and to 1
    cost_limit: 10               # or a list: on the cost of an episode
    cost: cost                   # the entry of `info` that holds a step's cost
    max_cost: 200                # the most that an episode can cost (default: the horizon)
    dataset: arm.hdf5            # beside this file (default: collected in the environment)

Observations are one vector, actions lie in [-1, 1] (`gymnasium.wrappers.RescaleAction` brings
others there), and an episode follows from the seed of its reset.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
    nearest,
    quotes_hint,
    require_number,
    shown,
)
from safesweep.trainables.tasks.simulator import FloatArray
from safesweep.trainables.tasks.suite import Suite
from safesweep.trainables.tasks.task import Task

REQUIRED = ("name", "environment", "horizon", "min_return", "max_return", "cost_limit")
OPTIONAL = ("cost", "max_cost", "dataset")


class GymnasiumSimulator:
    """An environment of gymnasium."""

    def __init__(
        self, environment: str, cost: str, task: Task, render_mode: str | None = None
    ) -> None:
        self._cost, self._task = cost, task
        self._environment = _made(environment, task.horizon, render_mode)

    def reset(self, seed: int) -> FloatArray:
        observation, _ = self._environment.reset(seed=seed)
        return np.asarray(observation)

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        kind = self._environment.action_space.dtype
        observation, reward, terminated, _, information = self._environment.step(
            np.asarray(action, dtype=kind)
        )
        if self._cost not in information:
            raise InvalidInput(
                f"cost: {shown(self._cost)} is not in the info of {self._task.name}, which holds "
                f"{', '.join(map(str, information)) or 'nothing'}"
            )
        return np.asarray(observation), float(reward), float(information[self._cost]), terminated

    def close(self) -> None:
        self._environment.close()

    def picture(self) -> NDArray[np.uint8]:
        """What the environment renders; made with `render_mode="rgb_array"`.

        Raises:
            InvalidInput: it renders nothing.
        """
        try:
            return np.asarray(self._environment.render(), dtype=np.uint8)
        except Exception as problem:  # whatever a foreign environment raises
            raise InvalidInput(f"task: {self._task.name} draws no picture ({problem})") from None


def suite_of_file(content: Mapping[str, Any]) -> Suite:
    """The suite of one task that a file describes.

    Args:
        content: of the file, and its path as `file`.

    Raises:
        InvalidInput: an unknown or missing key, a bad value, no such environment, or one that
            observes or acts in another form.
    """
    file = expanded(str(content["file"]))
    given = {key: value for key, value in content.items() if key != "file"}
    for key in given:
        if key not in REQUIRED + OPTIONAL:
            close = nearest(str(key), REQUIRED + OPTIONAL)
            hint = f"; did you mean {close!r}?" if close else ""
            raise InvalidInput(
                f"{key}: unknown key; allowed: {', '.join(REQUIRED + OPTIONAL)}{hint}"
            )
    for key in REQUIRED:
        if key not in given:
            raise InvalidInput(f"{key}: is missing")
    horizon = int(require_number("horizon", given["horizon"], 1, 10**6, integer=True))
    low = float(require_number("min_return", given["min_return"]))
    high = float(require_number("max_return", given["max_return"]))
    limits = given["cost_limit"]
    if not isinstance(limits, list):
        limits = [limits]
    environment, cost = _text(given, "environment"), _text(given, "cost", "cost")
    observation_dim, action_dim = _dimensions(environment, horizon)
    task = Task(
        name=_text(given, "name"),
        observation_dim=observation_dim,
        action_dim=action_dim,
        horizon=horizon,
        min_return=low,
        max_return=high,
        max_cost=float(require_number("max_cost", given.get("max_cost", horizon), 0)),
        cost_limits=tuple(float(require_number("cost_limit", limit, 0)) for limit in limits),
        dataset_path=str(file.parent / _text(given, "dataset")) if "dataset" in given else None,
    )
    return Suite(
        name=task.name,
        tasks=(task,),
        cost_limits=(),
        simulator=partial(GymnasiumSimulator, environment, cost),
        visible=partial(GymnasiumSimulator, environment, cost, render_mode="rgb_array"),
    )


def _text(content: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = content.get(key, default)
    if not isinstance(value, str) or not value:
        raise InvalidInput(
            f"{key}: {shown(value)} is not allowed; it must be text{quotes_hint(value)}"
        )
    return value


def _made(environment: str, horizon: int, render_mode: str | None = None) -> Any:
    import gymnasium

    try:
        options: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        return gymnasium.make(
            environment, max_episode_steps=horizon, disable_env_checker=True, **options
        )
    except Exception as problem:  # whatever a foreign environment raises
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        raise InvalidInput(f"environment: {shown(environment)} cannot be made: {reason}") from None


def _dimensions(environment: str, horizon: int) -> tuple[int, int]:
    """Numbers in an observation and in an action."""
    import gymnasium

    live = _made(environment, horizon)
    observations, actions = live.observation_space, live.action_space
    live.close()
    for name, space in (("observations", observations), ("actions", actions)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise InvalidInput(
                f"environment: {shown(environment)} has {name} {shown(space)}; they must be one "
                "vector (Box)"
            )
    if not (np.all(actions.low == -1) and np.all(actions.high == 1)):
        raise InvalidInput(
            f"environment: {shown(environment)} has actions in {shown(actions)}; they must lie in "
            "[-1, 1] (gymnasium.wrappers.RescaleAction)"
        )
    return int(observations.shape[0]), int(actions.shape[0])
