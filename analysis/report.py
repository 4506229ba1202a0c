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

from safesweep.analysis.figures import COLUMN_INCHES, GREY, figure_style, styles_of
from safesweep.analysis.plots.sweep_results import KEYS, summarize
from safesweep.analysis.selection.choice import Choice
from safesweep.analysis.store.reader import ResultStore, with_incomplete
from safesweep.search_spaces.validation import InvalidInput, is_missing

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
    """Reward against cost: every run small, every configuration's mean large, the chosen ones
    ringed, the limit drawn. Each policy has a style of its own where there are several.

    `chosen` are values of `KEYS`: of a configuration one policy may be chosen and another not.
    """
    policies = sorted(configurations["policy"].unique())
    several = len(policies) > 1
    for policy, style in styles_of(policies).items():
        runs = evaluations[evaluations["policy"] == policy]
        axes.plot(
            runs["normalized_cost"], runs["normalized_reward"], linestyle="none", marker=".",
            markersize=3, color=style.color if several else GREY, alpha=0.5,
            label="" if several else "a run",
        )  # fmt: skip
        rows = configurations[configurations["policy"] == policy]
        axes.plot(
            rows["cost"], rows["reward"], linestyle="none", color=style.color,
            marker=style.marker, label=f"{policy}, mean" if several else "mean of a configuration",
        )  # fmt: skip
    picked = [key in chosen for key in configurations[KEYS].itertuples(index=False, name=None)]
    rows = configurations[np.array(picked, bool)]
    if len(rows):
        axes.plot(
            rows["cost"], rows["reward"], linestyle="none", marker="o", markersize=9,
            color="black", markerfacecolor="none",
            label="the chosen ones" if len(rows) > 1 else "the chosen one",
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
