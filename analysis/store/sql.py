"""The views of a store in DuckDB, and which statements may run over them."""

import re
from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from safesweep.search_spaces.validation import InvalidInput, one_line
from safesweep.trainables.store.older_names import RENAMED_COLUMNS, RENAMED_METRICS
from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX
from safesweep.trainables.store.schema import TABLES

VIEWS = (*TABLES, "finals", "published")

SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP WITH TIME ZONE",
    "list<string>": "VARCHAR[]",
}


HYPERPARAMETER_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
}


_FILE_FUNCTION = re.compile(r"\b(read_\w+|parquet_\w+|sniff_csv|glob)\s*\(", re.IGNORECASE)


_QUERIES = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""Statement types of DuckDB that only read; MULTI is PIVOT, also within another statement."""


_FIRST_WORDS = frozenset(
    {"SELECT", "WITH", "FROM", "VALUES", "TABLE", "PIVOT", "UNPIVOT", "DESCRIBE", "DESC", "SHOW"}
    | {"SUMMARIZE"}
)
"""How what only reads begins, also after EXPLAIN: DuckDB does not tell what that explains."""


_WORD = re.compile(r"\w+")


def parts_source(paths: Sequence[str]) -> str:
    """A table of the parts at these paths of DuckDB's."""
    listed = ", ".join(map(_quoted, paths))
    return (
        f"read_parquet([{listed}], union_by_name = true, hive_partitioning = true, "
        "hive_types = {'sweep': VARCHAR})"
    )


def create_view(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    source: str,
    hyperparameters: Mapping[str, pa.DataType],
    older_names: bool,
) -> None:
    """A view of the parts in which the table's own columns are there and have their types, and the
    hyperparameters are columns: of parts of older versions, or out of `config`.

    Args:
        older_names: whether some part may have older names (`trainables.store.older_names`).
    """
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")
    found = {
        str(name): str(kind)
        for name, kind in connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]
        ).fetchall()
    }
    wanted = {name: SQL_TYPES[kind] for name, kind in TABLES[table].items()}
    alike = all(found.get(name) == kind for name, kind in wanted.items())
    if alike and not hyperparameters and not older_names:
        return
    renamed = RENAMED_COLUMNS.get(table, {})
    values = {name: identifier(name) if name in found else "NULL" for name in wanted}
    for old, new in renamed.items():
        if old in found:
            values[new] = f"coalesce({values[new]}, {identifier(old)})"
    if table == "metrics" and older_names:
        cases = " ".join(
            f"WHEN {_quoted(old)} THEN {_quoted(new)}" for old, new in RENAMED_METRICS.items()
        )
        values["name"] = f"CASE name {cases} ELSE name END"
    replaced = [
        f"CAST({values[name]} AS {kind}) AS {identifier(name)}" for name, kind in wanted.items()
    ]
    known = {**wanted, **hyperparameters, **renamed}
    others = [
        identifier(name)
        for name in found
        if name not in known and not name.startswith(HYPERPARAMETER_PREFIX)
    ]
    config = "CAST(config AS VARCHAR)" if "config" in found else "NULL"
    for name, kind in hyperparameters.items():
        sql_type = HYPERPARAMETER_SQL_TYPES.get(kind, "VARCHAR")
        path = f"$.{identifier(name.removeprefix(HYPERPARAMETER_PREFIX))}"
        value = f"json_extract_string({config}, {_quoted(path)})"
        if name in found:
            value = f"coalesce(CAST({identifier(name)} AS VARCHAR), {value})"
        others.append(f"CAST({value} AS {sql_type}) AS {identifier(name)}")
    columns = ", ".join([*replaced, *others])
    connection.execute(f"CREATE OR REPLACE VIEW {table} AS SELECT {columns} FROM {source}")


AMONG_MEMBERS = "(run_id IN (SELECT run_id FROM members) OR sweep IN (SELECT sweep FROM members))"
"""Whose runs are those of the view `members` (`StoreReader._member_table`)."""


def restrict_view(connection: duckdb.DuckDBPyConnection, table: str, sweeps: Sequence[str]) -> None:
    """Let a view hold nothing but the runs in the view `members`, which some sweeps comprise. The
    view `runs` has to be restricted first."""
    if table in ("sweeps", "labels"):
        condition = f"sweep IN ({', '.join(map(_quoted, sweeps))})"
    elif table == "hyperparameters":
        condition = "config_id IN (SELECT config_id FROM runs)"
    else:
        condition = AMONG_MEMBERS
    connection.execute(f"ALTER VIEW {table} RENAME TO every_{table}")
    connection.execute(f"CREATE VIEW {table} AS SELECT * FROM every_{table} WHERE {condition}")


def create_finals(connection: duckdb.DuckDBPyConnection) -> None:
    """The view `finals`, from `runs` and `evaluations`."""
    evaluated = [name for name in TABLES["evaluations"] if name != "run_status"]
    columns = [f"e.{name}" for name in evaluated]
    columns.insert(2, "e.sweep")
    described = connection.execute("SELECT * FROM runs LIMIT 0").fetch_df().columns
    columns += [f"r.{identifier(name)}" for name in described if name not in (*evaluated, "sweep")]
    connection.execute(
        f"CREATE VIEW finals AS SELECT {', '.join(columns)} FROM evaluations e "
        "JOIN runs r ON r.run_id = e.run_id AND r.sweep = e.sweep WHERE r.status = 'completed' "
        "QUALIFY e.step = max(e.step) OVER (PARTITION BY e.run_id, e.sweep, e.policy)"
    )


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def require_query(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """One statement that only reads, also inside of it.

    That nothing can be written anyway is left to DuckDB and the file system that it is given; this
    gives one answer whatever is tried.

    Raises:
        InvalidInput: it is none.
        duckdb.Error: it is no SQL.
    """
    statements = connection.extract_statements(query)
    if len(statements) != 1:
        raise InvalidInput(f"query: {len(statements)} statements given; it must be one")
    kind = statements[0].type.name
    if kind not in _QUERIES:
        raise InvalidInput(
            f"query: {kind} is not allowed; the store is read-only, so it must be a SELECT"
        )
    word = _first_word(query)
    if word not in _FIRST_WORDS:
        raise InvalidInput(
            f"query: {word} is not allowed; the store is read-only, so it must be a SELECT"
        )
    function = _FILE_FUNCTION.search(query)
    if function is not None:
        raise InvalidInput(f"query: {function[1]} is not allowed; the views are {', '.join(VIEWS)}")


def _first_word(query: str) -> str:
    """The word with which a statement begins; the one that is explained, if it is EXPLAIN."""
    tokens = [
        (at, kind) for at, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment
    ]
    depth = 0
    words: list[str] = []
    for at, _ in tokens:
        found = _WORD.match(query, at)
        word = found[0].upper() if found else query[at]
        if not words and word == "(":
            continue
        # EXPLAIN has its options in parentheses.
        depth += (word == "(") - (word == ")")
        if found and depth == 0:
            words.append(word)
        if words and words[-1] not in ("EXPLAIN", "ANALYZE", "ANALYSE", "VERBOSE"):
            break
    return words[-1] if words else ""


def message_of(error: Exception) -> str:
    """DuckDB's message without the drawing of where in the query it is."""
    text = str(error).split("\n\nLINE")[0].split("\nLINE")[0]
    if text.startswith("Traceback"):  # What Python's file system raised.
        text = text.rstrip().rpartition("\n")[2]
    return one_line(text)
