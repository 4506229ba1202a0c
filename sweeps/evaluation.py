"""`evaluate: {episodes: auto}`: how many episodes an evaluation takes, by measured variances.

More episodes make a run's score more certain, but not what its configuration is worth, which
differs from seed to seed. So an evaluation takes as many as bring what episodes add to the
variance between seeds down to a tenth of it, within bounds: a simulator's episode costs time that
another seed would use better. Where the variances come from, in this order: what an earlier launch
of the sweep chose stands; the measurements that ship (`evaluation_variance.csv`, of tasks whose
simulators are at hand; `python -m tests.benchmarks.evaluation_variance` makes them from a store);
the runs of the task that the store holds; else a default.
"""

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.recorded_sweep import read_recorded_sweep

NOISE_SHARE = 0.1
"""What episodes may add to the variance between seeds, as a share of it."""
FEWEST = 2
"""With fewer nothing would be known of the variance within a run."""
MOST = {"boat": 300}
"""Where all episodes step together, they cost next to nothing."""
MOST_ELSEWHERE = 50
DEFAULT = 20
FEWEST_RUNS = 6
"""Fewer runs say too little of the variance between them."""


@dataclass(frozen=True)
class Variance:
    """Of the returns of one task: within a run (an episode's) and between runs of a configuration.

    `metric` is reward or cost, `runs` how many were measured.
    """

    metric: str
    within: float
    between: float
    runs: int


def with_episodes(
    spec: SweepSpec, storage: str, previous_spec: str | None
) -> tuple[SweepSpec, list[str]]:
    """The sweep with a number of episodes for each task, and a line a task that says why.

    The sweep itself, and no lines, where it names the numbers.
    """
    if spec.evaluate_episodes is not None:
        return spec, []
    recorded = read_recorded_sweep(previous_spec)
    begun = recorded.episodes if recorded else {}
    chosen: dict[str, int] = {}
    lines = []
    for task in spec.tasks:
        if task in begun:
            chosen[task], why = begun[task], "as this sweep began"
        else:
            chosen[task], why = choose_episodes(task, storage)
        lines.append(f"evaluate.episodes {chosen[task]} on {task}: {why}")
    evaluate = spec.evaluate.model_copy(update={"episodes": chosen})
    return spec.model_copy(update={"evaluate": evaluate}), lines


def choose_episodes(task: str, storage: str) -> tuple[int, str]:
    """How many episodes an evaluation on one task takes, and why in words."""
    from safesweep.trainables.tasks.registry import get_task

    suite = get_task(task).suite
    most = MOST.get(suite, MOST_ELSEWHERE)
    shipped = measured_variances().get(task, ())
    found = shipped or _variances_of_store(task, storage)
    if not found:
        default = min(DEFAULT, most)
        return default, "the default; how much its episodes vary has not been measured"
    source = "measured" if shipped else "in this store"
    return episodes_for(found, most, source)


def episodes_for(variances: tuple[Variance, ...], most: int, source: str) -> tuple[int, str]:
    """Episodes by which neither metric's noise exceeds its share, within `FEWEST` and `most`."""
    wanted = {one.metric: _wanted(one) for one in variances}
    decisive = max(variances, key=lambda one: wanted[one.metric])
    asked = wanted[decisive.metric]
    chosen = int(min(max(asked, FEWEST), most))
    if decisive.between > 0:
        ratio = f"{decisive.within / decisive.between:,.3g} times the variance between runs"
    else:
        ratio = "all there is" if decisive.within > 0 else "nothing, nor do runs differ"
    line = (
        f"within a run the variance of the {decisive.metric} is {ratio} "
        f"({source}: {decisive.runs} runs)"
    )
    if asked > most:
        share = decisive.within / chosen / decisive.between if decisive.between > 0 else math.inf
        line += f"; {most} is the most" + (
            f", and adds {share:.0%} to it" if math.isfinite(share) else ""
        )
    elif asked < FEWEST:
        line += f"; {FEWEST} is the least"
    return chosen, line


def _wanted(variance: Variance) -> float:
    if variance.within <= 0:
        return 1.0
    if variance.between <= 0:
        return math.inf
    return float(math.ceil(variance.within / (NOISE_SHARE * variance.between)))


@cache
def measured_variances() -> dict[str, tuple[Variance, ...]]:
    """The measurements that ship, by task."""
    found: dict[str, tuple[Variance, ...]] = {}
    text = (files("safesweep.sweeps") / "evaluation_variance.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        variance = Variance(
            row["metric"], float(row["within"]), float(row["between"]), int(row["runs"])
        )
        found[row["task"]] = (*found.get(row["task"], ()), variance)
    return found


def _variances_of_store(task: str, storage: str) -> tuple[Variance, ...]:
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.analysis.variance import episode_variances
    from safesweep.search_spaces.validation import InvalidInput

    try:
        store = ResultStore(storage)
    except InvalidInput:
        return ()  # There is no store yet.
    rows = episode_variances(store, [task])
    return tuple(
        Variance(row["metric"], row["within"], row["between"], row["runs"])
        for row in rows.to_dict("records")
        if row["runs"] >= FEWEST_RUNS
    )
