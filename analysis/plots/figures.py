"""Matplotlib figures of a sweep, by kind: `PLOTS`. Each takes what `read_results` gives."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safesweep.analysis.figures import (
    BLUE,
    COLUMN_INCHES,
    GREEN,
    GREY,
    ORANGE,
    PANELS_A_ROW,
    draw_band,
    draw_limit,
    draw_panels,
    figure_style,
    hide_empty,
    legend_below,
    limit_handle,
    make_panels,
    metric_label,
    styles_of,
)
from safesweep.analysis.plots.measures import (
    FEWEST_FOR_IMPORTANCE,
    best_safe_by_budget,
    importance,
    is_logarithmic,
    is_numeric,
    places_on_axis,
    positions,
)
from safesweep.analysis.plots.sweep_results import SweepResults, rows_of, varying
from safesweep.search_spaces.validation import InvalidInput, require_choice
from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX

Group = tuple[str, str, str]
SCORES = {score: metric_label(f"normalized_{score}") for score in ("reward", "cost")}

_PANEL = (0.75 * COLUMN_INCHES, 2.3)
_Entry = tuple[str, str, Any, str]


@figure_style()
def draw_curves(results: SweepResults) -> Figure:
    """Reward and cost against gradient steps, a line a configuration: the mean over seeds. The
    chosen one stands out, with one standard deviation to each side."""
    groups = _groups_of(results)
    figure, pairs = _pairs(len(groups))
    for pair, (key, rows) in zip(pairs, groups, strict=True):
        curves = rows_of(results.curves, key)
        picked = set(rows.loc[rows["chosen"], "config_id"])
        faint = max(0.08, min(0.6, 20 / len(rows)))
        for panel, score in zip(pair, SCORES, strict=True):
            for identifier, curve in curves.groupby("config_id", sort=True):
                if identifier not in picked:
                    panel.plot(curve["step"], curve[score], color=GREY, linewidth=0.7, alpha=faint)
            for identifier in sorted(picked):
                curve = curves[curves["config_id"] == identifier]
                panel.plot(curve["step"], curve[score], color=ORANGE, marker="o", markersize=3)
                draw_band(
                    panel, curve["step"], curve[score], curve[f"{score}_deviation"], color=ORANGE
                )
            panel.set_ylabel(SCORES[score])
        draw_limit(pair[1])
        pair[1].set_ylim(bottom=0.0)
        pair[0].set_title(_title(key))
        pair[1].set_xlabel("gradient steps")
    entries = [("a configuration", GREY, "-", ""), ("the chosen one", ORANGE, "-", "o")]
    _key(figure, entries, limit=True)
    return figure


@figure_style()
def draw_front(results: SweepResults) -> Figure:
    """Reward against cost: every run small, every configuration's mean large, the limit, and the
    front of configurations that no other one beats in both."""
    groups = _groups_of(results)
    figure, axes = draw_panels(len(groups), *_PANEL)
    for panel, (key, rows) in zip(axes, groups, strict=False):
        draw_reward_against_cost(panel, rows_of(results.evaluations, key), rows)
        panel.set_title(_title(key))
    entries = [
        ("a run", GREY, "", "."), ("mean of a configuration", BLUE, "", "o"),
        ("front", GREEN, "-", ""), ("the chosen one", ORANGE, "", "D"),
    ]  # fmt: skip
    _key(figure, entries, limit=True)
    return figure


def draw_reward_against_cost(
    axes: Axes, evaluations: pandas.DataFrame, configurations: pandas.DataFrame
) -> None:
    """One panel of `draw_front`; the tables are those of `SweepResults`."""
    axes.plot(
        evaluations["normalized_cost"], evaluations["normalized_reward"],
        linestyle="none", marker=".", markersize=3, color=GREY, alpha=0.5,
    )  # fmt: skip
    front = configurations[configurations["front"]].sort_values("cost")
    axes.plot(front["cost"], front["reward"], color=GREEN, drawstyle="steps-post", zorder=3)
    size = _marker_size(len(configurations))
    for chosen, color, marker in ((False, BLUE, "o"), (True, ORANGE, "D")):
        rows = configurations[configurations["chosen"] == chosen]
        axes.plot(
            rows["cost"], rows["reward"], linestyle="none", marker=marker, color=color,
            markersize=5.0 if chosen else size, zorder=4 if chosen else 2,
        )  # fmt: skip
    draw_limit(axes, upright=True)
    axes.set_xlabel(SCORES["cost"])
    axes.set_ylabel(SCORES["reward"])
    costs = evaluations["normalized_cost"].to_numpy(np.float64)
    largest = float(max([1.0, *costs[np.isfinite(costs)]]))
    axes.set_xlim(-0.03 * largest, 1.06 * largest)


@figure_style()
def draw_importance(results: SweepResults) -> Figure:
    """How much each hyperparameter decides what is among the best quarter (`importance`)."""
    measured = [
        (key, importance(rows, results.hyperparameters)) for key, rows in _groups_of(results)
    ]
    measured = [(key, found) for key, found in measured if len(found)]
    if not measured:
        raise InvalidInput(
            f"importance: takes {FEWEST_FOR_IMPORTANCE} evaluated configurations of a method on a "
            "task in which a hyperparameter varies; there are fewer"
        )
    figure, axes = draw_panels(len(measured), *_PANEL)
    for panel, (key, found) in zip(axes, measured, strict=False):
        places = np.arange(len(found))[::-1]
        panel.barh(places + 0.2, found["reward"], height=0.38, color=BLUE)
        panel.barh(places - 0.2, found["cost"], height=0.38, color=ORANGE)
        panel.set_yticks(places, found["name"])
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("importance, share")
        panel.set_title(_title(key))
    _key(figure, [("for the reward", BLUE, "-", ""), ("for the cost", ORANGE, "-", "")])
    return figure


@figure_style()
def draw_parallel_coordinates(results: SweepResults) -> Figure:
    """A line a configuration through its hyperparameters, cost and reward; coloured by reward where
    its mean cost keeps the limit, grey where not."""
    groups = _groups_of(results)
    if not results.hyperparameters:
        raise InvalidInput("parallel-coordinates: no hyperparameter varies in this sweep")
    figure, axes = make_panels(len(groups), 1, panel=(2 * COLUMN_INCHES, _PANEL[1]))
    for panel, (key, rows) in zip(axes[:, 0], groups, strict=True):
        shown = varying(rows)
        columns = [*(HYPERPARAMETER_PREFIX + name for name in shown), "cost", "reward"]
        scaled = pandas.DataFrame({name: positions(rows[name]) for name in columns})
        colors = Normalize(rows["reward"].min(), rows["reward"].max())
        order = rows.sort_values(["safe", "chosen", "reward"]).index
        for label in order:
            row = rows.loc[label]
            color: Any = matplotlib.colormaps["viridis"](colors(row["reward"]))
            panel.plot(
                range(len(columns)), scaled.loc[label],
                color=ORANGE if row["chosen"] else color if row["safe"] else "#bbbbbb",
                linewidth=2.2 if row["chosen"] else 0.9, alpha=0.9 if row["safe"] else 0.5,
            )  # fmt: skip
        panel.set_xticks(range(len(columns)), [*shown, *(SCORES[n] for n in ("cost", "reward"))],
                         rotation=20, ha="right")  # fmt: skip
        panel.set_yticks([])
        panel.set_title(_title(key))
        for place, name in enumerate(columns):
            _ends(panel, place, rows[name])
        figure.colorbar(ScalarMappable(colors, "viridis"), ax=panel, label=SCORES["reward"])
    _key(figure, [("breaks the limit", "#bbbbbb", "-", ""), ("the chosen one", ORANGE, "-", "")])
    return figure


@figure_style()
def draw_hyperparameter(results: SweepResults, name: str) -> Figure:
    """Reward and cost of every configuration against one hyperparameter, deviations over seeds as
    bars.

    Raises:
        InvalidInput: it does not vary in this sweep.
    """
    require_choice("hyperparameter", name, results.hyperparameters)
    column = HYPERPARAMETER_PREFIX + name
    groups = [(key, rows) for key, rows in _groups_of(results) if rows[column].notna().any()]
    figure, pairs = _pairs(len(groups))
    for pair, (key, rows) in zip(pairs, groups, strict=True):
        rows = rows[rows[column].notna()]
        places, labels = places_on_axis(rows[column])
        for panel, score in zip(pair, SCORES, strict=True):
            for chosen, color, marker in ((False, BLUE, "o"), (True, ORANGE, "D")):
                mask = (rows["chosen"] == chosen).to_numpy(bool)
                panel.errorbar(
                    places[mask], rows[score][mask], rows[f"{score}_deviation"][mask].fillna(0.0),
                    linestyle="none", marker=marker, color=color, elinewidth=0.8,
                    markersize=_marker_size(len(rows)), zorder=3 if chosen else 2,
                )  # fmt: skip
            panel.set_ylabel(SCORES[score])
            if labels is not None:
                panel.set_xticks(range(len(labels)), labels)
            elif is_logarithmic(rows[column]):
                panel.set_xscale("log")
        draw_limit(pair[1])
        pair[0].set_title(_title(key))
        pair[1].set_xlabel(name)
    _key(figure, [("mean and deviation over seeds", BLUE, "", "o"),
                  ("the chosen one", ORANGE, "", "D")], limit=True)  # fmt: skip
    return figure


@figure_style()
def draw_budget(results: SweepResults) -> Figure:
    """The best safe reward known so far against the gradient steps spent (`best_safe_by_budget`);
    a line for each method and policy, a panel for each task."""
    groups = _groups_of(results)
    tasks = sorted({key[1] for key, _ in groups})
    labels = {key: _label(key) for key, _ in groups}
    styles = styles_of(sorted(set(labels.values())))
    figure, axes = draw_panels(len(tasks), *_PANEL)
    for panel, task in zip(axes, tasks, strict=False):
        for key, rows in groups:
            if key[1] == task:
                found = best_safe_by_budget(rows, results.runs)
                style = styles[labels[key]]
                panel.plot(found["gradient_steps"], found["reward"], color=style.color,
                           linestyle=style.line, 
                           drawstyle="steps-post")  # fmt: skip
        panel.set_title(task)
        panel.set_xlabel("gradient steps of all runs so far")
        panel.set_ylabel("best safe reward so far")
    _key(figure, [(name, style.color, style.line, "") for name, style in styles.items()])
    return figure


PLOTS: dict[str, Callable[..., Figure]] = {
    "curves": draw_curves,
    "front": draw_front,
    "importance": draw_importance,
    "parallel-coordinates": draw_parallel_coordinates,
    "hyperparameter": draw_hyperparameter,
    "budget": draw_budget,
}
"""By kind. `hyperparameter` alone takes a name beside the results."""


def _ends(panel: Axes, place: int, column: "pandas.Series[Any]") -> None:
    """Name the lowest and the highest value of one axis of parallel coordinates."""
    if is_numeric(column):
        low, high = (f"{value:.3g}" for value in (column.min(), column.max()))
    else:
        names = sorted({str(value) for value in column.dropna()})
        low, high = names[0], names[-1]
    panel.axvline(place, color=GREY, linewidth=0.8)
    for text, height, side in ((low, -0.03, "top"), (high, 1.03, "bottom")):
        panel.text(place, height, text, fontsize=6, ha="center", va=side)
    panel.set_ylim(-0.12, 1.12)


def _groups_of(results: SweepResults) -> list[tuple[Group, pandas.DataFrame]]:
    groups = results.groups()
    if not groups:
        raise InvalidInput(f"sweep: {results.sweep!r} has no evaluations to draw yet")
    return groups


def _marker_size(count: int) -> float:
    """In points: smaller where there are many."""
    return 4.5 if count <= 60 else 2.0


def _label(key: Group) -> str:
    algorithm, _, policy = key
    return algorithm if policy == algorithm else f"{algorithm} {policy}"


def _title(key: Group) -> str:
    return f"{key[1]}\n{_label(key)}"


def _pairs(count: int) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """So many pairs of panels, one above the other, the pairs in rows."""
    columns = min(count, PANELS_A_ROW)
    figure, axes = make_panels(2 * -(-count // columns), columns, panel=_PANEL)
    pairs = [
        (
            axes[2 * (place // columns), place % columns],
            axes[2 * (place // columns) + 1, place % columns],
        )
        for place in range(axes.size // 2)
    ]
    for unused in pairs[count:]:
        hide_empty(unused)
    return figure, pairs[:count]


def _key(figure: Figure, entries: Sequence[_Entry], *, limit: bool = False) -> None:
    """A legend below: label, colour, line and marker of each, and the limit where it is drawn."""
    handles = [
        Line2D([], [], color=color, linestyle=line or "none", marker=marker, label=label)
        for label, color, line, marker in entries
    ]
    legend_below(figure, [*handles, limit_handle()] if limit else handles)
