"""What one query may take: memory and time."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import duckdb
import pandas

from safesweep.search_spaces.validation import InvalidInput

MEMORY_BYTES = 4 * 2**30
SECONDS = 600.0

_VECTORS_PER_CHUNK = 64
_CHUNKS_IN_MEMORY = 64
_INTERRUPT_SECONDS = 0.05

Result = TypeVar("Result")


@dataclass(frozen=True)
class QueryLimits:
    """What one query may take.

    Attributes:
        memory_bytes: while it is worked out, and the same again for its answer.
        seconds: until the answer is there.
    """

    memory_bytes: int = MEMORY_BYTES
    seconds: float = SECONDS

    def answer(self, connection: duckdb.DuckDBPyConnection, query: str) -> pandas.DataFrame:
        """The answer to a query over a connection with this limit, in time and as long as it fits.

        Raises:
            InvalidInput: it takes longer, or more memory.
            KeyboardInterrupt: it was interrupted; the query has ended then.
            duckdb.Error: it fails.
        """
        over = threading.Event()
        try:
            return _in_a_thread(
                lambda: self._fetch(connection, query, over), connection, over, self.seconds
            )
        except duckdb.OutOfMemoryException as error:
            raise self._too_large() from error

    def _fetch(
        self, connection: duckdb.DuckDBPyConnection, query: str, over: threading.Event
    ) -> pandas.DataFrame:
        connection.execute(query)
        chunks: list[pandas.DataFrame] = []
        size, vectors = 0, 1
        while not over.is_set():
            chunk = connection.fetch_df_chunk(vectors)
            if len(chunk) == 0 and chunks:
                break
            chunks.append(chunk)
            if len(chunk) == 0:
                break
            taken = int(chunk.memory_usage(deep=True).sum())
            size += taken
            if size > self.memory_bytes:
                raise self._too_large()
            # Rows may be of any length: the next chunk is no larger than what is known to fit.
            if taken * 2 < self.memory_bytes / _CHUNKS_IN_MEMORY:
                vectors = min(2 * vectors, _VECTORS_PER_CHUNK)
        return chunks[0] if len(chunks) == 1 else pandas.concat(chunks, ignore_index=True)

    def _too_large(self) -> InvalidInput:
        return InvalidInput(
            f"query: takes more memory than its limit of {self.memory_bytes / 2**20:,.0f} MiB "
            "(--memory)"
        )


def _in_a_thread(
    work: Callable[[], Result],
    connection: duckdb.DuckDBPyConnection,
    over: threading.Event,
    seconds: float,
) -> Result:
    """Do what takes long, and end it when its time is over or the caller is interrupted, which
    DuckDB would tell from an error of its own only by its text."""
    done: list[Result] = []
    raised: list[BaseException] = []
    # A thread whose `join` was interrupted counts as ended, whether or not it has.
    ended = threading.Event()

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            raised.append(error)
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    try:
        if not ended.wait(seconds):
            raise InvalidInput(f"query: takes longer than its limit of {seconds:g} s (--timeout)")
    finally:
        over.set()
        # It may be between two statements, where there is nothing to interrupt.
        while not ended.wait(_INTERRUPT_SECONDS):
            connection.interrupt()
    if raised:
        raise raised[0]
    return done[0]
