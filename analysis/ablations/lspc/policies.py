"""LSPC's policies at one state (figure 3), and on tasks they were not trained on (figure 12)."""

from typing import TYPE_CHECKING

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.measured import (
    each_task,
    mean_positive,
    mean_within,
    measured_ablation,
    seed_means,
    table_of,
)
from safesweep.analysis.ablations.engine.plots import (
    draw_plane,
    finish_axes,
    short_name,
)
from safesweep.analysis.ablations.engine.settings import COST, AblationSetting
from safesweep.analysis.ablations.lspc.comparisons import SMALL_TASKS, SMOKE_TASKS
from safesweep.analysis.claims import (
    ALL_TASKS,
    ON_AVERAGE,
    RESULTS,
    Claim,
    Finding,
    judge_paired,
    judge_range,
)
from safesweep.analysis.figures import (
    COLORS,
    METHOD_STYLES,
    draw_panels,
    figure_style,
    legend_below,
    metric_label,
)
from safesweep.trainables.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POLICIES = {
    policy: (METHOD_STYLES[name].color, name)
    for policy, name in (("cvae", "CVAE"), ("lspc_s", "LSPC-S"), ("lspc_o", "LSPC-O"))
}
_LSPC = (AblationSetting("LSPC", "lspc"),)


def _draw_plane_of_policies(
    results: pandas.DataFrame, published: pandas.DataFrame, scale: str
) -> "Figure":
    """A panel for each task: Q_r over the plane and the policies' actions, of the first seed."""
    tasks = list(dict.fromkeys(results["task"]))
    with figure_style():
        figure, panels = draw_panels(len(tasks), width=3.2, height=2.6)
        for axes, task in zip(panels, tasks, strict=True):
            seed = int(results.loc[results["task"] == task, "seed"].min())
            draw_plane(figure, axes, table_of(results, task, "plane", "LSPC", seed), "reward_q")
            for policy, (color, label) in _POLICIES.items():
                actions = table_of(results, task, policy, "LSPC", seed)
                axes.scatter(
                    actions["action_1"], actions["action_2"], s=5, color=color, alpha=0.6,
                    linewidths=0, label=label,
                )  # fmt: skip
            axes.set_title(f"{short_name(task)}: actions over $Q_r$")
        figure.suptitle(
            f"LSPC figure 3, {scale}: one state, the first seed", fontsize=8.5, wrap=True
        )
        legend_below(figure, panels[0].get_legend_handles_labels()[0], markerscale=2)
    return figure


FIGURE_3 = measured_ablation(
    "lspc-fig3",
    "One state: where the policies' actions lie",
    "the policy: CVAE, LSPC-S, LSPC-O",
    "lspc_actions",
    _LSPC,
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("CarRun", "easysparse")},
    {"smoke": 4, "small": 64, "paper": 256},
    _draw_plane_of_policies,
    (
        mean_within(
            "inside-the-hull",
            "Over states, at least half of LSPC-O's actions lie within the hull of LSPC-S's.",
            "states",
            "inside_share",
            setting="LSPC",
            low=0.5,
        ),
        mean_positive(
            "higher-value",
            "Over states, LSPC-O's actions have the higher Q_r.",
            "states",
            "reward_q_gain",
            setting="LSPC",
        ),
    ),
)


def _by_target(results: pandas.DataFrame, target: str) -> pandas.DataFrame:
    """Mean reward and cost of each training task and seed in a target task; costs by its limits."""
    chosen = results[results["view"] == target]
    means = chosen.pivot_table(index=["task", "seed"], columns="quantity", values="value")
    inverse_limit = float(np.mean([1 / limit for limit in TASKS[target].cost_limits]))
    return means.assign(cost=means["cost"] * inverse_limit)


def _draw_transfer(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
    """Reward and cost: the target tasks along x, a colour for each training task."""
    sources = list(dict.fromkeys(results["task"]))
    targets = list(dict.fromkeys(results["view"]))
    with figure_style():
        figure, panels = draw_panels(2, width=3.4, height=2.2, columns=1)
        for axes, quantity in zip(panels, ("reward", "cost"), strict=True):
            largest = 0.0
            for place, target in enumerate(targets):
                means = _by_target(results, target)
                for number, source in enumerate(sources):
                    values = means.loc[source][quantity]
                    mean = float(values.mean())
                    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                    below = min(deviation, max(0.0, mean)) if quantity == "cost" else deviation
                    axes.errorbar(
                        place + 0.2 * (number - (len(sources) - 1) / 2),
                        mean,
                        [[below], [deviation]],
                        color=COLORS[number], marker="o", linestyle="none",
                        label=f"trained on {short_name(source)}" if place == 0 else None,
                    )  # fmt: skip
                    largest = max(largest, float(values.max()))
            axes.set_ylabel(metric_label(f"normalized_{quantity}"))
            names = [short_name(target) for target in targets] if quantity == "cost" else []
            axes.set_xticks(
                range(len(targets)),
                names or [""] * len(targets),
                rotation=30 if len(targets) > 2 else 0,
                ha="right" if len(targets) > 2 else "center",
            )
            axes.set_xlim(-0.5, len(targets) - 0.5)
            if quantity == "cost":
                finish_axes(axes, COST, largest)
        figure.suptitle(f"LSPC figure 12, {scale}: LSPC-O on other tasks", fontsize=8.5, wrap=True)
        legend_below(figure, panels[0].get_legend_handles_labels()[0])
    return figure


def _is_hard(task: str) -> bool:
    return "Hard" in task or "hard" in task


def _rewards(
    results: pandas.DataFrame, source_is_hard: bool, target_is_hard: bool
) -> pandas.Series:
    """Reward by seed, of the policies trained on hard (or easy) tasks in hard (or easy) ones."""
    targets = [view for view in dict.fromkeys(results["view"]) if _is_hard(view) == target_is_hard]
    sources = [task for task in dict.fromkeys(results["task"]) if _is_hard(task) == source_is_hard]
    means = [
        seed_means(results, source, target, "reward", "LSPC")
        for source in sources
        for target in targets
    ]
    return pandas.concat(means, axis=1).mean(axis=1) if means else pandas.Series(dtype=float)


def _compare(one: tuple[bool, bool], other: tuple[bool, bool], name: str, statement: str) -> Claim:
    def judge(results: pandas.DataFrame) -> list[Finding]:
        if results.empty:
            return []
        first, second = _rewards(results, *one), _rewards(results, *other)
        gap = (first - second).dropna()
        if gap.empty:
            return []
        remark = f"{first.mean():.3g} against {second.mean():.3g}"
        return [judge_paired(ALL_TASKS, gap.to_numpy(), remark)]

    estimand = "difference of mean rewards, paired by seed"
    return Claim(name, statement, judge, RESULTS, ON_AVERAGE, estimand, (0.0, np.inf))


def _safe(results: pandas.DataFrame, task: str) -> Finding | None:
    targets = [target for target in dict.fromkeys(results["view"]) if target != task]
    costs = [_by_target(results, target).loc[task]["cost"] for target in targets]
    if not costs:
        return None
    mean = pandas.concat(costs, axis=1).mean(axis=1)
    remark = "mean of the other tasks"
    return judge_range(task, mean.to_numpy(), high=1.0, remark=remark, cost=True)


_METADRIVE = tuple(
    f"{road}{traffic}"
    for road in ("easy", "medium", "hard")
    for traffic in ("sparse", "mean", "dense")
)
_BOATS = ("BoatNavigation", "BoatNavigationHard")

FIGURE_12 = measured_ablation(
    "lspc-fig12",
    "Trained on an easy or a hard task, evaluated on others",
    "the task of evaluation; MetaDrive's at paper scale, the two boats below it",
    "transfer",
    _LSPC,
    {"smoke": _BOATS, "small": _BOATS, "paper": ("easysparse", "harddense")},
    {"smoke": 2, "small": 20, "paper": 20},
    _draw_transfer,
    (
        _compare(
            (True, False),
            (True, True),
            "hard-transfers-down",
            "Trained on the hard task, reward is higher on easier ones than on its own.",
        ),
        _compare(
            (False, False),
            (False, True),
            "easy-transfers-worse",
            "Trained on the easy task, reward drops on harder ones.",
        ),
        each_task(
            "stays-safe",
            "On the other tasks the mean cost is within the limit.",
            _safe,
            "mean cost",
            (-np.inf, 1.0),
        ),
    ),
    target_tasks={"smoke": _BOATS, "small": _BOATS, "paper": _METADRIVE},
)
