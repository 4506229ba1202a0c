import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from safesweep.trainables.store.part_checksums import (
    CHECKSUM_KEY,
    TRAILER_BYTES,
    footer_bytes,
    parquet_content,
    sound_file,
)

ROWS = pa.table({"number": list(range(40)), "text": ["x" * n for n in range(40)]})
CONTENT = parquet_content(ROWS.replace_schema_metadata({"known": "before"}))


def test_a_part_holds_its_rows_and_metadata_for_every_reader() -> None:
    found = pq.read_table(pa.BufferReader(CONTENT))
    assert found.equals(ROWS)
    assert found.schema.metadata[b"known"] == b"before"
    assert sound_file(CONTENT).metadata.metadata[b"known"] == b"before"


def test_every_bit_is_looked_at_but_those_that_say_so() -> None:
    """A bit of the checksum's own name takes the part's checksum away, and changes nothing else."""
    start = CONTENT.rindex(CHECKSUM_KEY.encode())
    own = range(start, start + len(CHECKSUM_KEY) + 2 + 28)
    for byte in (*range(0, len(CONTENT), 3), *range(len(CONTENT) - TRAILER_BYTES, len(CONTENT))):
        changed = bytearray(CONTENT)
        changed[byte] ^= 1 << byte % 8
        if byte in own:
            continue
        with pytest.raises((pa.ArrowException, OSError)):
            sound_file(bytes(changed))


@pytest.mark.parametrize("length", [0, 3, 8, 100, len(CONTENT) - 1])
def test_a_part_that_was_cut_is_none(length: int) -> None:
    with pytest.raises((pa.ArrowException, OSError)):
        sound_file(CONTENT[:length])


def test_what_others_wrote_has_no_checksum_and_is_taken_as_it_is() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(CONTENT)), sink)
    sound_file(sink.getvalue().to_pybytes())
    # Some keep the metadata.
    sink = pa.BufferOutputStream()
    pq.write_table(pq.ParquetFile(pa.BufferReader(CONTENT)).read().slice(1), sink)
    anew = sink.getvalue().to_pybytes()
    assert CHECKSUM_KEY.encode() in anew
    sound_file(anew)
    assert parquet_content(pq.ParquetFile(pa.BufferReader(CONTENT)).read()) == CONTENT


def test_a_part_with_more_in_it_is_damaged() -> None:
    with pytest.raises(pa.ArrowInvalid, match="not those written"):
        sound_file(CONTENT[:20] + b"more" + CONTENT[20:])


def test_the_length_of_a_footer_is_read_from_the_end() -> None:
    length = footer_bytes(CONTENT[-TRAILER_BYTES:])
    assert pq.read_metadata(pa.BufferReader(CONTENT[-length:])).num_rows == 40
    with pytest.raises(pa.ArrowInvalid, match="does not end as a Parquet file"):
        footer_bytes(b"PAR1")
