"""Whether a store holds all that its runs have written.

A row of `runs` says how many rows of every other table belong to it. A part that was cut, deleted
or lost in a copy is found by that, whichever table it is of.

Counting rows would mean to open every part. A trial's part of `runs` has recorded how long its
other parts are (`trainables.store.schema.SEALS_KEY`), so that a look at the folders is enough as
long as nothing is amiss; only parts that differ are counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas

from safesweep.trainables.store.schema import COUNT_COLUMNS, IMPORTED
from safesweep.trainables.store.writer import COMPACTED_PREFIX

KEYS = ("run_id", "config_id", "algorithm", "task", "seed", "sweep", "trial_id")
COLUMNS = (*KEYS, "status", "dataset_id", *COUNT_COLUMNS.values())
"""What has to be known of the runs."""

_TRAINED = ("completed", "stopped")


class Part(NamedTuple):
    """A file of a table as it was listed; a part that replaces it is another."""

    path: str
    size: int
    modified: int

    @property
    def sweep(self) -> str:
        """The partition in which it lies."""
        # Asked for every part, of which there may be a million.
        _, folder, rest = self.path.rpartition("/sweep=")
        return rest.partition("/")[0] if folder else ""

    @property
    def name(self) -> str:
        """Its trial, or what a compaction called it."""
        return self.path.rsplit("/", 1)[-1].removesuffix(".parquet")

    @property
    def compacted(self) -> bool:
        """Whether it may hold several trials."""
        return self.name.startswith(COMPACTED_PREFIX)


@dataclass(frozen=True)
class PartReader:
    """How parts are looked into.

    Attributes:
        seals: bytes and CRC-32 of the other parts of a part of `runs`, by table.
        rows: how many rows a part says that it has; None where it is no whole part.
        owners: the values of a column of a part; None where it cannot be read. Looks at all of the
            part, not at that column alone, if the second argument is true.
        checksum: CRC-32 of its bytes; None where they are not to be looked at.
    """

    seals: Callable[[Part], Mapping[str, tuple[int, int]]]
    rows: Callable[[Part], int | None]
    owners: Callable[[Part, str, bool], pandas.Series | None]
    checksum: Callable[[Part], int | None]


def find_incomplete(
    runs: pandas.DataFrame,
    parts: Mapping[str, Sequence[Part]],
    reader: PartReader,
    thorough: bool,
) -> pandas.DataFrame:
    """The runs that lack rows of some table.

    Args:
        runs: `COLUMNS` of every run, and `part`, the part of `runs` that holds it.
        parts: by table, the parts that there are; listed after the runs were read, because a
            trial's row of `runs` is written last.
        thorough: also compare what the parts hold with what was written, byte for byte.

    Returns:
        `KEYS`, `compacted` (whether their row is in a part of several trials) and `lacks`, the
        tables in words. Failed runs are not among them: they are trained again anyway.
    """
    runs = runs[runs["status"] != "failed"]
    runs = runs.assign(path=runs["part"].map(lambda part: part.path))
    lacking: dict[int, list[str]] = {}
    compacted = runs["part"].map(lambda part: part.compacted).astype(bool)
    # Of tens of thousands of trials nearly all are as they were written: nothing is grouped or
    # parsed for each table anew.
    own_runs = runs[~compacted]
    places = own_runs.groupby("path", sort=False).indices if len(own_runs) else {}
    seals = {part.path: reader.seals(part) for part in own_runs["part"].drop_duplicates()}
    for table, column in COUNT_COLUMNS.items():
        owner = "config_id" if table == "hyperparameters" else "run_id"
        own = {(part.sweep, part.name): part for part in parts[table] if not part.compacted}
        merged: dict[str, list[Part]] = {}
        for part in parts[table]:
            if part.compacted:
                merged.setdefault(part.sweep, []).append(part)
        expected = _expected(runs, table, column)
        check = _Check(table, owner, reader, thorough)
        wanting = expected[own_runs.index] > 0
        for part in own_runs.loc[wanting, "part"].drop_duplicates():
            found = own.get((part.sweep, part.name))
            if not check.sealed(found, seals[part.path]):
                rows = own_runs.iloc[places[part.path]]
                _add(lacking, check.lacking(rows, expected, [found] if found else []), table)
        for sweep, rows in _groups(runs[compacted], "sweep"):
            trials = rows["trial_id"].unique()
            # A compaction that was cut short has left the other tables' parts as they were.
            found_here = [*merged.get(sweep, ())]
            found_here += [own[sweep, trial] for trial in trials if (sweep, trial) in own]
            _add(lacking, check.lacking(rows, expected, found_here), table)
    chosen = runs.loc[sorted(lacking), list(KEYS)]
    words = [f"rows of {' and '.join(lacking[number])} are missing" for number in chosen.index]
    return chosen.assign(compacted=compacted.loc[chosen.index], lacks=words).reset_index(drop=True)


def _groups(runs: pandas.DataFrame, column: str) -> Iterator[tuple[str, pandas.DataFrame]]:
    if len(runs):
        yield from ((str(key), rows) for key, rows in runs.groupby(column, sort=False))


def _add(lacking: dict[int, list[str]], numbers: Sequence[int], table: str) -> None:
    for number in numbers:
        lacking.setdefault(number, []).append(table)


def _expected(runs: pandas.DataFrame, table: str, column: str) -> pandas.Series:
    """How many rows each run should have at least.

    Parts of older versions do not say; a run that was trained has some of every table then.
    """
    imported = runs["dataset_id"].isna() | (runs["dataset_id"] == IMPORTED)
    some = runs["status"].isin(_TRAINED) & (~imported | (table == "evaluations"))
    if table == "hyperparameters":
        some &= False
    return runs[column].astype("Int64").fillna(some.astype("Int64"))


@dataclass(frozen=True)
class _Check:
    """What is looked for in one table."""

    table: str
    owner: str
    reader: PartReader
    thorough: bool

    def sealed(self, found: Part | None, seals: Mapping[str, tuple[int, int]]) -> bool:
        """Whether a trial's part is the one that was written, so that nothing need be counted."""
        seal = seals.get(self.table)
        if found is None or seal is None or seal[0] != found.size:
            return False
        checksum = self.reader.checksum(found) if self.thorough else None
        return checksum is None or checksum == seal[1]

    def lacking(
        self, rows: pandas.DataFrame, expected: pandas.Series, found: Sequence[Part]
    ) -> list[int]:
        """The index of those of the runs that lack rows, which must be in the parts `found`."""
        wanted = pandas.DataFrame(
            {"owner": rows[self.owner], "trial": rows["trial_id"], "count": expected[rows.index]}
        )
        once = wanted
        if self.table == "hyperparameters":
            # The runs of a configuration share its rows.
            once = wanted.drop_duplicates(["owner", "trial"])
        stated = rows[COUNT_COLUMNS[self.table]].notna().all()
        counts = [self.reader.rows(part) for part in found]
        total = sum(count or 0 for count in counts)
        trusted = stated and None not in counts and not self.thorough
        if trusted and total == once["count"].sum():
            return []
        owners = [self.reader.owners(part, self.owner, self.thorough) for part in found]
        there = [values for values in owners if values is not None]
        tally = (
            pandas.concat(there, ignore_index=True).value_counts()
            if there
            else pandas.Series(dtype="int64")
        )
        needed = once.groupby("owner")["count"].sum()
        short = tally.reindex(needed.index).fillna(0) < needed
        return list(wanted.index[wanted["owner"].isin(short.index[short])])
