"""Plans: runs grouped into trials, what the store already holds left out.

A `MethodTaskPlan` is one method on one task: it owns a search, turns its suggestions into
populations, and passes what came of them back. Which runs share a trial depends on the sweep file
alone, so that an interrupted trial is planned again with the same members.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from safesweep.search_spaces.space import Value
from safesweep.sweeps.planning.budget import Chosen, Round
from safesweep.sweeps.planning.continuation import (
    NOTHING_SHORTER,
    Continuation,
    Member,
    ShorterTrials,
)
from safesweep.sweeps.planning.early_stopping import Bracket
from safesweep.sweeps.planning.estimates import Tried
from safesweep.sweeps.planning.history import RunOutcome, StoreHistory
from safesweep.sweeps.planning.rounds import BudgetRounds, make_rounds, tried
from safesweep.sweeps.planning.search import DirectedSearch, Known, Outcome, Search, make_search
from safesweep.sweeps.planning.summaries import mean_scores, summarize
from safesweep.sweeps.planning.trials import (
    Config,
    PlannedRun,
    PlannedTrial,
    configuration_id,
    lies_in,
)
from safesweep.sweeps.planning.warm_start import KnownConfiguration, WarmStart
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store import identity
from safesweep.trainables.tasks.task import Task


class MethodTaskPlan:
    """One method on one task within a sweep.

    Args:
        dataset_id: digest of the data that the runs are trained on.
        store: outcomes of the runs that the store holds, by run_id.
        previous_run_ids: what an earlier launch of this sweep comprised, in its order.
        known_configs: configurations in the store by config_id.
        shorter: what the store holds with fewer steps.
        warm_start: what the search is told before it begins.
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
        shorter: ShorterTrials | None = None,
        warm_start: WarmStart | None = None,
    ) -> None:
        self.shorter, self.warm_start = shorter, warm_start
        self.spec, self.algorithm, self.task, self.dataset_id = spec, algorithm, task, dataset_id
        known = store or {}
        self.stopped_before = {
            run: outcome for run, outcome in known.items() if outcome.status == "stopped"
        }
        self.outcomes = {
            run: outcome
            for run, outcome in known.items()
            if outcome.finished and run not in self.stopped_before
        }
        self.failed_before = {
            run: outcome for run, outcome in known.items() if not outcome.finished
        }
        self.suggested: list[list[PlannedRun]] = []
        space = spec.space_for(algorithm)
        self._known: dict[str, KnownConfiguration] = {}
        points: list[Mapping[str, Value]] = [*spec.points_for(algorithm)]
        if warm_start is not None:
            self._known = {one.config_id: one for one in warm_start.usable(spec)}
            points += [point for point in warm_start.points if space.contains(point)]
        told = [
            Known(space.active(one.config), summarize(spec, one.outcomes))
            for one in self._known.values()
        ]
        self.search: Search
        if spec.budget_runs is not None:
            self.search = DirectedSearch(
                space, self._resolve, spec.maximize, tuple(spec.subject_to)
            )
        else:
            history = _History(self, previous_run_ids, known_configs or {})
            self.search = make_search(
                spec.search,
                space,
                self._resolve,
                history.adopt,
                points,
                spec.maximize,
                tuple(spec.subject_to),
                told,
            )
        self.rounds = make_rounds(spec, space, points, [one.point for one in told])
        self.brackets: list[Bracket] = []
        self._bracket_of: dict[str, Bracket] = {}
        self._batch: list[list[PlannedRun]] = []
        self._queue: deque[PlannedTrial] = deque()
        self._index: dict[str, int] = {}
        self._recorded: set[str] = set()
        self._best: tuple[str, dict[str, float]] | None = None
        self._best_outcome: Outcome | None = None
        self.best_settings: dict[str, Any] = {}

    @property
    def run_ids(self) -> list[str]:
        """Every run suggested so far, in the order of the suggestions."""
        return [run.run_id for runs in self.suggested for run in runs]

    @property
    def configurations(self) -> int:
        """How many configurations there will be, as far as can be said."""
        search = self.search
        if search.known_in_advance or search.exhausted or self.spec.search.num_configs is None:
            return len(self.suggested)
        return max(self._attainable, len(self.suggested))

    @property
    def planned_runs(self) -> int:
        """How many runs there will be, as far as can be said: seeds that a race adds count once it
        has added them, and a budget counts whole until it has ended."""
        if self.spec.budget_runs is not None and not self.search.exhausted:
            return self.spec.budget_runs
        later = self.configurations - len(self.suggested)
        return len(self.run_ids) + later * len(self.spec.seeds)

    @cached_property
    def _attainable(self) -> int:
        """How many configurations the search can suggest: what is asked for, or fewer where the
        space holds no more."""
        asked = self.spec.search.num_configs or 0
        space = self.search.space
        return sum(1 for _ in islice(space.grid(), asked)) if space.finite else asked

    @property
    def shortfall(self) -> str | None:
        """Why there are, or will be, fewer configurations than the sweep asks for; else None."""
        asked = self.spec.search.num_configs
        if asked is None or self.configurations >= asked:
            return None
        if self._attainable < asked:
            reason = "the space holds no more"
        elif self.search.exhausted:
            reason = "the search found no other one"
        else:
            return None
        return (
            f"{self.algorithm} on {self.task}: {self.configurations} configurations instead of "
            f"{asked}; {reason}"
        )

    @property
    def skipped(self) -> list[str]:
        """Suggested runs that the store already held."""
        return [run for run in self.run_ids if run in self.outcomes and run not in self._recorded]

    @property
    def exhausted(self) -> bool:
        """Whether every trial has been handed out."""
        self._fill()
        rounds_over = self.rounds is None or self.rounds.over
        return self._searched and not self._queue and rounds_over

    @property
    def _searched(self) -> bool:
        """Whether every suggestion is made and no rung is left to decide."""
        return self.search.exhausted and all(bracket.done for bracket in self.brackets)

    @property
    def queued(self) -> int:
        """Trials that are planned and not handed out, and those that wait at a rung."""
        return len(self._queue) + sum(len(bracket.waiting) for bracket in self.brackets)

    def best_safe(self) -> tuple[str, dict[str, float]] | None:
        """The configuration that is best among those within every constraint, with its means.

        None while no configuration is complete and safe. Ties go to the earlier suggestion.
        """
        return self._best

    def chosen(self) -> Chosen | None:
        """What a budget that has ended chooses; None where there is none, or nothing can be
        chosen."""
        if not isinstance(self.rounds, BudgetRounds) or not self.rounds.over:
            return None
        return self.rounds.choose(self._tried(), len(self.suggested))

    def next_trial(self) -> PlannedTrial | None:
        """The next population to train; None when there is none, or not before results come."""
        self._fill()
        return self._queue.popleft() if self._queue else None

    def put_back(self, trials: Sequence[PlannedTrial]) -> None:
        """Hand these out next."""
        self._queue.extendleft(reversed(trials))

    def record(self, results: Iterable[RunOutcome]) -> None:
        """Take in how its runs ended, or that they wait at a rung."""
        touched = set()
        for outcome in results:
            if outcome.run_id in self._bracket_of:
                self._bracket_of[outcome.run_id].record(outcome)
            if outcome.status == "paused":
                continue
            self.outcomes[outcome.run_id] = outcome
            self._recorded.add(outcome.run_id)
            touched.add(self._index[outcome.run_id])
        for index in sorted(touched):
            self._tell(index)
        self._advance_brackets()

    def wait(self, trial: PlannedTrial) -> None:
        """A trial waits at a rung; what is known of its runs has to be recorded next."""
        self._bracket_of[trial.runs[0].run_id].waiting.append(trial)

    def config_id(self, config: Config, steps: int | None = None) -> str:
        """Identity of a configuration of this method and task, or of one with another budget."""
        steps = self.spec.steps if steps is None else steps
        return configuration_id(
            self.spec, self.algorithm, self.task, self.dataset_id, config, steps
        )

    @cached_property
    def _static_fields(self) -> list[str]:
        from safesweep.trainables.methods.configs import config_class_of

        return config_class_of(self.algorithm).field_names("static")

    def _resolve(self, parameters: Mapping[str, Any]) -> Config:
        return self.spec.resolve(self.algorithm, parameters)

    def _fill(self) -> None:
        """Ask for as much as the search can say now, until there is a trial to hand out."""
        while not self._queue and not self.search.exhausted and self.search.ready:
            config = self.search.ask()
            if config is not None:
                runs = self._runs(config, self.spec.seeds)
                index = len(self.suggested)
                self.suggested.append(runs)
                self._index.update({run.run_id: index for run in runs})
                self._batch.append(runs)
                self._enter_bracket(runs)
                self._tell(index)
            self._close_bracket()
            whole_plan = self.search.known_in_advance and not self.search.exhausted
            enough = len(self._batch) >= self.spec.configs_per_trial
            if self.search.exhausted or (not whole_plan and (enough or self._between_brackets)):
                for trial in self._group(self._batch):
                    self._plan(trial)
                self._batch = []
                self._advance_brackets()
        self._advance_rounds()

    def _advance_rounds(self) -> None:
        """Decide on further rounds, once all runs before have ended, until there is a trial."""
        rounds = self.rounds
        while rounds is not None and not (rounds.over or self._queue):
            directed = isinstance(self.search, DirectedSearch)
            if not (directed or self._searched):
                return
            if not all(run in self.outcomes for run in self.run_ids):
                return
            decided = rounds.next(self._tried(), len(self.run_ids))
            if decided is None:
                if isinstance(self.search, DirectedSearch):
                    self.search.end()
                return
            for trial in self._group(self._runs_of_round(decided)):
                self._queue.append(trial)

    def _runs_of_round(self, decided: Round) -> list[list[PlannedRun]]:
        """The runs that a round adds, by configuration."""
        more: Counter[int] = Counter()
        asked = [(values, 1) for values in decided.new]
        known, own = self._known_elsewhere(), len(self.suggested)
        for index, count in decided.more.items():
            if index < own:
                more[index] += count
            else:
                asked.append((self.search.space.active(known[index - own].config), count))
        for values, count in asked:
            assert isinstance(self.search, DirectedSearch)
            if self.search.suggest(values) is None:
                # It resolves to a configuration that there is: another seed of that one.
                index = self.search.suggestions.index(self._resolve(values))
            else:
                index = len(self.suggested)
                self.suggested.append([])
            more[index] += count
        return [self._add_seeds(index, more[index]) for index in sorted(more)]

    def _add_seeds(self, index: int, count: int) -> list[PlannedRun]:
        """So many more runs of a configuration. In a budget no two runs have the same seed: what
        one seed is like would otherwise be taken for what all configurations are like."""
        config, suggested = self.search.suggestions[index], self.suggested[index]
        first = len(suggested)
        if isinstance(self.search, DirectedSearch):
            known = (seed for one in self._known.values() for seed in one.seeds)
            first = len(self.run_ids) + max(known, default=-1) + 1
        runs = self._runs(config, range(first, first + count))
        suggested.extend(runs)
        self._index.update({run.run_id: index for run in runs})
        return runs

    def _known_elsewhere(self) -> list[KnownConfiguration]:
        """What was known before of configurations that a budget has not suggested."""
        if not isinstance(self.rounds, BudgetRounds):
            return []
        suggested = {runs[0].config_id for runs in self.suggested}
        return [one for name, one in self._known.items() if name not in suggested]

    def _tried(self) -> list[Tried]:
        """Every configuration as rounds judge it, by the outcomes of its runs; after them what a
        budget has not suggested and was known before."""
        found = []
        for runs in self.suggested:
            outcomes = [self.outcomes[run.run_id] for run in runs]
            if isinstance(self.rounds, BudgetRounds) and runs[0].config_id in self._known:
                # No run of the sweep has the seed of one of these.
                outcomes += self._known[runs[0].config_id].outcomes
            found.append(self._judged(runs[0].config, outcomes))
        return found + [self._judged(one.config, one.outcomes) for one in self._known_elsewhere()]

    def _judged(self, config: Config, outcomes: Sequence[RunOutcome]) -> Tried:
        assert self.rounds is not None
        scored = [outcome.scores for outcome in outcomes if outcome.scores]
        return tried(
            self.rounds.space,
            self.search.space.active(config),
            [scores[self.spec.maximize] for scores in scored],
            [self._cost(scores) for scores in scored],
            lost=len(scored) < len(outcomes)
            or any(outcome.status != "completed" for outcome in outcomes),
        )

    def _cost(self, scores: Mapping[str, float]) -> float:
        """What must be at most 1: of several constraints the one that is nearest to its limit, or
        farthest beyond."""
        return max(
            (
                float(Task.normalize_cost(np.asarray(scores[name]), limit))
                for name, limit in self.spec.subject_to.items()
            ),
            default=0.0,
        )

    @property
    def _between_brackets(self) -> bool:
        return bool(self.brackets) and self.brackets[-1].closed

    def _enter_bracket(self, runs: list[PlannedRun]) -> None:
        if self.spec.early_stopping is None:
            return
        if not self.brackets or self._between_brackets:
            self.brackets.append(Bracket(self.spec))
        self.brackets[-1].enter(runs, {**self.outcomes, **self.stopped_before})
        self._bracket_of.update({run.run_id: self.brackets[-1] for run in runs})

    def _close_bracket(self) -> None:
        """What an adaptive search suggests competes in brackets of `parallel` suggestions."""
        if self.brackets:
            full = self.brackets[-1].size == self.spec.search.parallel
            self.brackets[-1].closed |= self.search.exhausted or full

    def _plan(self, trial: PlannedTrial) -> None:
        bracket = self._bracket_of.get(trial.runs[0].run_id)
        planned = trial if bracket is None else bracket.add(trial)
        if planned is not None:
            self._queue.append(planned)

    def _advance_brackets(self) -> None:
        for bracket in self.brackets:
            trials, left = bracket.advance()
            self._queue.extend(trials)
            self.outcomes.update({outcome.run_id: outcome for outcome in left})
            for index in sorted({self._index[outcome.run_id] for outcome in left}):
                self._tell(index)

    def _runs(self, config: Config, seeds: Iterable[int]) -> list[PlannedRun]:
        identifier = self.config_id(config)
        return [
            PlannedRun(identity.run_id(identifier, seed), identifier, seed, config)
            for seed in seeds
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
                # What an earlier launch stopped goes by the trial in which that was done.
                members: dict[str, list[PlannedRun]] = {}
                for run in (run for runs in alike[start : start + size] for run in runs):
                    if run.run_id not in self.outcomes:
                        stopped = self.stopped_before.get(run.run_id)
                        members.setdefault(stopped.trial_id if stopped else "", []).append(run)
                for stopped_in, trial in members.items():
                    yield PlannedTrial(
                        self.algorithm,
                        self.task,
                        tuple(trial),
                        continuation=NOTHING_SHORTER if stopped_in else self._continuation(trial),
                    )

    def _continuation(self, runs: Sequence[PlannedRun]) -> Continuation:
        # Rungs are decided by trials that reach them; a trial carried on may begin beyond one.
        if self.shorter is None or self.spec.early_stopping is not None:
            return NOTHING_SHORTER
        return self.shorter.find([Member(run.run_id, run.seed, run.config) for run in runs])

    def outcome(self, index: int) -> Outcome | None:
        """What came of suggestion `index`; None while a run of it has not ended."""
        runs = self.suggested[index]
        if not all(run.run_id in self.outcomes for run in runs):
            return None
        return summarize(self.spec, [self.outcomes[run.run_id] for run in runs])

    def _tell(self, index: int) -> None:
        outcome = self.outcome(index)
        if outcome is not None:
            self.search.tell(index, outcome)
            if self.rounds is not None:
                self._best_outcome = self._best = None
                for other in range(len(self.suggested)):
                    if (known := self.outcome(other)) is not None:
                        self._keep_if_best(other, known)
            else:
                self._keep_if_best(index, outcome)

    def _keep_if_best(self, index: int, outcome: Outcome) -> None:
        if outcome.status != "complete" or not outcome.safe:
            return
        if self._best_outcome is None or outcome.order < self._best_outcome.order:
            runs = self.suggested[index]
            means = mean_scores([self.outcomes[run.run_id] for run in runs])
            self._best, self._best_outcome = (runs[0].config_id, means), outcome
            self.best_settings = self.search.space.active(runs[0].config)


class _History:
    """Keeps a resumed search on the path of the launch before it.

    Suggestions that the earlier launch made too stand. Another one (its search saw other results:
    seeds or steps were added, say) gives way to a configuration of that launch, while there are any
    left, since that one costs nothing or less.
    """

    def __init__(
        self,
        task_plan: MethodTaskPlan,
        run_ids: Sequence[str],
        known_configs: Mapping[str, Config],
    ) -> None:
        self.task_plan = task_plan
        identifiers = dict.fromkeys(run.rsplit("-", 1)[0] for run in run_ids)
        budgets = [task_plan.spec.steps, *(task_plan.shorter.budgets if task_plan.shorter else ())]
        names = set(task_plan.spec.resolve(task_plan.algorithm, {}))
        self.left = {
            task_plan.config_id(known_configs[identifier]): known_configs[identifier]
            for identifier in identifiers
            # A sweep's other methods have other hyperparameters.
            if set(known_configs.get(identifier, ())) == names
            and self._belongs(identifier, known_configs[identifier], budgets)
        }
        self.suggested = {*identifiers, *self.left}

    def adopt(self, config: Config) -> Config | None:
        """The configuration to take instead of `config`, or None to take it."""
        identifier = self.task_plan.config_id(config)
        if identifier in self.suggested:
            self.left.pop(identifier, None)
            return None
        while self.left:
            other = self.left.pop(next(iter(self.left)))
            if all(other != runs[0].config for runs in self.task_plan.suggested):
                return other
        return None

    def _belongs(self, identifier: str, config: Config, budgets: Collection[int]) -> bool:
        if all(self.task_plan.config_id(config, steps) != identifier for steps in budgets):
            return False
        return lies_in(self.task_plan.spec, self.task_plan.algorithm, config)


def make_task_plans(
    spec: SweepSpec,
    dataset_id: Callable[[str], str],
    store: Mapping[str, RunOutcome] | None = None,
    previous_run_ids: Sequence[str] = (),
    known_configs: Mapping[str, Config] | None = None,
    kept: StoreHistory | None = None,
    warm_start: Callable[[str, str], WarmStart] | None = None,
) -> list[MethodTaskPlan]:
    """A plan for every method and task of a sweep; `dataset_id` gives each task's digest.

    `kept` is of the store in which shorter trials may lie; `warm_start` gives what the search of a
    method on a task is told.
    """

    def task_plan(task: str, algorithm: str) -> MethodTaskPlan:
        identifier = dataset_id(task)
        shorter = ShorterTrials(kept, spec, algorithm, identifier) if kept else None
        told = warm_start(algorithm, task) if warm_start else None
        return MethodTaskPlan(
            spec, algorithm, task, identifier, store, previous_run_ids, known_configs, shorter, told
        )

    return [task_plan(task, algorithm) for task in spec.tasks for algorithm in spec.algorithms]
