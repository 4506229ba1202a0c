"""Parts that an older version wrote, with its names of columns and metrics, beside today's."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.compaction import compact
from safesweep.trainables.store.older_names import RENAMED_COLUMNS, RENAMED_METRICS
from safesweep.trainables.store.schema import VERSION_KEY
from safesweep.trainables.store.writer import ResultWriter

METRIC = "true_infeasible_recall"


def written_as_version_4(path: Path, table: str) -> None:
    """Give a part of today the names and the version that it would have had."""
    part = pq.ParquetFile(path).read()
    said = {**part.schema.metadata, VERSION_KEY.encode(): b"4"}
    names = {new: old for old, new in RENAMED_COLUMNS.get(table, {}).items()}
    part = part.rename_columns([names.get(name, name) for name in part.column_names])
    if table == "metrics":
        called = {new: old for old, new in RENAMED_METRICS.items()}
        values = [called.get(name, name) for name in part["name"].to_pylist()]
        part = part.set_column(part.column_names.index("name"), "name", pa.array(values))
    pq.write_table(part.replace_schema_metadata(said), path)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Trials `a` and `b` of an older version, and `c` of today's."""
    writer = ResultWriter(str(tmp_path), "first")
    for number, trial in enumerate("abc"):
        run = f"{trial}-0"
        row = {"run_id": run, "config_id": trial, "trial_id": trial, "status": "completed",
               "memory_splits": number, "config": {"rate": 0.1}}  # fmt: skip
        metrics = [
            {"run_id": run, "step": 5, "name": name, "value": number + offset}
            for name, offset in ((METRIC, 0.5), ("true_recall", 0.25))
        ]
        writer.write_trial(trial, [row], (), (), metrics)
        if trial != "c":
            for table in ("runs", "metrics"):
                path = tmp_path / table / "sweep=first" / f"{trial}.parquet"
                written_as_version_4(path, table)
    return tmp_path


@pytest.fixture(params=["as written", "compacted"])
def store(request: pytest.FixtureRequest, storage: Path) -> ResultStore:
    if request.param == "compacted":
        compact(str(storage), grace_seconds=0)
        (part,) = (storage / "runs" / "sweep=first").glob("*.parquet")
        assert "halvings" not in pq.read_schema(part).names
        (part,) = (storage / "metrics" / "sweep=first").glob("*.parquet")
        assert "true_doomed_recognised" not in pq.ParquetFile(part).read()["name"].to_pylist()
    return ResultStore(storage)


def test_columns_have_todays_names(store: ResultStore) -> None:
    runs = store.runs().sort_values("run_id")
    assert runs["memory_splits"].tolist() == [0, 1, 2] and "halvings" not in runs
    assert store.runs(columns=["memory_splits"])["memory_splits"].sum() == 3
    assert store.runs(columns=["run_id"], memory_splits=[1, 2]).columns.tolist() == ["run_id"]
    assert set(store.runs(memory_splits=[0, 2])["run_id"]) == {"a-0", "c-0"}
    assert store.runs(memory_splits=1, hp_rate=0.1)["run_id"].tolist() == ["b-0"]
    with pytest.raises(InvalidInput, match="halvings"):
        store.runs(columns=["halvings"])
    found = store.sql("SELECT * FROM runs ORDER BY run_id")
    assert found["memory_splits"].tolist() == [0, 1, 2] and "halvings" not in found
    finals = store.sql("SELECT * FROM finals")
    assert "memory_splits" in finals and "halvings" not in finals


def test_metrics_have_todays_names(store: ResultStore) -> None:
    found = store.metrics(name=METRIC).sort_values("run_id")
    assert found["value"].tolist() == [0.5, 1.5, 2.5] and set(found["name"]) == {METRIC}
    assert set(store.metrics()["name"]) == {METRIC, "true_recall"}
    assert len(store.metrics(name="true_recall")) == 3
    asked = store.sql(f"SELECT value FROM metrics WHERE name = '{METRIC}' ORDER BY run_id")
    assert asked["value"].tolist() == [0.5, 1.5, 2.5]
