"""What a user is told of a warm start, before a sweep begins and after."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import read_dataset
from tests.fixture_store import SMALL, train_sweep

TASK = "BoatNavigation-v0"


@pytest.fixture
def content(boat_datasets: dict[str, Path]) -> dict[str, Any]:
    return {
        "name": "new", "algorithm": "bc", "tasks": [TASK], "dataset": str(boat_datasets[TASK]),
        "fixed": SMALL, "steps": 4, "evaluate": {"episodes": 1},
        "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        "search": {"method": "tpe", "num_configs": 3, "warm_start": True},
    }  # fmt: skip


def test_dry_run_and_show_say_what_is_told(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = tmp_path / "store", tmp_path / "new.yaml"
    path.write_text(yaml.safe_dump(content))
    words = ["run", str(path), "--dry-run", "--storage", str(store)]
    assert main(words) == 0
    nothing = f"new: warm start: nothing of bc on {TASK} in the store"
    assert nothing in capsys.readouterr().err.splitlines()
    datasets = {TASK: read_dataset(content["dataset"], TASK)}
    grid = {"search": {"method": "grid"}, "space": {"learning_rate": [1e-3, 2e-3]}}
    for name in ("a", "b"):
        old = SweepSpec.from_mapping({**content, **grid, "name": name})
        train_sweep(old, store, datasets)
        grid["space"] = {"learning_rate": [3e-3, 4e-3]}
    said = f"warm start: 4 configurations of bc on {TASK} from sweeps a, b (4 runs)"
    before = sorted(store.rglob("*"))
    assert main(words) == 0
    assert f"new: {said}" in capsys.readouterr().err.splitlines()
    assert sorted(store.rglob("*")) == before
    train_sweep(SweepSpec.from_mapping(content), store, datasets)
    train_sweep(
        SweepSpec.from_mapping({**content, **grid, "name": "c", "seeds": [1]}), store, datasets
    )
    capsys.readouterr()
    assert main(["show", "new", "--storage", str(store)]) == 0
    assert said in capsys.readouterr().out.replace("\n  ", " ")
    assert main(["show", "a", "--storage", str(store)]) == 0
    assert "warm start" not in capsys.readouterr().out
    assert main(["delete", "new", "--storage", str(store), "--yes"]) == 0
    assert not list(store.glob("warm_starts/*"))


def test_a_store_with_another_limit_is_one_line(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, path = tmp_path / "store", tmp_path / "new.yaml"
    grid = {"name": "old", "search": {"method": "grid"}, "space": {"learning_rate": [1e-3]}}
    old = SweepSpec.from_mapping({**content, **grid, "cost_limit": 5})
    train_sweep(old, store, {TASK: read_dataset(content["dataset"], TASK)})
    path.write_text(yaml.safe_dump(content))
    capsys.readouterr()
    assert main(["run", str(path), "--dry-run", "--storage", str(store)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("safesweep: search.warm_start: the store's runs of bc")
    assert "cost limit 5, and this sweep has 1;" in error and error.count("\n") == 1
