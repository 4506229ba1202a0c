"""Tables in files of other programs: text with separators, and Parquet. Only whole rows are read.

A program that is killed leaves the last row of its log incomplete: with cells missing, or with a
number of which only the first digits were written, which looks like any other. Nobody can tell
`12.7` from `12.75` that was cut, but a row that a line break ends is whole. So the last row of a
file that no line break ends counts as whole only where nothing of it can be missing: what stands
last is not wanted, is closed by a quote, or is a word that other rows have too. In a table of
results, of which each row is another run, a last number is taken as well when it has as many digits
after the point as any other of its column: what may be cut is then less than its last digit.
"""

import bz2
import codecs
import csv
import gzip
import io
import lzma
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safesweep.search_spaces.validation import InvalidInput, one_line, shown

if TYPE_CHECKING:
    import pandas

SEPARATORS = ("\t", ";", ",", "|")
Kind = Literal["text", "number", "any"]

WHITESPACE = " "
"""In place of a separator: cells are set apart by any number of blanks."""

_SAMPLE = 100
_NUMBER = re.compile(r"[+-]?(?:\d+\.?(\d*)|\.(\d+))(?:[eE][+-]?(\d+))?")
_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


@dataclass(frozen=True)
class TextRow:
    """A row: its cells, its line in the file, how many headers stand before it (more than one in a
    log that was resumed), and whether its last cell may be cut."""

    cells: tuple[str, ...]
    line: int
    headers: int = 1
    open_ended: bool = False


@dataclass(frozen=True)
class TableFile:
    """A table as it stands in a file.

    Attributes:
        name: of the file, for messages; empty for a table that is in no file.
        header: the names of the columns.
        rows: the whole rows of a text, and perhaps some whose last cell may be cut.
        notes: what was left out or is odd, a line each.
        frame: the table, in place of `rows`, where it has types already.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[TextRow, ...] = ()
    notes: tuple[str, ...] = ()
    frame: "pandas.DataFrame | None" = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """What messages call it."""
        return repr(self.name) if self.name else "the table"

    def select(
        self, wanted: Mapping[str, Kind], log: bool = False, keep_last: bool = False
    ) -> "tuple[pandas.DataFrame, list[TextRow], list[str]]":
        """Some columns with their types.

        Args:
            wanted: names of columns, and what each holds. In a column of numbers a cell that is
                none stays text.
            log: whether rows follow each other in time; see the module.
            keep_last: take rows whose last cell may be cut.

        Returns:
            The columns; the row of the text that each row comes from (none where there is no
            text); and what there is to say.

        Raises:
            InvalidInput: a column that occurs twice, no whole row, or numbers that can be read in
                two ways.
        """
        if not wanted:
            raise InvalidInput(f"import: no column of {self.title} is taken")
        for name in wanted:
            if self.header.count(name) > 1:
                raise InvalidInput(f"import: {self.title} has the column {shown(name)} twice")
        if self.frame is not None:
            return self.frame[list(wanted)], [], []
        rows, notes = self._whole_rows(wanted, log, keep_last)
        if not rows:
            raise InvalidInput(f"file: {self.name!r} holds no whole row{_because(notes)}")
        return self._typed(wanted, rows), rows, notes

    def _whole_rows(
        self, wanted: Mapping[str, Kind], log: bool, keep_last: bool
    ) -> tuple[list[TextRow], list[str]]:
        last = self.header[-1] if self.header else ""
        rows, notes = [], []
        for row in self.rows:
            if row.open_ended and not keep_last and last in wanted:
                others = [other.cells[-1] for other in self.rows if not other.open_ended]
                if _may_be_cut(row.cells[-1], others, log):
                    notes.append(
                        f"{self.name}: left out line {row.line}, which no line break ends, so that "
                        f"{last} {shown(row.cells[-1])} may be cut (--last-row keep takes it)"
                    )
                    continue
            rows.append(row)
        return rows, notes

    def _typed(self, wanted: Mapping[str, Kind], rows: Sequence[TextRow]) -> "pandas.DataFrame":
        import pandas

        places = {name: self.header.index(name) for name in wanted}
        numbers = [place for name, place in places.items() if wanted[name] != "text"]
        with_comma = set(numbers) if self._decimal_commas(rows, numbers) else set()
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        writer.writerow(range(len(places)))
        writer.writerows(
            [
                cell.replace(",", ".") if place in with_comma and _COMMA.fullmatch(cell) else cell
                for place in places.values()
                for cell in (row.cells[place],)
            ]
            for row in rows
        )
        text.seek(0)
        options: dict[str, Any] = {
            "dtype": {str(n): str for n, name in enumerate(places) if wanted[name] == "text"},
            "low_memory": False,
        }
        if int(pandas.__version__.partition(".")[0]) < 3:  # Later ones read what was written.
            options["float_precision"] = "round_trip"
        read_csv: Callable[..., pandas.DataFrame] = pandas.read_csv
        frame = read_csv(text, **options)
        frame = frame.set_axis(list(places), axis="columns")
        for name, kind in wanted.items():
            if kind == "number" and not pandas.api.types.is_numeric_dtype(frame[name]):
                # One cell that is no number must not make text of the others.
                read = pandas.to_numeric(frame[name], errors="coerce")
                frame[name] = frame[name].astype(object).where(read.isna(), read)
        return frame

    def _decimal_commas(self, rows: Sequence[TextRow], places: Sequence[int]) -> bool:
        """Whether a comma separates decimals: numbers have one, and none has a point."""
        cells = [(row, row.cells[place]) for row in rows for place in places]
        commas = [(row, cell) for row, cell in cells if "," in cell and _COMMA.fullmatch(cell)]
        if not commas or any((_digits(cell) or (0, 0))[0] for _, cell in cells):
            return False
        if all(_THOUSANDS.fullmatch(cell) for _, cell in commas):
            row, cell = commas[0]
            raise InvalidInput(
                f"file: {self.name!r}, line {row.line}: {shown(cell)} may be "
                f"{cell.replace(',', '.')} or {cell.replace(',', '')}; write numbers with a point"
            )
        return True


def read_table(path: Path) -> TableFile:
    """Read a table from Parquet, or from text with separators in UTF-8 or UTF-16, perhaps packed
    (gz, bz2, xz, zip).

    The separator is found out. Headers that are repeated in between (a log that was resumed) are
    dropped; a row before one, or at the end, that lacks cells is incomplete and left out.

    Raises:
        InvalidInput: no such file, or it is no such table; names the line.
    """
    if os.path.isdir(path):
        raise InvalidInput(f"file: {str(path)!r} is a folder; name the files in it")
    if path.suffix.lower() in _WORKBOOKS:
        raise InvalidInput(f"file: {str(path)!r} is a workbook; save its sheet as CSV")
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        content = _content(path)
    except InvalidInput:
        raise
    except Exception as problem:
        # pandas, pyarrow and the unpackers raise many kinds of error for what is not theirs.
        reason = one_line(getattr(problem, "strerror", None) or problem)
        raise InvalidInput(f"file: {str(path)!r} cannot be read as a table ({reason})") from problem
    return _parse(str(path), _decode(str(path), content))


def _read_parquet(path: Path) -> TableFile:
    import pandas

    frame = pandas.read_parquet(path)
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    return TableFile(str(path), tuple(frame.columns), frame=frame)


def _content(path: Path) -> bytes:
    suffix = path.suffix.lower()
    if suffix in _UNPACK:
        return _UNPACK[suffix](path.read_bytes())
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise InvalidInput(f"file: {str(path)!r} holds {len(names)} files; unpack it")
            return archive.read(names[0])
    return path.read_bytes()


def _decode(name: str, content: bytes) -> str:
    """The text, without a character that is cut at its end."""
    mark, encoding = next(
        ((mark, kind) for mark, kind in _BYTE_ORDER_MARKS.items() if content.startswith(mark)),
        (b"", "utf-8"),
    )
    body = content[len(mark) :]
    if encoding == "utf-8":
        # What a machine that lost power had not written yet is read as zeros.
        body = body.rstrip(b"\0")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(body)
    except UnicodeDecodeError as problem:
        line = body.count(b"\n", 0, problem.start) + 1
        raise InvalidInput(
            f"file: {name!r} is not UTF-8 text (line {line}); save it as CSV in UTF-8"
        ) from None
    if "\0" in text:
        raise InvalidInput(f"file: {name!r} is not text: it holds zero bytes")
    return text


def _parse(name: str, text: str) -> TableFile:
    """The table in a text."""
    lines = list(io.StringIO(text, newline=""))
    stated = re.fullmatch(r"sep=(.)\s*", lines[0]) if lines else None  # Excel's own first line
    if stated:
        lines[0] = "\n"
    separator = stated[1] if stated else _separator(lines)
    try:
        records = [record for record in _records(lines, separator) if any(record.cells)]
    except csv.Error as problem:
        raise InvalidInput(f"file: {name!r} cannot be read as a table ({problem})") from None
    if not records:
        raise InvalidInput(f"file: {name!r} is empty")
    header, header_text = records[0].cells, records[0].text.strip()
    rows: list[TextRow] = []
    notes: list[str] = []
    headers = 1
    for record, following in zip_longest(records[1:], records[2:]):
        if record.cells == header:
            headers += 1
            continue
        where = f"{name!r}, line {record.line}"
        glued = record.before(header_text, separator)
        cells = record.cells if glued is None else glued
        if len(cells) > len(header) and not any(cells[len(header) :]):
            cells = cells[: len(header)]
        ends = following is None or following.cells == header or glued is not None
        open_ended = record.open_ended or glued is not None
        if following is None and record.open_quote(separator):
            if record.lines > 1:
                raise InvalidInput(f"file: {where}: a quotation begins that does not end")
            notes.append(f"{name}: left out line {record.line}, which ends within a quotation")
        elif len(cells) < len(header) and ends:
            notes.append(
                f"{name}: left out line {record.line}, which is incomplete ({len(cells)} of "
                f"{len(header)} cells)"
            )
        elif len(cells) != len(header):
            raise InvalidInput(
                f"file: {where}: {len(cells)} cells, but the header has {len(header)}"
            )
        elif open_ended and all(map(str.startswith, header, cells)):
            notes.append(f"{name}: left out line {record.line}, a header that is incomplete")
        else:
            open_ended = open_ended and not record.closed_quote
            rows.append(TextRow(cells, record.line, headers, open_ended))
        headers += glued is not None
    if not rows:
        raise InvalidInput(f"file: {name!r} holds no whole row{_because(notes)}")
    if headers > 1:
        notes.append(f"{name}: its header stands there {headers} times; the log was resumed")
    named = tuple(cell or f"column {place}" for place, cell in enumerate(header, start=1))
    return TableFile(name, named, tuple(rows), tuple(notes))


@dataclass(frozen=True)
class _Record:
    """The cells of a row, the line in which it begins, how many it has (in quotes a cell may span
    several), and its text. `open_ended`: no line break ends it."""

    cells: tuple[str, ...]
    line: int
    lines: int
    text: str

    @property
    def open_ended(self) -> bool:
        return not self.text.endswith(("\n", "\r"))

    def open_quote(self, separator: str) -> bool:
        """Whether it ends within a quotation."""
        if separator == WHITESPACE:
            return False
        try:
            list(csv.reader([self.text], delimiter=separator, strict=True))
        except csv.Error as problem:
            return "unexpected end" in str(problem)
        return False

    @property
    def closed_quote(self) -> bool:
        """Whether it ends with a quotation that is closed."""
        last = self.cells[-1].replace('"', '""')
        return self.text.rstrip().endswith(f'"{last}"')

    def before(self, header: str, separator: str) -> tuple[str, ...] | None:
        """The cells of a row that was cut, where a header follows in the same line: a log that was
        resumed. None for any other row."""
        text = self.text.strip()
        if not text.endswith(header):
            return None
        begun = text.removesuffix(header)
        cells = begun.split() if separator == WHITESPACE else begun.split(separator)
        return tuple(cell.strip() for cell in cells)


def _records(lines: Sequence[str], separator: str) -> Iterator[_Record]:
    begun = 0
    for cells, ended in _numbered_rows(lines, separator):
        text = "".join(lines[begun:ended])
        yield _Record(tuple(cell.strip() for cell in cells), begun + 1, ended - begun, text)
        begun = ended


def _numbered_rows(lines: Sequence[str], separator: str) -> Iterator[tuple[list[str], int]]:
    """Rows, and the number of the line in which each ends."""
    if separator == WHITESPACE:
        yield from ((line.split(), number) for number, line in enumerate(lines, start=1))
        return
    reader = csv.reader(lines, delimiter=separator)
    for row in reader:
        yield row, reader.line_num


def _separator(lines: Sequence[str]) -> str:
    """What separates the cells: what gives most rows as many cells as the header has."""
    sample = [line for line in lines[:_SAMPLE] if line.strip()]
    best, found = (0.0, 1), None
    for separator in SEPARATORS:
        if not sample or separator not in sample[0]:
            continue
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=separator)]
        except csv.Error:
            continue
        agreeing = sum(width == widths[0] for width in widths) / len(widths)
        if widths[0] > 1 and (agreeing, widths[0]) > best:
            best, found = (agreeing, widths[0]), separator
    if found is not None:
        return found
    return WHITESPACE if sample and len(sample[0].split()) > 1 else ","


def _may_be_cut(cell: str, others: Sequence[str], log: bool) -> bool:
    """Whether the last cell of a row may be the beginning of a longer one."""
    digits = _digits(cell)
    if digits is None:
        return cell not in others or any(
            other != cell and other.startswith(cell) for other in others
        )
    found = [known for known in map(_digits, others) if known is not None]
    if log or not found or digits[0] < 1:
        return True
    return any(one < other for known in found for one, other in zip(digits, known, strict=True))


def _digits(cell: str) -> tuple[int, int] | None:
    """Digits of a number after the point, and of its exponent; None for what is no number."""
    match = _NUMBER.fullmatch(cell)
    if match is None:
        return None
    return len(match[1] or match[2] or ""), len(match[3] or "")


def _because(notes: Sequence[str]) -> str:
    return f": {notes[0].partition(': ')[2]}" if notes else " below its header"
