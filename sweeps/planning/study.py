"""A sweep's searches as Optuna studies in a file, for optuna-dashboard and Optuna's own analyses.

The file is a product of the results, never a source: no launch reads it, and each one writes it
anew from the store. It is a journal in the format of Optuna's `JournalFileBackend`, written whole,
so it may lie in any store (Optuna itself opens local files). Within a launch it only grows, and a
dashboard that has it open follows.
"""

import json
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from optuna import logging
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import Study, create_study
from optuna.trial import Trial, TrialState, create_trial

from safesweep.sweeps.planning.plan import MethodTaskPlan
from safesweep.sweeps.planning.search import Outcome
from safesweep.sweeps.planning.summaries import mean_scores

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def study_path(sweep: str) -> str:
    """Where a sweep's studies lie within a store."""
    return f"studies/{sweep}.log"


def study_name(sweep: str, algorithm: str, task: str) -> str:
    """The name of the study of one method on one task."""
    return f"{sweep} {algorithm} {task}"


class StudyJournal:
    """The studies of a sweep, one for each method and task; trial i is their suggestion i.

    A trial has the hyperparameters that take part, the objective as its value (with NSGA-II the
    constrained quantities too), each constraint's value minus its limit, and the mean scores and
    the identity as attributes. A suggestion whose runs have not all ended is RUNNING.
    """

    def __init__(self, task_plans: Sequence[MethodTaskPlan]) -> None:
        self._journal = _Journal()
        storage = JournalStorage(self._journal)
        self._studies = [_TaskStudy(task_plan, storage) for task_plan in task_plans]

    def content(self) -> bytes:
        """The file, brought up to date with the searches."""
        for study in self._studies:
            study.update()
        return "".join(self._journal.lines).encode()


class _Journal(BaseJournalBackend):
    """Entries in memory, as text: the storage changes what it has read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return [json.loads(line) for line in self.lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines.extend(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)


class _TaskStudy:
    def __init__(self, task_plan: MethodTaskPlan, storage: JournalStorage) -> None:
        self._task_plan, self._storage = task_plan, storage
        logging.set_verbosity(logging.WARNING)
        self._goals = task_plan.search.goals
        self._study: Study = create_study(
            storage=storage,
            study_name=study_name(task_plan.spec.name, task_plan.algorithm, task_plan.task),
            directions=[direction for _, direction in self._goals],
            sampler=RandomSampler(seed=0),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._study.set_metric_names([name for name, _ in self._goals])
        self._id = storage.get_study_id_from_name(self._study.study_name)
        self._added = 0
        self._open: list[int] = []

    def update(self) -> None:
        """Add new suggestions, and end those whose results have come."""
        for index in range(self._added, len(self._task_plan.suggested)):
            self._add(index)
        self._added = len(self._task_plan.suggested)
        waiting = []
        for index in self._open:
            outcome = self._task_plan.outcome(index)
            if outcome is None:
                waiting.append(index)
            else:
                self._end(index, outcome)
        self._open = waiting

    def _add(self, index: int) -> None:
        runs = self._task_plan.suggested[index]
        space = self._task_plan.search.space
        parameters = space.active(runs[0].config)
        distributions: dict[str, BaseDistribution] = {
            name: space.entries[name].distribution for name in parameters
        }
        attributes = {"config_id": runs[0].config_id, "seeds": [run.seed for run in runs]}
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=parameters,
                distributions=distributions,
                user_attrs=attributes,
            )
        )
        self._open.append(index)

    def _end(self, index: int, outcome: Outcome) -> None:
        identifier = self._storage.get_trial_id_from_study_id_trial_number(self._id, index)
        trial = Trial(self._study, identifier)
        if outcome.status == "failed":
            self._study.tell(trial, state=TrialState.FAIL)
            return
        runs = self._task_plan.suggested[index]
        scores = mean_scores([self._task_plan.outcomes[run.run_id] for run in runs])
        for name, score in scores.items():
            trial.set_user_attr(name, score)
        constraints = outcome.constraints or {}
        for name, excess in constraints.items():
            trial.set_constraint(name, excess)
        # optuna-dashboard (to 0.21 at least) reads what Optuna wrote before its version 5.
        if constraints:
            self._storage.set_trial_system_attr(
                identifier, "constraints", list(constraints.values())
            )
        values = [scores[name] for name, _ in self._goals]
        if outcome.status == "pruned":
            if len(values) == 1:  # Optuna takes no intermediate values of several goals.
                trial.report(values[0], self._task_plan.spec.steps)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, values)
