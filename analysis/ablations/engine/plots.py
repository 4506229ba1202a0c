"""Figures of ablations over settings: by task, along a number, along training, and of points."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas
from numpy.typing import NDArray

from safesweep.analysis.ablations.engine.settings import COST, LATENCY, REWARD, STEP_TIME, Draw
from safesweep.analysis.figures import (
    GREY,
    PANELS_A_ROW,
    draw_limit,
    draw_published,
    draw_series,
    figure_style,
    hide_empty,
    legend_below,
    legend_handle,
    limit_handle,
    make_panels,
    metric_label,
    new_figure,
    styles_of,
)
from safesweep.trainables.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FloatArray = NDArray[np.float64]

NEVER_NEGATIVE = (COST, "cost_return_mean", LATENCY, STEP_TIME)
TASKS_A_ROW = 8
MOST_PANEL_ROWS = 4
_LINEAR_COSTS = 3.0


def short_name(task: str) -> str:
    """A task as papers' tables name it."""
    return TASKS[task].key if task in TASKS else task


def tasks_of(results: pandas.DataFrame, published: pandas.DataFrame) -> list[str]:
    """Ours first, then the ones that are printed only."""
    return list(dict.fromkeys([*results["task"], *published["task"]]))


def finish_axes(axes: "Axes", metric: str, largest: float) -> None:
    """What belongs to a metric: the cost limit and, for costs far beyond it, a scale that bends."""
    if metric == COST:
        draw_limit(axes)
        if largest > _LINEAR_COSTS:
            axes.set_yscale("symlog", linthresh=1.0)
            top = 10 ** math.ceil(math.log10(1.3 * largest))
            axes.set_ylim(-0.1, top)
        else:
            axes.set_ylim(bottom=min(-0.05, axes.get_ylim()[0]), top=max(1.15, axes.get_ylim()[1]))
    if metric in (LATENCY, STEP_TIME):
        axes.set_ylim(bottom=0)


def seeds_note(results: pandas.DataFrame) -> str:
    """How many seeds our means and bands are over."""
    count = seed_count(results)
    return f"ours: {count}" if count == "1 seed" else f"ours: mean and deviation over {count}"


def seed_count(results: pandas.DataFrame) -> str:
    """The number of seeds of each task and setting, or its range, in words."""
    counts = results.groupby(["task", "metric", "series", "setting"])["seed"].nunique()
    fewest, most = int(counts.min()), int(counts.max())
    if most == 1:
        return "1 seed"
    return f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds"


def finish_figure(
    figure: "Figure",
    title: str,
    results: pandas.DataFrame,
    published: pandas.DataFrame,
    handles: "Sequence[Line2D]",
    note: str,
    shown: Sequence[str],
) -> None:
    """Title, legend and what a reader has to know."""
    handles = list(handles)
    if not published.empty:
        handles.append(
            legend_handle(color=GREY, marker="o", linestyle="none", markerfacecolor="none",
                markersize=7, label="printed, a single number",
            )
        )  # fmt: skip
    if COST in shown:
        handles.append(limit_handle())
    figure.suptitle(f"{title}; {seeds_note(results)}", fontsize=8.5, wrap=True)
    legend_below(figure, handles, wrapped(note, figure.get_size_inches()[0]))


def wrapped(text: str, width: float) -> str:
    """Text broken into lines that fit a figure of so many inches, at 6.5 points."""
    limit, lines = int(width * 21), [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > limit:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def draw_by_task(title: str, metrics: Sequence[str] = (REWARD, COST), note: str = "") -> Draw:
    """Tasks along x, a colour for each setting; a row of panels for each metric."""

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
        settings = list(dict.fromkeys([*results["setting"], *published["setting"]]))
        tasks = tasks_of(results, published)
        if len(tasks) > TASKS_A_ROW * MOST_PANEL_ROWS / len(metrics):
            return draw_table(title, metrics, settings, tasks, results, published, scale, note)
        # With few tasks there is room for one panel a row of tasks; with many, several rows.
        rows_of_tasks = [tasks[i : i + TASKS_A_ROW] for i in range(0, len(tasks), TASKS_A_ROW)]
        both = pandas.concat([results[["task", "metric"]], published[["task", "metric"]]])
        rows = [
            (members, metric, group)
            for group, members in enumerate(rows_of_tasks)
            for metric in metrics
            if metric in set(both.loc[both["task"].isin(members), "metric"])
        ]
        across = min(len(tasks), TASKS_A_ROW)
        width = min(7.2, max(3.6, 0.6 + across * max(0.5, 0.16 * len(settings))))
        with figure_style():
            figure, grid = make_panels(len(rows), 1, panel=(width, 1.55), extra=1.5)
            panels = grid.ravel()
            for place, (members, metric, group) in enumerate(rows):
                axes = panels[place]
                _draw_tasks(axes, results, published, members, settings, metric)
                bottom = place == len(rows) - 1 or rows[place + 1][2] != group
                labels = [task_label(task, results) if bottom else "" for task in members]
                steep = len(members) > 4
                axes.set_xticks(
                    range(len(members)),
                    labels,
                    rotation=30 if steep else 0,
                    ha="right" if steep else "center",
                    fontsize=7,
                )
            handles = [
                legend_handle(color=style.color, marker=style.marker, linestyle="none", label=name)
                for name, style in styles_of(settings).items()
            ]
            finish_figure(figure, f"{title}, {scale}", results, published, handles, note, metrics)
        return figure

    return draw


def draw_table(
    title: str,
    metrics: Sequence[str],
    settings: Sequence[str],
    tasks: Sequence[str],
    results: pandas.DataFrame,
    published: pandas.DataFrame,
    scale: str,
    note: str,
) -> "Figure":
    """A row for each task and a column for each setting, for more tasks than panels can show.

    A cell holds the metrics, ours above what is printed; ours is bold, and what is beyond the cost
    limit grey.
    """
    shown = [m for m in metrics if m in {*results["metric"], *published["metric"]}]
    lines = [
        (task, source, frame)
        for task in tasks
        for source, frame in (("ours", results), ("printed", published))
        if (frame["task"] == task).any()
    ]
    width = min(10.0, 1.9 + 0.82 * len(settings))
    with figure_style():
        figure = new_figure(width, 0.16 * len(lines) + 1.1)
        axes = figure.subplots()
        axes.set_xlim(-0.5, len(settings) - 0.5)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        for place, (task, source, frame) in enumerate(lines):
            for column, setting in enumerate(settings):
                means = [_values(frame, task, metric, setting) for metric in shown]
                if not any(len(values) for values in means):
                    continue
                numbers = [float(values.mean()) for values in means if len(values)]
                unsafe = any(
                    metric == COST and len(values) and float(values.mean()) > 1
                    for metric, values in zip(shown, means, strict=True)
                )
                axes.text(
                    column, place,
                    "  ".join(f"{n:.2f}" if abs(n) < 10 else f"{n:.3g}" for n in numbers),
                    ha="center", va="center", fontsize=6.5, color=GREY if unsafe else "black",
                    fontweight="bold" if source == "ours" else "normal",
                )  # fmt: skip
        names = [
            f"{short_name(task)}, ours" if source == "ours" else short_name(task)
            for task, source, _ in lines
        ]
        axes.set_yticks(range(len(lines)), names, fontsize=6.5)
        axes.set_xticks(range(len(settings)), settings, fontsize=7)
        axes.tick_params(length=0, labelbottom=False, labeltop=True)
        axes.grid(False)
        for side in axes.spines.values():
            side.set_visible(False)
        words = ", then ".join(metric_label(metric).replace("\n", " ") for metric in shown)
        lines_of_note = [
            f"In each cell {words}, as far as there are. Bold: ours, the mean of "
            f"{seed_count(results)}; else printed, single numbers."
            + (" Grey: beyond the cost limit." if COST in shown else ""),
            note,
        ]
        figure.suptitle(f"{title}, {scale}", fontsize=8.5)
        figure.supxlabel(
            "\n".join(wrapped(line, width) for line in lines_of_note if line), fontsize=6.5
        )
    return figure


def task_label(task: str, results: pandas.DataFrame) -> str:
    """A task on an axis, and whether only the paper has it."""
    return short_name(task) if task in set(results["task"]) else f"{short_name(task)}\n(printed)"


def _draw_tasks(
    axes: "Axes",
    results: pandas.DataFrame,
    published: pandas.DataFrame,
    tasks: Sequence[str],
    settings: Sequence[str],
    metric: str,
) -> None:
    largest = 0.0
    spread = min(0.7, 0.2 * (len(settings) - 1))
    offsets = np.linspace(-spread / 2, spread / 2, len(settings))
    styles = styles_of(settings)
    for setting, offset in zip(settings, offsets, strict=True):
        color, marker = styles[setting].color, styles[setting].marker
        for place, task in enumerate(tasks):
            values = _values(results, task, metric, setting)
            if len(values):
                deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                mean = float(np.mean(values))
                below = min(deviation, max(0.0, mean)) if metric in NEVER_NEGATIVE else deviation
                axes.errorbar(
                    place + offset, mean, [[below], [deviation]], color=color, marker=marker,
                    linestyle="none", elinewidth=1.0, capsize=0,
                )  # fmt: skip
                largest = max(largest, mean + deviation)
            printed = _values(published, task, metric, setting)
            if len(printed):
                draw_published(
                    axes, [place + offset] * len(printed), printed, color=color, marker=marker
                )
                largest = max(largest, float(np.max(printed)))
    axes.set_xlim(-0.6, len(tasks) - 0.4)
    axes.set_ylabel(metric_label(metric))
    finish_axes(axes, metric, largest)


def _values(frame: pandas.DataFrame, task: str, metric: str, setting: str) -> FloatArray:
    chosen = frame[
        (frame["task"] == task) & (frame["metric"] == metric) & (frame["setting"] == setting)
    ]
    if "step" in chosen and not chosen.empty:
        chosen = chosen[chosen["step"] == chosen["step"].max()]
    values: FloatArray = chosen["value"].dropna().to_numpy(np.float64)
    return values


def draw_along(
    title: str,
    x_label: str,
    metrics: Sequence[str] = (REWARD, COST),
    *,
    series_labels: Mapping[str, str] | None = None,
    log: bool = False,
    note: str = "",
) -> Draw:
    """The varied number along x, a colour for each series, a column of panels for each task."""

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
        return _draw_lines(
            results, published, f"{title}, {scale}", x_label, metrics,
            "x", "series", dict(series_labels or {}), log, note,
        )  # fmt: skip

    return draw


def draw_curves(title: str, metrics: Sequence[str] = (REWARD, COST), *, note: str = "") -> Draw:
    """Gradient steps along x, a colour for each setting, a column of panels for each task."""

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
        return _draw_lines(
            results, published[:0], f"{title}, {scale}", "gradient steps", metrics,
            "step", "setting", {}, False, note,
        )  # fmt: skip

    return draw


def _draw_lines(
    results: pandas.DataFrame,
    published: pandas.DataFrame,
    title: str,
    x_label: str,
    metrics: Sequence[str],
    x: str,
    hue: str,
    labels: Mapping[str, str],
    log: bool,
    note: str,
) -> "Figure":
    tasks = tasks_of(results, published)
    lines = list(dict.fromkeys([*results[hue], *published[hue]]))
    shown = [m for m in metrics if m in {*results["metric"], *published["metric"]}]
    columns = min(PANELS_A_ROW, len(tasks))
    groups = math.ceil(len(tasks) / columns)
    with figure_style():
        figure, panels = make_panels(groups * len(shown), columns, panel=(2.35, 1.6), extra=1.3)
        for index, task in enumerate(tasks):
            group, column = divmod(index, columns)
            for place, metric in enumerate(shown):
                axes = panels[group * len(shown) + place, column]
                drawn = _draw_panel(axes, results, published, task, metric, x, hue, lines)
                if not drawn:
                    axes.set_visible(False)
                    continue
                if place == 0:
                    axes.set_title(task_label(task, results).replace("\n", " "))
                if place == len(shown) - 1:
                    axes.set_xlabel(x_label)
                if column == 0:
                    axes.set_ylabel(metric_label(metric))
                if log:
                    _log_levels(axes, [*results["x"].dropna(), *published["x"].dropna()])
        hide_empty(panels.ravel())
        handles = [
            legend_handle(color=style.color, marker=style.marker, linestyle=style.line,
                label=labels.get(line, line) or "ours",
            )
            for line, style in styles_of(lines).items()
        ]  # fmt: skip
        finish_figure(figure, title, results, published, handles, note, shown)
    return figure


def _log_levels(axes: "Axes", levels: Sequence[float]) -> None:
    """A logarithmic axis whose ticks are the levels themselves, as plain numbers."""
    places = sorted(set(levels))
    axes.set_xscale("log")
    axes.set_xticks(places, [f"{level:g}" for level in places], fontsize=6.5)
    axes.set_xticks([], minor=True)


def _draw_panel(
    axes: "Axes",
    results: pandas.DataFrame,
    published: pandas.DataFrame,
    task: str,
    metric: str,
    x: str,
    hue: str,
    lines: Sequence[str],
) -> bool:
    drawn, largest = False, 0.0
    floor = 0.0 if metric in NEVER_NEGATIVE else -np.inf
    for line, style in styles_of(lines).items():
        color, marker = style.color, style.marker
        ours = results[
            (results["task"] == task) & (results["metric"] == metric) & (results[hue] == line)
        ].dropna(subset=["value", x])
        if not ours.empty:
            drawn = True
            draw_series(
                axes, ours, x, "value", color=color, marker=marker, linestyle=style.line,
                floor=floor,
            )  # fmt: skip
            largest = max(largest, float(ours.groupby(x)["value"].mean().max()))
        printed = published[
            (published["task"] == task) & (published["metric"] == metric) & (published[hue] == line)
        ]
        if not printed.empty:
            drawn = True
            draw_published(axes, printed["x"], printed["value"], color=color, marker=marker)
            largest = max(largest, float(printed["value"].max()))
    if drawn:
        finish_axes(axes, metric, largest)
    return drawn


def draw_plane(
    figure: "Figure",
    axes: "Axes",
    plane: pandas.DataFrame,
    quantity: str,
    lighter_is_higher: bool = False,
) -> None:
    """A quantity over the square of two actions, as contours with their scale.

    Args:
        plane: a row for each point of a regular grid: `action_1`, `action_2` and the quantity.
    """
    surface = plane.pivot_table(index="action_2", columns="action_1", values=quantity)
    shades = "Greys_r" if lighter_is_higher else "Greys"
    drawn = axes.contourf(surface.columns, surface.index, surface.to_numpy(), 12, cmap=shades)
    figure.colorbar(drawn, ax=axes, shrink=0.8)
    axes.set_xlim(-1, 1)
    axes.set_ylim(-1, 1)
    axes.set_xlabel("$a_1$")
    axes.set_ylabel("$a_2$")
    axes.grid(False)
