"""Launching a sweep through Ray Tune: the only module of `sweeps` that touches ray, but for
`safesweep.sweeps.execution.ray_connection`, which says how to come to it.

One Tune trial is one population. What Tune would keep (results, checkpoints, its own state) is
switched off or goes to a temporary folder: the store is written by the workers, and a launch finds
everything that it needs there.
"""

import contextlib
import io
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.evaluation import with_episodes
from safesweep.sweeps.execution.failures import Failure, FirstFailure, classify, describe_error
from safesweep.sweeps.execution.interruption import Terminated, exit_code
from safesweep.sweeps.execution.lost_workers import LostWorkers, every_loss_told
from safesweep.sweeps.execution.population_size import as_begun, calibrate
from safesweep.sweeps.execution.progress import DataProgress
from safesweep.sweeps.execution.ray_connection import (
    START_SECONDS,
    authentication,
    bounded,
    find_cluster,
    head_watched,
    require_loopback,
    require_possible,
    session_folder,
    wanted_address,
)
from safesweep.sweeps.execution.scheduler import (
    LOOK_SECONDS,
    PauseReport,
    SweepRun,
    SweepScheduler,
    SweepSummary,
    previous_spec,
)
from safesweep.sweeps.execution.worker_output import output_since, output_so_far
from safesweep.sweeps.notification import tell_end
from safesweep.sweeps.output import say
from safesweep.sweeps.planning.trials import PlannedTrial
from safesweep.sweeps.spec.sweep_spec import AUTO_COMPILE_STEPS, SweepSpec
from safesweep.trainables.tasks.processors import usable_cpus

if TYPE_CHECKING:
    from safesweep.trainables.data.dataset import Dataset

# Ray reads these when it is imported or started.
RAY_ENVIRONMENT = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A driver started by `uv run` would have every worker rebuild the environment.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # Where /dev/shm is small, as in most containers, data lie in Ray's folder: slower, but there.
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Trials get processes of their own; those started beforehand would only take time from them.
    "RAY_prestart_worker_first_driver": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C must reach us; Tune's own handler writes its state first, which nobody reads.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

ASK_SECONDS = 0.2
"""How often to ask for a trial while none of this driver's runs."""

TOO_LATE = "timed out during startup"
"""What Ray says where its processes on this machine take too long to start."""

OBJECT_STORE_SPARE_BYTES = 256 * 2**20
# For sweeps whose data is not known when the session starts; Ray spills what does not fit.
SESSION_STORE_BYTES = 2**30


def run_sweep(
    spec: SweepSpec | Mapping[str, Any] | str | Path,
    storage: str = "./results",
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    progress: bool = True,
    *,
    trainable: type[Any] | None = None,
    fail_fast: bool = False,
    on_end: str | None = None,
) -> SweepSummary:
    """Run what a store still lacks of a sweep; running it again resumes it.

    Runs that another driver trains at the same time are not trained again: the two share the work
    (`trainables.store.leases`). An adaptive search, and one with early stopping, is run by one
    driver; another waits until that has ended.

    Args:
        spec: a checked sweep, its content, a sweep file, or the name of one that ships.
        storage: local folder, or URI of a store.
        address: of a Ray cluster ("auto" finds one); None is that of RAY_ADDRESS where it is set,
            else Ray started on this machine.
        num_cpus: CPUs to use on this machine; None means all that the process may use.
        num_gpus: GPUs to use on this machine; None means all.
        progress: whether to report on standard error.
        trainable: a Tune class with the config keys of `SafeRLTrainable`, to train with instead.
        fail_fast: whether to end at the first run that fails.
        on_end: what is told how it ended, instead of the sweep file's own `on_end`: a command, or
            the address of a webhook (`sweeps.notification.tell_end`). What fails there is said in
            one line.

    Raises:
        FirstFailure: a run has failed, with `fail_fast`. What has ended is kept.
        InvalidInput: bad specification or data, a store that cannot be written, or resources that
            the machine does not have. Nothing has been run then.
        StoreProblem: the store failed on the way. What is finished is kept; the same call resumes.
        HeadLost: the head of the Ray cluster does not answer any more; likewise.
        KeyboardInterrupt: passed on after Ray has been stopped; the same call resumes.
    """
    asked = _as_spec(spec)
    code = 2
    try:
        (summary,) = run_sweeps(
            [asked],
            storage,
            address,
            num_cpus,
            num_gpus,
            progress,
            trainable=trainable,
            fail_fast=fail_fast,
        )
        if isinstance(summary, InvalidInput):
            raise summary
        code = summary.exit_code
    except FirstFailure:
        code = 1
        raise
    except KeyboardInterrupt as interrupt:
        code = exit_code(interrupt)
        raise
    finally:
        target = on_end or asked.on_end
        if target:
            tell_end(target, asked.name, storage, code)
    return summary


def run_sweeps(
    specs: Sequence[SweepSpec | Mapping[str, Any] | str | Path],
    storage: str = "./results",
    address: str | None = None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    progress: bool = True,
    *,
    trainable: type[Any] | None = None,
    fail_fast: bool = False,
) -> list[SweepSummary | InvalidInput]:
    """Run what a store still lacks of several sweeps, in one session and side by side.

    A sweep starts as soon as those before it have no trial left to hand out, so that no core idles
    while the last trial of a sweep runs. A run that sweeps have in common is trained once: the
    later sweep waits for it. Sweeps that search adaptively or stop early have the workers to
    themselves, since what they will want is not known.

    Arguments and errors are those of `run_sweep`, but that a sweep which cannot be started yields
    its InvalidInput in place of a summary, and the others are run.
    """
    data = _Datasets(progress)
    asked = [_with_episodes(_as_spec(spec), storage, progress) for spec in specs]
    spare = OBJECT_STORE_SPARE_BYTES if len(asked) == 1 else SESSION_STORE_BYTES
    require_possible(address, num_cpus, num_gpus)
    # A log has its first line when there is something to tell; who sits before a terminal waits.
    for spec in asked if progress and sys.stderr.isatty() else ():
        methods, tasks = ", ".join(spec.algorithms), ", ".join(spec.tasks)
        say(f"{spec.name}: preparing {methods} on {tasks}")
    queues: list[SweepScheduler] = []
    resources: dict[str, float] = {}
    try:
        with contextlib.ExitStack() as session:

            def start() -> None:
                if not resources:
                    store_bytes = spare + 2 * data.loaded_bytes
                    ray = _ray(address, num_cpus, num_gpus, store_bytes)
                    resources.update(session.enter_context(ray))

            checked = [
                _calibrated(spec, storage, data, start, num_cpus, num_gpus, progress)
                for spec in asked
            ]
            for spec in checked:
                if progress and spec.compile == "auto":
                    say(f"{spec.name}: {_compile_choice(spec)}")
            # Trials of one Tune run ask for the same resources.
            alike: dict[tuple[float, float], dict[int, SweepSpec]] = {}
            for place, spec in enumerate(checked):
                alike.setdefault((spec.cpu, spec.gpu), {})[place] = spec
            queues += [
                SweepScheduler(members, storage, data, progress, fail_fast)
                for members in alike.values()
            ]
            for queue in queues:
                queue.advance()
                while not queue.over:
                    if queue.open:
                        start()
                        _run_queue(queue, data, resources, trainable)
                    else:
                        time.sleep(LOOK_SECONDS)
                    queue.advance()
    except BaseException:
        for queue in queues:
            queue.interrupt()
        raise
    summaries = {place: summary for queue in queues for place, summary in queue.summaries.items()}
    return [summaries[place] for place in range(len(asked))]


def _as_spec(spec: SweepSpec | Mapping[str, Any] | str | Path) -> SweepSpec:
    if isinstance(spec, SweepSpec):
        return spec
    if isinstance(spec, Mapping):
        return SweepSpec.from_mapping(spec)
    return SweepSpec.load(spec)


def _with_episodes(spec: SweepSpec, storage: str, progress: bool) -> SweepSpec:
    """The sweep with the numbers that stand for `evaluate: {episodes: auto}`."""
    if spec.evaluate_episodes is not None:
        return spec
    spec, lines = with_episodes(spec, storage, previous_spec(storage, spec.name))
    for line in lines if progress else ():
        say(f"{spec.name}: {line}")
    return spec


def _calibrated(
    spec: SweepSpec,
    storage: str,
    data: "_Datasets",
    start: Callable[[], None],
    num_cpus: int | None,
    num_gpus: int | None,
    progress: bool,
) -> SweepSpec:
    """The sweep with the number that stands for `configs_per_trial: auto`.

    What is to be measured is measured while Ray's processes start, which is mostly waiting.
    """
    if not spec.auto_population:
        return spec
    previous = previous_spec(storage, spec.name)
    try:
        datasets = data.loaded(spec)
    except InvalidInput:
        return spec  # Its launch says so.
    if as_begun(spec, previous).auto_population:
        with ThreadPoolExecutor(1) as pool:
            # What trials import as well would take turns with what is measured.
            pool.submit(import_module, "safesweep.trainables.trainable")
            measured = pool.submit(calibrate, spec, datasets, num_cpus, num_gpus, previous)
            start()
            spec, why = measured.result()
    else:
        spec, why = calibrate(spec, datasets, num_cpus, num_gpus, previous)
    if progress:
        say(f"{spec.name}: {why}")
    return spec


def _compile_choice(spec: SweepSpec) -> str:
    return (
        f"compile {'true' if spec.compiled else 'false'}: runs of {spec.steps:,} gradient steps, "
        f"of which {AUTO_COMPILE_STEPS:,} repay it"
    )


class _Datasets:
    """The data of a session's sweeps: each is loaded once.

    Attributes:
        shared: whether Ray runs and is to hold them; until then this process does.
    """

    def __init__(self, progress: bool) -> None:
        self.shared = False
        self._progress = progress
        self._loaded: dict[tuple[str, str], Dataset] = {}
        self._references: dict[tuple[str, str], Any] = {}
        self._ids: dict[tuple[str, str], str] = {}

    @property
    def loaded_bytes(self) -> int:
        """Of what this process holds."""
        return sum(_array_bytes(data) for data in self._loaded.values())

    def dataset_ids(self, spec: SweepSpec) -> dict[str, str]:
        """The digest of each task's data.

        Raises:
            InvalidInput: there is none, or it is bad.
        """
        for task in spec.tasks:
            key = (task, spec.dataset_of(task))
            if key not in self._ids:
                self._loaded[key] = _load_dataset(*key, self._progress)
                self._ids[key] = self._loaded[key].dataset_id
                if self.shared:
                    self.reference(spec, task)
        return {task: self._ids[task, spec.dataset_of(task)] for task in spec.tasks}

    def loaded(self, spec: SweepSpec) -> "dict[str, Dataset]":
        """Each task's data, before Ray holds them.

        Raises:
            InvalidInput: there is none, or it is bad.
        """
        self.dataset_ids(spec)
        return {task: self._loaded[task, spec.dataset_of(task)] for task in spec.tasks}

    def reference(self, spec: SweepSpec, task: str) -> Any:
        """The object-store reference of a task's data; this process keeps no copy."""
        import ray

        key = (task, spec.dataset_of(task))
        if key not in self._references:
            self._references[key] = ray.put(self._loaded.pop(key))
        return self._references[key]


def _load_dataset(task: str, source: str, progress: bool) -> "Dataset":
    from safesweep.trainables.data.dataset import read_dataset
    from safesweep.trainables.data.sources import find_dataset

    path = find_dataset(task, source, DataProgress(task) if progress else None)
    data = read_dataset(path, task)
    if progress:
        say(f"{task}: {len(data):,} transitions from {path}")
        for line in data.warnings:
            say(f"{task}: warning: {line}")
    return data


@contextlib.contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """One Ray session for every `run_sweep` within, which otherwise start one each.

    Raises:
        InvalidInput: there is no cluster at `address`.
    """
    with _ray(address, None, None, SESSION_STORE_BYTES):
        yield


@contextlib.contextmanager
def _ray(
    address: str | None,
    num_cpus: int | None,
    num_gpus: int | None,
    store_bytes: int,
) -> Iterator[dict[str, float]]:
    """A Ray session; yields the resources that it has.

    Raises:
        InvalidInput: the cluster cannot be joined, or Ray cannot be started on this machine.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray.cluster_resources()  # type: ignore[no-untyped-call]
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    wanted, cluster = wanted_address(address), None
    if wanted is None:
        require_loopback()
        options |= {
            "address": "local",
            "num_cpus": usable_cpus() if num_cpus is None else num_cpus,
            "num_gpus": num_gpus,
            "include_dashboard": False,
            "object_store_memory": store_bytes,
            "_temp_dir": session_folder(),
        }
        refused = "Ray cannot be started here"
    else:
        if not address:
            say(f"joining the Ray cluster at {wanted}, which RAY_ADDRESS names")
        cluster = find_cluster(wanted)
        options["address"] = cluster.address
        refused = f"address: {wanted!r} cannot be joined"
    # Ray's processes take seconds to start, the trainable's module to import.
    threading.Thread(
        target=import_module, args=("safesweep.trainables.trainable",), daemon=True
    ).start()
    with authentication(cluster):
        try:
            with _own_termination(), bounded(START_SECONDS, "this"):
                _init(options)
        except Exception as problem:  # whatever a machine may lack
            with contextlib.suppress(Exception):
                ray.shutdown()  # what it had started
            raise InvalidInput(f"{refused}: {describe_error(problem)}") from problem
        head = cluster.address if cluster else ray.get_runtime_context().gcs_address
        with head_watched(head) as lost:
            try:
                yield ray.cluster_resources()  # type: ignore[no-untyped-call]
            finally:
                # Without its head, Ray would wait for it.
                if not lost.is_set():
                    with _own_termination():
                        ray.shutdown()


def _init(options: Mapping[str, Any]) -> None:
    """Start Ray or join it; again where a busy machine took longer than Ray allows, 30 s."""
    import ray

    while True:
        before = set(_ray_processes())
        try:
            ray.init(**options)
            return
        except BaseException as problem:  # Ray has no type for being late.
            with contextlib.suppress(Exception):
                ray.shutdown()
            # Ray forgets the processes of a start that failed: a head of 300 MB, each time.
            for process in set(_ray_processes()) - before:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if TOO_LATE not in str(problem):
                raise
            say("Ray has not started within its 30 s; trying again")


def _ray_processes() -> list[psutil.Process]:
    """Processes of Ray's that this one has started."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(f"{os.sep}ray{os.sep}" in word for word in process.cmdline()):
                    found.append(process)
    return found


@contextlib.contextmanager
def _own_termination() -> Iterator[None]:
    """Keep our handler of SIGTERM: Ray's start installs one that exits, and its end leaves none.

    Raises:
        Terminated: Ray's was called within.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as end:
        if end.code == signal.SIGTERM:
            raise Terminated from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _array_bytes(data: "Dataset") -> int:
    return sum(int(getattr(array, "nbytes", 0)) for array in vars(data).values())


def _run_queue(
    queue: SweepScheduler,
    data: _Datasets,
    resources: Mapping[str, float],
    trainable: type[Any] | None,
) -> None:
    """Run every trial of some sweeps."""
    try:
        request = trial_resources(next(iter(queue.open.values())).spec, resources)
    except InvalidInput as problem:
        queue.refuse(problem)
        return
    data.shared = True
    if trainable is None:
        from safesweep.trainables.trainable import SafeRLTrainable

        trainable = SafeRLTrainable
    lost = LostWorkers()
    lost.look()
    with tempfile.TemporaryDirectory(prefix="safesweep-") as folder, queue.progress:
        while queue.open:
            concurrent = max_concurrent(request, resources)
            _fit(queue, data, request, concurrent, folder, trainable, lost)
            queue.advance()


def _fit(
    queue: SweepScheduler,
    data: _Datasets,
    request: dict[str, float],
    concurrent: int,
    folder: str,
    trainable: type[Any],
    lost: LostWorkers,
) -> None:
    """Run the trials of a queue through `tune.Tuner`."""
    from ray import tune

    searcher = _scheduler_searcher(queue, data, request)
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
            callbacks=[_failure_callback(searcher, lost)],
            stop=_stopper(queue, searcher),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            log_to_file=False,
        ),
    )
    # Tune prints a heading even when it is told to be silent; standard output is for tables.
    with contextlib.redirect_stdout(io.StringIO()), every_loss_told():
        tuner.fit()
    if queue.problem is not None:
        raise queue.problem


def _failure_callback(searcher: Any, lost: LostWorkers) -> Any:
    """Ends trials that Tune gives up, with the reason: a searcher is not told any."""
    from ray import cloudpickle
    from ray.exceptions import RayActorError, RayTaskError
    from ray.tune import Callback

    class FailureCallback(Callback):
        def __init__(self, searcher: Any, lost: LostWorkers) -> None:
            self._searcher, self._lost = searcher, lost

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            self._searcher.end(trial.trial_id, self._failure(trial))

        def _failure(self, trial: Any) -> Failure:
            if trial.pickled_error_file is None:
                # Neither the trainable nor its worker: Ray could not start one.
                return Failure("lost", "its worker could not be started", _error_text(trial))
            try:
                problem = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
            except Exception as unreadable:  # whatever unpickling a foreign error raises
                return replace(classify(unreadable), traceback=_error_text(trial))
            if isinstance(problem, RayActorError):
                return self._lost.failure(problem)
            if isinstance(problem, RayTaskError):
                return replace(classify(problem.cause), traceback=problem.traceback_str)
            return classify(problem)

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Nobody unpickles it.

    return FailureCallback(searcher, lost)


def _error_text(trial: Any) -> str:
    """What Tune noted of a trial's errors."""
    try:
        return Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return ""


def _stopper(queue: SweepScheduler, searcher: Any) -> Any:
    """Ends all trials of Tune's once something went wrong that ends the sweep."""
    from ray.tune import Stopper

    class ProblemStopper(Stopper):
        def __init__(self, queue: SweepScheduler, searcher: Any) -> None:
            self._queue, self._searcher = queue, searcher

        def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
            """Whether another driver has the trial, as this one was stopped for long."""
            with self._queue.problems_kept():
                self._queue.check_leases()
            return bool(self._searcher.was_taken(trial_id))

        def stop_all(self) -> bool:
            with self._queue.problems_kept():
                self._queue.check_leases()
            return self._queue.problem is not None

        def __deepcopy__(self, memo: dict[int, Any]) -> "ProblemStopper":
            return self

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Nobody unpickles it.

    return ProblemStopper(queue, searcher)


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

    class GuardedTrainable(trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self._failure: Failure | None = None
            self._before = output_so_far()
            try:
                super().setup(config["trial"].content)
            except Exception as problem:
                self._failure = classify(problem, output_since(self._before))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

        def step(self) -> dict[str, Any]:
            if self._failure is None:
                try:
                    result: dict[str, Any] = super().step()
                    return result
                except Exception as problem:
                    self._failure = classify(problem, output_since(self._before))
            return {"step": 0, "done": True, "failure": self._failure}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Checkpoints lie in the store, under the trial's own identity."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """See `save_checkpoint`."""

    return GuardedTrainable


def _scheduler_searcher(
    queue: SweepScheduler, data: _Datasets, request: Mapping[str, float]
) -> Any:
    """Hands the trials of a queue to Tune in the form of its search algorithms."""
    from ray.tune.search import Searcher

    # Tune pickles the class with what it closes over, so all state goes through __init__.
    class SchedulerSearcher(Searcher):
        def __init__(
            self, queue: SweepScheduler, data: _Datasets, request: Mapping[str, float]
        ) -> None:
            super().__init__(metric="step", mode="max")
            self._queue, self._data, self._request = queue, data, request
            self._trials: dict[str, tuple[SweepRun, PlannedTrial]] = {}
            self._told: set[tuple[str, str]] = set()

        def suggest(self, trial_id: str) -> Any:
            found = None
            if self._queue.problem is None:
                with self._queue.problems_kept():
                    found = self._queue.next_trial()
            if found is None:
                over = self._queue.over or self._queue.problem is not None
                if not over and not self._trials:
                    # Only other drivers train; Tune would ask again at once.
                    time.sleep(ASK_SECONDS)
                return Searcher.FINISHED if over else None
            launch, trial = self._trials[trial_id] = found
            lease = launch.lease.token if launch.lease is not None else None
            wanted = trial.request(launch.spec, launch.writer.storage, self._request["gpu"], lease)
            config = {
                **wanted.to_config(),
                "trial_id": trial.trial_id,
                "dataset": self._data.reference(launch.spec, trial.task),
            }
            return {"trial": _Sealed(config)}

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            launch, trial = self._trials[trial_id]
            self._tell_problems(launch, result)
            launch.advanced(trial, int(result["step"]))

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            if error:
                return
            last = result or {}
            if trial_id in self._trials:
                self._tell_problems(self._trials[trial_id][0], last)
            paused = None
            if last.get("paused"):
                paused = PauseReport(int(last["step"]), last["evaluations"])
            self.end(trial_id, last.get("failure"), paused)

        def was_taken(self, trial_id: str) -> bool:
            """Whether another driver has taken a trial."""
            launch, trial = self._trials.get(trial_id, (None, None))
            if launch is None or trial is None or launch.lease is None:
                return False
            return trial.trial_id in launch.lease.lost

        def _tell_problems(self, launch: SweepRun, result: Mapping[str, Any]) -> None:
            """Say what went wrong beside the training, once a sweep."""
            for line in result.get("problems", ()):
                if (launch.spec.name, line) not in self._told:
                    self._told.add((launch.spec.name, line))
                    launch.progress.note(f"{launch.spec.name}: warning: {line}")

        def end(
            self, trial_id: str, failure: Failure | None, paused: PauseReport | None = None
        ) -> None:
            """Pass the end of a trial on, once."""
            if trial_id in self._trials:
                launch, trial = self._trials.pop(trial_id)
                if self._queue.problem is not None:
                    return  # Stopped with the others; what it wrote is found by the next launch.
                with self._queue.problems_kept():
                    launch.ended(trial, failure, paused)

        def __getstate__(self) -> dict[str, Any]:
            return {}  # Nobody unpickles it.

        def save(self, checkpoint_path: str) -> None:
            """Nothing of Tune's state is kept; the store is."""

        def restore(self, checkpoint_path: str) -> None:
            """See `save`."""

    return SchedulerSearcher(queue, data, request)
