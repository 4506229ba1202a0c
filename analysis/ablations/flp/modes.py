"""FLP's figure 2: moving between the modes of behaviour, on a toy."""

from typing import TYPE_CHECKING

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.measured import measured_ablation, table_of
from safesweep.analysis.claims import Claim, Finding, judge_paired
from safesweep.analysis.figures import GREY, METHOD_STYLES, draw_panels, figure_style
from safesweep.trainables.measurements.bandit import (
    MODE_RADIUS,
    bandit_task,
    mode_centres,
    mode_shares,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {
    "flp": ("FLP", METHOD_STYLES["FLP"].color, r"$\alpha$"),
    "safefql": ("FQL", METHOD_STYLES["FQL"].color, r"$\alpha$"),
}


def shares(results: pandas.DataFrame) -> pandas.DataFrame:
    """Columns algorithm, strength, seed, between, richest: the share of actions that lie between
    the modes, and in the richest one."""
    rows = []
    for view in dict.fromkeys(results["view"]):
        algorithm, strength = str(view).split(" ")
        actions = table_of(results, bandit_task().name, view)
        for seed, drawn in actions.groupby(level="seed"):
            found = mode_shares(drawn[["action_1", "action_2"]].to_numpy())
            rows.append(
                {
                    "algorithm": algorithm,
                    "strength": float(strength),
                    "seed": seed,
                    "between": 1 - float(found.sum()),
                    "richest": float(found[0]),
                }
            )
    return pandas.DataFrame(rows)


def _best_in_support(table: pandas.DataFrame, algorithm: str) -> pandas.Series:
    """By seed: the largest share in the richest mode less the share between the modes, over
    strengths. 1 is a policy that has moved there wholly and stays in support."""
    own = table[table["algorithm"] == algorithm]
    return (own["richest"] - own["between"]).groupby(own["seed"]).max()


def _moves_in_support(results: pandas.DataFrame) -> list[Finding]:
    if results.empty:
        return []
    table = shares(results)
    one, other = _best_in_support(table, "flp"), _best_in_support(table, "safefql")
    remark = f"{one.mean():.2f} against {other.mean():.2f}"
    return [judge_paired("toy", (one - other).to_numpy(), remark)]


def _stays_in_support(results: pandas.DataFrame) -> list[Finding]:
    if results.empty:
        return []
    worst = shares(results).groupby(["algorithm", "seed"])["between"].max()
    gap = worst.loc["safefql"] - worst.loc["flp"]
    remark = f"{worst.loc['flp'].mean():.2f} against {worst.loc['safefql'].mean():.2f}"
    return [judge_paired("toy", gap.to_numpy(), remark)]


def _draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
    """A panel for each method and strength: actions of the first seed over the modes."""
    views = list(dict.fromkeys(results["view"]))
    seed = int(results["seed"].min())
    with figure_style():
        figure, panels = draw_panels(len(views), width=1.7, height=1.75, columns=4)
        for axes, view in zip(panels, views, strict=True):
            algorithm, strength = str(view).split(" ")
            name, color, symbol = _NAMES[algorithm]
            for x, y in mode_centres():
                angles = np.linspace(0, 2 * np.pi, 60)
                axes.plot(
                    x + MODE_RADIUS * np.cos(angles), y + MODE_RADIUS * np.sin(angles),
                    color=GREY, linewidth=0.8,
                )  # fmt: skip
            actions = table_of(results, bandit_task().name, view, seed=seed)
            axes.scatter(
                actions["action_1"], actions["action_2"], s=5, color=color, alpha=0.5, linewidths=0
            )
            axes.set_title(f"{name}, {symbol} = {strength}")
            axes.set_xlim(-1.05, 1.05)
            axes.set_ylim(-1.05, 1.05)
            axes.set_aspect("equal")
            axes.set_xticks([-1, 0, 1])
            axes.set_yticks([-1, 0, 1])
        figure.suptitle(
            f"FLP figure 2, {scale}: the reward grows to the right; circles are the data's modes",
            fontsize=8.5,
            wrap=True,
        )
    return figure


FIGURE_2 = measured_ablation(
    "flp-fig2",
    "Moving between modes: KL in latents (FLP) against distance in actions (FQL)",
    "the strength of regularization of either; the paper prints neither values nor data",
    "bandit",
    (),
    {"smoke": (), "small": (), "paper": ()},
    {"smoke": 60, "small": 4000, "paper": 20_000},
    _draw,
    (
        Claim(
            "moves-in-support",
            "At its best strength FLP has more actions in the richest mode, less those between "
            "modes, than FQL at its best.",
            _moves_in_support,
            estimand="mean difference of shares, paired by seed",
            margin=(0.0, np.inf),
        ),
        Claim(
            "stays-in-support",
            "At its worst strength FLP has fewer actions between the modes than FQL at its worst.",
            _stays_in_support,
            estimand="mean difference of shares, paired by seed",
            margin=(0.0, np.inf),
        ),
    ),
)
