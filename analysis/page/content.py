"""What pages say, as plain values that JSON can hold: a sweep, a run, a comparison of sweeps.

Numbers have six significant digits, which is more than a picture shows. Text is text: whoever puts
it into HTML escapes it.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas

from safesweep.analysis.plots.measures import (
    best_safe_by_budget,
    importance,
    is_logarithmic,
    is_numeric,
    positions,
)
from safesweep.analysis.plots.sweep_results import (
    SweepResults,
    read_results,
    rows_of,
    varying,
)
from safesweep.analysis.selection.choice import Choice, choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.trainables.store.codes import codes_of
from safesweep.trainables.store.labels import Labels, read_labels
from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX
from safesweep.trainables.store.writer import log_path

Content = dict[str, Any]

STATUSES = ("completed", "stopped", "diverged", "failed", "incomplete")
MOST_FAILURES = 200
"""Runs that did not complete, of which a page tells."""
_SCORES = ("reward", "reward_deviation", "cost", "cost_deviation")


def sweep_content(
    store: ResultStore, sweep: str, choice: Choice, rule: str, command: str
) -> Content:
    """Everything on the page of a sweep.

    Args:
        choice: what the rule chose of the sweep.
        command: what makes a page of it.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    plans = store.sweeps(sweep=sweep)
    if plans.empty:
        raise InvalidInput(f"sweep: {sweep!r} has no plan in {store.uri}")
    plan = plans.iloc[-1]
    results = read_results(store, sweep, choice)
    runs = results.runs
    labels = read_labels(store).get(sweep, Labels())
    seconds = float(runs[["train_seconds", "evaluate_seconds"]].sum().sum())
    # A run that completed may have something to say too: that its feasible set was empty.
    troubled = runs[(runs["status"] != "completed") | runs["error"].notna()]
    troubled = troubled.sort_values(["status", "run_id"])
    columns = ["run_id", "task", "seed", "status", "steps", "error", "traceback"]
    return {
        "kind": "sweep",
        "sweep": sweep,
        "tags": list(labels.tags),
        "note": labels.note,
        "status": str(plan["status"]),
        "created": f"{plan['created_at']:%Y-%m-%d %H:%M} UTC",
        "planned": len(plan["run_ids"]),
        "counts": {name: int((runs["status"] == name).sum()) for name in STATUSES},
        "hours": _plain(seconds / 3600),
        "rule": rule,
        "goal": str(choice.goal),
        "choices": _choices(choice, results),
        "groups": [_group(results, key, rows) for key, rows in results.groups()],
        "failures": _records(troubled.reindex(columns=columns).head(MOST_FAILURES)),
        "failures_left_out": max(0, len(troubled) - MOST_FAILURES),
        "specification": str(plan["spec"]),
        "datasets": sorted(map(str, runs["dataset_id"].dropna().unique())),
        "code_versions": sorted({code for code in codes_of(runs) if code is not None}),
        "codes": choice.codes,
        "command": command,
    }


def comparison_content(store: ResultStore, sweeps: Sequence[str]) -> Content:
    """Several sweeps beside each other: their configurations by task, and what was chosen.

    Raises:
        InvalidInput: the store does not know one of them, or none is named.
    """
    if not sweeps:
        raise InvalidInput("sweep: none is named; a comparison needs one or more")
    parts = []
    for sweep in dict.fromkeys(sweeps):
        choice = choose(store, sweep=sweep)
        results = read_results(store, sweep, choice)
        parts.append(
            {
                "sweep": sweep,
                "goal": str(choice.goal),
                "choices": _choices(choice, results),
                "groups": [
                    {
                        "label": label_of(key),
                        "task": key[1],
                        "config_id": list(map(str, rows["config_id"])),
                        **{name: _numbers(rows[name]) for name in ("reward", "cost")},
                        **{name: _flags(rows[name]) for name in ("front", "chosen")},
                    }
                    for key, rows in results.groups()
                ],
            }
        )
    return {"kind": "comparison", "parts": parts}


def run_content(store: ResultStore, run_id: str) -> Content:
    """One run: how it went, its configuration, its curves, and why it failed.

    Raises:
        InvalidInput: the store holds no such run.
    """
    runs = store.runs(run_id=run_id)
    if runs.empty:
        raise InvalidInput(f"run: {run_id!r} is not among the runs that have ended")
    row = runs.iloc[-1]
    evaluations = store.evaluations(run_id=run_id).sort_values("step")
    metrics = store.metrics(run_id=run_id).sort_values("step")
    trial = str(row["trial_id"])
    # A trial that was imported may be called anything.
    output = store.file(log_path(trial)) if trial.isalnum() else None
    last = evaluations["step"].max() if len(evaluations) else None
    episodes = store.episodes(["policy", "step", "cost_return"], run_id=run_id)
    shown = [
        "run_id", "config_id", "trial_id", "sweep", "algorithm", "task", "seed", "status", "steps",
        "train_seconds", "evaluate_seconds", "device", "population", "started_at", "finished_at",
        "dataset_id", "code_version", "continued_from", "error",
    ]  # fmt: skip
    settings = {
        str(name).removeprefix(HYPERPARAMETER_PREFIX): _plain(row[name])
        for name in runs.columns
        if str(name).startswith(HYPERPARAMETER_PREFIX) and not is_missing(row[name])
    }
    return {
        "kind": "run",
        "run_id": run_id,
        "facts": {name: _plain(row[name]) for name in shown if not is_missing(row.get(name))},
        "settings": settings,
        "curves": [
            {
                "policy": str(policy),
                "step": _numbers(rows["step"]),
                "reward": _numbers(rows["normalized_reward"]),
                "cost": _numbers(rows["normalized_cost"]),
            }
            for policy, rows in evaluations.groupby("policy", dropna=False)
        ],
        "metrics": {
            str(name): {"step": _numbers(rows["step"]), "value": _numbers(rows["value"])}
            for name, rows in metrics.groupby("name")
        },
        "episode_costs": _histograms(episodes[episodes["step"] == last]),
        "traceback": _plain(row.get("traceback")),
        "output": None if output is None else output.decode("utf-8", errors="replace"),
    }


def label_of(key: Sequence[str]) -> str:
    """A method, task and policy in words."""
    algorithm, task, policy = key
    return f"{algorithm} on {task}" + ("" if policy == algorithm else f", policy {policy}")


def _choices(choice: Choice, results: SweepResults) -> list[Content]:
    found = []
    names = {key: varying(rows) for key, rows in results.groups()}
    for row in choice.chosen.to_dict("records"):
        algorithm, task = str(row["algorithm"]), str(row["task"])
        policy = row.get("policy")
        key = (algorithm, task, algorithm if is_missing(policy) else str(policy))
        settings = {
            name: _plain(row[HYPERPARAMETER_PREFIX + name])
            for name in names.get(key, ())
            if not is_missing(row.get(HYPERPARAMETER_PREFIX + name))
        }
        found.append(
            {
                "label": label_of(key),
                "config_id": _plain(row["config_id"]),
                "safe": bool(row["safe"]),
                "reward": _plain(row["normalized_reward"]),
                "cost": _plain(row["normalized_cost"]),
                "seeds": _plain(row["seeds"]),
                "reason": f"{row['reason']}; {row['budget']}",
                "settings": settings,
            }
        )
    return found


def _group(results: SweepResults, key: tuple[str, str, str], rows: pandas.DataFrame) -> Content:
    """A method, task and policy: its configurations column by column, and all that is drawn."""
    names = varying(rows)
    columns = {name: rows[HYPERPARAMETER_PREFIX + name] for name in names}
    evaluations = rows_of(results.evaluations, key)
    place = {identifier: number for number, identifier in enumerate(rows["config_id"])}
    seeds = evaluations[evaluations["config_id"].isin(place)].sort_values("seed")
    runs_of: list[list[list[Any]]] = [[] for _ in place]
    for identifier, seed, run in zip(
        seeds["config_id"], seeds["seed"], seeds["run_id"], strict=True
    ):
        runs_of[place[identifier]].append([int(seed), str(run)])
    parallel = {**columns, "cost": rows["cost"], "reward": rows["reward"]}
    return {
        "label": label_of(key),
        "algorithm": key[0],
        "task": key[1],
        "policy": key[2],
        "config_id": list(map(str, rows["config_id"])),
        "seeds": _numbers(rows["seeds"]),
        "runs": runs_of,
        **{name: _numbers(rows[name]) for name in _SCORES},
        **{name: _flags(rows[name]) for name in ("safe", "whole", "front", "chosen")},
        "hyperparameters": {
            name: {
                "values": [None if is_missing(value) else _plain(value) for value in column],
                "axis": _axis(column),
            }
            for name, column in columns.items()
        },
        "positions": {name: _numbers(positions(column)) for name, column in parallel.items()},
        "run_points": {
            "place": [place[identifier] for identifier in seeds["config_id"]],
            "seed": _numbers(seeds["seed"]),
            "reward": _numbers(seeds["normalized_reward"]),
            "cost": _numbers(seeds["normalized_cost"]),
        },
        "curves": _curves(rows_of(results.curves, key), place),
        "importance": _columns(importance(rows, names)),
        "budget": _columns(best_safe_by_budget(rows, results.runs)),
    }


def _curves(rows: pandas.DataFrame, place: Mapping[str, int]) -> list[Content]:
    """Each configuration's scores at its steps."""
    rows = rows[rows["config_id"].isin(place)]
    columns = {name: _numbers(rows[name]) for name in ("step", *_SCORES)}
    identifiers = rows["config_id"].to_numpy()
    starts = [0, *(np.flatnonzero(identifiers[1:] != identifiers[:-1]) + 1), len(rows)]
    return [
        {
            "place": place[identifiers[start]],
            **{name: values[start:end] for name, values in columns.items()},
        }
        for start, end in pairwise(starts)
        if end > start
    ]


def _histograms(episodes: pandas.DataFrame) -> list[Content]:
    """For each policy how many episodes cost how much, in the same bins for all."""
    episodes = episodes[np.isfinite(episodes["cost_return"])]
    if episodes.empty:
        return []
    edges = np.histogram_bin_edges(episodes["cost_return"], bins="sturges")
    return [
        {
            "policy": str(policy),
            "from": [float(f"{edge:.6g}") for edge in edges[:-1]],
            "to": [float(f"{edge:.6g}") for edge in edges[1:]],
            "episodes": np.histogram(rows["cost_return"], edges)[0].tolist(),
        }
        for policy, rows in episodes.groupby("policy", dropna=False)
    ]


def _axis(column: "pandas.Series[Any]") -> str:
    if not is_numeric(column):
        return "category"
    return "log" if is_logarithmic(column) else "linear"


def _columns(frame: pandas.DataFrame) -> dict[str, list[Any]]:
    return {str(name): [_plain(value) for value in frame[name]] for name in frame}


def _records(frame: pandas.DataFrame) -> list[Content]:
    return [
        {str(name): _plain(value) for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def _numbers(column: "pandas.Series[Any]") -> list[float | None]:
    return [
        float(f"{value:.6g}") if math.isfinite(value) else None
        for value in column.to_numpy(np.float64).tolist()
    ]


def _flags(column: "pandas.Series[Any]") -> list[bool]:
    return [bool(value) for value in column]


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is missing or not finite is null."""
    if value is None or (not isinstance(value, list | dict | str | Mapping) and is_missing(value)):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return str(value)
