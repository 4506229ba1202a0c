"""What makes daily use short: defaults from the environment, names, narrow tables."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.cache import cache_folder
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store import file_lock
from safesweep.trainables.store.writer import ResultWriter
from tests.quick import slow_but


def test_the_store_may_come_from_the_environment(
    full_store: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAFESWEEP_STORAGE", str(full_store))
    assert main(["list"]) == 0
    assert "methods" in capfd.readouterr().out
    assert main(["list", "--storage", str(full_store / "nothing")]) == 2


def test_a_sweep_may_be_named_without_an_option(
    full_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "csv", "--storage", str(full_store)]
    for command in ("select", "statistics"):
        found = []
        for sweep in (["shared"], ["--sweep", "shared"], ["shared", "--sweep", "shared"]):
            assert main([command, *sweep, *words]) == 0
            found.append(capfd.readouterr().out)
        assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "command",
    slow_but([["select"]], [["select"], ["statistics"], ["query", "SELECT run_id FROM runs"]]),
)
def test_several_sweeps_are_asked_at_once(
    full_store: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--format", "json", "--storage", str(full_store)]
    found = []
    options = ["--sweep", "methods", "--sweep", "troubled"]
    given = [options] if command[0] == "query" else [
        options, ["methods", "troubled"], ["methods", "--sweep", "troubled"],
        ["methods", "--storage", str(full_store), "troubled"],
    ]  # fmt: skip
    for sweeps in given:
        assert main([*command, *sweeps, *words]) == 0
        found.append(json.loads(capfd.readouterr().out))
    assert all(rows == found[0] for rows in found)
    assert main([*command, "--sweep", "methods", *words]) == 0
    assert json.loads(capfd.readouterr().out) != found[0]
    assert main([*command, "--sweep", "methods", "--sweep", "trubled", *words]) == 2
    assert "did you mean 'troubled'" in capfd.readouterr().err


def test_views_hold_what_the_sweeps_comprise(
    full_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = ResultStore(full_store)
    runs = set(store.runs(sweep="shared")["run_id"])
    # Most of them were trained by another sweep.
    assert set(store.runs(sweep="shared")["sweep"]) == {"methods", "shared"}
    for view in ("runs", "finals", "evaluations", "episodes", "metrics"):
        found = store.sql(f"SELECT DISTINCT run_id FROM {view}", sweeps=["shared"])
        assert set(found["run_id"]) == runs
    assert list(store.sql("SELECT sweep FROM sweeps", sweeps=["shared"])["sweep"]) == ["shared"]
    configs = store.sql("SELECT DISTINCT config_id FROM hyperparameters", sweeps=["shared"])
    assert set(configs["config_id"]) == set(store.runs(sweep="shared")["config_id"])
    assert len(store.sql("SELECT * FROM published", sweeps=["shared"]))


def test_sweeps_that_go_after_different_things_are_not_chosen_from_at_once(
    full_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "store"
    shutil.copytree(full_store, storage)
    store = ResultStore(storage)
    plan = store.sweeps(sweep="troubled").iloc[0]
    spec = f"{plan['spec']}\n".replace("cost_limit: 10", "cost_limit: 3")
    ResultWriter(str(storage), "troubled").write_sweep(spec, list(plan["run_ids"]), "completed")
    words = ["methods", "troubled", "--storage", str(storage)]
    assert main(["select", *words]) == 2
    assert "cost_limit: is 10.0 in sweep 'methods' and 3.0 in 'troubled'" in capfd.readouterr().err
    assert main(["select", *words, "--cost-limit", "5"]) == 0


@pytest.mark.parametrize("command", [["watch", "--once"], ["report", "--output", "x.html"]])
def test_what_takes_one_sweep_says_so(
    full_store: Path, command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--storage", str(full_store)]
    assert main([*command, "methods", "--sweep", "shared", *words]) == 2
    assert "sweep: methods, shared are given; this takes one at a time" in capfd.readouterr().err
    assert main([*command, *words]) == 2
    assert "sweep: is missing" in capfd.readouterr().err


def test_data_is_kept_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFESWEEP_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/safesweep/datasets")
    # A relative one is to be ignored (XDG Base Directory Specification).
    for ignored in ("", "caches"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path("~/.cache/safesweep/datasets").expanduser()
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", "/data")
    assert cache_folder() == Path("/data")


def test_a_number_of_seeds_stands_for_those_from_0() -> None:
    content = {"name": "s", "algorithm": "bc", "tasks": ["BoatNavigation-v0"], "steps": 10,
               "space": {"learning_rate": [0.001]}}  # fmt: skip
    spec = SweepSpec.from_mapping({**content, "seeds": 5})
    assert spec.seeds == (0, 1, 2, 3, 4)
    assert spec == SweepSpec.from_mapping({**content, "seeds": [0, 1, 2, 3, 4]})
    assert spec.to_mapping()["seeds"] == [0, 1, 2, 3, 4]
    for refused in (0, -1, True, 10**6):
        with pytest.raises(InvalidInput, match="seeds"):
            SweepSpec.from_mapping({**content, "seeds": refused})


def test_rules_are_listed_without_a_store(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--rule", "list", "--storage", "/nonexistent"]) == 0
    out = capfd.readouterr().out
    assert "max_reward_safe" in out and "Pareto front" in out


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_space_fits_100_columns(algorithm: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["space", algorithm]) == 0
    narrow = capfd.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 100
    assert main(["space", algorithm, "--wide"]) == 0
    wide = capfd.readouterr().out
    assert "source" in wide and len(wide) > len(narrow)
    assert len(wide.splitlines()) == len(narrow.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_every_command(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capfd.readouterr().out
    for word in ("reproduce", "select", "--cost-limit"):
        assert word in out


def test_without_locks_of_files_it_is_an_error_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="has no locks"):
        file_lock.flock(file.fileno(), file_lock.LOCK_EX)


READING = [
    "--help", "plot --help", "export --help", "algorithms", "space flrp", "tasks", "data list",
    "completion bash", "reproduce --list", "reproduce --list --wide", "select --rule list", "list",
    "check", "query 'SELECT * FROM runs'", "show shared", "watch shared", "table shared",
    "select shared", "report shared --output page.html", "statistics shared",
]  # fmt: skip
"""Commands that only look, those first that need the least."""


def test_what_only_looks_imports_nothing_heavy(full_store: Path, tmp_path: Path) -> None:
    """Most of the time of these commands goes into imports."""
    code = f"""
import contextlib, os, shlex, sys
from safesweep.sweeps.cli import main
slow = ("matplotlib", "optuna", "ray", "scipy.optimize", "scipy.stats", "torch")
for words in {READING!r}:
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            code = main(shlex.split(words))
        except SystemExit as end:
            code = end.code
    loaded = [name for name in slow if name in sys.modules]
    if "reproduce" in words or "--rule list" in words:
        loaded += [name for name in sys.modules if name.partition(".")[0] == "scipy"]
    assert code == 0 and not loaded, (words, code, loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "SAFESWEEP_STORAGE": str(full_store)},
    )
    assert done.returncode == 0, done.stderr


def test_the_ablations_fit_100_columns(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 0
    narrow = capfd.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 100
    assert main(["reproduce", "--list", "--wide"]) == 0
    assert len(capfd.readouterr().out) > len(narrow)
    assert main(["reproduce", "--wide"]) == 2
