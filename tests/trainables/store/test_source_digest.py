"""Which code trained a run, and what comes of it where codes differ."""

from pathlib import Path

import pytest

from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.sweeps.execution.progress import Progress
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.dataset import Dataset, read_dataset
from safesweep.trainables.store import source_digest
from safesweep.trainables.store.codes import code_of, several_codes
from safesweep.trainables.store.source_digest import code_digest
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.training import trial as trials
from safesweep.trainables.training.request import TrialRequest
from safesweep.trainables.training.trial import Trial
from tests import fixture_store
from tests.sweeps.test_repair import BOAT, SPEC, tables

PLUGIN = Path(__file__).parents[2] / "plugins" / "example_plugin.py"


def test_it_changes_with_the_source_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = code_digest("bc", BOAT)
    assert before == code_digest("bc", BOAT) and len(before) == 12
    package = tmp_path / "trainables"
    for name in ("methods/one.py", "store/other.py"):
        (package / name).parent.mkdir(parents=True)
        (package / name).write_text("x = 1\n")
    monkeypatch.setattr(source_digest, "_PACKAGE", package)

    def digest() -> str:
        source_digest._product_digest.cache_clear()
        return code_digest("bc", BOAT)

    first = digest()
    (package / "store/other.py").write_text("x = 2\n")
    assert digest() == first
    (package / "methods/one.py").write_text("x = 2\n")
    second = digest()
    (package / "methods/two.py").write_text("x = 2\n")
    assert len({first, second, digest(), before}) == 4
    monkeypatch.undo()
    source_digest._product_digest.cache_clear()
    assert code_digest("bc", BOAT) == before


def test_a_plugin_counts_for_what_it_supplies(tmp_path: Path) -> None:
    texts = (PLUGIN.read_text(), PLUGIN.read_text() + "\n# Another line.\n")
    found = []
    for text in texts:
        with plugins_forgotten_after():
            plugin = load_plugin(str(PLUGIN), text)
            (name, *_) = plugin.entries["ALGORITHMS"]
            found.append((code_digest(name, BOAT), code_digest("bc", BOAT)))
    (one, plain), (other, same) = found
    assert plain == same == code_digest("bc", BOAT)
    assert len({one, other, plain}) == 3


@pytest.fixture(scope="module")
def dataset(boat_datasets: dict[str, Path]) -> Dataset:
    return read_dataset(boat_datasets[BOAT], BOAT)


REQUEST = TrialRequest(
    "bc", BOAT, [fixture_store.SMALL], [0], 8, evaluate_every=4, episodes=2, device="cpu"
)


def _trial(storage: Path, dataset: Dataset) -> Trial:
    writer = ResultWriter(str(storage), "s")
    return Trial(REQUEST, fixture_store.short_task(BOAT), dataset, writer)


def test_a_checkpoint_of_other_code_is_not_gone_on_from(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trial(tmp_path, dataset).advance()
    assert _trial(tmp_path, dataset).population.step == 4
    monkeypatch.setattr(trials, "code_digest", lambda algorithm, task: "other")
    anew = _trial(tmp_path, dataset)
    assert anew.population.step == 0
    (line,) = anew.problems
    assert "other code has trained" in line and "from the start" in line and "\n" not in line


def test_rows_that_are_made_again_are_of_the_code_that_made_them(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _trial(tmp_path, dataset)
    while not whole.done:
        whole.advance()
    digest = code_digest("bc", BOAT)
    assert {row["code_digest"] for row in whole.rows.runs} == {digest}
    monkeypatch.setattr(trials, "code_digest", lambda algorithm, task: "other")
    again = _trial(tmp_path, dataset)
    assert again.done
    assert {row["code_digest"] for row in again.rows.runs} == {digest}


def test_one_line_where_codes_differ() -> None:
    assert several_codes({"bc on A": ["d of 1", "d of 2", None]}) is None
    line = several_codes({"bc on A": ["d of 1", "e of 1", "e of 1"], "bc on B": ["d of 1"]})
    assert line is not None and "\n" not in line
    assert "the runs of bc on A are of several codes" in line
    assert "e of 1 (2 runs), d of 1 (1 runs)" in line
    assert code_of("1", None) == "1"
    assert code_of(None, None) is None
    assert code_of("1", "d", "imported") is None


def test_run_select_and_report_say_it(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from safesweep.sweeps.cli import main

    first = {**SPEC, "space": {"learning_rate": [0.001]}}
    storage, data = tmp_path / "store", {BOAT: dataset}
    fixture_store.train_sweep(SweepSpec.from_mapping(first), storage, data)
    words = ["--storage", str(storage)]
    assert main(["select", *words]) == 0
    assert "several codes" not in capfd.readouterr().err
    monkeypatch.setattr(trials, "code_digest", lambda algorithm, task: "other")
    noted: list[str] = []
    monkeypatch.setattr(Progress, "note", lambda self, line: noted.append(line))
    fixture_store.train_sweep(SweepSpec.from_mapping(SPEC), storage, data)
    (line,) = [text for text in noted if "several codes" in text]
    assert line.startswith(f"repaired: the runs of bc on {BOAT} are of several codes")
    assert main(["select", "--sweep", "repaired", *words]) == 0
    said = capfd.readouterr().err.splitlines()
    (line,) = [text for text in said if "several codes" in text]
    assert "other of" in line
    page = tmp_path / "page.html"
    assert main(["report", "repaired", "--output", str(page), *words]) == 0
    assert "several codes" in capfd.readouterr().err
    assert "are of several codes" in page.read_text()
    assert set(tables(storage)["runs"]["code_digest"]) == {code_digest("bc", BOAT), "other"}
