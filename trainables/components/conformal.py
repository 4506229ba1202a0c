"""Split conformal calibration of a critic's safety threshold, for one run.

A state is declared feasible where its value is at most a threshold. The threshold is chosen from
states that are known to be unsafe and on which nothing was trained, so that of new unsafe states
at most a share (the level: conformal prediction's miscoverage) is declared feasible, whatever the
critic and the distribution are.

States of one episode depend on each other, so that they may not be counted as so many draws. Each
episode with unsafe states weighs 1 / (K + 1), shared evenly by these states, and the episode to
come weighs the rest: the method for hierarchical data of Lee, Barber and Willett (2023). Where
every episode gives a single state it is the common split conformal quantile.
"""

import torch
from torch import Tensor


def calibration_split(unsafe: Tensor, episodes: Tensor, count: int, seed: int) -> Tensor:
    """Mark (1) all steps of `count` random episodes that have unsafe states: [N] -> [N].

    No episode without them is marked, since it would tell nothing about unsafe states, and at most
    a third of those with them, so that training keeps the rest.

    Args:
        unsafe: [N] bool.
        episodes: each step's episode, counted from 0.
    """
    candidates = torch.unique(episodes[unsafe])
    chosen = min(count, len(candidates) // 3)
    order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
    return torch.isin(episodes, candidates[order[:chosen]]).float()


def episode_numbers(terminals: Tensor, timeouts: Tensor) -> Tensor:
    """The episode of each step, counted from 0: [N] int64."""
    ends = ((terminals > 0) | (timeouts > 0)).long()
    return ends.cumsum(0) - ends


def violation_ahead(costs: Tensor, episodes: Tensor, window: int) -> Tensor:
    """Whether a cost occurs at this step or in the `window` steps after it, in its episode: [N]."""
    steps = torch.arange(len(costs))
    # The next costly step at or after each one; beyond the data where there is none.
    costly = torch.where(costs > 0, steps, len(costs) + window + 1)
    following = costly.flip(0).cummin(0).values.flip(0)
    last = torch.clamp(following, max=len(costs) - 1)
    return (following - steps <= window) & (episodes[last] == episodes)


def calibration_weights(unsafe: Tensor, episodes: Tensor) -> Tensor:
    """Weight of each calibration state, float64 [N]: 1 / ((K + 1) n_k) for the n_k unsafe states of
    each of the K episodes that have any, and 0 for the others."""
    per_episode = torch.zeros(int(episodes.max()) + 1, dtype=torch.float64)
    per_episode.index_add_(0, episodes, unsafe.double())
    groups = (per_episode > 0).sum()
    return unsafe.double() / ((groups + 1) * per_episode.clamp(min=1.0)[episodes])


def calibrated_threshold(scores: Tensor, weights: Tensor, level: Tensor) -> Tensor:
    """Largest t such that declaring values <= t feasible misses an unsafe state with probability
    at most `level`; scalar.

    With n states of equal weight, t lies just below the floor(level (n + 1))-th smallest score.
    The probability is over the calibration states and the new one together, which must be
    exchangeable. Without enough episodes for any guarantee (level (K + 1) < 1) t is -infinity.

    Args:
        scores: values [n] of unsafe calibration states; n may be 0.
        weights: their weights [n], which sum to less than 1; the rest is the new state's.
        level: miscoverage in (0, 1), scalar.
    """
    lowest = torch.full((), -torch.inf, dtype=scores.dtype, device=scores.device)
    if len(scores) == 0:
        return lowest
    ascending, order = torch.sort(scores)
    # Of the weight of unsafe states, what would fall below each score, the new one's included.
    mass = weights.double()[order]
    below = (1 - weights.double().sum()) + mass.cumsum(0) - mass
    # The tolerance is for rounding: (n + 1) weights of 1 / (n + 1) need not sum to 1 exactly.
    allowed = below <= level.double() + 1e-9
    largest = torch.where(allowed, ascending, lowest).amax()
    return torch.nextafter(largest, lowest)
