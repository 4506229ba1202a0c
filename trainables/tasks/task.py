"""One environment and its dataset, as constants."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Task:
    """One environment and its dataset.

    Attributes:
        name: canonical id, e.g. "OfflineCarRun-v0".
        observation_dim: numbers in an observation.
        action_dim: numbers in an action; every action lies in [-1, 1].
        horizon: the most steps in an episode.
        min_return: episode return that normalises to 0.
        max_return: episode return that normalises to 1.
        max_cost: largest episode cost in the dataset, or that an episode can have.
        key: the short name in papers' tables, e.g. "CarRun"; its suite makes it the name where
            there is none.
        suite: the name of its suite, which sets it.
        cost_limits: the episode-cost limits under which the task is reported; its suite's where
            it has none of its own.
        dataset_file: the published file's name, None for tasks without one.
        dataset_urls: where the file can be fetched, in the order to try.
        trajectories: episodes in the published file.
        dataset_path: a file on this machine that is the task's data.
        reward_scale: what brings rewards to the unit that methods learn from; its suite's where it
            has none of its own.
        revision: counts how often what the same configuration trains was changed by the task's
            definition: a part of a run's identity.
        collected_episodes: how many are collected unless told otherwise; as its suite says where
            it has no number of its own.
    """

    name: str
    observation_dim: int
    action_dim: int
    horizon: int
    min_return: float
    max_return: float
    max_cost: float
    key: str = ""
    suite: str = ""
    cost_limits: tuple[float, ...] = ()
    dataset_file: str | None = None
    dataset_urls: tuple[str, ...] = ()
    trajectories: int | None = None
    dataset_path: str | None = None
    reward_scale: float | None = None
    revision: int = 0
    collected_episodes: int | None = None

    @property
    def cost_limit(self) -> float:
        """The default limit: the smallest of `cost_limits`."""
        return min(self.cost_limits)

    @property
    def unit_scale(self) -> float:
        """What rewards are multiplied by unless a method takes them as they are.

        `reward_scale`, or horizon / (max return - min return), which brings them to order one a
        step: the scaling of FISOR's public code without its per-dataset episode length.
        """
        if self.reward_scale is not None:
            return self.reward_scale
        return self.horizon / (self.max_return - self.min_return)

    @property
    def identity(self) -> str:
        """The name in a run's identity."""
        return f"{self.name} revision {self.revision}" if self.revision else self.name

    def normalize_reward(self, reward_return: Any) -> Any:
        """(R - min_return) / (max_return - min_return), for a number or an array."""
        return (reward_return - self.min_return) / (self.max_return - self.min_return)

    def limit_or_own(self, cost_limit: float | None) -> float:
        """The limit that is asked for, or the task's own where none is."""
        return self.cost_limit if cost_limit is None else float(cost_limit)

    @staticmethod
    def normalize_cost(cost_return: Any, cost_limit: Any) -> Any:
        """C / limit, for numbers or arrays; (C + 1) / 1 where the limit is 0 (DSRL)."""
        shift = (cost_limit == 0) * 1.0
        return (cost_return + shift) / (cost_limit + shift)
