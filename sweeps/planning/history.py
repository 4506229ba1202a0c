"""What a store already holds of a sweep: how its runs ended and what they scored."""

import io
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import is_missing
from safesweep.trainables.store.codes import codes_of
from safesweep.trainables.store.scores import (
    CONSTRAINTS,
    OBJECTIVES,
    acts_to_own_limit,
    at_cost_limit,
    last_evaluations,
    limits_by_task,
)

if TYPE_CHECKING:
    import pandas

    from safesweep.trainables.store.reader import StoreReader
    from safesweep.trainables.store.writer import ResultWriter

FINISHED = ("completed", "stopped", "diverged")
INCOMPLETE = "incomplete"
SCORES = (*OBJECTIVES, *CONSTRAINTS)
_RUN_COLUMNS = (
    "run_id", "config_id", "algorithm", "task", "seed", "status", "trial_id", "steps", "dataset_id",
    "code_version", "code_digest", "sweep", "config",
)  # fmt: skip
_EVALUATION_COLUMNS = tuple(
    dict.fromkeys(("run_id", "task", "step", "policy", "cost_return_mean", "cost_limit", *SCORES))
)


@dataclass(frozen=True)
class RunOutcome:
    """How one run ended, and its scores at its last evaluation (empty where it has none).

    A run that lacks rows in some table (a part was cut or lost) has the status `incomplete`, and is
    not finished; nor are the others of its trial then, since the trial's checkpoint gives all their
    rows again.
    `rungs` holds the scores at evaluations where early stopping decides, by step. A run that waits
    for such a decision has the status `paused`, which is not finished and in no table. `code` is
    the one that trained it, where that is known (`trainables.store.codes`).
    """

    run_id: str
    status: str
    trial_id: str
    sweep: str
    scores: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    rungs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    compacted: bool = False
    code: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the run needs no more work; a failed one does."""
        return self.status in FINISHED


@dataclass(frozen=True)
class PreviousSweep:
    """The sweep's own row, as an earlier launch left it."""

    created_at: datetime
    run_ids: tuple[str, ...]
    spec: str = ""


def outcomes(
    runs: "pandas.DataFrame",
    evaluations: "pandas.DataFrame",
    sweep: str | None,
    cost_limit: float | None,
    rungs: Collection[int] = (),
) -> dict[str, RunOutcome]:
    """Join run rows with their last evaluations, and those at the steps `rungs`, by run_id.

    A method with several policies is judged by the one that its rows name first, or by that of the
    limit where each of them acts to one. Costs are
    normalised by `cost_limit` (the task's own when None), whatever limit the rows were written
    under. `sweep` is the partition that trained the runs; None where the rows say it.
    """
    scores: dict[str, dict[str, float]] = {}
    at_rungs: dict[str, dict[int, dict[str, float]]] = {}
    if len(evaluations):
        limits = limits_by_task(evaluations["task"].unique().tolist(), cost_limit)
        evaluations = _judging_first(at_cost_limit(evaluations, limits), limits)
        for run_id, _, values in _scores(last_evaluations(evaluations)):
            scores[run_id] = values
        chosen = evaluations[evaluations["step"].isin(list(rungs))]
        for run_id, step, values in _scores(chosen):
            at_rungs.setdefault(run_id, {})[step] = values
    found: dict[str, RunOutcome] = {}
    if not len(runs):
        return found
    codes = {}
    if {"code_version", "code_digest", "dataset_id"} <= set(runs):
        codes = dict(zip(runs["run_id"], codes_of(runs), strict=True))
    columns = ("run_id", "status", "trial_id", "steps", *(["sweep"] if not sweep else []))
    for row in _rows(runs, columns):
        found[row["run_id"]] = RunOutcome(
            row["run_id"],
            row["status"],
            row["trial_id"],
            sweep or row["sweep"],
            scores.get(row["run_id"], {}),
            0 if is_missing(row["steps"]) else int(row["steps"]),
            at_rungs.get(row["run_id"], {}),
            code=codes.get(row["run_id"]),
        )
    return found


def paused_outcomes(
    run_ids: Sequence[str],
    trial_id: str,
    sweep: str,
    step: int,
    evaluations: Sequence[Mapping[str, Any]],
    cost_limit: float | None,
    rungs: Collection[int],
) -> dict[str, RunOutcome]:
    """Runs of a trial that waits at a rung, by run_id, from the evaluations that it reports."""
    import pandas

    runs = pandas.DataFrame({"run_id": run_ids})
    runs = runs.assign(status="paused", trial_id=trial_id, steps=step)
    return outcomes(runs, pandas.DataFrame(list(evaluations)), sweep, cost_limit, rungs)


def _scores(evaluations: "pandas.DataFrame") -> Iterator[tuple[str, int, dict[str, float]]]:
    """Run, step and scores, of each run and step the policy by which its method is judged."""
    first = evaluations.drop_duplicates(["run_id", "step"])
    for row in _rows(first, ("run_id", "step", *SCORES)):
        values = {name: math.nan if is_missing(row[name]) else float(row[name]) for name in SCORES}
        yield row["run_id"], int(row["step"]), values


def _judging_first(
    evaluations: "pandas.DataFrame", limits: Mapping[str, float]
) -> "pandas.DataFrame":
    """The rows in their order, but first those of policies that act to the task's limit among
    `limits`, by name (`name@10`): one training may serve several limits."""
    if not acts_to_own_limit(evaluations["policy"]).any():
        return evaluations
    others = [
        task not in limits or not policy.endswith(f"@{limits[task]:g}")
        for task, policy in zip(evaluations["task"], evaluations["policy"], strict=True)
    ]
    return evaluations.assign(others=others).sort_values("others", kind="stable")


def _rows(frame: "pandas.DataFrame", columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    lists = [frame[column].tolist() for column in columns]
    for values in zip(*lists, strict=True):
        yield dict(zip(columns, values, strict=True))


class StoreHistory:
    """What a store holds, for the plans of a session: each asks anew, and reads what has come
    since another asked."""

    def __init__(self, storage: str) -> None:
        from safesweep.trainables.store.writer import storage_location

        self.storage = storage_location(storage)

    @cached_property
    def store(self) -> "StoreReader":
        """The store, which must exist by now."""
        from safesweep.trainables.store.reader import StoreReader

        return StoreReader(self.storage)

    def runs(self) -> "pandas.DataFrame":
        """Every run, without its hyperparameters as columns."""
        return self.store.table_so_far("runs", _RUN_COLUMNS)

    def evaluations(self) -> "pandas.DataFrame":
        """Every evaluation."""
        return self.store.table_so_far("evaluations", _EVALUATION_COLUMNS)


def read_store(
    kept: StoreHistory, cost_limit: float | None, rungs: Collection[int] = ()
) -> tuple[dict[str, RunOutcome], dict[str, dict[str, Any]]]:
    """Every run of a store (by run_id), and every configuration (by config_id)."""
    # First the evaluations: a run whose rows come in between is then seen whole or not at all.
    evaluations = kept.evaluations()
    runs = kept.runs()
    if not len(runs):
        return {}, {}
    configs = {
        row["config_id"]: json.loads(row["config"])
        for row in _rows(runs.drop_duplicates("config_id"), ("config_id", "config"))
    }
    found = outcomes(runs, evaluations, None, cost_limit, rungs)
    return {**found, **_incomplete(found, kept.store.incomplete(thorough=True))}, configs


def read_runs(
    kept: StoreHistory,
    run_ids: Collection[str],
    cost_limit: float | None,
    rungs: Collection[int] = (),
) -> dict[str, RunOutcome]:
    """Some runs, whichever sweep has trained them; of one that is there more than once, a row that
    says that it is finished; `incomplete` where rows of it are missing."""
    # The evaluations of a run are there before its row.
    runs = kept.runs()
    runs = runs[runs["run_id"].isin(list(run_ids))]
    if not len(runs):
        return {}
    runs = runs.iloc[runs["status"].isin(FINISHED).argsort(kind="stable")]
    evaluations = kept.evaluations()
    evaluations = evaluations[evaluations["run_id"].isin(list(run_ids))]
    found = outcomes(runs, evaluations, None, cost_limit, rungs)
    return {**found, **_incomplete(found, kept.store.incomplete(thorough=True))}


def _incomplete(
    found: Mapping[str, RunOutcome], lacking: "pandas.DataFrame"
) -> dict[str, RunOutcome]:
    """The runs of the trials in which some lack rows."""
    trials = {
        (row["sweep"], row["trial_id"]): bool(row["compacted"])
        for row in _rows(lacking, ("sweep", "trial_id", "compacted"))
    }
    return {
        run: replace(outcome, status=INCOMPLETE, scores={}, rungs={}, compacted=trials[trial])
        for run, outcome in found.items()
        if (trial := (outcome.sweep, outcome.trial_id)) in trials
    }


def read_trial(
    writer: "ResultWriter",
    trial_id: str,
    cost_limit: float | None,
    rungs: Collection[int] = (),
) -> dict[str, RunOutcome]:
    """The runs of one trial that this sweep has just written."""
    import pandas

    parts = {}
    for table in ("runs", "evaluations"):
        content = writer.read_bytes(f"{table}/sweep={writer.sweep}/{trial_id}.parquet")
        parts[table] = pandas.read_parquet(io.BytesIO(content)) if content else pandas.DataFrame()
    if not all(map(len, parts.values())) and writer.is_compacted(trial_id):
        from safesweep.trainables.store.reader import StoreReader

        store = StoreReader(writer.storage)
        parts["runs"] = store.runs(trial_id=trial_id)
        parts["evaluations"] = store.evaluations(run_id=parts["runs"]["run_id"])
    return outcomes(parts["runs"], parts["evaluations"], writer.sweep, cost_limit, rungs)


def read_previous(storage: str, sweep: str) -> PreviousSweep | None:
    """The sweep's row of an earlier launch, or None."""
    from safesweep.trainables.store.reader import StoreReader

    rows = StoreReader(storage).sweeps(sweep=sweep)
    if not len(rows):
        return None
    row = rows.iloc[0]
    return PreviousSweep(row["created_at"].to_pydatetime(), tuple(row["run_ids"]), str(row["spec"]))
