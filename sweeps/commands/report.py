"""`safesweep report`: a sweep as one HTML page."""

import argparse
import shlex
from pathlib import Path

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.results import (
    add_selection_options,
    add_storage_option,
    choose,
    open_store,
    selection_words,
)
from safesweep.sweeps.output import say


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `report`."""
    parser = commands.add_parser("report", help="write a sweep as one self-contained HTML page")
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("--output", type=Path, help="the page (default: <sweep>.html)")
    add_selection_options(parser, filters=False)
    add_storage_option(parser)
    parser.set_defaults(handler=write_report, algorithm=None, task=None)


def write_report(arguments: argparse.Namespace) -> int:
    """Write the page and say where it lies.

    Raises:
        InvalidInput: an unknown sweep or rule, or a place that cannot be written.
    """
    from safesweep.analysis.report import make_report

    store = open_store(arguments)
    choice = choose(store, arguments, "last")
    words = ["safesweep", "report", arguments.sweep, *selection_words(arguments)]
    page = make_report(store, arguments.sweep, choice, arguments.rule, shlex.join(words))
    path = arguments.output or Path(f"{arguments.sweep}.html")
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise InvalidInput(
            f"output: {str(path)!r} cannot be written ({problem.strerror})"
        ) from problem
    say(f"wrote {path}")
    return 0
