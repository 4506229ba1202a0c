"""`safesweep table` on a store: the choice of each method as papers print it."""

import json
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main


def test_the_choice_in_every_format(full_store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["table", "--sweep", "methods", "--storage", str(full_store)]
    assert main([*words, "--format", "json"]) == 0
    cells = json.loads(capfd.readouterr().out)
    methods = list(dict.fromkeys(cell["method"] for cell in cells))
    assert methods == ["BC", "LSPC-S", "LSPC-O", "CVAE", "FLRP"]
    assert main(words) == 0
    heading = capfd.readouterr().out.splitlines()[0]
    for method in methods:
        assert f"{method} reward | {method} cost" in heading
    assert main([*words, "--format", "latex", "--deviations"]) == 0
    latex = capfd.readouterr().out
    assert latex.count(r"\multicolumn{2}{c}") == len(methods) and r"$\pm$" in latex


def test_what_cannot_be_compared_is_one_line(
    full_store: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(full_store)]
    for words, said in (
        (["--sweep", "none such"], "sweep"),
        (["--format", "word"], "format"),
        (["--cost-limit", "-1"], "cost_limit"),
    ):
        assert main(["table", *words, *storage]) == 2
        sent = capfd.readouterr()
        assert sent.out == "" and len(sent.err.splitlines()) == 1 and said in sent.err
