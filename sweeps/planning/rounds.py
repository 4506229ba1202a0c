"""Rounds of runs that follow from the results so far: a race of seeds, or a budget."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from safesweep.search_spaces.space import SearchSpace, Value
from safesweep.sweeps.planning.budget import BudgetTerms, Chosen, Round, choose, next_round
from safesweep.sweeps.planning.estimates import Tried
from safesweep.sweeps.planning.positions import UnitSpace
from safesweep.sweeps.planning.racing import further_seeds
from safesweep.sweeps.spec.sweep_spec import SweepSpec


class Rounds:
    """Decides on one round after the other; subclasses say how.

    Attributes:
        over: whether there are no more.
        spent: runs so far, by what they were for.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = UnitSpace(space)
        self.over = False
        self.spent: Counter[str] = Counter()

    def next(self, tried: Sequence[Tried], runs: int) -> Round | None:
        """The next round; None when there are no more.

        Args:
            tried: every configuration, all of whose runs have ended, and after them those of which
                there were results before.
            runs: how many there are of the sweep itself.
        """
        found = None if self.over else self._next(tried, runs)
        if found is None:
            self.over = True
        else:
            self.spent[found.phase] += found.runs
        return found

    def _next(self, tried: Sequence[Tried], runs: int) -> Round | None:
        raise TypeError(f"{type(self).__name__} does not define _next")


class SeedRace(Rounds):
    """Further seeds for what may still be chosen (`racing`)."""

    def __init__(self, space: SearchSpace, most: int) -> None:
        super().__init__(space)
        self._most = most

    def _next(self, tried: Sequence[Tried], runs: int) -> Round | None:
        if not self.spent:
            self.spent["search"] = runs
        more = further_seeds(self.space, tried, self._most)
        return Round("race", more=more) if more else None


class BudgetRounds(Rounds):
    """What a budget is spent on (`budget`)."""

    def __init__(
        self,
        space: SearchSpace,
        terms: BudgetTerms,
        points: Sequence[Mapping[str, Value]],
        known: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        super().__init__(space)
        self.terms = terms
        default = space.defaults and space.defaults not in known
        starts = [*points, *([space.defaults] if default else [])]
        self._starts = [dict(pair) for pair in dict.fromkeys(tuple(p.items()) for p in starts)]

    def _next(self, tried: Sequence[Tried], runs: int) -> Round | None:
        if tried and not runs and self._starts:
            # What is known already stands in for the rest of a first round.
            return Round("start", tuple(self._starts))
        return next_round(self.space, tried, runs, self.terms, self._starts)

    def choose(self, tried: Sequence[Tried], own: int) -> Chosen | None:
        """What is chosen of the first `own` of these; None where every one of them is lost."""
        return choose(self.space, tried, self.terms.confidence, own)


def make_rounds(
    spec: SweepSpec,
    space: SearchSpace,
    points: Sequence[Mapping[str, Value]],
    known: Sequence[Mapping[str, Value]] = (),
) -> Rounds | None:
    """What a sweep decides by rounds; None where its runs follow from its search alone.

    Args:
        points: to try first.
        known: of which there are results before.
    """
    if spec.budget is not None:
        assert spec.budget_runs is not None
        terms = BudgetTerms(spec.budget_runs, spec.search.seed, spec.budget.confidence)
        return BudgetRounds(space, terms, points, known)
    return None if spec.most_seeds is None else SeedRace(space, spec.most_seeds)


def tried(
    space: UnitSpace,
    values: Mapping[str, Value],
    rewards: Sequence[float],
    costs: Sequence[float],
    lost: bool,
) -> Tried:
    """A configuration as rounds judge it; a score that is not finite makes it lost."""
    position = tuple(float(coordinate) for coordinate in space.position(values))
    lost = lost or not (np.isfinite(rewards).all() and np.isfinite(costs).all())
    return Tried(position, tuple(rewards), tuple(costs), lost)
