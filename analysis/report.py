"""A sweep as one HTML page that needs nothing beside it: plan, choice, figure, table, failures."""

import io
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pandas
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from safesweep.analysis.figures import BLUE, COLUMN_INCHES, GREY, ORANGE, figure_style
from safesweep.analysis.selection.choice import Choice
from safesweep.analysis.store.reader import ResultStore, hyperparameter_columns, with_incomplete
from safesweep.search_spaces.validation import InvalidInput, is_missing

KEYS = ["algorithm", "task", "policy", "config_id"]
STATUSES = ("completed", "stopped", "diverged", "failed", "incomplete")


def make_report(
    store: ResultStore,
    sweep: str,
    choice: Choice,
    rule: str,
    command: str,
) -> str:
    """The page.

    Args:
        choice: what the rule chose of the sweep.
        command: what makes this page again.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    plans = store.sweeps(sweep=sweep)
    if plans.empty:
        raise InvalidInput(f"sweep: {sweep!r} has no plan in {store.uri}")
    plan, runs = plans.iloc[-1], with_incomplete(store.runs(sweep=sweep), choice.incomplete)
    evaluations, chosen = choice.evaluations, choice.chosen
    configurations = summarize(evaluations, runs)
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files("safesweep.analysis").joinpath("report.html.jinja").read_text(encoding="utf-8")
    )
    return page.render(
        sweep=sweep,
        status=plan["status"],
        created_at=f"{plan['created_at']:%Y-%m-%d %H:%M} UTC",
        planned=len(plan["run_ids"]),
        statuses={name: int((runs["status"] == name).sum()) for name in STATUSES},
        hours=float((runs["train_seconds"] + runs["evaluate_seconds"]).sum()) / 3600,
        datasets=sorted(runs["dataset_id"].dropna().unique()),
        code_versions=sorted(runs["code_version"].dropna().unique()),
        specification=plan["spec"],
        rule=rule,
        goal="" if choice.goal.usual else str(choice.goal),
        command=command,
        choices=[_choice(row, configurations) for row in chosen.to_dict("records")],
        figures=_figures(evaluations, configurations, chosen),
        configurations=_table(configurations),
        failures=_table(
            runs.loc[
                runs["status"].isin(["diverged", "failed", "stopped", "incomplete"])
                | runs["error"].notna(),
                ["run_id", "task", "status", "steps", "error"],
            ].sort_values("run_id")
        ),
    )


def summarize(evaluations: pandas.DataFrame, runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row a configuration and policy: means and deviations over seeds, and what varies of its
    hyperparameters; per task the cheaper first."""
    grouped = evaluations.groupby(KEYS, sort=False)
    rows = grouped.agg(
        seeds=("seed", "nunique"),
        reward=("normalized_reward", "mean"),
        reward_deviation=("normalized_reward", "std"),
        cost=("normalized_cost", "mean"),
        cost_deviation=("normalized_cost", "std"),
    ).reset_index()
    names = [name for name in hyperparameter_columns(runs) if runs[name].nunique(dropna=False) > 1]
    values = runs.drop_duplicates("config_id").set_index("config_id")[names]
    joined = rows.join(values, on="config_id")
    return joined.sort_values(["task", "algorithm", "policy", "cost"], ignore_index=True)


def _choice(row: Mapping[Any, Any], configurations: pandas.DataFrame) -> dict[str, Any]:
    of_config = configurations[configurations["config_id"] == row["config_id"]]
    settings = {} if of_config.empty else of_config.iloc[0].filter(like="hp_").dropna().to_dict()
    title = f"{row['algorithm']} on {row['task']}"
    if not is_missing(row.get("policy")) and row["policy"] != row["algorithm"]:
        title += f", policy {row['policy']}"
    return {
        "title": title,
        "reason": f"{row['reason']}; {row['budget']}",
        "settings": {name.removeprefix("hp_"): _cell(value) for name, value in settings.items()},
    }


def _figures(
    evaluations: pandas.DataFrame, configurations: pandas.DataFrame, chosen: pandas.DataFrame
) -> list[dict[str, str]]:
    """One drawing (SVG) for each task."""
    drawn = []
    for task, rows in configurations.groupby("task", sort=True):
        with figure_style():
            figure = Figure(figsize=(1.6 * COLUMN_INCHES, 0.95 * COLUMN_INCHES))
            figure.set_layout_engine("constrained")
            _draw(
                figure.subplots(),
                evaluations[evaluations["task"] == task],
                rows,
                set(chosen.loc[chosen["task"] == task, KEYS].itertuples(index=False, name=None)),
            )
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        # What precedes the element itself does not belong inside a page.
        drawn.append({"task": str(task), "svg": buffer.getvalue().partition("<svg")[2]})
    return drawn


def _draw(
    axes: Axes,
    evaluations: pandas.DataFrame,
    configurations: pandas.DataFrame,
    chosen: set[tuple[str, ...]],
) -> None:
    """Reward against cost: every run small, every configuration's mean large, the limit drawn.

    `chosen` are values of `KEYS`: of a configuration one policy may be chosen and another not.
    """
    axes.plot(
        evaluations["normalized_cost"], evaluations["normalized_reward"],
        linestyle="none", marker=".", markersize=3, color=GREY, alpha=0.5, label="a run",
    )  # fmt: skip
    rows_by_key = configurations[KEYS].itertuples(index=False, name=None)
    picked = np.array([key in chosen for key in rows_by_key], bool)
    for rows, color, marker, label in (
        (configurations[~picked], BLUE, "o", "mean of a configuration"),
        (configurations[picked], ORANGE, "D", "the chosen one"),
    ):
        if len(rows):
            axes.plot(
                rows["cost"], rows["reward"],
                linestyle="none", marker=marker, color=color, label=label,
            )  # fmt: skip
    axes.axvline(1.0, color="black", linewidth=0.9, linestyle="--", label="limit")
    axes.set_xlabel("normalized cost")
    axes.set_ylabel("normalized reward")
    largest = float(np.nanmax([1.0, *evaluations["normalized_cost"]]))
    axes.set_xlim(-0.03 * largest, 1.06 * largest)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _table(frame: pandas.DataFrame) -> dict[str, Any]:
    return {
        "columns": [str(name).removeprefix("hp_").replace("_", " ") for name in frame],
        "numeric": [bool(pandas.api.types.is_numeric_dtype(kind)) for kind in frame.dtypes],
        "rows": [[_cell(value) for value in row] for row in frame.itertuples(index=False)],
    }


def _cell(value: Any) -> str:
    if is_missing(value):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
