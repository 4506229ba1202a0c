"""Tables on standard output; whatever else a command says goes to standard error."""

import argparse
import io
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import (
    InvalidInput,
    is_missing,
    require_choice,
    without_controls,
    without_secrets,
)

if TYPE_CHECKING:
    import pandas

_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""With which a cell begins that spreadsheets work out instead of showing."""

FORMATS = ("table", "csv", "json", "parquet")


def add_format_option(parser: argparse.ArgumentParser) -> None:
    """Add `--format table|csv|json|parquet` (default: table) to a command."""
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="how tables are printed (default: table)"
    )


def fit_streams() -> None:
    """Have signs that a stream's encoding lacks written out, instead of ending the command. A
    terminal of the C locale gets ASCII alone, where Python would write UTF-8."""
    plain = os.environ.get("LC_ALL") in ("C", "POSIX")
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if plain and stream.isatty():
            stream.reconfigure(encoding="ascii", errors="backslashreplace")
        elif not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print one line for the human reader, on standard error: without the keys of URIs, and without
    what a terminal takes for commands."""
    print(without_controls(without_secrets(line)), file=sys.stderr, flush=True)


def print_table(frame: "pandas.DataFrame", format: str = "table") -> None:
    """Print a frame on standard output, without its index.

    In `csv` a text that a spreadsheet would take for a formula is preceded by an apostrophe. In a
    table, and in `csv` on a terminal, no cell holds what a terminal takes for commands.

    `json` is a list of objects (missing and non-finite numbers are null, times ISO 8601) and
    `parquet` the bytes of one file.

    Raises:
        InvalidInput: unknown format, or `parquet` asked for on a terminal.
    """
    require_choice("format", format, FORMATS)
    if format == "json":
        print(json.dumps(_records(frame), indent=1))
    elif format == "csv":
        _as_plain_text(frame).to_csv(sys.stdout, index=False, lineterminator="\n")
    elif format == "parquet":
        if sys.stdout.isatty():
            raise InvalidInput("format: 'parquet' is binary; redirect the output to a file")
        sys.stdout.flush()
        sys.stdout.buffer.write(frame.to_parquet(None, index=False))
        sys.stdout.buffer.flush()
    else:
        _print_rich(frame)


def _records(frame: "pandas.DataFrame") -> list[dict[str, Any]]:
    names = [str(name) for name in frame.columns]
    rows = zip(*(frame.iloc[:, index] for index in range(len(names))), strict=True)
    return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]


def _plain(value: Any) -> Any:
    """The JSON form of one cell."""
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if is_missing(value):
        return None
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _cell(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return without_controls(str(value))


def _as_plain_text(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """A frame whose texts, and names of columns, mean nothing to a spreadsheet or a terminal."""
    on_terminal = sys.stdout.isatty()

    def plain(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        value = without_controls(value) if on_terminal else value
        return f"'{value}" if value.startswith(_FORMULA_SIGNS) and not _is_number(value) else value

    texts = [place for place, kind in enumerate(frame.dtypes) if kind.kind == "O"]
    columns = [
        frame.iloc[:, place].map(plain) if place in texts else frame.iloc[:, place]
        for place in range(frame.shape[1])
    ]
    if not columns:
        return frame
    import pandas

    named = [plain(str(name)) for name in frame.columns]
    return pandas.concat(columns, axis="columns").set_axis(named, axis="columns")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _print_rich(frame: "pandas.DataFrame") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, name in enumerate(frame.columns):
        numeric = frame.dtypes.iloc[index].kind in "iuf"
        table.add_column(_cell(str(name)), justify="right" if numeric else "left", overflow="fold")
    for row in zip(*(frame.iloc[:, index] for index in range(frame.shape[1])), strict=True):
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        # A pipe has no width: rows must stay whole for grep and for logs.
        console = Console(file=sys.stdout, width=1_000_000)
        console.width = max(Measurement.get(console, console.options, table).maximum, 1)
    console.print(table)
