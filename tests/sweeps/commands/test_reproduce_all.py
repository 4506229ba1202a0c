"""Every ablation by one command, from nothing to the scorecard, in its smallest form."""

import re
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.reproduction import ABLATIONS
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import main

pytestmark = pytest.mark.ray

ONE_OF_EACH_KIND = {
    "lspc-fig4": "settings of a method",
    "lspc-fig3": "measured on trained networks",
    "lspc-fig10": "datasets alone",
    "flrp-table8": "against the true feasible set",
    "flp-table1": "several methods",
}


def test_one_ablation_of_each_kind_is_reproduced(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "data"))
    storage, page = tmp_path / "store", tmp_path / "page"
    words = ["reproduce", *ONE_OF_EACH_KIND, "--scale", "smoke", "--storage", str(storage)]
    assert main([*words, "--page", str(page)]) == 0
    capfd.readouterr()
    text = (page / "README.md").read_text(encoding="utf-8")
    for name in ONE_OF_EACH_KIND:
        assert (page / f"{name}-smoke.png").is_file()
        assert f"### {name}: " in text
    assert set(ResultStore(storage).runs()["status"]) == {"completed"}


@pytest.mark.slow
def test_everything_is_reproduced_once(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(tmp_path / "data"))
    storage, page = tmp_path / "store", tmp_path / "page"
    words = ["reproduce", "all", "--scale", "smoke", "--storage", str(storage)]
    assert main([*words, "--page", str(page)]) == 0
    capfd.readouterr()
    text = (page / "README.md").read_text(encoding="utf-8")
    for name in ABLATIONS:
        assert (page / f"{name}-smoke.png").is_file()
        assert f"### {name}: " in text
    runs = ResultStore(storage).runs()
    assert set(runs["status"]) == {"completed"}
    assert runs["run_id"].is_unique
    card = pandas.read_csv(storage / "figures/scorecard/papers-smoke.csv")
    assert card["claims"].sum() == sum(len(entry.claims) for entry in ABLATIONS.values())

    assert main(["reproduce", "flrp-fig3", *words[2:]]) == 0
    again = ResultStore(storage).runs()
    assert set(again["finished_at"]) == set(runs["finished_at"])
    assert not re.search(r"\d+ running", capfd.readouterr().err)
