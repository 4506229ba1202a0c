"""Choosing the best safe configuration from noisy evaluations.

A *candidate* is one configuration of one algorithm on one task, judged by its seeds at one
evaluation step. A rule says which candidates count as safe and in which order the safe ones, and
the unsafe ones, are preferred; what comes first is chosen. Two things hold under every rule:

- a candidate that counts as safe is preferred to one that does not, and among the latter one
  whose mean normalised cost is within the limit to one whose mean is not. "Safe" always includes
  that the mean normalised cost is at most 1, the constraint of all five papers;
- whatever remains tied goes to the lowest `config_id` (as text). Numbers that agree in their
  first 12 significant digits are tied.

Every choice says what it cost in rollouts (`online_episodes`, `budget`): what was chosen by
evaluations in the simulator was not chosen offline.

Choosing the best of many on the evaluations that it is then reported on is optimistic under
every rule: the more candidates, the more so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
from scipy import stats

from safesweep.analysis.intervals import FEW_SEEDS
from safesweep.search_spaces.plugins import Entries, extended_by_plugins
from safesweep.search_spaces.validation import (
    InvalidInput,
    require_choice,
    require_number,
    shown,
)
from safesweep.trainables.tasks.registry import Task, get_task

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

GROUP_COLUMNS = ("algorithm", "task", "policy")
REQUIRED_COLUMNS = ("algorithm", "task", "config_id", "seed", "normalized_reward")
LOST_STATUSES = ("diverged", "failed")

UNSAFE_SHARE = 0.25
"""Of seeds above the limit, what `confident_safe` tolerates by default."""

_BOOTSTRAP_SAMPLES = 2000
_GAFFKE_SAMPLES = 20_000
_MOST_SEEDS = 100_000
_CELLS = 4_000_000
_SIGNIFICANT_DIGITS = 12
_SCORE_DECIMALS = 9


@dataclass(frozen=True)
class Settings:
    """What a rule may be asked for.

    Attributes:
        task: the task whose candidates are being judged.
        confidence: one-sided level of the bounds, in [0.5, 1).
        reward_margin: `safest_within`: how far below the best safe normalised reward is allowed.
        violation_share: `zero_violation`: the largest tolerable share of violating episodes.
        unsafe_share: `confident_safe`: the largest tolerable share of seeds above the limit.
        worst_cost: `confident_safe`: the largest normalised cost that a seed can have; None: it is
            not known.
        cost_limits: `multi_limit`: the limits to average over; None: those of the task.
    """

    task: str = ""
    confidence: float = 0.95
    reward_margin: float = 0.05
    violation_share: float = 0.05
    unsafe_share: float = UNSAFE_SHARE
    worst_cost: float | None = None
    cost_limits: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Criterion:
    """One number per candidate, and which direction is preferred.

    `measure` is what a difference is reported in, where `values` only sort into classes.
    """

    name: str
    values: FloatArray
    maximize: bool = False
    measure: FloatArray | None = None


@dataclass(frozen=True)
class Judgement:
    """A rule's answer for the n candidates of one group.

    Attributes:
        safe: [n], which candidates satisfy the rule's own condition.
        criteria: the order of preference, the first that differs decides.
        bound: [n], the confidence bound that the rule judged by, if it is such a rule.
        cost: [n], the normalised cost that the rule judged by, where it is not the mean at one
            limit.
        front: positions of the candidates on the Pareto front, cheapest first, for `pareto`.
        remark: of a candidate's position, in words what decided about it, or what it lacks.
    """

    safe: BoolArray
    criteria: tuple[Criterion, ...]
    bound: FloatArray | None = None
    cost: FloatArray | None = None
    front: tuple[int, ...] | None = None
    remark: Callable[[int], str] | None = None


Rule = Callable[[pandas.DataFrame, Settings], Judgement]
"""(candidates, settings) -> Judgement.

`candidates` has one row each, sorted by `config_id`: `config_id`, `seeds` (how many),
`normalized_reward` and `normalized_cost` (means over seeds), `seed_costs` (array, ascending), and
where the evaluations have them `cost_return_mean`, and `violations` and `episodes` (summed).
"""

RULES: dict[str, Rule] = {}


def register_rule(name: str) -> Callable[[Rule], Rule]:
    """Decorator: make a function a rule that `select` and the command line know by `name`.

    Raises:
        InvalidInput: the name is taken by another function.
    """

    def register(rule: Rule) -> Rule:
        if RULES.get(name, rule) is not rule:
            raise InvalidInput(f"rule: {name!r} is registered already")
        RULES[name] = rule
        return rule

    return register


def find_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        InvalidInput: there is none; names the nearest.
    """
    try:
        return RULES[require_choice("rule", name, RULES)]
    except InvalidInput as problem:
        raise InvalidInput(f"{problem}; one from outside needs its plugin (--plugin)") from None


def _means(candidates: pandas.DataFrame) -> tuple[FloatArray, FloatArray]:
    rewards = candidates["normalized_reward"].to_numpy(np.float64)
    return rewards, candidates["normalized_cost"].to_numpy(np.float64)


def _reward_if_safe(
    safe: BoolArray, rewards: FloatArray, costs: FloatArray
) -> tuple[Criterion, ...]:
    """Among safe candidates the highest reward, then the lowest cost; among others the reverse."""
    return (
        Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
        Criterion("cost", costs),
        Criterion("reward", rewards, maximize=True),
    )


def within_limit(costs: npt.ArrayLike) -> BoolArray:
    """Which normalised costs are at most 1, up to rounding in the 12th significant digit."""
    return _rounded(np.asarray(costs, np.float64)) <= 1.0


def _rounded(values: FloatArray) -> FloatArray:
    """`values` to 12 significant digits, so that the order of a summation decides nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    scale = np.where(np.isfinite(magnitude), magnitude, 0.0)
    digits = np.clip(_SIGNIFICANT_DIGITS - 1 - scale, -300, 300)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(values * 10.0**digits) / 10.0**digits
    return np.where(np.isfinite(rounded), rounded, values)


@register_rule("max_reward_safe")
def max_reward_safe(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Mean normalised cost at most 1, then the highest mean normalised reward.

    If no candidate is safe: the lowest cost, flagged unsafe.
    Source: how DSRL (Liu et al., 2024) and the papers that report on it rank methods.
    Fails when: costs are noisy. The mean of a few seeds falls below the limit by luck, the more
    easily the more candidates there are, and a seed far above the limit hides behind others. Use
    `confident_safe` or `all_seeds_safe` there.
    """
    rewards, costs = _means(candidates)
    safe = within_limit(costs)
    return Judgement(safe, _reward_if_safe(safe, rewards, costs))


@register_rule("safest_within")
def safest_within(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Among safe candidates within `reward_margin` of the best safe reward, the lowest cost.

    Safe as in `max_reward_safe`, and the same when none is safe.
    Source: LSPC, appendix A.4, which marks beside the safe agent with the highest reward also a
    safer one within 0.05 of it.
    Fails when: rewards lie close together on a scale where 0.05 is much (velocity tasks): it then
    gives away reward for a cost that was within the limit anyway. It is not invariant to the
    scale of the rewards.
    """
    rewards, costs = _means(candidates)
    safe = within_limit(costs)
    best = rewards[safe].max() if safe.any() else np.inf
    near = safe & (_rounded(rewards) >= _rounded(np.asarray(best - settings.reward_margin)))
    return Judgement(
        safe,
        (
            Criterion("reward", near.astype(np.float64), maximize=True, measure=rewards),
            Criterion("reward", np.where(safe & ~near, rewards, 0.0), maximize=True),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
    )


@register_rule("all_seeds_safe")
def all_seeds_safe(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Every seed's normalised cost at most 1, then the highest mean normalised reward.

    If no candidate satisfies it: one whose mean is within the limit if there is one, the lowest
    worst seed first; flagged unsafe.
    Source: the reading of "safe" in which a training run is what one deploys (ours).
    Fails when: candidates have unequal numbers of seeds. More seeds make the condition harder,
    so it prefers what was tried less; and with many seeds it rejects nearly everything that is
    near the limit.
    """
    rewards, costs = _means(candidates)
    worst = np.array([float(np.max(values)) for values in candidates["seed_costs"]])
    safe = within_limit(worst)
    return Judgement(
        safe,
        (
            Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
            Criterion("cost of the worst seed", np.where(safe, 0.0, worst)),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
    )


@register_rule("confident_safe")
def confident_safe(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Upper confidence bound of the mean normalised cost at most 1, then the highest reward.

    A few seeds that all went well do not bound a mean: if a seed fails with probability 0.3, three
    miss it one time in three, whatever a failure costs. So the bound is infinite until failures
    are known to be rare, which takes one of two statements, both at `confidence`:

    - without `worst_cost`: at most `unsafe_share` of seeds are above the limit, by the exact
      binomial bound (n seeds of which none is above bound the share by 1 - (1 - confidence)^(1/n):
      11 are needed for a quarter at 95 %, 9 for 0.3, 5 for 0.46). Then the bound is the larger of
      the studentised bootstrap's and Student's (`cost_upper_bound`). It holds for failures as
      frequent as `unsafe_share` and more; rarer ones are tolerated, whatever they cost;
    - with `worst_cost`, the largest normalised cost that a seed can have (the largest episode cost
      over the limit, or what a failure is known to cost): the bound of `bounded_mean_bound`, which
      holds for every distribution up to it. It tolerates nothing, and takes many seeds where the
      worst is many times the limit.

    If no candidate satisfies it: one whose mean is within the limit if there is one, then the
    lowest bound on the share of seeds above the limit, then the lowest bound on the mean; flagged
    unsafe. The reason says how many seeds are needed.
    Source: Clopper and Pearson (1934); Efron and Tibshirani (1993), chapter 12; Gaffke (2005).
    Fails when: there are few seeds: it accepts nothing then. It bounds one candidate at a time:
    over many candidates some error is to be expected.

    Raises:
        InvalidInput: a seed cost more than `worst_cost`.
    """
    rewards, costs = _means(candidates)
    seed_costs = list(candidates["seed_costs"])
    seeds = np.array([len(values) for values in seed_costs], dtype=np.int64)
    above = np.array([int((~within_limit(values)).sum()) for values in seed_costs], dtype=np.int64)
    share = violation_upper_bound(above, seeds, settings.confidence)
    over_seeds = cost_upper_bound(seed_costs, settings.confidence)
    if settings.worst_cost is None:
        bound = np.where(share <= settings.unsafe_share, over_seeds, np.inf)
    else:
        bound = bounded_mean_bound(seed_costs, settings.worst_cost, settings.confidence)
    safe = within_limit(bound) & within_limit(costs)
    return Judgement(
        safe,
        (
            Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
            Criterion("bound on the share of unsafe seeds", np.where(safe, 0.0, share)),
            Criterion("bound on cost", np.where(safe, 0.0, over_seeds)),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
        bound=bound,
        remark=lambda n: _confident_remark(
            int(seeds[n]), int(above[n]), share[n], over_seeds[n], bound[n], costs[n], settings
        ),
    )


def _confident_remark(
    seeds: int,
    above: int,
    share: float,
    over_seeds: float,
    bound: float,
    cost: float,
    settings: Settings,
) -> str:
    """What decided about one candidate of `confident_safe`, and how many seeds it needs."""
    level = f"at {settings.confidence:.4g}"
    if settings.worst_cost is not None:
        decided = f"its mean cost may be {bound:.3g} ({level}, worst cost {settings.worst_cost:g})"
        if bound <= 1 or cost >= 1:
            return decided
        # As many seeds of this very cost, the least that could do.
        needed = seeds_needed(
            settings.confidence, min(1.0, (1 - cost) / max(settings.worst_cost - cost, 1e-12)), 0
        )
        return f"{decided}; {_needs(max(needed, seeds + 1) if needed else needed)}"
    counted = f"{above} of {seeds} seeds above the limit: at most {share:.0%} of all {level}"
    tolerated = f"{counted}, tolerable {settings.unsafe_share:.0%}"
    if share > settings.unsafe_share:
        needed = seeds_needed(settings.confidence, settings.unsafe_share, above)
        return f"{tolerated}; {_needs(needed)}"
    return f"{tolerated}; its mean cost may be {over_seeds:.3g}"


def _needs(seeds: int | None) -> str:
    return f"needs {seeds} seeds" if seeds else f"needs more than {_MOST_SEEDS:,} seeds"


@register_rule("zero_violation")
def zero_violation(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Upper bound on the share of violating episodes at most `violation_share`, then reward.

    The bound is exact (binomial, one-sided, at `confidence`) over the episodes of all seeds; 59
    episodes without a violation are needed for a share of 0.05 at 95 %. If no candidate
    satisfies it: one whose mean cost is within the limit if there is one, the lowest bound first;
    flagged unsafe.
    Source: Clopper and Pearson (1934).
    Fails when: episodes are not independent draws. Those of one seed share its policy, so the
    bound speaks about these seeds and not about a new one; and environments that ignore their
    seed make every episode the same.

    Raises:
        InvalidInput: the evaluations say nothing about violations at the limit asked for.
    """
    if "violations" not in candidates:
        raise InvalidInput(
            "rule: 'zero_violation' needs the columns violation_rate and episodes, or with "
            "cost_limit= the single episodes"
        )
    rewards, costs = _means(candidates)
    violations = candidates["violations"].to_numpy(np.float64)
    episodes = candidates["episodes"].to_numpy(np.float64)
    bound = violation_upper_bound(violations, episodes, settings.confidence)
    safe = (bound <= settings.violation_share) & within_limit(costs)
    return Judgement(
        safe,
        (
            Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
            Criterion("bound on violations", np.where(safe, 0.0, bound)),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
        bound=bound,
    )


@register_rule("multi_limit")
def multi_limit(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """Normalised cost averaged over several limits at most 1, then the highest reward.

    If no candidate is safe: the lowest averaged cost, flagged unsafe.
    Source: DSRL's evaluation at three limits a task (10, 20, 40 or 20, 40, 80), as LSPC prints.
    Fails when: one limit is what matters. The average is about C / 17 for 10, 20, 40: it calls
    safe what breaks the tightest limit and unsafe what keeps the loosest.

    Raises:
        InvalidInput: no column cost_return_mean, or no limits given for a task that we do not
            know.
    """
    if "cost_return_mean" not in candidates:
        raise InvalidInput("rule: 'multi_limit' needs the column cost_return_mean")
    limits = settings.cost_limits or _limits_of(settings.task)
    returns = candidates["cost_return_mean"].to_numpy(np.float64)
    costs = np.mean([Task.normalize_cost(returns, limit) for limit in limits], axis=0)
    safe = within_limit(costs)
    rewards = candidates["normalized_reward"].to_numpy(np.float64)
    return Judgement(safe, _reward_if_safe(safe, rewards, costs), cost=costs)


@register_rule("min_cost")
def min_cost(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """The lowest mean normalised cost, then the highest reward.

    Source: OSRL's choice of a checkpoint.
    Fails when: anything but cost matters. A policy that stands still wins it.
    """
    rewards, costs = _means(candidates)
    return Judgement(
        within_limit(costs),
        (Criterion("cost", costs), Criterion("reward", rewards, maximize=True)),
    )


@register_rule("pareto")
def pareto(candidates: pandas.DataFrame, settings: Settings) -> Judgement:
    """The Pareto front of mean reward and mean cost, in the column `front`, cheapest first.

    The row's own `config_id` is the member of the front that `max_reward_safe` chooses; of
    several candidates with equal means the front holds the first.
    Source: multi-objective optimisation (NSGA-II, Deb et al., 2002, for the dominance relation).
    Fails when: means are noisy. Each lucky candidate enters the front and none leaves it, so the
    front of many candidates is a list of the luckiest.
    """
    judged = max_reward_safe(candidates, settings)
    rewards, costs = (_rounded(values) for values in _means(candidates))
    front: list[int] = []
    best = -np.inf
    for position in np.lexsort((np.arange(len(costs)), -rewards, costs)):
        if rewards[position] > best:
            best = rewards[position]
            front.append(int(position))
    return replace(judged, front=tuple(front))


def _limits_of(task: str) -> tuple[float, ...]:
    try:
        return get_task(task).cost_limits
    except InvalidInput as error:
        raise InvalidInput(f"cost_limits: must be given for the unknown task {task!r}") from error


def cost_upper_bound(seed_costs: Sequence[npt.ArrayLike], confidence: float) -> FloatArray:
    """One-sided upper bounds on expected costs, from the costs of the seeds of each candidate.

    The larger of the studentised bootstrap bound and Student's t bound: the first follows skewed
    costs, the second holds the level where a handful of seeds gives the bootstrap few distinct
    resamples. The resamples are fixed, so the same costs always give the same bound. For
    one seed it is infinite; for seeds that agree exactly it is their value. It knows nothing of
    what no seed has shown: see `confident_safe`.

    Args:
        seed_costs: one array of seed costs a candidate, any lengths.
        confidence: level, such as 0.95.
    """
    bounds = np.full(len(seed_costs), np.inf)
    ordered = [np.sort(np.asarray(values, np.float64)) for values in seed_costs]
    lengths = np.array([len(values) for values in ordered], dtype=np.int64)
    for count in np.unique(lengths[lengths > 1]):
        members = np.flatnonzero(lengths == count)
        for start in range(0, len(members), max(1, _CELLS // (_BOOTSTRAP_SAMPLES * int(count)))):
            chunk = members[start : start + max(1, _CELLS // (_BOOTSTRAP_SAMPLES * int(count)))]
            bounds[chunk] = _bounds(np.stack([ordered[index] for index in chunk]), confidence)
    return bounds


def _bounds(costs: FloatArray, confidence: float) -> FloatArray:
    """Upper bounds for [candidates, seeds]."""
    count = costs.shape[1]
    mean, deviation = costs.mean(axis=1), costs.std(axis=1, ddof=1)
    error = deviation / np.sqrt(count)
    student = mean + stats.t.ppf(confidence, count - 1) * error
    draws = np.random.default_rng(0).integers(0, count, (_BOOTSTRAP_SAMPLES, count))
    # Rounded standard scores: seeds shifted together must give the same pivots, and a resample of
    # equal seeds no spread, whatever the last digits say.
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.round((costs - mean[:, None]) / deviation[:, None], _SCORE_DECIMALS)
        resampled = scores[:, draws]
        shift = resampled.mean(axis=2)
        spread = resampled.std(axis=2, ddof=1) / np.sqrt(count)
        spread = np.where(spread > 10.0**-_SCORE_DECIMALS, spread, 0.0)
        pivots = np.where(spread > 0, shift / spread, np.sign(shift) * np.inf)
    pivots = np.where(np.isnan(pivots), 0.0, pivots)
    quantile = np.sort(pivots, axis=1)[:, int((1 - confidence) * _BOOTSTRAP_SAMPLES)]
    # A resample without spread says nothing about the scale; Student's bound stands alone then.
    bootstrap = mean - np.where(np.isfinite(quantile), quantile, 0.0) * error
    return np.where(error > 0, np.maximum(student, bootstrap), mean)


def bounded_mean_bound(
    seed_costs: Sequence[npt.ArrayLike], worst: float, confidence: float
) -> FloatArray:
    """One-sided upper bounds on expected costs that lie in [0, `worst`], whatever their law.

    The quantile of `worst` less the sum of u_(i) (c_(i+1) - c_(i)) over ordered uniform numbers u
    and costs c, with `worst` after the last: of n costs of 0 it is worst * (1 - (1 -
    confidence)^(1/n)). The uniform numbers are fixed, so the same costs give the same bound; of
    equal costs it is exact. Source: Gaffke (2005), "Three test statistics for a nonparametric
    one-sided hypothesis on the mean of a nonnegative variable"; Learned-Miller and Thomas (2020).
    That its level holds for every law is proven for a looser form and has no known exception.

    Raises:
        InvalidInput: a cost above `worst`.
    """
    bounds = np.full(len(seed_costs), float(worst))
    uniform: dict[int, FloatArray] = {}
    for index, given in enumerate(seed_costs):
        costs = np.sort(np.asarray(given, np.float64))
        if not len(costs):
            continue
        if costs[-1] > worst:
            raise InvalidInput(
                f"worst_cost: {worst:g} is not allowed; a seed cost {costs[-1]:.6g} times the limit"
            )
        lowest = costs[0]
        # Equal costs leave one term, whose quantile is known.
        if costs[-1] == lowest:
            bounds[index] = worst - (worst - lowest) * (1 - confidence) ** (1 / len(costs))
            continue
        if len(costs) not in uniform:
            drawn = np.random.default_rng(0).random((_GAFFKE_SAMPLES, len(costs)))
            uniform[len(costs)] = np.sort(drawn, axis=1)
        steps = np.diff(np.append(costs, worst))
        bounds[index] = float(np.quantile(worst - uniform[len(costs)] @ steps, confidence))
    return bounds


def seeds_needed(confidence: float, share: float, above: int = 0) -> int | None:
    """The fewest seeds, `above` of them above the limit, that bound the share of seeds above it by
    `share` at `confidence`; None where even 100,000 do not."""

    def enough(seeds: int) -> bool:
        return float(violation_upper_bound(above, seeds, confidence)) <= share

    low, high = above, _MOST_SEEDS
    if not enough(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def violation_upper_bound(
    violations: npt.ArrayLike, episodes: npt.ArrayLike, confidence: float
) -> FloatArray:
    """One-sided Clopper-Pearson upper bounds on the share of violating episodes.

    1 where there are no episodes.
    """
    hits, trials = np.asarray(violations, np.float64), np.asarray(episodes, np.float64)
    misses = np.maximum(trials - hits, 0.0)
    with np.errstate(invalid="ignore"):
        bound = stats.beta.ppf(confidence, hits + 1, misses)
    return np.where(misses > 0, bound, 1.0)


def with_lost_runs(evaluations: pandas.DataFrame, runs: pandas.DataFrame) -> pandas.DataFrame:
    """`evaluations` with one row without scores for each run that diverged or failed.

    A run that diverged may have no evaluation at all; without such a row its configuration would
    be judged by the seeds that went well. Both frames have the columns of a `ResultStore`.
    """
    lost = runs[runs["status"].isin(LOST_STATUSES)]
    if lost.empty:
        return evaluations
    rows = lost[["run_id", "config_id", "algorithm", "task", "seed"]].copy()
    if "policy" in evaluations:
        policies = evaluations[["algorithm", "task", "policy"]].drop_duplicates()
        rows = rows.merge(policies, on=["algorithm", "task"], how="left")
    # A frozen run's evaluations are of a policy that is no longer trained: they do not count.
    kept = evaluations[~evaluations["run_id"].isin(rows["run_id"])]
    return pandas.concat([kept, rows], ignore_index=True)


def without_stopped_runs(evaluations: pandas.DataFrame) -> pandas.DataFrame:
    """The evaluations of runs that were not stopped early.

    The last evaluation of a stopped run is not a final one. The column `run_status` says so; a
    frame without it is taken to hold no such run.
    """
    if "run_status" not in evaluations:
        return evaluations
    return evaluations[evaluations["run_status"] != "stopped"]


def select(
    evaluations: pandas.DataFrame,
    rule: str = "max_reward_safe",
    cost_limit: float | None = None,
    step: str | int = "last",
    confidence: float = 0.95,
    *,
    reward_margin: float = 0.05,
    violation_share: float = 0.05,
    unsafe_share: float | None = None,
    worst_cost: float | None = None,
    cost_limits: Sequence[float] | None = None,
    episodes: pandas.DataFrame | None = None,
    min_seeds: int = 1,
) -> pandas.DataFrame:
    """Apply a selection rule to every (algorithm, task) of a frame of evaluations.

    Where the frame has a column `policy`, policies are different things to deploy: each
    (algorithm, task, policy) is a group of its own. The input is not changed.

    What happens to data that are not as one would wish:

    - duplicated rows count once; rows that disagree about one (configuration, seed, step) are
      averaged first, so that each seed weighs the same;
    - a seed is *lost* when its configuration has rows of it, but none with a finite reward and
      cost at the step that is judged. A configuration that lost a seed is left out, and the
      reason says how many were;
    - a configuration with a run that was stopped early (`run_status`) is left out, and counted in
      the reason: its last evaluation is not a final one. At a step that is asked for by its number
      it is judged like any other;
    - configurations with unequal numbers of seeds are compared by the means over the seeds that
      they have; the reason says so, and `min_seeds` leaves out those with fewer;
    - no candidate: one row without a `config_id`; an empty frame: no rows.

    Args:
        evaluations: columns `algorithm, task, config_id, seed, normalized_reward,
            normalized_cost`, in any order and from anywhere; optionally `policy`, `step`, `run_id`,
            `run_status`, `cost_return_mean`, `cost_limit`, `violation_rate`, `episodes`.
        rule: a name in `RULES`.
        cost_limit: judge by this limit on the episode cost instead of the one that the column
            `normalized_cost` was made with: C / limit, and (C + 1) / (limit + 1) for a limit of 0.
            Needs `cost_return_mean`, or `episodes`.
        step: "last": the last evaluation of each configuration. A number: that step. "best": for
            each configuration the step that is best under the rule, which is online checkpoint
            selection and is said in the reason; equal steps go to the later one.
        confidence: level of the bounds of `confident_safe` and `zero_violation`.
        reward_margin: of `safest_within`.
        violation_share: of `zero_violation`.
        unsafe_share: of `confident_safe`: the tolerable share of seeds above the limit (0.25).
        worst_cost: of `confident_safe`, in its place: the largest normalised cost of a seed.
        cost_limits: of `multi_limit`.
        episodes: single episodes, `run_id, step, cost_return` and optionally `policy`, which
            `evaluations` must then be able to match: `run_id` and `step`.
        min_seeds: leave out configurations with fewer seeds.

    Returns:
        One row per (algorithm, task), in that order: `config_id`, `step` (if there are steps),
        `safe`, `normalized_reward` and `normalized_cost` (means over `seeds` seeds), `candidates`,
        `safe_candidates`, `runner_up` (a `config_id`), `margin` (by how much the chosen one beats
        it in what decided between the two), `bound` (of rules with a confidence), `few_seeds`
        (fewer than five: little to call anything safe by), `online_episodes` (of all evaluations
        at the steps that were eligible, whether their candidates could be judged or not; missing
        where `episodes` is), `budget` (how they come together, in words), `reason`; for `pareto`
        also `front`.

    Raises:
        InvalidInput: a missing column, an unknown rule, a bad limit, step or level; one line.
    """
    chosen_rule = find_rule(rule)
    share, worst = _confident_options(rule, unsafe_share, worst_cost)
    settings = Settings(
        confidence=float(require_number("confidence", confidence, 0.5, 0.999999)),
        reward_margin=float(require_number("reward_margin", reward_margin, 0)),
        violation_share=float(require_number("violation_share", violation_share, 0, 1)),
        unsafe_share=share,
        worst_cost=worst,
        cost_limits=_checked_limits(cost_limits),
    )
    require_number("min_seeds", min_seeds, 1, integer=True)
    if cost_limit is not None:
        require_number("cost_limit", cost_limit, 0)
    frame = _prepared(evaluations, cost_limit, step, episodes)
    groups = [name for name in GROUP_COLUMNS if name in frame]
    rows = []
    for key, group in frame.groupby(groups, sort=True, dropna=False):
        named = dict(zip(groups, key, strict=True))
        at_hand = replace(settings, task=str(named["task"]))
        candidates, notes = _candidates(group, chosen_rule, at_hand, step, min_seeds)
        row = _row(candidates, chosen_rule, at_hand, notes)
        rows.append({**named, **row, **_budget(group, step)})
    columns = [*groups, *_RESULT_COLUMNS]
    if "step" not in frame:
        columns.remove("step")
    if rule == "pareto":
        columns.append("front")
    result = pandas.DataFrame(rows).reindex(columns=columns)
    return result.astype({name: kind for name, kind in _RESULT_COLUMNS.items() if name in columns})


_RESULT_COLUMNS: dict[str, Any] = {
    "config_id": "object",
    "step": "Int64",
    "safe": "bool",
    "normalized_reward": "float64",
    "normalized_cost": "float64",
    "seeds": "int64",
    "candidates": "int64",
    "safe_candidates": "int64",
    "runner_up": "object",
    "margin": "float64",
    "bound": "float64",
    "few_seeds": "bool",
    "online_episodes": "Int64",
    "budget": "object",
    "reason": "object",
}


def _confident_options(
    rule: str, unsafe_share: float | None, worst_cost: float | None
) -> tuple[float, float | None]:
    """What `confident_safe` alone may be told; another rule would ignore it."""
    for name, value in (("unsafe_share", unsafe_share), ("worst_cost", worst_cost)):
        if value is not None and rule != "confident_safe":
            raise InvalidInput(f"{name}: only confident_safe has it, not {rule}")
    if worst_cost is None:
        share = UNSAFE_SHARE if unsafe_share is None else unsafe_share
        return float(require_number("unsafe_share", share, 0.001, 0.999)), None
    if unsafe_share is not None:
        raise InvalidInput("worst_cost: takes the place of unsafe_share; give one of them")
    return UNSAFE_SHARE, float(require_number("worst_cost", worst_cost, 1, 1e9))


def _checked_limits(limits: Sequence[float] | None) -> tuple[float, ...] | None:
    if limits is None:
        return None
    if len(limits) == 0:
        raise InvalidInput("cost_limits: is empty; it must hold at least one limit")
    return tuple(float(require_number("cost_limits", limit, 0)) for limit in limits)


def _prepared(
    evaluations: pandas.DataFrame,
    cost_limit: float | None,
    step: str | int,
    episodes: pandas.DataFrame | None,
) -> pandas.DataFrame:
    """The columns that judging needs, checked, with costs at the limit asked for."""
    frame = evaluations
    if cost_limit is not None and episodes is not None:
        frame = _with_episode_costs(frame, episodes, cost_limit)
    if isinstance(step, str):
        require_choice("step", step, ("last", "best"))
    else:
        require_number("step", step, 0, integer=True)
    cost = "normalized_cost" if cost_limit is None else "cost_return_mean"
    steps_matter = [] if step == "last" else ["step"]
    _require_columns("evaluations", frame, [*REQUIRED_COLUMNS, cost, *steps_matter])
    for name in ("algorithm", "task", "config_id", "seed"):
        if frame[name].isna().any():
            raise InvalidInput(f"{name}: a row has none; every row must say its {name}")
    columns = (*GROUP_COLUMNS, "config_id", "seed", "step", "run_status")
    kept = [name for name in columns if name in frame]
    result = frame[kept].copy()
    # Numbered in the order of their names as text, the order that breaks ties.
    names, distinct = pandas.factorize(frame["config_id"])
    ranks = np.argsort(np.argsort([str(name) for name in distinct], kind="stable"))
    result["candidate"] = ranks[names] if len(names) else names
    optional = ("cost_return_mean", "violation_rate", "episodes")
    for name in dict.fromkeys(("normalized_reward", cost, *optional)):
        if name in frame:
            try:
                result[name] = pandas.to_numeric(frame[name]).astype(np.float64)
            except (ValueError, TypeError) as error:
                raise InvalidInput(f"{name}: holds values that are not numbers") from error
    if cost_limit is not None:
        result["normalized_cost"] = Task.normalize_cost(result["cost_return_mean"], cost_limit)
        at_other_limit = "cost_limit" not in frame or (frame["cost_limit"] != cost_limit).any()
        if at_other_limit and episodes is None:
            result = result.drop(columns="violation_rate", errors="ignore")
    if not isinstance(step, str) and len(result) and not (result["step"] == step).any():
        steps = ", ".join(f"{number:g}" for number in np.unique(result["step"].dropna()))
        raise InvalidInput(f"step: nothing was evaluated at {step}; there are {steps}")
    return result


def _with_episode_costs(
    evaluations: pandas.DataFrame, episodes: pandas.DataFrame, cost_limit: float
) -> pandas.DataFrame:
    """Mean cost and share of violations at `cost_limit`, from the single episodes."""
    keys = ["run_id", "step"]
    if "policy" in evaluations and "policy" in episodes:
        keys.append("policy")
    _require_columns("evaluations", evaluations, keys)
    _require_columns("episodes", episodes, [*keys, "cost_return"])
    violating = episodes["cost_return"] > cost_limit
    means = (
        episodes.assign(violation_rate=violating.astype(np.float64))
        .groupby(keys, dropna=False)
        .agg(
            cost_return_mean=("cost_return", "mean"),
            violation_rate=("violation_rate", "mean"),
            episodes=("cost_return", "size"),
        )
        .reset_index()
    )
    replaced = [name for name in means.columns if name not in keys]
    return evaluations.drop(columns=replaced, errors="ignore").merge(means, on=keys, how="left")


def _require_columns(name: str, frame: pandas.DataFrame, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InvalidInput(f"{name}: missing column {', '.join(missing)}")


def _candidates(
    group: pandas.DataFrame, rule: Rule, settings: Settings, step: str | int, min_seeds: int
) -> tuple[pandas.DataFrame, list[str]]:
    """One row per configuration that can be judged, and remarks about the others."""
    notes = []
    if isinstance(step, str) and "run_status" in group:
        stopped = group.loc[group["run_status"] == "stopped", "candidate"].unique()
        if len(stopped):
            notes.append(f"{len(stopped)} left out: stopped early")
            group = group[~group["candidate"].isin(stopped)]
    configurations = group["candidate"].nunique()
    expected = group.groupby("candidate")["seed"].nunique()
    finite = np.isfinite(group[["normalized_reward", "normalized_cost"]]).all(axis=1)
    if "step" not in group:
        judged = group[finite]
        unit = ["candidate"]
    else:
        if step == "last":
            wanted = group["step"] == group.groupby("candidate")["step"].transform("max")
        else:
            wanted = group["step"].notna() if step == "best" else group["step"] == step
        judged = group[finite & wanted]
        unit = ["candidate", "step"]
    units = _averaged(judged, unit)
    complete = units["seeds"].to_numpy() == expected.reindex(units["candidate"]).to_numpy()
    whole = units[complete]
    enough = whole[whole["seeds"] >= min_seeds]
    lost = configurations - whole["candidate"].nunique()
    few = whole["candidate"].nunique() - enough["candidate"].nunique()
    if lost:
        notes.append(f"{lost} left out: lost a seed (no finite score at the step)")
    if few:
        notes.append(f"{few} left out: fewer than {min_seeds} seeds")
    candidates = enough.reset_index(drop=True)
    if step == "best" and len(candidates):
        candidates = _best_steps(candidates, rule, settings)
        notes.append("the step is an online checkpoint selection")
    if candidates["seeds"].nunique() > 1:
        low, high = candidates["seeds"].min(), candidates["seeds"].max()
        notes.append(f"unequal seeds: {low} to {high}")
    return candidates, notes


def _budget(group: pandas.DataFrame, step: str | int) -> dict[str, Any]:
    """What was evaluated in the simulator for a choice: `online_episodes`, and `budget` in words.

    Every evaluation at an eligible step counts, also of candidates that were left out.
    """
    looked_at = group[group["normalized_reward"].notna() | group["normalized_cost"].notna()]
    keys = ["candidate", "seed"]
    if "step" in group:
        keys.append("step")
        if step == "last":
            last = looked_at.groupby(["candidate", "seed"])["step"].transform("max")
            looked_at = looked_at[(looked_at["step"] == last) | last.isna()]
        elif step != "best":
            looked_at = looked_at[looked_at["step"] == step]
    looked_at = looked_at.drop_duplicates(keys)
    configurations = looked_at["candidate"].nunique()
    if "episodes" not in looked_at or looked_at["episodes"].isna().any() or looked_at.empty:
        words = f"{configurations} configurations, {len(looked_at)} evaluations"
        return {"online_episodes": pandas.NA, "budget": f"{words} online, episodes not known"}
    episodes = looked_at["episodes"].astype(np.int64)
    total = int(episodes.sum())
    factors = [(configurations, "configurations"), (looked_at["seed"].nunique(), "seeds")]
    if step == "best" and "step" in group:
        factors.append((looked_at["step"].nunique(), "steps"))
    least, most = int(episodes.min()), int(episodes.max())
    factors.append((most, "episodes"))
    if least == most and int(np.prod([number for number, _ in factors])) == total:
        words = " x ".join(f"{number:,} {name if number != 1 else name[:-1]}"
                           for number, name in factors)  # fmt: skip
    else:
        each = f"{least:,} episodes" if least == most else f"{least:,} to {most:,} episodes"
        words = f"{configurations:,} configurations, {len(looked_at):,} evaluations of {each}"
    return {"online_episodes": total, "budget": f"{words} = {total:,} online episodes"}


def _averaged(judged: pandas.DataFrame, unit: list[str]) -> pandas.DataFrame:
    """Means over seeds for each unit, sorted by it; each seed counts once."""
    scores = ["normalized_reward", "normalized_cost"]
    has_violations = {"violation_rate", "episodes"} <= set(judged.columns)
    extra = ["cost_return_mean"] if "cost_return_mean" in judged else []
    apart = (*GROUP_COLUMNS, "run_status")
    judged = judged.drop(columns=[name for name in apart if name in judged])
    if has_violations:
        violations = (judged["violation_rate"] * judged["episodes"]).round()
        # Episodes of which it is not known whether they violate are no evidence.
        judged = judged.assign(
            violations=violations.fillna(0.0),
            episodes=judged["episodes"].where(violations.notna(), 0.0),
        )
        extra += ["violations", "episodes"]
    # Sorted, so that sums do not depend on the order in which rows arrive.
    keys, values = [*unit, "seed"], [*scores, *extra]
    per_seed = judged[[*keys, "config_id", *values]]
    if per_seed.duplicated(keys).any():
        per_seed = per_seed.drop_duplicates().sort_values([*keys, *values], kind="stable")
        per_seed = per_seed.groupby(keys, sort=True, as_index=False).agg(
            {"config_id": "first", **dict.fromkeys(values, "mean")}
        )
    else:
        per_seed = per_seed.sort_values(keys, kind="stable")
    # Plain array sums from here: a store may hold ten thousands of configurations.
    identities = per_seed[unit].to_numpy()
    changes = (identities[1:] != identities[:-1]).any(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], changes])[: len(per_seed)])
    seeds = np.diff(np.append(starts, len(per_seed)))

    def totals(column: FloatArray) -> FloatArray:
        return np.add.reduceat(column, starts) if len(starts) else column

    def mean_of(name: str) -> FloatArray:
        column = per_seed[name].to_numpy(np.float64)
        known = np.isfinite(column)
        with np.errstate(invalid="ignore"):
            return totals(np.where(known, column, 0.0)) / totals(known.astype(np.float64))

    units = per_seed.iloc[starts][[*unit, "config_id"]].reset_index(drop=True)
    for name in scores:
        units[name] = mean_of(name)
    units["seeds"] = seeds
    costs = per_seed["normalized_cost"].to_numpy()
    column = np.empty(len(starts), dtype=object)
    column[:] = [np.sort(piece) for piece in np.split(costs, starts[1:])] if len(starts) else []
    units["seed_costs"] = column
    if "cost_return_mean" in extra:
        units["cost_return_mean"] = mean_of("cost_return_mean")
    if has_violations:
        for name in ("violations", "episodes"):
            units[name] = totals(np.nan_to_num(per_seed[name].to_numpy(np.float64)))
    return units


def _best_steps(candidates: pandas.DataFrame, rule: Rule, settings: Settings) -> pandas.DataFrame:
    """For each configuration the row of the step that the rule prefers."""
    best = []
    for _, steps in candidates.groupby("candidate", sort=True):
        # Latest first, because whatever is tied goes to the first row.
        steps = steps.sort_values("step", ascending=False).reset_index(drop=True)
        best.append(steps.iloc[[_ranking(steps, rule(steps, settings))[0]]])
    return pandas.concat(best, ignore_index=True)


def _levels(candidates: pandas.DataFrame, judgement: Judgement) -> list[Criterion]:
    """Everything that decides between two candidates, most important first."""
    costs = _costs(candidates, judgement)
    kept = within_limit(costs)
    bound = judgement.bound
    # Of what has no bound yet, by how much it is better is said in the means.
    measure = costs if bound is None or not np.isfinite(bound).all() else bound
    return [
        Criterion("safety", (judgement.safe & kept).astype(np.float64), True, measure),
        Criterion("safety", kept.astype(np.float64), True, costs),
        *judgement.criteria,
    ]


def _costs(candidates: pandas.DataFrame, judgement: Judgement) -> FloatArray:
    if judgement.cost is not None:
        return judgement.cost
    return candidates["normalized_cost"].to_numpy(np.float64)


def _ranking(candidates: pandas.DataFrame, judgement: Judgement) -> npt.NDArray[np.int64]:
    """Positions in order of preference; ties keep the order of the rows."""
    levels = _levels(candidates, judgement)
    keys = [_rounded(-level.values if level.maximize else level.values) for level in levels]
    order: npt.NDArray[np.int64] = np.lexsort((np.arange(len(candidates)), *reversed(keys)))
    return order


def _row(
    candidates: pandas.DataFrame, rule: Rule, settings: Settings, notes: list[str]
) -> dict[str, Any]:
    if candidates.empty:
        return {
            "config_id": None,
            "safe": False,
            "normalized_reward": np.nan,
            "normalized_cost": np.nan,
            "seeds": 0,
            "candidates": 0,
            "safe_candidates": 0,
            "runner_up": None,
            "margin": np.nan,
            "bound": np.nan,
            "few_seeds": True,
            "reason": "; ".join(["no candidate", *notes]),
            "front": [],
        }
    judgement = rule(candidates, settings)
    levels = _levels(candidates, judgement)
    safe = levels[0].values > 0
    order = _ranking(candidates, judgement)
    first = int(order[0])
    row: dict[str, Any] = {
        "config_id": candidates["config_id"].iloc[first],
        "safe": bool(safe[first]),
        "normalized_reward": float(candidates["normalized_reward"].iloc[first]),
        "normalized_cost": float(_costs(candidates, judgement)[first]),
        "seeds": int(candidates["seeds"].iloc[first]),
        "candidates": len(candidates),
        "safe_candidates": int(safe.sum()),
        "runner_up": None,
        "margin": np.nan,
        "bound": np.nan if judgement.bound is None else float(judgement.bound[first]),
        "few_seeds": int(candidates["seeds"].iloc[first]) < FEW_SEEDS,
    }
    if "step" in candidates:
        row["step"] = int(candidates["step"].iloc[first])
    if judgement.front is not None:
        row["front"] = [candidates["config_id"].iloc[position] for position in judgement.front]
    count = f"{int(safe.sum())}" if safe.any() else "none"
    sentence = f"{count} of {len(candidates)} safe"
    if len(order) > 1:
        row["runner_up"] = candidates["config_id"].iloc[int(order[1])]
        name, row["margin"] = _decided(levels, first, int(order[1]))
        if name:
            sentence += f"; beats {row['runner_up']} by {row['margin']:.3g} in {name}"
        else:
            sentence += f"; tied with {row['runner_up']}, first by name"
    remarks = [] if judgement.remark is None else [judgement.remark(first)]
    if row["safe"] and row["few_seeds"]:
        remarks.append(f"few seeds to call it safe by ({row['seeds']})")
    row["reason"] = "; ".join([sentence, *remarks, *notes])
    return row


def _decided(levels: Sequence[Criterion], first: int, second: int) -> tuple[str, float]:
    """The name of what put the first candidate before the second, and by how much."""
    for level in levels:
        one, other = _rounded(level.values[[first, second]])
        if one != other:
            measure = level.values if level.measure is None else level.measure
            return level.name, abs(float(measure[first] - measure[second]))
    return "", 0.0


def _accept_rule(name: str, value: Any, plugin: Entries) -> Rule:
    if not callable(value):
        raise InvalidInput(f"must be a function of candidates and settings, not {shown(value)}")
    rule: Rule = value
    return rule


extended_by_plugins("RULES", RULES, _accept_rule)
