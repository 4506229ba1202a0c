"""The rules by which candidates are preferred to one another.

A *candidate* is one configuration of one algorithm on one task, judged by its seeds at one
evaluation step. A rule says which candidates count as safe and in which order the safe ones, and
the unsafe ones, are preferred (`analysis.selection.choice` chooses what comes first).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.analysis.selection.bounds import (
    MOST_SEEDS,
    bounded_mean_bound,
    cost_upper_bound,
    seeds_needed,
    shared_cost_bound,
    violation_upper_bound,
)
from safesweep.analysis.selection.front import non_dominated
from safesweep.search_spaces.plugins import (
    Entries,
    extended_by_plugins,
    fault,
    load_installed_plugins,
)
from safesweep.search_spaces.validation import InvalidInput, require_choice, shown
from safesweep.trainables.store.planned import BudgetChoice
from safesweep.trainables.store.scores import (
    rounded,
    safe_first,
    total_excess,
    within_limit,
)
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.tasks.task import Task

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

UNSAFE_SHARE = 0.25
"""Of seeds above the limit, what `confident_safe` tolerates by default."""


@dataclass(frozen=True)
class RuleOptions:
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
        budget_choices: `budget`: what budgets chose, by `config_id`.
    """

    task: str = ""
    confidence: float = 0.95
    reward_margin: float = 0.05
    violation_share: float = 0.05
    unsafe_share: float = UNSAFE_SHARE
    worst_cost: float | None = None
    cost_limits: tuple[float, ...] | None = None
    budget_choices: Mapping[str, BudgetChoice] = field(default_factory=dict)


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
class RuleVerdict:
    """A rule's answer for the n candidates of one group.

    Attributes:
        safe: [n], which candidates satisfy the rule's own condition.
        criteria: the order of preference, the first that differs decides.
        bound: [n], the confidence bound that the rule judged by, if it is such a rule.
        cost: [n], the normalised cost that the rule judged by, where it is not the mean at one
            limit.
        front: positions of the candidates on the Pareto front, lowest cost first, for `pareto`.
        remark: of a candidate's position, in words what decided about it, or what it lacks.
    """

    safe: BoolArray
    criteria: tuple[Criterion, ...]
    bound: FloatArray | None = None
    cost: FloatArray | None = None
    front: tuple[int, ...] | None = None
    remark: Callable[[int], str] | None = None


Rule = Callable[[pandas.DataFrame, RuleOptions], RuleVerdict]
"""(candidates, settings) -> RuleVerdict.

`candidates` has one row each, sorted by `config_id`: `config_id`, `seeds` (how many),
`normalized_reward` and `normalized_cost` (means over seeds; of a sweep with an objective of its
own what it maximises, and its constraint with 1 for the limit), `seed_costs` (array, ascending),
and where the evaluations have them `cost_return_mean`, and `violations` and `episodes` (summed).
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
    if name not in RULES:
        load_installed_plugins()
    try:
        return RULES[require_choice("rule", name, RULES)]
    except InvalidInput as problem:
        raise InvalidInput(f"{problem}; one from outside needs its plugin (--plugin)") from None


def judge(name: str, candidates: pandas.DataFrame, options: RuleOptions) -> RuleVerdict:
    """What a rule says of candidates (at least one).

    Raises:
        InvalidInput: there is no such rule; or it is from outside and raises, or returns no verdict
            on these candidates: names the rule and its plugin.
    """
    rule = find_rule(name)
    if name in _OWN:
        return rule(candidates, options)
    try:
        verdict = rule(candidates.copy(), options)
    except Exception as problem:
        raise fault("RULES", name, problem) from problem
    wrong = _wrong_with(verdict, len(candidates))
    if wrong:
        raise fault("RULES", name, wrong)
    return replace(verdict, remark=verdict.remark and _remark_of(name, verdict.remark))


def _remark_of(name: str, remark: Callable[[int], str]) -> Callable[[int], str]:
    def said(position: int) -> str:
        try:
            return str(remark(position))
        except Exception as problem:
            raise fault("RULES", name, problem) from problem

    return said


def _wrong_with(verdict: Any, count: int) -> str:
    """Why something is no verdict on `count` candidates; empty where it is one."""
    if not isinstance(verdict, RuleVerdict):
        return f"must return a RuleVerdict, not {shown(verdict)}"
    if not (isinstance(verdict.criteria, tuple | list) and verdict.criteria):
        return f"criteria must be a tuple of at least one Criterion, not {shown(verdict.criteria)}"
    numbers: dict[str, Any] = {"bound": verdict.bound, "cost": verdict.cost}
    for criterion in verdict.criteria:
        if not isinstance(criterion, Criterion):
            return f"criteria holds {shown(criterion)}, which is no Criterion"
        numbers[f"criterion {shown(criterion.name)}"] = criterion.values
        numbers[f"the measure of criterion {shown(criterion.name)}"] = criterion.measure
        if criterion.values is None:
            return f"criterion {shown(criterion.name)} has no values"
    for what, array in {"safe": verdict.safe, **numbers}.items():
        if array is None and what != "safe":
            continue
        kinds, kind = ("b", "truth values") if what == "safe" else ("biuf", "numbers")
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            return f"{what} must be an array of {kind}, not {shown(array)}"
        if array.shape != (count,):
            return (
                f"{what} has the shape {array.shape}, not one value for each of {count} candidates"
            )
    if verdict.remark is not None and not callable(verdict.remark):
        return f"remark must be a function of a position, not {shown(verdict.remark)}"
    return ""


def _means(candidates: pandas.DataFrame) -> tuple[FloatArray, FloatArray]:
    rewards = candidates["normalized_reward"].to_numpy(np.float64)
    return rewards, candidates["normalized_cost"].to_numpy(np.float64)


def _reward_if_safe(rewards: FloatArray, costs: FloatArray) -> tuple[Criterion, ...]:
    """Safe before unsafe (`safe_first`); what is equal there goes to the lower cost."""
    excess, falling = safe_first(total_excess({"cost": costs}, {"cost": 1.0}), rewards)
    return (
        Criterion("cost", excess, measure=costs),
        Criterion("reward", falling, measure=rewards),
        Criterion("cost", costs),
    )


@register_rule("max_reward_safe")
def max_reward_safe(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    """Mean normalised cost at most 1, then the highest mean normalised reward.

    If no candidate is safe: the lowest cost, flagged unsafe.
    Source: how DSRL (Liu et al., 2024) and the papers that report on it rank methods.
    Fails when: costs are noisy. The mean of a few seeds falls below the limit by luck, the more
    easily the more candidates there are, and a seed far above the limit hides behind others. Use
    `confident_safe` or `all_seeds_safe` there.
    """
    rewards, costs = _means(candidates)
    safe = within_limit(costs)
    return RuleVerdict(safe, _reward_if_safe(rewards, costs))


@register_rule("budget")
def budget(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    """What a sweep with a `budget` ended in; until it has, and elsewhere, as `max_reward_safe`.

    Safe is what passed by the budget's own bound, which judges all configurations together.
    Source: `sweeps/planning/budget.py`.
    Fails when: its assumptions do (docs/sweep-file.md): seeds that are not independent, amounts
    that vary unlike each other, and costs of which nothing like the worst has been seen.
    """
    otherwise = max_reward_safe(candidates, settings)
    own = [settings.budget_choices.get(name) for name in candidates["config_id"]]
    if not any(own):
        return otherwise
    chosen = np.array([one is not None for one in own])
    return RuleVerdict(
        np.array([one is not None and one.passed for one in own]),
        (
            Criterion("the choice of a budget", chosen.astype(float), maximize=True),
            *otherwise.criteria,
        ),
        bound=np.array([np.nan if one is None else one.bound for one in own]),
        remark=lambda n: (
            f"its mean cost may be {one.bound:.3g} (at {one.confidence:.4g}, by the budget)"
            if (one := own[n]) is not None
            else ""
        ),
    )


@register_rule("safest_within")
def safest_within(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
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
    near = safe & (rounded(rewards) >= rounded(np.asarray(best - settings.reward_margin)))
    return RuleVerdict(
        safe,
        (
            Criterion("reward", near.astype(np.float64), maximize=True, measure=rewards),
            Criterion("reward", np.where(safe & ~near, rewards, 0.0), maximize=True),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
    )


@register_rule("all_seeds_safe")
def all_seeds_safe(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
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
    return RuleVerdict(
        safe,
        (
            Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
            Criterion("cost of the worst seed", np.where(safe, 0.0, worst)),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
    )


@register_rule("confident_safe")
def confident_safe(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
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
    return RuleVerdict(
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


@register_rule("shared_safe")
def shared_safe(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    """Upper bound of the mean normalised cost at most 1, of all candidates together; then reward.

    For few seeds whose cost is mostly zero and sometimes large: how often a seed costs something,
    and how much it costs then, are estimated for each candidate with what the others show
    (`shared_cost_bound`, at `confidence`). If no candidate satisfies it: one whose mean is within
    the limit if there is one, then the lowest bound; flagged unsafe.
    Source: empirical Bayes as in Efron and Morris (1975), here of a frequency and an amount.
    Fails when: a candidate is unlike all others, since its bound leans on theirs: the level holds
    on average over candidates. When every seed costs a little and a rare one much, which are two
    things and not one. And when amounts are so rare and large that no seed of any candidate has
    shown one. `confident_safe` leans on nothing, and takes more seeds.
    """
    rewards, costs = _means(candidates)
    bound = shared_cost_bound(list(candidates["seed_costs"]), settings.confidence)
    safe = within_limit(bound) & within_limit(costs)
    return RuleVerdict(
        safe,
        (
            Criterion("reward", np.where(safe, rewards, 0.0), maximize=True),
            Criterion("bound on cost", np.where(safe, 0.0, bound)),
            Criterion("cost", costs),
            Criterion("reward", rewards, maximize=True),
        ),
        bound=bound,
        remark=lambda n: (
            f"its mean cost may be {bound[n]:.3g} (at {settings.confidence:.4g}, judged with "
            f"{len(bound) - 1} others)"
        ),
    )


def _confident_remark(
    seeds: int,
    above: int,
    share: float,
    over_seeds: float,
    bound: float,
    cost: float,
    settings: RuleOptions,
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
    return f"needs {seeds} seeds" if seeds else f"needs more than {MOST_SEEDS:,} seeds"


@register_rule("zero_violation")
def zero_violation(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
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
    return RuleVerdict(
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
def multi_limit(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
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
    returns = candidates["cost_return_mean"].to_numpy(np.float64)
    # Where no raw cost is known, as of some imports, nothing is safe at any limit.
    known = np.isfinite(returns).any()
    limits = settings.cost_limits or (_limits_of(settings.task) if known else (1.0,))
    costs = np.mean([Task.normalize_cost(returns, limit) for limit in limits], axis=0)
    safe = within_limit(costs)
    rewards = candidates["normalized_reward"].to_numpy(np.float64)
    return RuleVerdict(safe, _reward_if_safe(rewards, costs), cost=costs)


@register_rule("min_cost")
def min_cost(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    """The lowest mean normalised cost, then the highest reward.

    Source: OSRL's choice of a checkpoint.
    Fails when: anything but cost matters. A policy that stands still wins it.
    """
    rewards, costs = _means(candidates)
    return RuleVerdict(
        within_limit(costs),
        (Criterion("cost", costs), Criterion("reward", rewards, maximize=True)),
    )


@register_rule("pareto")
def pareto(candidates: pandas.DataFrame, settings: RuleOptions) -> RuleVerdict:
    """The Pareto front of mean reward and mean cost, in the column `front`, cheapest first.

    The row's own `config_id` is the member of the front that `max_reward_safe` chooses; of
    several candidates with equal means the front holds the first.
    Source: multi-objective optimisation (NSGA-II, Deb et al., 2002, for the dominance relation).
    Fails when: means are noisy. Each lucky candidate enters the front and none leaves it, so the
    front of many candidates is a list of the luckiest.
    """
    judged = max_reward_safe(candidates, settings)
    front = non_dominated(*_means(candidates))
    return replace(judged, front=tuple(map(int, front)))


def _limits_of(task: str) -> tuple[float, ...]:
    try:
        return get_task(task).cost_limits
    except InvalidInput as error:
        raise InvalidInput(f"cost_limits: must be given for the unknown task {task!r}") from error


def _accept_rule(name: str, value: Any, plugin: Entries) -> Rule:
    if not callable(value):
        raise InvalidInput(f"must be a function of candidates and settings, not {shown(value)}")
    rule: Rule = value
    return rule


_OWN = frozenset(RULES)
extended_by_plugins("RULES", RULES, _accept_rule)
