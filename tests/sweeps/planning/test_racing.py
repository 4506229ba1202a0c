import numpy as np

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.sweeps.planning.estimates import Estimates, Tried
from safesweep.sweeps.planning.positions import UnitSpace
from safesweep.sweeps.planning.racing import further_seeds

SPACE = UnitSpace(SearchSpace("example", [Hyperparameter("x", low=0.0, high=1.0)]))


def one(x: float, reward: float, cost: float, seeds: int = 4, lost: bool = False) -> Tried:
    """Seeds that differ by a little."""
    about = 0.02 * (np.arange(seeds) - (seeds - 1) / 2)
    rewards, costs = tuple(reward + about), tuple(cost * (1 + about))
    return Tried((x,), rewards, costs, lost)


CLEAR = [one(0.1, 0.2, 0.5), one(0.3, 0.9, 0.5), one(0.6, 0.4, 0.5), one(0.9, 1.5, 3.0)]


def test_only_what_may_still_be_chosen_gets_more_seeds() -> None:
    # The second is the best of the safe ones, the last far above the limit.
    assert further_seeds(SPACE, CLEAR, 16) == {1: 2}


def test_seeds_grow_by_half_up_to_the_most_there_may_be() -> None:
    growing = {}
    for seeds in (1, 2, 3, 4, 6, 9, 14):
        growing[seeds] = further_seeds(SPACE, [one(0.5, 0.5, 0.5, seeds)], 16)[0]
    assert growing == {1: 1, 2: 1, 3: 2, 4: 2, 6: 3, 9: 5, 14: 2}
    assert further_seeds(SPACE, [one(0.5, 0.5, 0.5, 16)], 16) == {}


def test_what_lost_a_seed_is_out_of_the_race() -> None:
    tried = [one(0.1, 0.5, 0.5), one(0.3, 0.9, 0.5, lost=True)]
    assert set(further_seeds(SPACE, tried, 16)) == {0}
    assert further_seeds(SPACE, [one(0.3, 0.9, 0.5, lost=True)], 16) == {}


def test_what_is_alike_stays_in_the_race_together() -> None:
    generator = np.random.default_rng(0)
    tried = [
        Tried((x,), tuple(0.5 + 0.1 * generator.standard_normal(3)), tuple(0.5 * np.ones(3)))
        for x in (0.1, 0.4, 0.6, 0.9)
    ]
    assert len(further_seeds(SPACE, tried, 16)) >= 3


def test_chances_are_shares_of_one() -> None:
    chances = Estimates(SPACE, CLEAR).chances_of_best(400)
    assert chances.sum() == 1
    assert chances.argmax() == 1 and chances[1] > 0.95
