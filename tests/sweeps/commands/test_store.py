import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from safesweep.trainables.store import compaction

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
    assert set(rows) == {"runs", "hyperparameters", "evaluations", "episodes"}
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


BESIDE = [
    *("--set", "algorithm=bcql", "--set", "task=CarRun", "--column", "step=Steps"),
    *("--column", "reward_return_mean=eval/reward", "--column", "cost_return_mean=eval/cost"),
]


def test_logs_of_several_seeds_of_which_some_were_cut(safesweep: Run, tmp_path: Path) -> None:
    header, row = "Steps\teval/reward\teval/cost\n", "{0}\t{1}.5\t{2}.0\n"
    for seed, end in enumerate(("", "3000\t50", "3000\t503.0\t1", header + "3000\t503.0\t9.0\n")):
        text = header + row.format(1000, 501, 9) + row.format(2000, 502, 8) + end
        (tmp_path / f"bcql-seed{seed}.txt").write_text(text)
    files = [str(path) for path in sorted(tmp_path.glob("*.txt"))]
    pattern = ["--set-from-name", "bcql-seed{seed}.txt"]
    code, _, err = safesweep("import", *files, "--sweep", "logs", *pattern, *BESIDE)
    assert code == 0, err
    assert re.search(r"bcql-seed1\.txt: left out line 4, which is incomplete \(2 of 3 cells\)", err)
    assert re.search(r"bcql-seed2\.txt: left out line 4, which no line break ends.*'1' may be", err)
    query = (
        "SELECT seed, max(step) AS last, max(normalized_cost) AS cost FROM evaluations GROUP BY 1"
    )
    rows = json.loads(safesweep("query", f"{query} ORDER BY seed", "--format", "json")[1])
    assert [row["last"] for row in rows] == [2000, 2000, 2000, 3000]
    assert [row["cost"] for row in rows] == pytest.approx([0.9] * 4)
    code, _, err = safesweep("import", files[0], "--sweep", "logs", *pattern, *BESIDE)
    assert code == 2 and "several files at once" in err
    keep = ["--last-row", "keep"]
    assert safesweep("import", files[2], "--sweep", "kept", *keep, *pattern, *BESIDE)[0] == 0
    rows = json.loads(safesweep("query", query, "--format", "json")[1])
    assert max(row["last"] for row in rows if row["seed"] == 2) == 3000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "hp_a=b", "--column", "hp_a=c"], "--column: hp_a is given twice, as 'b' and"),
        (["--set", "seed=1", "--set", "seed=1"], "--set: seed is given twice, as '1' and '1'"),
        (["--set", "seed=1", "--column", "seed=b"], "seed: cannot be both the column 'b' and 1"),
        (["--cost-limit", "1", "--column", "cost_limit=b"], "cost_limit: is given twice"),
        (["--cost-limit", "1", "--cost-limit", "2"], "--cost-limit: is given twice"),
        (["--set-from-name", "{seed}.csv", "--set", "seed=1"], "does not fit 'table.csv'"),
        (["--set-from-name", "{task}.csv", "--set", "task=x"], "task: is set to 'x', and by the"),
        (["--preset", "osl"], "preset: 'osl' is not one of osrl, wandb; did you mean 'osrl'"),
        (["--last-row", "kep"], "--last-row: 'kep' is not one of check, keep; did you mean 'keep'"),
        (["--leave-out", "d"], "leave out: .*table.csv' has no column 'd'"),
        (["--column", "seed="], "--column: 'seed=' is not allowed"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    safesweep: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "table.csv").write_text("a,b,c\n1,2,3\n")
    code, out, err = safesweep("import", str(tmp_path / "table.csv"), "--sweep", "x", *words)
    assert (code, out) == (2, "")
    assert re.search(message, err) and err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_many_remarks_are_not_all_printed(safesweep: Run, tmp_path: Path) -> None:
    for seed in range(30):
        (tmp_path / f"{seed}.csv").write_text(
            "algorithm,task,normalized_reward,normalized_cost\nbc,CarRun,0.5,0.5\nbc,CarRun"
        )
    files = [str(tmp_path / f"{seed}.csv") for seed in range(30)]
    code, _, err = safesweep("import", *files, "--sweep", "x", "--set-from-name", "{seed}.csv")
    assert code == 0
    assert err.count("left out line 3") == 20
    assert "and 10 more like these" in err
