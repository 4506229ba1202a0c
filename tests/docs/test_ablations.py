"""The committed page of the ablations: small, and whole."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "ablations"
LARGEST = 3_000_000


def test_page_and_figures_are_small_and_hold_no_tables() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert [path.name for path in files if path.suffix == ".csv"] == ["remarks.csv"]


def test_everything_that_the_page_links_to_is_there() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    files = re.findall(r"`(further/[\w-]+\.yaml)`", text)
    assert links and files
    assert [name for name in {*links, *files} if not (FOLDER / name).is_file()] == []
