"""A store that an older version wrote gives the answers that it gave, and is gone on with.

`stores/version3` was made by commit 250d8de (version 3 of the tables, a column of `runs` for each
hyperparameter): LSPC and BC on both boats, and an import. `answers.json` is what that commit
answered; where it could not print them as JSON, they are CSV.
"""

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import Dataset, read_dataset
from tests import fixture_store
from tests.html_pages import content_of
from tests.quick import slow_but

FOLDER = Path(__file__).parent / "stores" / "version3"
ANSWERS: list[dict[str, Any]] = json.loads((FOLDER / "answers.json").read_text())
# Intervals are computed in another way now.
_KEYS = ("statistic", "metric", "algorithm", "policy")
_RENAMED = {"halvings": "memory_splits"}
_COLUMNS_THAT_MAY_DIFFER = {"low", "high", "seeds"}


def _same(new: Any, old: Any) -> bool:
    if isinstance(old, float) and isinstance(new, int | float):
        return math.isclose(new, old, rel_tol=1e-9, abs_tol=1e-12)
    return bool(new == old)


def _name(entry: dict[str, Any]) -> str:
    return " ".join(entry["command"])[:60]


ANSWERED = [entry for entry in ANSWERS if "answer" in entry]


@pytest.mark.parametrize("entry", slow_but(ANSWERED[::4], ANSWERED), ids=_name)
def test_answers_as_json(entry: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    command = entry["command"]
    assert main([*command, "--format", "json", "--storage", str(FOLDER / "store")]) == 0
    rows = json.loads(capfd.readouterr().out)
    statistics = command[0] == "statistics"
    ignored = _COLUMNS_THAT_MAY_DIFFER if statistics else set()
    keys = [key for key in _KEYS if key in entry["answer"][0]]
    for number, old in enumerate(entry["answer"]):
        new = rows[number]
        if statistics:
            # There are more rows than there were.
            (new,) = [row for row in rows if all(row[key] == old[key] for key in keys)]
        if "reason" in old:
            # A choice says more than it did.
            assert new["reason"].startswith(old["reason"])
            new = {**new, "reason": old["reason"]}
        differing = {
            name: (new.get(_RENAMED.get(name, name)), value)
            for name, value in old.items()
            if name not in ignored and not _same(new.get(_RENAMED.get(name, name)), value)
        }
        assert not differing


@pytest.mark.parametrize("entry", [e for e in ANSWERS if "csv" in e], ids=_name)
def test_answers_as_csv(entry: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    words = [*entry["command"], "--format", "csv", "--storage", str(FOLDER / "store")]
    assert main(words) == 0
    new = pandas.read_csv(io.StringIO(capfd.readouterr().out))
    old = pandas.read_csv(io.StringIO(entry["csv"]))
    pandas.testing.assert_frame_equal(new[list(old)], old)


@pytest.mark.parametrize("entry", [e for e in ANSWERS if "choices" in e], ids=_name)
def test_choices_of_the_report(entry: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = [*entry["command"], "--storage", str(FOLDER / "store"), "--output", str(page)]
    assert main(words) == 0
    choices = content_of(page.read_text())["choices"]
    for title, reason in entry["choices"]:
        assert any(
            choice["label"].startswith(title) and reason in choice["reason"] for choice in choices
        )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "store", tmp_path / "store"))


@pytest.fixture(scope="module")
def datasets() -> dict[str, Dataset]:
    return {task: read_dataset(FOLDER / f"{task}.hdf5", task) for task in fixture_store.TASKS}


@pytest.mark.parametrize("sweep", ["lspc-easy", "bc-both", "lspc-hard"])
def test_nothing_is_left_to_train(copy: Path, datasets: dict[str, Dataset], sweep: str) -> None:
    store = ResultStore(copy)
    assert store.incomplete(thorough=True).empty
    spec = SweepSpec.from_yaml(store.sweeps(sweep=sweep)["spec"].iloc[0])
    assert fixture_store.train_sweep(spec, copy, datasets) == 0


def test_more_seeds_join_the_old_rows(copy: Path, datasets: dict[str, Dataset]) -> None:
    before = ResultStore(copy).runs()
    spec = SweepSpec.from_yaml(ResultStore(copy).sweeps(sweep="bc-both")["spec"].iloc[0])
    longer = SweepSpec.from_mapping({**spec.to_mapping(), "seeds": [0, 1, 2]})
    assert fixture_store.train_sweep(longer, copy, datasets) == 4
    store = ResultStore(copy)
    after = store.runs()
    assert len(after) == len(before) + 4
    assert len(store.runs(sweep="bc-both")) == 12
    assert store.incomplete(thorough=True).empty
    columns = [name for name in before if name.startswith("hp_")]
    # Methods may have had hyperparameters added since, which only the new rows have.
    assert [name for name in after if name in columns] == columns
    # A configuration has the same values in the old layout and in the new one.
    assert after["memory_splits"].notna().sum() == len(after[after["sweep"] != "elsewhere"])
    assert len(store.runs(memory_splits=0, sweep="bc-both")) == 12
    values = after[after["sweep"] == "bc-both"].groupby("config_id")[columns].nunique(dropna=False)
    assert (values == 1).all(axis=None)
    asked = store.sql(
        "SELECT hp_learning_rate AS rate, count(*) AS runs FROM finals WHERE sweep = 'bc-both' "
        "GROUP BY ALL ORDER BY rate"
    )
    assert asked.to_numpy().tolist() == [[0.0003, 6], [0.001, 6]]


@pytest.mark.parametrize("table", ["evaluations", "episodes", "metrics"])
def test_a_lost_part_is_trained_again(copy: Path, datasets: dict[str, Dataset], table: str) -> None:
    before = getattr(ResultStore(copy), table)(sweep="bc-both")
    min((copy / table / "sweep=bc-both").glob("*.parquet")).unlink()
    assert len(ResultStore(copy).incomplete()) == 2
    spec = SweepSpec.from_yaml(ResultStore(copy).sweeps(sweep="bc-both")["spec"].iloc[0])
    assert fixture_store.train_sweep(spec, copy, datasets) == 1
    assert ResultStore(copy).incomplete(thorough=True).empty
    assert len(getattr(ResultStore(copy), table)(sweep="bc-both")) == len(before)
