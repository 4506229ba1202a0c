"""What a store holds of a method before a sweep of it begins (`search.warm_start`).

Configurations of the same method on the same data, with the same gradient steps and cost limit, are
told to the search. Where there are none, the best on other tasks are tried first. What is found
when a sweep is first planned is kept in the store (`warm_start_path`), scores and all: however the
store grows or shrinks after that, the sweep repeats.
"""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.space import Value, settings_text
from safesweep.search_spaces.validation import InvalidInput, listed
from safesweep.sweeps.planning.estimates import MOST_MODELLED
from safesweep.sweeps.planning.history import RunOutcome, StoreHistory, outcomes
from safesweep.sweeps.planning.search import Outcome
from safesweep.sweeps.planning.summaries import summarize
from safesweep.sweeps.planning.trials import Config, configuration_id, lies_in, point_of
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.identity import added_later
from safesweep.trainables.store.schema import IMPORTED
from safesweep.trainables.store.scores import last_evaluations

if TYPE_CHECKING:
    import pandas

MOST_POINTS = 5
"""First points that other tasks give."""


@dataclass(frozen=True)
class KnownConfiguration:
    """A configuration of the store whose runs are all complete.

    Attributes:
        runs: the scores of each, by run_id.
    """

    config_id: str
    config: Config
    runs: Mapping[str, Mapping[str, float]]

    @property
    def outcomes(self) -> list[RunOutcome]:
        """How its runs ended."""
        return [RunOutcome(run, "completed", "", "", scores) for run, scores in self.runs.items()]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return [int(run.rpartition("-")[2]) for run in self.runs]


@dataclass(frozen=True)
class WarmStart:
    """What the search of one method on one task begins with.

    Attributes:
        told: configurations that it is told.
        points: to try first, where nothing is told.
        sources: the sweeps that trained what is told, or the tasks that the points come from.
        left_out: configurations of the method on the task that are not told, by the reason.
    """

    algorithm: str
    task: str
    dataset_id: str
    steps: int
    cost_limit: float
    told: tuple[KnownConfiguration, ...] = ()
    points: tuple[Mapping[str, Value], ...] = ()
    sources: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def is_for(self, spec: SweepSpec, algorithm: str, task: str, dataset_id: str) -> bool:
        """Whether it was made for a sweep's runs of a method on a task."""
        terms = (algorithm, task, dataset_id, spec.steps, spec.cost_limit_of(task))
        return terms == (self.algorithm, self.task, self.dataset_id, self.steps, self.cost_limit)

    def usable(self, spec: SweepSpec) -> list[KnownConfiguration]:
        """What is told, of it what the sweep's space and fixed values allow by now."""
        return [
            one
            for one in self.told
            if lies_in(spec, self.algorithm, one.config) and _finite(summarize(spec, one.outcomes))
        ]

    def describe(self) -> str:
        """What is told, in one line."""
        of = f"{self.algorithm} on {self.task}"
        if self.told:
            number, runs = len(self.told), sum(len(one.runs) for one in self.told)
            text = f"{_counted(number, 'configuration')} of {of} from "
            text += f"{_counted(len(self.sources), 'sweep', alone=True)} {listed(self.sources)} "
            text += f"({_counted(runs, 'run')})"
        elif self.points:
            points = "; ".join(map(settings_text, self.points))
            text = f"first points of {of} from {listed(self.sources)}: {points}"
        elif self.left_out:
            text = f"nothing of {of} in the store that compares"
        else:
            text = f"nothing of {of} in the store"
        if self.left_out:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
            text += f"; left out: {reasons}"
        return f"warm start: {text}"


def warm_start_path(sweep: str) -> str:
    """Where a store keeps what the searches of a sweep began with."""
    return f"warm_starts/{sweep}.json"


def warm_starts_content(found: Iterable[WarmStart]) -> bytes:
    """What is written there."""
    return json.dumps([asdict(one) for one in found]).encode()


def read_warm_starts(content: bytes | None, sweep: str) -> list[WarmStart]:
    """What was written there; nothing where there is no file.

    Raises:
        InvalidInput: the file is damaged.
    """
    try:
        return [_warm_start(entry) for entry in json.loads(content or b"[]")]
    except (ValueError, TypeError, KeyError, RecursionError) as problem:
        raise InvalidInput(
            f"search.warm_start: {warm_start_path(sweep)} in the store cannot be understood "
            f"({problem!r}); remove it, and what is told is looked for again"
        ) from problem


def _warm_start(entry: Mapping[str, Any]) -> WarmStart:
    told = tuple(KnownConfiguration(**one) for one in entry["told"])
    several = {name: tuple(entry[name]) for name in ("points", "sources")}
    return WarmStart(**{**entry, **several, "told": told})


def find_warm_start(
    kept: StoreHistory,
    spec: SweepSpec,
    algorithm: str,
    task: str,
    dataset_id: str,
    ended: Mapping[str, RunOutcome],
    own_run_ids: Collection[str],
) -> WarmStart:
    """What a store holds of a method for a sweep's search on a task.

    Args:
        ended: how every run of the store ended, by run_id, with costs as the sweep normalises them.
        own_run_ids: runs of the sweep itself, whose configurations are not looked at.

    Raises:
        InvalidInput: every configuration on the task has another cost limit.
    """
    terms = (algorithm, task, dataset_id, spec.steps, spec.cost_limit_of(task))
    # First the evaluations: a run whose rows come in between is then seen whole or not at all.
    evaluations, runs = kept.evaluations(), kept.runs()
    if not len(evaluations) or not len(runs):
        return WarmStart(*terms)
    known = (runs["algorithm"] == algorithm) & (runs["dataset_id"] != IMPORTED)
    runs = runs[known].drop_duplicates("run_id", keep="last")
    own_configurations = {run.rpartition("-")[0] for run in own_run_ids}
    own = runs["config_id"].isin(list(own_configurations)) | (runs["sweep"] == spec.name)
    here = (runs["task"] == task) & (runs["dataset_id"] == dataset_id)
    evaluations = last_evaluations(evaluations[evaluations["run_id"].isin(runs["run_id"])])
    store = _Known(spec, algorithm, runs[~own], evaluations, ended)
    told, sources, left_out = store.on_task(here, task, dataset_id)
    if told or (own & here).any():
        return WarmStart(*terms, told, (), sources, left_out)
    points, tasks = store.first_points(~here, task)
    return WarmStart(*terms, (), points, tasks, left_out)


class _Known:
    """A store's runs of one method, as a sweep of it sees them."""

    def __init__(
        self,
        spec: SweepSpec,
        algorithm: str,
        runs: "pandas.DataFrame",
        evaluations: "pandas.DataFrame",
        ended: Mapping[str, RunOutcome],
    ) -> None:
        self.spec, self.algorithm, self.runs = spec, algorithm, runs
        self.evaluations, self.ended = evaluations, ended
        self.space = spec.space_for(algorithm)

    @cached_property
    def _limits(self) -> dict[str, set[float]]:
        """The cost limits that runs were judged by, by run_id; none where that is not known."""
        pairs = self.evaluations[["run_id", "cost_limit"]].dropna().drop_duplicates()
        found: dict[str, set[float]] = {}
        for run, limit in zip(pairs["run_id"], pairs["cost_limit"], strict=True):
            found.setdefault(run, set()).add(float(limit))
        return found

    def on_task(
        self, here: "pandas.Series[bool]", task: str, dataset_id: str
    ) -> tuple[tuple[KnownConfiguration, ...], tuple[str, ...], dict[str, int]]:
        """What is told, from which sweeps, and how many configurations are left out by reason."""
        spec, limit = self.spec, self.spec.cost_limit_of(task)
        told: list[KnownConfiguration] = []
        sources: set[str] = set()
        left_out: Counter[str] = Counter()
        limits: set[float] = set()
        of_limit = False
        for config_id, rows in self._configurations(self.runs[here.reindex(self.runs.index)]):
            members = list(rows["run_id"])
            if not self._complete(members):
                left_out["not complete"] += 1
                continue
            judged = [self._limits[run] for run in members if run in self._limits]
            if not all(limit in one for one in judged):
                limits.update(*judged)
                left_out["of another cost limit"] += 1
                continue
            of_limit = True
            config = self._config(rows)
            if set(rows["steps"]) != {spec.steps}:
                left_out["of other gradient steps"] += 1
            elif config is None or not self._is_of_sweep(config, config_id, task, dataset_id):
                left_out["outside of its space"] += 1
            else:
                scores = {run: dict(self.ended[run].scores) for run in members}
                one = KnownConfiguration(config_id, config, scores)
                if _finite(summarize(spec, one.outcomes)):
                    told.append(one)
                    sources.update(rows["sweep"])
        if limits and not of_limit:
            raise InvalidInput(
                f"search.warm_start: the store's runs of {self.algorithm} on {task} have the cost "
                f"limit {', '.join(f'{one:g}' for one in sorted(limits))}, and this sweep has "
                f"{limit:g}; costs do not compare. Set cost_limit, or leave warm_start out"
            )
        if spec.search.method == "gp" and len(told) > MOST_MODELLED:
            best = sorted(told, key=lambda one: summarize(spec, one.outcomes).order)
            left_out[f"behind the best {MOST_MODELLED}"] = len(told) - MOST_MODELLED
            told = sorted(best[:MOST_MODELLED], key=lambda one: one.config_id)
        return tuple(told), tuple(sorted(sources)), dict(left_out)

    def first_points(
        self, elsewhere: "pandas.Series[bool]", task: str
    ) -> tuple[tuple[Mapping[str, Value], ...], tuple[str, ...]]:
        """The points of the space that were best on other tasks, in the order of their average
        rank, and the tasks.

        On each task, by its data, steps and cost limit, safe ones precede unsafe ones.
        """
        problems: dict[tuple[Any, ...], list[tuple[Outcome, str]]] = {}
        points: dict[str, Mapping[str, Value]] = {}
        for _, rows in self._configurations(self.runs[elsewhere.reindex(self.runs.index)]):
            members = list(rows["run_id"])
            config = self._config(rows)
            point = None if config is None else point_of(self.space, config)
            if point is None or not self._complete(members):
                continue
            first = rows.iloc[0]
            limit = min((min(self._limits[run]) for run in members if run in self._limits),
                        default=None)  # fmt: skip
            scored = self.evaluations[self.evaluations["run_id"].isin(members)]
            outcome = summarize(self.spec, outcomes(rows, scored, None, limit).values())
            if not _finite(outcome):
                continue
            name = first["task"] if first["task"] != task else f"other data of {task}"
            problem = (name, first["dataset_id"], int(first["steps"]), limit)
            key = json.dumps(point, sort_keys=True)
            points[key] = point
            problems.setdefault(problem, []).append((outcome, key))
        ranked = by_average_rank(problems.values())[:MOST_POINTS]
        return tuple(points[key] for key in ranked), tuple(sorted({name for name, *_ in problems}))

    def _configurations(self, runs: "pandas.DataFrame") -> Iterator[tuple[str, "pandas.DataFrame"]]:
        """Each configuration's runs, in the order of their identities."""
        for config_id, rows in runs.groupby("config_id", sort=True):
            yield str(config_id), rows.sort_values("seed")

    def _complete(self, run_ids: Sequence[str]) -> bool:
        return all(
            run in self.ended and self.ended[run].status == "completed" and self.ended[run].scores
            for run in run_ids
        )

    def _config(self, rows: "pandas.DataFrame") -> Config | None:
        """A configuration with every hyperparameter that the method has by now; None where it has
        others."""
        names = set(self.spec.resolve(self.algorithm, {}))
        later = {n: v for n, v in added_later(self.algorithm).items() if n in names}
        config: Config = {**later, **json.loads(rows["config"].iloc[0])}
        return config if set(config) == names else None

    def _is_of_sweep(self, config: Config, config_id: str, task: str, dataset_id: str) -> bool:
        """Whether the sweep could have suggested it."""
        if not lies_in(self.spec, self.algorithm, config):
            return False
        identifier = configuration_id(
            self.spec, self.algorithm, task, dataset_id, config, self.spec.steps
        )
        return identifier == config_id


def by_average_rank(problems: Iterable[Sequence[tuple[Outcome, str]]]) -> list[str]:
    """Names in the order of their average rank over the problems in which they were tried.

    Equal outcomes of a problem share the better rank; of equal averages the name that was tried in
    more problems comes first.
    """
    ranks: dict[str, list[int]] = {}
    for tried in problems:
        orders = [outcome.order for outcome, _ in tried]
        in_order = sorted(orders)
        for order, (_, name) in zip(orders, tried, strict=True):
            ranks.setdefault(name, []).append(1 + bisect_left(in_order, order))
    return sorted(ranks, key=lambda n: (sum(ranks[n]) / len(ranks[n]), -len(ranks[n]), n))


def _finite(outcome: Outcome) -> bool:
    if outcome.status != "complete" or outcome.objective is None:
        return False
    return all(map(math.isfinite, (outcome.objective, *(outcome.constraints or {}).values())))


def _counted(number: int, name: str, alone: bool = False) -> str:
    plural = name if number == 1 else f"{name}s"
    return plural if alone else f"{number:,} {plural}"
