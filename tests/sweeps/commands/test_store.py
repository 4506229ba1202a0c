import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.cli import main
from trainables import compaction

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def safesweep(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch) -> Run:
    """Runs a command on `tmp_path / "store"`: exit code, standard output, standard error."""
    monkeypatch.setattr(compaction, "GRACE_SECONDS", 0.0)

    def run(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--storage", str(tmp_path / "store")])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_compact_says_what_it_merged_and_then_that_there_is_nothing(
    safesweep: Run, write_sweep
) -> None:
    for level in (0.6, 0.9):
        write_sweep("first", [{"feasibility_expectile": level}])
    before = safesweep("query", "SELECT * FROM evaluations ORDER BY ALL", "--format", "csv")
    code, out, _ = safesweep("compact", "--format", "json")
    assert code == 0
    rows = {row["table"]: row for row in json.loads(out)}
    assert set(rows) == {"runs", "evaluations", "episodes"}
    assert rows["runs"] == {
        "table": "runs", "sweep": "first", "parts_before": 2, "parts_after": 1, "rows": 6
    }  # fmt: skip
    after = safesweep("query", "SELECT * FROM evaluations ORDER BY ALL", "--format", "csv")
    assert after == before
    code, out, err = safesweep("compact")
    assert (code, out) == (0, "")
    assert "nothing to merge" in err
    assert safesweep("compact", "--format", "json")[1] == "[]\n"


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_file_is_imported_and_can_be_selected_from(
    safesweep: Run, tmp_path: Path, separator: str
) -> None:
    rows = [("step", "seed", "return", "cost", "note"), (100, 0, 400.0, 4.0, "x")]
    rows += [(100, 1, 420.0, 6.0, "y")]
    (tmp_path / "log.txt").write_text("\n".join(separator.join(map(str, r)) for r in rows) + "\n")
    code, out, err = safesweep(
        "import", str(tmp_path / "log.txt"), "--sweep", "osrl",
        "--column", "reward_return_mean=return", "--column", "cost_return_mean=cost",
        "--set", "algorithm=bcql", "--set", "task=CarRun", "--set", "hp_rate=0.5",
        "--format", "json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out) == [{"sweep": "osrl", "runs": 2, "evaluations": 2}]
    assert "left aside the columns note" in err
    chosen = json.loads(safesweep("select", "--sweep", "osrl", "--format", "json")[1])[0]
    assert chosen["normalized_cost"] == pytest.approx(0.5)
    assert safesweep("list")[0] == 0
    assert "imported from log.txt" in safesweep("show", "osrl")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "nowhere.csv", "--sweep", "x"], "file: 'nowhere.csv' cannot be read"),
        (["import", "{file}"], "--sweep"),
        (["import", "{file}", "--sweep", "x", "--set", "seed"], "--set: 'seed' is not allowed"),
        (["import", "{file}", "--sweep", "x"], "import: missing column algorithm"),
        (["compact", "--sweep", "frist"], "sweep: 'frist' .*did you mean 'first'"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    safesweep: Run, write_sweep, tmp_path: Path, words: list[str], message: str
) -> None:
    write_sweep("first")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    code, out, err = safesweep(*(word.format(file=tmp_path / "table.csv") for word in words))
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert err.startswith("safesweep: ")
    assert err.count("\n") == 1
