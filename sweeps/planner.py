"""Plans: runs grouped into trials, what the store already holds left out.

An arm is one method on one task: it owns a search, turns its suggestions into populations, and
passes what came of them back. Which runs share a trial depends on the sweep file alone, so that an
interrupted trial is planned again with the same members.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from search_spaces.space import SearchSpace
from sweeps.history import RunOutcome
from sweeps.search import Outcome, Search, make_search
from sweeps.spec import SweepSpec
from trainables import identity

Config = dict[str, Any]


@dataclass(frozen=True)
class PlannedRun:
    """One configuration with one seed."""

    run_id: str
    config_id: str
    seed: int
    config: Config


@dataclass(frozen=True)
class PlannedTrial:
    """One population: runs of one method on one dataset that agree in every static field.

    `halvings` counts how often it was halved because memory had run out.
    """

    algorithm: str
    task: str
    runs: tuple[PlannedRun, ...]
    halvings: int = 0

    @cached_property
    def trial_id(self) -> str:
        """Identity of the population, from its members."""
        return identity.trial_id(run.run_id for run in self.runs)

    @property
    def config_ids(self) -> tuple[str, ...]:
        """The configurations, each once."""
        return tuple(dict.fromkeys(run.config_id for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each once."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def halves(self) -> tuple["PlannedTrial", "PlannedTrial"]:
        """Two populations of half the size; the seeds of a configuration stay together if they can.

        Raises:
            ValueError: there is only one run.
        """
        if len(self.runs) == 1:
            raise ValueError("a population of one run has no halves")
        if len(self.config_ids) > 1:
            first = set(self.config_ids[: (len(self.config_ids) + 1) // 2])
            middle = sum(run.config_id in first for run in self.runs)
        else:
            middle = (len(self.runs) + 1) // 2
        one, other = (
            replace(self, runs=runs, halvings=self.halvings + 1)
            for runs in (self.runs[:middle], self.runs[middle:])
        )
        return one, other


class Arm:
    """One method on one task within a sweep.

    Args:
        dataset_id: digest of the data that the runs are trained on.
        store: outcomes of the runs that the store holds, by run_id.
        previous_run_ids: what an earlier launch of this sweep comprised, in its order.
        known_configs: configurations in the store by config_id.
    """

    def __init__(
        self,
        spec: SweepSpec,
        algorithm: str,
        task: str,
        dataset_id: str,
        store: Mapping[str, RunOutcome] | None = None,
        previous_run_ids: Sequence[str] = (),
        known_configs: Mapping[str, Config] | None = None,
    ) -> None:
        self.spec, self.algorithm, self.task, self.dataset_id = spec, algorithm, task, dataset_id
        self.outcomes = {run: outcome for run, outcome in (store or {}).items() if outcome.finished}
        self.failed_before = {
            run: outcome for run, outcome in (store or {}).items() if not outcome.finished
        }
        self.suggested: list[list[PlannedRun]] = []
        space = spec.space_for(algorithm)
        history = _History(self, space, previous_run_ids, known_configs or {})
        self.search: Search = make_search(spec.search, space, self._resolve, history.adopt)
        self._batch: list[list[PlannedRun]] = []
        self._queue: deque[PlannedTrial] = deque()
        self._index: dict[str, int] = {}
        self._recorded: set[str] = set()
        self._best: tuple[str, dict[str, float]] | None = None

    @property
    def run_ids(self) -> list[str]:
        """Every run suggested so far, in the order of the suggestions."""
        return [run.run_id for runs in self.suggested for run in runs]

    @property
    def skipped(self) -> list[str]:
        """Suggested runs that the store already held."""
        return [run for run in self.run_ids if run in self.outcomes and run not in self._recorded]

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been handed out."""
        self._fill()
        return self.search.exhausted and not self._queue

    @property
    def queued(self) -> int:
        """Trials that are planned and not handed out."""
        return len(self._queue)

    def best_safe(self) -> tuple[str, dict[str, float]] | None:
        """The configuration that is best among those within every constraint, with its means.

        None while no configuration is complete and safe. Ties go to the earlier suggestion.
        """
        return self._best

    def next_trial(self) -> PlannedTrial | None:
        """The next population to train; None when there is none, or not before results come."""
        self._fill()
        return self._queue.popleft() if self._queue else None

    def put_back(self, trials: Sequence[PlannedTrial]) -> None:
        """Hand these out next."""
        self._queue.extendleft(reversed(trials))

    def record(self, results: Iterable[RunOutcome]) -> None:
        """Take in how runs of this arm ended."""
        touched = set()
        for outcome in results:
            self.outcomes[outcome.run_id] = outcome
            self._recorded.add(outcome.run_id)
            touched.add(self._index[outcome.run_id])
        for index in sorted(touched):
            self._tell(index)

    def config_id(self, config: Config) -> str:
        """Identity of a configuration of this arm."""
        from trainables.algorithms import ALGORITHMS

        resolved = ALGORITHMS[self.algorithm].config_class.resolve(config)
        return identity.config_id(
            self.algorithm,
            config,
            self.task,
            self.dataset_id,
            self.spec.steps,
            self.spec.cost_limit_of(self.task) if resolved.trains_to_cost_limit else None,
        )

    @cached_property
    def _static_fields(self) -> list[str]:
        from trainables.algorithms import ALGORITHMS

        return ALGORITHMS[self.algorithm].config_class.field_names("static")

    def _resolve(self, parameters: Mapping[str, Any]) -> Config:
        return self.spec.resolve(self.algorithm, parameters)

    def _fill(self) -> None:
        """Ask for as much as the search can say now, until there is a trial to hand out."""
        while not self._queue and not self.search.exhausted and self.search.ready:
            config = self.search.ask()
            if config is not None:
                runs = self._runs(config)
                index = len(self.suggested)
                self.suggested.append(runs)
                self._index.update({run.run_id: index for run in runs})
                self._batch.append(runs)
                self._tell(index)
            whole_plan = self.search.known_in_advance and not self.search.exhausted
            if self.search.exhausted or (
                not whole_plan and len(self._batch) >= self.spec.configs_per_trial
            ):
                self._queue.extend(self._group(self._batch))
                self._batch = []

    def _runs(self, config: Config) -> list[PlannedRun]:
        identifier = self.config_id(config)
        return [
            PlannedRun(identity.run_id(identifier, seed), identifier, seed, config)
            for seed in self.spec.seeds
        ]

    def _group(self, batch: Sequence[list[PlannedRun]]) -> Iterator[PlannedTrial]:
        by_shape: dict[tuple[Any, ...], list[list[PlannedRun]]] = {}
        for runs in batch:
            shape = tuple(runs[0].config[name] for name in self._static_fields)
            by_shape.setdefault(shape, []).append(runs)
        size = self.spec.configs_per_trial
        for alike in by_shape.values():
            for start in range(0, len(alike), size):
                # What is done is left out after the runs are grouped, never before: an interrupted
                # trial then keeps its members, and with them its checkpoint.
                members = tuple(
                    run
                    for runs in alike[start : start + size]
                    for run in runs
                    if run.run_id not in self.outcomes
                )
                if members:
                    yield PlannedTrial(self.algorithm, self.task, members)

    def _tell(self, index: int) -> None:
        runs = self.suggested[index]
        if all(run.run_id in self.outcomes for run in runs):
            results = [self.outcomes[run.run_id] for run in runs]
            outcome = summarize(self.spec, results)
            self.search.tell(index, outcome)
            if outcome.status == "complete" and outcome.safe:
                means = mean_scores(results)
                if (
                    self._best is None
                    or means[self.spec.maximize] > self._best[1][self.spec.maximize]
                ):
                    self._best = (runs[0].config_id, means)


class _History:
    """Keeps a resumed search on the path of the launch before it.

    Suggestions that the earlier launch made too stand. Another one (its search saw other results:
    seeds were added, say) gives way to a finished configuration of that launch, while there are any
    left, since that one costs nothing.
    """

    def __init__(
        self,
        arm: Arm,
        space: SearchSpace,
        run_ids: Sequence[str],
        known_configs: Mapping[str, Config],
    ) -> None:
        self.arm = arm
        self.suggested = dict.fromkeys(run.rsplit("-", 1)[0] for run in run_ids)
        self.left = {
            identifier: known_configs[identifier]
            for identifier in self.suggested
            if identifier in known_configs
            and self._belongs(identifier, known_configs[identifier], space)
        }

    def adopt(self, config: Config) -> Config | None:
        """The configuration to take instead of `config`, or None to take it."""
        identifier = self.arm.config_id(config)
        if identifier in self.suggested:
            self.left.pop(identifier, None)
            return None
        while self.left:
            other = self.left.pop(next(iter(self.left)))
            if all(other != runs[0].config for runs in self.arm.suggested):
                return other
        return None

    def _belongs(self, identifier: str, config: Config, space: SearchSpace) -> bool:
        if self.arm.config_id(config) != identifier:
            return False
        try:
            point = space.active(config)
        except KeyError:
            return False
        resolved = self.arm.spec.resolve(self.arm.algorithm, point)
        return space.contains(point) and resolved == config


def summarize(spec: SweepSpec, results: Collection[RunOutcome]) -> Outcome:
    """What a search is told of a configuration: means over all of its seeds.

    A configuration with a failed or diverged seed counts as failed: the mean over the survivors
    would flatter it.
    """
    if not all(result.scores and result.status in ("completed", "stopped") for result in results):
        return Outcome("failed")

    means = mean_scores(results)
    constraints = {name: means[name] - limit for name, limit in spec.subject_to.items()}
    stopped = any(result.status == "stopped" for result in results)
    return Outcome("pruned" if stopped else "complete", means[spec.maximize], constraints)


def mean_scores(results: Collection[RunOutcome]) -> dict[str, float]:
    """Each score's mean over runs that all have it."""
    names = next(iter(results)).scores
    return {name: sum(result.scores[name] for result in results) / len(results) for name in names}


def make_arms(
    spec: SweepSpec,
    dataset_id: Callable[[str], str],
    store: Mapping[str, RunOutcome] | None = None,
    previous_run_ids: Sequence[str] = (),
    known_configs: Mapping[str, Config] | None = None,
) -> list[Arm]:
    """One arm for every method and task of a sweep; `dataset_id` gives each task's digest."""
    return [
        Arm(spec, algorithm, task, dataset_id(task), store, previous_run_ids, known_configs)
        for task in spec.tasks
        for algorithm in spec.algorithms
    ]
