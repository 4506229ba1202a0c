"""Every method around its default: each hyperparameter of its space is changed by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas

from safesweep.analysis.ablations.engine.ablation import SCALES
from safesweep.analysis.ablations.engine.budgets import make_sweeps, method_settings, task_settings
from safesweep.analysis.ablations.engine.settings import COST, REWARD, Setting, task_id
from safesweep.analysis.selection.choice import select
from safesweep.search_spaces import SEARCH_SPACES
from safesweep.search_spaces.space import Hyperparameter, Value

DEFAULT = "default"


@dataclass(frozen=True)
class Candidate:
    """A method that is compared, and the variant of it that is meant.

    Attributes:
        name: shown in figures and tables.
        algorithm: the method.
        variant: hyperparameters of its space that differ from the method's default.
    """

    name: str
    algorithm: str
    variant: Mapping[str, Value] = field(default_factory=dict)


CANDIDATES = (
    Candidate("BC", "bc"),
    Candidate("FLRP", "flrp"),
    Candidate("LSPC-O", "lspc"),
    Candidate("R2PAC", "r2pac"),
    # Without its constraint FLP knows no costs.
    Candidate("FLP", "flp", {"safety": "lagrangian", "multiplier_speed": 10.0}),
    Candidate("SafeFQL", "safefql"),
)
TASKS_AT = {
    "smoke": ("BoatNavigation",),
    "small": ("BallRun",),
    "paper": ("BoatNavigationHard", "BallRun", "CarRun", "PointGoal1"),
}

# More than a hundred configurations, three seeds each: at small scale smaller networks and fewer
# steps than elsewhere, the slower a method's step the fewer, so that all of it takes minutes.
_SMALL_SIZES: dict[str, Any] = {"hidden_dim": 32, "batch_size": 64}
_SMALL_STEPS = {
    "bc": 1000,
    "flrp": 800,
    "lspc": 1500,
    "r2pac": 1500,
    "flp": 2000,
    "safefql": 1000,
}
_SMALL_EPISODES = 5
# Few enough to share the cores, enough that a step of them costs little more than one's.
_CONFIGS_PER_TRIAL = 8
_VARIED_AT_SMOKE = 2


def starting_point(scale: str, candidate: Candidate, task: str) -> dict[str, Value]:
    """The values at a scale of all hyperparameters of the method's space that take part."""
    space = SEARCH_SPACES[candidate.algorithm]
    settings = {
        **method_settings(scale, candidate.algorithm),
        **task_settings(scale, candidate.algorithm, task),
        **_sizes(scale),
    }
    return space.active({**space.defaults, **settings, **candidate.variant})


def other_values(entry: Hyperparameter, default: Value) -> tuple[Value, ...]:
    """What is tried beside the default: the ends of a range, the first and last other choice."""
    others = [value for value in entry.bounds if value != default]
    return tuple(dict.fromkeys((others[0], others[-1]))) if others else ()


def _sizes(scale: str) -> dict[str, Any]:
    return dict(_SMALL_SIZES) if scale == "small" else {}


def variations(scale: str, candidate: Candidate, task: str) -> dict[str, tuple[Value, ...]]:
    """Hyperparameter -> the values that it is changed to."""
    space, start = SEARCH_SPACES[candidate.algorithm], starting_point(scale, candidate, task)
    varied = {name: other_values(space.entries[name], value) for name, value in start.items()}
    if scale == "smoke":
        return {name: varied[name][-1:] for name in list(varied)[:_VARIED_AT_SMOKE]}
    return varied


def side_of(entry: Hyperparameter, value: Value, default: Value) -> float:
    """-1 for a value below the default or a choice named before it, else 1."""
    if isinstance(value, str) or isinstance(default, str):
        below = entry.choices.index(value) < entry.choices.index(default)
    else:
        below = value < default
    return -1.0 if below else 1.0


def settings_at(scale: str, task: str) -> tuple[Setting, ...]:
    """Every method's default (series: its name) and what differs from it in one hyperparameter
    (series: `<name>: <hyperparameter>`; x: which side of the default it is on)."""
    settings = []
    for candidate in CANDIDATES:
        start = starting_point(scale, candidate, task)
        entries = SEARCH_SPACES[candidate.algorithm].entries
        settings.append(Setting(DEFAULT, candidate.algorithm, start, series=candidate.name))
        for name, values in variations(scale, candidate, task).items():
            settings += [
                Setting(
                    f"{value:g}" if isinstance(value, float) else str(value),
                    candidate.algorithm,
                    {**start, name: value},
                    x=side_of(entries[name], value, start[name]),
                    series=f"{candidate.name}: {name}",
                )
                for value in values
            ]
    return tuple(settings)


def sweeps_at(id: str, scale: str) -> tuple[dict[str, Any], ...]:
    """A sweep for each method and task, of the default and its variations."""
    paper, sweeps = id.split("-")[0], []
    for task in map(task_id, TASKS_AT[scale]):
        settings = settings_at(scale, task)
        for candidate in CANDIDATES:
            points = [s.values for s in settings if s.algorithm == candidate.algorithm]
            space = {name: list(dict.fromkeys(p[name] for p in points)) for name in points[0]}
            (sweep,) = make_sweeps(
                f"{id}-{candidate.algorithm}-{task}", scale, paper, candidate.algorithm, [task],
                space, _sizes(scale), points=points,
                steps=_SMALL_STEPS[candidate.algorithm] if scale == "small" else None,
            )  # fmt: skip
            sweep["configs_per_trial"] = _CONFIGS_PER_TRIAL
            if scale == "small":
                # Only the end is looked at.
                sweep["evaluate"] = {"every": sweep["steps"], "episodes": _SMALL_EPISODES}
            sweeps.append(sweep)
    return tuple(sweeps)


def settings_of(id: str, names: Sequence[str]) -> tuple[Setting, ...]:
    """The settings that sweeps of these names hold, each once; for other names those of all
    scales."""
    own = [
        scale for scale in SCALES if {sweep["name"] for sweep in sweeps_at(id, scale)} & set(names)
    ]
    found = {
        (setting.series, setting.name, repr(setting.values)): setting
        for scale in own or SCALES
        for task in map(task_id, TASKS_AT[scale])
        for setting in settings_at(scale, task)
    }
    return tuple(found.values())


def method_of(series: str) -> str:
    """The method that a series of `settings_at` belongs to."""
    return series.split(":")[0]


def configuration_scores(results: pandas.DataFrame, cost: str = COST) -> pandas.DataFrame:
    """Tidy results of `settings_at` as `algorithm, task, config_id, seed, normalized_reward` and a
    cost, which is what selection takes.

    A configuration that lacks a seed (a run of it diverged) is left out.
    """
    last = results[results["metric"].isin([REWARD, cost])].sort_values("step")
    keys = ["task", "series", "setting", "x", "seed"]
    wide = (
        last.groupby([*keys, "metric"], dropna=False)["value"]
        .last()
        .unstack("metric")
        .reset_index()
    )
    if wide.empty:
        columns = ["algorithm", "task", "config_id", "seed", REWARD, cost]
        return pandas.DataFrame(columns=columns)
    wide["algorithm"] = wide["series"].map(method_of)
    wide["config_id"] = wide["series"] + " = " + wide["setting"]
    seeds = wide.groupby("task")["seed"].transform("nunique")
    own = wide.groupby(["task", "config_id"])["seed"].transform("nunique")
    return wide[own == seeds].reset_index(drop=True)


def chosen_on_other_seeds(
    scores: pandas.DataFrame, cost_limit: float | None = None
) -> pandas.DataFrame:
    """What `max_reward_safe` chooses on all seeds but one, and how it does on that one.

    The best of many on the seeds that it is judged by looks better than it is.

    Args:
        scores: as from `configuration_scores`, with `cost_return_mean` for a limit.
        cost_limit: judge by this limit; by the normalised cost as it is where there is none.

    Returns:
        The rows of `scores` of the chosen configuration at the seed left out, for each (algorithm,
        task, seed), with `safe`: whether it was on the others. No rows where there is one seed.
    """
    seeds: Sequence[Any] = sorted(scores["seed"].unique())
    parts = []
    for seed in seeds if len(seeds) > 1 else []:
        chosen = select(scores[scores["seed"] != seed], "max_reward_safe", cost_limit)
        keys = ["algorithm", "task", "config_id"]
        parts.append(scores[scores["seed"] == seed].merge(chosen[[*keys, "safe"]], on=keys))
    if not parts:
        return scores.iloc[:0].assign(safe=False)
    judged: pandas.DataFrame = pandas.concat(parts, ignore_index=True)
    return judged
