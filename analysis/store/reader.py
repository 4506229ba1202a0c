"""A result store as analysis sees it: its tables, and SQL over them that only reads."""

import contextlib
import html
import re
from collections.abc import Iterator, Sequence

import duckdb
import pandas
import pyarrow as pa
from pyarrow import fs

from safesweep.analysis import published
from safesweep.analysis.store.limits import MEMORY_BYTES, SECONDS, QueryLimits
from safesweep.analysis.store.parts_file_system import SCHEME, PartsFileSystem
from safesweep.analysis.store.sql import (
    AMONG_MEMBERS,
    VIEWS,
    create_finals,
    create_view,
    identifier,
    message_of,
    parts_source,
    require_query,
    restrict_view,
)
from safesweep.search_spaces.validation import InvalidInput, require_choice
from safesweep.trainables.store.completeness import Part
from safesweep.trainables.store.ownership import PLACE
from safesweep.trainables.store.reader import (
    HYPERPARAMETER_PREFIX,
    StoreReader,
    UnreadablePart,
    as_list,
    matching_columns,
)
from safesweep.trainables.store.schema import TABLES
from safesweep.trainables.store.writer import (
    ARROW_TYPES,
)

_JUDGED_COLUMNS = (
    "run_id", "config_id", "algorithm", "task", "policy", "seed", "step", "normalized_reward",
    "reward_return_mean", "normalized_cost", "cost_return_mean", "cost_limit", "violation_rate",
    "episodes", "run_status",
)  # fmt: skip
"""What `analysis.selection.choice.select` looks at."""


MANY_SMALL, SMALL_BYTES = 200, 2**15
"""From so many parts up to this size they are read before DuckDB is asked."""

_SIGNS_OF_A_BROKEN_PART = ("TProtocolException", "ZSTD", "reading the stream registered")
"""In DuckDB's messages, which do not always name the part; the last one of a store behind a URI."""


class ResultStore(StoreReader):
    """The results under one store URI, their views, and SQL over them. See `StoreReader`."""

    def finals(self, columns: Sequence[str] | None = None, **filters: object) -> pandas.DataFrame:
        """One row per completed run and policy at its last step: the columns of its evaluation,
        those of its run, and `hp_<name>`. Arguments as in `runs`."""
        return self._while_parts_move(lambda: self._finals(filters, columns))

    def configurations(self, **filters: object) -> pandas.DataFrame:
        """One row per configuration of the runs: `config_id`, `algorithm` and the columns
        `hp_<name>`."""
        return self._while_parts_move(lambda: self._configurations(filters))

    def to_judge(self, step: str | int = "last", **filters: object) -> pandas.DataFrame:
        """The part of `evaluations` that decides a selection at one step, and no more.

        `select(store.to_judge(step), step=step)` is `select(store.evaluations(), step=step)`: of
        each run the rows at its last step ("last"), those and the rows at a step (a number), or
        all rows ("best"); and only the columns that `select` looks at.
        """
        return self._while_parts_move(lambda: self._judged(step, filters))

    def published(self) -> pandas.DataFrame:
        """The numbers that the papers print (`analysis.published.load_published`)."""
        return published.load_published()

    def sql(
        self,
        query: str,
        memory_bytes: int = MEMORY_BYTES,
        seconds: float = SECONDS,
        sweeps: Sequence[str] = (),
    ) -> pandas.DataFrame:
        """Answer one SQL query (DuckDB's dialect) over the views `runs`, `finals`, `evaluations`,
        `episodes`, `metrics`, `hyperparameters`, `sweeps`, `labels`, `confirmations`,
        `measurements` and `published`.

        The connection is closed to files, network, extensions and settings. The column `sweep`
        is the sweep that trained a run; what a sweep comprises is `sweeps.run_ids`.

        Args:
            memory_bytes: what it may take while it is worked out, and again for the answer.
            seconds: how long it may take.
            sweeps: the views hold the runs that these sweeps comprise, and no others; all views
                but `published`.

        Raises:
            InvalidInput: an unknown sweep, not one query, a statement that is not a query, or a
                query that fails or takes more than it may; one line.
        """
        limits = QueryLimits(memory_bytes, seconds)
        return self._while_parts_move(lambda: self._answer(query, limits, tuple(sweeps)))

    def _repr_html_(self) -> str:
        sweeps = self.sweeps(["sweep", "status", "created_at", "run_ids"])
        ended = self.run_states()
        runs = sweeps["run_ids"].map(len)
        completed = set(ended.loc[ended["status"] == "completed", "run_id"])
        shown: str = sweeps.assign(
            runs=runs,
            completed=[sum(run in completed for run in ids) for ids in sweeps["run_ids"]],
        )[["sweep", "status", "runs", "completed", "created_at"]].to_html(index=False)
        return f"<p>Results in {html.escape(self.uri)}</p>{shown}"

    def _answer(self, query: str, limits: QueryLimits, sweeps: tuple[str, ...]) -> pandas.DataFrame:
        named = [table for table in VIEWS if re.search(rf"\b{table}\b", query, re.IGNORECASE)]
        members = self._member_table(sweeps) if sweeps else None
        with self._connection(
            named or VIEWS, members, memory_bytes=limits.memory_bytes, sweeps=sweeps
        ) as connection:
            require_query(connection, query)
            return limits.answer(connection, query)

    @contextlib.contextmanager
    def _connection(
        self,
        views: Sequence[str],
        members: pa.Table | None = None,
        memory_bytes: int | None = None,
        sweeps: tuple[str, ...] = (),
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A database with these views that can read the parts behind them and nothing else; with
        `sweeps` they hold the `members` alone, which are theirs."""
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "python_enable_replacements": "false",
                # A folder for what does not fit in memory would be one that can be written.
                "temp_directory": "",
            }
        )
        needed = {*views, *(("runs", "evaluations") if "finals" in views else ())}
        if sweeps and "hyperparameters" in views:
            needed.add("runs")
        parts = {table: self._divided(table) for table in TABLES if table in needed}
        apart = {table: self._apart(whole) for table, (whole, _) in parts.items()}
        scanned = [part for _, large in apart.values() for part in large]
        if self._local:
            # DuckDB compares nothing with a checksum.
            self._require_sound(scanned)
        paths = [p.path for whole, others in parts.values() for p in (*whole, *others)]
        files = PartsFileSystem(self._root, scanned if self._local else ())
        try:
            connection.register_filesystem(files)
            connection.execute("SET parquet_metadata_cache = true")
            # It goes to standard output, in the middle of what is printed there.
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET allowed_paths = ?", [list(files.names.values())])
            connection.execute("SET enable_external_access = false")
            if members is not None:
                connection.register("members", members)
            for table, (whole, others) in parts.items():
                older = table == "measurements" and bool(self._older_measurements())
                if self._local and whole and not older:
                    small, large = apart[table]
                    in_memory = self._small_tables(table, small)
                    if others:
                        in_memory.append(self._counted_rows(table, others).drop_columns([PLACE]))
                    sources = [f"{table}_{number}" for number in range(len(in_memory))]
                    for name, rows in zip(sources, in_memory, strict=True):
                        connection.register(name, rows)
                    if large:
                        sources.insert(0, parts_source([files.names[part.path] for part in large]))
                    source = f"(FROM {' UNION ALL BY NAME FROM '.join(sources)})"
                else:
                    source = f"stored_{table}"
                    connection.register(source, self._dataset(table))
                types = self._hyperparameter_types([*whole, *others]) if table == "runs" else {}
                create_view(connection, table, source, types, self.has_older_names(table))
                if sweeps:
                    restrict_view(connection, table, sweeps)
            if "finals" in views:
                create_finals(connection)
            if "published" in views:
                connection.register("published", _published_table())
            connection.execute("SET TimeZone = 'UTC'")
            if memory_bytes is not None:
                connection.execute("SET memory_limit = ?", [f"{memory_bytes}B"])
            connection.execute("SET lock_configuration = true")
            yield connection
        except duckdb.Error as error:
            found_now = self._filesystem.get_file_info(paths)
            if any(info.type == fs.FileType.NotFound for info in found_now):
                raise FileNotFoundError(message_of(error)) from error
            if any(sign in str(error) for sign in (*_SIGNS_OF_A_BROKEN_PART, f"{SCHEME}://")):
                raise UnreadablePart(message_of(error)) from error
            raise InvalidInput(f"query: {message_of(error)}") from error
        finally:
            connection.close()

    def _apart(self, parts: list[Part]) -> tuple[list[Part], list[Part]]:
        """The small parts of a table of a local store, where they are so many that DuckDB would
        spend its time on opening them; and the others."""
        small = [part for part in parts if part.size <= SMALL_BYTES]
        if not self._local or len(small) < MANY_SMALL:
            return [], parts
        return small, [part for part in parts if part.size > SMALL_BYTES]

    def _configurations(self, filters: dict[str, object]) -> pandas.DataFrame:
        condition, values, members = self._where("runs", filters)
        with self._connection(["runs"], members) as connection:
            columns = connection.execute("SELECT * FROM runs LIMIT 0").fetch_df().columns
            names = sorted(name for name in columns if name.startswith(HYPERPARAMETER_PREFIX))
            chosen = "".join(f", {identifier(name)}" for name in names)
            # Of each configuration one row, so that its values are looked up once.
            query = (
                f"SELECT config_id, algorithm{chosen} FROM (SELECT * FROM runs WHERE {condition} "
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
            terms.append(AMONG_MEMBERS)
        members = None if sweep is None else self._member_table(sweep)
        return " AND ".join(terms) or "true", [as_list(v) for v in given.values()], members

    def _finals(
        self, filters: dict[str, object], columns: Sequence[str] | None
    ) -> pandas.DataFrame:
        given = dict(filters)
        extra = {
            name: given.pop(name) for name in list(given) if name.startswith(HYPERPARAMETER_PREFIX)
        }
        condition, values, members = self._where("finals", given)
        with self._connection(["finals"], members) as connection:
            described = connection.execute("SELECT * FROM finals LIMIT 0").fetch_df()
            names = list(map(str, described.columns))
            for name, wanted in extra.items():
                condition += f" AND {identifier(require_choice('filter', name, names))}"
                condition += " IN (SELECT unnest(?))"
                values.append(as_list(wanted))
            chosen = names if columns is None else matching_columns(columns, names)
            listed = ", ".join(map(identifier, chosen))
            query = f"SELECT {listed} FROM finals WHERE {condition} ORDER BY run_id, policy"
            table: pa.Table = connection.sql(query, params=values).to_arrow_table()
            frame: pandas.DataFrame = table.to_pandas()
            return frame

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


def hyperparameter_columns(runs: pandas.DataFrame) -> list[str]:
    """The columns `hp_<name>` of runs or configurations that take more than one value within a
    method: methods differ in what they have."""
    columns = [name for name in runs.columns if name.startswith(HYPERPARAMETER_PREFIX)]
    values = runs.groupby("algorithm")[columns].nunique(dropna=False) if columns else runs[[]]
    return [name for name in columns if (values[name] > 1).any()]


def varying_values(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The `hyperparameter_columns` of runs or configurations, a value missing where it is the same
    in all of its method."""
    values = runs[hyperparameter_columns(runs)].copy()
    for _, rows in runs.groupby("algorithm"):
        same = values.columns.difference(hyperparameter_columns(rows))
        values[same] = values[same].astype(object)
        values.loc[rows.index, same] = None
    return values


def with_incomplete(runs: pandas.DataFrame, lacking: pandas.DataFrame) -> pandas.DataFrame:
    """`runs`, where those that lack rows (`ResultStore.incomplete`) say so instead of how they had
    ended."""
    reasons = dict(zip(lacking["run_id"], lacking["lacks"], strict=True))
    affected = runs["run_id"].isin(lacking["run_id"])
    return runs.assign(
        status=runs["status"].mask(affected, "incomplete"),
        error=runs["error"].mask(affected, runs["run_id"].map(reasons)),
    )


def _published_table() -> pa.Table:
    fields = [(name, ARROW_TYPES[kind]) for name, kind in published.COLUMNS.items()]
    schema = pa.schema([*fields, ("ambiguous", pa.bool_())])
    return pa.Table.from_pandas(published.load_published(), schema=schema, preserve_index=False)
