"""Searches: which configurations to try, asked one by one, told what came of them.

All of them are deterministic: suggestion i follows from the space, the seed and the results of
suggestions up to i - parallel, and from nothing else. So a sweep that was killed walks the same
path again from the results in its store.
"""

import json
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.sweeps.spec.sweep_spec import SearchOptions
from safesweep.trainables.store.scores import safe_first, total_excess

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import Trial

ATTEMPTS = 64
# A generation of Optuna's default, 50, is more than most sweeps try altogether. It must not follow
# from num_configs: a sweep that is extended keeps its suggestions.
NSGA2_POPULATION = 10

Config = dict[str, Any]
Direction = Literal["maximize", "minimize"]
Resolve = Callable[[Mapping[str, Value]], Config]
Adopt = Callable[[Config], Config | None]


@dataclass(frozen=True)
class Outcome:
    """What came of a configuration: means over its seeds.

    `constraints` holds each constraint's value minus its limit, feasible where <= 0. A `failed`
    configuration has no scores; a `pruned` one was stopped before its end, at gradient step `step`.
    """

    status: Literal["complete", "pruned", "failed"]
    objective: float | None = None
    constraints: Mapping[str, float] | None = None
    step: int = 0

    @property
    def excess(self) -> float:
        """By how much constraints are exceeded, summed over them: 0 where all hold."""
        values = self.constraints or {}
        return float(total_excess(values, dict.fromkeys(values, 0.0)))

    @property
    def safe(self) -> bool:
        """Whether every constraint holds."""
        return self.excess == 0

    @property
    def order(self) -> tuple[float, float]:
        """What to sort outcomes with scores by, the best first: safe before unsafe."""
        assert self.objective is not None
        return safe_first(self.excess, self.objective)


@dataclass(frozen=True)
class Known:
    """A point whose outcome, complete and with scores, is known before a search begins."""

    point: Mapping[str, Value]
    outcome: Outcome


class Search:
    """Suggests configurations, none of them twice. Subclasses say how the next one is chosen.

    `objective` and `constraints` name what an `Outcome` holds.
    """

    def __init__(
        self,
        space: SearchSpace,
        resolve: Resolve,
        objective: str = "objective",
        constraints: Sequence[str] = (),
    ) -> None:
        self.space = space
        self.objective, self.constraints = objective, tuple(constraints)
        self.suggestions: list[Config] = []
        self.exhausted = False
        self._resolve = resolve
        self._seen: set[str] = set()

    @property
    def goals(self) -> list[tuple[str, Direction]]:
        """The scores that the search improves, each with its direction."""
        return [(self.objective, "maximize")]

    @property
    def known_in_advance(self) -> bool:
        """Whether the suggestions do not depend on results."""
        return True

    @property
    def ready(self) -> bool:
        """Whether the next suggestion can be made now."""
        return not self.exhausted

    def ask(self) -> Config | None:
        """The next configuration, fully resolved; None when there are no more.

        Raises:
            RuntimeError: results are awaited first (`ready` says so).
        """
        if not self.ready and not self.exhausted:
            raise RuntimeError("the next suggestion waits for results")
        config = None if self.exhausted else self._next()
        if config is None:
            self.exhausted = True
            return None
        self._seen.add(_key(config))
        self.suggestions.append(config)
        return config

    def tell(self, index: int, outcome: Outcome) -> None:
        """Report what came of suggestion `index` (counted from 0)."""

    def _next(self) -> Config | None:
        raise TypeError(f"{type(self).__name__} does not define _next")

    def _new(self, parameters: Mapping[str, Value]) -> Config | None:
        """The configuration of `parameters`, or None where it was suggested before."""
        config = self._resolve(parameters)
        return None if _key(config) in self._seen else config


class GridSearch(Search):
    """Every point of a finite space, the last entry varying fastest."""

    def __init__(
        self,
        space: SearchSpace,
        resolve: Resolve,
        objective: str = "objective",
        constraints: Sequence[str] = (),
    ) -> None:
        super().__init__(space, resolve, objective, constraints)
        self._points: Iterator[dict[str, Value]] = space.grid()

    def _next(self) -> Config | None:
        for point in self._points:
            config = self._new(point)
            if config is not None:
                return config
        return None


class DirectedSearch(Search):
    """Has no will of its own: its suggestions are those that are given it, until `end`."""

    @property
    def known_in_advance(self) -> bool:
        return False

    @property
    def ready(self) -> bool:
        return False

    def suggest(self, parameters: Mapping[str, Value]) -> Config | None:
        """The configuration of `parameters` as the next suggestion; None where it was one."""
        config = self._new(parameters)
        if config is not None:
            self._seen.add(_key(config))
            self.suggestions.append(config)
        return config

    def end(self) -> None:
        """There are no more."""
        self.exhausted = True


class OptunaSearch(Search):
    """A search whose suggestions an Optuna sampler makes, after the points that it starts from.

    It starts from the given `points` and then from the space's default point. `adopt` may replace
    a suggestion of the sampler by another configuration: on resume the sweep's own history is
    followed where new results (of added seeds, say) would lead the sampler elsewhere. What is
    `known` is told first, and not suggested while the space holds anything else; of the given
    points only their own outcomes are told.
    """

    def __init__(
        self,
        space: SearchSpace,
        resolve: Resolve,
        options: SearchOptions,
        adopt: Adopt | None = None,
        points: Sequence[Mapping[str, Value]] = (),
        objective: str = "objective",
        constraints: Sequence[str] = (),
        known: Sequence[Known] = (),
    ) -> None:
        import optuna

        super().__init__(space, resolve, objective, constraints)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.options = options
        self.study: Study = optuna.create_study(
            directions=[direction for _, direction in self.goals],
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        self._adopt = adopt
        self._trials: list[Trial] = []
        self._outcomes: dict[int, Outcome] = {}
        self._told = 0
        given = {_key(resolve(point)) for point in points}
        told = {_key(resolve(one.point)): one for one in known}
        self._known = told.keys() - given
        self._starts = deque(points)
        if space.defaults and _key(resolve(space.defaults)) not in told:
            self._starts.append(space.defaults)
        for key, one in told.items():
            if key not in given:
                self._tell_known(one)

    @property
    def known_in_advance(self) -> bool:
        return self.options.parallel is None

    @property
    def ready(self) -> bool:
        if self.exhausted or self.options.parallel is None:
            return not self.exhausted
        needed = len(self.suggestions) - self.options.parallel + 1
        return all(index in self._outcomes for index in range(self._told, needed))

    def tell(self, index: int, outcome: Outcome) -> None:
        self._outcomes.setdefault(index, outcome)

    def _next(self) -> Config | None:
        index = len(self.suggestions)
        if self.options.num_configs is not None and index >= self.options.num_configs:
            return None
        if self.options.parallel is not None:
            self._tell_up_to(index - self.options.parallel)
        found = self._start(index)
        if found is None:
            found = self._suggest(index)
            if found is None:
                return None
            replacement = self._adopt(found[1]) if self._adopt else None
            if replacement is not None and _key(replacement) not in self._seen:
                self._reject(found[0])
                found = self._enqueue(self.space.active(replacement)), replacement
                self._take_in(found[0])
        self._trials.append(found[0])
        return found[1]

    def _start(self, index: int) -> "tuple[Trial, Config] | None":
        """The next of the points that the search starts from, while there are any."""
        while self._starts:
            point = self._starts.popleft()
            config = self._new(point)
            if config is not None:
                self.study.sampler = self._exploring_sampler(self._sampler_seed(index, 0))
                return self._enqueue(point), config
        return None

    def _suggest(self, index: int) -> "tuple[Trial, Config] | None":
        for attempt in range(ATTEMPTS):
            # A sampler's own random state would depend on how often it was asked; a fresh one does
            # not. Repeated attempts leave the mode of a sampler that insists on known points.
            sampler = self._sampler if attempt < ATTEMPTS // 2 else self._exploring_sampler
            self.study.sampler = sampler(self._sampler_seed(index, attempt))
            trial, point = self._asked()
            config = self._new(point)
            if config is not None and _key(config) not in self._known:
                return trial, config
            self._reject(trial)
        if not self.space.finite:
            return None
        # A small finite space is nearly used up: what is left can be listed.
        unseen = [point for point in self.space.grid() if self._new(point) is not None]
        if not unseen:
            return None
        unseen = [p for p in unseen if _key(self._resolve(p)) not in self._known] or unseen
        point = unseen[int(self._generator(index, ATTEMPTS).integers(len(unseen)))]
        return self._enqueue(point), self._resolve(point)

    def _asked(self) -> "tuple[Trial, dict[str, Value]]":
        """A trial of a point that the sampler chooses, and the point."""
        trial = self.study.ask()
        return trial, self.space.suggest(trial)

    def _enqueue(self, point: Mapping[str, Value]) -> "Trial":
        """A trial of exactly this point."""
        self.study.enqueue_trial(dict(point))
        trial = self.study.ask()
        self.space.suggest(trial)
        return trial

    def _tell_known(self, known: Known) -> None:
        self.study.sampler = self._exploring_sampler(0)
        trial = self._enqueue(known.point)
        self._take_in(trial)
        self._constrain(trial, known.outcome)
        self.study.tell(trial, self._values(known.outcome))

    def _take_in(self, trial: "Trial") -> None:
        """Let the sampler learn from a trial as if it had suggested it."""

    def _reject(self, trial: "Trial") -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)

    def _generator(self, index: int, attempt: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, index, attempt])

    def _sampler_seed(self, index: int, attempt: int) -> int:
        return int(self._generator(index, attempt).integers(2**32))

    def _values(self, outcome: Outcome) -> list[float]:
        """What the sampler is told of an outcome that has scores, one number for each goal."""
        assert outcome.objective is not None
        return [outcome.objective]

    def _sampler(self, seed: int) -> "BaseSampler":
        """A sampler that learns from what the study was told."""
        raise TypeError(f"{type(self).__name__} does not define _sampler")

    def _exploring_sampler(self, seed: int) -> "BaseSampler":
        """A sampler that does not."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=seed)

    def _constrain(self, trial: "Trial", outcome: Outcome) -> None:
        for name, excess in (outcome.constraints or {}).items():
            trial.set_constraint(name, excess)

    def _tell_up_to(self, last: int) -> None:
        """Tell results in the order of the suggestions; later ones stay hidden, see `parallel`."""
        from optuna.trial import TrialState

        while self._told <= last:
            trial, outcome = self._trials[self._told], self._outcomes[self._told]
            if outcome.status == "failed" or outcome.objective is None:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self._constrain(trial, outcome)
                values = self._values(outcome)
                if outcome.status == "pruned":
                    if len(values) == 1:  # Optuna takes no intermediate values of several goals.
                        trial.report(values[0], outcome.step)
                    self.study.tell(trial, state=TrialState.PRUNED)
                else:
                    self.study.tell(trial, values)
            self._told += 1


class RandomSearch(OptunaSearch):
    """Independent draws from the space."""

    def _sampler(self, seed: int) -> "BaseSampler":
        return self._exploring_sampler(seed)


class TPESearch(OptunaSearch):
    """Tree-structured Parzen estimators, which model safe and unsafe configurations apart."""

    def _sampler(self, seed: int) -> "BaseSampler":
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed)


class NSGA2Search(OptunaSearch):
    """NSGA-II on two sides of safety: as much reward, as little cost as possible.

    Beside the objective each constrained quantity is minimized. Under Deb's constrained domination
    a safe configuration beats an unsafe one, of two unsafe ones the smaller violation wins, and
    among safe ones the front of reward against cost survives. Without a constraint there is one
    goal. A configuration that was stopped early takes no part in the evolution.
    """

    @property
    def goals(self) -> list[tuple[str, Direction]]:
        return [*super().goals, *((name, "minimize") for name in self.constraints)]

    def _values(self, outcome: Outcome) -> list[float]:
        excess = outcome.constraints or {}
        return [*super()._values(outcome), *(excess[name] for name in self.constraints)]

    def _sampler(self, seed: int) -> "BaseSampler":
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=NSGA2_POPULATION, seed=seed)

    def _take_in(self, trial: "Trial") -> None:
        from optuna.samplers import NSGAIISampler

        # Optuna gives a generation to its own suggestions alone, and parents come from generations.
        sampler = self.study.sampler
        assert isinstance(sampler, NSGAIISampler)
        sampler.get_trial_generation(self.study, self.study.trials[trial.number])

    def _exploring_sampler(self, seed: int) -> "BaseSampler":
        """Mutates every hyperparameter, so that what it draws belongs to a generation."""
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(population_size=NSGA2_POPULATION, mutation_prob=1.0, seed=seed)


class GPSearch(OptunaSearch):
    """Gaussian processes of the reward and of each constraint: constrained expected improvement.

    They are fitted to every suggestion that was told, open ones are allowed for, and all of the
    space is modelled at once: a conditional hyperparameter that takes no part has the same value
    wherever it does not. A configuration that failed or was stopped early is not told. Source:
    Gardner et al. (2014), "Bayesian Optimization with Inequality Constraints".
    """

    def _asked(self) -> "tuple[Trial, dict[str, Value]]":
        trial = self.study.ask()
        entries = self.space.entries
        point = self.space.active({name: entries[name].suggest(trial) for name in entries})
        # What the sampler had proposed for entries that take no part is not what was tried.
        self._reject(trial)
        return self._enqueue(point), point

    def _enqueue(self, point: Mapping[str, Value]) -> "Trial":
        from optuna.samplers import RandomSampler

        entries = self.space.entries
        # A sampler that learns would be asked for a point that is known already.
        self.study.sampler = RandomSampler(seed=0)
        self.study.enqueue_trial(
            {name: point.get(name, _where_inactive(entry)) for name, entry in entries.items()}
        )
        trial = self.study.ask()
        for entry in entries.values():
            entry.suggest(trial)
        return trial

    def _constrain(self, trial: "Trial", outcome: Outcome) -> None:
        for name, excess in (outcome.constraints or {}).items():
            # A cost many times its limit would flatten the rest; the limit stays where it is.
            trial.set_constraint(name, math.asinh(excess))

    def _sampler(self, seed: int) -> "BaseSampler":
        from optuna.samplers import GPSampler

        ranges = {name: entry.distribution for name, entry in self.space.entries.items()}

        class WholeSpaceSampler(GPSampler):
            """Optuna's own choice is what all trials share, which the first trials would decide."""

            def infer_relative_search_space(
                self, study: Any, trial: Any
            ) -> "dict[str, BaseDistribution]":
                return {name: kind for name, kind in ranges.items() if not kind.single()}

        return WholeSpaceSampler(seed=seed, warn_independent_sampling=False)


def _where_inactive(entry: Hyperparameter) -> Value:
    """What a conditional hyperparameter is modelled to be where it takes no part: the middle of
    its range, or its first choice."""
    if entry.choices:
        return entry.choices[0]
    assert entry.low is not None and entry.high is not None
    low, high = entry.low, entry.high
    middle = math.sqrt(low * high) if entry.log else (low + high) / 2
    return round(middle) if entry.integer else middle


class CMAESSearch(OptunaSearch):
    """CMA-ES over the ranges that always take part; TPE chooses lists and conditional entries.

    CMA-ES compares by one number and knows no constraints: it is told `safe_first_score`. Where
    something is known before, it begins at the best tenth of that. Source: Nomura et al. (2021),
    "Warm Starting CMA-ES for Hyperparameter Optimization".
    """

    def _values(self, outcome: Outcome) -> list[float]:
        return [safe_first_score(outcome)]

    def _constrain(self, trial: "Trial", outcome: Outcome) -> None:
        """The constraints are in the value."""

    def _sampler(self, seed: int) -> "BaseSampler":
        from optuna.exceptions import ExperimentalWarning
        from optuna.samplers import CmaEsSampler, TPESampler
        from optuna.trial import create_trial

        ranges = {entry.name: entry.distribution for entry in self.space.unconditional_ranges}

        class RangeSampler(CmaEsSampler):
            """Optuna's own choice, what all trials share, would shrink in mid-run, and CMA-ES
            with it turn into independent sampling."""

            def infer_relative_search_space(
                self, study: Any, trial: Any
            ) -> "dict[str, BaseDistribution]":
                return dict(ranges)

        known = [
            create_trial(
                params={name: trial.params[name] for name in ranges},
                distributions=ranges,
                value=trial.value,
            )
            for trial in self.study.get_trials(deepcopy=False)[: len(self._known)]
        ]
        # Fewer than ten have no tenth: then it begins at the best one.
        known = known * 10 if len(known) < 10 else known
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RangeSampler(
                seed=seed,
                independent_sampler=TPESampler(seed=seed),
                warn_independent_sampling=False,
                source_trials=known or None,
            )


def safe_first_score(outcome: Outcome) -> float:
    """The order of outcomes in one number: greater is better.

    Safe ones lie in (0, pi), unsafe ones below 0.
    """
    excess, falling = outcome.order
    return -excess if excess > 0 else math.pi / 2 - math.atan(falling)


OPTUNA_SEARCHES: Mapping[str, type[OptunaSearch]] = {
    "random": RandomSearch,
    "tpe": TPESearch,
    "nsga2": NSGA2Search,
    "cmaes": CMAESSearch,
    "gp": GPSearch,
}


def make_search(
    options: SearchOptions,
    space: SearchSpace,
    resolve: Resolve,
    adopt: Adopt | None = None,
    points: Sequence[Mapping[str, Value]] = (),
    objective: str = "objective",
    constraints: Sequence[str] = (),
    known: Sequence[Known] = (),
) -> Search:
    """The search that a sweep file asks for."""
    if options.method in OPTUNA_SEARCHES:
        kind = OPTUNA_SEARCHES[options.method]
        return kind(space, resolve, options, adopt, points, objective, constraints, known)
    return GridSearch(space, resolve, objective, constraints)


def _key(config: Config) -> str:
    return json.dumps(config, sort_keys=True)
