"""Every block of code in the documentation does what it says, or says what it needs."""

import glob
import importlib
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.cli import build_parser, main
from tests.docs.blocks import LANGUAGES, PAGES, ROOT, Block, blocks, read
from tests.quick import slow_but

SHELL = [block for block in blocks("sh") if block.runs]
A_RUN = "3fa97c0d1e2b-0"
"""The id of a run, wherever the documentation needs one."""
# What cannot run here, by page: few, and each says why.
ELSEWHERE = {
    "docs/cluster.md": ["needs Docker", "needs a cluster of Kubernetes"],
    "docs/data.md": ["needs the network"],
    "docs/policies.md": ["needs an exported policy, in its folder"],
    "docs/running.md": ["needs a Ray cluster"],
}


def test_every_block_is_closed_and_has_a_language() -> None:
    for page in PAGES:
        fences = [line for line in read(page).splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(blocks(pages=(page,))), page
    assert [block for block in blocks() if block.language not in LANGUAGES] == []


def test_few_blocks_cannot_run_here_and_these_say_so() -> None:
    found: dict[str, list[str]] = {}
    for block in blocks():
        if not block.runs:
            found.setdefault(block.page, []).append(block.title)
    assert found == ELSEWHERE


def without_redirection(words: Sequence[str]) -> list[str]:
    """The words of a command before `>`."""
    return list(words[: words.index(">")] if ">" in words else words)


def trains(words: Sequence[str]) -> bool:
    """Whether a command of ours trains: what only the slow tests run."""
    if words[0] == "reproduce":
        return "--list" not in words
    options = {"select": "--confirm", "confirm": "--seeds"}
    return words[0] == "run" or options.get(words[0], "-") in words


def as_a_shell_would(words: Sequence[str], run_id: str) -> list[str]:
    """Patterns as the files that they match, and the id of a run of this store."""
    expanded: list[str] = []
    for word in words:
        matching = sorted(glob.glob(word)) if "*" in word and " " not in word else []
        expanded += matching or [run_id if word == A_RUN else word]
    return expanded


def run_quickly(words: list[str]) -> int:
    """One command of ours as it stands; what trains only as a plan, what serves not at all."""
    arguments = build_parser().parse_args(words)
    if words[0] == "run":
        words = [*words, *(() if "--dry-run" in words else ("--dry-run",))]
    elif words[:2] == ["data", "collect"]:
        words = [*words, "--episodes", "2"]
    elif (
        trains(words)
        or words[0] == "serve"
        or (getattr(arguments, "to", None) == "tensorboard" and find_spec("tensorboardX") is None)
    ):
        return 0
    return main(words)


# What a newcomer types; the other pages are slow.
QUICK_PAGES = ("README.md", "docs/tutorial.md")


@pytest.mark.parametrize(
    "block", slow_but([block for block in SHELL if block.page in QUICK_PAGES], SHELL), ids=str
)
def test_shell(
    block: Block,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert block.commands
    for words in block.commands:
        if words[0] == "safesweep":
            folder = request.getfixturevalue("reader_folder")
            runs = ResultStore(folder / "results").runs(sweep="demo", algorithm="bc")
            words = as_a_shell_would(without_redirection(words[1:]), runs["run_id"][0])
            assert run_quickly(words) == 0, (words, capfd.readouterr().err)
        elif words[0] == "make":
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True)
        elif words[:2] == ["python", "-m"]:
            require_arguments(words[2:], monkeypatch)
        else:
            # What `tests.test_installation` and `make setup` do.
            assert words[0] in ("pip", "uv", "python3.11", "."), f"{block}: {words[0]} is not tried"


class Parsed(Exception):
    """A program has read its arguments."""


def require_arguments(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """That a benchmark takes these arguments, without running it."""
    import argparse

    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(*arguments: Any, **options: Any) -> Any:
        parse(*arguments, **options)
        raise Parsed

    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", list(words))
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)
        with pytest.raises(Parsed):
            importlib.import_module(words[0]).main()


def test_benchmarks_that_are_named_exist_and_take_their_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import re

    named = {
        tuple(found.split())
        for page in PAGES
        for found in re.findall(r"`python\s+-m\s+(tests\.[^`]+)`", read(page))
    }
    assert len(named) > 8
    for words in named:
        require_arguments(words, monkeypatch)


SHORTER = {"steps": "8", "seeds": "1", "evaluate": "{every: 4, episodes: 2}",
           "fixed.hidden_dim": "8", "fixed.batch_size": "16"}  # fmt: skip


def shortened(words: Sequence[str]) -> list[str]:
    """A command that trains, with a budget of seconds."""
    if words[0] == "reproduce":
        return ["smoke" if word == "small" else word for word in words]
    if words[0] != "run":
        return list(words)
    kept: list[str] = []
    given = dict(SHORTER)
    for word in words:
        key = word.split("=")[0]
        if "=" in word and key in given and key != "seeds":
            word = f"{key}={given[key]}"
        if "=" in word:
            given.pop(key, None)
        kept.append(word)
    return [*kept, *(part for key, value in given.items() for part in ("-o", f"{key}={value}"))]


TRAINING = [
    block
    for block in SHELL
    if any(words[0] == "safesweep" and trains(words[1:]) for words in block.commands)
]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("block", TRAINING, ids=str)
def test_shell_that_trains(block: Block, reader_folder: Path) -> None:
    for words in block.commands:
        if words[0] != "safesweep" or words[1] == "serve":
            continue
        words = without_redirection(words[1:])
        command = [sys.executable, "-m", "safesweep", *shortened(words)]
        done = subprocess.run(command, cwd=reader_folder, capture_output=True, text=True)
        # 1 is what a choice says that was not confirmed, as after so few steps.
        allowed = (0, 1) if "--confirm" in words else (0,)
        assert done.returncode in allowed, (words, done.stderr[-2000:])


PYTHON_PAGES = sorted(
    {block.page for block in blocks("python") if block.runs and block.file_name is None}
)
WITH_RAY = ("docs/python.md",)


@pytest.mark.parametrize(
    "page",
    [
        *slow_but(QUICK_PAGES, [page for page in PYTHON_PAGES if page not in WITH_RAY]),
        *(pytest.param(page, marks=[pytest.mark.slow, pytest.mark.ray]) for page in WITH_RAY),
    ],
)
def test_python(page: str, reader_folder: Path) -> None:
    """The blocks of a page, one after another, as a reader would type them."""
    on_the_page = [block for block in blocks("python", pages=(page,)) if block.runs]
    text = "\n".join(block.text for block in on_the_page if block.file_name is None)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=reader_folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_examples_import_from_the_door() -> None:
    for block in blocks("python"):
        lines = [line for line in block.text.splitlines() if "import" in line]
        if block.page != "docs/looking.md":
            assert not [line for line in lines if "safesweep." in line], str(block)


def test_a_file_that_two_pages_show_is_the_same_on_both() -> None:
    texts: dict[str, set[str]] = {}
    for block in blocks():
        if block.file_name is not None:
            texts.setdefault(block.file_name, set()).add(block.text)
    assert {"first.yaml", "my_method.py", "my_task.yaml"} <= texts.keys()
    assert [name for name, found in texts.items() if len(found) > 1] == []
