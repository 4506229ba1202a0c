"""What a method is trained with at each scale, and the sweeps made of it.

A run's identity is its whole configuration, its task, its data and its steps. So that every
ablation of a method shares the runs of its default configuration, the settings of a method at a
scale are written here and nowhere else; an ablation adds only what it varies.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from safesweep.trainables.methods.paper_settings import PROTOCOLS, printed_settings
from safesweep.trainables.tasks.registry import TASKS

SEEDS = {"smoke": [0, 1], "small": [0, 1, 2], "paper": [0, 1, 2]}
# For claims that the three seeds of the small scale leave undecided or have decided wrongly.
MORE_SEEDS = {"small": list(range(12))}

# Evaluations of a run, evenly spaced over its steps, and episodes in each. They are no part of a
# run's identity: figures of training curves need several, and whoever trains a run first decides.
EVALUATIONS = {"smoke": 2, "small": 4, "paper": 10}
EPISODES = {"smoke": 1, "small": 10, "paper": 20}

# Proves the path: networks and sample counts as small as they go. Here and below a method that is
# not named, as one from outside, has what is common.
SMOKE: dict[str, dict[str, Any]] = {
    "flrp": {"latent_dim": 2, "coupling_layers": 1},
    "lspc": {"latent_dim": 2},
    "r2pac": {"hidden_layers": 2, "flow_steps": 2, "candidates": 2},
    "flp": {"flow_steps": 2},
    "safefql": {"flow_steps": 2},
    "cpq": {"vae_hidden_dim": 32, "candidates": 2},
    "bcql": {"vae_hidden_dim": 32, "candidates": 2},
    "bearl": {"vae_hidden_dim": 32, "candidates": 2, "discrepancy_samples": 2},
    "fisor": {"actor_layers": 1, "sampling_steps": 2, "candidates": 2},
    "cdt": {"hidden_layers": 1, "attention_heads": 2},
    "fql": {"hidden_layers": 2, "flow_steps": 2},
    "ifql": {"hidden_layers": 2, "flow_steps": 2, "candidates": 2},
    "iql": {"hidden_layers": 2},
    "rebrac": {"hidden_layers": 2},
}
SMOKE_COMMON: dict[str, Any] = {"hidden_dim": 32, "batch_size": 64}
SMOKE_STEPS = 60

# Means something on two cores. With h = 25 on violations and the papers' slow target networks the
# feasibility critics need far more steps than these to come down to their zero level set: the
# violation signal is 1, with FLRP's temperatures of Q_h and V_h scaled alike, and learning is
# faster. At 1.5 and 2 FLRP's set on BallRun is empty for 5 and for all of 12 seeds; at 1 it holds
# more than is safe, so that the safety expert weighs more than the reward expert. LSPC's divergence
# weighs less, or the decoder ignores so few latents in so few steps. On collected BallRun these
# reach a normalised cost below 1 in the mean of three seeds; FLRP's weights of 0.1 and 4 reach 0.28
# (95 % interval up to 0.63) over 12, at more reward than doing nothing.
SMALL_COMMON: dict[str, Any] = {"hidden_dim": 64, "batch_size": 256}
_FAST = {**SMALL_COMMON, "learning_rate": 1e-3, "target_update_rate": 0.02}
SMALL: dict[str, dict[str, Any]] = {
    "flrp": {
        **_FAST,
        "violation_signal": 1.0,
        "feasibility_expectile": 0.7,
        "q_temperature": 0.1,
        "v_temperature": 0.2,
        "latent_dim": 4,
        "coupling_layers": 2,
        "reward_weight": 0.1,
        "safety_weight": 4.0,
        "shared_weight": 0.1,
        "pretrain_share": 0.6,
    },
    "lspc": {
        **_FAST,
        "latent_dim": 4,
        "expectile": 0.9,
        "kl_coefficient": 0.05,
        "restriction": 0.6,
        "safe_restriction": 0.6,
    },
    "r2pac": {**_FAST, "hidden_layers": 2, "flow_steps": 8, "candidates": 8},
    "flp": {**_FAST, "flow_steps": 5},
    "safefql": {**_FAST, "violation_signal": 1.0, "flow_steps": 5},
    # Several actions a state, of several critics: minibatches of 64 take a quarter of the time.
    "cpq": {**_FAST, "batch_size": 64, "vae_hidden_dim": 64},
    "bcql": {**_FAST, "batch_size": 64, "vae_hidden_dim": 64},
    "bearl": {**_FAST, "batch_size": 64, "vae_hidden_dim": 64},
    "coptidice": {**SMALL_COMMON, "learning_rate": 1e-3},
    "fisor": {**_FAST, "violation_signal": 1.0, "actor_update_rate": 0.02},
    "caps": dict(_FAST),
    "cdt": {
        "hidden_dim": 32,
        "hidden_layers": 2,
        "attention_heads": 4,
        "context_length": 5,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "warmup_steps": 100.0,
    },
    "fql": {**_FAST, "hidden_layers": 2, "flow_steps": 5},
    "ifql": {**_FAST, "hidden_layers": 2, "flow_steps": 5},
    "iql": {**_FAST, "hidden_layers": 2},
    "rebrac": {**_FAST, "hidden_layers": 2},
}
# On the boats with steps of 0.005 s a perfect critic of what the costs alone tell calls all
# directions the same in nearly every place (`python -m tests.benchmarks.boat_resolution`). A chunk
# of ten steps differs more; a shorter horizon, and sharper weights on what difference there is,
# help the others. docs/boat.md has what each lacks.
SMALL_ON_BOATS: dict[str, dict[str, Any]] = {
    "flrp": {
        "discount": 0.97,
        "safety_weight": 300.0,
        "safety_temperature": 0.01,
        "reward_temperature": 0.05,
        "q_temperature": 0.02,
        "v_temperature": 0.1,
    },
    "r2pac": {
        "chunk_length": 10,
        "quantile": 0.6,
        "penalty": 5.0,
        "critic_share": 0.7,
        "discount": 0.98,
        "candidates": 16,
    },
    "safefql": {"discount": 0.97, "safety_weight": 1000.0},
}
SMALL_STEPS_ON_BOATS = {"flrp": 5000, "r2pac": 8000, "safefql": 6000}
SMALL_STEPS = {"flrp": 2000, "flp": 3000, "safefql": 3000, "bc": 2000}
SMALL_STEPS_COMMON = 2500
PAPER_STEPS_COMMON = 1_000_000

# Seconds for 1,000 steps of one run. Below the paper's scale: on one core, with its share of the
# evaluations, where a population holds the seeds of one configuration
# (`python -m tests.benchmarks.ablation_cost --scale small`; --scale smoke). At the paper's: on two
# cores, alone in its population, without evaluations
# (`python -m tests.benchmarks.training_cost --threads 2`); of FLP and SafeFQL, whose settings have
# changed since, by the processor times of one core, 1.24 and 1.80 times what they were. Of FISOR
# and those after it by processor times as well; CDT's batch of 2,048 windows is work for a GPU.
SECONDS_PER_1000_STEPS: dict[str, dict[str, float]] = {
    "smoke": {
        "flrp": 110, "lspc": 60, "r2pac": 45, "flp": 40, "safefql": 20, "bc": 8,
        "fisor": 25, "caps": 15, "cdt": 60, "cpq": 80, "bcql": 100, "bearl": 80, "coptidice": 25,
        "fql": 20, "ifql": 20, "iql": 12, "rebrac": 12,
    },
    "small": {
        "flrp": 14, "lspc": 10, "r2pac": 8, "flp": 9, "safefql": 6, "bc": 1.5,
        "fisor": 9, "caps": 6.5, "cdt": 13, "cpq": 9, "bcql": 14, "bearl": 11, "coptidice": 8,
        "fql": 9, "ifql": 7, "iql": 6, "rebrac": 6,
    },
    "paper": {
        "flrp": 77, "lspc": 85, "r2pac": 300, "flp": 112, "safefql": 200, "bc": 6.1,
        "fisor": 110, "caps": 90, "cdt": 5000, "cpq": 180, "bcql": 260, "bearl": 190,
        "coptidice": 35,
        "fql": 200, "ifql": 100, "iql": 110, "rebrac": 90,
    },
}  # fmt: skip


# FLRP's figures 3 and 4 act with other T than a run was trained with. Every run is evaluated so, to
# be shared by all ablations.
EVALUATED: dict[str, dict[str, Any]] = {"flrp": {"evaluated_steps": "several"}}


def method_settings(scale: str, algorithm: str) -> dict[str, Any]:
    """The hyperparameters of a method at a scale on all tasks; at paper scale only those that say
    what is evaluated, since papers print the others by task (`task_settings`)."""
    evaluated = EVALUATED.get(algorithm, {})
    if scale == "smoke":
        return {**SMOKE_COMMON, **SMOKE.get(algorithm, {}), **evaluated}
    small = SMALL.get(algorithm, SMALL_COMMON) if scale == "small" else {}
    return {**small, **evaluated}


def method_steps(scale: str, algorithm: str, task: str) -> int:
    """Gradient steps of a run on a task."""
    if scale == "smoke":
        return SMOKE_STEPS
    if scale == "paper":
        return PROTOCOLS[algorithm].steps if algorithm in PROTOCOLS else PAPER_STEPS_COMMON
    on_boats = SMALL_STEPS_ON_BOATS if TASKS[task].suite == "boat" else {}
    return on_boats.get(algorithm, SMALL_STEPS.get(algorithm, SMALL_STEPS_COMMON))


def task_settings(scale: str, algorithm: str, task: str) -> dict[str, Any]:
    """What is set for one task: at paper scale all that its paper prints, or its authors' code has
    where the paper is silent; at small scale our choice for the boats."""
    if scale == "small" and TASKS[task].suite == "boat":
        return dict(SMALL_ON_BOATS.get(algorithm, {}))
    printed = scale == "paper" and algorithm in PROTOCOLS
    return dict(printed_settings(algorithm, task).values) if printed else {}


def default_seeds(scale: str, paper: str) -> list[int]:
    """The seeds of every configuration of a paper's ablations."""
    if scale == "paper" and paper in PROTOCOLS:
        return list(range(PROTOCOLS[paper].seeds))
    return SEEDS[scale]


def evaluation_episodes(scale: str, paper: str, suite: str) -> int:
    """Episodes of an evaluation in a paper's ablations, on tasks of a suite."""
    if scale == "paper" and paper in PROTOCOLS:
        protocol = PROTOCOLS[paper]
        return protocol.episodes_by_suite.get(suite, protocol.episodes)
    return EPISODES[scale]


def averaged_evaluations(scale: str, paper: str) -> int:
    """The last so many evaluations of a run of which the mean counts."""
    return PROTOCOLS[paper].averaged if scale == "paper" and paper in PROTOCOLS else 1


def cost_limits(paper: str, task: str) -> tuple[float, ...]:
    """The limits over which a paper averages a task's normalised cost.

    FLRP takes 10 everywhere, R2PAC 5 on Bullet and 10 elsewhere, LSPC the mean of a suite's three.
    On the boats, and where no paper says otherwise, it is the task's own limit.
    """
    found, suite = TASKS[task], TASKS[task].suite
    if suite == "boat" or paper not in ("flrp", "lspc", "r2pac"):
        return (found.cost_limit,)
    if paper == "lspc":
        return found.cost_limits
    return (5.0,) if paper == "r2pac" and suite == "bullet" else (10.0,)


def make_sweeps(
    name: str,
    scale: str,
    paper: str,
    algorithm: str,
    tasks: Sequence[str],
    space: Mapping[str, Sequence[Any]],
    fixed: Mapping[str, Any],
    seeds: Sequence[int] | None = None,
    steps: int | None = None,
    points: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """A grid over `space`, or chosen points of it, as the content of sweep files.

    One sweep, but for the paper's scale: there a sweep for each cost limit and each group of tasks
    that the paper trains with the same settings.

    Args:
        name: of the sweep; the scale and the group's number are appended.
        tasks: canonical ids.
        space: hyperparameter -> values; empty for a single configuration.
        fixed: what the ablation sets beside it.
        seeds: of each configuration; the scale's by default.
        steps: gradient steps; the method's at this scale by default.
        points: the configurations to train, each a value for every hyperparameter of `space`; all
            combinations by default.
    """
    search: dict[str, Any] = {"method": "grid"}
    if points:
        # A random search that is over when it has tried the points that it starts from.
        chosen = [dict(point) for point in points]
        search = {"method": "random", "num_configs": len(chosen), "points": chosen}
    groups: dict[str, tuple[list[str], dict[str, Any], float | None, bool]] = {}
    for task in tasks:
        own = task_settings(scale, algorithm, task)
        limits = cost_limits(paper, task)
        limit = limits[0] if scale == "paper" else None
        boat = TASKS[task].suite == "boat"
        key = repr((sorted(own.items()), limit, boat))
        groups.setdefault(key, ([], own, limit, boat))[0].append(task)
    sweeps = []
    for number, (members, own, limit, boat) in enumerate(groups.values()):
        suffix = f"-{number + 1}" if len(groups) > 1 else ""
        settings = {**method_settings(scale, algorithm), **own, **fixed}
        budget = steps or method_steps(scale, algorithm, members[0])
        sweep: dict[str, Any] = {
            "name": f"{name}-{scale}{suffix}",
            "algorithm": algorithm,
            "tasks": members,
            "dataset": "fetch" if scale == "paper" and not boat else "collect",
            "search": search,
            "seeds": list(seeds or default_seeds(scale, paper)),
            "space": {key: list(values) for key, values in space.items()},
            "fixed": {key: value for key, value in settings.items() if key not in space},
            "steps": budget,
            "evaluate": {
                "every": max(1, budget // EVALUATIONS[scale]),
                "episodes": evaluation_episodes(scale, paper, TASKS[members[0]].suite),
            },
            # Configurations that differ in batched fields only share one population.
            "configs_per_trial": max(1, math.prod(len(values) for values in space.values())),
        }
        if limit is not None:
            sweep["cost_limit"] = limit
        sweeps.append(sweep)
    return sweeps


def configurations(sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values of a sweep's space that it trains: its points, or every combination."""
    points = sweep.get("search", {}).get("points")
    if points:
        return [dict(point) for point in points]
    space = sweep["space"]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def describe_cost(
    scale: str, sweeps: Sequence[Mapping[str, Any]], seconds: float | None = None
) -> str:
    """Runs, steps and tasks of some sweeps, and about how long they take, in words.

    Args:
        seconds: on two cores, where it was measured; estimated by default.
    """
    if not sweeps:
        return "no runs: it reads the datasets"
    runs = steps = 0
    tasks: dict[str, None] = {}
    for sweep in sweeps:
        count = len(configurations(sweep)) * len(sweep["seeds"]) * len(sweep["tasks"])
        runs, steps = runs + count, steps + count * sweep["steps"]
        tasks.update(dict.fromkeys(TASKS[task].key for task in sweep["tasks"]))
    named = ", ".join(tasks) if len(tasks) <= 4 else f"{len(tasks)} tasks"
    time = describe_seconds(estimate_seconds(scale, sweeps) if seconds is None else seconds)
    return (
        f"{runs:,} runs, {steps:,} gradient steps in all, on {named}; about {time} on two cores"
        + (" without a GPU" if scale == "paper" else "")
        + "; shared runs are run once"
    )


def estimate_seconds(scale: str, sweeps: Sequence[Mapping[str, Any]]) -> float:
    """What sweeps take on two cores that nothing else uses, in seconds, by
    `SECONDS_PER_1000_STEPS`; a method that is not in it counts as the slowest.

    Below the paper's scale it is rather too much: configurations that share a population take less
    each. Collecting or fetching data is not in it.
    """
    total = 0.0
    for sweep in sweeps:
        runs = len(configurations(sweep)) * len(sweep["seeds"]) * len(sweep["tasks"])
        rates = SECONDS_PER_1000_STEPS[scale]
        rate = rates.get(sweep["algorithm"], max(rates.values()))
        total += runs * sweep["steps"] / 1000 * rate
    return total if scale == "paper" else total / 2


def describe_seconds(seconds: float) -> str:
    """A time in the largest unit of which there is one at least, in one or two digits."""
    for unit, size in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{math.ceil(seconds):d} s"
