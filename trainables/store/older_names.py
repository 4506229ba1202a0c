"""Today's names of the columns and metrics that older versions of the tables called otherwise."""

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from safesweep.trainables.store.schema import VERSION_KEY

LAST_VERSION = 4
"""Of the tables, in which there were older names."""

RENAMED_COLUMNS: Mapping[str, Mapping[str, str]] = {"runs": {"halvings": "memory_splits"}}
"""By table, today's column of an older one."""

RENAMED_METRICS: Mapping[str, str] = {"true_doomed_recognised": "true_infeasible_recall"}
"""Today's name of a metric."""

TABLES_WITH_OLDER_NAMES = (*RENAMED_COLUMNS, "metrics")


def may_have_older_names(schema: pa.Schema) -> bool:
    """Whether a part was written under a version that had older names, or does not say."""
    said = (schema.metadata or {}).get(VERSION_KEY.encode())
    return said is None or int(said) <= LAST_VERSION


def with_older_metrics(names: Iterable[object]) -> list[object]:
    """Names of metrics, and what older versions called the same."""
    wanted = list(names)
    return [*wanted, *(old for old, new in RENAMED_METRICS.items() if new in wanted)]


def with_current_names(table: str, rows: pa.Table) -> pa.Table:
    """Rows of a table that older versions may have written, with today's names."""
    for old, new in RENAMED_COLUMNS.get(table, {}).items():
        if old not in rows.column_names:
            continue
        if new in rows.column_names:
            values = pc.coalesce(rows[new], rows[old])
            rows = rows.set_column(rows.column_names.index(new), new, values).drop_columns([old])
        else:
            rows = rows.rename_columns({old: new})
    if table == "metrics" and "name" in rows.column_names:
        names = rows["name"]
        for old, new in RENAMED_METRICS.items():
            names = pc.if_else(pc.equal(names, old), new, names)
        rows = rows.set_column(rows.column_names.index("name"), "name", names)
    return rows
