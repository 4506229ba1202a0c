"""A video of one episode of a policy, with the steps that cost marked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safesweep.search_spaces.validation import InvalidInput, require_choice, require_number
from safesweep.trainables.policies.policy import Policy
from safesweep.trainables.tasks.registry import Task, suite_of

SUFFIXES = (".gif", ".mp4")
STRIP = 56
"""Rows of points below the picture: what the episode has brought so far, and when it cost."""
_MARGIN, _TEXT_SIZE = 8, 16
_PAPER, _INK, _COST, _DONE = (255, 255, 255), (30, 30, 30), (192, 57, 43), (170, 170, 170)


@dataclass(frozen=True)
class FilmedEpisode:
    """What happened in an episode that was filmed."""

    reward_return: float
    cost_return: float
    length: int
    frames: int


def film_episode(
    policy: Policy,
    task: Task,
    path: Path,
    seed: int = 0,
    every: int = 1,
    frames_a_second: int = 25,
) -> FilmedEpisode:
    """Play one episode and write it as a video.

    Args:
        path: a `.gif` or `.mp4`.
        seed: of the episode; the policy's noise is that of its run.
        every: steps between two pictures; each step that costs is shown.

    Raises:
        InvalidInput: another suffix, a task of which no picture can be drawn, a package that is
            missing, or a file that cannot be written.
    """
    require_choice("output", path.suffix, SUFFIXES)
    require_number("every", every, 1, integer=True)
    require_number("fps", frames_a_second, 1, 60, integer=True)
    require_number("seed", seed, 0, integer=True)
    played = _Episode(policy, task, seed)
    frames = 0
    try:
        with _writer(path, frames_a_second) as video:
            for frame in played.frames(every):
                video.append_data(frame)
                frames += 1
    except OSError as problem:
        raise InvalidInput(f"output: {str(path)!r} cannot be written ({problem})") from problem
    costs = played.costs
    return FilmedEpisode(sum(played.rewards), sum(costs), len(costs), frames)


class _Episode:
    def __init__(self, policy: Policy, task: Task, seed: int) -> None:
        visible = suite_of(task).visible
        if visible is None:
            raise InvalidInput(
                f"task: no picture can be drawn of {task.name}; the boats, Bullet's tasks and "
                "environments of gymnasium can be filmed"
            )
        suite_of(task).package_versions(task)
        self._policy, self._task, self._seed = policy, task, seed
        self._simulator = visible(task)
        self.rewards: list[float] = []
        self.costs: list[float] = []

    def frames(self, every: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures of the episode, from the start to its end."""
        observation = self._simulator.reset(self._seed)
        self._policy.reset()
        yield self._frame()
        reward = cost = 0.0
        try:
            for step in range(self._task.horizon):
                action = np.clip(self._policy.act(observation, reward, cost), -1.0, 1.0)
                observation, reward, cost, ended = self._simulator.step(action.astype(np.float64))
                self.rewards.append(reward)
                self.costs.append(cost)
                last = ended or step + 1 == self._task.horizon
                if last or cost > 0 or (step + 1) % every == 0:
                    yield self._frame()
                if last:
                    break
        finally:
            self._simulator.close()

    def _frame(self) -> NDArray[np.uint8]:
        from PIL import Image, ImageDraw, ImageFont

        picture = self._simulator.picture()
        # Videos have an even number of rows and columns.
        picture = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
        height, width = picture.shape[:2]
        image = Image.new("RGB", (width, height + STRIP), _PAPER)
        image.paste(Image.fromarray(picture))
        draw = ImageDraw.Draw(image)
        costs_now = bool(self.costs) and self.costs[-1] > 0
        if costs_now:
            draw.rectangle((0, 0, width - 1, height - 1), outline=_COST, width=6)
        words = (
            f"{self._task.name}  step {len(self.costs)}  reward {sum(self.rewards):.1f}  "
            f"cost {sum(self.costs):g}"
        )
        font: Any = ImageFont.load_default(_TEXT_SIZE)
        draw.text((_MARGIN, height + 4), words, _COST if costs_now else _INK, font=font)
        self._draw_time(draw, width, height + STRIP - 20)
        return np.asarray(image)

    def _draw_time(self, draw: Any, width: int, top: int) -> None:
        """A bar of the episode's time, on which the steps that cost are red."""
        scale = (width - 2 * _MARGIN) / self._task.horizon
        bottom = top + 10
        draw.rectangle((_MARGIN, top, width - _MARGIN, bottom), outline=_DONE)
        end = _MARGIN + len(self.costs) * scale
        draw.rectangle((_MARGIN, top, end, bottom), fill=_DONE)
        for step, cost in enumerate(self.costs):
            if cost > 0:
                left = _MARGIN + step * scale
                draw.rectangle((left, top - 2, left + max(1.0, scale), bottom + 2), fill=_COST)


def _writer(path: Path, frames_a_second: int) -> Any:
    try:
        import imageio.v2 as imageio

        if path.suffix == ".gif":
            return imageio.get_writer(path, duration=1000 / frames_a_second, loop=0)
        import imageio_ffmpeg  # noqa: F401
    except ImportError as problem:
        raise InvalidInput(
            f"output: a {path.suffix} needs {problem.name}, which is not installed; install the "
            "extra record"
        ) from None
    return imageio.get_writer(path, fps=frames_a_second, macro_block_size=2)
