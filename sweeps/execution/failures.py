"""What becomes of a trial that did not end as it should: the reasons, and which are tried again.

| kind | example | then |
|---|---|---|
| `lost` | a worker or its node died | another takes over, up to a limit; then they are `failed` |
| `memory` | a GPU or the host has no memory left | the halves of its population are trained |
| `store` | the disk is full, the object store is gone | the sweep stops; nothing is recorded |
| `error` | an exception in code or data | not tried again in this launch: `failed` |

A run that diverges has not failed: it is a result, with rows of its own.
"""

from dataclasses import dataclass

from safesweep.trainables.store.writer import StoreProblem


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without results: a kind of the table above, and one line."""

    kind: str
    reason: str


def classify(problem: BaseException) -> Failure:
    """The failure that an exception of a trial means."""
    from safesweep.trainables.training.memory import is_out_of_memory

    if isinstance(problem, StoreProblem):
        return Failure("store", str(problem))
    kind = "memory" if is_out_of_memory(problem) else "error"
    return Failure(kind, describe_error(problem))


def describe_error(problem: BaseException) -> str:
    """An exception in one line: its type and the first line of its message."""
    lines = str(problem).strip().splitlines()
    text = f"{type(problem).__name__}: {lines[0]}" if lines else type(problem).__name__
    return text[:500]
