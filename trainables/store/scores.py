"""How stored scores compare: at which cost limit, at which step, safe before unsafe.

Selection rules, early stopping, searches and progress all go by these functions.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from safesweep.trainables.tasks.registry import TASKS
from safesweep.trainables.tasks.task import Task

if TYPE_CHECKING:
    import pandas

ObjectiveName = Literal["normalized_reward", "reward_return_mean"]
ConstraintName = Literal["normalized_cost", "cost_return_mean", "violation_rate"]
OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
CONSTRAINTS: tuple[str, ...] = get_args(ConstraintName)

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
Number = TypeVar("Number", float, FloatArray)

_SIGNIFICANT_DIGITS = 12
_OWN_LIMIT = r"@[0-9.]+$"


def rounded(values: npt.ArrayLike) -> FloatArray:
    """`values` to 12 significant digits, so that the order of a summation decides nothing."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    scale = np.where(np.isfinite(magnitude), magnitude, 0.0)
    digits = np.clip(_SIGNIFICANT_DIGITS - 1 - scale, -300, 300)
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.round(values * 10.0**digits) / 10.0**digits
    return np.where(np.isfinite(result), result, values)


def within_limit(costs: npt.ArrayLike) -> BoolArray:
    """Which normalised costs are at most 1, up to rounding in the 12th significant digit."""
    return rounded(costs) <= 1.0


def total_excess(means: Mapping[str, npt.ArrayLike], subject_to: Mapping[str, float]) -> FloatArray:
    """By how much constraints are exceeded, summed over them: 0 where all hold.

    Args:
        means: the mean of each constrained score, all of one shape.
        subject_to: the limits, by score.
    """
    terms = [np.maximum(0.0, rounded(means[name]) - limit) for name, limit in subject_to.items()]
    return np.sum(terms, axis=0) if terms else np.zeros(())


def safe_first(excess: Number, objective: Number) -> tuple[Number, Number]:
    """What to sort by, ascending: safe before unsafe; safe ones by the objective, unsafe ones by
    their excess.

    Source: Deb (2000), "An efficient constraint handling method for genetic algorithms".
    """
    return excess, -objective


def last_evaluations(
    rows: "pandas.DataFrame", keys: Sequence[str] = ("run_id",)
) -> "pandas.DataFrame":
    """Of each group of `keys` the rows at its last step; all rows of a group without steps."""
    last = rows.groupby(list(keys), dropna=False)["step"].transform("max")
    return rows[(rows["step"] == last) | last.isna()]


def acts_to_own_limit(policies: "pandas.Series[str]") -> "pandas.Series[bool]":
    """Which policies act to a cost limit that their name says, `name@20`."""
    return policies.astype(object).str.contains(_OWN_LIMIT, na=False).astype(bool)


def at_cost_limit(
    rows: "pandas.DataFrame", cost_limit: float | Mapping[str, float], keep_own: bool = False
) -> "pandas.DataFrame":
    """Evaluations with `normalized_cost` and `cost_limit` at another limit.

    Args:
        rows: with `cost_return_mean`; unchanged.
        cost_limit: of an episode, one for all rows or by task. By task, rows of other tasks and
            those without a raw cost stay as they are.
        keep_own: so do, by task, those of policies that act to a limit of their own.
    """
    returns = rows["cost_return_mean"].astype(np.float64)
    if not isinstance(cost_limit, Mapping):
        costs = Task.normalize_cost(returns, cost_limit)
        return rows.assign(normalized_cost=costs, cost_limit=float(cost_limit))
    limits = rows["task"].map(cost_limit).astype(np.float64)
    costs = Task.normalize_cost(returns, limits)
    known = limits.notna() & returns.notna()
    if keep_own and "policy" in rows:
        known &= ~acts_to_own_limit(rows["policy"])
    return rows.assign(
        normalized_cost=costs.where(known, rows.get("normalized_cost", np.nan)),
        cost_limit=limits.where(known, rows.get("cost_limit", np.nan)),
    )


def limits_by_task(tasks: Sequence[str], cost_limit: float | None) -> dict[str, float]:
    """The limit asked for, or each task's own where none is; without the tasks that are unknown,
    such as an import's."""
    return {task: TASKS[task].limit_or_own(cost_limit) for task in tasks if task in TASKS}
