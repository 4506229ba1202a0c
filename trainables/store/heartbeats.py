"""What trials say while they train, as others read it: a file that anything may have written."""

import json
import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from safesweep.trainables.store.process_identity import ProcessIdentity

RENEW_SECONDS = 10.0
"""How often a trial that trains, and a driver that lives, says so."""

EXPIRY_SECONDS = 60.0
"""Who has said nothing for so long is taken for dead."""

LONGEST_BYTES = 2**22
"""Of a record; a population of some thousand runs takes some hundred thousand."""

_REQUIRED: Mapping[str, type] = {
    "trial_id": str, "sweep": str, "task": str, "run_ids": list, "step": int, "steps": int
}  # fmt: skip
_DEFAULTS: Mapping[str, Any] = {
    "algorithm": "", "seconds": 0.0, "waiting": False, "host": "", "process": 0, "time": "",
    "process_start": "", "machine": "", "lease": "", "renewed": 0.0, "phase": "", "progressed": 0.0,
    "patience": 0.0, "rate": 0.0,
}  # fmt: skip
"""Of what a record need not have, or does not in older stores. Times are in seconds since 1970.

`lease` names the driver; `renewed` is when the record was written, `progressed` when the trial had
last come further; it is as it should be for `patience` seconds after that. `rate` is in gradient
steps of the population a second. `phase` is `training` or `evaluating`.
"""
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


def worker_of(beat: Mapping[str, Any]) -> ProcessIdentity:
    """The process that wrote a record."""
    return ProcessIdentity(beat["host"], beat["process"], beat["process_start"], beat["machine"])


def condition(beat: Mapping[str, Any], drivers: Collection[str] = ()) -> str:
    """What has become of a trial, by what it said and how long ago.

    | condition | when |
    |---|---|
    | `running` | it speaks, and comes further |
    | `waiting` | for the others of its rung, or to be handed on, under a driver that is alive |
    | `stalled` | it speaks and does not come further, or its process is there and does not speak |
    | `dead` | its process is no more, or has not been heard of for `EXPIRY_SECONDS` |

    Args:
        beat: as `parse_heartbeat` returns it.
        drivers: the leases of the drivers that are alive.
    """
    worker = worker_of(beat)
    if beat["waiting"]:
        return "waiting" if beat["lease"] in drivers or not beat["lease"] else "dead"
    if worker.is_gone:
        return "dead"
    if not beat["renewed"]:
        return "running"  # An older release's, which speaks at evaluations alone.
    if abs(time.time() - beat["renewed"]) > EXPIRY_SECONDS:
        return "stalled" if worker.is_here else "dead"
    late = beat["renewed"] - beat["progressed"] > beat["patience"] > 0
    return "stalled" if late else "running"


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
