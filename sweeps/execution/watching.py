"""How a sweep stands, from its store alone: what `safesweep watch` shows, wherever it is run."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import yaml

from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.sweeps.execution.standing import (
    SweepStanding,
    TaskStanding,
    planned_tasks,
)
from safesweep.trainables.store.heartbeats import condition
from safesweep.trainables.store.leases import Holder, sweep_state
from safesweep.trainables.store.planned import planned_path

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.store.reader import ResultStore

SHARE_OF_A_CORE = 0.01
"""What each way of looking at a store that grows may take: it waits so much longer than it took."""
_RUN_COLUMNS = (
    "run_id", "algorithm", "task", "status", "steps", "train_seconds", "evaluate_seconds",
)  # fmt: skip


def pause_after(used: float, least: float = 0.0) -> float:
    """Seconds to wait after a look that took `used` seconds of a processor."""
    return max(least, used / SHARE_OF_A_CORE)


class SweepWatch:
    """Reads how a sweep stands again and again, each time only what is new.

    Args:
        find_best: whether to look for the best safe configurations.

    Raises:
        InvalidInput: the store does not know the sweep.
        StoreProblem: the store cannot be read; from both methods.
    """

    def __init__(self, store: "ResultStore", sweep: str, find_best: bool = True) -> None:
        self._store, self._sweep, self._finds_best = store, sweep, find_best
        self._best: dict[tuple[str, str], str] = {}
        self._best_runs = -1
        self._best_due = float("-inf")
        self._plan()

    def standing(self) -> SweepStanding:
        """How it stands now."""
        plan = self._plan()
        runs = self._runs(plan["run_ids"])
        beats = [beat for beat in self._store.heartbeats() if beat["sweep"] == self._sweep]
        drivers = [driver for driver in self._store.drivers() if driver.sweep == self._sweep]
        state = sweep_state(self._sweep, plan["status"], drivers, beats)
        tokens = {driver.token for driver in drivers}
        remark = _remark(state, drivers, Counter(condition(beat, tokens) for beat in beats))
        tasks = self._tasks(plan, runs, beats)
        steps = _steps_of(plan["spec"])
        for task in tasks:
            of_task = runs[(runs["algorithm"] == task.algorithm) & (runs["task"] == task.task)]
            own = [b for b in beats if (b["algorithm"], b["task"]) == (task.algorithm, task.task)]
            task.statuses = Counter(map(str, of_task["status"]))
            if drivers:
                training = [beat for beat in own if condition(beat, tokens) == "running"]
                task.running = sum(len(beat["run_ids"]) for beat in training)
                _measure(task, of_task, training, steps)
        if self._finds_best:
            self._find_best(len(runs), at_once=not drivers)
        for task in tasks:
            task.best = self._best.get((task.algorithm, task.task), "")
        rate = sum(task.steps_per_second or 0.0 for task in tasks)
        left = None
        if rate and steps:
            to_do = sum(task.planned - task.done for task in tasks) * steps
            under_way = sum(b["step"] * len(b["run_ids"]) for b in beats)
            left = max(0.0, to_do - under_way) / rate
        return SweepStanding(self._sweep, state, tasks, left, remark)

    def _plan(self) -> dict[str, Any]:
        plans = self._store.sweeps(sweep=self._sweep)
        if plans.empty:
            # `runs` knows partitions without a plan, and names what there is where it does not.
            self._store.runs(["run_id"], sweep=self._sweep)
            raise InvalidInput(f"sweep: {self._sweep!r} has no plan in {self._store.uri}")
        return {str(name): value for name, value in plans.iloc[-1].to_dict().items()}

    def _runs(self, run_ids: Iterable[str]) -> "pandas.DataFrame":
        runs = self._store.table_so_far("runs", _RUN_COLUMNS)
        return runs[runs["run_id"].isin(list(run_ids))].drop_duplicates("run_id", keep="last")

    def _tasks(
        self, plan: Mapping[str, Any], runs: "pandas.DataFrame", beats: list[dict[str, Any]]
    ) -> list[TaskStanding]:
        """Every method and task with its planned runs, as the driver wrote them; where it did not
        (older stores, imports), those that are there, the rest of the plan shared out evenly."""
        planned = planned_tasks(self._store.file(planned_path(self._sweep)))
        if planned:
            return planned
        names = {(str(a), str(t)) for a, t in zip(runs["algorithm"], runs["task"], strict=True)}
        names |= {(beat["algorithm"], beat["task"]) for beat in beats}
        known = Counter(zip(runs["algorithm"], runs["task"], strict=True))
        left, tasks = len(plan["run_ids"]) - len(runs), []
        for place, (algorithm, task) in enumerate(sorted(names)):
            share = left // len(names) + (place < left % len(names))
            tasks.append(TaskStanding(algorithm, task, known[algorithm, task] + share))
        return tasks

    def _find_best(self, runs: int, at_once: bool) -> None:
        """Look for the best safe configurations, where there are new runs and it is time."""
        if runs == self._best_runs or (not at_once and time.monotonic() < self._best_due):
            return
        from safesweep.analysis.selection.choice import choose
        from safesweep.sweeps.execution.progress import describe_best
        from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX

        started, used = time.monotonic(), time.process_time()
        choice = choose(self._store, sweep=self._sweep)
        objective = choice.goal.maximize.replace("_return_mean", "")
        self._best = {}
        rows = choice.chosen[choice.chosen["safe"]]
        names = [str(name) for name in rows if str(name).startswith(HYPERPARAMETER_PREFIX)]
        for row in rows.sort_values("normalized_reward", ascending=False).to_dict("records"):
            settings = {
                name.removeprefix(HYPERPARAMETER_PREFIX): row[name]
                for name in names
                if not is_missing(row.get(name))
            }
            scores = {
                objective: row["normalized_reward"],
                "normalized_cost": row["normalized_cost"],
            }
            text = describe_best(scores, objective, settings)
            self._best.setdefault((str(row["algorithm"]), str(row["task"])), text)
        self._best_runs = runs
        self._best_due = started + pause_after(time.process_time() - used)


def _remark(state: str, drivers: Iterable[Holder], trials: Mapping[str, int]) -> str:
    """Who runs a sweep, and what is to be said of its trials that do not run."""
    parts = [
        f"{'run' if driver.condition == 'running' else driver.condition} by process "
        f"{driver.process} on {driver.host} since {driver.since}"
        for driver in drivers
    ]
    parts += [f"{trials[name]} trials {name}" for name in ("stalled", "dead") if trials.get(name)]
    if state == "dead":
        return "nobody runs it: its driver has gone; the same command resumes it"
    return "; ".join(parts) if drivers else ""


def _measure(
    task: TaskStanding,
    runs: "pandas.DataFrame",
    training: list[dict[str, Any]],
    steps: int | None,
) -> None:
    """Its rate: what one trial does in a second (each run of a population carries its share of the
    time), times the trials that train now."""
    seconds = float(runs[["train_seconds", "evaluate_seconds"]].sum().sum())
    done = float(runs["steps"].sum())
    for beat in training:
        if beat["seconds"] > 0:  # Known from its first evaluation on.
            seconds += beat["seconds"]
            done += beat["step"] * len(beat["run_ids"])
    if training and seconds > 0 and done:
        task.steps_per_second = done / seconds * len(training)
    else:
        task.steps_per_second = sum(b["rate"] * len(b["run_ids"]) for b in training) or None
    if not task.steps_per_second:
        return
    if steps:
        under_way = sum(beat["step"] * len(beat["run_ids"]) for beat in training)
        left = max(0.0, (task.planned - task.done) * steps - under_way)
        task.seconds_left = left / task.steps_per_second


def _steps_of(specification: str) -> int | None:
    """The gradient steps of a run, as the sweep file says."""
    content = yaml.safe_load(specification)
    steps = content.get("steps") if isinstance(content, Mapping) else None
    return int(steps) if isinstance(steps, int | float) else None
