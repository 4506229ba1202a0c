"""The documentation as a site: built without a warning, and it loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import safesweep
from safesweep.sweeps.cli import build_parser
from tests.docs.blocks import DOCS, PAGES, ROOT, read

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
LARGEST_PICTURE = 200_000
LONGEST_README = 220


def test_every_public_name_is_on_a_page_of_the_api() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    shown = re.findall(r"^::: safesweep\.(\w+)$", text, re.MULTILINE)
    assert sorted(shown) == sorted(safesweep.__all__)


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= LONGEST_README
    pages = {page for page in PAGES if page.startswith("docs/") and "/api/" not in page}
    assert pages <= set(re.findall(r"\]\((docs/[^)#]+)", text))


def test_pictures_are_small() -> None:
    pictures = list((DOCS / "images").glob("*.png"))
    assert len(pictures) >= 3
    assert [path for path in pictures if path.stat().st_size > LARGEST_PICTURE] == []


def test_links_between_files_lead_somewhere() -> None:
    """As a code host follows them: from the folder that the page lies in."""
    for page in PAGES:
        prose = re.sub(r"```.*?```|`[^`\n]+`", "", read(page), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            path, _, anchor = target.partition("#")
            found = (ROOT / page).parent / path if path else ROOT / page
            assert found.exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in anchors, f"{page}: {target}"


class Loaded(HTMLParser):
    """What a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loads = tag == "link" and given.get("rel") not in ("canonical", "prev", "next")
        address = given.get("src") or (given.get("href") if loads else None)
        if address:
            self.addresses.append(address)


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        elsewhere = [a for a in loaded.addresses if re.match(r"(https?:)?//", a)]
        assert elsewhere == [], page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style
    commands = (tmp_path / "commands.html").read_text(encoding="utf-8")
    for name in next(a for a in build_parser()._actions if a.choices).choices:
        assert f"usage: safesweep {name}" in commands
    keys = (tmp_path / "sweep-file.html").read_text(encoding="utf-8")
    assert "<code>search.num_configs</code>" in keys
    assert (tmp_path / "ablations" / "remarks.csv").is_file()
