"""What lists and plans look at of every run, in a few files beside the tables.

Opening a part costs the more the less is in it: of a hundred thousand trials of one run each a list
would take minutes. So whoever writes a trial also appends a line to a file of its own in `index/`,
and whoever finds many parts without a line writes those lines. A line holds for one part as it was
written (its place, length and time), and says so with a checksum of its own: what does not agree
with the part that is there, is damaged or was cut, is not looked at. Nothing is lost with the
folder but time.
"""

import contextlib
import json
import os
import socket
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "index"
SUFFIX = ".jsonl"
COLUMNS = (
    "run_id", "config_id", "trial_id", "algorithm", "task", "seed", "status", "steps",
    "dataset_id", "code_version", "code_digest", "config", "evaluation_count", "episode_count",
    "metric_count", "hyperparameter_count",
)  # fmt: skip
"""Of `runs`, what a line holds; `sweep` follows from the part's place."""

REBUILT_FROM = 1000
"""So many parts without a line are worth writing one for each."""

_OWN_FILES: dict[tuple[int, str], str] = {}
_LONGEST_LINE = 2**26


class IndexedPart(NamedTuple):
    """What the index says of one part of `runs`.

    Attributes:
        place: below the folder `runs`: `sweep=first/abc.parquet`.
        size: of the part, in bytes.
        modified: when it was written, in nanoseconds.
        seals: bytes and CRC-32 of the trial's other parts, by table.
        rows: a row a run, values in the order of `COLUMNS`.
    """

    place: str
    size: int
    modified: int
    seals: Mapping[str, tuple[int, int]]
    rows: Sequence[Sequence[Any]]


def line_of(part: IndexedPart) -> bytes:
    """The line of a part, with its checksum before it."""
    content = json.dumps(part, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def parts_in(content: bytes) -> Iterator[IndexedPart]:
    """The parts of which some lines speak; lines that were cut or damaged are left out."""
    for line in content.split(b"\n"):
        if len(line) > _LONGEST_LINE or b"%08x " % zlib.crc32(line[9:]) != line[:9]:
            continue
        place, size, modified, seals, rows = json.loads(line[9:])
        if all(len(row) == len(COLUMNS) for row in rows):
            yield IndexedPart(place, size, modified, seals, rows)


def prune(root: Path) -> None:
    """Keep the lines of a local store that hold, in one file. What a writer appends meanwhile may
    be lost, which costs its reader the opening of a part.

    Raises:
        OSError: the store cannot be read or written.
    """
    files = list((root / FOLDER).glob(f"*{SUFFIX}"))
    kept = []
    for file in files:
        for part in parts_in(file.read_bytes()):
            with contextlib.suppress(FileNotFoundError):
                state = os.stat(root / "runs" / part.place)
                if (state.st_size, state.st_mtime_ns) == (part.size, part.modified):
                    kept.append(line_of(part))
    if kept:
        partial = root / FOLDER / f".{uuid.uuid4().hex}"
        partial.write_bytes(b"".join(kept))
        partial.replace(root / FOLDER / f"rebuilt-{uuid.uuid4().hex}{SUFFIX}")
    for file in files:
        file.unlink(missing_ok=True)


def append_line(root: Path, part: IndexedPart) -> None:
    """Say what a part of a local store holds, in the file of this process.

    Raises:
        OSError: the store cannot be written.
    """
    key = (os.getpid(), str(root))
    if key not in _OWN_FILES:
        _OWN_FILES[key] = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    folder = root / FOLDER
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        descriptor = os.open(folder / _OWN_FILES[key], flags, 0o666)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _OWN_FILES[key], flags, 0o666)
    try:
        os.write(descriptor, line_of(part))
    finally:
        os.close(descriptor)
