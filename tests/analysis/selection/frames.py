"""Frames of evaluations that the tests of selection share."""

import numpy as np
import pandas
from hypothesis import strategies as st

from safesweep.analysis.selection.choice import select
from safesweep.analysis.selection.rules import RULES

Scores = dict[str, list[tuple[float, float]]]
# By default `confident_safe` needs more seeds than most tests here have.
LENIENT: dict[str, dict[str, float]] = {"confident_safe": {"unsafe_share": 0.8}}


def frame_of(candidates: Scores, **constant: object) -> pandas.DataFrame:
    """`candidates`: config_id -> (normalised reward, normalised cost) of each seed."""
    rows = [
        {
            "algorithm": "flrp",
            "task": "OfflineBallRun-v0",
            "config_id": name,
            "seed": seed,
            "normalized_reward": reward,
            "normalized_cost": cost,
            "cost_return_mean": cost * 10,
            "violation_rate": min(1.0, max(0.0, cost - 0.5)),
            "episodes": 40,
            **constant,
        }
        for name, seeds in candidates.items()
        for seed, (reward, cost) in enumerate(seeds)
    ]
    return pandas.DataFrame(rows)


def choose(candidates: Scores, rule: str = "max_reward_safe", **options: object) -> pandas.Series:
    result = select(frame_of(candidates), rule, **options)  # type: ignore[arg-type]
    assert len(result) == 1
    return result.iloc[0]


GRADED: Scores = {
    "careful": [(0.2, 0.1), (0.2, 0.1), (0.2, 0.1)],
    "lucky": [(0.8, 0.2), (0.8, 0.2), (0.8, 2.3)],
    "near": [(0.76, 0.5), (0.76, 0.5), (0.76, 0.5)],
    "wild": [(1.5, 3.0), (1.5, 3.0), (1.5, 3.0)],
}


def with_steps(by_step: dict[int, Scores]) -> pandas.DataFrame:
    return pandas.concat([frame_of(scores, step=step) for step, scores in by_step.items()])


STEPPED = with_steps(
    {
        100: {"a": [(0.9, 0.5)] * 2, "b": [(0.3, 0.5)] * 2},
        200: {"a": [(0.2, 0.5)] * 2, "b": [(0.4, 0.5)] * 2},
    }
)
GRID = st.integers(0, 20).map(lambda number: number / 10)
SEEDS = st.lists(st.tuples(GRID, GRID), min_size=1, max_size=4)
ANY_SEEDS = st.dictionaries(st.sampled_from("abcdefgh"), SEEDS, min_size=1, max_size=6)
THREE_SEEDS = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.lists(st.tuples(GRID, GRID), min_size=3, max_size=3),
    min_size=1,
    max_size=6,
)
ALL_RULES = st.sampled_from(sorted(RULES))


def mean_costs(candidates: Scores) -> dict[str, float]:
    return {name: float(np.mean([cost for _, cost in seeds])) for name, seeds in candidates.items()}
