"""Parts that can tell whether they are still what was written, to the last bit.

Parquet's own checksums are of pages: a bit that flips in a page's header, or in the footer (its
statistics, counts, names), is nobody's. So a part carries one more, in its footer: length and
CRC-32 of all that comes before the footer, and the CRC-32 of the footer without it. To whoever
knows nothing of it, it is a line of metadata. A program that writes the part anew may keep that
line: it holds for neither then, and counts as none.
"""

import re
import zlib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

CHECKSUM_KEY = "safesweep.checksum"

# A key, and its value in Thrift's compact protocol: the type of a field, its length, 28 digits.
_STATED = re.compile(
    re.escape(CHECKSUM_KEY.encode()) + rb"\x18\x1c([0-9a-f]{12})([0-9a-f]{8})([0-9a-f]{8})"
)
_BLANK = "0" * 28
_END = b"PAR1"
TRAILER_BYTES = 8
"""At the end of every Parquet file: the length of its footer, and `PAR1`."""


def parquet_content(table: pa.Table) -> bytes:
    """A part with these rows and metadata, with all its checksums."""
    metadata = dict(table.schema.metadata or {})
    metadata.pop(CHECKSUM_KEY.encode(), None)
    table = table.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({CHECKSUM_KEY: _BLANK})
    content = bytes(sink.getvalue().to_pybytes())
    start = len(content) - footer_bytes(content[-TRAILER_BYTES:])
    return content[:start] + stated_footer(content[start:], start, zlib.crc32(content[:start]))


def leave_room(writer: pq.ParquetWriter) -> None:
    """Make room for the checksum in a part that is being written, which `stated_footer` fills."""
    writer.add_key_value_metadata({CHECKSUM_KEY: _BLANK})


def footer_bytes(trailer: bytes) -> int:
    """Length of a part's footer, its trailer included, from its last bytes.

    Raises:
        pa.ArrowInvalid: it is no Parquet file, or not all of one.
    """
    if len(trailer) < TRAILER_BYTES or not trailer.endswith(_END):
        raise pa.ArrowInvalid("it does not end as a Parquet file does")
    return TRAILER_BYTES + int.from_bytes(trailer[-TRAILER_BYTES : -len(_END)], "little")


def stated_footer(footer: bytes, data_bytes: int, data_checksum: int) -> bytes:
    """A footer, its trailer included, with the checksums in the room that was left for them."""
    found = _STATED.search(footer)
    assert found is not None
    stated = f"{data_bytes:012x}{data_checksum:08x}{zlib.crc32(footer):08x}".encode()
    return footer[: found.start(1)] + stated + footer[found.end(3) :]


def require_sound_footer(footer: bytes, data_bytes: int) -> int | None:
    """The checksum of what comes before a part's footer; None where it says none (older parts, and
    those of other programs).

    Args:
        footer: its trailer included.
        data_bytes: how much comes before it.

    Raises:
        pa.ArrowInvalid: the footer is not what was written, or not where.
    """
    found = _STATED.search(footer)
    if found is None:
        return None
    blank = footer[: found.start(1)] + _BLANK.encode() + footer[found.end(3) :]
    is_footer = zlib.crc32(blank) == int(found[3], 16)
    is_place = int(found[1], 16) == data_bytes
    if not is_footer and not is_place:
        return None
    if not is_footer:
        raise pa.ArrowInvalid("its footer's checksum is another")
    if not is_place:
        raise pa.ArrowInvalid(f"it has {data_bytes:,} bytes before its footer, not those written")
    return int(found[2], 16)


def require_sound_data(stated: int, chunks: Iterable[bytes]) -> None:
    """Compare what comes before a part's footer with its checksum.

    Raises:
        pa.ArrowInvalid: it is not what was written.
    """
    found = 0
    for chunk in chunks:
        found = zlib.crc32(chunk, found)
    if found != stated:
        raise pa.ArrowInvalid("its checksum is another")


def gather(tables: list[pa.Table], many: int = 256) -> None:
    """Copy tables of one schema into one, in place, where there are many: what is read of a part
    with a few rows takes a hundred times their memory."""
    if len(tables) >= many:
        tables[:] = [pa.concat_tables(tables).combine_chunks()]


def sound_file(content: bytes) -> pq.ParquetFile:
    """Open a whole part, compared with its checksums.

    Raises:
        pa.ArrowInvalid: it is no whole part, or not what was written.
    """
    start = max(0, len(content) - footer_bytes(content[-TRAILER_BYTES:]))
    stated = require_sound_footer(content[start:], start)
    if stated is not None:
        require_sound_data(stated, [content[:start]])
    return pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
