"""The pages of the documentation and the blocks of code in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
)
NEEDS = "needs "
"""What the title of a block begins with that cannot run here; the title says what it needs."""
LANGUAGES = ("sh", "python", "yaml", "sql", "text")
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]*)")?[ ]*\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the page that it stands on, its language and title, and its text."""

    page: str
    number: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"

    @property
    def runs(self) -> bool:
        """Whether it can run here."""
        return not self.title.startswith(NEEDS)

    @property
    def file_name(self) -> str | None:
        """The name of the file that it is, where its first line is a comment that says so."""
        found = re.match(r"# ([\w.-]+\.(?:py|yaml))\n", self.text)
        return found and found.group(1)

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments."""
        return [words for words in _statements(self.text) if words]


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str, pages: tuple[str, ...] = PAGES) -> list[Block]:
    """The blocks of some languages, of all by default, page by page."""
    return [
        Block(page, number, language, title, text)
        for page in pages
        for number, (language, title, text) in enumerate(_FENCE.findall(read(page)), 1)
        if language in (languages or (language,))
    ]


def files() -> dict[str, str]:
    """The files that the documentation writes out, by name."""
    return {block.file_name: block.text for block in blocks() if block.file_name}


def _statements(text: str) -> list[list[str]]:
    """Lines of a shell as words. A quote that is open, and a backslash, go on in the next line."""
    statements, waiting = [], ""
    for line in text.replace("\\\n", " ").splitlines(keepends=True):
        waiting += line
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:
            continue
        statements.append(words)
        waiting = ""
    if waiting.strip():
        raise ValueError(f"a quote is not closed: {waiting!r}")
    return statements
