"""How much memory this process may take."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def data_limited(more_bytes: int) -> Iterator[None]:
    """Within it this process may take so many bytes more than it has now; then allocations fail.

    For what libraries do not count themselves, such as DuckDB the text that functions make. Where
    there are no such limits, as on some systems, there is none.

    Raises:
        MemoryError: where Python itself finds that it is at the limit.
    """
    import psutil

    try:
        import resource
    except ImportError:  # It is of Unix alone.
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    present = getattr(psutil.Process().memory_info(), "data", None)
    wanted = None if present is None else present + more_bytes
    if wanted is None or (0 <= before[0] <= wanted):
        yield
        return
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
