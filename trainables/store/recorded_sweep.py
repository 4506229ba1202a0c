"""What the store has recorded of a sweep's file, read without checking it anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True)
class RecordedSweep:
    """The parts of a recorded sweep file that later launches and choices go by.

    Attributes:
        objective: its section of that name; empty where there is none.
        cost_limit: of an episode; None: each task's own.
        episodes: how many an evaluation takes, by task; empty where the file leaves it open.
        configs_per_trial: configurations in a population; None where the file leaves it open.
        warm_start: whether its searches are told what the store held before.
    """

    objective: Mapping[str, Any]
    cost_limit: float | None
    episodes: Mapping[str, int]
    configs_per_trial: int | None
    warm_start: bool = False


def read_recorded_sweep(text: str | None) -> RecordedSweep | None:
    """What a recorded sweep file says; None where there is none, as of an import."""
    content = yaml.safe_load(text) if text else None
    if not isinstance(content, Mapping) or not {"algorithm", "tasks"} <= set(content):
        return None
    limit, population = content.get("cost_limit"), content.get("configs_per_trial")
    episodes = (content.get("evaluate") or {}).get("episodes")
    if isinstance(episodes, int):
        episodes = dict.fromkeys(content["tasks"], episodes)
    return RecordedSweep(
        objective=content.get("objective") or {},
        cost_limit=None if limit is None else float(limit),
        episodes=episodes if isinstance(episodes, dict) else {},
        configs_per_trial=population if isinstance(population, int) else None,
        warm_start=bool((content.get("search") or {}).get("warm_start")),
    )
