import contextlib
import json
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safesweep.analysis.selection.choice import select
from safesweep.analysis.store import reader
from safesweep.analysis.store.reader import ResultStore, hyperparameter_columns, varying_values
from safesweep.analysis.store.sql import VIEWS
from safesweep.search_spaces.validation import InvalidInput, Problem
from safesweep.trainables.store import reader as store_reader
from safesweep.trainables.store.completeness import Part
from safesweep.trainables.store.reader import UnreadablePart
from safesweep.trainables.store.schema import SCHEMA_VERSION, TABLES, VERSION_KEY
from safesweep.trainables.store.writer import ResultWriter
from tests.quick import slow_but


@pytest.fixture
def store(write_sweep, tmp_path: Path) -> ResultStore:
    configs = [{"feasibility_expectile": level} for level in (0.6, 0.9)]
    write_sweep("first", configs, metrics=lambda config, seed: {"loss/q": 1.0})
    return ResultStore(tmp_path / "store")


OTHER = [{"feasibility_expectile": 0.7}]
"""A configuration that `store` does not hold."""


def test_the_five_tables_are_read(store: ResultStore) -> None:
    assert len(store.runs()) == 6
    assert len(store.evaluations()) == 12
    assert len(store.episodes()) == 48
    assert len(store.metrics()) == 6
    assert store.sweeps()["sweep"].tolist() == ["first"]
    assert len(store.sweeps()["run_ids"].iloc[0]) == 6


def test_hyperparameters_are_typed_columns(store: ResultStore) -> None:
    runs = store.runs()
    assert runs["hp_feasibility_expectile"].dtype == "float64"
    assert runs["hp_feasibility_expectile"].value_counts().to_dict() == {0.6: 3, 0.9: 3}
    assert hyperparameter_columns(runs) == ["hp_feasibility_expectile"]


@pytest.mark.parametrize("view", VIEWS)
def test_small_parts_that_are_read_beforehand_give_the_same_rows(
    full_store: Path, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = f"SELECT * FROM {view} ORDER BY ALL"
    by_duckdb = ResultStore(full_store).sql(query)
    monkeypatch.setattr(reader, "MANY_SMALL", 1)
    opened = ResultStore(full_store)
    for _ in range(2):
        pandas.testing.assert_frame_equal(opened.sql(query), by_duckdb)


@pytest.mark.parametrize("table", ["runs", "evaluations"])
def test_parts_that_are_read_some_at_a_time_give_the_same_rows(
    full_store: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ("run_id", "sweep", "seed", "algorithm")
    at_once = ResultStore(full_store).table_so_far(table, columns)
    monkeypatch.setattr(store_reader, "_PARTS_AT_ONCE", 1)
    pandas.testing.assert_frame_equal(ResultStore(full_store).table_so_far(table, columns), at_once)


def test_small_parts_that_are_read_beforehand_are_compared_with_their_checksums(
    write_sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, level in (("first", 0.6), ("second", 0.9)):
        write_sweep(name, [{"feasibility_expectile": level}])
    part, *_ = sorted((tmp_path / "store" / "runs" / "sweep=first").glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 1
    part.write_bytes(content)
    monkeypatch.setattr(reader, "MANY_SMALL", 1)
    assert set(ResultStore(tmp_path / "store").sql("FROM runs")["sweep"]) == {"second"}
    assert part.name in caplog.text


def test_an_empty_store_has_empty_tables_with_all_columns_and_types(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    for table, columns in TABLES.items():
        frame = getattr(store, table)()
        assert frame.empty
        assert set(frame.columns) == {*columns, "sweep"}
    answer = store.sql("SELECT avg(normalized_cost) AS cost, count(*) AS rows FROM evaluations")
    assert answer["rows"].tolist() == [0]
    types = store.sql("DESCRIBE runs").set_index("column_name")["column_type"]
    assert types["seed"] == "BIGINT"
    assert types["started_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["sweep"] == "VARCHAR"


@pytest.mark.parametrize("uri", ["nowhere", "unknown-scheme://host/store"])
def test_a_store_that_is_not_there_is_one_line(tmp_path: Path, uri: str) -> None:
    location = uri if "://" in uri else str(tmp_path / uri)
    with pytest.raises(Problem, match="storage: ") as refusal:
        ResultStore(location)
    assert "\n" not in str(refusal.value)


def test_a_file_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(InvalidInput, match="is a file"):
        ResultStore(tmp_path / "file")


def test_filters_take_one_value_or_several(store: ResultStore) -> None:
    assert set(store.runs(seed=1)["seed"]) == {1}
    assert set(store.runs(seed=[0, 2])["seed"]) == {0, 2}
    assert len(store.evaluations(seed=0, step=2000)) == 2
    assert len(store.runs(algorithm=None)) == 6
    assert store.runs(algorithm="lspc").empty


def test_an_unknown_column_or_sweep_is_named_with_the_nearest(store: ResultStore) -> None:
    with pytest.raises(InvalidInput, match=r"'algoritm' is not one of .*did you mean 'algorithm'"):
        store.runs(algoritm="flrp")
    with pytest.raises(InvalidInput, match=r"sweep: 'frist' is not in .*did you mean 'first'"):
        store.evaluations(sweep="frist")


def test_a_sweep_comprises_runs_that_another_one_trained(write_sweep, tmp_path: Path) -> None:
    first = write_sweep("first", [{"feasibility_expectile": 0.6}])
    second = write_sweep("second", [{"feasibility_expectile": 0.9}], also=first)
    store = ResultStore(tmp_path / "store")
    assert set(store.runs(sweep="second")["run_id"]) == {*first, *second}
    assert set(store.evaluations(sweep="second")["run_id"]) == {*first, *second}
    assert set(store.episodes(sweep="first")["run_id"]) == set(first)
    assert len(store.runs(sweep=["first", "second"])) == 6
    stored = store.sql("SELECT DISTINCT sweep FROM runs ORDER BY sweep")
    assert stored["sweep"].tolist() == ["first", "second"]
    comprised = store.sql(
        "SELECT count(*) AS runs FROM (SELECT unnest(run_ids) AS run_id FROM sweeps "
        "WHERE sweep = 'second') JOIN runs USING (run_id)"
    )
    assert comprised["runs"].tolist() == [6]


def test_runs_without_a_plan_belong_to_the_sweep_of_their_folder(write_sweep, tmp_path) -> None:
    run_ids = write_sweep("first")
    (tmp_path / "store/sweeps/sweep=first/plan.parquet").unlink()
    assert set(ResultStore(tmp_path / "store").runs(sweep="first")["run_id"]) == set(run_ids)


def test_new_columns_join_old_parts_by_name(write_sweep, tmp_path: Path) -> None:
    write_sweep("old", [{"feasibility_expectile": 0.6, "depth": 2}])
    write_sweep("new", [{"feasibility_expectile": 0.6, "depth": 2.5, "activation": "relu"}])
    store = ResultStore(tmp_path / "store")
    runs = store.runs().sort_values("sweep")
    assert runs["hp_depth"].tolist() == [2.5] * 3 + [2.0] * 3
    assert runs["hp_activation"].fillna("none").tolist() == ["relu"] * 3 + ["none"] * 3
    counted = store.sql("SELECT count(hp_activation) AS known, count(*) AS runs FROM runs")
    assert counted.iloc[0].tolist() == [3, 6]


def test_one_name_with_two_kinds_of_values_becomes_text(write_sweep, tmp_path: Path) -> None:
    write_sweep("old", [{"feasibility_expectile": 0.6, "signal": 3}])
    write_sweep("new", [{"feasibility_expectile": 0.6, "signal": "sparse"}])
    assert set(ResultStore(tmp_path / "store").runs()["hp_signal"]) == {"3", "sparse"}


def test_what_lies_in_dot_folders_or_is_no_part_is_not_read(store, tmp_path: Path) -> None:
    for folder in (".partial", "runs/.partial", "runs/sweep=first/.partial"):
        (tmp_path / "store" / folder).mkdir(exist_ok=True, parents=True)
        (tmp_path / "store" / folder / "half.parquet").write_bytes(b"PAR1")
    (tmp_path / "store/runs/sweep=first/notes.txt").write_text("text")
    assert len(store.runs()) == 6
    assert store.sql("SELECT count(*) AS n FROM runs")["n"].tolist() == [6]


def test_a_part_cut_off_at_any_byte_is_left_out_with_a_warning(
    store: ResultStore, write_sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_sweep("whole", OTHER)
    count = "SELECT count(*) AS n FROM evaluations"
    for table in ("evaluations", "runs"):
        part = next((tmp_path / f"store/{table}/sweep=first").glob("*.parquet"))
        content = part.read_bytes()
        for length in [*range(0, len(content), len(content) // 12), len(content) - 1]:
            part.write_bytes(content[:length])
            caplog.clear()
            fresh = ResultStore(tmp_path / "store")
            assert set(getattr(fresh, table)()["sweep"]) == {"whole"}
            assert [str(part) in line for line in caplog.messages] == [True]
            assert "\n" not in caplog.messages[0]
            if table == "evaluations":
                assert fresh.sql(count)["n"].tolist() == [6]
                assert ResultStore(tmp_path / "store").sql(count)["n"].tolist() == [6]
        part.write_bytes(content)
        assert set(getattr(fresh, table)()["sweep"]) == {"first", "whole"}


def test_a_part_damaged_within_is_named_and_left_out(
    store: ResultStore, write_sweep, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_sweep("whole", OTHER)
    part = next((tmp_path / "store/evaluations/sweep=first").glob("*.parquet"))
    content = bytearray(part.read_bytes())
    content[4:400] = bytes(396)
    part.write_bytes(content)
    for read in (ResultStore.evaluations, lambda store: store.sql("SELECT * FROM evaluations")):
        fresh = ResultStore(tmp_path / "store")
        caplog.clear()
        assert set(read(fresh)["sweep"]) == {"whole"}
        assert [str(part) in line for line in caplog.messages] == [True]
        assert set(fresh.incomplete()["sweep"]) == {"first"}


def test_a_bit_that_flipped_changes_no_value_in_silence(
    store: ResultStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the bits of all pages; what lies between them is no value."""
    part = next((tmp_path / "store/episodes/sweep=first").glob("*.parquet"))
    content, whole = part.read_bytes(), store.episodes()
    generator = np.random.default_rng(0)
    silent, noticed = 0, 0
    for bit in generator.integers(8 * 4, 8 * len(content), 150):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        part.write_bytes(changed)
        try:
            found = ResultStore(tmp_path / "store").episodes()
        except Problem:
            noticed += 1
            continue
        if len(found) == len(whole):
            silent += not found[list(whole.columns)].equals(whole)
        else:
            noticed += 1
    assert silent == 0
    assert noticed > 50


def test_a_part_that_vanishes_between_listing_and_reading_is_looked_up_again(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Part(str(tmp_path / "store/evaluations/sweep=first/gone.parquet"), 1, 1)
    real, calls = store._parts, []

    def listing(table: str) -> list[Part]:
        calls.append(table)
        first = table == "evaluations" and calls.count(table) == 1
        return [*real(table), gone] if first else real(table)

    monkeypatch.setattr(store, "_parts", listing)
    assert len(store.evaluations()) == 12
    calls.clear()
    assert store.sql("SELECT count(*) AS n FROM evaluations")["n"].tolist() == [12]
    assert calls.count("evaluations") >= 2


def test_every_call_sees_what_was_written_since(store, write_sweep, tmp_path: Path) -> None:
    before = len(store.runs())
    write_sweep("later", [{"feasibility_expectile": 0.7}])
    assert len(store.runs()) == before + 3


def test_sql_joins_the_views(store: ResultStore) -> None:
    answer = store.sql(
        "SELECT r.hp_feasibility_expectile AS level, avg(e.normalized_reward) AS reward "
        "FROM evaluations e JOIN runs r USING (run_id) WHERE e.step = 2000 "
        "GROUP BY level ORDER BY level"
    )
    assert answer["level"].tolist() == [0.6, 0.9]
    assert answer["reward"].tolist() == pytest.approx([0.61, 0.91])
    printed = store.sql("SELECT count(*) AS n FROM published WHERE paper = 'flrp'")
    assert printed["n"].tolist() == [450]


def test_common_table_expressions_windows_and_pivots_are_queries(store: ResultStore) -> None:
    best = store.sql(
        "WITH means AS (SELECT task, config_id, avg(normalized_reward) AS reward FROM evaluations "
        "GROUP BY task, config_id) SELECT * FROM means "
        "QUALIFY row_number() OVER (PARTITION BY task ORDER BY reward DESC) = 1"
    )
    assert len(best) == 1
    assert len(store.sql("FROM runs")) == 6
    pivot = store.sql("PIVOT evaluations ON seed USING avg(normalized_cost) GROUP BY config_id")
    assert pivot.shape == (2, 4)
    assert "physical_plan" in store.sql("EXPLAIN SELECT 1")["explain_key"].tolist()


def test_a_long_query_draws_no_progress_on_standard_output(store: ResultStore) -> None:
    answer = store.sql("SELECT current_setting('enable_progress_bar') AS bar FROM runs LIMIT 1")
    assert answer["bar"].tolist() == [False]


FORBIDDEN = {
    "read a text file": "SELECT * FROM read_text('{outside}')",
    "read a CSV": "SELECT * FROM read_csv('{outside}')",
    "read a CSV by name": "SELECT * FROM '{outside}'",
    "read a blob": "SELECT * FROM read_blob('{outside}')",
    "read JSON": "SELECT * FROM read_json('{outside}')",
    "sniff a file": "SELECT * FROM sniff_csv('{outside}')",
    "read Parquet": "SELECT * FROM read_parquet('{part}')",
    "read Parquet metadata": "SELECT * FROM parquet_metadata('{part}')",
    "list files": "SELECT * FROM glob('{folder}/*')",
    "read a part by name": "SELECT * FROM '{outside}' JOIN runs ON true",
    "read a file of the store by a query": "SELECT * FROM query('FROM read_csv(''{outside}'')')",
    "the network by name": "SELECT * FROM 's3://bucket/table.parquet'",
    "raise the allowed paths": "SET allowed_paths = ['{outside}']",
    "read the network": "SELECT * FROM read_csv('https://example.invalid/table.csv')",
    "read a Python variable": "SELECT * FROM python_variable",
    "read the environment": "SELECT getenv('HOME')",
    "write": "COPY runs TO '{folder}/copy.csv'",
    "write from a query": "COPY (SELECT 1) TO '{folder}/copy.parquet'",
    "write within a query": "SELECT * FROM query('COPY runs TO ''{folder}/copy.csv''')",
    "export": "EXPORT DATABASE '{folder}/export'",
    "import": "IMPORT DATABASE '{folder}'",
    "attach": "ATTACH '{folder}/other.db'",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET enable_external_access = true",
    "set globally": "SET GLOBAL memory_limit = '1GB'",
    "unlock": "SET lock_configuration = false",
    "reset": "RESET threads",
    "pragma": "PRAGMA threads = 1",
    "call": "CALL enable_logging()",
    "log": "SELECT * FROM enable_logging()",
    "create": "CREATE TABLE other AS SELECT * FROM runs",
    "create a macro": "CREATE MACRO one() AS 1",
    "insert": "INSERT INTO runs VALUES (1)",
    "update": "UPDATE runs SET seed = 1",
    "delete": "DELETE FROM runs",
    "drop": "DROP VIEW runs",
    "prepare": "PREPARE other AS SELECT 1",
    "begin": "BEGIN",
    "two statements": "SELECT 1; COPY runs TO '{folder}/copy.csv'",
    "nothing": "",
    "only a comment": "-- nothing",
    "no SQL": "selec 1",
    "an unknown table": "SELECT * FROM nothing",
}


@pytest.mark.parametrize("query", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_sql_that_does_more_than_read_the_views_is_refused_with_one_line(
    store: ResultStore, tmp_path: Path, query: str
) -> None:
    python_variable = pandas.DataFrame({"secret": [1]})
    outside = tmp_path / "outside.csv"
    outside.write_text("a,b\n1,2\n")
    part = next((tmp_path / "store/runs/sweep=first").glob("*.parquet"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidInput, match=r"^query: ") as refusal:
        store.sql(query.format(outside=outside, folder=tmp_path, part=part))
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(python_variable) == 1


def test_heartbeats_tell_what_is_training(store: ResultStore, tmp_path: Path) -> None:
    assert store.heartbeats() == []
    writer = ResultWriter(str(tmp_path / "store"), "first")
    beat = {"trial_id": "abc", "sweep": "first", "algorithm": "flrp", "task": "BallRun",
            "run_ids": ["a-0"], "step": 5, "steps": 10, "seconds": 1.5, "waiting": False,
            "host": "node", "process": 7, "time": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    writer.write_bytes("heartbeats/abc.json", json.dumps(beat).encode())
    writer.write_bytes("heartbeats/.probe-1", b"")
    found = [{name: said[name] for name in beat} for said in store.heartbeats()]
    assert found == [beat]


def test_parts_of_older_and_newer_schemas_are_read_by_name(store, tmp_path: Path) -> None:
    """Version 1 wrote fewer columns, in another order; a version to come adds one."""
    folder = tmp_path / "store/evaluations/sweep=others"
    folder.mkdir()
    parts = {
        "none": ({"run_id": ["none-0"], "normalized_reward": pa.array([0.5])}, None),
        "1": ({"normalized_reward": pa.array([1], pa.int64()), "run_id": ["1-0"]}, 1),
        "99": ({"run_id": ["99-0"], "novelty": ["much"]}, 99),
    }
    for name, (columns, version) in parts.items():
        metadata = {VERSION_KEY: str(version)} if version else None
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{name}.parquet")
    runs = tmp_path / "store/runs/sweep=others"
    runs.mkdir()
    known = pa.table({"run_id": [f"{name}-0" for name in parts]})
    pq.write_table(known, runs / "known.parquet")
    frame = store.evaluations()
    others = frame[frame["sweep"] == "others"].set_index("run_id")
    assert others.loc["none-0", "normalized_reward"] == 0.5
    assert others.loc["1-0", "normalized_reward"] == 1.0
    assert pandas.isna(others.loc["1-0", "normalized_cost"])
    assert others.loc["99-0", "novelty"] == "much"
    assert (len(others), len(frame)) == (3, 15)
    answer = store.sql(
        "SELECT run_id, novelty, normalized_reward, typeof(normalized_reward) AS kind, "
        "normalized_cost FROM evaluations WHERE sweep = 'others' ORDER BY run_id"
    ).set_index("run_id")
    assert answer.loc["1-0", "normalized_reward"] == 1.0
    assert set(answer["kind"]) == {"DOUBLE"}
    assert answer["normalized_cost"].isna().all()
    assert answer["novelty"].fillna("none").tolist() == ["none", "much", "none"]
    versions = store.schema_versions().set_index(["table", "schema_version"])["parts"]
    assert versions["evaluations"].to_dict() == {1: 1, SCHEMA_VERSION: 1, 99: 1, pandas.NA: 1}
    assert versions[("runs", SCHEMA_VERSION)] == 1
    # Without a row in `runs` they are nobody's.
    (runs / "known.parquet").unlink()
    assert len(store.evaluations()) == 12


def test_what_varies_varies_within_a_method() -> None:
    runs = pandas.DataFrame(
        {
            "algorithm": ["bc", "flp", "flp", "bc"],
            "hp_rate": [0.1, 0.2, 0.2, 0.1],
            "hp_flow": [None, 1.0, 2.0, None],
            "hp_depth": [3, 4, 4, 5],
        }
    )
    assert hyperparameter_columns(runs) == ["hp_flow", "hp_depth"]
    found = varying_values(runs)
    assert [[value for value in row if pandas.notna(value)] for row in found.to_numpy()] == [
        [3], [1.0], [2.0], [5],
    ]  # fmt: skip


def test_configurations_have_their_hyperparameters(write_sweep, tmp_path: Path) -> None:
    write_sweep("first", [{"feasibility_expectile": level} for level in (0.6, 0.9)])
    write_sweep("second", [{"feasibility_expectile": 0.7, "depth": 3}], algorithm="lspc")
    store = ResultStore(tmp_path / "store")
    frame = store.configurations()
    assert sorted(frame["hp_feasibility_expectile"]) == [0.6, 0.7, 0.9]
    assert frame["hp_depth"].notna().sum() == 1
    assert set(store.configurations(sweep="first")["hp_feasibility_expectile"]) == {0.6, 0.9}
    assert len(store.configurations(algorithm="lspc", task=None)) == 1
    assert ResultStore(tmp_path).configurations().empty


def test_only_the_columns_asked_for_are_read(store: ResultStore) -> None:
    runs = store.runs(columns=["config_id", "hp_*"], seed=1)
    assert list(runs.columns) == ["config_id", "hp_feasibility_expectile"]
    assert len(runs) == 2
    with pytest.raises(InvalidInput, match=r"columns: 'sed' .*did you mean 'seed'"):
        store.runs(columns=["sed"])


@pytest.mark.parametrize("step", slow_but(["last", 1000], ["last", "best", 1000, 2000]))
@pytest.mark.parametrize("sweep", [None, "first", "second", "unplanned"])
def test_what_is_read_to_judge_leads_to_the_same_choice(
    write_sweep, tmp_path: Path, step: str | int, sweep: str | None
) -> None:
    configs = [{"feasibility_expectile": level} for level in (0.6, 0.9, 0.95)]
    first = write_sweep("first", configs)
    write_sweep("second", [{"feasibility_expectile": 0.8}], seeds=(3, 4), also=first[:3])
    write_sweep("unplanned", [{"feasibility_expectile": 0.7}], steps=(500, 1000))
    (tmp_path / "store/sweeps/sweep=unplanned/plan.parquet").unlink()
    # A seed that stopped before the others of its configuration is lost in both.
    write_sweep("early", [{"feasibility_expectile": 0.91}], steps=(1000, 2000))
    write_sweep("early", [{"feasibility_expectile": 0.91}], seeds=(7,), steps=(1000,))
    store = ResultStore(tmp_path / "store")
    whole = store.evaluations(sweep=sweep)
    if step == 2000 and sweep == "unplanned":
        step = 500
    judged = store.to_judge(step, sweep=sweep)
    pandas.testing.assert_frame_equal(select(judged, step=step), select(whole, step=step))
    if step == "last":
        assert len(judged) < len(whole)
    only = store.to_judge(step, sweep=sweep, algorithm=["lspc"], task=None)
    assert only.empty
    with pytest.raises(InvalidInput, match="did you mean 'algorithm'"):
        store.to_judge(step, algoritm="flrp")


def test_measurements_are_read_whatever_version_wrote_them(tmp_path: Path) -> None:
    ResultWriter(str(tmp_path), "new").write_measurements(
        "new",
        "t1",
        [
            {"run_id": "a-0", "algorithm": "lspc", "task": "BallRun", "seed": 0, "view": "states",
             "point": point, "quantity": "inside_share", "value": value}
            for point, value in enumerate((0.25, float("nan")))
        ],
    )  # fmt: skip
    older = tmp_path / "points"
    older.mkdir()
    (older / "toy.csv").write_text(
        "run_id,seed,task,view,point,quantity,value\n,1,Bandit,flp 1,0,action_1,0.5\n"
    )
    (older / "runs.csv").write_text(
        "run_id,seed,task,view,point,quantity,value\nb-0,0,CarRun,plane,0,reward_q,-2\n"
    )
    (older / "empty.csv").write_text("")
    store = ResultStore(tmp_path)
    found = store.measurements().set_index(["name", "point"]).sort_index()
    assert found["value"].to_dict() == {
        ("new", 0): 0.25, ("new", 1): pytest.approx(float("nan"), nan_ok=True),
        ("runs", 0): -2, ("toy", 0): 0.5,
    }  # fmt: skip
    assert found["run_id"].tolist() == ["a-0", "a-0", "b-0", ""]
    assert store.measurements(["value"], name="runs")["value"].tolist() == [-2]
    answer = store.sql("SELECT name, avg(value) AS mean FROM measurements GROUP BY 1 ORDER BY 1")
    assert answer.to_dict("list") == {"name": ["new", "runs", "toy"], "mean": [0.25, -2, 0.5]}


@pytest.mark.parametrize("name", ['a"b', "a' || '", 'x" FROM runs; COPY runs TO "y', "", "ü b"])
def test_a_column_that_is_no_hyperparameters_name_is_left_out_and_nothing_else(
    store: ResultStore, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store/runs/sweep=odd"
    folder.mkdir()
    columns = {"run_id": ["odd-0"], "config_id": ["odd"], "status": ["completed"]}
    pq.write_table(pa.table({**columns, f"hp_{name}": [0.5]}), folder / "odd.parquet")
    assert len(store.runs()) == 7
    assert [column for column in store.runs() if column.startswith("hp_")] == [
        "hp_feasibility_expectile"
    ]
    assert len(store.sql("SELECT * FROM runs")) == 7
    assert len(store.configurations()) == 3
    assert len(store.finals()) == 6
    assert [line for line in caplog.messages if "not a hyperparameter's name" in line] == [
        caplog.messages[0]
    ]


def test_a_part_is_read_whatever_its_path_looks_like(write_sweep, tmp_path: Path) -> None:
    odd = tmp_path / "a=b [1]*?"
    write_sweep("first", storage=odd)
    assert ResultStore(odd).sql("SELECT DISTINCT sweep FROM runs")["sweep"].tolist() == ["first"]


WRITING = {
    "explained": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{place}'",
    "explained without a partial file": (
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{place}' (FORMAT parquet, USE_TMP_FILE false)"
    ),
    "a pivot": "COPY (PIVOT runs ON seed USING count(*)) TO '{place}'",
    "an explained pivot": "EXPLAIN ANALYZE COPY (PIVOT runs ON seed USING count(*)) TO '{place}'",
    "as CSV": "COPY runs TO '{place}' (FORMAT csv)",
    "in partitions": "COPY runs TO '{place}' (FORMAT parquet, PARTITION_BY (seed))",
    "a database": "ATTACH '{place}' AS o; CREATE TABLE o.copied AS SELECT 1; CHECKPOINT o",
    "a new database": "ATTACH '{place}.db' AS o; CREATE TABLE o.copied AS SELECT 1; CHECKPOINT o",
}


@pytest.mark.parametrize("statement", WRITING.values(), ids=WRITING.keys())
@pytest.mark.parametrize("by_path", [True, False])
def test_the_database_itself_can_write_nothing(
    store: ResultStore, tmp_path: Path, statement: str, by_path: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Also where nobody looks at the statement, by a part's path and by the name it has there."""
    monkeypatch.chdir(tmp_path)
    part = next((tmp_path / "store/runs/sweep=first").glob("*.parquet"))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    name = f"parts://runs/sweep=first/{part.name}"
    query = statement.format(place=part if by_path else name)
    ignored = contextlib.suppress(Problem, UnreadablePart, FileNotFoundError)
    with ignored, store._connection(["runs"]) as connection:
        connection.execute(query).fetchall()
    with pytest.raises(InvalidInput, match=r"^query: "):
        store.sql(query)
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


ENDLESS = "SELECT count(*) FROM range(10_000_000_000_000)"


@pytest.mark.parametrize(
    ("query", "limits", "said"),
    [
        (ENDLESS, {"seconds": 0.2}, "takes longer than its limit of 0.2 s"),
        ("SELECT count(DISTINCT range) FROM range(1_000_000_000)", {}, "limit of 64 MiB"),
        ("SELECT range, repeat('x', 1000) FROM range(1_000_000_000)", {}, "limit of 64 MiB"),
    ],
)
def test_a_query_has_limits(
    store: ResultStore, query: str, limits: dict[str, float], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        store.sql(query, memory_bytes=64 * 2**20, **limits)
    assert store.sql("SELECT count(*) AS n FROM runs")["n"].tolist() == [6]


def test_an_answer_of_many_chunks_is_whole_and_in_order(store: ResultStore) -> None:
    query = "SELECT range AS n, CASE WHEN range % 3 = 0 THEN range / 2 END AS half FROM range({})"
    frame = store.sql(query.format(300_000))
    assert frame["n"].tolist() == list(range(300_000))
    assert frame["half"].notna().sum() == 100_000
    assert list(store.sql(query.format(0)).columns) == ["n", "half"]
