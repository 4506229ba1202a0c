"""How much a pair counts by what critics say of it."""

import math

import torch

from safesweep.trainables.components.pair_weights import PairCritics
from tests.trainables.components.flat_critics import flat_critics

PAIRS = 4
THIRD, FIFTH = torch.tensor(1 / 3), torch.tensor(1 / 5)


def score(critics: PairCritics) -> torch.Tensor:
    return critics.safety_score(torch.tensor(3.0), torch.tensor(5.0))


def test_the_safety_score_prefers_feasible_pairs() -> None:
    safe = score(flat_critics(PAIRS, feasibility_q=-1.0, feasibility_v=-1.0))
    unsafe = score(flat_critics(PAIRS, feasibility_q=25.0, feasibility_v=10.0))
    at_zero = score(flat_critics(PAIRS))
    torch.testing.assert_close(at_zero, torch.full((PAIRS,), 0.25))
    assert (safe > at_zero).all()
    assert (unsafe < 1e-3).all()


def test_the_larger_feasibility_and_the_smaller_reward_value_count() -> None:
    critics = flat_critics(PAIRS)
    apart = critics._replace(
        feasibility_q=torch.stack((torch.full((PAIRS,), -1.0), torch.full((PAIRS,), 0.5))),
        reward_q=torch.stack((torch.zeros(PAIRS), torch.ones(PAIRS))),
    )
    assert not apart.feasible.any()
    feasible = apart._replace(feasibility_q=critics.feasibility_q)
    torch.testing.assert_close(feasible.reward_weight(THIRD, 100.0), torch.ones(PAIRS))


def test_regression_weights_are_clipped_and_gated() -> None:
    rich = flat_critics(PAIRS, reward_q=1e6, feasibility_q=-1.0).reward_weight(THIRD, 100.0)
    torch.testing.assert_close(rich, torch.full((PAIRS,), 100.0), rtol=1e-4, atol=0)
    safer = flat_critics(PAIRS, feasibility_q=-1e6).safety_weight(FIFTH, 150.0)
    torch.testing.assert_close(safer, torch.full((PAIRS,), 150.0), rtol=1e-4, atol=0)
    # The boundary itself is feasible (I_feas is Q_h <= 0); beyond it nothing is imitated.
    edge = flat_critics(PAIRS, feasibility_q=0.0).reward_weight(THIRD, 100.0)
    torch.testing.assert_close(edge, torch.ones(PAIRS))
    beyond = flat_critics(PAIRS, reward_q=1e6, feasibility_q=0.1)
    assert (beyond.reward_weight(THIRD, 100.0) == 0).all()
    assert (beyond.safety_weight(FIFTH, 100.0) == 0).all()


def test_reward_weight_is_the_exponential_of_the_whole_advantage() -> None:
    """Eq. 12 prints exp(Q_r - V_r / beta_r): equal Q_r and V_r must weigh 1 whatever their size."""
    even = flat_critics(PAIRS, reward_q=7.0, reward_v=7.0).reward_weight(THIRD, 100.0)
    torch.testing.assert_close(even, torch.ones(PAIRS))
    ahead = flat_critics(PAIRS, reward_q=7.5, reward_v=7.0).reward_weight(THIRD, 100.0)
    torch.testing.assert_close(ahead, torch.full((PAIRS,), math.exp(1.5)))
