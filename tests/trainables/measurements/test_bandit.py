"""The toy of many modes: its data, and what FLP makes of them under weak and strong weights."""

import numpy as np
import pytest

from safesweep.trainables.measurements.bandit import (
    MODES,
    bandit_dataset,
    bandit_reward,
    bandit_task,
    mode_centres,
    mode_shares,
)
from safesweep.trainables.methods.flp import FLP
from safesweep.trainables.methods.flp_config import FLPConfig
from tests.trainables.populations import make_population


def test_behaviour_fills_every_mode_and_nothing_between() -> None:
    data = bandit_dataset(samples=8000)
    shares = mode_shares(data.actions)
    np.testing.assert_allclose(shares, 1 / MODES, atol=0.02)
    # The squared distance is chi-squared with two degrees of freedom: 1 - exp(-9 / 2) within 3.
    assert float(shares.sum()) == pytest.approx(1 - np.exp(-4.5), abs=0.005)
    np.testing.assert_allclose(data.rewards, data.actions[:, 0])
    assert (data.episode_lengths == 1).all()


def test_the_first_mode_is_the_richest_and_the_mean_lies_in_none() -> None:
    rewards = bandit_reward(mode_centres())
    assert rewards.argmax() == 0
    assert mode_shares(mode_centres().mean(axis=0)[None]).sum() == 0
    np.testing.assert_array_equal(mode_shares(mode_centres()), np.full(MODES, 1 / MODES))


@pytest.mark.slow
def test_flp_keeps_the_modes_or_moves_between_them_within_the_data() -> None:
    """FLP's figure 2: a strong KL keeps the behaviour; a weak one moves to the richest mode, and
    no more of its actions lie between modes for it."""
    settings = {
        "hidden_dim": 64, "learning_rate": 3e-3, "discount": 0.0, "target_update_rate": 0.1,
        "flow_share": 0.7, "candidates": 1,
    }  # fmt: skip
    configs = [FLPConfig.resolve({**settings, "kl_coefficient": weight}) for weight in (30.0, 0.1)]
    population = make_population(FLP, configs, [0, 0], bandit_task(), bandit_dataset(), 1000, 1.0)
    population.advance(1000)
    states = np.zeros((2, 2000, 1), dtype=np.float32)
    kept, moved = population.policy("flp", 2000)(states, 0)
    assert mode_shares(kept).min() > 0.3 / MODES
    assert abs(float(bandit_reward(kept).mean())) < 0.15
    shares = mode_shares(moved)
    assert shares[[0, 1, -1]].sum() > 0.9 * shares.sum()
    assert shares.argmax() == 0
    assert float(bandit_reward(moved).mean()) > 0.5
    assert shares.sum() > mode_shares(kept).sum() - 0.1 > 0.4
