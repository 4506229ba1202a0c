"""Reading a result store: pandas frames, and SQL over its tables that can do nothing but read."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from safesweep.analysis import published
from safesweep.search_spaces.validation import InvalidInput, did_you_mean, require_choice
from safesweep.trainables.store.completeness import COLUMNS as COMPLETENESS_COLUMNS
from safesweep.trainables.store.completeness import Part, PartReader, find_incomplete
from safesweep.trainables.store.schema import COUNT_COLUMNS, TABLES, VERSION_KEY
from safesweep.trainables.store.writer import (
    ARROW_TYPES,
    common_type,
    hyperparameter_types,
    seals_of,
    store_problems,
)

VIEWS = (*TABLES, "finals", "published")

_SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
    "list<string>": "VARCHAR[]",
}
_HYPERPARAMETER_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}
_PARTITIONING = ds.partitioning(pa.schema([("sweep", pa.string())]), flavor="hive")
_HYPERPARAMETER = "hp_"
_PATTERN_SIGNS = frozenset("*?[]=")
"""In a path, DuckDB takes these for a pattern or a partition."""
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

    def hyperparameters(
        self, columns: Sequence[str] | None = None, **filters: object
    ) -> pandas.DataFrame:
        """One row per configuration and hyperparameter, in long form; what `runs` has as columns.

        A configuration that was trained in several trials stands there as often.
        """
        return self._frame("hyperparameters", filters, columns)

    def finals(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per completed run and policy at its last step: the columns of its evaluation,
        those of its run, and `hp_<name>`. Arguments as in `runs`."""
        return self._while_parts_move(lambda: self._finals(filters, columns))

    def incomplete(self, thorough: bool = False) -> pandas.DataFrame:
        """The runs of which rows are missing in some table, a part having been cut or lost.

        Args:
            thorough: compare what the parts of a local store hold with what was written, instead
                of their lengths.

        Returns:
            `run_id, config_id, algorithm, task, seed, sweep, trial_id`; `compacted`, whether the
            run's row is in a part of several trials; `lacks`, what is missing in words.
        """
        return self._while_parts_move(lambda: self._incomplete(thorough))

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
        """Answer one SQL query (DuckDB's dialect) over the views `runs`, `finals`, `evaluations`,
        `episodes`, `metrics`, `hyperparameters`, `sweeps`, `confirmations` and `published`.

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
        needed = {*views, *(("runs", "evaluations") if "finals" in views else ())}
        parts = {table: self._parts(table) for table in TABLES if table in needed}
        paths = [part.path for found in parts.values() for part in found]
        try:
            connection.execute("SET parquet_metadata_cache = true")
            # It goes to standard output, in the middle of what is printed there.
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET allowed_paths = ?", [paths if self._local else []])
            connection.execute("SET enable_external_access = false")
            odd = bool(_PATTERN_SIGNS & set(self._root))
            for table, found in parts.items():
                if self._local and found and not odd:
                    source = _parts_source(found)
                else:
                    source = f"stored_{table}"
                    connection.register(source, self._dataset(table))
                types = self._hyperparameter_types(found) if table == "runs" else {}
                _create_view(connection, table, source, types)
            if "finals" in views:
                _create_finals(connection)
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
            chosen = "".join(f", {_identifier(name)}" for name in names)
            # Of each configuration one row, so that its values are looked up once.
            query = (
                f"SELECT config_id{chosen} FROM (SELECT * FROM runs WHERE {condition} "
                "QUALIFY row_number() OVER (PARTITION BY config_id ORDER BY run_id) = 1) "
                "ORDER BY 1"
            )
            return connection.execute(query, values).fetch_df()

    def _where(
        self, table: str, filters: dict[str, object]
    ) -> tuple[str, list[object], pa.Table | None]:
        """A condition in SQL, its parameters, and the view `members` that it may speak of."""
        given = {name: value for name, value in filters.items() if value is not None}
        sweep = given.pop("sweep", None)
        columns = (
            {**TABLES["runs"], **TABLES["evaluations"]} if table == "finals" else TABLES[table]
        )
        for name in given:
            require_choice("filter", name, (*columns, "sweep"))
        terms = [f"{name} IN (SELECT unnest(?))" for name in given]
        if sweep is not None:
            terms.append(
                "(run_id IN (SELECT run_id FROM members) OR sweep IN (SELECT sweep FROM members))"
            )
        members = None if sweep is None else self._member_table(sweep)
        return " AND ".join(terms) or "true", [_listed(v) for v in given.values()], members

    def _finals(
        self, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        given = dict(filters)
        extra = {name: given.pop(name) for name in list(given) if name.startswith(_HYPERPARAMETER)}
        condition, values, members = self._where("finals", given)
        with self._connection(["finals"], members) as connection:
            described = connection.execute("SELECT * FROM finals LIMIT 0").fetch_df()
            names = list(map(str, described.columns))
            for name, wanted in extra.items():
                condition += f" AND {_identifier(require_choice('filter', name, names))}"
                condition += " IN (SELECT unnest(?))"
                values.append(_listed(wanted))
            chosen = names if columns is None else _matching(columns, names)
            listed = ", ".join(map(_identifier, chosen))
            query = f"SELECT {listed} FROM finals WHERE {condition} ORDER BY run_id, policy"
            table: pa.Table = connection.execute(query, values).to_arrow_table()
            return table.to_pandas()

    def _incomplete(self, thorough: bool) -> pandas.DataFrame:
        dataset = self._dataset("runs")
        known = {part.path: part for part in self._parts("runs")}
        columns = [*COMPLETENESS_COLUMNS, *(["__filename"] if known else [])]
        runs = dataset.to_table(columns=columns).to_pandas()
        runs["part"] = runs.pop("__filename").map(known) if known else None
        reader = PartReader(
            seals=lambda part: seals_of(self._footer(part)),
            rows=self._rows_of,
            owners=self._owners_in,
            content=self._content_of,
        )
        parts = {table: self._parts(table) for table in COUNT_COLUMNS}
        return find_incomplete(runs, parts, reader, thorough)

    def _rows_of(self, part: Part) -> int | None:
        with self._read_or_none(part), self._filesystem.open_input_file(part.path) as stream:
            return int(pq.read_metadata(stream).num_rows)
        return None

    def _owners_in(self, part: Part, column: str, whole: bool) -> pandas.Series | None:
        with self._read_or_none(part), self._filesystem.open_input_file(part.path) as stream:
            file = pq.ParquetFile(stream)
            groups = (
                file.read_row_group(group, columns=None if whole else [column])[column]
                for group in range(file.num_row_groups)
            )
            return pandas.concat(
                [pandas.Series(dtype=object), *(values.to_pandas() for values in groups)]
            )
        return None

    def _content_of(self, part: Part) -> bytes | None:
        """The bytes of a part of a local store; from elsewhere they would have to be sent."""
        return Path(part.path).read_bytes() if self._local else None

    @contextlib.contextmanager
    def _read_or_none(self, part: Part) -> Iterator[None]:
        """Leave out a part that proves not to be whole within."""
        try:
            yield
        except FileNotFoundError:
            return
        except (pa.ArrowInvalid, OSError) as error:
            self._leave_out(part, error)

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
        types = self._hyperparameter_types(self._parts(table)) if table == "runs" else {}
        known = [
            *dataset.schema.names,
            *(name for name in types if name not in dataset.schema.names),
        ]
        names = None if columns is None else _matching(columns, known)
        condition: ds.Expression | None = None
        later: dict[str, object] = {}
        for column, wanted in filters.items():
            if wanted is None:
                continue
            require_choice("filter", column, known)
            if column == "sweep" and table != "sweeps":
                term = self._membership(wanted)
            elif column in types:
                later[column] = wanted
                continue
            else:
                term = ds.field(column).isin(_listed(wanted))
            condition = term if condition is None else condition & term
        if not types:
            return dataset.to_table(columns=names, filter=condition).to_pandas()
        chosen = names or known
        wanted_types = {name: types[name] for name in types if name in {*chosen, *later}}
        stored = [name for name in dataset.schema.names if name in {*chosen, *wanted_types}]
        if wanted_types and "config" not in stored:
            stored.append("config")
        rows = dataset.to_table(columns=stored, filter=condition)
        rows = _with_hyperparameters(rows, wanted_types)
        for column, wanted in later.items():
            rows = rows.filter(pc.is_in(rows[column], value_set=pa.array(_listed(wanted))))
        return rows.select(chosen).to_pandas()

    def _hyperparameter_types(self, parts: Sequence[Part]) -> dict[str, pa.DataType]:
        """The columns `hp_<name>` of `runs` with their types, by name; what the parts say of their
        hyperparameters, and the columns that parts of older versions have."""
        found: dict[str, pa.DataType] = {}
        for part in parts:
            schema = self._footer(part)
            said = {
                _HYPERPARAMETER + name: kind for name, kind in hyperparameter_types(schema).items()
            }
            for field in schema:
                if field.name.startswith(_HYPERPARAMETER):
                    said[field.name] = field.type
            for name, kind in said.items():
                found[name] = common_type(found.get(name), kind)
        return dict(sorted(found.items()))

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
        partitions = {part.sweep for part in self._parts("runs")}
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
        reason = " ".join(str(error).split())
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


def with_incomplete(runs: pandas.DataFrame, lacking: pandas.DataFrame) -> pandas.DataFrame:
    """`runs`, where those that lack rows (`ResultStore.incomplete`) say so instead of how they had
    ended."""
    reasons = dict(zip(lacking["run_id"], lacking["lacks"], strict=True))
    affected = runs["run_id"].isin(lacking["run_id"])
    return runs.assign(
        status=runs["status"].mask(affected, "incomplete"),
        error=runs["error"].mask(affected, runs["run_id"].map(reasons)),
    )


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


def _parts_source(parts: Sequence[Part]) -> str:
    paths = ", ".join(_quoted(part.path) for part in parts)
    return (
        f"read_parquet([{paths}], union_by_name = true, hive_partitioning = true, "
        "hive_types = {'sweep': VARCHAR})"
    )


def _create_view(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    source: str,
    hyperparameters: Mapping[str, pa.DataType],
) -> None:
    """A view of the parts in which the table's own columns are there and have their types, and the
    hyperparameters are columns: of parts of older versions, or out of `config`."""
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
    found = {
        str(name): str(kind)
        for name, kind in connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]
        ).fetchall()
    }
    wanted = {name: _SQL_TYPES[kind] for name, kind in TABLES[table].items()}
    if not hyperparameters and all(found.get(name) == kind for name, kind in wanted.items()):
        return
    replaced = [
        f"CAST({_identifier(name)} AS {kind}) AS {_identifier(name)}"
        if name in found
        else f"CAST(NULL AS {kind}) AS {_identifier(name)}"
        for name, kind in wanted.items()
    ]
    others = [_identifier(name) for name in found if name not in {**wanted, **hyperparameters}]
    config = "CAST(config AS VARCHAR)" if "config" in found else "NULL"
    for name, kind in hyperparameters.items():
        sql_type = _HYPERPARAMETER_SQL_TYPES.get(kind, "VARCHAR")
        path = f'$."{name.removeprefix(_HYPERPARAMETER)}"'
        value = f"json_extract_string({config}, {_quoted(path)})"
        if name in found:
            value = f"coalesce(CAST({_identifier(name)} AS VARCHAR), {value})"
        others.append(f"CAST({value} AS {sql_type}) AS {_identifier(name)}")
    columns = ", ".join([*replaced, *others])
    connection.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT {columns} FROM {source}")


def _create_finals(connection: duckdb.DuckDBPyConnection) -> None:
    """The view `finals`, from `runs` and `evaluations`."""
    evaluated = [name for name in TABLES["evaluations"] if name != "run_status"]
    columns = [f"e.{name}" for name in evaluated]
    columns.insert(2, "e.sweep")
    described = connection.execute("SELECT * FROM runs LIMIT 0").fetch_df().columns
    columns += [f"r.{_identifier(name)}" for name in described if name not in (*evaluated, "sweep")]
    connection.execute(
        f"CREATE VIEW finals AS SELECT {', '.join(columns)} FROM evaluations e "
        "JOIN runs r ON r.run_id = e.run_id AND r.sweep = e.sweep WHERE r.status = 'completed' "
        "QUALIFY e.step = max(e.step) OVER (PARTITION BY e.run_id, e.sweep, e.policy)"
    )


def _with_hyperparameters(runs: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Runs with columns `hp_<name>` of these types: what parts of older versions have in such
    columns, and the values in the column `config` of the others."""
    if not types:
        return runs
    encoded = runs["config"].combine_chunks().dictionary_encode()
    configs = [json.loads(text) if text else {} for text in encoded.dictionary.to_pylist()]
    for column, kind in types.items():
        name = column.removeprefix(_HYPERPARAMETER)
        values = pa.array([_typed(config.get(name), kind) for config in configs], kind)
        taken = values.take(encoded.indices) if len(values) else pa.nulls(runs.num_rows, kind)
        if column in runs.column_names:
            place = runs.column_names.index(column)
            taken = pc.coalesce(runs[column].cast(kind), pa.chunked_array([taken]))
            runs = runs.set_column(place, column, taken)
        else:
            runs = runs.append_column(column, taken)
    return runs


def _typed(value: Any, kind: pa.DataType) -> Any:
    """A hyperparameter as a value of a column that other methods may share."""
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value
    return json.dumps(value)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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


def _unknown_sweep(name: str, uri: str, known: set[str]) -> InvalidInput:
    if not known:
        return InvalidInput(f"sweep: {name!r} is unknown; the store {uri!r} holds no sweep")
    hint = did_you_mean(name, known)
    return InvalidInput(
        f"sweep: {name!r} is not in the store {uri!r}, which has {', '.join(sorted(known))}{hint}"
    )


def _one_line(error: Exception) -> str:
    """DuckDB's message without the drawing of where in the query it is."""
    text = str(error).split("\n\nLINE")[0].split("\nLINE")[0]
    return " ".join(text.split())
