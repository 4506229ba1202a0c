"""Which part of a nested state a function looks at."""

from collections.abc import Iterator, Mapping
from typing import Any


class Watched(dict[str, Any]):
    """Nested dictionaries that note which of their entries are looked up."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__(
            {key: Watched(value) if isinstance(value, dict) else value
             for key, value in content.items()}
        )  # fmt: skip
        self._seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self._seen.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._seen.add(key)
        return super().get(key, default)

    def __iter__(self) -> Iterator[str]:
        self._seen.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._seen.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        self._seen.update(super().keys())
        return super().values()

    def items(self) -> Any:
        self._seen.update(super().keys())
        return super().items()

    def looked_up(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of `content` at the places that were looked up; of a dictionary that was
        taken and never looked into, all."""
        found = {}
        for key in content:
            if key in self._seen:
                inner = dict.__getitem__(self, key)
                looked_into = isinstance(inner, Watched) and inner._seen
                found[key] = inner.looked_up(content[key]) if looked_into else content[key]
        return found
