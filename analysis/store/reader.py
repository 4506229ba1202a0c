"""Reading a result store: pandas frames, and SQL over its tables that can do nothing but read."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from safesweep.analysis import published
from safesweep.search_spaces.validation import InvalidInput, nearest, require_choice
from safesweep.trainables.store.schema import TABLES, VERSION_KEY
from safesweep.trainables.store.writer import ARROW_TYPES, common_type, store_problems

VIEWS = (*TABLES, "published")

_SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
    "list<string>": "VARCHAR[]",
}
_PARTITIONING = ds.partitioning(pa.schema([("sweep", pa.string())]), flavor="hive")
_HYPERPARAMETER = "hp_"
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.02
_CHUNK_BYTES = 2**20

_JUDGED_COLUMNS = (
    "run_id", "config_id", "algorithm", "task", "policy", "seed", "step", "normalized_reward",
    "normalized_cost", "cost_return_mean", "cost_limit", "violation_rate", "episodes",
    "run_status",
)  # fmt: skip
"""What `analysis.selection.choice.select` looks at."""

_SIGNS_OF_A_BROKEN_PART = ("TProtocolException", "ZSTD", "reading the stream registered")
"""In DuckDB's messages, which do not always name the part; the last one of a store behind a URI."""

_FILE_FUNCTION = re.compile(r"\b(read_\w+|parquet_\w+|sniff_csv|glob)\s*\(", re.IGNORECASE)

_QUERIES = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""Statement types of DuckDB that only read; MULTI is PIVOT."""

Result = TypeVar("Result")

_log = logging.getLogger("safesweep")


class Part(NamedTuple):
    """A file of a table as it was listed; a part that replaces it is another."""

    path: str
    size: int
    modified: int


class _UnreadablePart(Exception):
    """A part could not be read; perhaps it is not whole."""


class ResultStore:
    """The results under one store URI: a local folder, or a location that pyarrow can open.

    Nothing is read before it is asked for, and nothing is kept: every call sees the parts that
    are complete at that moment. Columns that only some parts have (a hyperparameter of another
    method, a column of a newer version) are null elsewhere. A missing table is an empty one.
    A file that is not a whole part (cut off by a copy that broke, say) is left out, with a
    warning that names it.

    Raises:
        InvalidInput: there is no folder at `uri`, or its file system is unknown.
        StoreProblem: the location cannot be read now; from every method.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        location = self.uri if "://" in self.uri else str(Path(self.uri).expanduser().resolve())
        with store_problems(self.uri, "read"):
            self._filesystem, self._root = fs.FileSystem.from_uri(location)
            info = self._filesystem.get_file_info(self._root)
        if info.type == fs.FileType.File:
            raise InvalidInput(f"storage: {self.uri!r} is a file, not the folder of a store")
        # An object store has no empty folders: there, no object under a name means no results.
        if info.type != fs.FileType.Directory:
            raise InvalidInput(f"storage: there is no result store at {self.uri!r}")
        self._local = isinstance(self._filesystem, fs.LocalFileSystem)
        self._footers: dict[Part, pa.Schema] = {}
        self._broken: set[Part] = set()

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

    def confirmations(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per run and policy that was evaluated again after it had been chosen."""
        return self._frame("confirmations", filters, columns)

    def configurations(self, **filters: object) -> pandas.DataFrame:
        """One row per configuration of the runs: `config_id` and the columns `hp_<name>`."""
        return self._while_parts_move(lambda: self._configurations(filters))

    def to_judge(self, step: str | int = "last", **filters: object) -> pandas.DataFrame:
        """The part of `evaluations` that decides a selection at one step, and no more.

        `select(store.to_judge(step), step=step)` is `select(store.evaluations(), step=step)`: of
        each run the rows at its last step ("last"), those and the rows at a step (a number), or
        all rows ("best"); and only the columns that `select` looks at.
        """
        return self._while_parts_move(lambda: self._judged(step, filters))

    def heartbeats(self) -> list[dict[str, Any]]:
        """What the trials that are training now last said: `trial_id, sweep, algorithm, task,
        run_ids, step, steps, host, process, time`."""
        selector = fs.FileSelector(f"{self._root}/heartbeats", allow_not_found=True)
        beats = []
        with store_problems(self.uri, "read"):
            for info in self._filesystem.get_file_info(selector):
                if not info.base_name.endswith(".json") or info.base_name.startswith("."):
                    continue
                try:
                    with self._filesystem.open_input_stream(info.path) as stream:
                        beats.append(json.loads(stream.read()))
                except FileNotFoundError:  # that trial has just ended
                    continue
        return sorted(beats, key=lambda beat: str(beat["trial_id"]))

    def published(self) -> pandas.DataFrame:
        """The numbers that the papers print (`analysis.published.load_published`)."""
        return published.load_published()

    def sql(self, query: str) -> pandas.DataFrame:
        """Answer one SQL query (DuckDB's dialect) over the views `runs`, `evaluations`,
        `episodes`, `metrics`, `sweeps` and `published`.

        The connection is closed to files, network, extensions and settings. The column `sweep`
        is the sweep that trained a run; what a sweep comprises is `sweeps.run_ids`.

        Raises:
            InvalidInput: not one query, a statement that is not a query, or a query that fails;
                one line.
        """
        return self._while_parts_move(lambda: self._answer(query))

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

    def _answer(self, query: str) -> pandas.DataFrame:
        named = [table for table in VIEWS if re.search(rf"\b{table}\b", query, re.IGNORECASE)]
        with self._connection(named or VIEWS) as connection:
            _require_query(connection, query)
            return connection.execute(query).fetch_df()

    @contextlib.contextmanager
    def _connection(
        self, views: Sequence[str], members: pa.Table | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with these views that can read the parts behind them and nothing else."""
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
            }
        )
        parts = {table: self._parts(table) for table in TABLES if table in views}
        paths = [part.path for found in parts.values() for part in found]
        try:
            connection.execute("SET parquet_metadata_cache = true")
            # It goes to standard output, in the middle of what is printed there.
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET allowed_paths = ?", [paths if self._local else []])
            connection.execute("SET enable_external_access = false")
            for table, found in parts.items():
                if self._local and found:
                    _create_view(connection, table, found)
                else:
                    connection.register(table, self._dataset(table))
            if "published" in views:
                connection.register("published", _published_table())
            if members is not None:
                connection.register("members", members)
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET lock_configuration = true")
            yield connection
        except duckdb.Error as error:
            found_now = self._filesystem.get_file_info(paths)
            if any(info.type == fs.FileType.NotFound for info in found_now):
                raise FileNotFoundError(_one_line(error)) from error
            if any(sign in str(error) for sign in (*_SIGNS_OF_A_BROKEN_PART, *paths)):
                raise _UnreadablePart(_one_line(error)) from error
            raise InvalidInput(f"query: {_one_line(error)}") from error
        finally:
            connection.close()

    def _configurations(self, filters: dict[str, object]) -> pandas.DataFrame:
        condition, values, members = self._where("runs", filters)
        with self._connection(["runs"], members) as connection:
            columns = connection.execute("SELECT * FROM runs LIMIT 0").fetch_df().columns
            names = sorted(name for name in columns if name.startswith(_HYPERPARAMETER))
            chosen = "".join(f', any_value("{name}") AS "{name}"' for name in names)
            query = f"SELECT config_id{chosen} FROM runs WHERE {condition} "
            return connection.execute(query + "GROUP BY config_id ORDER BY 1", values).fetch_df()

    def _where(
        self, table: str, filters: dict[str, object]
    ) -> tuple[str, list[object], pa.Table | None]:
        """A condition in SQL, its parameters, and the view `members` that it may speak of."""
        given = {name: value for name, value in filters.items() if value is not None}
        sweep = given.pop("sweep", None)
        for name in given:
            require_choice("filter", name, (*TABLES[table], "sweep"))
        terms = [f"{name} IN (SELECT unnest(?))" for name in given]
        if sweep is not None:
            terms.append(
                "(run_id IN (SELECT run_id FROM members) OR sweep IN (SELECT sweep FROM members))"
            )
        members = None if sweep is None else self._member_table(sweep)
        return " AND ".join(terms) or "true", [_listed(v) for v in given.values()], members

    def _judged(self, step: str | int, filters: dict[str, object]) -> pandas.DataFrame:
        condition, values, members = self._where("evaluations", filters)
        query = f"SELECT {', '.join(_JUDGED_COLUMNS)} FROM evaluations WHERE {condition}"
        if step != "best":
            last = "SELECT run_id, policy, max(step) AS step FROM evaluations"
            names = ", ".join(f"e.{name}" for name in _JUDGED_COLUMNS)
            at_step = "" if step == "last" else " OR e.step = ?"
            query = (
                f"WITH e AS ({query}), "
                f"last AS ({last} WHERE {condition} GROUP BY run_id, policy) "
                f"SELECT {names} FROM e JOIN last ON e.run_id = last.run_id "
                "AND e.policy IS NOT DISTINCT FROM last.policy "
                f"WHERE e.step IS NOT DISTINCT FROM last.step{at_step}"
            )
            values += values
            if step != "last":
                values.append(step)
        with self._connection(["evaluations"], members) as connection:
            frame = connection.execute(query, values).fetch_df()
        if isinstance(step, int) and not (frame["step"] == step).any():
            # So that it can be said at which steps there are evaluations.
            return self._judged("best", filters)
        return frame

    def _frame(
        self, table: str, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        return self._while_parts_move(lambda: self._read(table, filters, columns))

    def _read(
        self, table: str, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        dataset = self._dataset(table)
        names = None if columns is None else _matching(columns, dataset.schema.names)
        condition: ds.Expression | None = None
        for column, wanted in filters.items():
            if wanted is None:
                continue
            require_choice("filter", column, dataset.schema.names)
            if column == "sweep" and table != "sweeps":
                term = self._membership(wanted)
            else:
                term = ds.field(column).isin(_listed(wanted))
            condition = term if condition is None else condition & term
        return dataset.to_table(columns=names, filter=condition).to_pandas()

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
        partitions = {_sweep_of(part.path) for part in self._parts("runs")}
        run_ids: list[str] = []
        unplanned: list[str] = []
        for name in map(str, _listed(wanted)):
            if name in members:
                run_ids.extend(members[name])
            elif name in partitions:
                unplanned.append(name)
            else:
                raise _unknown_sweep(name, self.uri, {*members, *partitions})
        return run_ids, unplanned

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
        """The schema that the part itself declares."""
        if part not in self._footers:
            with self._filesystem.open_input_file(part.path) as stream:
                self._footers[part] = pq.read_schema(stream)
        return self._footers[part]

    def _leave_out_broken(self) -> bool:
        """Look for files that are no whole parts; whether any was found that was not known."""
        found = False
        for table in TABLES:
            for part in self._parts(table):
                try:
                    self._footer(part)
                except FileNotFoundError:
                    continue
                except (pa.ArrowInvalid, OSError) as error:
                    self._require_bytes(part)
                    found = True
                    self._broken.add(part)
                    reason = " ".join(str(error).split())
                    _log.warning("storage: left out %s, not a whole part (%s)", part.path, reason)
        return found

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
        for attempt in range(_ATTEMPTS):
            try:
                return read()
            except FileNotFoundError as error:
                if attempt == _ATTEMPTS - 1:
                    raise InvalidInput(f"storage: a part keeps vanishing ({error})") from error
                time.sleep(_PAUSE_SECONDS * attempt)
            except (_UnreadablePart, pa.ArrowInvalid, OSError) as error:
                with store_problems(self.uri, "read"):
                    found = self._leave_out_broken()
                if not found:
                    reason = " ".join(str(error).split())
                    raise InvalidInput(f"storage: a part cannot be read ({reason})") from error
        raise AssertionError("unreachable")

    def _dataset(self, table: str) -> ds.Dataset:
        parts = self._parts(table)
        schema = self._schema(table, parts)
        if not parts:
            return ds.dataset(schema.empty_table())
        return ds.dataset(
            [part.path for part in parts],
            schema=schema,
            format="parquet",
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
        for part in parts:
            for field in self._footer(part):
                if field.name not in columns:
                    added[field.name] = common_type(added.get(field.name), field.type)
        fields = [(name, columns[name]) for name in names]
        return pa.schema([*fields, *((name, added[name]) for name in sorted(added))])


def hyperparameter_columns(runs: pandas.DataFrame) -> list[str]:
    """The columns `hp_<name>` of a frame of runs that take more than one value."""
    return [
        column
        for column in runs.columns
        if column.startswith(_HYPERPARAMETER) and runs[column].nunique(dropna=False) > 1
    ]


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
            _list_into(folder, folder, folders, parts)
            if all(os.stat(path).st_ino == number for path, number in folders.items()):
                return parts
        except FileNotFoundError:
            if not os.path.exists(folder):
                return []
        time.sleep(_PAUSE_SECONDS)
    raise FileNotFoundError(f"{folder} changes faster than it can be listed")


def _list_into(root: str, folder: str, folders: dict[str, int], parts: list[Part]) -> None:
    folders[folder] = os.stat(folder).st_ino
    with os.scandir(folder) as entries:
        for entry in entries:
            names = os.path.relpath(entry.path, root).split(os.sep)
            if entry.is_dir():
                if not names[-1].startswith((".", "_")):
                    _list_into(root, entry.path, folders, parts)
            elif _is_part(names):
                state = entry.stat()
                parts.append(Part(entry.path, state.st_size, state.st_mtime_ns))


def _create_view(connection: duckdb.DuckDBPyConnection, table: str, parts: Sequence[Part]) -> None:
    """A view of the parts in which the table's own columns are there and have their types."""
    paths = ", ".join(_quoted(part.path) for part in parts)
    source = (
        f"read_parquet([{paths}], union_by_name = true, hive_partitioning = true, "
        "hive_types = {'sweep': VARCHAR})"
    )
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
    found = {
        str(name): str(kind)
        for name, kind in connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]
        ).fetchall()
    }
    wanted = {name: _SQL_TYPES[kind] for name, kind in TABLES[table].items()}
    if all(found.get(name) == kind for name, kind in wanted.items()):
        return
    replaced = [
        f'CAST("{name}" AS {kind}) AS "{name}"'
        if name in found
        else f'CAST(NULL AS {kind}) AS "{name}"'
        for name, kind in wanted.items()
    ]
    others = [f'"{name}"' for name in found if name not in wanted]
    columns = ", ".join([*replaced, *others])
    connection.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT {columns} FROM {source}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that the patterns mean, in the patterns' order; a plain name must be there."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if "*" in pattern:
            chosen.update(dict.fromkeys(name for name in names if fnmatchcase(name, pattern)))
        else:
            chosen[require_choice("columns", pattern, names)] = None
    return list(chosen)


def _require_query(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise InvalidInput(f"query: {len(statements)} statements given; it must be one")
    kind = statements[0].type.name
    if kind not in _QUERIES:
        raise InvalidInput(
            f"query: {kind} is not allowed; the store is read-only, so it must be a SELECT"
        )
    # The parts of the store can be opened, and nothing else: that is left to DuckDB. This only
    # gives one answer for all files.
    function = _FILE_FUNCTION.search(query)
    if function is not None:
        raise InvalidInput(f"query: {function[1]} is not allowed; the views are {', '.join(VIEWS)}")


def _published_table() -> pa.Table:
    fields = [(name, ARROW_TYPES[kind]) for name, kind in published.COLUMNS.items()]
    schema = pa.schema([*fields, ("ambiguous", pa.bool_())])
    return pa.Table.from_pandas(published.load_published(), schema=schema, preserve_index=False)


def _listed(wanted: object) -> list[Any]:
    if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes):
        return list(wanted)
    return [wanted]


def _sweep_of(path: str) -> str:
    return next((part[6:] for part in path.split("/") if part.startswith("sweep=")), "")


def _unknown_sweep(name: str, uri: str, known: set[str]) -> InvalidInput:
    if not known:
        return InvalidInput(f"sweep: {name!r} is unknown; the store {uri!r} holds no sweep")
    close = nearest(name, known)
    hint = f"; did you mean {close!r}?" if close else ""
    return InvalidInput(
        f"sweep: {name!r} is not in the store {uri!r}, which has {', '.join(sorted(known))}{hint}"
    )


def _one_line(error: Exception) -> str:
    """DuckDB's message without the drawing of where in the query it is."""
    text = str(error).split("\n\nLINE")[0].split("\nLINE")[0]
    return " ".join(text.split())
