"""How long a sweep may take, by what its store has measured of the same methods and tasks."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import listed
from safesweep.sweeps.execution.standing import duration

if TYPE_CHECKING:
    import pandas

    from safesweep.trainables.store.reader import StoreReader

_RUN_COLUMNS = (
    "run_id", "algorithm", "task", "steps", "train_seconds", "evaluate_seconds", "population",
    "continued_from", "config",
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """What is to be done of one method on one task in populations of one size.

    Attributes:
        population: runs that train together.
        sizes: the static hyperparameters, by which the time of a step goes.
        steps: gradient steps of runs.
        episodes: of all evaluations of runs.
    """

    algorithm: str
    task: str
    population: int
    sizes: Mapping[str, Any]
    steps: float
    episodes: float

    @property
    def named(self) -> str:
        """Method and task."""
        return f"{self.algorithm} on {self.task}"


@dataclass(frozen=True)
class Pace:
    """What a step and an episode took, of one run; each run of a population has its share.

    Attributes:
        step: seconds of a gradient step.
        episode: seconds of an episode of an evaluation.
        population: the runs that were measured trained in populations of this size.
        same_sizes: whether their networks and batches were of the sizes asked for.
        runs: how many were measured.
    """

    step: float
    episode: float
    population: int
    same_sizes: bool
    runs: int


def measured_pace(store: "StoreReader", work: Work) -> Pace | None:
    """The pace of the store's runs that are most like some work; None where it has none."""
    runs = store.table_so_far("runs", _RUN_COLUMNS)
    runs = runs[(runs["algorithm"] == work.algorithm) & (runs["task"] == work.task)]
    runs = runs[(runs["train_seconds"] > 0) & (runs["steps"] > 0) & runs["population"].notna()]
    # Of a run that carries on a shorter one, the time is that of the steps that were added.
    runs = runs[runs["continued_from"].isna()]
    if runs.empty:
        return None
    alike = runs[_of_sizes(runs, work.sizes)]
    same_sizes = not alike.empty
    runs = alike if same_sizes else runs
    distance = (runs["population"] / work.population).map(math.log).abs()
    runs = runs[distance == distance.min()]
    episodes = store.table_so_far("evaluations", ("run_id", "step", "policy", "episodes"))
    episodes = episodes[episodes["run_id"].isin(runs["run_id"])]
    # Each policy of a method is evaluated: their time is that of an episode of the run.
    evaluated = episodes.drop_duplicates(["run_id", "step"])["episodes"].sum()
    return Pace(
        float(runs["train_seconds"].sum() / runs["steps"].sum()),
        float(runs["evaluate_seconds"].sum() / evaluated) if evaluated else 0.0,
        int(runs["population"].iloc[0]),
        same_sizes,
        len(runs),
    )


def _of_sizes(runs: "pandas.DataFrame", sizes: Mapping[str, Any]) -> "pandas.Series[bool]":
    configs = {text: json.loads(text) for text in runs["config"].dropna().unique()}
    alike = {
        text: all(config.get(name) == value for name, value in sizes.items())
        for text, config in configs.items()
    }
    return runs["config"].map(alike).fillna(False).astype(bool)


def describe_time(store: "StoreReader | None", works: Sequence[Work], at_a_time: int) -> list[str]:
    """How long some work may take, in lines: with the pace that this goes by, or that nothing is
    measured yet.

    Args:
        store: None where there is none yet.
        at_a_time: trials that run beside each other.
    """
    seconds, measured, unknown = 0.0, dict[str, None](), dict[str, None]()
    for work in works:
        pace = None if store is None else measured_pace(store, work)
        if pace is None:
            unknown[work.named] = None
            continue
        seconds += pace.step * work.steps + pace.episode * work.episodes
        sizes = "" if pace.same_sizes else ", with other sizes"
        measured[
            f"{work.named}: {1 / pace.step:,.3g} gradient steps of a run a second in populations "
            f"of {pace.population}{sizes}, {pace.episode:.2g} s an episode (by {pace.runs:,} runs)"
        ] = None
    lines = []
    if measured:
        beside = "one trial after the other" if at_a_time == 1 else f"{at_a_time} trials at a time"
        rest = " for what is measured" if unknown else ""
        lines.append(f"about {duration(seconds / at_a_time)}{rest}, {beside}, by the store's runs")
        lines += measured
    if unknown:
        lines.append(
            f"how long it takes is not known of {listed(unknown)}: nothing is measured yet"
        )
    return lines
