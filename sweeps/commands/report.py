"""`safesweep report`: a sweep as one HTML page."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.results import (
    add_selection_options,
    add_storage_option,
    add_sweeps,
    choose,
    open_store,
    require_named,
    require_one,
    selection_words,
)
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    from safesweep.analysis.store.reader import ResultStore


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `report`."""
    parser = commands.add_parser(
        "report", help="write a sweep as one self-contained HTML page; several as a page each"
    )
    add_sweeps(parser, "write this sweep (repeatable)")
    parser.add_argument("--output", type=Path, help="the page of one (default: <sweep>.html)")
    add_selection_options(parser, filters=False)
    add_storage_option(parser)
    parser.set_defaults(handler=write_report, algorithm=None, task=None)


def write_report(arguments: argparse.Namespace) -> int:
    """Write a page for each sweep and say where it lies.

    Raises:
        InvalidInput: an unknown sweep or rule, or a place that cannot be written.
    """
    names = require_named(arguments)
    if arguments.output is not None:
        require_one(arguments)
    store = open_store(arguments)
    store.require_sweeps(names)
    for name in names:
        arguments.sweeps = [name]
        _write(store, name, arguments)
    return 0


def _write(store: "ResultStore", sweep: str, arguments: argparse.Namespace) -> None:
    from safesweep.analysis.report import make_report

    choice = choose(store, arguments, "last")
    words = ["safesweep", "report", sweep, *selection_words(arguments, choice.rule)]
    page = make_report(store, sweep, choice, choice.rule, shlex.join(words))
    path = arguments.output or Path(f"{sweep}.html")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(
            f"output: {str(path)!r} cannot be written ({problem.strerror})"
        ) from problem
    say(f"wrote {path}")
