"""Ablations that look at datasets alone: cost and return of every episode."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.plots import draw_panels, short_name, wrapped
from safesweep.analysis.ablations.engine.settings import nothing_published
from safesweep.analysis.claims import CONTRADICTED, SUPPORTED, UNDECIDED, Claim, Finding
from safesweep.analysis.figures import BLUE, GREY, ORANGE, figure_style
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.tasks.registry import TASKS

COLUMNS = ("task", "dataset_id", "collected", "episode", "cost", "reward", "cost_limit")
BOOTSTRAPS = 2000


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
    return float(stats.spearmanr(episodes["cost"], episodes["reward"]).statistic)


def _bootstrap(
    episodes: pandas.DataFrame, quantity: Callable[[pandas.DataFrame], float], draws: int
) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    values = [
        quantity(episodes.iloc[generator.integers(len(episodes), size=len(episodes))])
        for _ in range(draws)
    ]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def correlation_claim(
    name: str, statement: str, tasks: Sequence[str], low: float, high: float = 1.0
) -> Claim:
    """The rank correlation of cost and return lies within [low, high], judged by a bootstrap over
    episodes (95 %)."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in dict.fromkeys(results["task"]):
            if short_name(task) not in tasks:
                continue
            episodes = results[results["task"] == task]
            effect = rank_correlation(episodes)
            below, above = _bootstrap(episodes, rank_correlation, BOOTSTRAPS // 10)
            verdict = _verdict(below, above, low, high)
            remark = f"{len(episodes)} episodes"
            findings.append(Finding(task, verdict, effect, below, above, remark=remark))
        return findings

    return Claim(name, statement, judge)


def _verdict(below: float, above: float, low: float, high: float) -> str:
    if low <= below and above <= high:
        return SUPPORTED
    return CONTRADICTED if above < low or below > high else UNDECIDED


def unsafe_share_claim(name: str, statement: str, low: float, high: float = 1.0) -> Claim:
    """The share of episodes beyond the cost limit lies within [low, high], on each task (95 %
    Clopper-Pearson interval)."""

    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task, episodes in results.groupby("task", sort=False):
            unsafe = int((episodes["cost"] > episodes["cost_limit"]).sum())
            interval = stats.binomtest(unsafe, len(episodes)).proportion_ci(0.95)
            below, above = float(interval.low), float(interval.high)
            verdict = _verdict(below, above, low, high)
            remark = f"{unsafe} of {len(episodes)} episodes"
            share = unsafe / len(episodes)
            findings.append(Finding(str(task), verdict, share, below, above, remark=remark))
        return findings

    return Claim(name, statement, judge)


def draw_episodes(
    title: str, histograms: bool = False, note: str = ""
) -> Callable[[pandas.DataFrame, pandas.DataFrame, str], Figure]:
    """A panel for each task: episodes by cost and return, coloured by the cost limit; and, if
    asked for, a histogram of costs below."""

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> Figure:
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


def _scatter(axes: Axes, episodes: pandas.DataFrame, name: str) -> None:
    unsafe = episodes["cost"] > episodes["cost_limit"]
    for chosen, color in ((~unsafe, BLUE), (unsafe, ORANGE)):
        rows = episodes[chosen]
        axes.scatter(rows["cost"], rows["reward"], s=5, color=color, alpha=0.45, linewidths=0)
    axes.axvline(float(episodes["cost_limit"].iloc[0]), color=GREY, linestyle=":", linewidth=1.0)
    axes.set_title(f"{name}:\n{100 * float(unsafe.mean()):.0f} % beyond the limit")
    axes.set_xlabel("episode cost")
    axes.set_ylabel("normalized return")


def _histogram(axes: Axes, episodes: pandas.DataFrame) -> None:
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
