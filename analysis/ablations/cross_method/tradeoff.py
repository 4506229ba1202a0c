"""The trade-off of reward against cost: the reward of each method when chosen for a cost limit.

The runs are those of `safesweep-sensitivity`. Results, one row per (task, method, limit, seed): the
scores, on a seed, of the configuration that is chosen for the limit on the other seeds.
"""

import math

import pandas

from safesweep.analysis.ablations.cross_method.around_defaults import (
    CANDIDATES,
    chosen_on_other_seeds,
    configuration_scores,
    settings_of,
    sweeps_at,
)
from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.budgets import describe_cost
from safesweep.analysis.ablations.engine.claim_builders import larger, rises, seed_values
from safesweep.analysis.ablations.engine.plots import draw_along
from safesweep.analysis.ablations.engine.settings import (
    COLUMNS,
    COST,
    REWARD,
    collect_settings,
    compare_settings,
    nothing_published,
)
from safesweep.analysis.claims import Claim, Finding, judge_range
from safesweep.analysis.store.reader import ResultStore
from safesweep.trainables.tasks.registry import TASKS

ID = "safesweep-tradeoff"
# Of an episode's cost. The tasks' own limits are 1 (boats), 10 and 20.
LIMITS = (1.0, 5.0, 10.0, 20.0, 40.0, 80.0)
RAW_COST = "cost_return_mean"
_NAMES = [candidate.name for candidate in CANDIDATES]
_CLONING = "BC"
_SAFE_METHODS = [name for name in _NAMES if name != _CLONING]


def collect(store: ResultStore, names: tuple[str, ...]) -> pandas.DataFrame:
    """The choice at every limit, in the columns of `analysis.ablations.engine.settings`."""
    results = collect_settings(
        store, list(names), settings_of(ID, names), "safesweep", (REWARD, RAW_COST)
    )
    return choices(configuration_scores(results, RAW_COST))


def choices(scores: pandas.DataFrame) -> pandas.DataFrame:
    """Reward and cost (as a share of the limit) of the choice at every limit; the series is the
    method, the setting and x the limit."""
    parts = []
    for limit in LIMITS:
        chosen = chosen_on_other_seeds(scores, limit)
        chosen = chosen.assign(**{COST: chosen[RAW_COST] / limit})
        long = chosen.melt(["algorithm", "task", "seed"], [REWARD, COST], "metric", "value")
        parts.append(
            long.rename(columns={"algorithm": "series"}).assign(
                setting=f"{limit:g}", x=limit, step=0
            )[list(COLUMNS)]
        )
    return pandas.concat(parts, ignore_index=True)


def _keeps_the_limit(results: pandas.DataFrame) -> list[Finding]:
    findings = []
    for task in dict.fromkeys(results["task"]):
        own = f"{TASKS[task].cost_limit:g}"
        for name in _SAFE_METHODS:
            costs = seed_values(results, task, COST, own, name)
            if len(costs):
                found = judge_range(task, costs.to_numpy(), high=1.0, part=name, cost=True)
                findings.append(found)
    return findings


TRADEOFF = Ablation(
    id=ID,
    title="Reward against the cost limit that the configuration is chosen for",
    paper="safesweep",
    varies="the limit on an episode's cost in " + ", ".join(f"{limit:g}" for limit in LIMITS),
    sweeps={scale: sweeps_at(ID, scale) for scale in SCALES},
    costs={
        scale: f"{describe_cost(scale, sweeps_at(ID, scale))}: those of safesweep-sensitivity"
        for scale in SCALES
    },
    collect=collect,
    published=nothing_published,
    compare=compare_settings,
    draw=draw_along(
        "Trade-off",
        "cost limit",
        log=True,
        note="For each limit the rule max_reward_safe chooses among a method's configurations on "
        "the other seeds; drawn is what the choice does on the seed left out. Costs are divided by "
        "the limit of the choice.",
    ),
    claims=(
        Claim(
            "keeps-the-limit",
            "Chosen on the other seeds for the task's own limit, each safe method keeps it on the "
            "seed left out.",
            _keeps_the_limit,
            estimand="mean cost",
            margin=(-math.inf, 1.0),
        ),
        *(
            rises(
                f"{name.lower()}-reward-rises-with-limit",
                f"The reward of {name}'s choice rises with the limit.",
                REWARD,
                series=name,
            )
            for name in _SAFE_METHODS
        ),
        *(
            larger(
                f"{name.lower()}-costs-less-than-cloning",
                f"At limit 10 {name}'s choice costs less than cloning's.",
                COST,
                "10",
                "10",
                series=_CLONING,
                other_series=name,
            )
            for name in _SAFE_METHODS
        ),
    ),
)
