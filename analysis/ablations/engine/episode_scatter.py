"""Ablations that look at datasets alone: cost and return of every episode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.plots import short_name, wrapped
from safesweep.analysis.ablations.engine.settings import nothing_published, task_id
from safesweep.analysis.claims import DATASETS, EVERY_TASK, Claim, Finding, judge_evidence
from safesweep.analysis.contrasts import Evidence, StudentTest
from safesweep.analysis.figures import BLUE, GREY, ORANGE, draw_panels, figure_style
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.tasks.registry import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("task", "dataset_id", "collected", "episode", "cost", "reward", "cost_limit")


def read_episodes(store: ResultStore, datasets: tuple[str, ...]) -> pandas.DataFrame:
    """Cost and return of every episode of datasets named `source:task`, in `COLUMNS`.

    `reward` is normalised as the task's is; `cost_limit` is the task's smallest.
    """
    frames = []
    for name in datasets:
        source, task = name.split(":", 1)
        data = load_dataset(task, source)
        rewards = np.add.reduceat(data.rewards.astype(np.float64), data.episode_starts)
        frames.append(
            pandas.DataFrame(
                {
                    "task": task,
                    "dataset_id": data.dataset_id,
                    "collected": bool(data.provenance),
                    "episode": np.arange(len(rewards)),
                    "cost": data.cost_returns().astype(np.float64),
                    "reward": TASKS[task].normalize_reward(rewards),
                    "cost_limit": TASKS[task].cost_limit,
                }
            )
        )
    return pandas.concat(frames, ignore_index=True)


def summarize_episodes(results: pandas.DataFrame, published: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each task and quantity: the share of episodes beyond the limit, and the rank
    correlation of cost and return. Nothing is printed to stand beside it."""
    rows = []
    for task, episodes in results.groupby("task", sort=False):
        quantities = {
            "episodes": float(len(episodes)),
            "share beyond the limit": float((episodes["cost"] > episodes["cost_limit"]).mean()),
            "rank correlation": rank_correlation(episodes),
        }
        rows += [
            {
                "task": task,
                "metric": metric,
                "series": "",
                "setting": "dataset",
                "ours": value,
                "spread": np.nan,
                "seeds": 0,
                "published": np.nan,
            }
            for metric, value in quantities.items()
        ]
    return pandas.DataFrame(rows)


def rank_correlation(episodes: pandas.DataFrame) -> float:
    """Spearman's correlation of an episode's cost with its return; 0 where one is constant."""
    if episodes["cost"].nunique() < 2 or episodes["reward"].nunique() < 2:
        return 0.0
    from scipy import stats

    return float(stats.spearmanr(episodes["cost"], episodes["reward"]).statistic)


def correlation_claim(
    name: str, statement: str, tasks: Sequence[str], low: float, high: float = 1.0
) -> Claim:
    """The rank correlation of cost and return lies within [low, high], over episodes, by Fisher's
    transformation with the error of Bonett and Wright."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in dict.fromkeys(results["task"]):
            episodes = results[results["task"] == task]
            effect = rank_correlation(episodes)
            error = float(np.sqrt((1 + effect**2 / 2) / max(1, len(episodes) - 3)))
            place = float(np.arctanh(np.clip(effect, -0.999999, 0.999999)))
            test, reverse = (StudentTest(sign * place, error, np.inf) for sign in (1, -1))
            least, most = (
                float(np.arctanh(end)) if abs(end) < 1 else end * np.inf for end in (low, high)
            )
            evidence = Evidence(place, len(episodes), (test,), (reverse,))
            found = judge_evidence(str(task), evidence, least, most)
            remark = f"{len(episodes)} episodes"
            findings.append(
                replace(
                    found, effect=effect, low=float(np.tanh(found.low)),
                    high=float(np.tanh(found.high)), seeds=0, remark=remark, evidence=None,
                )
            )  # fmt: skip
        return findings

    estimand = "rank correlation of an episode's cost and return"
    return Claim(
        name, statement, judge, DATASETS, EVERY_TASK, estimand, (low, high),
        tuple(task_id(task) for task in tasks),
    )  # fmt: skip


def unsafe_share_claim(name: str, statement: str, low: float, high: float = 1.0) -> Claim:
    """The share of episodes beyond the cost limit lies within [low, high], on each task (binomial
    tests, Clopper and Pearson's interval)."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task, episodes in results.groupby("task", sort=False):
            unsafe = int((episodes["cost"] > episodes["cost_limit"]).sum())
            remark = f"{unsafe} of {len(episodes)} episodes"
            found = judge_evidence(str(task), _share(unsafe, len(episodes)), low, high, remark)
            findings.append(replace(found, seeds=0, evidence=None))
        return findings

    estimand = "share of episodes beyond the cost limit"
    return Claim(name, statement, judge, DATASETS, EVERY_TASK, estimand, (low, high))


@dataclass(frozen=True)
class ShareTest:
    """Binomial test of a share being above a value.

    Attributes:
        hits: how many of `total` there are.
        negated: the share is negated: it is below the negated value.
    """

    hits: int
    total: int
    negated: bool = False

    def p_above(self, value: float) -> float:
        """One-sided p-value; a share is never above 1 or below 0."""
        share = -value if self.negated else value
        if not 0 <= share <= 1:
            return 0.0 if value < 0 else 1.0
        from scipy import stats

        side = "less" if self.negated else "greater"
        return float(stats.binomtest(self.hits, self.total, share, side).pvalue)

    def lower(self, alpha: float) -> float:
        """Clopper and Pearson's one-sided bound."""
        from scipy import stats

        interval = stats.binomtest(self.hits, self.total).proportion_ci(1 - 2 * alpha)
        return -float(interval.high) if self.negated else float(interval.low)


def _share(hits: int, total: int) -> Evidence:
    tests = (ShareTest(hits, total), ShareTest(hits, total, negated=True))
    return Evidence(hits / total, total, tests[:1], tests[1:])


def draw_episodes(
    title: str, histograms: bool = False, note: str = ""
) -> "Callable[[pandas.DataFrame, pandas.DataFrame, str], Figure]":
    """A panel for each task: episodes by cost and return, coloured by the cost limit; and, if
    asked for, a histogram of costs below."""

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> "Figure":
        tasks = list(dict.fromkeys(results["task"]))
        with figure_style():
            figure, panels = draw_panels(len(tasks) * (2 if histograms else 1), columns=_columns(
                len(tasks), histograms
            ))  # fmt: skip
            for index, task in enumerate(tasks):
                episodes = results[results["task"] == task]
                place = index * 2 if histograms else index
                _scatter(panels[place], episodes, short_name(task))
                if histograms:
                    _histogram(panels[place + 1], episodes)
            lines = [note] if note else []
            if bool(results["collected"].any()):
                lines.append("Collected by us: these are not DSRL's episodes.")
            figure.suptitle(f"{title}, {scale}", fontsize=8.5, wrap=True)
            text = wrapped(" ".join(lines), figure.get_size_inches()[0])
            figure.supxlabel(text, fontsize=6.5)
        return figure

    return draw


def _columns(tasks: int, histograms: bool) -> int:
    return 2 if histograms else min(4, tasks)


def _scatter(axes: "Axes", episodes: pandas.DataFrame, name: str) -> None:
    unsafe = episodes["cost"] > episodes["cost_limit"]
    for chosen, color in ((~unsafe, BLUE), (unsafe, ORANGE)):
        rows = episodes[chosen]
        axes.scatter(rows["cost"], rows["reward"], s=5, color=color, alpha=0.45, linewidths=0)
    axes.axvline(float(episodes["cost_limit"].iloc[0]), color=GREY, linestyle=":", linewidth=1.0)
    axes.set_title(f"{name}:\n{100 * float(unsafe.mean()):.0f} % beyond the limit")
    axes.set_xlabel("episode cost")
    axes.set_ylabel("normalized return")


def _histogram(axes: "Axes", episodes: pandas.DataFrame) -> None:
    axes.hist(episodes["cost"], bins=30, color=BLUE)
    axes.axvline(float(episodes["cost_limit"].iloc[0]), color=GREY, linestyle=":", linewidth=1.0)
    axes.set_xlabel("episode cost")
    axes.set_ylabel("episodes")


def dataset_ablation(
    id: str,
    title: str,
    tasks: Mapping[str, Sequence[str]],
    claims: Sequence[Claim],
    *,
    histograms: bool = False,
    note: str = "",
) -> Ablation:
    """An ablation of datasets: nothing is trained.

    Args:
        tasks: scale -> task keys or ids; DSRL's own files at paper scale, else collected ones.
    """
    ids = {task.key: name for name, task in TASKS.items()}
    datasets = {
        scale: tuple(
            f"{'fetch' if scale == 'paper' else 'collect'}:{ids.get(task, task)}"
            for task in tasks[scale]
        )
        for scale in SCALES
    }
    return Ablation(
        id=id,
        title=title,
        paper=id.split("-")[0],
        varies="the dataset",
        sweeps={scale: () for scale in SCALES},
        costs={
            scale: f"no runs: reads {len(datasets[scale])} datasets, "
            + ("fetched" if scale == "paper" else "collected first where they are not there")
            for scale in SCALES
        },
        collect=read_episodes,
        published=nothing_published,
        compare=summarize_episodes,
        draw=draw_episodes(title, histograms, note),
        claims=tuple(claims),
        datasets=datasets,
    )
