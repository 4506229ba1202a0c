"""Launching a sweep through Ray Tune: the only module of `sweeps` that touches ray.

One Tune trial is one population. What Tune would keep (results, checkpoints, its own state) is
switched off or goes to a temporary folder: the store is written by the workers, and a launch finds
everything that it needs there.
"""

import contextlib
import io
import json
import logging
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from search_spaces.validation import InvalidInput
from sweeps import history
from sweeps.early_stopping import expected_share
from sweeps.failures import Failure, classify, describe_error
from sweeps.output import say
from sweeps.planner import Arm, PlannedTrial, make_arms
from sweeps.progress import DataProgress, Progress, Tally, describe_scores
from sweeps.spec import SweepSpec
from sweeps.study import StudyJournal, study_path

# Ray reads these when it is imported or started.
RAY_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A driver started by `uv run` would have every worker rebuild the environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach us; Tune's own handler writes its state first, which nobody reads.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

WORKER_LOSSES = 3
ROW_INTERVAL_SECONDS = 1.0
STUDY_INTERVAL_SECONDS = 10.0
OBJECT_STORE_SPARE_BYTES = 256 * 2**20
# For sweeps whose data is not known when the session starts; Ray spills what does not fit.
SESSION_STORE_BYTES = 2**30


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


class PauseReport(NamedTuple):
    """What a trial says that waits at a rung: its step, and its evaluations so far."""

    step: int
    evaluations: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class SweepPlan:
    """What a launch would do: the arms of a sweep over what the store holds."""

    spec: SweepSpec
    arms: tuple[Arm, ...]
    previous: history.PreviousSweep | None


def run_sweep(
    spec: SweepSpec | Mapping[str, Any] | str | Path,
    storage: str = "./results",
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    progress: bool = True,
    *,
    trainable: type[Any] | None = None,
) -> SweepSummary:
    """Run what a store still lacks of a sweep; running it again resumes it.

    Args:
        spec: a checked sweep, its content, a sweep file, or the name of one that ships.
        storage: local folder, or URI of a store.
        address: of a Ray cluster ("auto" finds one); None starts Ray on this machine.
        num_cpus: CPUs to use on this machine; None means all.
        num_gpus: GPUs to use on this machine; None means all.
        progress: whether to report on standard error.
        trainable: a Tune class with the config keys of `SafeRLTrainable`, to train with instead.

    Raises:
        InvalidInput: bad specification or data, a store that cannot be written, or resources that
            the machine does not have. Nothing has been run then.
        StoreProblem: the store failed on the way. What is finished is kept; the same call resumes.
        KeyboardInterrupt: passed on after Ray has been stopped; the same call resumes.
    """
    from trainables.dsrl_compatibility import simulator_versions
    from trainables.results import ResultWriter
    from trainables.tasks import get_task

    spec = _as_spec(spec)
    started = time.monotonic()
    writer = ResultWriter(storage, spec.name)
    datasets = _load_datasets(spec, progress)
    plan = make_plan(
        spec, writer.storage, {task: data.dataset_id for task, data in datasets.items()}
    )
    launch = _Launch(plan, writer, progress)
    if not launch.exhausted:
        for task in spec.tasks:
            simulator_versions(get_task(task))
        launch.run(datasets, address, num_cpus, num_gpus, trainable)
    return launch.finish(time.monotonic() - started)


def make_plan(spec: SweepSpec, storage: str, dataset_ids: Mapping[str, str]) -> SweepPlan:
    """The plan of a sweep over what `storage` (which need not exist) holds; starts nothing.

    Raises:
        StoreProblem: the store cannot be read.
    """
    from trainables.results import storage_location

    location = storage_location(storage)
    if not _exists(location):
        return SweepPlan(spec, tuple(make_arms(spec, dataset_ids.__getitem__)), None)
    store, configs = history.read_store(location, spec.cost_limit, spec.rung_steps)
    previous = history.read_previous(location, spec.name)
    run_ids = previous.run_ids if previous else ()
    arms = make_arms(spec, dataset_ids.__getitem__, store, run_ids, configs, location)
    return SweepPlan(spec, tuple(arms), previous)


def _exists(location: str) -> bool:
    from pyarrow import fs

    from trainables.results import store_problems

    with store_problems(location, "read"):
        filesystem, root = fs.FileSystem.from_uri(location)
        return bool(filesystem.get_file_info(root).type != fs.FileType.NotFound)


def _as_spec(spec: SweepSpec | Mapping[str, Any] | str | Path) -> SweepSpec:
    if isinstance(spec, SweepSpec):
        return spec
    if isinstance(spec, Mapping):
        return SweepSpec.from_mapping(spec)
    return SweepSpec.load(spec)


def _load_datasets(spec: SweepSpec, progress: bool) -> dict[str, Any]:
    from trainables.datasets import find_dataset, read_dataset

    loaded = {}
    for task in spec.tasks:
        path = find_dataset(task, spec.dataset, DataProgress(task) if progress else None)
        loaded[task] = read_dataset(path, task)
        if progress:
            say(f"{task}: {len(loaded[task]):,} transitions from {path}")
    return loaded


class _Launch:
    """The state of one launch: arms, the sweep's row, progress, and what ends trials."""

    def __init__(self, plan: SweepPlan, writer: Any, progress: bool) -> None:
        self.plan, self.spec, self.writer = plan, plan.spec, writer
        self.created_at = plan.previous.created_at if plan.previous else datetime.now(UTC)
        self.trials = 0
        self.problem: Exception | None = None
        self._row_written = float("-inf")
        self._row_length = 0
        self._next_arm = 0
        self._arm_of: dict[str, Arm] = {}
        self._losses: Counter[str] = Counter()
        self._studies: StudyJournal | None = None
        self._studies_written = float("-inf")
        exhausted = [arm.exhausted for arm in plan.arms]
        self.exhausted = all(exhausted)
        self.tally = Tally(self.spec.name, self._steps_to_do())
        self.progress = Progress(self.tally, progress)
        self._count()

    def run(
        self,
        datasets: dict[str, Any],
        address: str | None,
        num_cpus: int | None,
        num_gpus: int | None,
        trainable: type[Any] | None,
    ) -> None:
        """Train everything that is missing."""
        self.write_row("running", force=True)
        from trainables.results import StoreProblem

        try:
            with (
                _ray(address, num_cpus, num_gpus, datasets) as resources,
                tempfile.TemporaryDirectory(prefix="safesweep-") as folder,
                self.progress,
            ):
                _fit(self, datasets, resources, folder, trainable)
        except BaseException:
            # A store that has failed may not take this row either.
            with contextlib.suppress(StoreProblem):
                self.write_row("interrupted", force=True)
                self.write_studies(force=True)
            raise

    def finish(self, seconds: float) -> SweepSummary:
        """Write the sweep's final row, tidy up after trials that are gone, and sum up."""
        self._count()
        counts = self.tally.statuses
        status = "completed" if not counts["failed"] and self.exhausted else "failed"
        self.write_row(status, force=True)
        self.write_studies(force=True)
        self._remove_stale_trials()
        return SweepSummary(
            sweep=self.spec.name,
            storage=self.writer.storage,
            completed=counts["completed"],
            stopped=counts["stopped"],
            diverged=counts["diverged"],
            failed=counts["failed"],
            skipped=self.tally.skipped,
            trials=self.trials,
            seconds=seconds,
        )

    def next_trial(self) -> PlannedTrial | None:
        """The next population, the arms taking turns; None when there is none (yet)."""
        arms = self.plan.arms
        for turn in range(len(arms)):
            arm = arms[(self._next_arm + turn) % len(arms)]
            trial = arm.next_trial()
            if trial is not None:
                self._next_arm = (self._next_arm + turn + 1) % len(arms)
                self._arm_of[trial.trial_id] = arm
                self._forget_failures(arm, trial)
                self._forget_stopped(arm, trial)
                self.tally.trials_running += 1
                self.write_row("running")
                return trial
        self.exhausted = all(arm.exhausted for arm in arms)
        return None

    def advanced(self, trial: PlannedTrial, step: int) -> None:
        """A running trial has reached `step`."""
        self.tally.running_steps[trial.trial_id] = trial.steps_to(step)
        self.progress.update()

    def ended(
        self, trial: PlannedTrial, failure: Failure | None, paused: PauseReport | None = None
    ) -> None:
        """A trial has ended, or waits at a rung: read what its worker wrote, or see to its failure.

        Raises:
            StoreProblem: the store failed the worker, or fails now.
        """
        from trainables.results import StoreProblem

        if failure is not None and failure.kind == "store":
            raise StoreProblem(failure.reason)
        if failure is not None and self._tried_again(trial, failure):
            return
        arm = self._arm_of[trial.trial_id]
        results = self._results_of(trial, paused)
        lost = tuple(run for run in trial.runs if run.run_id not in results)
        if lost:
            failed = PlannedTrial(trial.algorithm, trial.task, lost, trial.halvings)
            self._arm_of[failed.trial_id] = arm
            reason = failure.reason if failure else "the trial ended without rows"
            if failure is not None and failure.kind == "lost":
                reason = f"its worker was lost {self._losses[trial.trial_id]} times"
            self._write_failure(failed, reason)
            results |= history.read_trial(self.writer, failed.trial_id, self.spec.cost_limit)
        if paused is not None:
            arm.wait(trial.going)
        else:
            self.trials += 1
        arm.record(results.values())
        self.tally.trials_running -= 1
        self.tally.running_steps.pop(trial.trial_id, None)
        self.tally.ended_steps += trial.steps_to(self.spec.steps)
        statuses = [results[run.run_id].status for run in trial.runs]
        self.tally.statuses.update(status for status in statuses if status != "paused")
        self.write_studies()
        self._show(arm)
        self.progress.update()

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
        from trainables.results import checkpoint_path, heartbeat_path

        arm, runs = self._arm_of[trial.trial_id], len(trial.runs)
        if failure.kind == "lost":
            self._losses[trial.trial_id] += 1
            if self._losses[trial.trial_id] > WORKER_LOSSES:
                return False
            arm.put_back([trial])
        elif failure.kind == "memory" and runs > 1:
            halves = trial.halves()
            arm.put_back(halves)
            self.writer.remove(checkpoint_path(trial.trial_id))
            self.writer.remove(heartbeat_path(trial.trial_id))
            self.progress.note(
                f"{self.spec.name}: memory ran out with {runs} runs in a population; "
                f"going on with {len(halves[0].runs)}"
            )
        else:
            return False
        self.exhausted = False
        self.tally.trials_running -= 1
        self.tally.running_steps.pop(trial.trial_id, None)
        return True

    @contextlib.contextmanager
    def problems_kept(self) -> Iterator[None]:
        """Keep an exception for after the run; Tune would log and forget it."""
        try:
            yield
        except Exception as problem:
            self.problem = self.problem or problem

    def write_row(self, status: str, force: bool = False) -> None:
        """Write the sweep's own row; between `force`d ones at most once in a while."""
        now = time.monotonic()
        if not force and now - self._row_written < ROW_INTERVAL_SECONDS:
            return
        run_ids = [run for arm in self.plan.arms for run in arm.run_ids]
        if not self.exhausted and self.plan.previous:
            # An adaptive search has not come back to these yet.
            known = set(run_ids)
            run_ids += [run for run in self.plan.previous.run_ids if run not in known]
        if force or len(run_ids) != self._row_length:
            self.writer.write_sweep(self.spec.to_yaml(), run_ids, status, self.created_at)
            self._row_written, self._row_length = now, len(run_ids)

    def write_studies(self, force: bool = False) -> None:
        """Write the searches as Optuna studies; between `force`d ones at most once in a while."""
        now = time.monotonic()
        if not force and now - self._studies_written < STUDY_INTERVAL_SECONDS:
            return
        if self._studies is None:
            self._studies = StudyJournal(self.plan.arms)
        self.writer.write_bytes(study_path(self.spec.name), self._studies.content())
        self._studies_written = now

    def _steps_to_do(self) -> float:
        runs = 0
        for arm in self.plan.arms:
            runs += arm.configurations * len(self.spec.seeds) - len(arm.skipped)
        share = expected_share(self.spec, max(arm.configurations for arm in self.plan.arms))
        return float(runs * self.spec.steps) * share

    def _count(self) -> None:
        """Count every run anew."""
        arms = self.plan.arms
        self.tally.statuses = Counter(
            arm.outcomes[run].status for arm in arms for run in arm.run_ids if run in arm.outcomes
        )
        self.tally.skipped = sum(len(arm.skipped) for arm in arms)
        for arm in arms:
            self._show(arm)

    def _show(self, arm: Arm) -> None:
        """Bring the trials and the arm's best configuration up to date in the progress."""
        queued = sum(other.queued for other in self.plan.arms)
        self.tally.trials_done = self.trials
        self.tally.trials_total = self.trials + self.tally.trials_running + queued
        best = arm.best_safe()
        if best is not None:
            label = arm.task if len(self.spec.algorithms) == 1 else f"{arm.task} {arm.algorithm}"
            self.tally.best[label] = describe_scores(best[1], self.spec.maximize, best[0])

    def _write_failure(self, trial: PlannedTrial, problem: str) -> None:
        from trainables.identity import code_version
        from trainables.results import heartbeat_path

        now = datetime.now(UTC)
        arm = self._arm_of[trial.trial_id]
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
                "halvings": trial.halvings,
                "dataset_id": arm.dataset_id,
                "code_version": code_version(),
                "finished_at": now,
                "error": problem,
                "config": run.config,
            }
            for run in trial.runs
        ]
        self.writer.write_trial(trial.trial_id, rows)
        self.writer.remove(heartbeat_path(trial.trial_id))

    def _forget_failures(self, arm: Arm, trial: PlannedTrial) -> None:
        """Drop the `failed` rows of runs that are tried again, where the new rows would not."""
        from trainables.results import ResultWriter

        retried = {run.run_id for run in trial.runs}
        parts = {
            (arm.failed_before[run].sweep, arm.failed_before[run].trial_id)
            for run in retried & arm.failed_before.keys()
        } - {(self.spec.name, trial.trial_id)}
        for sweep, trial_id in sorted(parts):
            writer = ResultWriter(self.writer.storage, sweep)
            rows = [row for row in _run_rows(writer, trial_id) if row["run_id"] not in retried]
            if rows:
                writer.write_trial(trial_id, rows)
            else:
                writer.remove_trials([trial_id])

    def _forget_stopped(self, arm: Arm, trial: PlannedTrial) -> None:
        """Drop the `stopped` rows of runs that are trained on; other sweeps may have them too."""
        from trainables.results import ResultWriter

        continued = {run.run_id for run in trial.runs} & arm.stopped_before.keys()
        before = {(arm.stopped_before[run].sweep, arm.stopped_before[run].trial_id)
                  for run in continued}  # fmt: skip
        for sweep, trial_id in sorted(before):
            ResultWriter(self.writer.storage, sweep).remove_runs(trial_id, continued)

    def _remove_stale_trials(self) -> None:
        """Remove what trials left that were killed: files begun, and checkpoints and heartbeats
        of this sweep's trials that are no longer planned."""
        from trainables.results import checkpoint_path, heartbeat_path

        self.writer.remove_partial()
        if not self.exhausted:
            return
        for name in self.writer.names("heartbeats"):
            trial_id = name.removesuffix(".json")
            content = self.writer.read_bytes(heartbeat_path(trial_id))
            if content and json.loads(content).get("sweep") == self.spec.name:
                self.writer.remove(checkpoint_path(trial_id))
                self.writer.remove(heartbeat_path(trial_id))


def _run_rows(writer: Any, trial_id: str) -> list[dict[str, Any]]:
    """The rows of a part of `runs`, in the form in which the writer takes them."""
    import pandas

    content = writer.read_bytes(f"runs/sweep={writer.sweep}/{trial_id}.parquet")
    if content is None:
        return []
    frame = pandas.read_parquet(io.BytesIO(content))
    rows: list[dict[str, Any]] = []
    for record in frame.to_dict("records"):
        row = {
            str(name): None if pandas.isna(value) else value
            for name, value in record.items()
            if not str(name).startswith("hp_")
        }
        rows.append({**row, "config": json.loads(str(row["config"]))})
    return rows


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """One Ray session for every `run_sweep` within, which otherwise start one each.

    Raises:
        InvalidInput: there is no cluster at `address`.
    """
    with _ray(address, None, None, {}, SESSION_STORE_BYTES):
        yield


@contextlib.contextmanager
def _ray(
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    datasets: Mapping[str, Any],
    spare_bytes: int = OBJECT_STORE_SPARE_BYTES,
) -> Iterator[dict[str, float]]:
    """A Ray session; yields the resources that it has."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            data_bytes = sum(_array_bytes(data) for data in datasets.values())
            options |= {
                "address": "local",
                "num_cpus": num_cpus,
                "num_gpus": num_gpus,
                "include_dashboard": False,
                "object_store_memory": spare_bytes + 2 * data_bytes,
            }
        else:
            options["address"] = address
        try:
            ray.init(**options)
        except (ConnectionError, ValueError) as problem:
            reason = str(problem).strip().splitlines()[0]
            raise InvalidInput(f"address: {address!r} cannot be reached: {reason}") from problem
    try:
        yield ray.cluster_resources()
    finally:
        if ours:
            ray.shutdown()


def _array_bytes(data: Any) -> int:
    return sum(int(getattr(array, "nbytes", 0)) for array in vars(data).values())


def _fit(
    launch: _Launch,
    datasets: dict[str, Any],
    resources: Mapping[str, float],
    folder: str,
    trainable: type[Any] | None,
) -> None:
    """Run every trial of a launch through `tune.Tuner`."""
    import ray
    from ray import tune

    spec = launch.spec
    request = trial_resources(spec, resources)
    references = {task: ray.put(data) for task, data in datasets.items()}
    datasets.clear()  # Ray holds them now; the driver's own copy would double the memory.
    if trainable is None:
        from trainables.trainable import SafeRLTrainable

        trainable = SafeRLTrainable
    concurrent = max_concurrent(request, resources)
    searcher = _plan_searcher(launch, references, request)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(_guarded(trainable), request),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=concurrent,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            verbose=0,
            callbacks=[_failure_callback(searcher)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            log_to_file=False,
        ),
    )
    # Tune prints a heading even when it is told to be silent; standard output is for tables.
    with contextlib.redirect_stdout(io.StringIO()):
        tuner.fit()
    if launch.problem is not None:
        raise launch.problem


def _failure_callback(searcher: Any) -> Any:
    """Ends trials that Tune gives up, with the reason: a searcher is not told any."""
    from ray import cloudpickle
    from ray.exceptions import RayActorError, RayTaskError
    from ray.tune import Callback

    class FailureCallback(Callback):
        def __init__(self, searcher: Any) -> None:
            self._searcher = searcher

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            try:
                problem = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
            except Exception as unreadable:  # whatever unpickling a foreign error raises
                problem = unreadable
            if isinstance(problem, RayTaskError):
                problem = problem.cause
            if isinstance(problem, RayActorError):
                failure = Failure("lost", describe_error(problem))
            else:
                failure = classify(problem)
            self._searcher.end(trial.trial_id, failure)

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Nobody unpickles it.

    return FailureCallback(searcher)


def trial_resources(spec: SweepSpec, available: Mapping[str, float]) -> dict[str, float]:
    """What one trial asks of Ray; without any GPU around, trials run on the CPU.

    Raises:
        InvalidInput: more CPUs than there are altogether.
    """
    if spec.cpu > available.get("CPU", 0):
        raise InvalidInput(
            f"resources.cpu: {spec.cpu:g} is not allowed; there are {available.get('CPU', 0):g}"
        )
    return {"cpu": spec.cpu, "gpu": spec.gpu if available.get("GPU", 0) else 0.0}


def max_concurrent(request: Mapping[str, float], available: Mapping[str, float]) -> int:
    """How many trials fit at a time."""
    fits = [
        math.floor(available.get(name.upper(), 0) / amount + 1e-9)
        for name, amount in request.items()
        if amount > 0
    ]
    return max(1, min(fits))


class _Sealed:
    """Carries a trial's configuration past Tune, which copies, flattens and names trials by it."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Sealed":
        return self

    def __repr__(self) -> str:
        return "trial"


def _guarded(trainable: type[Any]) -> type[Any]:
    """`trainable` whose errors end the trial with an explanation instead of a retry.

    What Tune then still sees fail is a lost worker, and only that is worth trying again.
    """

    class GuardedTrainable(trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._failure: Failure | None = None
            try:
                super().setup(config["trial"].content)
            except Exception as problem:
                self._failure = classify(problem)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            if self._failure is None:
                try:
                    result: dict[str, Any] = super().step()
                    return result
                except Exception as problem:
                    self._failure = classify(problem)
            return {"step": 0, "done": True, "failure": self._failure}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Checkpoints lie in the store, under the trial's own identity."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """See `save_checkpoint`."""

    return GuardedTrainable


def _trial_config(
    spec: SweepSpec,
    storage: str,
    trial: PlannedTrial,
    dataset: Any,
    request: Mapping[str, float],
) -> dict[str, Any]:
    return {
        "algorithm": trial.algorithm,
        "task": trial.task,
        "configs": [run.config for run in trial.runs],
        "seeds": [run.seed for run in trial.runs],
        "run_ids": [run.run_id for run in trial.runs],
        "trial_id": trial.trial_id,
        "steps": spec.steps,
        "until": trial.until,
        "stop": dict(trial.stop),
        "stop_at": trial.since,
        "evaluate_every": spec.evaluate_every,
        "episodes": spec.evaluate_episodes,
        "cost_limit": spec.cost_limit,
        "sweep": spec.name,
        "storage": storage,
        "dataset": dataset,
        "continue_from": None
        if trial.continuation.trial is None
        else {
            "trial_id": trial.continuation.trial.trial_id,
            "run_ids": trial.continuation.trial.run_ids,
        },
        "device": "auto" if request["gpu"] else "cpu",
        "gpu": request["gpu"],
        "halvings": trial.halvings,
        "threads": spec.threads,
    }


def _plan_searcher(
    launch: _Launch, references: Mapping[str, Any], request: Mapping[str, float]
) -> Any:
    """Hands a launch's trials to Tune in the form of its search algorithms."""
    from ray.tune.search import Searcher

    # Tune pickles the class with what it closes over, so all state goes through __init__.
    class PlanSearcher(Searcher):
        def __init__(
            self,
            launch: _Launch,
            references: Mapping[str, Any],
            request: Mapping[str, float],
        ) -> None:
            super().__init__(metric="step", mode="max")
            self._launch, self._references, self._request = launch, references, request
            self._trials: dict[str, PlannedTrial] = {}

        def suggest(self, trial_id: str) -> Any:
            if self._launch.problem is not None:
                return Searcher.FINISHED
            trial = None
            with self._launch.problems_kept():
                trial = self._launch.next_trial()
            if trial is None:
                # While a trial runs, it may still turn out too large and come back as halves.
                over = self._launch.exhausted and not self._trials
                return Searcher.FINISHED if over or self._launch.problem is not None else None
            self._trials[trial_id] = trial
            config = _trial_config(
                self._launch.spec,
                self._launch.writer.storage,
                trial,
                self._references[trial.task],
                self._request,
            )
            return {"trial": _Sealed(config)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            self._launch.advanced(self._trials[trial_id], int(result["step"]))

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            if error:
                return
            last = result or {}
            paused = None
            if last.get("paused"):
                paused = PauseReport(int(last["step"]), last["evaluations"])
            self.end(trial_id, last.get("failure"), paused)

        def end(
            self, trial_id: str, failure: Failure | None, paused: PauseReport | None = None
        ) -> None:
            """Pass the end of a trial on, once."""
            trial = self._trials.pop(trial_id, None)
            if trial is not None:
                with self._launch.problems_kept():
                    self._launch.ended(trial, failure, paused)

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Nobody unpickles it.

        def save(self, checkpoint_path: str) -> None:
            """Nothing of Tune's state is kept; the store is."""

        def restore(self, checkpoint_path: str) -> None:
            """See `save`."""

    return PlanSearcher(launch, references, request)
