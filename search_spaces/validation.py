"""Checks of user input, shared by every package; each failure is one line."""

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from difflib import get_close_matches
from pathlib import Path

LONGEST_VALUE = 80
"""Characters of a bad value that a message shows."""
MOST_KEYS = 20
"""Keys of a section that a message each is about."""
LONGEST_MESSAGE = 600
"""Characters of a message on one line, whatever it is about."""

_CREDENTIALS = re.compile(r"(?<=://)[^/\s'\"]*@")
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class Problem(Exception):
    """What ends a command with exit code 2: a line, or several, and no traceback."""

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said, each on a line of its own."""
        return tuple(str(line) for line in self.args)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class InvalidInput(Problem, ValueError):
    """Input that the user can mend; each line names the field and the value."""


class Problems:
    """The problems of one input, collected so that all of them are reported together."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}  # An ordered set: two methods may say the same.

    @contextmanager
    def collected(self, prefix: str = "") -> Iterator[None]:
        """Keep what is raised within, each line after `prefix`, and go on."""
        try:
            yield
        except InvalidInput as problem:
            self.add(*(f"{prefix}{line}" for line in problem.lines))

    def add(self, *lines: str) -> None:
        """Keep some problems."""
        self._lines |= dict.fromkeys(lines)

    @property
    def lines(self) -> list[str]:
        """What was kept, each line once."""
        return list(self._lines)

    def check(self) -> None:
        """Raise an InvalidInput with all problems, if there are any."""
        if self._lines:
            raise InvalidInput(*self._lines)


def is_missing(value: object) -> bool:
    """Whether a cell holds no value: None, NaN, NaT or pandas.NA.

    Tables come from DuckDB, pandas and Arrow, each with its own sign; `pandas.NA` is neither equal
    nor unequal to anything, so `value != value` fails on it.
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, float):
        return math.isnan(value)
    kind = getattr(value, "dtype", None)
    return kind is not None and getattr(value, "ndim", 0) == 0 and bool(value != value)


def shortened(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """`text`, or its beginning and its end (where hints stand) when it is longer."""
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 3]}...{text[-end:]}"


def one_line(problem: object) -> str:
    """What an error says, with each run of spaces and line breaks as one space."""
    return " ".join(str(problem).split())


def without_secrets(text: str) -> str:
    """`text` without the user names and passwords, or keys, that stand in its URIs."""
    return _CREDENTIALS.sub("", text)


def without_controls(text: str) -> str:
    """`text` in which characters that a terminal takes for commands (escapes, moves of the cursor,
    reversed writing) are written out; line breaks and tabs stay."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(value: object) -> str:
    """A value as messages show it: never long."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):  # Its repr is as long as it is.
        value = shortened(value, LONGEST_VALUE)
    if isinstance(value, int) and value.bit_length() > 10_000:  # Python writes no longer ones.
        return f"a whole number of {value.bit_length():,} bits"
    return shortened(repr(value), LONGEST_VALUE)


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names with commas between them; of many the first ones, and how many more there are."""
    texts = [shortened(str(name), LONGEST_VALUE) for name in names]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with `~` as the home folder.

    Raises:
        InvalidInput: it begins with the home folder of a user whom this machine does not know.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InvalidInput(
            f"{shown(str(path))} begins with the home folder of an unknown user; write "
            f"./{shortened(str(path), LONGEST_VALUE)} for a file or folder of that name"
        ) from None


def quotes_hint(value: object) -> str:
    """What to do where text was wanted and YAML made something else of it; empty for text.

    YAML reads `no`, `on` and the like as truth values, and `2024-05-01` as a date.
    """
    kinds: dict[type, str] = {bool: "a truth value", date: "a date", int: "a number"}
    kinds |= {float: "a number", type(None): "nothing (null)"}
    kind = next((said for known, said in kinds.items() if isinstance(value, known)), None)
    return f"; YAML reads it as {kind}: text like this belongs in quotes" if kind else ""


def kind_of_yaml(value: object) -> str:
    """What a value is, where something else was wanted: "a list", "text", "nothing"."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else shown(value)


def nearest(value: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to `value`, or None when none is close."""
    names = {name.lower(): name for name in allowed}
    matches = get_close_matches(str(value)[:LONGEST_VALUE].lower(), names, n=1, cutoff=0.5)
    return names[matches[0]] if matches else None


def did_you_mean(value: object, allowed: Iterable[str]) -> str:
    """The end of a message that names the nearest allowed name; empty where none is close."""
    close = nearest(str(value), allowed)
    return f"; did you mean {close!r}?" if close else ""


def key_problems(
    section: str, keys: Iterable[object], allowed: Iterable[str], required: Iterable[str] = ()
) -> list[str]:
    """What is wrong with the keys of a section (`a.b`; empty: the whole file).

    A line for each key that is not allowed, and for each that is required and missing: unless one
    that is not allowed looks like it.
    """
    prefix, names, found = f"{section}." if section else "", list(allowed), list(keys)
    unknown = [key for key in found if key not in names]
    more = len(unknown) - MOST_KEYS
    unknown = unknown[:MOST_KEYS]
    misspelt = {nearest(str(key), names) for key in unknown}
    lines = [
        f"{prefix}{key if isinstance(key, str) else shown(key)}: unknown key; allowed: "
        f"{', '.join(names)}{quotes_hint(key) or did_you_mean(key, names)}"
        for key in unknown
    ]
    if more > 0:
        lines.append(f"{section or 'the file'}: {more:,} more unknown keys")
    missing = [key for key in required if key not in found and key not in misspelt]
    return lines + [f"{prefix}{key}: is missing" for key in missing]


def require_choice(field: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        InvalidInput: otherwise; names the field, the value, the choices and the nearest one.
    """
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    hint = quotes_hint(value) or did_you_mean(value, names)
    raise InvalidInput(f"{field}: {shown(value)} is not one of {', '.join(names)}{hint}")


def number_within(
    low: float | None = None, high: float | None = None, integer: bool = False
) -> str:
    """The numbers that are allowed, for a message: "a whole number in [1, 3]"."""
    kind = "a whole number" if integer else "a number"
    if low is not None and high is not None:
        return f"{kind} in [{low:g}, {high:g}]"
    if low is not None:
        return f"{kind} >= {low:g}"
    return kind if high is None else f"{kind} <= {high:g}"


def _is_finite(value: float | int) -> bool:
    """Whether it is a number that a float can hold, roughly: 10**400 is none."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def require_number(
    field: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    integer: bool = False,
) -> float | int:
    """Return `value` as a finite number within [low, high].

    Raises:
        InvalidInput: wrong type, not finite, or out of range.
    """
    allowed = number_within(low, high, integer)
    message = f"{field}: {shown(value)} is not allowed; it must be {allowed}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(message)
    if not _is_finite(value) or (integer and value != int(value)):
        raise InvalidInput(message)
    if (low is not None and value < low) or (high is not None and value > high):
        raise InvalidInput(message)
    return int(value) if integer else value
