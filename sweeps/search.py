"""Searches: which configurations to try, asked one by one, told what came of them.

All of them are deterministic: suggestion i follows from the space, the seed and the results of
suggestions up to i - parallel, and from nothing else. So a sweep that was killed walks the same
path again from the results in its store.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from search_spaces.space import SearchSpace, Value
from sweeps.spec import SearchOptions

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

ATTEMPTS = 64

Config = dict[str, Any]
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
    def safe(self) -> bool:
        """Whether every constraint holds."""
        return all(excess <= 0 for excess in (self.constraints or {}).values())


class Search:
    """Suggests configurations, none of them twice. Subclasses say how the next one is chosen."""

    def __init__(self, space: SearchSpace, resolve: Resolve) -> None:
        self.space = space
        self.suggestions: list[Config] = []
        self.exhausted = False
        self._resolve = resolve
        self._seen: set[str] = set()

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

    def __init__(self, space: SearchSpace, resolve: Resolve) -> None:
        super().__init__(space, resolve)
        self._points: Iterator[dict[str, Value]] = space.grid()

    def _next(self) -> Config | None:
        for point in self._points:
            config = self._new(point)
            if config is not None:
                return config
        return None


class OptunaSearch(Search):
    """Random and TPE search through Optuna, constrained, with the default point first.

    `adopt` may replace a suggestion by another configuration: on resume the sweep's own history is
    followed where new results (of added seeds, say) would lead the sampler elsewhere.
    """

    def __init__(
        self,
        space: SearchSpace,
        resolve: Resolve,
        options: SearchOptions,
        adopt: Adopt | None = None,
    ) -> None:
        import optuna

        super().__init__(space, resolve)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.options = options
        self.study: Study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
        )
        self._adopt = adopt
        self._trials: list[Trial] = []
        self._outcomes: dict[int, Outcome] = {}
        self._told = 0

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
        found = self._suggest(index)
        if found is None:
            return None
        trial, config = found
        replacement = self._adopt(config) if self._adopt else None
        if replacement is not None and _key(replacement) not in self._seen:
            self._reject(trial)
            point = self.space.active(replacement)
            self.study.enqueue_trial(point)
            trial, config = self._ask(), replacement
            self.space.suggest(trial)
        self._trials.append(trial)
        return config

    def _suggest(self, index: int) -> "tuple[Trial, Config] | None":
        for attempt in range(ATTEMPTS):
            self.study.sampler = self._sampler(index, attempt)
            if index == 0 and attempt == 0 and self.space.defaults:
                self.study.enqueue_trial(self.space.defaults)
            trial = self._ask()
            config = self._new(self.space.suggest(trial))
            if config is not None:
                return trial, config
            self._reject(trial)
        if not self.space.finite:
            return None
        # A small finite space is nearly used up: what is left can be listed.
        unseen = [point for point in self.space.grid() if self._new(point) is not None]
        if not unseen:
            return None
        point = unseen[int(self._generator(index, ATTEMPTS).integers(len(unseen)))]
        self.study.enqueue_trial(point)
        trial = self._ask()
        return trial, self._resolve(self.space.suggest(trial))

    def _ask(self) -> "Trial":
        return self.study.ask()

    def _reject(self, trial: "Trial") -> None:
        from optuna.trial import TrialState

        self.study.tell(trial, state=TrialState.FAIL)

    def _generator(self, index: int, attempt: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, index, attempt])

    def _sampler(self, index: int, attempt: int) -> Any:
        # A sampler's own random state would depend on how often it was asked; a fresh one does not.
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(self._generator(index, attempt).integers(2**32))
        # Repeated attempts leave the mode of a sampler that insists on known points.
        if self.options.method == "random" or attempt >= ATTEMPTS // 2:
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed)

    def _tell_up_to(self, last: int) -> None:
        """Tell results in the order of the suggestions; later ones stay hidden, see `parallel`."""
        from optuna.trial import TrialState

        while self._told <= last:
            trial, outcome = self._trials[self._told], self._outcomes[self._told]
            if outcome.status == "failed" or outcome.objective is None:
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                for name, excess in (outcome.constraints or {}).items():
                    trial.set_constraint(name, excess)
                if outcome.status == "pruned":
                    trial.report(outcome.objective, outcome.step)
                    self.study.tell(trial, state=TrialState.PRUNED)
                else:
                    self.study.tell(trial, outcome.objective)
            self._told += 1


def make_search(
    options: SearchOptions, space: SearchSpace, resolve: Resolve, adopt: Adopt | None = None
) -> Search:
    """The search that a sweep file asks for."""
    if options.method == "grid":
        return GridSearch(space, resolve)
    return OptunaSearch(space, resolve, options, adopt)


def _key(config: Config) -> str:
    return json.dumps(config, sort_keys=True)
