"""Reading a result store: pandas frames, and SQL over its tables that can do nothing but read."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pandas
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from analysis import published
from search_spaces.validation import InvalidInput, nearest, require_choice
from trainables.tables import TABLES

VIEWS = (*TABLES, "published")

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
}
_PARTITIONING = ds.partitioning(pa.schema([("sweep", pa.string())]), flavor="hive")
_HYPERPARAMETER = "hp_"
_ATTEMPTS = 5

_QUERIES = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""Statement types of DuckDB that only read; MULTI is PIVOT."""

Result = TypeVar("Result")


class ResultStore:
    """The results under one store URI: a local folder, or a location that pyarrow can open.

    Nothing is read before it is asked for, and nothing is kept: every call sees the parts that
    are complete at that moment. Columns that only some parts have (a hyperparameter of another
    method, a column of a newer version) are null elsewhere. A missing table is an empty one.

    Raises:
        InvalidInput: there is no folder at `uri`, or its file system is unknown.
    """

    def __init__(self, uri: str | Path) -> None:
        self.uri = str(uri)
        location = self.uri if "://" in self.uri else str(Path(self.uri).expanduser().resolve())
        try:
            self._filesystem, self._root = fs.FileSystem.from_uri(location)
            info = self._filesystem.get_file_info(self._root)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInput(f"storage: {self.uri!r} cannot be read ({reason})") from error
        if info.type == fs.FileType.File:
            raise InvalidInput(f"storage: {self.uri!r} is a file, not the folder of a store")
        # An object store has no empty folders: there, no object under a name means no results.
        if info.type != fs.FileType.Directory:
            raise InvalidInput(f"storage: there is no result store at {self.uri!r}")

    def runs(self, **filters: object) -> pandas.DataFrame:
        """One row per ended run, with a column `hp_<name>` for each hyperparameter.

        Args:
            filters: column=value, or column=[values]; `sweep=` selects the runs that the sweep
                comprises, wherever they were trained.

        Raises:
            InvalidInput: no such column, or no such sweep.
        """
        return self._frame("runs", filters)

    def evaluations(self, **filters: object) -> pandas.DataFrame:
        """One row per (run, step, policy): means over episodes. Filters as in `runs`."""
        return self._frame("evaluations", filters)

    def episodes(self, **filters: object) -> pandas.DataFrame:
        """One row per evaluated episode: returns and length. Filters as in `runs`."""
        return self._frame("episodes", filters)

    def metrics(self, **filters: object) -> pandas.DataFrame:
        """Losses and diagnostics in long form: run, step, name, value. Filters as in `runs`."""
        return self._frame("metrics", filters)

    def sweeps(self, **filters: object) -> pandas.DataFrame:
        """One row per sweep: its YAML text and the `run_ids` that it comprises."""
        return self._frame("sweeps", filters)

    def heartbeats(self) -> list[dict[str, Any]]:
        """What the trials that are training now last said: `trial_id, sweep, algorithm, task,
        run_ids, step, steps, host, process, time`."""
        selector = fs.FileSelector(f"{self._root}/heartbeats", allow_not_found=True)
        beats = []
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
        return _while_parts_move(lambda: self._answer(query))

    def _answer(self, query: str) -> pandas.DataFrame:
        connection = duckdb.connect(
            config={
                "enable_external_access": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
            }
        )
        try:
            _require_query(connection, query)
            for table in TABLES:
                connection.register(table, self._dataset(table))
            connection.register("published", _published_table())
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET lock_configuration = true")
            return connection.execute(query).fetch_df()
        except duckdb.Error as error:
            if "No such file" in str(error):
                raise FileNotFoundError(str(error)) from error
            raise InvalidInput(f"query: {_one_line(error)}") from error
        finally:
            connection.close()

    def _frame(self, table: str, filters: dict[str, object]) -> pandas.DataFrame:
        return _while_parts_move(lambda: self._read(table, filters))

    def _read(self, table: str, filters: dict[str, object]) -> pandas.DataFrame:
        dataset = self._dataset(table)
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
        return dataset.to_table(filter=condition).to_pandas()

    def _membership(self, wanted: object) -> ds.Expression:
        """Rows of the runs that the sweeps comprise; of a sweep without a plan, its own folder."""
        plans = self._dataset("sweeps").to_table(columns=["sweep", "run_ids"]).to_pandas()
        members = dict(zip(plans["sweep"], plans["run_ids"], strict=True))
        partitions = {_sweep_of(path) for path in self._parts("runs")}
        run_ids: list[str] = []
        unplanned: list[str] = []
        for name in map(str, _listed(wanted)):
            if name in members:
                run_ids.extend(members[name])
            elif name in partitions:
                unplanned.append(name)
            else:
                raise _unknown_sweep(name, self.uri, {*members, *partitions})
        term = ds.field("run_id").isin(pa.array(run_ids, pa.string()))
        return term | ds.field("sweep").isin(unplanned) if unplanned else term

    def _parts(self, table: str) -> list[str]:
        """Whole parts of a table, in a fixed order; what lies in dot-folders is not one."""
        selector = fs.FileSelector(f"{self._root}/{table}", recursive=True, allow_not_found=True)
        paths = []
        for info in self._filesystem.get_file_info(selector):
            relative = info.path[len(self._root) :]
            hidden = any(name.startswith((".", "_")) for name in relative.split("/"))
            if info.type == fs.FileType.File and relative.endswith(".parquet") and not hidden:
                paths.append(info.path)
        return sorted(paths)

    def _dataset(self, table: str) -> ds.Dataset:
        parts = self._parts(table)
        schema = self._schema(table, parts)
        if not parts:
            return ds.dataset(schema.empty_table())
        return ds.dataset(
            parts,
            schema=schema,
            format="parquet",
            filesystem=self._filesystem,
            partitioning=_PARTITIONING,
            partition_base_dir=f"{self._root}/{table}",
        )

    def _schema(self, table: str, parts: list[str]) -> pa.Schema:
        """The table's own columns, `sweep` among the identities, then what the parts add."""
        columns = {name: _ARROW_TYPES[kind] for name, kind in TABLES[table].items()}
        names = list(columns)
        names.insert(next((i for i, n in enumerate(names) if not n.endswith("_id")), 0), "sweep")
        columns["sweep"] = pa.string()
        added: dict[str, pa.DataType] = {}
        # Only `runs` has columns of its own per part; elsewhere the first part stands for all.
        for path in parts if table == "runs" else parts[:1]:
            with self._filesystem.open_input_file(path) as stream:
                for field in pq.read_schema(stream):
                    if field.name not in columns:
                        added[field.name] = _common_type(added.get(field.name), field.type)
        fields = [(name, columns[name]) for name in names]
        return pa.schema([*fields, *((name, added[name]) for name in sorted(added))])


def hyperparameter_columns(runs: pandas.DataFrame) -> list[str]:
    """The columns `hp_<name>` of a frame of runs that take more than one value."""
    return [
        column
        for column in runs.columns
        if column.startswith(_HYPERPARAMETER) and runs[column].nunique(dropna=False) > 1
    ]


def _require_query(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise InvalidInput(f"query: {len(statements)} statements given; it must be one")
    kind = statements[0].type.name
    if kind not in _QUERIES:
        raise InvalidInput(
            f"query: {kind} is not allowed; the store is read-only, so it must be a SELECT"
        )


def _published_table() -> pa.Table:
    fields = [(name, _ARROW_TYPES[kind]) for name, kind in published.COLUMNS.items()]
    schema = pa.schema([*fields, ("ambiguous", pa.bool_())])
    return pa.Table.from_pandas(published.load_published(), schema=schema, preserve_index=False)


def _common_type(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    """A type that holds both; text where nothing else does (two methods, one name, two kinds)."""
    if one is None or pa.types.is_null(one):
        return other
    schemas = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        return pa.string()


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


def _while_parts_move(read: Callable[[], Result]) -> Result:
    """Read again when a part that was listed was replaced or removed before it was opened."""
    for attempt in range(_ATTEMPTS):
        try:
            return read()
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(f"storage: a part cannot be read ({reason})") from error
    raise AssertionError("unreachable")
