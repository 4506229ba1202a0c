"""R2PAC's maps of values over states: figures 3 and 8."""

import math
from typing import TYPE_CHECKING

import pandas

from safesweep.analysis.ablations.engine.ablation import Ablation
from safesweep.analysis.ablations.engine.measured import each_task, measured_ablation, table_of
from safesweep.analysis.ablations.engine.plots import short_name
from safesweep.analysis.ablations.engine.settings import AblationSetting
from safesweep.analysis.ablations.r2pac.components import SMOKE_TASKS
from safesweep.analysis.claims import Finding, judge_paired, judge_range
from safesweep.analysis.figures import draw_panels, figure_style
from safesweep.trainables.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VANILLA, PENALIZED = "vanilla", "penalized"
_SETTINGS = tuple(AblationSetting(name, "r2pac", {"value": name}) for name in (VANILLA, PENALIZED))
_MAPS = (
    (VANILLA, "reward_v", "$V_r$"),
    (PENALIZED, "safety_v", "$V_c$"),
    (PENALIZED, "reward_v", r"$\bar V_r$"),
)


def _correlations(results: pandas.DataFrame, task: str, setting: str) -> list[float]:
    """Rank correlation over states of V_r and V_c, by seed."""
    table = table_of(results, task, "states", setting)
    if table.empty:
        return []
    return [
        float(rows["reward_v"].corr(rows["safety_v"], method="spearman"))
        for _, rows in table.groupby(level="seed")
    ]


def _vanilla_coincides(results: pandas.DataFrame, task: str) -> Finding | None:
    found = _correlations(results, task, VANILLA)
    return judge_paired(task, found, "rank correlation") if found else None


def _penalized_opposes(results: pandas.DataFrame, task: str) -> Finding | None:
    found = _correlations(results, task, PENALIZED)
    return judge_paired(task, [-value for value in found], "rank correlation") if found else None


def _constant_when_unsafe(results: pandas.DataFrame, task: str) -> Finding | None:
    """Deviation of the penalized value over unsafe states relative to safe ones."""
    table = table_of(results, task, "states", PENALIZED)
    if table.empty:
        return None
    ratios = []
    for _, rows in table.groupby(level="seed"):
        unsafe = rows["unsafe"] > 0.5
        ratios.append(rows["reward_v"][unsafe].std() / rows["reward_v"][~unsafe].std())
    return judge_range(task, ratios, high=0.5, remark="a ratio of deviations")


def _draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
    """A row for each task: V_r, V_c and the penalized V_r at states of the data, first seed."""
    tasks = list(dict.fromkeys(results["task"]))
    with figure_style():
        figure, panels = draw_panels(3 * len(tasks), width=2.3, height=2.0, columns=3)
        for row, task in enumerate(tasks):
            seed = int(results.loc[results["task"] == task, "seed"].min())
            for column, (setting, quantity, label) in enumerate(_MAPS):
                axes = panels[3 * row + column]
                table = table_of(results, task, "states", setting, seed)
                first, second = _axes(table)
                drawn = axes.scatter(
                    table[first], table[second], c=table[quantity], s=4, cmap="cividis",
                    linewidths=0,
                )  # fmt: skip
                figure.colorbar(drawn, ax=axes, shrink=0.8)
                axes.set_title(f"{short_name(task)}: {label}")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.grid(False)
        placed = "; ".join(f"{short_name(task)}: {_placing(results, task)}" for task in tasks)
        figure.suptitle(
            f"R2PAC, values at states of the data, {scale}\n{placed}", fontsize=8.5, wrap=True
        )
    return figure


def _axes(table: pandas.DataFrame) -> tuple[str, str]:
    return ("umap_1", "umap_2") if "umap_1" in table else ("place_1", "place_2")


def _placing(results: pandas.DataFrame, task: str) -> str:
    """What the axes of a task are; the paper's figure is made with UMAP."""
    own = results[results["task"] == task]
    if "umap_1" in set(own["quantity"]):
        return "UMAP"
    return "its two coordinates" if TASKS[task].observation_dim == 2 else "principal components"


def _maps(number: int, small: tuple[str, ...], paper: tuple[str, ...]) -> Ablation:
    return measured_ablation(
        f"r2pac-fig{number}",
        "Values of states: reward, cost, and reward with the penalty",
        "value in vanilla, penalized",
        "r2pac_values",
        _SETTINGS,
        {"smoke": SMOKE_TASKS, "small": small, "paper": paper},
        {"smoke": 100, "small": 2000, "paper": 5000},
        _draw,
        (
            each_task(
                "reward-and-cost-coincide",
                "States with a high V_r have a high V_c (rank correlation above 0).",
                _vanilla_coincides,
                "mean rank correlation over states",
                (0.0, math.inf),
            ),
            each_task(
                "penalty-turns-it",
                "States with a high V_c have a low penalized V_r (rank correlation below 0).",
                _penalized_opposes,
                "negated mean rank correlation over states",
                (0.0, math.inf),
            ),
            each_task(
                "constant-when-unsafe",
                "The penalized V_r varies less than half as much over unsafe states as over safe.",
                _constant_when_unsafe,
                "mean ratio of deviations",
                (-math.inf, 0.5),
            ),
        ),
    )


FIGURE_3 = _maps(3, ("BallRun",), ("BallRun",))
FIGURE_8 = _maps(
    8, ("BoatNavigation", "BallCircle"), ("DroneRun", "DroneCircle", "AntRun", "AntCircle")
)

MAPS = (FIGURE_3, FIGURE_8)
