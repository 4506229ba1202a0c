"""What the site shows that stands elsewhere: README, changelog and guide are pages of it, and the
help of every command and the keys of a sweep file are written where a page has a mark for them."""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
FROM_THE_ROOT = {"README.md": "index.md", "CHANGELOG.md": "changelog.md",
                 "CONTRIBUTING.md": "contributing.md"}  # fmt: skip
COLUMNS = "88"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie in the repository's root, with links as the site has them."""
    for source, page in FROM_THE_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=as_page(text)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write what the marks stand for, instead of what stands there for readers of the file."""
    for mark, made in MARKS.items():
        begin, _, rest = markdown.partition(f"<!-- {mark} -->")
        if rest:
            markdown = f"{begin}{made()}{rest.partition('<!-- end -->')[2]}"
    return markdown


def as_page(text: str) -> str:
    """A file of the root with links to pages instead of files."""
    text = text.replace("](docs/", "](")
    for source, page in FROM_THE_ROOT.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text


def help_of_every_command() -> str:
    """A section for each command: what `safesweep COMMAND --help` prints."""
    from safesweep.sweeps.cli import build_parser

    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        return "\n".join(
            f"### {name}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
            for name, parser in commands(build_parser())
        )
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def commands(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, Any]]:
    """Every command under a parser, and those under these, in the order of the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{words}{name}", inner
                yield from commands(inner, f"{words}{name} ")


def keys_of_a_sweep_file() -> str:
    """A row for each key: what it means, and its default."""
    from safesweep.sweeps.spec.schema import sweep_file_schema
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    # The schema of the file asks for nothing, because another file may be included.
    needed = SweepSpec.model_json_schema()["required"]
    schema = {**sweep_file_schema(), "required": needed}
    rows = list(_keys(schema, schema["$defs"], ""))
    lines = [f"| {key} | {default} | {meaning} |" for key, default, meaning in rows]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *lines])


def _keys(
    section: dict[str, Any], definitions: dict[str, Any], before: str
) -> Iterator[tuple[str, str, str]]:
    """The keys of a section and of those within it."""
    for name, field in section["properties"].items():
        inner = _section(field, definitions)
        default = field.get("default", "")
        if name in section.get("required", ()):
            shown = "needed"
        elif default == "" or inner is not None:
            shown = ""
        else:
            shown = f"`{_as_yaml(default)}`"
        meaning = re.sub(r"\b([\w.]*_[\w_.]+)\b", r"`\1`", field.get("description", ""))
        yield f"`{before}{name}`", shown, meaning.replace("|", "\\|")
        if inner is not None:
            yield from _keys(inner, definitions, f"{before}{name}.")


def _section(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The section that a key holds, if it holds one."""
    for option in (field, *field.get("anyOf", ())):
        found = definitions.get(option.get("$ref", "").removeprefix("#/$defs/"), {})
        if "properties" in found:
            return found
    return None


def _as_yaml(value: object) -> str:
    """A default as a sweep file would have it."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()


MARKS = {
    "help of every command": help_of_every_command,
    "keys of a sweep file": keys_of_a_sweep_file,
}
