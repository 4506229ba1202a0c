"""Every command that prints, in every format, on a store of everything that a store may hold."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.analysis.plots.sweep_results import KEYS
from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import RULES
from safesweep.analysis.statistics import rows_of_choice
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main
from safesweep.sweeps.commands.confirm import REPORTS
from safesweep.sweeps.output import FORMATS
from safesweep.trainables.store.imports import import_evaluations

SWEEPS = ("methods", "shared", "troubled", "elsewhere")
NULLS = (
    "SELECT NULL::BIGINT AS a, NULL::DOUBLE AS b, NULL::VARCHAR AS c, NULL::BOOLEAN AS d, "
    "NULL::TIMESTAMP AS e, [NULL, 1] AS f, {'x': NULL} AS g, NULL::DATE AS h, NULL AS i"
)
ON_A_STORE: list[list[str]] = [
    ["list"],
    *(["show", sweep] for sweep in SWEEPS),
    ["query", NULLS],
    *(["query", f"SELECT * FROM {view} LIMIT 100"] for view in
      ("runs", "finals", "evaluations", "hyperparameters", "sweeps", "published", "confirmations",
       "measurements")),
    ["query", "SELECT * FROM runs WHERE false"],
    *(["select", "--rule", rule] for rule in ("max_reward_safe", "confident_safe", "pareto")),
    *(["select", "--sweep", sweep] for sweep in SWEEPS),
    *(["statistics", "--show", report, "--samples", "100"] for report in REPORTS),
]  # fmt: skip
LIMIT = ["--cost-limit", "20"]
# The same columns with other numbers in them: slow.
IN_ONE_FORMAT: list[list[str]] = [
    *(["select", "--rule", rule, *limit] for rule in RULES for limit in ([], LIMIT)),
    *(["select", "--step", step] for step in ("best", "4", "8")),
    ["select", "--algorithm", "ppo"],
    ["select", "--task", "MyRobotReach-v0", "--min-seeds", "5"],
    *(["statistics", "--sweep", sweep, "--samples", "100"] for sweep in SWEEPS),
    ["statistics", "--every-configuration", "--samples", "100"],
]
ELSEWHERE: list[list[str]] = [
    ["algorithms"], ["tasks"], ["space", "lspc"], ["space", "flrp"], ["space", "bc"],
    ["data", "list"], ["reproduce", "--list"],
]  # fmt: skip


def words_of(case: list[str]) -> str:
    return " ".join(case)[:60]


def one_format(number: int) -> tuple[str, ...]:
    """Each format in turn, as numbers go up."""
    return (FORMATS[number % len(FORMATS)],)


@pytest.mark.parametrize(
    ("case", "formats"),
    [
        *((case, one_format(n)) for n, case in enumerate(ON_A_STORE)),
        *(pytest.param(case, FORMATS, marks=pytest.mark.slow) for case in ON_A_STORE),
        *(pytest.param(case, ("json",), marks=pytest.mark.slow) for case in IN_ONE_FORMAT),
    ],
    ids=lambda part: words_of(part) if isinstance(part, list) else f"{len(part)} formats",
)
def test_commands_on_a_store(
    full_store: Path,
    case: list[str],
    formats: Sequence[str],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    rows = {}
    for format in formats:
        code = main([*case, "--format", format, "--storage", str(full_store)])
        sent = capfdbinary.readouterr()
        errors = sent.err.decode()
        assert "Traceback" not in errors
        assert code == 0, errors
        if not sent.out:
            continue
        if format == "json":
            rows[format] = len(json.loads(sent.out))
        elif format == "csv":
            rows[format] = len(pandas.read_csv(io.BytesIO(sent.out), skip_blank_lines=False))
        elif format == "parquet":
            rows[format] = len(pandas.read_parquet(io.BytesIO(sent.out)))
    assert len(set(rows.values())) <= 1


@pytest.mark.parametrize(
    ("case", "format"),
    [
        pytest.param(case, format, marks=() if format in one_format(n) else pytest.mark.slow)
        for n, case in enumerate(ELSEWHERE)
        for format in FORMATS
    ],
    ids=lambda part: words_of(part) if isinstance(part, list) else part,
)
def test_commands_without_a_store(
    case: list[str], format: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main([*case, "--format", format]) == 0
    out = capfdbinary.readouterr().out
    if format == "json":
        assert json.loads(out)


def test_data_info(
    boat_datasets: dict[str, Path], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for path in boat_datasets.values():
        for format in FORMATS:
            assert main(["data", "info", str(path), "--format", format]) == 0
            assert capfdbinary.readouterr().out


@pytest.mark.parametrize(
    "sweep",
    [
        pytest.param(sweep, marks=() if sweep in ("methods", "elsewhere") else pytest.mark.slow)
        for sweep in SWEEPS
    ],
)
def test_pages(full_store: Path, tmp_path: Path, sweep: str) -> None:
    page = tmp_path / "page.html"
    assert main(["report", sweep, "--storage", str(full_store), "--output", str(page)]) == 0
    text = page.read_text()
    if sweep == "methods":
        for policy in ("lspc_o", "lspc_s", "cvae"):
            assert f"lspc on BoatNavigation-v0, policy {policy}" in text


IN_A_FORMAT = ["json", *(pytest.param(f, marks=pytest.mark.slow) for f in FORMATS if f != "json")]


@pytest.mark.parametrize("format", IN_A_FORMAT)
def test_confirmation(
    store_copy: Path, format: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    words = ["confirm", "--sweep", "shared", "--episodes", "2", "--storage", str(store_copy)]
    assert main([*words, "--format", format]) == 0
    out = capfdbinary.readouterr().out
    if format == "json":
        assert json.loads(out)


@pytest.mark.parametrize(
    ("algorithm", "task"),
    [("ppo", "MyRobotReach-v0"), ("ppo", "BoatNavigation-v0"), ("flrp", "BoatNavigation-v0"),
     ("bc", "MyRobotReach-v0")],
)  # fmt: skip
def test_what_cannot_be_confirmed_is_one_line(
    tmp_path: Path, algorithm: str, task: str, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = str(tmp_path)
    rows = pandas.DataFrame(
        {"algorithm": algorithm, "task": task, "seed": [0, 1], "normalized_reward": 0.5,
         "normalized_cost": 0.5, "cost_limit": 20, "policy": algorithm}
    )  # fmt: skip
    import_evaluations(rows, storage, "own")
    assert main(["confirm", "--sweep", "own", "--episodes", "2", "--storage", storage]) == 2
    error = capfd.readouterr().err
    assert error.splitlines()[-1].startswith("safesweep: ")
    assert "Traceback" not in error


@pytest.mark.parametrize("format", IN_A_FORMAT)
def test_compaction_changes_no_answer(
    store_copy: Path, format: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = ResultStore(store_copy).finals()
    assert main(["compact", "--storage", str(store_copy), "--format", format]) == 0
    assert capfdbinary.readouterr().out
    store = ResultStore(store_copy)
    pandas.testing.assert_frame_equal(store.finals(), before)
    assert store.incomplete(thorough=True).empty


def test_only_what_was_chosen_is_marked(full_store: Path) -> None:
    """Of a configuration of LSPC one policy may be chosen and another not."""
    evaluations = ResultStore(full_store).to_judge("last", sweep="methods")
    chosen = select(evaluations)
    marked = rows_of_choice(evaluations, chosen)[KEYS].drop_duplicates()
    assert len(marked) == len(chosen) == 10


ODD_NAMES = (
    'it\'s "größe" a=b;c*d',
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("a?b", "[ab]", "a#b%20c d")),
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_stores_of_any_name(
    write_sweep: Any, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / name / "store"
    for level in (0.6, 0.9):
        write_sweep("first", [{"feasibility_expectile": level}], storage=storage)
    # What a pattern would find as well.
    write_sweep("other", storage=tmp_path / "axb" / "store")
    page, figure = str(tmp_path / "page.html"), str(tmp_path / "figure.png")
    for words in (
        ["list"], ["show", "first"], ["select"], ["statistics", "--samples", "100"],
        ["query", "SELECT * FROM runs"], ["query", "SELECT * FROM finals"], ["compact"],
        ["query", "SELECT * FROM episodes"], ["report", "first", "--output", page],
        ["watch", "first", "--once"], ["plot", "front", "--sweep", "first", "--out", figure],
        ["export", "first", "--to", "csv", "--out", str(tmp_path / "exported")],
    ):  # fmt: skip
        assert main([*words, "--storage", str(storage)]) == 0, words
        assert "other" not in capfd.readouterr().out
    store = ResultStore(storage)
    assert store.incomplete(thorough=True).empty
    assert len(store.runs()) == 6
    assert sorted(store.sql("SELECT * FROM runs")) == sorted(store.runs())
