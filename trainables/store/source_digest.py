"""Which source trained a run: versions do not tell two uncommitted ones apart."""

import hashlib
from functools import cache
from pathlib import Path

from safesweep.search_spaces.plugins import source_of
from safesweep.trainables.tasks.registry import TASKS

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = ("components", "data", "methods", "tasks", "training")
"""What a run's numbers follow from; how they are stored, logged and chosen from changes none."""


def code_digest(algorithm: str, task: str) -> str:
    """Digest of the source that trains a method on a task: 12 hex digits, the same for the same.

    It is of the product's own source, and of the plugins that supply the method or the task; of
    the packages that they build on it says nothing.
    """
    digest = hashlib.sha256(_product_digest())
    found = TASKS.get(task)
    for dictionary, name in (("ALGORITHMS", algorithm), ("SUITES", found.suite if found else "")):
        digest.update((source_of(dictionary, name) or "").encode() + b"\0")
    return digest.hexdigest()[:12]


@cache
def _product_digest() -> bytes:
    digest = hashlib.sha256()
    files = [path for folder in _FOLDERS for path in _PACKAGE.joinpath(folder).rglob("*.py")]
    for path in sorted(files):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.digest()
