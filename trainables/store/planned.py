"""What a driver writes beside the rows of its sweep: the runs that it plans for each method and
task, and what budgets have ended in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


def planned_path(sweep: str) -> str:
    """Where a store says how many runs each method has on each task."""
    return f"planned/{sweep}.json"


@dataclass(frozen=True)
class BudgetChoice:
    """What a budget chose, of one method on one task.

    Attributes:
        config_id: the configuration.
        bound: of its expected cost, as a multiple of the limit.
        confidence: the level of that.
        passed: whether it is within the limit.
    """

    config_id: str
    bound: float
    confidence: float
    passed: bool


def read_planned(content: bytes | None) -> list[dict[str, Any]]:
    """What `planned_path` holds, an entry for each method and task; nothing where there is no file,
    or one that cannot be understood."""
    if content is None:
        return []
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        return []
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def chosen_by_budgets(content: bytes | None) -> Iterator[BudgetChoice]:
    """The choices of the budgets that have ended, of the same content."""
    for entry in read_planned(content):
        try:
            yield BudgetChoice(**entry["chosen"])
        except (KeyError, TypeError):
            continue
