"""The sweeps of a session: what each of them still has to train, and whose turn it is."""

import contextlib
import html
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from safesweep.search_spaces.validation import InvalidInput, without_secrets
from safesweep.sweeps.execution.failures import Failure, FirstFailure
from safesweep.sweeps.execution.merging import PartMerging
from safesweep.sweeps.execution.progress import Progress, Tally, TaskTally, describe_best
from safesweep.sweeps.execution.spending import describe_choice, describe_spent, recorded_choice
from safesweep.sweeps.planning import history
from safesweep.sweeps.planning.continuation import NOTHING_SHORTER
from safesweep.sweeps.planning.early_stopping import expected_share
from safesweep.sweeps.planning.plan import MethodTaskPlan, make_task_plans
from safesweep.sweeps.planning.study import StudyJournal, study_path
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.planning.warm_start import (
    WarmStart,
    find_warm_start,
    read_warm_starts,
    warm_start_path,
    warm_starts_content,
)
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.sweeps.upkeep import finish_interrupted, forget_deletion
from safesweep.trainables.store.codes import several_codes
from safesweep.trainables.store.leases import Holder, Lease, exclusive
from safesweep.trainables.store.planned import planned_path

WORKER_LOSSES = 3
ROW_INTERVAL_SECONDS = 1.0
STUDY_INTERVAL_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""How often to look whether what other drivers hold is done, or free."""
FAILURES_TOLD = 5
"""Failures that differ, of which a launch says how they came about."""


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep stands after a launch: its runs by status, wherever they were trained.

    `skipped` of them were in the store before; `trials` populations were trained in `seconds`.
    """

    sweep: str
    storage: str
    completed: int
    stopped: int
    diverged: int
    failed: int
    skipped: int
    trials: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 when every run is complete (or was stopped on purpose), else 1."""
        return 1 if self.failed or self.diverged else 0

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{name}</td><td>{getattr(self, name)}</td></tr>"
            for name in ("completed", "stopped", "diverged", "failed", "skipped", "trials")
        )
        place = html.escape(without_secrets(self.storage))
        return f"<p>{html.escape(self.sweep)} in {place}</p><table>{rows}</table>"


class PauseReport(NamedTuple):
    """What a trial says that waits at a rung: its step, and its evaluations so far."""

    step: int
    evaluations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class SweepPlan:
    """What a launch would do: the plans of a sweep over what the store holds.

    Attributes:
        warm_starts: what its searches are told before they begin, and what those of methods and
            tasks that it had before were.
    """

    spec: SweepSpec
    task_plans: tuple[MethodTaskPlan, ...]
    previous: history.PreviousSweep | None
    warm_starts: tuple[WarmStart, ...] = ()


def make_plan(
    spec: SweepSpec,
    storage: str,
    dataset_ids: Mapping[str, str],
    kept: history.StoreHistory | None = None,
) -> SweepPlan:
    """The plan of a sweep over what `storage` (which need not exist) holds; starts nothing.

    `kept` is what the session has read of that store before.

    Raises:
        InvalidInput: a warm start from what does not compare.
        StoreProblem: the store cannot be read.
    """
    from safesweep.trainables.store.writer import storage_location

    location = storage_location(storage)
    exists = _exists(location)
    kept = kept or history.StoreHistory(location)
    store, configs, previous = dict[str, history.RunOutcome](), dict[str, dict[str, Any]](), None
    if exists:
        store, configs = history.read_store(kept, spec.cost_limit, spec.rung_steps)
        previous = history.read_previous(location, spec.name)
    run_ids = previous.run_ids if previous else ()
    warm_starts: dict[tuple[str, str], WarmStart] = {}

    def warm_start(algorithm: str, task: str) -> WarmStart:
        key, dataset_id = (algorithm, task), dataset_ids[task]
        if key not in warm_starts or not warm_starts[key].is_for(spec, *key, dataset_id):
            warm_starts[key] = (
                find_warm_start(kept, spec, *key, dataset_id, store, run_ids)
                if exists
                else WarmStart(*key, dataset_id, spec.steps, spec.cost_limit_of(task))
            )
        return warm_starts[key]

    if spec.search.warm_start and exists:
        content = kept.store.file(warm_start_path(spec.name))
        recorded = read_warm_starts(content, spec.name)
        warm_starts |= {(one.algorithm, one.task): one for one in recorded}
    task_plans = make_task_plans(
        spec,
        dataset_ids.__getitem__,
        store,
        run_ids,
        configs,
        kept if exists else None,
        warm_start if spec.search.warm_start else None,
    )
    return SweepPlan(spec, tuple(task_plans), previous, tuple(warm_starts.values()))


def previous_spec(storage: str, sweep: str) -> str | None:
    """The sweep file with which an earlier launch recorded the sweep, or None.

    Raises:
        StoreProblem: the store cannot be read.
    """
    from safesweep.trainables.store.writer import storage_location

    location = storage_location(storage)
    previous = history.read_previous(location, sweep) if _exists(location) else None
    return previous.spec if previous else None


def _exists(location: str) -> bool:
    from pyarrow import fs

    from safesweep.trainables.store.writer import open_file_system, store_problems

    with store_problems(location, "read"):
        filesystem, root = open_file_system(location)
        return bool(filesystem.get_file_info(root).type != fs.FileType.NotFound)


class SweepRun:
    """One sweep under way: its plans, its row, its progress, and what ends its trials.

    Attributes:
        exhausted: whether every trial has been handed out.
    """

    def __init__(
        self,
        plan: SweepPlan,
        writer: Any,
        progress: Progress,
        fail_fast: bool = False,
        lease: Lease | None = None,
        kept: history.StoreHistory | None = None,
    ) -> None:
        self.plan, self.spec, self.writer, self.progress = plan, plan.spec, writer, progress
        self._fail_fast, self.lease = fail_fast, lease
        self._kept = kept or history.StoreHistory(writer.storage)
        self._elsewhere: list[tuple[MethodTaskPlan, PlannedTrial]] = []
        self._seen_elsewhere: set[str] = set()
        self._holders_told: set[str] = set()
        self._look_due = float("-inf")
        self._failures_told: set[str] = set()
        self.created_at = plan.previous.created_at if plan.previous else datetime.now(UTC)
        self.trials = 0
        self._started = time.monotonic()
        self._row_written = float("-inf")
        self._row_length = 0
        self._next_task_plan = 0
        self._task_plan_of: dict[str, MethodTaskPlan] = {}
        self._losses: Counter[str] = Counter()
        self._opened: set[str] = set()
        self._studies: StudyJournal | None = None
        self._studies_written = float("-inf")
        self._warm_starts_written = False
        self._merging = PartMerging(writer.storage, self.spec.name)
        exhausted = [task_plan.exhausted for task_plan in plan.task_plans]
        self.exhausted = all(exhausted)
        self.tally = Tally(self.spec.name, self._steps_to_do())
        self._task_tallies = {
            id(task_plan): TaskTally(task_plan.algorithm, task_plan.task)
            for task_plan in plan.task_plans
        }
        self.tally.tasks = list(self._task_tallies.values())
        self._planned_written: list[tuple[int, str, str]] | None = None
        self._count()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: a trial that runs may still come back as halves."""
        return self.exhausted and not self.tally.trials_running

    def unfinished_runs(self) -> set[str]:
        """Planned runs that have not ended, by run_id."""
        return {
            run
            for task_plan in self.plan.task_plans
            for run in task_plan.run_ids
            if run not in task_plan.outcomes
        }

    def start(self) -> None:
        """Say that it runs, in the store and in the progress."""
        self.writer.remove_stray_compacted()
        self.write_warm_starts()
        self.write_row("running", force=True)
        forget_deletion(self.writer)
        self.write_planned()
        self.progress.add(self.tally)

    def interrupt(self) -> None:
        """Say in the store that it was broken off."""
        from safesweep.trainables.store.writer import StoreProblem

        self._merging.close(finish=False)
        # A store that has failed may not take this row either.
        with contextlib.suppress(StoreProblem):
            if self.lease is None or not self.lease.shares():  # Else another driver runs it.
                self.write_row("interrupted", force=True)
                self.write_studies(force=True)
        self.give_up_lease()

    def give_up_lease(self) -> None:
        """Let other drivers run the sweep."""
        if self.lease is not None:
            self.lease.release()

    def finish(self) -> SweepSummary:
        """Write the sweep's final row, tidy up after trials that are gone, and sum up."""
        self._merging.close(finish=True)
        self.write_warm_starts()
        self._count()
        self.progress.remove(self.tally)
        for task_plan in self.plan.task_plans:
            if task_plan.shortfall is not None:
                self.progress.note(f"{self.spec.name}: {task_plan.shortfall}")
            task_tally = self._task_tallies[id(task_plan)]
            chosen = task_plan.chosen()
            task_tally.choice = describe_choice(task_plan, chosen)
            task_tally.chosen = recorded_choice(task_plan, chosen)
            if task_tally.choice:
                name = f"{task_plan.algorithm} on {task_plan.task}"
                self.progress.note(f"{self.spec.name}: {name}: {task_tally.choice}")
        mixed = several_codes(
            {
                f"{task_plan.algorithm} on {task_plan.task}": [
                    task_plan.outcomes[run].code
                    for run in task_plan.run_ids
                    if run in task_plan.outcomes
                ]
                for task_plan in self.plan.task_plans
            }
        )
        if mixed is not None:
            self.progress.note(f"{self.spec.name}: {mixed}")
        self.write_planned()
        counts = self.tally.statuses
        status = "completed" if not counts["failed"] and self.exhausted else "failed"
        self.write_row(status, force=True)
        forget_deletion(self.writer)
        self.write_studies(force=True)
        self._remove_stale_trials()
        self.give_up_lease()
        return SweepSummary(
            sweep=self.spec.name,
            storage=self.writer.storage,
            completed=counts["completed"],
            stopped=counts["stopped"],
            diverged=counts["diverged"],
            failed=counts["failed"],
            skipped=self.tally.skipped,
            trials=self.trials,
            seconds=time.monotonic() - self._started,
        )

    def next_trial(self) -> PlannedTrial | None:
        """The next population, methods and tasks taking turns; None when there is none (yet)."""
        self._look_elsewhere()
        task_plans = self.plan.task_plans
        for turn in range(len(task_plans)):
            task_plan = task_plans[(self._next_task_plan + turn) % len(task_plans)]
            trial = self._next_of(task_plan)
            if trial is not None:
                self._next_task_plan = (self._next_task_plan + turn + 1) % len(task_plans)
                self._task_plan_of[trial.trial_id] = task_plan
                self._forget_failures(task_plan, trial)
                self._forget_stopped(task_plan, trial)
                self.tally.trials_running += 1
                self._task_tallies[id(task_plan)].running += len(trial.runs)
                self.write_row("running")
                return trial
        exhausted = [task_plan.exhausted for task_plan in task_plans]
        self.exhausted = all(exhausted) and not self._elsewhere
        return None

    def _next_of(self, task_plan: MethodTaskPlan) -> PlannedTrial | None:
        """The next population of a method on a task of which no other driver has any run."""
        while (trial := task_plan.next_trial()) is not None:
            left = self._claimed(task_plan, trial)
            if left is not None:
                return left
        return None

    def _claimed(self, task_plan: MethodTaskPlan, trial: PlannedTrial) -> PlannedTrial | None:
        """A trial, or what other drivers have left of it, held by this one; None where another
        holds some of its runs, which is waited for, or has ended all of them."""
        if self.lease is None:
            return trial
        run_ids = [run.run_id for run in trial.runs]
        holders = self.lease.claim(trial.trial_id, run_ids)
        if holders:
            self._elsewhere.append((task_plan, trial))
            self._tell_holders(holders)
            return None
        if not self.lease.news:
            return trial
        ended = self._ended_elsewhere(task_plan, run_ids)
        if not ended:
            return trial
        self._record_elsewhere(task_plan, ended)
        left = tuple(run for run in trial.runs if run.run_id not in ended)
        self.lease.free(trial.trial_id)
        if not left:
            return None
        stop = {run: reason for run, reason in trial.stop.items() if run not in ended}
        rest = replace(trial, runs=left, stop=stop, continuation=NOTHING_SHORTER)
        return self._claimed(task_plan, rest)

    def _ended_elsewhere(
        self, task_plan: MethodTaskPlan, run_ids: Sequence[str]
    ) -> dict[str, history.RunOutcome]:
        """Those of some runs that other drivers have ended since this sweep was planned."""
        found = history.read_runs(self._kept, run_ids, self.spec.cost_limit, self.spec.rung_steps)
        ended = {}
        for run, outcome in found.items():
            if outcome.status == "stopped":
                # By the early stopping of another sweep, which says nothing of this one.
                task_plan.stopped_before[run] = outcome
            elif outcome.status == history.INCOMPLETE:
                continue
            elif outcome.finished or run in self._seen_elsewhere:
                ended[run] = outcome
        return ended

    def _record_elsewhere(
        self, task_plan: MethodTaskPlan, ended: Mapping[str, history.RunOutcome]
    ) -> None:
        """Take in runs that other drivers have trained."""
        task_plan.record(ended.values())
        task_tally = self._task_tallies[id(task_plan)]
        task_tally.statuses.update(outcome.status for outcome in ended.values())
        task_tally.ended_steps += len(ended) * self.spec.steps
        self.write_studies()
        self._show(task_plan)
        self.write_planned()
        self.progress.update()

    def _look_elsewhere(self) -> None:
        """Put trials back that wait for other drivers, once none of them holds their runs."""
        now = time.monotonic()
        if not self._elsewhere or self.lease is None or now < self._look_due:
            return
        taken = self.lease.elsewhere()
        self._look_due = time.monotonic() + LOOK_SECONDS
        waiting, self._elsewhere = self._elsewhere, []
        for task_plan, trial in waiting:
            holders = {run.run_id: taken[run.run_id] for run in trial.runs if run.run_id in taken}
            if holders:
                self._elsewhere.append((task_plan, trial))
                self._tell_holders(holders)
            else:
                task_plan.put_back([trial])

    def _tell_holders(self, holders: Mapping[str, Holder]) -> None:
        """Say once of every other driver that it is waited for."""
        self._seen_elsewhere.update(holders)
        for holder in holders.values():
            if str(holder) not in self._holders_told:
                self._holders_told.add(str(holder))
                self.progress.note(
                    f"{self.spec.name}: {holder} trains runs of this sweep; they are shared out, "
                    "and each is trained once"
                )

    def advanced(self, trial: PlannedTrial, step: int) -> None:
        """A running trial has reached `step`."""
        task_tally = self._task_tallies[id(self._task_plan_of[trial.trial_id])]
        task_tally.running_steps[trial.trial_id] = trial.steps_to(step)
        self.progress.update()

    def ended(
        self, trial: PlannedTrial, failure: Failure | None, paused: PauseReport | None = None
    ) -> None:
        """A trial has ended, or waits at a rung: read what its worker wrote, or see to its failure.

        Raises:
            StoreProblem: the store failed the worker, or fails now.
            FirstFailure: a run has failed, and the sweep is to end then.
        """
        from safesweep.trainables.store.writer import StoreProblem

        if failure is not None and failure.kind == "store":
            raise StoreProblem(failure.reason)
        task_plan = self._task_plan_of[trial.trial_id]
        if self._was_taken(trial, failure):
            self._elsewhere.append((task_plan, trial))
            self.exhausted = False
            self._runs_no_more(trial, task_plan)
            return
        if failure is not None and self._tried_again(trial, failure):
            return
        results = self._results_of(trial, paused)
        lost = tuple(run for run in trial.runs if run.run_id not in results)
        if lost:
            failed = PlannedTrial(trial.algorithm, trial.task, lost, trial.memory_splits)
            self._task_plan_of[failed.trial_id] = task_plan
            reason = failure.reason if failure else "the trial ended without rows"
            losses = self._losses[trial.trial_id]
            if failure is not None and failure.kind == "lost":
                reason = f"its worker was lost {losses} times"
            elif failure is not None and failure.kind == "starved":
                reason = f"{failure.reason}, {losses} times"
            failure = replace(failure or Failure("error", reason), reason=reason)
            self._write_failure(failed, failure)
            results |= history.read_trial(self.writer, failed.trial_id, self.spec.cost_limit)
        if paused is not None:
            task_plan.wait(trial.going)
        else:
            self.trials += 1
            self._merging.trial_ended()
        task_plan.record(results.values())
        statuses = [results[run.run_id].status for run in trial.runs]
        task_tally = self._runs_no_more(trial, task_plan)
        task_tally.ended_steps += trial.steps_to(self.spec.steps)
        task_tally.statuses.update(status for status in statuses if status != "paused")
        self.write_studies()
        self._show(task_plan)
        self.write_planned()
        self._free(trial, paused is not None)
        if failure is not None and lost:
            self._tell(failed, failure)
        self.progress.update()
        if lost and self._fail_fast:
            raise FirstFailure(
                f"{self.spec.name}: run {lost[0].run_id} has failed: {reason}; the sweep ends here "
                "(--fail-fast), and the same command goes on with what is missing"
            )

    def _was_taken(self, trial: PlannedTrial, failure: Failure | None) -> bool:
        """Whether another driver has taken a trial's runs, since this one was not heard of."""
        if self.lease is None:
            return False
        if failure is not None and failure.kind == "taken":
            self.lease.free(trial.trial_id)
            return True
        if trial.trial_id not in self.lease.lost:
            return False
        self._tell_holders({run.run_id: self.lease.lost[trial.trial_id] for run in trial.runs})
        self.lease.free(trial.trial_id)
        return True

    def _free(self, trial: PlannedTrial, paused: bool) -> None:
        """Let others have what has ended; runs that wait at a rung are held on to."""
        if self.lease is None:
            return
        if paused:
            going = trial.going
            self.lease.claim(going.trial_id, [run.run_id for run in going.runs])
            if going.trial_id == trial.trial_id:
                return
        self.lease.free(trial.trial_id)

    def _tell(self, trial: PlannedTrial, failure: Failure) -> None:
        """Say what a failure was, the first time that there is one of its kind."""
        if failure.alike in self._failures_told or len(self._failures_told) == FAILURES_TOLD:
            return
        self._failures_told.add(failure.alike)
        run = trial.runs[0].run_id
        # Without the password that an object store's location may hold.
        storage = shlex.quote(without_secrets(self.writer.storage))
        self.progress.note(
            "\n".join(
                [
                    f"{self.spec.name}: {trial.algorithm} on {trial.task} has failed: "
                    f"{failure.reason}",
                    *failure.last_frames,
                    f"  all of it: safesweep logs {run} --storage {storage}",
                ]
            )
        )

    def _results_of(
        self, trial: PlannedTrial, paused: PauseReport | None
    ) -> dict[str, history.RunOutcome]:
        """Runs of a trial that have ended, or wait at a rung, by run_id."""
        limit, rungs = self.spec.cost_limit, self.spec.rung_steps
        found: dict[str, history.RunOutcome] = {}
        for part in (trial.stopping, trial.going):
            if part.runs:
                found |= history.read_trial(self.writer, part.trial_id, limit, rungs)
        found = {run: outcome for run, outcome in found.items() if outcome.finished}
        if paused is not None:
            part = trial.going
            run_ids = [run.run_id for run in part.runs]
            found |= history.paused_outcomes(
                run_ids, part.trial_id, self.spec.name, *paused, limit, rungs
            )
        return found

    def _tried_again(self, trial: PlannedTrial, failure: Failure) -> bool:
        """Put a trial that failed back, where that can help; whether it did.

        A trial whose worker was lost comes back as it was, a limited number of times, and goes on
        from its checkpoint. A population that memory did not suffice for comes back as its halves:
        a run's results do not depend on who shares its population, so this costs time alone.
        """
        from safesweep.trainables.store.writer import checkpoint_path, heartbeat_path

        task_plan, runs = self._task_plan_of[trial.trial_id], len(trial.runs)
        if failure.kind in ("memory", "starved") and runs > 1:
            halves = trial.halves()
            task_plan.put_back(halves)
            if self.lease is not None:
                for half in halves:
                    self.lease.claim(half.trial_id, [run.run_id for run in half.runs])
                self.lease.free(trial.trial_id)
            self.writer.remove(checkpoint_path(trial.trial_id))
            self.writer.remove(heartbeat_path(trial.trial_id))
            self.progress.note(
                f"{self.spec.name}: memory ran out with {runs} runs in a population; "
                f"going on with {len(halves[0].runs)}"
            )
        elif failure.kind in ("lost", "starved"):
            self._losses[trial.trial_id] += 1
            if self._losses[trial.trial_id] > WORKER_LOSSES:
                return False
            task_plan.put_back([trial])
        else:
            return False
        self.exhausted = False
        self._runs_no_more(trial, task_plan)
        return True

    def _runs_no_more(self, trial: PlannedTrial, task_plan: MethodTaskPlan) -> TaskTally:
        """Take a trial out of what runs; the tally that it was in."""
        self.tally.trials_running -= 1
        task_tally = self._task_tallies[id(task_plan)]
        task_tally.running -= len(trial.runs)
        task_tally.running_steps.pop(trial.trial_id, None)
        return task_tally

    def write_row(self, status: str, force: bool = False) -> None:
        """Write the sweep's own row; between `force`d ones at most once in a while."""
        now = time.monotonic()
        if not force and now - self._row_written < ROW_INTERVAL_SECONDS:
            return
        run_ids = [run for task_plan in self.plan.task_plans for run in task_plan.run_ids]
        if not self.exhausted and self.plan.previous:
            # An adaptive search has not come back to these yet.
            known = set(run_ids)
            run_ids += [run for run in self.plan.previous.run_ids if run not in known]
        if force or len(run_ids) != self._row_length:
            self.writer.write_sweep(self.spec.to_recorded_yaml(), run_ids, status, self.created_at)
            self._row_written, self._row_length = now, len(run_ids)

    def write_planned(self) -> None:
        """Write how many runs each method has on each task, for who watches from the store; where
        they have changed."""
        planned = [(task.planned, task.spent, task.choice) for task in self.tally.tasks]
        if planned == self._planned_written:
            return
        names = ("algorithm", "task", "planned", "spent", "choice", "chosen")
        tasks = [
            {name: value for name in names if (value := getattr(task, name)) not in ("", {})}
            for task in self.tally.tasks
        ]
        self.writer.write_bytes(planned_path(self.spec.name), json.dumps(tasks).encode())
        self._planned_written = planned

    def write_warm_starts(self) -> None:
        """Write once what the searches are told before they begin, and say it."""
        if not self.plan.warm_starts or self._warm_starts_written:
            return
        content = warm_starts_content(self.plan.warm_starts)
        self.writer.write_bytes(warm_start_path(self.spec.name), content)
        self._warm_starts_written = True
        for task_plan in self.plan.task_plans:
            if task_plan.warm_start is not None:
                self.progress.note(f"{self.spec.name}: {task_plan.warm_start.describe()}")

    def write_studies(self, force: bool = False) -> None:
        """Write the searches as Optuna studies; between `force`d ones at most once in a while."""
        now = time.monotonic()
        if not force and now - self._studies_written < STUDY_INTERVAL_SECONDS:
            return
        if self._studies is None:
            self._studies = StudyJournal(self.plan.task_plans)
        self.writer.write_bytes(study_path(self.spec.name), self._studies.content())
        self._studies_written = now

    def _steps_to_do(self) -> float:
        runs = 0
        for task_plan in self.plan.task_plans:
            runs += task_plan.planned_runs - len(task_plan.skipped)
        share = expected_share(
            self.spec, max(task_plan.configurations for task_plan in self.plan.task_plans)
        )
        return float(runs * self.spec.steps) * share

    def _count(self) -> None:
        """Count every run anew."""
        task_plans = self.plan.task_plans
        self.tally.skipped = sum(len(task_plan.skipped) for task_plan in task_plans)
        for task_plan in task_plans:
            task_tally = self._task_tallies[id(task_plan)]
            task_tally.statuses = Counter(
                task_plan.outcomes[run].status
                for run in task_plan.run_ids
                if run in task_plan.outcomes
            )
            runs = task_plan.planned_runs - len(task_plan.skipped)
            share = expected_share(self.spec, task_plan.configurations)
            task_tally.steps_to_do = runs * self.spec.steps * share
        for task_plan in task_plans:
            self._show(task_plan)

    def _show(self, task_plan: MethodTaskPlan) -> None:
        """Bring the trials and the best configuration up to date in the progress."""
        queued = sum(other.queued for other in self.plan.task_plans)
        self.tally.trials_done = self.trials
        self.tally.trials_total = self.trials + self.tally.trials_running + queued
        task_tally = self._task_tallies[id(task_plan)]
        more = task_plan.planned_runs - task_tally.planned
        if task_tally.planned and more and task_plan.rounds is not None:
            task_tally.steps_to_do += more * self.spec.steps
            self.tally.total_steps += more * self.spec.steps
        task_tally.planned = task_plan.planned_runs
        if task_plan.rounds is not None:
            task_tally.spent = describe_spent(task_plan.rounds)
        best = task_plan.best_safe()
        if best is not None:
            label = (
                task_plan.task
                if len(self.spec.algorithms) == 1
                else f"{task_plan.task} {task_plan.algorithm}"
            )
            task_tally.best = describe_best(best[1], self.spec.maximize, task_plan.best_settings)
            self.tally.best[label] = task_tally.best

    def _write_failure(self, trial: PlannedTrial, failure: Failure) -> None:
        from safesweep.trainables.store.identity import code_version
        from safesweep.trainables.store.source_digest import code_digest
        from safesweep.trainables.store.writer import heartbeat_path, log_path

        now = datetime.now(UTC)
        task_plan = self._task_plan_of[trial.trial_id]
        rows = [
            {
                "run_id": run.run_id,
                "config_id": run.config_id,
                "trial_id": trial.trial_id,
                "algorithm": trial.algorithm,
                "task": trial.task,
                "seed": run.seed,
                "status": "failed",
                "steps": 0,
                "population": len(trial.runs),
                "memory_splits": trial.memory_splits,
                "dataset_id": task_plan.dataset_id,
                "code_version": code_version(),
                "code_digest": code_digest(trial.algorithm, trial.task),
                "finished_at": now,
                "error": failure.reason,
                "traceback": failure.traceback or None,
                "config": run.config,
            }
            for run in trial.runs
        ]
        if failure.output:
            content = failure.output.encode("utf-8", errors="replace")
            self.writer.write_bytes(log_path(trial.trial_id), content)
        self.writer.write_trial(trial.trial_id, rows)
        self.writer.remove(heartbeat_path(trial.trial_id))

    def _forget_failures(self, task_plan: MethodTaskPlan, trial: PlannedTrial) -> None:
        """Drop the rows of failed and incomplete runs that are tried again, where the new rows
        would not take their place."""
        from safesweep.trainables.store.writer import ResultWriter, log_path

        retried = {run.run_id for run in trial.runs}
        before = [task_plan.failed_before[run] for run in retried & task_plan.failed_before.keys()]
        for sweep in sorted({outcome.sweep for outcome in before if outcome.compacted}):
            self._open_compacted(sweep)
        parts = {(outcome.sweep, outcome.trial_id) for outcome in before if not outcome.compacted}
        if (self.spec.name, trial.trial_id) in parts:
            parts.remove((self.spec.name, trial.trial_id))
            self.writer.remove(log_path(trial.trial_id))
        for sweep, trial_id in sorted(parts):
            writer = ResultWriter(self.writer.storage, sweep)
            writer.remove_runs(trial_id, retried)
            if writer.read_bytes(f"runs/sweep={sweep}/{trial_id}.parquet") is None:
                writer.remove_trials([trial_id])

    def _open_compacted(self, sweep: str) -> None:
        """Take all incomplete trials out of a partition's merged parts, once: each time the parts
        are written anew."""
        from safesweep.trainables.store.writer import ResultWriter

        if sweep not in self._opened:
            self._opened.add(sweep)
            outcomes = [
                run
                for task_plan in self.plan.task_plans
                for run in task_plan.failed_before.values()
            ]
            trials = {run.trial_id for run in outcomes if run.compacted and run.sweep == sweep}
            ResultWriter(self.writer.storage, sweep).remove_compacted(trials)

    def _forget_stopped(self, task_plan: MethodTaskPlan, trial: PlannedTrial) -> None:
        """Drop the `stopped` rows of runs that are trained on; other sweeps may have them too."""
        from safesweep.trainables.store.writer import ResultWriter

        continued = {run.run_id for run in trial.runs} & task_plan.stopped_before.keys()
        before = {(task_plan.stopped_before[run].sweep, task_plan.stopped_before[run].trial_id)
                  for run in continued}  # fmt: skip
        for sweep, trial_id in sorted(before):
            ResultWriter(self.writer.storage, sweep).remove_runs(trial_id, continued)

    def _remove_stale_trials(self) -> None:
        """Remove what trials left that were killed: files begun, and checkpoints and heartbeats
        of this sweep's trials that are no longer planned. What is of other drivers that are alive
        stays."""
        from safesweep.trainables.store.heartbeats import parse_heartbeat, sweep_of
        from safesweep.trainables.store.writer import checkpoint_path, heartbeat_path

        self.writer.remove_partial()
        if not self.exhausted:
            return
        taken = self.lease.elsewhere() if self.lease is not None else {}
        if not any(holder.sweep == self.spec.name for holder in taken.values()):
            self.writer.remove_orphans()
        for name in self.writer.names("heartbeats"):
            trial_id = name.removesuffix(".json")
            content = self.writer.read_bytes(heartbeat_path(trial_id))
            if not content or sweep_of(content) != self.spec.name:
                continue
            with contextlib.suppress(ValueError):
                if not taken.keys().isdisjoint(parse_heartbeat(content)["run_ids"]):
                    continue
            self.writer.remove(checkpoint_path(trial_id))
            self.writer.remove(heartbeat_path(trial_id))


class SessionData(Protocol):
    """The data of a session's sweeps, loaded once."""

    def dataset_ids(self, spec: SweepSpec) -> dict[str, str]:
        """The digest of each task's data.

        Raises:
            InvalidInput: there is none, or it is bad.
        """


class SweepScheduler:
    """Sweeps that share workers: those under way, and those that wait for their turn.

    Attributes:
        open: the ones under way, by place.
        summaries: how the others ended, by place; InvalidInput where one could not be started.
        problem: what went wrong while the trainer could not be told.
    """

    def __init__(
        self,
        specs: Mapping[int, SweepSpec],
        storage: str,
        data: SessionData,
        show: bool,
        fail_fast: bool = False,
    ) -> None:
        self.open: dict[int, SweepRun] = {}
        self.summaries: dict[int, SweepSummary | InvalidInput] = {}
        self.problem: Exception | None = None
        self.progress = Progress(show)
        self._waiting = dict(specs)
        self._storage, self._data, self._fail_fast = storage, data, fail_fast
        self._history = history.StoreHistory(storage)
        self._planned: dict[int, frozenset[str] | None] = {}
        self._look_due: dict[int, float] = {}
        self._holders_told: set[tuple[int, str]] = set()

    @property
    def over(self) -> bool:
        """Whether no sweep is under way and none waits."""
        return not self.open and not self._waiting

    def next_trial(self) -> tuple[SweepRun, PlannedTrial] | None:
        """The next population and its sweep; None when there is none (yet).

        Raises:
            StoreProblem: the store cannot be read or written.
        """
        for _ in range(2):
            for launch in self.open.values():
                trial = launch.next_trial()
                if trial is not None:
                    return launch, trial
            if not self.advance():
                break
        return None

    def advance(self) -> bool:
        """Finish the sweeps that are done, and start the first that may be; whether one was.

        Raises:
            StoreProblem: the store cannot be read or written.
        """
        for place in [place for place, launch in self.open.items() if launch.done]:
            self.summaries[place] = self.open.pop(place).finish()
        for place, spec in list(self._waiting.items()):
            try:
                if time.monotonic() < self._look_due.get(place, 0.0):
                    continue
                if self._has_to_wait(place, spec):
                    continue
                launch = self._launch(place, spec)
            except InvalidInput as problem:
                self.summaries[place] = problem
                del self._waiting[place]
                continue
            if launch is None:
                self._look_due[place] = time.monotonic() + LOOK_SECONDS
                continue
            del self._waiting[place]
            if not launch.exhausted:
                self.open[place] = launch
                launch.start()
                return True
            self.summaries[place] = launch.finish()
        return False

    def refuse(self, problem: InvalidInput) -> None:
        """None of the sweeps can be run."""
        self.interrupt()
        self.summaries |= dict.fromkeys([*self.open, *self._waiting], problem)
        self.open, self._waiting = {}, {}

    def interrupt(self) -> None:
        """Say in the store that the sweeps under way were broken off."""
        for launch in self.open.values():
            launch.interrupt()

    def check_leases(self) -> None:
        """Where this driver was stopped for long, find out what others have taken meanwhile.

        A sweep of its own that was taken ends.
        """
        for launch in self.open.values():
            if launch.lease is None:
                continue
            launch.lease.confirm()
            holder = launch.lease.lost.get(exclusive(launch.spec.name))
            if holder is not None:
                self.problem = self.problem or InvalidInput(
                    f"sweep: {launch.spec.name!r} was taken over by {holder}, since this driver "
                    "was not heard of for long"
                )

    @contextlib.contextmanager
    def problems_kept(self) -> Iterator[None]:
        """Keep an exception for after the run; Tune would log and forget it."""
        try:
            yield
        except Exception as problem:
            self.problem = self.problem or problem

    def _launch(self, place: int, spec: SweepSpec) -> SweepRun | None:
        """A sweep under way; None while another driver has it to itself."""
        from safesweep.trainables.store.writer import ResultWriter
        from safesweep.trainables.tasks.registry import get_task, simulator_versions

        writer = ResultWriter(self._storage, spec.name)
        lease = Lease(writer)
        # What another driver has trained until now is planned with.
        lease.acquire()
        try:
            finished = finish_interrupted(writer.storage)
            if finished is not None:
                self.progress.note(f"{spec.name}: {finished}")
            dataset_ids = self._data.dataset_ids(spec)
            if not _foreseeable(make_task_plans(spec, dataset_ids.__getitem__)):
                # Two drivers would be suggested different configurations.
                taken = exclusive(spec.name)
                holders = lease.claim(taken, [taken])
                if holders:
                    lease.release()
                    self._tell_holder(place, spec, holders[taken])
                    return None
            plan = make_plan(spec, writer.storage, dataset_ids, self._history)
            launch = SweepRun(plan, writer, self.progress, self._fail_fast, lease, self._history)
            if not launch.exhausted:
                for task in spec.tasks:
                    simulator_versions(get_task(task))
        except BaseException:
            lease.release()
            raise
        return launch

    def _tell_holder(self, place: int, spec: SweepSpec, holder: Holder) -> None:
        if (place, holder.token) not in self._holders_told:
            self._holders_told.add((place, holder.token))
            self.progress.note(
                f"{spec.name}: {holder} runs this sweep since {holder.since}, and what it suggests "
                "next depends on results; waiting until that has ended"
            )

    def _has_to_wait(self, place: int, spec: SweepSpec) -> bool:
        """Whether another sweep trains runs of this one, or may come to."""
        if not self.open:
            return False
        if place not in self._planned:
            self._planned[place] = self._foreseen(spec)
        planned = self._planned[place]
        if planned is None or not all(
            _foreseeable(launch.plan.task_plans) for launch in self.open.values()
        ):
            return True
        return any(planned & launch.unfinished_runs() for launch in self.open.values())

    def _foreseen(self, spec: SweepSpec) -> frozenset[str] | None:
        """Every run of a sweep; None where that depends on results."""
        task_plans = make_task_plans(spec, self._data.dataset_ids(spec).__getitem__)
        if not _foreseeable(task_plans):
            return None
        # Asking whether it is exhausted makes a search plan all that it can.
        return frozenset(
            run for task_plan in task_plans if not task_plan.exhausted for run in task_plan.run_ids
        )


def _foreseeable(task_plans: Sequence[MethodTaskPlan]) -> bool:
    return all(
        task_plan.search.known_in_advance
        and task_plan.spec.early_stopping is None
        and task_plan.rounds is None
        for task_plan in task_plans
    )
