"""`delete`, `archive`, `note` and `tag`, and what `list` shows of them."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main

WriteSweep = Callable[..., list[str]]


@pytest.fixture
def storage(write_sweep: WriteSweep, tmp_path: Path) -> list[str]:
    """The option that names a store in which `second` asks for all runs of `first`."""
    runs = write_sweep("first")
    write_sweep("second", [{"feasibility_expectile": 0.8}], also=runs)
    write_sweep("third", [{"feasibility_expectile": 0.7}])
    return ["--storage", str(tmp_path / "store")]


def listed(storage: list[str], capfd: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    assert main(["list", "--format", "json", *words, *storage]) == 0
    rows: list[Any] = json.loads(capfd.readouterr().out)
    return rows


def test_delete_asks_and_says_what_goes(
    storage: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["delete", "third", "--dry-run", "--format", "json", *storage]) == 0
    assert json.loads(capfd.readouterr().out) == [{"sweep": "third", "runs": 3, "kept": 0}]
    assert main(["delete", "third", *storage]) == 2
    error = capfd.readouterr().err
    assert error.startswith("safesweep: delete: removes 3 runs of third for good; give --yes")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert main(["delete", "third", *storage]) == 1
    assert len(ResultStore(storage[1]).sweeps()) == 3
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert main(["delete", "third", *storage]) == 0
    capfd.readouterr()
    assert main(["delete", "first", "--yes", "--format", "json", *storage]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out) == [{"sweep": "first", "runs": 0, "kept": 3}]
    assert "deleted first" in captured.err
    (row,) = listed(storage, capfd)
    assert row["sweep"] == "second" and row["completed"] == 6
    assert main(["show", "second", *storage]) == 0
    capfd.readouterr()
    assert main(["show", "first", *storage]) == 2
    assert "sweep: 'first' is not in the store" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["delete", "archive", "note", "tag"])
def test_unknown_or_no_sweep(
    command: str, storage: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    yes = ["--yes"] if command == "delete" else []
    assert main([command, "frist", *yes, *storage]) == 2
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1 and "did you mean 'first'" in error
    assert main([command, *yes, *storage]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert main([command, "first", *yes, "--storage", "/nonexistent"]) == 2
    assert "there is no result store" in capfd.readouterr().err


def test_archived_sweeps_are_left_out(
    storage: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["archive", "first", "--sweep", "third", *storage]) == 0
    assert [row["sweep"] for row in listed(storage, capfd)] == ["second"]
    assert {row["sweep"] for row in listed(storage, capfd, "--archived")} == {"first", "third"}
    assert len(listed(storage, capfd, "--all")) == 3
    assert main(["list", *storage]) == 0
    captured = capfd.readouterr()
    assert "2 archived sweeps are left out" in captured.err and "archived" not in captured.out
    # Whoever names one finds it.
    assert main(["show", "first", *storage]) == 0
    assert main(["archive", "third", "--undo", *storage]) == 0
    capfd.readouterr()
    assert {row["sweep"] for row in listed(storage, capfd)} == {"second", "third"}


def test_notes_and_tags_are_listed(storage: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *storage]) == 0
    assert "note" not in capfd.readouterr().out
    assert main(["note", "first", "with the lower limit", *storage]) == 0
    assert main(["tag", "first", "night", "paper", *storage]) == 0
    assert capfd.readouterr().out.split() == ["night", "paper"]
    assert main(["tag", "second", "paper", *storage]) == 0
    capfd.readouterr()
    assert main(["note", "first", *storage]) == 0
    assert capfd.readouterr().out == "with the lower limit\n"
    assert [row["sweep"] for row in listed(storage, capfd, "--tag", "night")] == ["first"]
    rows = listed(storage, capfd, "--tag", "night", "--tag", "paper")
    assert {row["sweep"]: row["tags"] for row in rows} == {
        "first": "night, paper", "second": "paper"
    }  # fmt: skip
    assert main(["list", *storage]) == 0
    assert "with the lower limit" in capfd.readouterr().out
    assert main(["tag", "first", "two words", *storage]) == 2
    assert "tag: 'two words' is not allowed" in capfd.readouterr().err
