"""Locks of open files, where the system has them: `fcntl` is of Unix alone."""

import errno

# The numbers of Linux and macOS.
LOCK_SH, LOCK_EX, LOCK_NB = 1, 2, 4


def flock(descriptor: int, kind: int) -> None:
    """Lock an open file, shared or exclusive; `LOCK_NB` does not wait.

    Raises:
        OSError: the file system, or the system, has no locks; with `LOCK_NB` a BlockingIOError
            where somebody else has it.
    """
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOTSUP, "this system has no locks of files") from None
    fcntl.flock(descriptor, kind)
