"""How much tuning each method needs: what its default lacks to the best safe configuration near it.

Results: reward and cost of every configuration, and for each method, by seed, `REGRET` and
`SAFE_SHARE`, with an empty series.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas

from safesweep.analysis.ablations.cross_method.around_defaults import (
    CANDIDATES,
    DEFAULT,
    chosen_on_other_seeds,
    configuration_scores,
    settings_of,
    sweeps_at,
)
from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.budgets import describe_cost
from safesweep.analysis.ablations.engine.claim_builders import value_within
from safesweep.analysis.ablations.engine.plots import short_name, wrapped
from safesweep.analysis.ablations.engine.settings import (
    COLUMNS,
    COST,
    REWARD,
    collect_settings,
    compare_settings,
    nothing_published,
)
from safesweep.analysis.claims import Claim, Finding, judge_paired
from safesweep.analysis.figures import (
    GREY,
    METHOD_STYLES,
    figure_style,
    legend_below,
    legend_handle,
    new_figure,
)
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.store.scores import within_limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REGRET, SAFE_SHARE = "regret", "safe_share"
ID = "safesweep-sensitivity"
_MARGIN = 0.05
_NAMES = [candidate.name for candidate in CANDIDATES]
_SAFE_METHODS = [name for name in _NAMES if name != "BC"]


def safe_reward(rewards: pandas.Series, costs: pandas.Series) -> pandas.Series:
    """The normalised reward where the cost is within the limit, and at most 0 where it is not."""
    return rewards.where(within_limit(costs), rewards.clip(upper=0.0))


def regrets(scores: pandas.DataFrame) -> pandas.DataFrame:
    """Columns task, method, seed, value: the safe reward of what is chosen on the other seeds,
    less the default's. No row where nothing is safe on the other seeds."""
    scores = scores.assign(value=safe_reward(scores[REWARD], scores[COST]))
    chosen = chosen_on_other_seeds(scores)
    default = scores[scores["setting"] == DEFAULT]
    keys = ["task", "algorithm", "seed"]
    both = chosen[chosen["safe"].astype(bool)].merge(
        default[[*keys, "value"]], on=keys, suffixes=("", "_of_default")
    )
    both["value"] = both["value"] - both["value_of_default"]
    return both.rename(columns={"algorithm": "method"})[["task", "method", "seed", "value"]]


def safe_shares(scores: pandas.DataFrame) -> pandas.DataFrame:
    """Columns task, method, seed, value: the share of the configurations within the limit."""
    safe = scores.assign(value=np.where(within_limit(scores[COST]), 1.0, 0.0))
    shares = safe.groupby(["task", "algorithm", "seed"])["value"].mean().reset_index()
    return shares.rename(columns={"algorithm": "method"})


def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
    """Scores of every configuration, and each method's regret and share of safe ones."""
    results = collect_settings(store, list(names), settings_of(ID, names), "safesweep")
    scores = configuration_scores(results)
    if scores.empty:
        return results
    parts = [results]
    for metric, values in ((REGRET, regrets(scores)), (SAFE_SHARE, safe_shares(scores))):
        row = values.rename(columns={"method": "setting"}).assign(
            series="", x=math.nan, step=0, metric=metric
        )
        parts.append(row[list(COLUMNS)])
    return pandas.concat(parts, ignore_index=True)


def _compare(results: pandas.DataFrame, published: pandas.DataFrame) -> pandas.DataFrame:
    """Defaults, regrets and shares; every configuration is in the figure's data."""
    shown = results[(results["series"] == "") | (results["setting"] == DEFAULT)]
    shown = shown.assign(
        setting=shown["setting"].where(shown["series"] == "", shown["series"]), series=""
    )
    return compare_settings(shown, published)


def least_tuned(results: pandas.DataFrame) -> list[Finding]:
    """By how much the method with the least regret on all seeds but one stays below the mean of
    the other methods on that one."""
    findings = []
    for task, rows in results[results["metric"] == REGRET].groupby("task"):
        table = rows.pivot_table(index="seed", columns="setting", values="value")
        leads = []
        for seed in table.index:
            here, elsewhere = table.loc[seed].dropna(), table.drop(index=seed).mean().dropna()
            both = here.index.intersection(elsewhere.index)
            if len(both) > 1:
                best = elsewhere[both].idxmin()
                leads.append(float(here[both].drop(best).mean() - here[best]))
        order = table.mean().sort_values()
        remark = ", ".join(f"{name} {value:.2f}" for name, value in order.items())
        findings.append(judge_paired(str(task), leads, f"regrets: {remark}"))
    return findings


def _draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
    """Above regret and share of safe configurations; below, method by method, what each change of
    one hyperparameter does to the safe reward, paired by seed. Of several tasks the first."""
    task = str(results["task"].iloc[0])
    scores = configuration_scores(results[results["task"] == task])
    scores = scores.assign(value=safe_reward(scores[REWARD], scores[COST]))
    changes = {name: changes_of(scores, name) for name in _NAMES}
    counts = [changes[name]["hyperparameter"].nunique() for name in _NAMES]
    order = np.argsort(counts)[::-1]
    rows = [[_NAMES[i] for i in order[start : start + 2]] for start in range(0, len(_NAMES), 2)]
    heights = [0.6 + 0.15 * max(counts[_NAMES.index(name)] for name in row) for row in rows]
    with figure_style():
        figure = new_figure(7.2, 2.2 + sum(heights) + 0.9)
        grid = figure.add_gridspec(1 + len(rows), 2, height_ratios=[1.5, *heights])
        for column, (metric, label) in enumerate(_SUMMARIES):
            _draw_summary(figure.add_subplot(grid[0, column]), results, metric, label)
        for place, row in enumerate(rows):
            for column, name in enumerate(row):
                axes = figure.add_subplot(grid[1 + place, column])
                _draw_changes(axes, changes[name], METHOD_STYLES[name].color)
                axes.set_title(name)
                if place == len(rows) - 1:
                    axes.set_xlabel("change of the safe reward")
        seeds = results["seed"].nunique()
        figure.suptitle(
            f"Sensitivity, {scale}: {short_name(task)}, mean and standard deviation over {seeds} "
            "seeds",
            fontsize=8.5,
        )
        handles = [
            legend_handle(color=GREY, marker=marker, linestyle="none", label=label)
            for marker, label in (("<", "below the default"), (">", "above the default"))
        ]
        legend_below(figure, handles, wrapped(_NOTE, 7.2))
    return figure


_SUMMARIES = ((REGRET, "regret of the default"), (SAFE_SHARE, "share of safe settings"))
_NOTE = (
    "Safe reward: the normalised reward where the cost is within the limit, at most 0 where it is "
    "not. Regret: the safe reward of the configuration chosen on the other seeds less the "
    "default's; none where nothing is safe there. Below: one hyperparameter changed by itself; "
    "of choices the earlier one counts as below."
)


def changes_of(scores: pandas.DataFrame, method: str) -> pandas.DataFrame:
    """Columns hyperparameter, setting, x (the side of the default), seed, change: of the safe
    reward against the default's.

    Args:
        scores: of one task, from `configuration_scores`, with the safe reward as `value`.
    """
    own = scores[scores["algorithm"] == method]
    default = own[own["setting"] == DEFAULT].set_index("seed")["value"]
    varied = own[own["setting"] != DEFAULT]
    varied = varied.assign(
        hyperparameter=varied["series"].str.split(": ").str[-1],
        change=varied["value"] - varied["seed"].map(default),
    )
    return varied[["hyperparameter", "setting", "x", "seed", "change"]]


def _draw_summary(axes: "Axes", results: pandas.DataFrame, metric: str, label: str) -> None:
    chosen = results[results["metric"] == metric]
    chosen = chosen[chosen["task"] == results["task"].iloc[0]]
    for place, name in enumerate(_NAMES):
        values = chosen.loc[chosen["setting"] == name, "value"]
        if values.empty:
            axes.annotate("none\nsafe", (place, 0), fontsize=6, ha="center", va="bottom")
            continue
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        style = METHOD_STYLES[name]
        axes.errorbar(
            place, float(values.mean()), deviation, color=style.color, marker=style.marker
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(range(len(_NAMES)), _NAMES, fontsize=7)
    axes.set_xlim(-0.5, len(_NAMES) - 0.5)
    axes.set_ylabel(label)


def _draw_changes(axes: "Axes", changes: pandas.DataFrame, color: str) -> None:
    names = list(dict.fromkeys(changes["hyperparameter"]))
    for place, name in enumerate(names):
        groups = changes[changes["hyperparameter"] == name].groupby(["x", "setting"])
        for number, ((side, _), rows) in enumerate(groups):
            values = rows["change"]
            deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            axes.errorbar(
                float(values.mean()), place + 0.34 * number - 0.17 * (len(groups) - 1),
                xerr=deviation, color=color, marker="<" if side < 0 else ">", markersize=3.5,
                elinewidth=0.8,
            )  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=6.5)
    axes.set_ylim(len(names) - 0.4, -0.6)


SENSITIVITY = Ablation(
    id=ID,
    title="How much tuning each method needs",
    paper="safesweep",
    varies="each hyperparameter of every method's search space by itself, around the default",
    sweeps={scale: sweeps_at(ID, scale) for scale in SCALES},
    costs={scale: describe_cost(scale, sweeps_at(ID, scale)) for scale in SCALES},
    collect=collect,
    published=nothing_published,
    compare=_compare,
    draw=_draw,
    claims=(
        Claim(
            "one-needs-less",
            "The method whose default has the least regret on the other seeds has less than the "
            "mean of the others on the seed left out.",
            least_tuned,
            estimand="mean lead of the least regret on the seed left out",
            margin=(0.0, math.inf),
        ),
        *(
            value_within(
                f"{name.lower()}-default-suffices",
                f"{name}'s default lacks at most {_MARGIN:g} of safe reward to the best safe "
                "configuration around it.",
                [name], REGRET, high=_MARGIN,
            )
            for name in _NAMES
        ),
        value_within(
            "most-are-safe",
            "At least half of the configurations around a safe method's default are within the "
            "limit.",
            _SAFE_METHODS, SAFE_SHARE, low=0.5,
        ),
    ),
)  # fmt: skip
