"""What becomes of a trial that did not end as it should: the reasons, and which are tried again.

| kind | example | then |
|---|---|---|
| `lost` | a worker or its node died | another takes over, up to a limit; then they are `failed` |
| `memory` | a GPU or the host has no memory left | the halves of its population are trained |
| `starved` | a worker was killed because its node had none | as `memory`; a single run as `lost` |
| `store` | the disk is full, the object store is gone | the sweep stops; nothing is recorded |
| `taken` | another driver has its runs, as this one was not heard of | what that makes is read |
| `error` | an exception in code or data | not tried again in this launch: `failed` |

A run that diverges has not failed: it is a result, with rows of its own.
"""

import re
import traceback
from dataclasses import dataclass, field

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.leases import LeaseLost
from safesweep.trainables.store.writer import StoreProblem

LONGEST_TRACEBACK = 64 * 2**10
SHOWN_FRAMES = 3


class FirstFailure(Exception):
    """A sweep that was to end at its first failure has; what had ended is in the store."""


@dataclass(frozen=True)
class Failure:
    """Why a trial ended without results: a kind of the table above, and one line; where they are
    known, the whole traceback and the last output of the worker.

    `bad_input` is whether a setting does not go with the data: its line says all that helps.
    """

    kind: str
    reason: str
    traceback: str = field(default="", compare=False)
    output: str = field(default="", compare=False)
    bad_input: bool = False

    @property
    def alike(self) -> str:
        """The same for failures that differ in numbers alone."""
        return re.sub(r"\d+", "#", self.reason)

    @property
    def last_frames(self) -> list[str]:
        """Where it was raised: the last frames of the traceback, a line each for place and code;
        none for bad input."""
        if self.bad_input:
            return []
        lines = self.traceback.rstrip().splitlines()
        shown = [line for line in lines if line.startswith("  ") and line.strip("^~ ")]
        frames = [number for number, line in enumerate(shown) if line.startswith('  File "')]
        return shown[frames[-SHOWN_FRAMES:][0] :] if frames else []


def classify(problem: BaseException, output: str = "") -> Failure:
    """The failure that an exception of a trial means.

    Args:
        output: what the worker printed last.
    """
    from safesweep.trainables.training.memory import is_out_of_memory

    whole = shortened_text("".join(traceback.format_exception(problem)), LONGEST_TRACEBACK)
    if isinstance(problem, StoreProblem):
        return Failure("store", str(problem), whole, output)
    if isinstance(problem, LeaseLost):
        return Failure("taken", str(problem))
    kind = "memory" if is_out_of_memory(problem) else "error"
    return Failure(kind, describe_error(problem), whole, output, isinstance(problem, InvalidInput))


def shortened_text(text: str, longest: int) -> str:
    """A text without its middle, where it is longer than so many characters."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters ...\n{text[-half:]}"


def describe_error(problem: BaseException) -> str:
    """An exception in one line: its type and the first line of its message; of bad input the line
    alone, which names what is wrong."""
    lines = str(problem).strip().splitlines()
    name = type(problem).__name__
    if lines and isinstance(problem, InvalidInput):
        return lines[0][:500]
    return (f"{name}: {lines[0]}" if lines else name)[:500]
