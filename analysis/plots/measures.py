"""What pictures of a sweep measure: how much a hyperparameter matters, and what a smaller budget
would have found."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FEWEST_FOR_IMPORTANCE = 8
"""Configurations. Of fewer, the best quarter is a configuration or two."""
BEST_SHARE = 0.25
_LOG_FROM = 10.0
"""A positive range whose ends lie further apart than this is taken as logarithmic."""


def importance(configurations: pandas.DataFrame, names: Sequence[str]) -> pandas.DataFrame:
    """How much each hyperparameter decides whether a configuration is among the best quarter.

    PED-ANOVA (Watanabe, Bansal and Hutter 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter
    Importance in Arbitrary Subspaces") as Optuna has it, once for the reward and once for the cost.
    Shares of each score sum to 1. It follows from the configurations alone, without any draw.

    Args:
        configurations: of one method, task and policy: `reward`, `cost` and `hp_<name>`.
        names: the hyperparameters to compare; those that not every configuration has are left out.

    Returns:
        Columns `name, reward, cost`, the most important for the reward first; no rows where fewer
        than `FEWEST_FOR_IMPORTANCE` configurations have both scores, or nothing varies.
    """
    rows = configurations.dropna(subset=["reward", "cost"])
    columns = [HYPERPARAMETER_PREFIX + name for name in names]
    compared = [name for name in columns if rows[name].notna().all() and rows[name].nunique() > 1]
    empty = pandas.DataFrame({"name": [], "reward": [], "cost": []})
    if len(rows) < FEWEST_FOR_IMPORTANCE or not compared:
        return empty
    lower_is_better = {
        "reward": -rows["reward"].to_numpy(np.float64),
        "cost": rows["cost"].to_numpy(np.float64),
    }
    shares = _best_quarter_importance(rows, compared, lower_is_better)
    found = pandas.DataFrame(
        {
            "name": [name.removeprefix(HYPERPARAMETER_PREFIX) for name in compared],
            **{score: [values[name] for name in compared] for score, values in shares.items()},
        }
    )
    return found.sort_values(["reward", "name"], ascending=[False, True], ignore_index=True)


def _best_quarter_importance(
    rows: pandas.DataFrame,
    columns: Sequence[str],
    lower_is_better: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, dict[str, float]]:
    from optuna import create_study, logging
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    spaces = {name: _distribution(rows[name]) for name in columns}
    values = {name: [_parameter(value, spaces[name]) for value in rows[name]] for name in columns}
    logging.set_verbosity(logging.WARNING)
    study = create_study(directions=["minimize"] * len(lower_is_better))
    study.add_trials(
        [
            create_trial(
                params={name: values[name][row] for name in columns},
                distributions=spaces,
                values=[float(score[row]) for score in lower_is_better.values()],
            )
            for row in range(len(rows))
        ]
    )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    found = {}
    for place, (score, numbers) in enumerate(lower_is_better.items()):
        if np.ptp(numbers) == 0:
            found[score] = dict.fromkeys(columns, 0.0)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that lower is better, which it is here
            found[score] = get_param_importances(
                study, evaluator=evaluator, target=partial(_value, place)
            )
    return found


def _value(place: int, trial: "FrozenTrial") -> float:
    return float(trial.values[place])


def _distribution(column: "pandas.Series[Any]") -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not is_numeric(column):
        return CategoricalDistribution(sorted({str(value) for value in column}))
    low, high = float(column.min()), float(column.max())
    return FloatDistribution(low, high, log=is_logarithmic(column))


def _parameter(value: Any, space: "BaseDistribution") -> Any:
    from optuna.distributions import FloatDistribution

    return float(value) if isinstance(space, FloatDistribution) else str(value)


def is_numeric(column: "pandas.Series[Any]") -> bool:
    """Whether the values of a hyperparameter are numbers, and not words or truth values."""
    kind = column.dtype
    return pandas.api.types.is_numeric_dtype(kind) and not pandas.api.types.is_bool_dtype(kind)


def is_logarithmic(column: "pandas.Series[Any]") -> bool:
    """Whether numbers spread so far that their logarithms are what differs."""
    values = column.dropna().astype(np.float64)
    return bool(len(values) and values.min() > 0 and values.max() / values.min() > _LOG_FROM)


def best_safe_by_budget(
    configurations: pandas.DataFrame, runs: pandas.DataFrame
) -> pandas.DataFrame:
    """The best safe reward that was known after each configuration, in the order of finishing.

    Args:
        configurations: of one method, task and policy (`SweepResults.configurations`); those that
            are not whole cost their budget and are never the best.
        runs: of the sweep.

    Returns:
        Columns `configurations` (finished so far), `gradient_steps` and `hours` (of training and
        evaluation, summed over runs so far), `reward` (the best safe one so far, NaN before there
        is one) and `config_id` (its configuration).
    """
    of_these = runs[runs["config_id"].isin(configurations["config_id"])]
    seconds = of_these[["train_seconds", "evaluate_seconds"]].astype(np.float64)
    spent = of_these.assign(seconds=seconds.sum(axis=1))
    ended = spent.groupby("config_id").agg(
        finished_at=("finished_at", "max"), steps=("steps", "sum"), seconds=("seconds", "sum")
    )
    rows = configurations.join(ended, on="config_id").sort_values(
        ["finished_at", "config_id"], na_position="last"
    )
    counted = rows["whole"] & rows["safe"]
    rewards = rows["reward"].where(counted)
    best = rewards.cummax().ffill()
    better = counted & (rewards > best.shift().fillna(-np.inf))
    identities: list[str | None] = []
    for identifier, found in zip(rows["config_id"], better, strict=True):
        identities.append(identifier if found else identities[-1] if identities else None)
    return pandas.DataFrame(
        {
            "configurations": np.arange(1, len(rows) + 1),
            "gradient_steps": rows["steps"].cumsum().to_numpy(),
            "hours": rows["seconds"].cumsum().to_numpy() / 3600,
            "reward": best.to_numpy(np.float64),
            "config_id": pandas.Series(identities, dtype=object),
        }
    )


def positions(column: "pandas.Series[Any]") -> "pandas.Series[float]":
    """The values of a column between 0 and 1, as they stand on an axis of their own: numbers
    evenly (by their logarithms where they are far apart), words in alphabetical order."""
    places, _ = places_on_axis(column)
    if is_numeric(column) and is_logarithmic(column):
        places = np.log(places)
    present = places[np.isfinite(places)]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    scaled = (
        (places - low) / (high - low) if high > low else np.where(np.isnan(places), np.nan, 0.5)
    )
    return pandas.Series(scaled, column.index)


def places_on_axis(
    column: "pandas.Series[Any]",
) -> tuple[npt.NDArray[np.float64], list[str] | None]:
    """Where values stand on an axis; with the names of the places where they are words."""
    if is_numeric(column):
        return column.to_numpy(np.float64), None
    names = sorted({str(value) for value in column.dropna()})
    numbers = {name: float(place) for place, name in enumerate(names)}
    return column.dropna().astype(str).map(numbers).reindex(column.index).to_numpy(
        np.float64
    ), names
