"""A store is plain Parquet: whoever reads a table's folder sees every row and column."""

from pathlib import Path

import duckdb
import pandas
import polars
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.labels import tag_sweep
from safesweep.trainables.store.schema import TABLES

_WRITTEN = [table for table in TABLES if table not in ("confirmations", "measurements")]
_KINDS = {
    "string": ("object", "String", "VARCHAR"),
    "int64": ("int64", "Int64", "BIGINT"),
    "float64": ("float64", "Float64", "DOUBLE"),
}


@pytest.fixture(params=[False, True], ids=["as written", "compacted"])
def store(request: pytest.FixtureRequest, store_copy: Path) -> Path:
    tag_sweep(str(store_copy), "methods", ["night"])
    if request.param:
        compact(str(store_copy), grace_seconds=0)
    return store_copy


@pytest.mark.parametrize("table", _WRITTEN)
def test_four_readers_see_the_same(store: Path, table: str) -> None:
    folder = store / table
    names = {*TABLES[table], "sweep"}
    ours = getattr(ResultStore(store), table)()
    with_pandas = pandas.read_parquet(folder)
    with_polars = polars.scan_parquet(folder).collect()
    with_arrow = ds.dataset(folder, partitioning="hive").to_table()
    with_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/**/*.parquet')")
    assert set(with_pandas) == set(with_polars.columns) == set(with_arrow.column_names) == names
    assert set(with_duckdb.columns) == names
    assert len(with_pandas) == len(with_polars) == with_arrow.num_rows == len(ours) > 0
    found = with_duckdb.fetchall()
    assert len(found) == len(ours)
    types = dict(zip(with_duckdb.columns, map(str, with_duckdb.types), strict=True))
    for name, kind in TABLES[table].items():
        if kind in _KINDS:
            _, in_polars, in_duckdb = _KINDS[kind]
            assert str(with_polars.schema[name]) == in_polars
            assert types[name] == in_duckdb
    key = next(name for name in ("run_id", "config_id", "spec", "sweep") if name in names)
    there = sorted(ours[key])
    assert sorted(with_pandas[key]) == sorted(with_polars[key]) == there
    assert sorted(row[with_duckdb.columns.index(key)] for row in found) == there


@pytest.mark.parametrize("table", _WRITTEN)
def test_every_part_has_the_columns_of_its_table(store: Path, table: str) -> None:
    schemas = [
        pq.read_schema(path).remove_metadata() for path in store.glob(f"{table}/*/*.parquet")
    ]
    assert schemas
    assert all(schema == schemas[0] for schema in schemas)
    assert schemas[0].names == list(TABLES[table])
    assert pa.null() not in schemas[0].types


def test_hyperparameters_in_both_forms_agree(full_store: Path) -> None:
    store = ResultStore(full_store)
    runs = store.runs().drop_duplicates("config_id").set_index("config_id")
    values = store.hyperparameters()
    assert set(values["name"]) == {
        name.removeprefix("hp_") for name in runs if name.startswith("hp_")
    }
    assert (values["number"].isna() != values["text"].isna()).all()
    for row in values.to_dict("records"):
        wide = runs.loc[row["config_id"], f"hp_{row['name']}"]
        if pandas.isna(row["text"]):
            assert float(wide) == row["number"]
        else:
            assert wide == row["text"]


def test_columns_of_hyperparameters_are_typed_in_every_way_to_ask(full_store: Path) -> None:
    store = ResultStore(full_store)
    kinds = store.sql(
        "SELECT any_value(typeof(hp_learning_rate)) AS rate, any_value(typeof(hp_safety_mask)) "
        "AS mask, any_value(typeof(hp_latent_dim)) AS latent, any_value(typeof(hp_hidden_dim)) "
        "AS hidden, any_value(typeof(hp_prior)) AS prior FROM runs"
    ).iloc[0]
    # The import calls its sizes `big` and `small`.
    assert kinds.tolist() == ["DOUBLE", "BOOLEAN", "BIGINT", "VARCHAR", "VARCHAR"]
    asked = store.sql("SELECT * FROM runs ORDER BY run_id")
    read = store.runs().sort_values("run_id", ignore_index=True)
    columns = [name for name in read if name.startswith("hp_")]
    assert set(columns) == {name for name in asked if name.startswith("hp_")}
    pandas.testing.assert_frame_equal(
        asked[columns].astype(object).where(asked[columns].notna(), None),
        read[columns].astype(object).where(read[columns].notna(), None),
        check_dtype=False,
    )
    assert len(store.runs(hp_learning_rate=0.004)) == 2
    assert set(store.runs(columns=["hp_clip"], algorithm="ppo")["hp_clip"].dropna()) == {0.2}


def test_finals_are_the_last_evaluations_of_completed_runs(full_store: Path) -> None:
    store = ResultStore(full_store)
    runs, evaluations = store.runs(), store.evaluations()
    last = evaluations.groupby(["run_id", "policy"])["step"].transform("max")
    rows = evaluations[evaluations["step"] == last].drop(columns=["run_status"])
    shared = [name for name in runs if name in rows and name != "run_id"]
    wanted = rows.merge(runs[runs["status"] == "completed"].drop(columns=shared), on="run_id")
    found = store.finals()
    assert set(found) == set(wanted)
    order = ["run_id", "policy"]
    pandas.testing.assert_frame_equal(
        found.sort_values(order, ignore_index=True),
        wanted[list(found)].sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    assert set(found["policy"]) == {"lspc_o", "lspc_s", "cvae", "flrp", "bc", "ppo"}
    assert len(found) == found[order].drop_duplicates().shape[0]
    chosen = store.finals(columns=["run_id", "hp_learning_rate"], sweep="troubled")
    assert list(chosen) == ["run_id", "hp_learning_rate"]
    assert len(chosen) == 3
