"""One boat as a picture: river, obstacles, the set from which it can stay safe, and its way."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.trainables.tasks import boat
from safesweep.trainables.tasks.simulator import FloatArray
from safesweep.trainables.tasks.task import Task

SIZE = (6.4, 5.12)
"""Inches, of 100 points each."""
_WATER, _ROCK, _WAY, _COST = "#dbe9f4", "#6b6b6b", "#1f4e79", "#c0392b"


class VisibleBoat:
    """One boat, drawn. Starts are those of `boat.start_states`."""

    def __init__(self, task: Task) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Circle

        self._task = task
        self._boats: boat.BoatEnvironment | None = None
        figure = Figure(SIZE, dpi=100)
        self._canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0.11, 0.1, 0.87, 0.88))
        axes.set(
            xlim=(boat.LOW[0], boat.HIGH[0]), ylim=(boat.LOW[1], boat.HIGH[1]), facecolor=_WATER,
            xlabel="x in m (the current flows to the right)", ylabel="y in m", aspect="equal",
        )  # fmt: skip
        safe = boat.true_feasible_set(task.name)
        axes.contour(
            safe.grid_x, safe.grid_y, safe.value.T, levels=[0.0], colors=_ROCK, linestyles="dotted"
        )
        for x, y, radius in boat.boat_of(task.name).obstacles:
            axes.add_patch(Circle((x, y), radius, color=_ROCK))
        axes.plot(*boat.GOAL, marker="*", markersize=16, color="#d68910")
        (self._way,) = axes.plot([], [], color=_WAY, linewidth=1.5)
        (self._costly,) = axes.plot([], [], "o", color=_COST, markersize=4)
        (self._boat,) = axes.plot([], [], "o", color=_WAY, markersize=9, clip_on=False)

    def reset(self, seed: int) -> FloatArray:
        self._boats = boat.BoatEnvironment(
            self._task.name, boat.start_states([seed], self._task.name)
        )
        self._places, self._costs = [self._boats.states[0]], [0.0]
        observation: FloatArray = self._boats.observations[0]
        return observation

    def step(self, action: FloatArray) -> tuple[FloatArray, float, float, bool]:
        assert self._boats is not None
        observations, rewards, costs = self._boats.step(np.asarray(action)[None])
        # The cost of a step is that of the state that it left.
        self._costs[-1] = float(costs[0])
        self._places.append(self._boats.states[0])
        self._costs.append(0.0)
        return observations[0], float(rewards[0]), float(costs[0]), False

    def picture(self) -> NDArray[np.uint8]:
        places = np.array(self._places)
        self._way.set_data(places[:, 0], places[:, 1])
        costly = places[np.array(self._costs) > 0]
        self._costly.set_data(costly[:, 0], costly[:, 1])
        self._boat.set_data(places[-1:, 0], places[-1:, 1])
        canvas: Any = self._canvas
        canvas.draw()
        return np.array(np.asarray(canvas.buffer_rgba())[:, :, :3], dtype=np.uint8)

    def close(self) -> None: ...
