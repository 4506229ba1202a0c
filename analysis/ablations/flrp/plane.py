"""FLRP's figure 2: one state, and what each expert does there."""

import math
from typing import TYPE_CHECKING

import pandas

from safesweep.analysis.ablations.engine.measured import (
    each_task,
    mean_positive,
    measured_ablation,
    table_of,
)
from safesweep.analysis.ablations.engine.plots import draw_plane, short_name
from safesweep.analysis.ablations.engine.settings import AblationSetting
from safesweep.analysis.ablations.flrp.comparisons import SMALL_TASKS, SMOKE_TASKS
from safesweep.analysis.claims import Finding, judge_range
from safesweep.analysis.figures import BLUE, ORANGE, PURPLE, draw_panels, figure_style, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each surface, and the expert that climbs or descends it. Shaded as in the paper: darker is safer,
# lighter has more reward or density.
_SURFACES = {
    "reward_q": ("$Q_r$", "reward", "R", ORANGE),
    "safety_q": ("$Q_h$", "safety", "H", BLUE),
    "log_density": (r"$\log\pi$", "shared", "SH", PURPLE),
}
TOP_SHARE = 0.1


def _overlap(results: pandas.DataFrame, task: str) -> Finding | None:
    """The part of the best tenth of the plane by Q_r that is also in the best tenth by Q_h."""
    plane = table_of(results, task, "plane", "FLRP")
    if plane.empty:
        return None
    shares = []
    for _, rows in plane.groupby(level="seed"):
        rich = rows["reward_q"] >= rows["reward_q"].quantile(1 - TOP_SHARE)
        safe = rows["safety_q"] <= rows["safety_q"].quantile(TOP_SHARE)
        shares.append(float((rich & safe).sum() / rich.sum()))
    return judge_range(task, shares, high=0.5, remark="shared part of the best tenths")


def _draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
    """A row for each task: the three surfaces, each with its expert's paths, of the first seed."""
    tasks = list(dict.fromkeys(results["task"]))
    with figure_style():
        figure, panels = draw_panels(3 * len(tasks), width=2.3, height=2.1, columns=3)
        for row, task in enumerate(tasks):
            seed = int(results.loc[results["task"] == task, "seed"].min())
            plane = table_of(results, task, "plane", "FLRP", seed)
            for column, (quantity, surface) in enumerate(_SURFACES.items()):
                label, expert, symbol, color = surface
                axes = panels[3 * row + column]
                draw_plane(figure, axes, plane, quantity, lighter_is_higher=True)
                axes.set_title(f"{short_name(task)}: {label}")
                _draw_paths(axes, results, task, seed, expert, color, symbol)
        figure.suptitle(
            f"FLRP figure 2, {scale}: one state, the first seed", fontsize=8.5, wrap=True
        )
        lines = [line for axes in panels[:3] for line in axes.get_legend_handles_labels()[0]]
        legend_below(figure, lines)
    return figure


def _draw_paths(
    axes: "Axes",
    results: pandas.DataFrame,
    task: str,
    seed: int,
    name: str,
    color: str,
    symbol: str,
) -> None:
    steps = sorted(
        view for view in results["view"].unique() if str(view).startswith(f"{name} step")
    )
    tables = [table_of(results, task, view, "FLRP", seed) for view in steps]
    for point in tables[0].index if tables else []:
        x = [table.loc[point, "action_1"] for table in tables]
        y = [table.loc[point, "action_2"] for table in tables]
        first = point == tables[0].index[0]
        label = f"{symbol} alone, from ring to dot" if first else None
        axes.plot(x, y, color=color, linewidth=1.0, label=label)
        for end, filling in ((0, "white"), (-1, color)):
            axes.plot(
                x[end], y[end], color=color, marker="o", markersize=4, markerfacecolor=filling,
                clip_on=False, zorder=3,
            )  # fmt: skip


FIGURE_2 = measured_ablation(
    "flrp-fig2",
    "One state: values and density over actions, and what each expert does",
    "the expert: safety (H), reward (R), shared (SH), each alone for three steps",
    "flrp_refinement",
    (AblationSetting("FLRP", "flrp"),),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun",)},
    {"smoke": 4, "small": 32, "paper": 256},
    _draw,
    (
        each_task(
            "regions-differ",
            "In the state shown less than half of the best tenth of actions by Q_r is in the "
            "safest tenth by Q_h.",
            _overlap,
            "shared part of the best tenths",
            (-math.inf, 0.5),
        ),
        mean_positive(
            "safety-expert-lowers-cost",
            "H lowers Q_h, on average over states.",
            "safety change",
            "safety_q",
            setting="FLRP",
            sign=-1,
        ),
        mean_positive(
            "reward-expert-raises-reward",
            "R raises Q_r, on average over states.",
            "reward change",
            "reward_q",
            setting="FLRP",
        ),
        mean_positive(
            "shared-expert-concentrates",
            "SH raises the unrefined policy's density, on average over states.",
            "shared change",
            "log_density",
            setting="FLRP",
        ),
    ),
)
