"""Checks of user input, shared by every package; each failure is one line."""

import math
from collections.abc import Iterable
from datetime import date
from difflib import get_close_matches

LONGEST_VALUE = 80
"""Characters of a bad value that a message shows."""
LONGEST_MESSAGE = 600
"""Characters of a message on one line, whatever it is about."""


class InvalidInput(ValueError):
    """Input that the user can mend; the message is one line that names the field and the value."""


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


def shown(value: object) -> str:
    """A value as messages show it: never long."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):  # Its repr is as long as it is.
        value = shortened(value, LONGEST_VALUE)
    return shortened(repr(value), LONGEST_VALUE)


def listed(names: Iterable[object], most: int = 12) -> str:
    """Names with commas between them; of many the first ones, and how many more there are."""
    texts = [shortened(str(name), LONGEST_VALUE) for name in names]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def quotes_hint(value: object) -> str:
    """What to do where text was wanted and YAML made something else of it; empty for text.

    YAML reads `no`, `on` and the like as truth values, and `2024-05-01` as a date.
    """
    kinds: dict[type, str] = {bool: "a truth value", date: "a date", int: "a number"}
    kinds |= {float: "a number", type(None): "nothing (null)"}
    kind = next((said for known, said in kinds.items() if isinstance(value, known)), None)
    return f"; YAML reads it as {kind}: text like this belongs in quotes" if kind else ""


def nearest(value: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to `value`, or None when none is close."""
    names = {name.lower(): name for name in allowed}
    matches = get_close_matches(str(value)[:LONGEST_VALUE].lower(), names, n=1, cutoff=0.5)
    return names[matches[0]] if matches else None


def require_choice(field: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises:
        InvalidInput: otherwise; names the field, the value, the choices and the nearest one.
    """
    names = list(allowed)
    if isinstance(value, str) and value in names:
        return value
    hint = quotes_hint(value)
    close = None if hint else nearest(str(value), names)
    hint = f"; did you mean {close!r}?" if close else hint
    raise InvalidInput(f"{field}: {shown(value)} is not one of {', '.join(names)}{hint}")


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
    kind = "a whole number" if integer else "a number"
    if low is not None and high is not None:
        kind += f" in [{low:g}, {high:g}]"
    elif low is not None:
        kind += f" >= {low:g}"
    elif high is not None:
        kind += f" <= {high:g}"
    message = f"{field}: {shown(value)} is not allowed; it must be {kind}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(message)
    if not math.isfinite(value) or (integer and value != int(value)):
        raise InvalidInput(message)
    if (low is not None and value < low) or (high is not None and value > high):
        raise InvalidInput(message)
    return int(value) if integer else value
