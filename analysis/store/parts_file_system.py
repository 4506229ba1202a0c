"""The parts of a store as DuckDB sees them: files that can be read, and nothing else.

DuckDB is closed to the file systems of the machine (`enable_external_access`); of this one it may
open the parts of one query, by names of their own. Nothing in it writes, moves or removes.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from safesweep.trainables.store.completeness import Part

SCHEME = "parts"


class PartsFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """Reads some parts of a local store.

    Attributes:
        names: DuckDB's name of each part, by its path: `parts://runs/sweep=first/abc.parquet`.
    """

    protocol = SCHEME
    cachable = False

    def __init__(self, root: str, parts: Iterable[Part]) -> None:
        super().__init__()
        self.names: dict[str, str] = {}
        self._parts: dict[str, Part] = {}
        for part in parts:
            name = PurePosixPath(part.path).relative_to(root).as_posix()
            self.names[part.path] = f"{SCHEME}://{name}"
            self._parts[name] = part

    def open(self, path: str, mode: str = "rb", *_: Any, **options: Any) -> BinaryIO:
        """Open a part for reading.

        Raises:
            PermissionError: any other mode.
            FileNotFoundError: no such part.
        """
        if mode != "rb":
            raise PermissionError(f"{path}: a store is read only")
        # DuckDB reads whole pages, which a buffer would only copy.
        return open(self._part(path).path, "rb", buffering=0)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Name, type and size in bytes of a part."""
        size = os.stat(self._part(path).path).st_size
        return {"name": path, "type": "file", "size": size}

    def exists(self, path: str, **options: Any) -> bool:
        """Whether there is such a part, and it has not been replaced."""
        part = self._parts.get(_relative(path))
        return part is not None and os.path.exists(part.path)

    def isfile(self, path: str) -> bool:
        """As `exists`: there are no folders."""
        return self.exists(path)

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        return False

    def glob(self, path: str, **options: Any) -> list[str]:
        """The part of that name: names are no patterns here."""
        return [f"{SCHEME}://{_relative(path)}"] if self.exists(path) else []

    def modified(self, path: str) -> datetime:
        """When a part was written."""
        return datetime.fromtimestamp(self._part(path).modified / 1e9, UTC)

    def _part(self, path: str) -> Part:
        part = self._parts.get(_relative(path))
        if part is None:
            raise FileNotFoundError(path)
        return part


def _relative(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://")
