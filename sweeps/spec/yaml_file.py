"""Sweep files as text: found, parsed, overridden. What they hold is `sweep_spec`'s to judge."""

import os
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from safesweep.search_spaces.validation import (
    InvalidInput,
    Problems,
    did_you_mean,
    expanded,
    kind_of_yaml,
    quotes_hint,
    shown,
)

LONGEST_TEXT = 2**18
"""Bytes of a sweep file, which is read in seconds then."""
MOST_VALUES = 100_000
"""In a sweep file, what an alias (`*name`) stands for counted each time."""
LONGEST_NUMBER_BITS = 10_000
DEEPEST = 30
"""Sections and lists within each other."""
INCLUDE = "include"
"""The key of a sweep file that names others, which it builds on."""


def shipped_specs() -> list[str]:
    """Names of the sweep files that come with the package."""
    folder = files("safesweep.sweeps") / "specs"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def read_text(source: str | Path) -> str:
    """The text of a sweep file, given its path, or of one that ships, given its name.

    Raises:
        InvalidInput: there is no such file, or it cannot be read.
    """
    path = Path(source)
    shipped = shipped_specs()
    if not os.path.isfile(path) and str(source) in shipped:
        resource = files("safesweep.sweeps") / "specs" / f"{source}.yaml"
        return resource.read_text(encoding="utf-8")
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_TEXT + 1)
        if len(content) > LONGEST_TEXT:
            raise InvalidInput(
                f"spec: {shown(str(source))} is longer than {LONGEST_TEXT:,} bytes, the most that "
                "a sweep file may have"
            )
        return content.decode("utf-8")
    except FileNotFoundError:
        raise InvalidInput(
            f"spec: no file {str(source)!r} and no sweep of that name ships "
            f"({', '.join(shipped)}){did_you_mean(source, shipped)}"
        ) from None
    except (OSError, UnicodeError, ValueError) as problem:
        if isinstance(problem, InvalidInput):
            raise
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise InvalidInput(f"spec: cannot read {shown(str(source))}: {reason}") from None


def read(source: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The content of a sweep file, given its path, or of one that ships, given its name; see
    `parse`.

    Raises:
        InvalidInput: there is no such file, or as `parse`.
    """
    path = Path(source) if os.path.isfile(source) else None
    return parse(read_text(source), overrides, str(source), path)


def parse(
    text: str, overrides: Iterable[str], origin: str, path: Path | None = None
) -> dict[str, Any]:
    """The content of a sweep file with what it includes, after its `key=value` overrides (dotted
    keys).

    `include` names a file, or several, of which later ones go before earlier ones, and the file
    itself before all of them. Sections are merged key by key; anything else, lists among it, takes
    the place of what was there, and null that of nothing.

    Args:
        origin: what messages call the file.
        path: where it lies; files that it includes are looked for beside it, or else where the
            process is.

    Raises:
        InvalidInput: not YAML, not a mapping, a bad override, or a file that cannot be included.
    """
    content = _with_included(_mapping(text, origin), origin, path, ())
    _apply_overrides(content, overrides)
    if INCLUDE in content:
        raise InvalidInput(f"-o {INCLUDE}: only a sweep file includes others; -o sets other keys")
    return content


def _mapping(text: str, origin: str) -> dict[str, Any]:
    content = _parse_yaml(text, origin)
    if not isinstance(content, dict):
        raise InvalidInput(f"{origin}: must hold keys and values, not {kind_of_yaml(content)}")
    return content


def _with_included(
    content: dict[str, Any], origin: str, path: Path | None, chain: tuple[str, ...]
) -> dict[str, Any]:
    """A file's content over that of the files that it includes.

    Args:
        chain: the files by which this one was come to.
    """
    if INCLUDE not in content:
        return content
    named = content.pop(INCLUDE)
    names = named if isinstance(named, list) else [named]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidInput(
            f"{INCLUDE}: {shown(named)} is not allowed; it must be a file or a list of files"
            f"{quotes_hint(named)}"
        )
    chain = (*chain, str(path.resolve()) if path else origin)
    below: dict[str, Any] = {}
    for name in names:
        beside = Path(name) if path is None else path.parent / expanded(name)
        found = beside if os.path.isfile(beside) else None
        if found is None and name not in shipped_specs():
            raise InvalidInput(
                f"{INCLUDE}: there is no file {str(beside)!r}, which {origin} includes"
            )
        place = name if found is None else str(found.resolve())
        if place in chain:
            way = " -> ".join([*chain[chain.index(place) :], place])
            raise InvalidInput(f"{INCLUDE}: files include each other in a circle ({way})")
        inner_origin = name if found is None else str(found)
        inner = _mapping(read_text(name if found is None else found), inner_origin)
        below = _merged(below, _with_included(inner, inner_origin, found, chain))
    return _merged(below, content)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings, of which the second goes before the first, key by key."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both and under is not None else value
    return merged


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                line = key_node.start_mark.line + 1
                problem = "is given twice" if isinstance(key, Hashable) else "cannot be a key"
                raise InvalidInput(f"{key}: {problem} (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        """Text, which has no halves of characters."""
        value = str(super().construct_scalar(node))
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{shown(value)} is not text (line {_line(node)})") from None
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number, unless it is so long that Python would not write it."""
        value = int(super().construct_yaml_int(node))
        if value.bit_length() > LONGEST_NUMBER_BITS:
            raise InvalidInput(
                f"a whole number of {value.bit_length():,} bits is not allowed (line {_line(node)})"
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+"),
    list("-+0123456789."),
)


def _parse_yaml(text: str, origin: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _values_of(node, {}, 0, origin)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = getattr(problem, "problem", None) or str(problem).split("\n")[0]
        raise InvalidInput(f"{origin}: not valid YAML: {reason}{place}") from None
    except InvalidInput:
        raise
    except (ValueError, TypeError, AttributeError) as problem:
        # What looks like a date or a number and is none, such as 2024-13-45.
        raise InvalidInput(
            f"{origin}: not valid YAML: {problem}; text that looks like a date or a number belongs "
            "in quotes"
        ) from None
    except RecursionError:
        raise InvalidInput(f"{origin}: not valid YAML: lists within lists without end") from None


def _values_of(node: yaml.Node, known: dict[int, int], depth: int, origin: str) -> int:
    """How many values a node holds, those behind its aliases among them.

    Raises:
        InvalidInput: more than a sweep file may hold, or too deep; an alias within what it stands
            for has no end.
    """
    if depth > DEEPEST:
        raise InvalidInput(f"{origin}: nested deeper than {DEEPEST} (line {_line(node)})")
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_values_of(child, known, depth + 1, origin) for child in children)
    if known[id(node)] > MOST_VALUES:
        raise InvalidInput(
            f"{origin}: holds more than {MOST_VALUES:,} values, counting each alias (line "
            f"{_line(node)})"
        )
    return known[id(node)]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _apply_overrides(content: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set `key=value`, dotted keys, in the order given.

    Raises:
        InvalidInput: a bad override, or one that undoes another.
    """
    problems = Problems()
    applied: list[tuple[str, list[str], Any]] = []
    for override in overrides:
        with problems.collected():
            parts, value = _apply_override(content, override)
            applied.append((override, parts, deepcopy(value)))
    for override, parts, value in applied:
        if not _holds(content, parts, value):
            other = next(later for later, _, _ in reversed(applied) if _meet(later, parts))
            problems.add(f"-o {shown(override)}: is undone by -o {shown(other)}; give one")
    problems.check()


def _apply_override(content: dict[str, Any], override: str) -> tuple[list[str], Any]:
    """Set one key; returns its parts and its value."""
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise InvalidInput(f"-o {shown(override)}: must be key=value, such as steps=2000")
    target = content
    for part in parts[:-1]:
        if target.get(part) is None:
            target[part] = {}
        if not isinstance(target[part], dict):
            raise InvalidInput(f"-o {shown(override)}: {part} holds a value, not keys")
        target = target[part]
    target[parts[-1]] = _parse_yaml(text, f"-o {shown(override)}")
    return parts, target[parts[-1]]


def _meet(override: str, parts: Sequence[str]) -> bool:
    """Whether an override sets what lies at, above or below a key."""
    others = override.partition("=")[0].strip().split(".")
    return all(one == other for one, other in zip(others, parts, strict=False))


def _holds(content: Any, parts: Sequence[str], value: Any) -> bool:
    """Whether `value`, or all that it holds, still stands at a key."""
    for part in parts:
        if not isinstance(content, Mapping) or part not in content:
            return False
        content = content[part]
    if isinstance(value, Mapping) and isinstance(content, Mapping):
        return all(_holds(content, [key], inner) for key, inner in value.items())
    return bool(content == value)
