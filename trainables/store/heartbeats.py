"""What trials say while they train, as others read it: a file that anything may have written."""

import json
import math
from collections.abc import Mapping
from typing import Any

LONGEST_BYTES = 2**22
"""Of a record; a population of some thousand runs takes some hundred thousand."""

_REQUIRED: Mapping[str, type] = {
    "trial_id": str, "sweep": str, "task": str, "run_ids": list, "step": int, "steps": int
}  # fmt: skip
_DEFAULTS: Mapping[str, Any] = {
    "algorithm": "", "seconds": 0.0, "waiting": False, "host": "", "process": 0, "time": ""
}  # fmt: skip
_LARGEST = 2**62


def parse_heartbeat(content: bytes) -> dict[str, Any]:
    """The record in a heartbeat's file, with a value of the right kind in each of its fields.

    Raises:
        ValueError: it is none; says why.
    """
    if len(content) > LONGEST_BYTES:
        raise ValueError(f"longer than {LONGEST_BYTES} bytes")
    try:
        beat = json.loads(content)
    except (ValueError, RecursionError) as problem:
        raise ValueError(f"not JSON: {problem}") from problem
    if not isinstance(beat, dict):
        raise ValueError("not a record")
    absent = [name for name in _REQUIRED if name not in beat]
    if absent:
        raise ValueError(f"lacks {', '.join(absent)}")
    beat = {**_DEFAULTS, **beat}
    kinds = {**_REQUIRED, **{name: type(value) for name, value in _DEFAULTS.items()}}
    wrong = [name for name, kind in kinds.items() if not _is(beat[name], kind)]
    if not wrong and not all(isinstance(run, str) for run in beat["run_ids"]):
        wrong = ["run_ids"]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: of a wrong kind")
    return beat


def sweep_of(content: bytes) -> str | None:
    """The sweep of which a heartbeat is, also of one that lacks other fields."""
    try:
        beat = json.loads(content)
    except (ValueError, RecursionError):
        return None
    sweep = beat.get("sweep") if isinstance(beat, dict) else None
    return sweep if isinstance(sweep, str) else None


def _is(value: object, kind: type) -> bool:
    if kind is float:
        kinds: tuple[type, ...] = (int, float)
        return _is_size(value, kinds)
    return _is_size(value, (int,)) if kind is int else isinstance(value, kind)


def _is_size(value: object, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    assert isinstance(value, int | float)
    return 0 <= value <= _LARGEST and math.isfinite(value)
