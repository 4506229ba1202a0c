"""Results from elsewhere (logs of other code, tables of papers) as rows of a store."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from safesweep.search_spaces.validation import (
    InvalidInput,
    is_missing,
    listed,
    require_choice,
    require_number,
    shown,
)
from safesweep.trainables.store import identity
from safesweep.trainables.store.import_columns import (
    EVALUATION_COLUMNS,
    REQUIRED,
    SCORES,
    STATUS,
    Column,
    Given,
    NamePattern,
    columns_of,
    kinds_wanted,
    preset_columns,
)
from safesweep.trainables.store.import_presets import HYPERPARAMETER, PRESETS
from safesweep.trainables.store.schema import IMPORTED
from safesweep.trainables.store.table_files import TableFile, read_table
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import Task, task_called

if TYPE_CHECKING:
    import pandas

LAST_ROWS = ("check", "keep")

# What programs and schedulers say of a run; None: it has not ended.
_STATUSES: dict[str, str | None] = {
    **dict.fromkeys(
        ("completed", "complete", "finished", "done", "success", "succeeded", "successful", "ok",
         "terminated"),
        "completed",
    ),
    **dict.fromkeys(("stopped", "pruned", "early_stopped"), "stopped"),
    "diverged": "diverged",
    **dict.fromkeys(
        ("failed", "fail", "failure", "crashed", "crash", "killed", "error", "errored", "aborted",
         "cancelled", "canceled", "interrupted", "timeout", "out_of_memory", "oom", "preempted",
         "lost", "nan"),
        "failed",
    ),
    **dict.fromkeys(("running", "pending", "queued", "starting", "preempting"), None),
}  # fmt: skip
_LARGEST = 2**63 - 1
"""That a column of whole numbers holds."""
_WORST = ("failed", "diverged", "stopped", "completed")

# Rewards may be negative; what is counted, costs, limits and shares may not.
_LIMITS: dict[str, tuple[float | None, float | None]] = {
    "normalized_reward": (None, None),
    "reward_return_mean": (None, None),
    "violation_rate": (0, 1),
    "zero_cost_rate": (0, 1),
}


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote: how many runs and evaluations; which columns it did not take, and what
    else there is to say of it, a line each."""

    sweep: str
    runs: int
    evaluations: int
    ignored: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass
class _Table:
    """A table with what its columns are: ours -> where it comes from.

    `places` names each row for messages; `headers` counts the headers before it.
    """

    columns: dict[str, Column]
    frame: "pandas.DataFrame"
    places: Sequence[str]
    headers: Sequence[int]
    ignored: tuple[str, ...] = ()


@dataclass
class _Row:
    """One checked row: an evaluation, or what a run that failed left behind."""

    values: dict[str, Any]
    status: str
    reason: str | None
    place: str
    table: int
    header: int
    config: dict[str, Any] = field(default_factory=dict)
    run_id: str = ""

    @property
    def scored(self) -> bool:
        """Whether it has a score at all."""
        return any(name in self.values for names in SCORES for name in names)

    @property
    def step(self) -> int:
        return int(self.values["step"])


def import_evaluations(
    frame: "pandas.DataFrame",
    storage: str,
    sweep: str,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    cost_limit: float | None = None,
    source: str = "a DataFrame",
    *,
    resumed: bool = False,
) -> ImportSummary:
    """Write a table of evaluations from elsewhere as a sweep of a store.

    A row is one evaluation: `algorithm, task, seed`; `normalized_reward` or, for a task that we
    know, `reward_return_mean`; `normalized_cost` or `cost_return_mean`. Optional: `config_id` (any
    text that tells configurations apart), `hp_<name>` for each hyperparameter, `step` (0 where
    there is none), `policy` (the algorithm), `status` (what became of the run: crashed, failed and
    killed ones become failed runs), and any other column of `evaluations`. Without `config_id` the
    hyperparameters tell configurations apart. A run whose last row lacks a score has failed.

    A column of the table may be several of ours. One that has the name of ours is that one, too,
    unless it is given to another measurement: the same numbers are not two measurements.

    Rows of one run and step that disagree are refused. In a log that was resumed from a checkpoint
    (the steps fall back to one after the first, and rise again) what was written after that
    checkpoint and before it was resumed gives way.

    Args:
        frame: the table; it is not changed.
        storage: folder or URI of the store, which need not exist.
        sweep: the sweep that the rows become; it must be new.
        columns: our name -> its name in the table.
        constants: columns that the table lacks, with one value for all rows.
        cost_limit: of an episode; where neither it nor a column `cost_limit` is given, the task's.
        source: what to record as the origin.
        resumed: let later rows give way also where the log starts over.

    Raises:
        InvalidInput: a missing or clashing column, a value of the wrong kind, rows that
            contradict each other, or a sweep that is in the store.
    """
    _require_sweep(sweep)
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    given = Given(columns or {}, constants or {}, cost_limit)
    table, _ = _file_table(TableFile("", tuple(frame.columns), frame=frame), given, None, False)
    return _write([table], storage, sweep, cost_limit, source, resumed, [])


def import_files(
    paths: Sequence[Path | str],
    storage: str,
    sweep: str,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    cost_limit: float | None = None,
    *,
    name_pattern: str | None = None,
    preset: str | None = None,
    last_row: str = "check",
    leave_out: Sequence[str] = (),
    resumed: bool = False,
) -> ImportSummary:
    """Write tables in files as one sweep of a store; see `import_evaluations` for the rows.

    Args:
        paths: CSV and the like, or Parquet (`trainables.store.table_files.read_table`).
        name_pattern: columns from a file's name, such as `bcql-{task}-seed{seed}.txt`; with slashes
            it is compared with as many folders, too; `{}` is anything.
        preset: a name in `PRESETS`; what is given here takes precedence over it.
        last_row: "keep" takes the last row of a file also where it may be cut.
        leave_out: columns of theirs that are not to be taken.

    Raises:
        InvalidInput: as `import_evaluations`; names file, line and column.
    """
    _require_sweep(sweep)
    require_choice("last_row", last_row, LAST_ROWS)
    chosen = None if preset is None else PRESETS[require_choice("preset", preset, PRESETS)]
    pattern = None if name_pattern is None else NamePattern(name_pattern)
    tables, notes = [], []
    for path in map(Path, paths):
        file = read_table(path)
        if chosen is not None and chosen.reshape is not None:
            file = chosen.reshape(file)
        values = dict(constants or {})
        for name, value in (pattern.values(path) if pattern else {}).items():
            if name in values:
                raise InvalidInput(
                    f"{name}: is set to {shown(values[name])}, and by the file's name"
                )
            values[name] = value
        given = Given(columns or {}, values, cost_limit, leave_out)
        known = preset_columns(chosen, path, file, leave_out) if chosen else None
        table, said = _file_table(file, given, known, last_row == "keep")
        tables.append(table)
        notes += [*file.notes, *said]
    taken = {name.removeprefix(HYPERPARAMETER) for t in tables for name in t.columns
             if name.startswith(HYPERPARAMETER)}  # fmt: skip
    if chosen is not None and taken:
        notes.append(f"hyperparameters: {listed(sorted(taken), 40)}")
    return _write(
        tables, storage, sweep, cost_limit, listed([Path(p).name for p in paths], 3), resumed, notes
    )


def _require_sweep(sweep: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", sweep):
        raise InvalidInput(
            f"sweep: {shown(sweep)} is not allowed; it must be 1 to 100 letters, digits, dots, "
            "dashes and underscores"
        )


def _status_key(value: Any) -> str:
    return re.sub(r"[\s-]+", "_", str(value).strip().casefold())


def _file_table(
    file: TableFile, given: Given, preset: Mapping[str, Column] | None, keep_last: bool
) -> tuple[_Table, list[str]]:
    """The columns of a table that are ours, and what there is to say of it."""
    plan, ignored = columns_of(file, given, preset)
    frame, rows, notes = file.select(kinds_wanted(plan), "step" in plan, keep_last)
    status = plan.get(STATUS)
    if status is not None and status.theirs is not None and STATUS not in given.columns:
        said = {_status_key(cell) for cell in frame[status.theirs] if not is_missing(cell)}
        if said and not said & _STATUSES.keys():
            # It is called `state` or so, and says nothing of how runs ended.
            del plan[STATUS]
            ignored = (*ignored, status.theirs)
    if rows:
        places = [f"{file.name}, line {row.line}" for row in rows]
        headers = [row.headers for row in rows]
    else:
        begun = f"{file.name}, " if file.name else ""
        places = [f"{begun}row {row}" for row in range(1, len(frame) + 1)]
        headers = [1] * len(frame)
    # Infinities are refused with their places later; here pandas only finds them no whole numbers.
    with np.errstate(invalid="ignore"):
        typed = frame.convert_dtypes()
    return _Table(plan, typed, places, headers, ignored), notes


def _write(
    tables: Sequence[_Table],
    storage: str,
    sweep: str,
    cost_limit: float | None,
    source: str,
    resumed: bool,
    notes: list[str],
) -> ImportSummary:
    """Check every row, and write them as one sweep."""
    rows, running = [], 0
    for number, table in enumerate(tables):
        for record, place, header in zip(_records(table), table.places, table.headers, strict=True):
            row = _row(record, table.columns, place, cost_limit)
            if row is None:
                running += 1
                continue
            row.table, row.header = number, header
            rows.append(row)
    notes = list(notes)
    if running:
        notes.append(f"left out rows of runs that have not ended: {running:,}")
    if not rows:
        raise InvalidInput(f"import: there is no row{': ' + notes[-1] if notes else ''}")
    _identify(rows)
    lasting = _without_failed_attempts(rows)
    if len(lasting) < len(rows):
        repeated = len(rows) - len(lasting)
        notes.append(f"rows of attempts that failed, but not when repeated: {repeated:,}")
    kept, replaced = _without_abandoned(lasting, resumed)
    if replaced:
        notes.append(f"rows that gave way to later ones of a resumed log: {replaced:,}")
    runs = _runs(kept)
    notes += _remarks(runs)
    writer = ResultWriter(storage, sweep)
    if writer.read_bytes(f"sweeps/sweep={sweep}/plan.parquet") is not None:
        raise InvalidInput(
            f"sweep: {sweep!r} is in the store already; give the import a new name (it takes "
            "several files at once)"
        )
    statuses = {run["run_id"]: run["status"] for run in runs}
    evaluations = [
        {**row.values, "run_id": row.run_id, "run_status": statuses[row.run_id]}
        for row in kept
        if row.scored
    ]
    trial = identity.trial_id([sweep, *statuses])
    for run in runs:
        run["trial_id"] = trial
    writer.write_trial(trial, runs, evaluations)
    status = "failed" if "failed" in statuses.values() else "completed"
    writer.write_sweep(f"# imported from {source}\nname: {sweep}\n", list(statuses), status)
    ignored = tuple(dict.fromkeys(name for table in tables for name in table.ignored))
    return ImportSummary(sweep, len(runs), len(evaluations), ignored, tuple(notes))


def _remarks(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What there is to say of the runs that an import found."""
    remarks = []
    failed = [run for run in runs if run["status"] in ("failed", "diverged")]
    if failed:
        reasons = dict.fromkeys(str(run["error"]) for run in failed)
        remarks.append(f"runs that count as failed: {len(failed):,} ({listed(reasons, 3)})")
    configurations = {(run["algorithm"], run["task"], run["config_id"]) for run in runs}
    seeds = {run["seed"] for run in runs}
    if len(seeds) > 1 and len(configurations) == len(runs) and any(run["config"] for run in runs):
        remarks.append(
            "no two seeds share a configuration: does each column that tells configurations apart "
            "hold a hyperparameter?"
        )
    return remarks


def _records(table: _Table) -> Iterable[dict[str, Any]]:
    """The rows with our names, without what is missing."""
    theirs = {
        ours: table.frame[column.theirs].tolist()
        for ours, column in table.columns.items()
        if column.theirs is not None
    }
    constants = {
        ours: _plain(column.value)
        for ours, column in table.columns.items()
        if column.theirs is None
    }
    for number in range(len(table.frame)):
        record = constants | {ours: _plain(values[number]) for ours, values in theirs.items()}
        yield {name: value for name, value in record.items() if value is not None}


def _row(
    values: dict[str, Any], columns: Mapping[str, Column], place: str, cost_limit: float | None
) -> _Row | None:
    """One row, checked, with what follows from the task; None for a run that has not ended."""

    def of(name: str) -> str:
        theirs = columns[name].theirs if name in columns else None
        renamed = theirs is not None and theirs != name
        return f"{name} in {place}{f', column {theirs!r}' if renamed else ''}"

    status, reason = "completed", None
    if STATUS in columns:
        said = values.pop(STATUS, "nan")
        known = _STATUSES.get(_status_key(said), said)
        if known is None:
            return None
        if known not in _WORST:
            raise InvalidInput(
                f"{of(STATUS)}: {shown(said)} is not one of completed, finished, stopped, pruned, "
                "diverged, failed, crashed, killed, running and the like"
            )
        status = str(known)
        if status != "completed":
            reason = "no status is given" if said == "nan" else f"its status is {said}"
    for name in REQUIRED:
        if name not in values:
            raise InvalidInput(f"{name}: {place} has none; every row must say its {name}")
    for name, kind in EVALUATION_COLUMNS.items():
        if name in values and kind == "string":
            values[name] = str(values[name])
        elif name in values:
            low, high = _LIMITS.get(name, (0, None))
            if kind == "int64":
                high = _LARGEST if high is None else high
            require_number(of(name), values[name], low, high, integer=kind == "int64")
            values[name] = float(values[name]) if kind == "float64" else int(values[name])
    task = task_called(values["task"])
    if task is not None:
        values["task"] = task.name
    limit = values.get("cost_limit", cost_limit if task is None else task.limit_or_own(cost_limit))
    if "normalized_reward" not in values and "reward_return_mean" in values:
        if task is None:
            raise InvalidInput(
                f"normalized_reward: {place} has none, and the returns of the unknown task "
                f"{shown(values['task'])} cannot be normalised"
            )
        values["normalized_reward"] = float(task.normalize_reward(values["reward_return_mean"]))
    if "normalized_cost" not in values and "cost_return_mean" in values:
        if limit is None:
            raise InvalidInput(
                f"cost_limit: {place} has none; it must be given for the unknown task "
                f"{shown(values['task'])}"
            )
        values["normalized_cost"] = float(Task.normalize_cost(values["cost_return_mean"], limit))
        values["cost_limit"] = float(limit)
    values = {"step": 0, "policy": values["algorithm"], **values}
    return _Row(values, status, reason, place, 0, 1)


def _plain(value: Any) -> Any:
    """A plain Python value; None for what is missing."""
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _identify(rows: Sequence[_Row]) -> None:
    """Give each row its configuration and its identities."""
    for row in rows:
        names = [name for name in row.values if name.startswith(HYPERPARAMETER)]
        row.config = {name.removeprefix(HYPERPARAMETER): row.values.pop(name) for name in names}
    _unify_types([row.config for row in rows])
    for row in rows:
        values = row.values
        # A label alone, such as a method's name in a paper's table, may recur on every task.
        labelled = {**row.config, "config_id": values.get("config_id", "")}
        unique = identity.config_id(values["algorithm"], labelled, values["task"], IMPORTED, 0)
        values.setdefault("config_id", unique)
        row.run_id = identity.run_id(unique, values["seed"])


def _unify_types(configs: Sequence[dict[str, Any]]) -> None:
    """Give a hyperparameter one type in all tables: 1 and 1.0 are one value."""
    kinds: dict[str, set[type]] = {}
    for config in configs:
        for name, value in config.items():
            kinds.setdefault(name, set()).add(type(value))
    types: dict[str, type] = {}
    for name, found in kinds.items():
        if found == {int, float}:
            types[name] = float
        elif len(found) > 1 or not found <= {bool, int, float, str}:
            types[name] = str
    for config in configs:
        for name in config.keys() & types.keys():
            config[name] = types[name](config[name])


def _without_failed_attempts(rows: Sequence[_Row]) -> list[_Row]:
    """The rows less those of attempts that failed where another one got through."""
    through = {
        (row.run_id, row.values["policy"], row.step) for row in rows if row.status == "completed"
    }
    return [
        row
        for row in rows
        if row.status != "failed" or (row.run_id, row.values["policy"], row.step) not in through
    ]


def _without_abandoned(rows: Sequence[_Row], resumed: bool) -> tuple[list[_Row], int]:
    """The rows less repeated ones and what a resumed log abandoned; and how many of the latter.

    Raises:
        InvalidInput: rows contradict each other.
    """
    histories: dict[tuple[str, str], list[_Row]] = {}
    at_step: dict[tuple[str, str, int], list[_Row]] = {}
    for row in rows:
        key = (row.run_id, str(row.values["policy"]))
        known = at_step.setdefault((*key, row.step), [])
        if any((row.values, row.status) == (other.values, other.status) for other in known):
            continue
        known.append(row)
        histories.setdefault(key, []).append(row)
    clashes: dict[tuple[str, str], list[_Row]] = {}
    for (run, policy, _), known in at_step.items():
        if len(known) > 1:
            clashes.setdefault((run, policy), known)
    abandoned: set[int] = set()
    for key, (one, other, *_) in clashes.items():
        history = histories[key]
        segments = _segments(history)
        if not resumed and not _evidently_resumed(segments):
            raise InvalidInput(
                f"import: {other.place} contradicts {one.place} ({one.values['algorithm']}, "
                f"{one.values['task']}, seed {one.values['seed']}, step {one.step}); what tells "
                "them apart must be in config_id, hp_<name>, step or policy (a log that starts "
                "over: --resumed)"
            )
        for place, segment in enumerate(segments):
            before = [row for earlier in segments[:place] for row in earlier]
            abandoned |= {id(row) for row in before if row.step >= segment[0].step}
    unique = {id(row) for history in histories.values() for row in history}
    kept = [row for row in rows if id(row) in unique - abandoned]
    return kept, len(abandoned)


def _segments(history: Sequence[_Row]) -> list[list[_Row]]:
    """The rows of a run between the places where its steps do not rise, or another file begins."""
    segments: list[list[_Row]] = []
    for row in history:
        last = segments[-1][-1] if segments else None
        if last is not None and row.step > last.step and row.table == last.table:
            segments[-1].append(row)
        else:
            segments.append([row])
    return segments


def _evidently_resumed(segments: Sequence[Sequence[_Row]]) -> bool:
    """Whether one file was written by a program that was resumed from checkpoints.

    Each part goes back to a step after the first one; and it begins with a header, or gets further
    than what was there. Another run would begin at the first step.
    """
    reached = segments[0][-1]
    for segment in segments[1:]:
        begun = segment[0]
        if begun.table != segments[0][0].table or begun.step <= segments[0][0].step:
            return False
        if begun.header == reached.header and segment[-1].step <= reached.step:
            return False
        reached = max(segment[-1], reached, key=lambda row: row.step)
    return True


def _runs(rows: Sequence[_Row]) -> list[dict[str, Any]]:
    """One row a run: how it ended, by the worst that its rows say."""
    of_run: dict[str, list[_Row]] = {}
    for row in rows:
        of_run.setdefault(row.run_id, []).append(row)
    now = datetime.now(UTC)
    runs = []
    for run, found in of_run.items():
        steps = max(row.step for row in found)
        worst = min(found, key=lambda row: _WORST.index(row.status))
        status, reason = worst.status, worst.reason
        if status == "completed":
            lacking = [
                f"{row.place} has no {' or '.join(names)}"
                for row in found
                for names in SCORES
                if row.step == steps and not any(name in row.values for name in names)
            ]
            if lacking:
                status, reason = "failed", lacking[0]
        runs.append(
            {
                **{name: found[0].values[name] for name in ("config_id", *REQUIRED)},
                "run_id": run,
                "status": status,
                "steps": steps,
                "dataset_id": IMPORTED,
                "code_version": identity.code_version(),
                "finished_at": now,
                "error": reason,
                "config": found[0].config,
            }
        )
    return runs
