"""Reading the tables of a result store: Arrow and pandas, from whole parts only."""

import contextlib
import gc
import hashlib
import io
import json
import logging
import os
import re
import stat
import time
import uuid
import zlib
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import pandas
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from safesweep.search_spaces.validation import (
    InvalidInput,
    did_you_mean,
    listed,
    one_line,
    require_choice,
    shown,
    without_secrets,
)
from safesweep.trainables.store import run_index
from safesweep.trainables.store.codes import codes_of
from safesweep.trainables.store.completeness import COLUMNS as COMPLETENESS_COLUMNS
from safesweep.trainables.store.completeness import KEYS as COMPLETENESS_KEYS
from safesweep.trainables.store.completeness import Part, PartReader, find_incomplete
from safesweep.trainables.store.heartbeats import LONGEST_BYTES, parse_heartbeat
from safesweep.trainables.store.leases import FOLDER as LEASE_FOLDER
from safesweep.trainables.store.leases import Holder, parse_lease
from safesweep.trainables.store.older_names import (
    RENAMED_COLUMNS,
    TABLES_WITH_OLDER_NAMES,
    may_have_older_names,
    with_current_names,
    with_older_metrics,
)
from safesweep.trainables.store.ownership import OWNER_COLUMNS, PLACE, ROW_KEYS, RunOwners
from safesweep.trainables.store.part_checksums import (
    TRAILER_BYTES,
    footer_bytes,
    gather,
    require_sound_data,
    require_sound_footer,
    sound_file,
)
from safesweep.trainables.store.schema import (
    COUNT_COLUMNS,
    SCHEMA_VERSION,
    TABLES,
    TRIAL_TABLES,
    VERSION_KEY,
)
from safesweep.trainables.store.writer import (
    ARROW_TYPES,
    ResultWriter,
    StoreProblem,
    common_type,
    compacted_trials,
    hyperparameter_types,
    open_file_system,
    seals_of,
    storage_location,
    store_problems,
)

_PARTITIONING = ds.partitioning(pa.schema([("sweep", pa.string())]), flavor="hive")


HYPERPARAMETER_PREFIX = "hp_"

_HYPERPARAMETER_COLUMN = re.compile(r"hp_\w+")


_FORMAT = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError)
"""What reading a damaged part raises: its sizes, types and names may be anything."""


_ATTEMPTS = 20


_PAUSE_SECONDS = 0.02


_CHUNK_BYTES = 2**20


_TAIL_BYTES = 2**16
"""Read at once from the end of a part, where its footer is."""


_INDEXED_COLUMNS = (*run_index.COLUMNS, "sweep", PLACE)


_WORTH_LOOKING_UP = 100
"""So many new parts are looked up in the index; fewer are opened."""


_PARTS_AT_ONCE = 2000
"""Of a table, in one reading by Arrow."""


_SCHEMA_KEY = b"ARROW:schema"


CODE_COLUMNS = ("code_version", "code_digest")
"""Which code trained a run."""


Result = TypeVar("Result")


_log = logging.getLogger("safesweep")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python look for no cycles: with hundreds of thousands of parts that takes a quarter of
    the time, and there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class UnreadablePart(Exception):
    """A part could not be read; perhaps it is not whole."""


@dataclass(frozen=True)
class _KeptTable:
    """What was read of a table, and the parts that it was read from."""

    parts: frozenset[Part]
    rows: pandas.DataFrame


@dataclass(frozen=True)
class _SmallParts:
    """What was read of many small parts of a table, a table for each layout and sweep."""

    parts: frozenset[Part]
    tables: tuple[pa.Table, ...]


class StoreReader:
    """The tables under one store URI: a local folder, or a location that pyarrow can open.

    Nothing is read before it is asked for, and nothing is kept: every call sees the parts that
    are complete at that moment. Columns that only some parts have (a hyperparameter of another
    method, a column of a newer version) are null elsewhere. A missing table is an empty one.
    A file that is not a whole part (cut off by a copy that broke, say) is left out, with a
    warning that names it.

    Attributes:
        location: where the store is, as it was given: with its keys, and never shown.
        uri: the store's location as it is shown: without keys.

    Raises:
        InvalidInput: there is no folder at `uri`, or its file system is unknown.
        StoreProblem: the location cannot be read now; from every method.
    """

    def __init__(self, uri: str | Path) -> None:
        self.location = str(uri)
        self.uri = without_secrets(self.location)
        location = storage_location(self.location)
        with store_problems(self.location, "read"):
            self._filesystem, self._root = open_file_system(location)
            info = self._filesystem.get_file_info(self._root)
        if info.type == fs.FileType.File:
            raise InvalidInput(f"storage: {self.uri!r} is a file, not the folder of a store")
        # An object store has no empty folders: there, no object under a name means no results.
        if info.type != fs.FileType.Directory:
            raise InvalidInput(f"storage: there is no result store at {self.uri!r}")
        self._local = isinstance(self._filesystem, fs.LocalFileSystem)
        self._footers: dict[Part, pa.Schema] = {}
        self._broken: set[Part] = set()
        self._sound: set[Part] = set()
        self._seals: dict[Part, Mapping[str, tuple[int, int]]] = {}
        self._owners_kept: RunOwners | None = None
        self._odd_columns: set[tuple[str, str]] = set()
        self._checksums: dict[Part, int] = {}
        self._kept: dict[tuple[str, tuple[str, ...]], _KeptTable] = {}
        self._small: dict[str, _SmallParts] = {}

    def runs(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per ended run, with a column `hp_<name>` for each hyperparameter.

        Args:
            columns: read only these; names may be patterns, such as `hp_*`.
            filters: column=value, or column=[values]; `sweep=` selects the runs that the sweep
                comprises, wherever they were trained.

        Raises:
            InvalidInput: no such column, or no such sweep.
        """
        return self._frame("runs", filters, columns)

    def evaluations(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per (run, step, policy): means over episodes. Arguments as in `runs`."""
        return self._frame("evaluations", filters, columns)

    def episodes(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per evaluated episode: returns and length. Arguments as in `runs`."""
        return self._frame("episodes", filters, columns)

    def metrics(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """Losses and diagnostics in long form: run, step, name, value. Arguments as in `runs`."""
        return self._frame("metrics", filters, columns)

    def sweeps(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per sweep: its YAML text and the `run_ids` that it comprises."""
        return self._frame("sweeps", filters, columns)

    def labels(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per sweep of which something was noted down: tags, note, whether it is archived.

        `deleted`: the sweep is no more, and what is left in its folder other sweeps ask for.
        """
        return self._frame("labels", filters, columns)

    def confirmations(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per run and policy that was evaluated again after it had been chosen."""
        return self._frame("confirmations", filters, columns)

    def measurements(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per number that an ablation measured on a trained run. Arguments as in `runs`.

        `name` says for which ablation and scale, `view` of which set of points; `run_id` is empty
        where it was measured on no run of a sweep.
        """
        return self._frame("measurements", filters, columns)

    def hyperparameters(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per configuration and hyperparameter, in long form; what `runs` has as columns.

        A configuration that was trained in several trials stands there as often.
        """
        return self._frame("hyperparameters", filters, columns)

    def places_of_runs(self) -> pandas.DataFrame:
        """`run_id, trial_id, sweep` of every run, and `compacted`: whether the part that holds it
        may hold several trials."""
        return self._while_parts_move(self._places)

    def _places(self) -> pandas.DataFrame:
        parts = self._parts("runs")
        columns = ["run_id", "trial_id", "sweep", *(["__filename"] if parts else [])]
        places = self._dataset("runs", parts).to_table(columns=columns).to_pandas()
        paths = places.pop("__filename") if parts else pandas.Series(dtype=object)
        merged = {part.path: part.compacted for part in parts}
        found: pandas.DataFrame = places.assign(compacted=paths.map(merged).astype(bool))
        return found

    def table_so_far(self, table: str, columns: Sequence[str]) -> pandas.DataFrame:
        """These columns of all rows of a table, as now; parts that this reader has answered with
        before are not read again.

        For whoever looks at a growing store again and again, as a session of many sweeps does. The
        rows must not be changed.
        """
        return self._while_parts_move(lambda: self._so_far(table, tuple(columns)))

    def _so_far(self, table: str, columns: tuple[str, ...]) -> pandas.DataFrame:
        if table == "runs" and set(_INDEXED_COLUMNS).issuperset(columns):
            return self._owners(everything=True).counted_runs[list(columns)]
        if table in TRIAL_TABLES:
            # Whoever looks again and again asks for runs, too; they are read once for both.
            self._owners(everything=True)
        whole, others = self._divided(table)
        rows = self._kept_rows(table, columns, whole)
        if not others:
            return rows
        more = self._counted_rows(table, others).select(list(columns)).to_pandas()
        return pandas.concat([rows, more], ignore_index=True) if len(rows) else more

    def _kept_rows(
        self, table: str, columns: tuple[str, ...], listed: Sequence[Part]
    ) -> pandas.DataFrame:
        """These columns of all rows of some parts, of which those that were read are kept."""
        parts = frozenset(listed)
        kept = self._kept.get((table, columns))
        if kept is None or not kept.parts <= parts:
            kept = _KeptTable(frozenset(), pandas.DataFrame())
        new = sorted(parts - kept.parts)
        if new or not kept.parts:
            rows = self._rows_of_parts(table, columns, new)
            if len(kept.rows):
                rows = pandas.concat([kept.rows, rows], ignore_index=True)
            kept = self._kept[table, columns] = _KeptTable(parts, rows)
        return kept.rows

    def _rows_of_parts(
        self, table: str, columns: Sequence[str], parts: Sequence[Part]
    ) -> pandas.DataFrame:
        if table != "runs" or not set(_INDEXED_COLUMNS).issuperset(columns):
            return _frame_of(self._table_of(table, columns, parts))
        looked_up = parts if len(parts) > _WORTH_LOOKING_UP else ()
        found, opened = self._indexed_rows(columns, looked_up)
        opened = opened if looked_up else list(parts)
        if not opened:
            return _frame_of(found)
        read = self._table_of(table, columns, opened)
        if len(opened) >= run_index.REBUILT_FROM:
            self._write_index(opened)
        return _frame_of(pa.concat_tables([found, read.cast(found.schema)]))

    def _table_of(self, table: str, columns: Sequence[str], parts: Sequence[Part]) -> pa.Table:
        """Columns of all rows of some parts, some thousand parts at a time: what Arrow keeps of a
        part while it reads takes a hundred times the memory of a few rows."""
        if len(parts) <= _PARTS_AT_ONCE or table == "measurements":
            return self._dataset(table, parts).to_table(columns=list(columns))
        schema = self._schema(table, parts)
        return pa.concat_tables(
            self._dataset_of(table, parts[start : start + _PARTS_AT_ONCE], schema)
            .to_table(columns=list(columns))
            .combine_chunks()
            for start in range(0, len(parts), _PARTS_AT_ONCE)
        )

    def _indexed_rows(
        self, columns: Sequence[str], parts: Sequence[Part]
    ) -> tuple[pa.Table, list[Part]]:
        """Rows of those of some parts of `runs` that the index knows, and the other parts."""
        root = f"{self._root}/runs/"
        wanted = {part.path.removeprefix(root): part for part in parts}
        places = [run_index.COLUMNS.index(name) if name in run_index.COLUMNS else None
                  for name in columns]  # fmt: skip
        values: list[list[Any]] = [[] for _ in columns]
        for content in self._index_files() if parts else ():
            for entry in run_index.parts_in(content):
                part = wanted.get(entry.place)
                if part is None or (part.size, part.modified) != (entry.size, entry.modified):
                    continue
                del wanted[entry.place]
                self._seals[part] = entry.seals
                for row in entry.rows:
                    for name, place, column in zip(columns, places, values, strict=True):
                        if place is not None:
                            column.append(row[place])
                        else:
                            column.append(part.path if name == PLACE else part.sweep)
        kinds = {**{name: ARROW_TYPES[kind] for name, kind in TABLES["runs"].items()},
                 "sweep": pa.string(), PLACE: pa.string()}  # fmt: skip
        arrays = [pa.array(column, kinds[name])
                  for name, column in zip(columns, values, strict=True)]  # fmt: skip
        return pa.table(arrays, names=list(columns)), sorted(wanted.values())

    def _index_files(self) -> Iterator[bytes]:
        selector = fs.FileSelector(f"{self._root}/{run_index.FOLDER}", allow_not_found=True)
        for info in self._filesystem.get_file_info(selector):
            if info.base_name.endswith(run_index.SUFFIX) and info.type == fs.FileType.File:
                content = self.file(f"{run_index.FOLDER}/{info.base_name}")
                if content is not None:
                    yield content

    def _write_index(self, parts: Sequence[Part]) -> None:
        """Keep what was read of many parts of `runs` for whoever reads next; a store that cannot
        be written stays as it is."""
        root = f"{self._root}/runs/"
        listed = [part for part in parts if not part.compacted]
        if not listed:
            return
        rows = self._dataset("runs", listed).to_table(columns=[*run_index.COLUMNS, PLACE])
        by_path: dict[str, list[list[Any]]] = {}
        for path, *row in zip(
            rows[PLACE].to_pylist(),
            *(rows[name].to_pylist() for name in run_index.COLUMNS),
            strict=True,
        ):
            by_path.setdefault(path, []).append(row)
        lines = [
            run_index.line_of(
                run_index.IndexedPart(
                    part.path.removeprefix(root), part.size, part.modified,
                    seals_of(self._footer(part)), by_path.get(part.path, []),
                )
            )
            for part in listed
        ]  # fmt: skip
        name = f"{run_index.FOLDER}/rebuilt-{uuid.uuid4().hex}{run_index.SUFFIX}"
        with contextlib.suppress(StoreProblem):
            ResultWriter(self.location, "", probe=False).write_bytes(name, b"".join(lines))

    def _owners(self, everything: bool = False) -> RunOwners:
        """Every row of `runs`, and whose rows count.

        Args:
            everything: with all that the index knows of a run, instead of what ownership takes.
        """
        columns: tuple[str, ...] = _INDEXED_COLUMNS
        if not everything and ("runs", columns) not in self._kept:
            columns = (*OWNER_COLUMNS, PLACE)
        runs = self._kept_rows("runs", columns, self._parts("runs"))
        if self._owners_kept is None or self._owners_kept.runs is not runs:
            self._owners_kept = RunOwners(runs)
        return self._owners_kept

    def _divided(self, table: str) -> tuple[list[Part], list[Part]]:
        """The parts of a table of which every row counts, and those that have to be looked into
        (`trainables.store.ownership`)."""
        # Before those of runs: what is listed here and speaks of no known run was not finished.
        parts = self._parts(table)
        if table not in TRIAL_TABLES or not parts:
            return parts, []
        owners = self._owners()
        whole: list[Part] = []
        others: list[Part] = []
        for part in parts:
            trials = compacted_trials(self._footer(part)) if part.compacted else ()
            (whole if owners.counts_whole(part, trials) else others).append(part)
        return whole, others

    def _counted_rows(self, table: str, parts: Sequence[Part]) -> pa.Table:
        """The rows of some parts that count, with `PLACE`."""
        if not parts:
            schema = self._schema(table, [])
            return schema.append(pa.field(PLACE, pa.string())).empty_table()
        schema = self._schema(table, self._parts(table))
        dataset = self._dataset_of(table, parts, schema)
        rows = dataset.to_table(columns=[*schema.names, PLACE])
        trials = {part.path: compacted_trials(self._footer(part)) for part in parts}
        counted = self._owners().counted(table, rows, trials)
        return rows.filter(pa.array(counted, pa.bool_()))

    def left_behind(self, **filters: object) -> pandas.DataFrame:
        """The runs of which there are evaluations, but nothing in `runs`: they were killed in
        between, or their part of `runs` was lost. No other method speaks of them.

        Args:
            filters: `sweep`, `algorithm` or `task`, as of `runs`.

        Returns:
            `run_id, config_id, algorithm, task, seed, sweep`, a row a run.
        """
        return self._while_parts_move(lambda: self._left_behind(filters))

    def _left_behind(self, filters: Mapping[str, object]) -> pandas.DataFrame:
        columns = ["run_id", "config_id", "algorithm", "task", "seed", "sweep"]
        _, others = self._divided("evaluations")
        rows = self._dataset("evaluations", others).to_table(columns=columns).to_pandas()
        rows = rows[~rows["run_id"].isin(self._owners().runs["run_id"])].drop_duplicates("run_id")
        return self._filtered(rows, filters, columns)

    def incomplete(self, thorough: bool = False) -> pandas.DataFrame:
        """The runs of which rows are missing in some table, a part having been cut or lost.

        Args:
            thorough: compare what the parts of a local store hold with what was written, instead
                of their lengths.

        Returns:
            `run_id, config_id, algorithm, task, seed, sweep, trial_id`; `compacted`, whether the
            run's row is in a part of several trials; `lacks`, what is missing in words.
        """
        return self._while_parts_move(lambda: self._states(thorough)[1])

    def run_states(self, **filters: object) -> pandas.DataFrame:
        """How every run ended and whether the store still holds all of it, from one reading.

        Args:
            filters: `sweep`, `algorithm` or `task`, as of `runs`.

        Returns:
            `run_id, config_id, algorithm, task, seed, sweep, trial_id`; `status`, which is
            `incomplete` for a run that lacks rows; `code`, which trained it, or None; `lacks`,
            what is missing in words, or None.
        """
        return self._while_parts_move(
            lambda: self._filtered(_with_lacking(*self._states(False)), filters, COMPLETENESS_KEYS)
        )

    def _filtered(
        self, rows: pandas.DataFrame, filters: Mapping[str, object], columns: Sequence[str]
    ) -> pandas.DataFrame:
        """Rows of runs, by the values of some of `columns`."""
        for name, wanted in filters.items():
            require_choice("filter", name, columns)
            if wanted is None:
                continue
            if name == "sweep":
                run_ids, unplanned = self._members(wanted)
                kept = rows["run_id"].isin(run_ids) | rows["sweep"].isin(unplanned)
            else:
                kept = rows[name].isin(as_list(wanted))
            rows = rows[kept]
        return rows.reset_index(drop=True)

    def state(self, tables: Iterable[str]) -> str:
        """A digest of the parts of some tables: the same as long as none is added, replaced or
        removed. Nothing is read but their names, lengths and times."""
        return self._while_parts_move(
            lambda: hashlib.sha256(
                repr([self._parts(table) for table in tables]).encode()
            ).hexdigest()
        )

    def heartbeats(self) -> list[dict[str, Any]]:
        """What the trials that are training now last said: `trial_id, sweep, algorithm, task,
        run_ids, step, steps, seconds, host, process, time, phase, rate` and others
        (`trainables.store.heartbeats`).

        What is no such record is left out, with a warning: it stops no command.
        """
        selector = fs.FileSelector(f"{self._root}/heartbeats", allow_not_found=True)
        beats = []
        with store_problems(self.location, "read"):
            for info in self._filesystem.get_file_info(selector):
                if not info.base_name.endswith(".json") or info.base_name.startswith("."):
                    continue
                try:
                    with self._filesystem.open_input_stream(info.path) as stream:
                        beats.append(parse_heartbeat(stream.read(LONGEST_BYTES + 1)))
                except FileNotFoundError:  # that trial has just ended
                    continue
                except ValueError as problem:
                    _log.warning("storage: left out %s, no heartbeat (%s)", info.path, problem)
        return sorted(beats, key=lambda beat: str(beat["trial_id"]))

    def drivers(self) -> list[Holder]:
        """The drivers that run sweeps of this store now, or are stopped on this machine; the others
        of which nothing was heard lately, by this machine's clock, are taken for dead."""
        selector = fs.FileSelector(f"{self._root}/{LEASE_FOLDER}", allow_not_found=True)
        found = []
        with store_problems(self.location, "read"):
            for info in self._filesystem.get_file_info(selector):
                if not info.base_name.endswith(".json") or info.base_name.startswith("."):
                    continue
                with (
                    contextlib.suppress(FileNotFoundError),  # it has just ended
                    self._filesystem.open_input_stream(info.path) as stream,
                ):
                    found.append(parse_lease(stream.read()))
        return sorted(
            (holder for holder in found if holder is not None and holder.condition != "dead"),
            key=lambda holder: (holder.since, holder.token),
        )

    def has_file(self, relative: str) -> bool:
        """Whether there is a file `<store>/<relative>`."""
        with store_problems(self.location, "read"):
            info = self._filesystem.get_file_info(f"{self._root}/{relative}")
        return bool(info.type == fs.FileType.File)

    def file(self, relative: str) -> bytes | None:
        """The content of `<store>/<relative>`; None where there is no such file."""
        path = f"{self._root}/{relative}"
        with store_problems(self.location, "read"), contextlib.suppress(FileNotFoundError):
            stream = self._filesystem.open_input_stream(path)
            with stream:
                return bytes(stream.read())
        return None

    def listed(self, table: str) -> list[Part]:
        """The parts of a table, damaged ones among them."""
        with store_problems(self.location, "read"):
            return self._parts(table)

    def problem_of(self, table: str, part: Part) -> str | None:
        """What is wrong with a part by itself, in words: it is damaged, its columns are not those
        of its table, or rows stand in it twice. None where nothing is.

        Raises:
            OSError: its bytes cannot be read.
        """
        try:
            schema = self._footer(part)
            self._read_pages(part)
            wrong = _wrong_columns(table, schema)
            return wrong or self._repeated_rows(table, part)
        except FileNotFoundError:
            return None
        except _DAMAGE as error:
            self._require_bytes(part)
            return f"damaged ({one_line(error)})"

    def _repeated_rows(self, table: str, part: Part) -> str | None:
        keys = [name for name in ROW_KEYS.get(table, ()) if name in self._footer(part).names]
        if not keys:
            return None
        with self._filesystem.open_input_file(part.path) as stream:
            rows = pq.ParquetFile(stream).read(columns=keys).to_pandas()
        repeated = int(rows.duplicated().sum())
        return f"{repeated:,} of its {len(rows):,} rows stand there twice" if repeated else None

    def unfinished_parts(self, table: str) -> list[Part]:
        """Parts of a table of whose trials `runs` says nothing: they were killed before they ended,
        train now, or have lost their part of `runs`."""

        def find() -> list[Part]:
            owners = self._owners()
            return [
                part for part in self._parts(table)
                if not part.compacted and (part.sweep, part.name) not in owners.trials
            ]  # fmt: skip

        return self._while_parts_move(find)

    def doubled_runs(self) -> pandas.DataFrame:
        """Runs that stand in several trials: `run_id, sweep, trial_id`, and `counts`, whether this
        is the trial whose rows count."""
        return self._while_parts_move(lambda: self._owners().doubled_runs)

    def schema_versions(self) -> pandas.DataFrame:
        """How many parts of each table were written under which version of the tables.

        Columns `table, schema_version, parts`; the version is missing for parts that do not say.
        """
        return self._while_parts_move(self._versions)

    def _versions(self) -> pandas.DataFrame:
        rows = []
        for table in TABLES:
            for part in self._parts(table):
                said = (self._footer(part).metadata or {}).get(VERSION_KEY.encode())
                rows.append((table, int(said) if said else None))
        frame = pandas.DataFrame(rows, columns=["table", "schema_version"])
        frame = frame.astype({"schema_version": "Int64"})
        counts = frame.groupby(["table", "schema_version"], dropna=False, sort=True).size()
        return counts.rename("parts").reset_index()

    def _states(self, thorough: bool) -> tuple[pandas.DataFrame, pandas.DataFrame]:
        """What completeness looks at of every run, and those runs that lack rows."""
        listed = self._parts("runs")
        if thorough:
            self._footers_of(listed)
        known = {part.path: part for part in listed}
        runs = (
            self._owners(everything=True)
            .counted_runs[[*COMPLETENESS_COLUMNS, *CODE_COLUMNS, PLACE]]
            .copy()
        )
        runs["part"] = runs[PLACE].map(known)
        vanished = runs.loc[runs["part"].isna(), PLACE]
        if len(vanished):
            raise FileNotFoundError(vanished.iloc[0])
        reader = PartReader(
            seals=self._seals_in,
            rows=self._rows_of,
            owners=self._owners_in,
            checksum=self._checksum_of,
        )
        parts = {table: self._parts(table) for table in COUNT_COLUMNS}
        return runs, find_incomplete(runs, parts, reader, thorough)

    def _seals_in(self, part: Part) -> Mapping[str, tuple[int, int]]:
        if part not in self._seals:
            return seals_of(self._footer(part))
        return self._seals[part]

    def _rows_of(self, part: Part) -> int | None:
        with self._read_or_none(part), self._filesystem.open_input_file(part.path) as stream:
            return int(pq.read_metadata(stream).num_rows)
        return None

    def _owners_in(self, part: Part, column: str, whole: bool) -> pandas.Series | None:
        with self._read_or_none(part), self._filesystem.open_input_file(part.path) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            groups = (
                file.read_row_group(group, columns=None if whole else [column])[column]
                for group in range(file.num_row_groups)
            )
            joined: pandas.Series = pandas.concat(
                [pandas.Series(dtype=object), *(values.to_pandas() for values in groups)]
            )
            return joined
        return None

    def _checksum_of(self, part: Part) -> int | None:
        """CRC-32 of a part of a local store; from elsewhere its bytes would have to be sent."""
        if not self._local:
            return None
        if part not in self._checksums:
            self._checksums[part] = zlib.crc32(Path(part.path).read_bytes())
        return self._checksums[part]

    @contextlib.contextmanager
    def _read_or_none(self, part: Part) -> Iterator[None]:
        """Leave out a part that proves not to be whole within."""
        try:
            yield
        except FileNotFoundError:
            return
        except _DAMAGE as error:
            self._leave_out(part, error)

    def _frame(
        self, table: str, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        return self._while_parts_move(lambda: self._read(table, filters, columns))

    def _read(
        self, table: str, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        dataset = self._dataset(table)
        types = self._hyperparameter_types(self._parts(table)) if table == "runs" else {}
        stored_names = dataset.schema.names
        renamed = {
            new: old for old, new in RENAMED_COLUMNS.get(table, {}).items() if old in stored_names
        }
        known = [
            *(name for name in stored_names if name not in renamed.values()),
            *(name for name in types if name not in stored_names),
        ]
        names = None if columns is None else matching_columns(columns, known)
        condition: ds.Expression | None = None
        later: dict[str, object] = {}
        for column, wanted in filters.items():
            if wanted is None:
                continue
            require_choice("filter", column, known)
            if column == "sweep" and table not in ("sweeps", "labels"):
                term = self._membership(wanted)
            elif column in types or column in renamed:
                later[column] = wanted
                continue
            else:
                values = as_list(wanted)
                if (table, column) == ("metrics", "name"):
                    values = with_older_metrics(values)
                # Of no values Arrow cannot tell the type.
                kind = None if values else dataset.schema.field(column).type
                term = ds.field(column).isin(pa.array(values, kind))
            condition = term if condition is None else condition & term
        if not types and not renamed:
            rows = dataset.to_table(columns=names, filter=condition)
            older = self.has_older_names(table)
            return _frame_of(with_current_names(table, rows) if older else rows)
        chosen = known if names is None else names
        needed = {*chosen, *later}
        needed |= {old for new, old in renamed.items() if new in needed}
        wanted_types = {name: types[name] for name in types if name in needed}
        stored = [name for name in stored_names if name in needed]
        if wanted_types and "config" not in stored:
            stored.append("config")
        rows = with_current_names(table, dataset.to_table(columns=stored, filter=condition))
        rows = _with_hyperparameters(rows, wanted_types)
        for column, wanted in later.items():
            rows = rows.filter(pc.is_in(rows[column], value_set=pa.array(as_list(wanted))))
        return _frame_of(rows.select(chosen))

    def has_older_names(self, table: str) -> bool:
        """Whether a part of a table was written when columns or metrics had other names."""
        if table not in TABLES_WITH_OLDER_NAMES:
            return False
        return any(may_have_older_names(self._footer(part)) for part in self._parts(table))

    def _hyperparameter_types(self, parts: Sequence[Part]) -> dict[str, pa.DataType]:
        """The columns `hp_<name>` of `runs` with their types, by name; what the parts say of their
        hyperparameters, and the columns that parts of older versions have."""
        found: dict[str, pa.DataType] = {}
        for part in parts:
            schema = self._footer(part)
            said = {
                HYPERPARAMETER_PREFIX + name: kind
                for name, kind in hyperparameter_types(schema).items()
            }
            for field in schema:
                if field.name.startswith(HYPERPARAMETER_PREFIX):
                    said[field.name] = field.type
            for name, kind in said.items():
                if self._is_column(name, part):
                    found[name] = common_type(found.get(name), kind)
        return dict(sorted(found.items()))

    def _is_column(self, name: str, part: Part) -> bool:
        """Whether a column that a part adds is read: one of a hyperparameter that no method can
        have (`hp_` and no word) is left out, with a warning. Whoever made it may want to be read as
        something else than a name."""
        if not name.startswith(HYPERPARAMETER_PREFIX) or _HYPERPARAMETER_COLUMN.fullmatch(name):
            return True
        if (part.path, name) not in self._odd_columns:
            self._odd_columns.add((part.path, name))
            _log.warning(
                "storage: left out the column %s of %s, not a hyperparameter's name",
                shown(name),
                part.path,
            )
        return False

    def _membership(self, wanted: object) -> ds.Expression:
        run_ids, unplanned = self._members(wanted)
        term = ds.field("run_id").isin(pa.array(run_ids, pa.string()))
        return term | ds.field("sweep").isin(unplanned) if unplanned else term

    def _member_table(self, wanted: object) -> pa.Table:
        """`run_id` or `sweep` of what the sweeps comprise, the other one null."""
        run_ids, unplanned = self._members(wanted)
        return pa.table(
            {
                "run_id": pa.array([*run_ids, *[None] * len(unplanned)], pa.string()),
                "sweep": pa.array([*[None] * len(run_ids), *unplanned], pa.string()),
            }
        )

    def _members(self, wanted: object) -> tuple[list[str], list[str]]:
        """The runs that the sweeps comprise; and the sweeps without a plan: their own folders."""
        plans = self._dataset("sweeps").to_table(columns=["sweep", "run_ids"]).to_pandas()
        members = dict(zip(plans["sweep"], plans["run_ids"], strict=True))
        partitions = self._unplanned(members)
        run_ids: list[str] = []
        unplanned: list[str] = []
        for name in map(str, as_list(wanted)):
            if name in members:
                run_ids.extend(members[name])
            elif name in partitions:
                unplanned.append(name)
            else:
                raise _unknown_sweep(name, self.uri, {*members, *partitions})
        return run_ids, unplanned

    def _unplanned(self, planned: Collection[str]) -> set[str]:
        """The sweeps without a plan that have runs in a folder of their own, but for those that
        were deleted: what is left of these belongs to others."""
        found = {part.sweep for part in self._parts("runs")}.difference(planned)
        if found:
            labels = self._dataset("labels").to_table(columns=["sweep", "deleted"]).to_pandas()
            found -= set(labels.loc[labels["deleted"].fillna(False).astype(bool), "sweep"])
        return found

    def require_sweeps(self, names: Iterable[str]) -> None:
        """Raise an InvalidInput that names the first of some sweeps that the store does not know.

        Nothing is read of what they comprise.
        """
        self._while_parts_move(lambda: self._members(names))

    def unplanned_sweeps(self) -> list[str]:
        """Sweeps whose plan was lost: runs of theirs are there, and no row of `sweeps`."""
        planned = set(self.sweeps(["sweep"])["sweep"])
        return sorted(self._while_parts_move(lambda: self._unplanned(planned)))

    def _parts(self, table: str) -> list[Part]:
        """Whole parts of a table, in a fixed order; what lies in dot-folders is not one."""
        folder = f"{self._root}/{table}"
        parts = _local_parts(folder) if self._local else self._remote_parts(folder)
        return sorted(part for part in parts if part not in self._broken)

    def _remote_parts(self, folder: str) -> Iterator[Part]:
        selector = fs.FileSelector(folder, recursive=True, allow_not_found=True)
        for info in self._filesystem.get_file_info(selector):
            names = info.path[len(folder) + 1 :].split("/")
            if info.type == fs.FileType.File and _is_part(names):
                yield Part(info.path, info.size, info.mtime_ns or 0)

    def _footer(self, part: Part) -> pa.Schema:
        """The schema that the part itself declares.

        Raises:
            pa.ArrowInvalid: it is no whole part, or not what was written: the parts of a local
                store are compared with their checksums to the last bit, of others the footer.
        """
        if part not in self._footers:
            content, sound = self._sound_footer(part)
            metadata = pq.read_metadata(pa.BufferReader(content))
            schema = metadata.schema.to_arrow_schema()
            _require_metadata(schema, (metadata.metadata or {}).get(_SCHEMA_KEY))
            self._footers[part] = schema
            if sound:
                self._sound.add(part)
        return self._footers[part]

    def _sound_footer(self, part: Part) -> tuple[bytes, bool]:
        """A part's footer, and whether all of the part was compared with a checksum."""
        if self._local:
            with open(part.path, "rb", buffering=0) as file:
                return _sound_footer_of(file, os.fstat(file.fileno()).st_size, True)
        with self._filesystem.open_input_file(part.path) as stream:
            return _sound_footer_of(stream, stream.size(), False)

    def _footers_of(self, parts: Sequence[Part]) -> None:
        """Read the footers of some parts, and leave out those that are not whole.

        Raises:
            UnreadablePart: there are such parts.
        """
        broken = [part for part in parts if part not in self._footers and not self._is_whole(part)]
        if broken:
            raise UnreadablePart(broken[0].path)

    def _is_whole(self, part: Part) -> bool:
        try:
            self._footer(part)
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            self._leave_out(part, error)
            return False
        return True

    def _require_sound(self, parts: Sequence[Part]) -> None:
        """Compare some parts with their checksums, once, for whoever reads them without looking at
        these.

        Raises:
            UnreadablePart: one is not what was written, and left out from here on.
        """
        self._footers_of(parts)
        for part in parts:
            if part in self._sound:
                continue
            # An older part, or another program's, may have checksums of its pages.
            with self._left_out_if_damaged(part):
                self._read_pages(part)
            self._sound.add(part)

    @contextlib.contextmanager
    def _left_out_if_damaged(self, part: Part) -> Iterator[None]:
        """Leave a part out from here on, and raise UnreadablePart, where it proves damaged."""
        try:
            yield
        except FileNotFoundError:
            raise
        except _DAMAGE as error:
            self._leave_out(part, error)
            raise UnreadablePart(part.path) from error

    def _small_tables(self, table: str, parts: Sequence[Part]) -> list[pa.Table]:
        """The rows of many small parts of a local store, compared with their checksums, and their
        `sweep`; a table for each layout and sweep, kept until there are other parts.

        Opening a part is most of what it costs, so that each is opened once.

        Raises:
            UnreadablePart: one is not what was written, and left out from here on.
        """
        if not parts:
            return []
        kept = self._small.get(table)
        if kept is not None and kept.parts == frozenset(parts):
            return list(kept.tables)
        alike: list[tuple[pa.Schema, str, list[pa.Table]]] = []
        for part in parts:
            with self._left_out_if_damaged(part):
                file = sound_file(Path(part.path).read_bytes())
                rows = file.read(use_threads=False)
                schema = file.metadata.schema.to_arrow_schema()
                _require_metadata(schema, (file.metadata.metadata or {}).get(_SCHEMA_KEY))
            self._footers[part] = schema
            self._sound.add(part)
            for layout, sweep, tables in alike:
                if sweep == part.sweep and layout.equals(rows.schema):
                    tables.append(rows)
                    gather(tables)
                    break
            else:
                alike.append((rows.schema, part.sweep, [rows]))
        together = []
        for _, sweep, tables in alike:
            rows = pa.concat_tables(tables).combine_chunks().replace_schema_metadata(None)
            sweeps = pa.repeat(pa.scalar(sweep, pa.string()), len(rows))
            if "sweep" in rows.column_names:
                rows = rows.drop_columns(["sweep"])
            together.append(rows.append_column("sweep", sweeps))
        self._small[table] = _SmallParts(frozenset(parts), tuple(together))
        return together

    def _read_pages(self, part: Part) -> None:
        with self._filesystem.open_input_file(part.path) as stream:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            for group in range(file.num_row_groups):
                file.read_row_group(group)

    def _leave_out_broken(self) -> bool:
        """Look for files that are no whole parts; whether any was found that was not known."""
        found = False
        for table in TABLES:
            for part in self._parts(table):
                try:
                    self._footer(part)
                except FileNotFoundError:
                    continue
                except _DAMAGE as error:
                    found = True
                    self._leave_out(part, error)
        return found

    def _leave_out_damaged(self) -> bool:
        """Look for parts that are damaged within, by all of their pages; whether any was found."""
        found = False
        for table in TABLES:
            for part in self._parts(table):
                try:
                    self._read_pages(part)
                except FileNotFoundError:
                    continue
                except _DAMAGE as error:
                    found = True
                    self._leave_out(part, error)
        return found

    def _leave_out(self, part: Part, error: Exception) -> None:
        """Read no more of a part that is not whole.

        Raises:
            OSError: its bytes cannot be read, so that it is not the part that is broken.
        """
        self._require_bytes(part)
        self._broken.add(part)
        reason = one_line(error)
        _log.warning("storage: left out %s, not a whole part (%s)", part.path, reason)

    def _require_bytes(self, part: Part) -> None:
        """Read a part's bytes.

        Raises:
            OSError: they cannot be read, so that it is not the part that is broken.
        """
        with self._filesystem.open_input_stream(part.path) as stream:
            while stream.read(_CHUNK_BYTES):
                pass

    def _while_parts_move(self, read: Callable[[], Result]) -> Result:
        """Read again when a part was replaced between being listed and being opened, or proves
        not to be whole."""
        attempt = 0
        while True:
            known = len(self._broken)
            try:
                with _no_collection():
                    return read()
            except FileNotFoundError as error:
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise InvalidInput(f"storage: a part keeps vanishing ({error})") from error
                time.sleep(_PAUSE_SECONDS * attempt)
            except (UnreadablePart, *_DAMAGE) as error:
                if len(self._broken) > known:
                    continue
                with store_problems(self.location, "read"):
                    found = self._leave_out_broken() or self._leave_out_damaged()
                if not found:
                    reason = one_line(error)
                    raise InvalidInput(f"storage: a part cannot be read ({reason})") from error

    def _dataset(self, table: str, parts: Sequence[Part] | None = None) -> ds.Dataset:
        """The rows of a table that count, or all of those of some parts."""
        whole, others = self._divided(table) if parts is None else (list(parts), [])
        schema = self._schema(table, [*whole, *others])
        more: list[ds.Dataset] = []
        if others:
            counted = self._counted_rows(table, others)
            more.append(ds.dataset(counted.select(schema.names).cast(schema)))
        older = self._older_measurements() if table == "measurements" else []
        if older:
            rows = pa.Table.from_pandas(
                pandas.concat(older).reindex(columns=schema.names), schema, preserve_index=False
            )
            more.append(ds.dataset(rows))
        if more and whole:
            more.insert(0, self._dataset_of(table, whole, schema))
        return ds.dataset(more) if more else self._dataset_of(table, whole, schema)

    def _older_measurements(self) -> list[pandas.DataFrame]:
        """What stores before version 4 hold beside their tables, a text file a name."""
        found = []
        selector = fs.FileSelector(f"{self._root}/points", allow_not_found=True)
        with store_problems(self.location, "read"):
            for info in self._filesystem.get_file_info(selector):
                name = info.base_name.removesuffix(".csv")
                if info.type != fs.FileType.File or name in ("", info.base_name):
                    continue
                with self._filesystem.open_input_stream(info.path) as stream:
                    content = stream.read()
                try:
                    rows = pandas.read_csv(io.BytesIO(content), dtype={"run_id": str})
                except ValueError as error:
                    reason = one_line(error)
                    _log.warning("storage: left out %s, not a table (%s)", info.path, reason)
                    continue
                if len(rows) and {"run_id", "view", "value"} <= set(rows):
                    found.append(rows.assign(name=name, sweep=name).fillna({"run_id": ""}))
        return sorted(found, key=lambda rows: str(rows["name"].iloc[0]))

    def _dataset_of(self, table: str, parts: Sequence[Part], schema: pa.Schema) -> ds.Dataset:
        if not parts:
            return ds.dataset(schema.empty_table())
        return ds.dataset(
            [part.path for part in parts],
            schema=schema,
            format=_FORMAT,
            filesystem=self._filesystem,
            partitioning=_PARTITIONING,
            partition_base_dir=f"{self._root}/{table}",
        )

    def _schema(self, table: str, parts: Sequence[Part]) -> pa.Schema:
        """The table's own columns, `sweep` among the identities, then what the parts add."""
        columns = {name: ARROW_TYPES[kind] for name, kind in TABLES[table].items()}
        names = list(columns)
        names.insert(next((i for i, n in enumerate(names) if not n.endswith("_id")), 0), "sweep")
        columns["sweep"] = pa.string()
        added: dict[str, pa.DataType] = {}
        self._footers_of(parts)
        layouts: dict[tuple[str, ...], list[pa.DataType]] = {}
        for part in parts:
            schema = self._footer(part)
            if layouts.get(tuple(schema.names)) == schema.types:
                continue
            layouts[tuple(schema.names)] = schema.types
            for field in schema:
                if field.name not in columns and self._is_column(field.name, part):
                    added[field.name] = common_type(added.get(field.name), field.type)
        fields = [(name, columns[name]) for name in names]
        return pa.schema([*fields, *((name, added[name]) for name in sorted(added))])


def _with_lacking(runs: pandas.DataFrame, lacking: pandas.DataFrame) -> pandas.DataFrame:
    """The runs' identity and status, and what those that lack rows lack."""
    places = zip(lacking["run_id"], lacking["sweep"], lacking["trial_id"], strict=True)
    reasons = dict(zip(places, lacking["lacks"], strict=True))
    states = runs[[*COMPLETENESS_KEYS, "status"]].assign(
        code=pandas.Series(codes_of(runs), index=runs.index, dtype=object)
    )
    keys = zip(states["run_id"], states["sweep"], states["trial_id"], strict=True)
    states = states.assign(
        lacks=pandas.Series([reasons.get(key) for key in keys], index=states.index, dtype=object)
    )
    return states.assign(status=states["status"].mask(states["lacks"].notna(), "incomplete"))


def _sound_footer_of(file: Any, size: int, wholly: bool) -> tuple[bytes, bool]:
    """A part's footer, compared with its checksum, and whether all of the part was.

    Raises:
        pa.ArrowInvalid: it is no whole part, or not what was written.
    """
    start = max(0, size - _TAIL_BYTES)
    file.seek(start)
    tail = _read_all(file, size - start)
    length = footer_bytes(tail[-TRAILER_BYTES:])
    if length > size:
        raise pa.ArrowInvalid(f"its footer would be longer than the {size} bytes that it has")
    if length > len(tail):
        start = size - length
        file.seek(start)
        tail = _read_all(file, length)
    footer = tail[len(tail) - length :]
    stated = require_sound_footer(footer, size - length)
    if stated is None or not wholly:
        return footer, False
    begun = len(tail) - length

    def data() -> Iterator[bytes]:
        file.seek(0)
        left = start
        while left:
            chunk = file.read(min(left, _CHUNK_BYTES))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk
        yield tail[:begun]

    require_sound_data(stated, data())
    return footer, True


def _read_all(file: Any, count: int) -> bytes:
    """So many bytes; fewer where there are no more."""
    content = bytes(file.read(count))
    while len(content) < count:
        more = file.read(count - len(content))
        if not more:
            break
        content += bytes(more)
    return content


def _wrong_columns(table: str, schema: pa.Schema) -> str | None:
    """How the columns of a part of today's version differ from those of its table."""
    if (schema.metadata or {}).get(VERSION_KEY.encode()) != str(SCHEMA_VERSION).encode():
        return None
    wanted = {name: ARROW_TYPES[kind] for name, kind in TABLES[table].items()}
    lacking = [name for name in wanted if name not in schema.names]
    if lacking:
        return f"lacks the columns {listed(lacking)}"
    for name, kind in wanted.items():
        found = schema.field(name).type
        if found != kind:
            return f"its column {name} is {found}, not {kind}"
    return None


def _require_metadata(schema: pa.Schema, encoded: bytes | None) -> None:
    """Whether what a part says of itself can be understood, and both of its schemas name the same
    columns: pages have checksums, but a column whose name is damaged would read as nulls.

    Args:
        encoded: Arrow's copy of the schema, in base 64; None where there is none.

    Raises:
        pa.ArrowInvalid: it cannot: the part is damaged.
    """
    said = (schema.metadata or {}).get(VERSION_KEY.encode())
    try:
        if said is not None:
            int(said)
        seals_of(schema)
        hyperparameter_types(schema)
        compacted_trials(schema)
        copy = None if encoded is None else pa.ipc.read_schema(pa.py_buffer(b64decode(encoded)))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise pa.ArrowInvalid(f"its metadata cannot be read: {error!r}") from error
    if copy is not None and copy.names != schema.names:
        raise pa.ArrowInvalid("its two schemas name different columns")


def _is_part(names: Sequence[str]) -> bool:
    """Whether a path below a table's folder is a part's: no part of it is hidden."""
    return names[-1].endswith(".parquet") and not any(name[0] in "._" for name in names if name)


def _local_parts(folder: str) -> list[Part]:
    """The parts below a folder at one moment.

    A compaction exchanges whole folders (`trainables.store.compaction`). Where that happened to a
    folder while it was listed, some of its files were looked up in the other one, so it is listed
    anew.
    """
    for _ in range(_ATTEMPTS):
        folders: dict[str, int] = {}
        parts: list[Part] = []
        try:
            _list_into(folder, folders, parts)
            if all(os.stat(path).st_ino == number for path, number in folders.items()):
                return parts
        except FileNotFoundError:
            if not os.path.exists(folder):
                return []
        time.sleep(_PAUSE_SECONDS)
    raise FileNotFoundError(f"{folder} changes faster than it can be listed")


def _list_into(folder: str, folders: dict[str, int], parts: list[Part]) -> None:
    folders[folder] = os.stat(folder).st_ino
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] in "._":
                continue
            if entry.is_dir():
                _list_into(entry.path, folders, parts)
            elif entry.name.endswith(".parquet"):
                # One that has just been removed is no part any more.
                with contextlib.suppress(FileNotFoundError):
                    state = entry.stat()
                    if stat.S_ISREG(state.st_mode):
                        parts.append(Part(entry.path, state.st_size, state.st_mtime_ns))


def _with_hyperparameters(runs: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Runs with columns `hp_<name>` of these types: what parts of older versions have in such
    columns, and the values in the column `config` of the others."""
    if not types:
        return runs
    encoded = runs["config"].combine_chunks().dictionary_encode()
    configs = [json.loads(text) if text else {} for text in encoded.dictionary.to_pylist()]
    for column, kind in types.items():
        name = column.removeprefix(HYPERPARAMETER_PREFIX)
        values = pa.array([_typed(config.get(name), kind) for config in configs], kind)
        taken = values.take(encoded.indices) if len(values) else pa.nulls(runs.num_rows, kind)
        if column in runs.column_names:
            place = runs.column_names.index(column)
            taken = pc.coalesce(runs[column].cast(kind), pa.chunked_array([taken]))
            runs = runs.set_column(place, column, taken)
        else:
            runs = runs.append_column(column, taken)
    return runs


def _frame_of(table: pa.Table) -> pandas.DataFrame:
    frame: pandas.DataFrame = table.to_pandas()
    return frame


def _typed(value: Any, kind: pa.DataType) -> Any:
    """A hyperparameter as a value of a column that other methods may share."""
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    return json.dumps(value)


def matching_columns(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that the patterns mean, in the patterns' order; a plain name must be there."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if "*" in pattern:
            chosen.update(dict.fromkeys(name for name in names if fnmatchcase(name, pattern)))
        else:
            chosen[require_choice("columns", pattern, names)] = None
    return list(chosen)


def as_list(wanted: object) -> list[Any]:
    if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes):
        return list(wanted)
    return [wanted]


def _unknown_sweep(name: str, uri: str, known: set[str]) -> InvalidInput:
    if not known:
        return InvalidInput(f"sweep: {name!r} is unknown; the store {uri!r} holds no sweep")
    hint = did_you_mean(name, known)
    return InvalidInput(
        f"sweep: {name!r} is not in the store {uri!r}, which has {', '.join(sorted(known))}{hint}"
    )
