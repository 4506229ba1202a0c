"""Results from elsewhere (logs of other code, tables of papers) as rows of a store."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from search_spaces.validation import InvalidInput, is_missing, nearest, require_number
from trainables import identity
from trainables.results import ResultWriter
from trainables.tables import TABLES
from trainables.tasks import Task, get_task

if TYPE_CHECKING:
    import pandas

REQUIRED = ("algorithm", "task", "seed")
_GIVEN = tuple(name for name in TABLES["evaluations"] if name != "run_id")
_HYPERPARAMETER = "hp_"
_DATASET = "imported"


@dataclass(frozen=True)
class ImportSummary:
    """What an import wrote: how many runs and evaluations, and which columns it did not take."""

    sweep: str
    runs: int
    evaluations: int
    ignored: tuple[str, ...]


def import_evaluations(
    frame: "pandas.DataFrame",
    storage: str,
    sweep: str,
    columns: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    cost_limit: float | None = None,
    source: str = "a DataFrame",
) -> ImportSummary:
    """Write a table of evaluations from elsewhere as a sweep of a store.

    A row is one evaluation: `algorithm, task, seed`; `normalized_reward` or, for a task that we
    know, `reward_return_mean`; `normalized_cost` or `cost_return_mean`. Optional: `config_id` (any
    text that tells configurations apart), `hp_<name>` for each hyperparameter, `step` (0 where
    there is none), `policy` (the algorithm), and any other column of `evaluations`. Without
    `config_id` the hyperparameters tell configurations apart.

    Args:
        frame: the table; it is not changed.
        storage: folder or URI of the store, which need not exist.
        sweep: the sweep that the rows become; it must be new.
        columns: our name -> its name in the table.
        constants: columns that the table lacks, with one value for all rows.
        cost_limit: of an episode; where neither it nor a column `cost_limit` is given, the task's.
        source: what to record as the origin.

    Raises:
        InvalidInput: a missing or clashing column, a value of the wrong kind, rows that
            contradict each other, or a sweep that is in the store.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", sweep):
        raise InvalidInput(
            f"sweep: {sweep!r} is not allowed; it must be letters, digits, dots, dashes and "
            "underscores"
        )
    if cost_limit is not None:
        require_number("cost_limit", cost_limit, 0)
    table, ignored = _renamed(frame, columns or {}, constants or {})
    records = [
        _evaluation(row, number, cost_limit)
        for number, row in enumerate(table.to_dict("records"), start=1)
    ]
    evaluations, configs = _identified(records)
    writer = ResultWriter(storage, sweep)
    if writer.read_bytes(f"sweeps/sweep={sweep}/plan.parquet") is not None:
        raise InvalidInput(f"sweep: {sweep!r} is in the store already; give the import a new name")
    runs = _runs(evaluations, configs)
    run_ids = [run["run_id"] for run in runs]
    trial = identity.trial_id([sweep, *run_ids])
    for run in runs:
        run["trial_id"] = trial
    writer.write_trial(trial, runs, evaluations)
    writer.write_sweep(f"# imported from {source}\nname: {sweep}\n", run_ids, "completed")
    return ImportSummary(sweep, len(runs), len(evaluations), ignored)


def _renamed(
    frame: "pandas.DataFrame", columns: Mapping[str, str], constants: Mapping[str, Any]
) -> "tuple[pandas.DataFrame, tuple[str, ...]]":
    """The columns that are ours under our names, and the names of the others."""
    names = [str(name) for name in frame.columns]
    for ours, theirs in columns.items():
        _require_ours(ours)
        if theirs not in names:
            close = nearest(theirs, names)
            hint = f"; did you mean {close!r}?" if close else ""
            raise InvalidInput(f"{ours}: the table has no column {theirs!r}{hint}")
    taken = {theirs: ours for ours, theirs in columns.items()}
    table = frame.set_axis(names, axis="columns")
    # A column that another one is renamed to gives way.
    table = table.drop(columns=[name for name in columns if name in names and name not in taken])
    table = table.rename(columns=taken)
    for name, value in constants.items():
        _require_ours(name)
        if name in table:
            raise InvalidInput(f"{name}: the table has this column; it cannot be set to {value!r}")
        table = table.assign(**{name: value})
    missing = [name for name in REQUIRED if name not in table]
    for scores in (
        ("normalized_reward", "reward_return_mean"),
        ("normalized_cost", "cost_return_mean"),
    ):
        if not any(name in table for name in scores):
            missing.append(" or ".join(scores))
    if missing:
        raise InvalidInput(
            f"import: missing column {', '.join(missing)}; the table has {', '.join(names)}"
        )
    kept = [name for name in table if name in _GIVEN or str(name).startswith(_HYPERPARAMETER)]
    ignored = tuple(str(name) for name in table if name not in kept)
    return table[kept].convert_dtypes(), ignored


def _require_ours(name: str) -> None:
    if name not in _GIVEN and not re.fullmatch(r"hp_\w+", name):
        close = nearest(name, _GIVEN)
        hint = f"; did you mean {close!r}?" if close else ""
        raise InvalidInput(
            f"import: {name!r} is not a column of evaluations ({', '.join(_GIVEN)}) or "
            f"hp_<name>{hint}"
        )


def _evaluation(row: Mapping[Any, Any], number: int, cost_limit: float | None) -> dict[str, Any]:
    """One row, checked, with what follows from the task."""
    values = {str(name): _plain(value) for name, value in row.items()}
    values = {name: value for name, value in values.items() if value is not None}
    for name in REQUIRED:
        if name not in values:
            raise InvalidInput(f"{name}: row {number} has none; every row must say its {name}")
    for name, kind in TABLES["evaluations"].items():
        if name in values and kind == "string":
            values[name] = str(values[name])
        elif name in values:
            low = None if kind == "float64" else 0
            require_number(f"{name} in row {number}", values[name], low, integer=kind == "int64")
            values[name] = float(values[name]) if kind == "float64" else int(values[name])
    task = _known_task(values["task"])
    if task is not None:
        values["task"] = task.name
    default = cost_limit if task is None else task.limit_or_own(cost_limit)
    limit = values.get("cost_limit", default)
    if "normalized_reward" not in values:
        if task is None and "reward_return_mean" in values:
            raise InvalidInput(
                f"normalized_reward: row {number} has none, and the returns of the unknown task "
                f"{values['task']!r} cannot be normalised"
            )
        if task is not None and "reward_return_mean" in values:
            values["normalized_reward"] = float(task.normalize_reward(values["reward_return_mean"]))
    if "normalized_cost" not in values and "cost_return_mean" in values:
        if limit is None:
            raise InvalidInput(
                f"cost_limit: row {number} has none; it must be given for the unknown task "
                f"{values['task']!r}"
            )
        values["normalized_cost"] = float(Task.normalize_cost(values["cost_return_mean"], limit))
        values["cost_limit"] = float(limit)
    return {"step": 0, "policy": values["algorithm"], **values}


def _plain(value: Any) -> Any:
    """A plain Python value; None for what is missing."""
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _known_task(name: str) -> Task | None:
    try:
        return get_task(name)
    except InvalidInput:
        return None


def _identified(
    records: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Evaluation rows with their identities, and the configuration of each run."""
    evaluations: dict[tuple[Any, ...], dict[str, Any]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records, start=1):
        config = {
            name.removeprefix(_HYPERPARAMETER): value
            for name, value in record.items()
            if name.startswith(_HYPERPARAMETER)
        }
        row = {name: value for name, value in record.items() if not name.startswith("hp_")}
        # A label alone, such as a method's name in a paper's table, may recur on every task.
        labelled = {**config, "config_id": row.get("config_id", "")}
        unique = identity.config_id(row["algorithm"], labelled, row["task"], _DATASET, 0)
        row.setdefault("config_id", unique)
        row["run_id"] = identity.run_id(unique, row["seed"])
        key = (row["run_id"], row["step"], row["policy"])
        if evaluations.setdefault(key, row) != row:
            raise InvalidInput(
                f"import: row {number} contradicts another one of {row['algorithm']}, "
                f"{row['task']}, seed {row['seed']}, step {row['step']}; what tells them apart "
                "must be in config_id, hp_<name>, step or policy"
            )
        configs[row["run_id"]] = config
    return list(evaluations.values()), configs


def _runs(
    evaluations: Sequence[Mapping[str, Any]], configs: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    steps: dict[str, int] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for row in evaluations:
        first.setdefault(row["run_id"], row)
        steps[row["run_id"]] = max(steps.get(row["run_id"], 0), row["step"])
    now = datetime.now(UTC)
    return [
        {
            **{name: row[name] for name in ("run_id", "config_id", *REQUIRED)},
            "status": "completed",
            "steps": steps[run],
            "dataset_id": _DATASET,
            "code_version": identity.code_version(),
            "finished_at": now,
            "config": configs[run],
        }
        for run, row in first.items()
    ]
