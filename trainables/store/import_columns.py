"""Which columns of a table from elsewhere are which of ours: named by the user, by the names of
files, or known by a preset."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safesweep.search_spaces.validation import (
    InvalidInput,
    did_you_mean,
    listed,
    nearest,
    require_number,
    shown,
)
from safesweep.trainables.store.import_presets import HYPERPARAMETER, Preset
from safesweep.trainables.store.schema import TABLES
from safesweep.trainables.store.table_files import Kind, TableFile

REQUIRED = ("algorithm", "task", "seed")
SCORES = (("normalized_reward", "reward_return_mean"), ("normalized_cost", "cost_return_mean"))

STATUS = "status"
_STATUS_COLUMNS = ("status", "run_status", "state")
EVALUATION_COLUMNS = {
    name: kind
    for name, kind in TABLES["evaluations"].items()
    if name not in ("run_id", "run_status")
}
OURS = (*EVALUATION_COLUMNS, STATUS)


_GENERALITY: tuple[Kind, ...] = ("text", "any", "number")


@dataclass(frozen=True)
class Column:
    """One of our columns in a table: a column of theirs, or a value for every row."""

    theirs: str | None = None
    value: Any = None


@dataclass(frozen=True)
class Given:
    """What the user says of a table: our columns by their names there, those that are the same in
    every row, the limit on an episode's cost, and columns of theirs to leave out."""

    columns: Mapping[str, str]
    constants: Mapping[str, Any]
    cost_limit: float | None = None
    leave_out: Sequence[str] = ()

    def check(self, table: TableFile) -> None:
        """Whether it can be said of a table, and does not contradict itself.

        Raises:
            InvalidInput: it cannot, or does.
        """
        if self.cost_limit is not None:
            require_number("cost_limit", self.cost_limit, 0)
            if "cost_limit" in {*self.columns, *self.constants}:
                raise InvalidInput("cost_limit: is given twice, as an option and as a column")
        for theirs in self.leave_out:
            _require_theirs("leave out", theirs, table)
        for ours, theirs in self.columns.items():
            require_ours(ours)
            _require_theirs(ours, theirs, table)
            if ours in self.constants:
                raise InvalidInput(
                    f"{ours}: cannot be both the column {shown(theirs)} and "
                    f"{shown(self.constants[ours])}"
                )
            if theirs in self.leave_out:
                raise InvalidInput(f"{ours}: the column {shown(theirs)} is to be left out")
        for ours in self.constants:
            require_ours(ours)


def columns_of(
    table: TableFile, given: Given, preset: Mapping[str, Column] | None
) -> tuple[dict[str, Column], tuple[str, ...]]:
    """Where each of our columns comes from, and the columns of theirs that are none of ours.

    What the user says comes first, then what a preset knows, then the table's own names.

    Raises:
        InvalidInput: a column that is not there, or is needed and missing, or two for one.
    """
    given.check(table)
    plan = dict(preset or {})
    for name in _named_as_ours(table, given):
        require_ours(name)
        if preset is None and name in given.constants:
            raise InvalidInput(
                f"{name}: {table.title} has this column; it cannot be set to "
                f"{shown(given.constants[name])}"
            )
        if preset is None and name == "cost_limit" and given.cost_limit is not None:
            raise InvalidInput(
                f"cost_limit: {table.title} has this column; it cannot be {given.cost_limit:g}"
            )
        plan.setdefault(name, Column(name))
    if STATUS not in {*plan, *given.columns, *given.constants}:
        found = _status_column(table, given)
        if found is not None:
            plan[STATUS] = Column(found)
    plan |= {ours: Column(theirs) for ours, theirs in given.columns.items()}
    plan |= {ours: Column(value=value) for ours, value in given.constants.items()}
    if given.cost_limit is not None:
        plan.pop("cost_limit", None)
    missing = [name for name in REQUIRED if name not in plan]
    missing += [" or ".join(scores) for scores in SCORES if not any(n in plan for n in scores)]
    if missing:
        raise InvalidInput(
            f"import: missing column {', '.join(missing)}; {table.title} has {listed(table.header)}"
        )
    used = {column.theirs for column in plan.values()}
    return plan, tuple(name for name in table.header if name not in used)


def preset_columns(
    preset: Preset, path: Path, table: TableFile, leave_out: Sequence[str]
) -> dict[str, Column]:
    """What a preset knows of the table in a file."""
    beside = preset.beside(path) if preset.beside else {}
    mapping = preset.mapping(tuple(name for name in table.header if name not in leave_out))
    return {
        **{ours: Column(value=value) for ours, value in beside.items()},
        **{ours: Column(theirs) for ours, theirs in mapping.items()},
    }


def _require_theirs(what: str, theirs: str, table: TableFile) -> None:
    if theirs not in table.header:
        close = nearest(theirs, table.header)
        hint = f"; did you mean {close!r}?" if close else f"; it has {listed(table.header)}"
        raise InvalidInput(f"{what}: {table.title} has no column {shown(theirs)}{hint}")


def _named_as_ours(table: TableFile, given: Given) -> list[str]:
    """The columns that have names of ours and mean them.

    One that is given to another measurement of ours does not: the same numbers are not two.
    """
    elsewhere = {theirs for ours, theirs in given.columns.items() if _is_measurement(ours)}
    return [
        name
        for name in table.header
        if (name in OURS or name.startswith(HYPERPARAMETER))
        and name not in given.columns
        and name not in given.leave_out
        and not (_is_measurement(name) and name in elsewhere)
    ]


def _status_column(table: TableFile, given: Given) -> str | None:
    """The column that may say how runs ended, if none is named."""
    known = {
        name.casefold(): name
        for name in reversed(table.header)
        if name not in given.columns.values() and name not in given.leave_out
    }
    return next((known[name] for name in _STATUS_COLUMNS if name in known), None)


def _is_measurement(ours: str) -> bool:
    return EVALUATION_COLUMNS.get(ours) == "float64" and ours != "cost_limit"


def kinds_wanted(plan: Mapping[str, Column]) -> dict[str, Kind]:
    """Columns of theirs, and what each holds."""
    wanted: dict[str, Kind] = {}
    for ours, column in plan.items():
        if column.theirs is not None:
            kind = "string" if ours == STATUS else EVALUATION_COLUMNS.get(ours)
            holds: Kind = "any" if kind is None else "text" if kind == "string" else "number"
            known = wanted.get(column.theirs, "text")
            # What is text and something else is read as that, and made text of afterwards.
            wanted[column.theirs] = max(known, holds, key=_GENERALITY.index)
    return wanted


def require_ours(name: str) -> None:
    if name not in OURS and not re.fullmatch(r"hp_\w+", name):
        hint = did_you_mean(name, OURS)
        raise InvalidInput(
            f"import: {shown(name)} is not a column of evaluations ({', '.join(OURS)}) or "
            f"hp_<name>{hint}"
        )


class NamePattern:
    """Columns that stand in the names of files: `bcql-{task}-seed{seed}.txt`."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.depth = pattern.count("/") + 1
        pieces = re.split(r"\{([^{}]*)\}", pattern)
        self.names = [name for name in pieces[1::2] if name]
        for name in self.names:
            require_ours(name)
            if self.names.count(name) > 1:
                raise InvalidInput(f"file name pattern: {name} stands in {shown(pattern)} twice")
        if not self.names:
            raise InvalidInput(
                f"file name pattern: {shown(pattern)} names no column; write it as {{seed}}"
            )
        if any(not text for text in pieces[2:-1:2]):
            raise InvalidInput(
                f"file name pattern: nothing stands between two columns in {shown(pattern)}"
            )
        self._shortest, self._longest = (
            re.compile("".join(_piece(place, text, lazy) for place, text in enumerate(pieces)))
            for lazy in (True, False)
        )

    def values(self, path: Path) -> dict[str, Any]:
        """What the name of a file says.

        Raises:
            InvalidInput: the pattern does not fit it, or fits it in two ways.
        """
        name = "/".join(path.absolute().parts[-self.depth :])
        shortest, longest = self._shortest.fullmatch(name), self._longest.fullmatch(name)
        if shortest is None or longest is None:
            raise InvalidInput(
                f"file name pattern: {shown(self.pattern)} does not fit {shown(name)}"
            )
        if shortest.groupdict() != longest.groupdict():
            raise InvalidInput(
                f"file name pattern: {shown(self.pattern)} fits {shown(name)} in two ways"
            )
        return {field: as_value(text) for field, text in shortest.groupdict().items()}


def _piece(place: int, text: str, lazy: bool) -> str:
    """The regular expression of a piece of a pattern: text, or (odd places) a column."""
    if place % 2 == 0:
        return re.escape(text)
    if not text:
        return "[^/]*" + "?" * lazy
    kind = EVALUATION_COLUMNS.get(text)
    numbers = {"int64": r"\d+", "float64": r"[-+]?[\d.]+(?:e[-+]?\d+)?"}
    return f"(?P<{text}>{numbers.get(str(kind), '[^/]+' + '?' * lazy)})"


def as_value(text: str) -> Any:
    """A number where a text is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
