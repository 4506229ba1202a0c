import itertools
import math

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.selection.choice import select
from safesweep.sweeps.planning.early_stopping import rank, rung_score
from safesweep.sweeps.planning.search import Outcome, safe_first_score
from safesweep.trainables.store.scores import (
    acts_to_own_limit,
    at_cost_limit,
    last_evaluations,
    limits_by_task,
    rounded,
    total_excess,
    within_limit,
)

SCORE = st.integers(0, 30).map(lambda number: number / 10)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(SCORE, SCORE), min_size=2))
def test_rules_early_stopping_and_searches_order_alike(
    scores: dict[str, tuple[float, float]],
) -> None:
    frame = pandas.DataFrame(
        [(name, *pair) for name, pair in scores.items()],
        columns=["config_id", "normalized_reward", "normalized_cost"],
    ).assign(algorithm="flrp", task="t", seed=0)
    chosen = scores[select(frame).iloc[0]["config_id"]]
    limits = {"normalized_cost": 1.0}
    standings = {}
    outcomes = {}
    for name, (reward, cost) in scores.items():
        place = rung_score(
            [{"normalized_reward": reward, "normalized_cost": cost}], "normalized_reward", limits
        )
        assert place is not None
        standings[name] = place
        outcomes[name] = Outcome("complete", reward, {"normalized_cost": cost - 1.0})
    first = scores[rank(standings, 1, 0)[0]]
    best = scores[min(outcomes, key=lambda name: outcomes[name].order)]
    # Of equal reward the rule takes the lower cost, for which the others have no eye.
    assert first[0] == best[0] == chosen[0]
    assert outcomes[rank(standings, 1, 0)[0]].safe == (chosen[1] <= 1)
    for one, other in itertools.combinations(outcomes.values(), 2):
        if not math.isclose(safe_first_score(one), safe_first_score(other)):
            assert (one.order < other.order) == (safe_first_score(one) > safe_first_score(other))


def test_a_mean_on_its_limit_exceeds_nothing_whatever_the_rounding() -> None:
    cost = sum([0.9, 1.1, 1.0]) / 3 + 2e-16
    assert within_limit(cost)
    assert total_excess({"a": cost}, {"a": 1.0}) == 0
    assert total_excess({"a": 1.5, "b": 0.3}, {"a": 1.0, "b": 0.1}) == pytest.approx(0.7)
    assert total_excess({}, {}) == 0
    assert rounded(0.1 + 0.2) == 0.3
    assert np.isinf(rounded(np.inf))


def test_the_last_evaluation_of_each() -> None:
    rows = pandas.DataFrame(
        {"run_id": ["a", "a", "b", "c"], "seed": [0, 0, 0, 1], "step": [1, 2, 1, np.nan]}
    )
    assert last_evaluations(rows).index.tolist() == [1, 2, 3]
    assert last_evaluations(rows, ("seed",)).index.tolist() == [1, 3]


def test_costs_at_another_limit() -> None:
    rows = pandas.DataFrame(
        {"task": ["OfflineBallRun-v0", "BoatNavigation-v0", "elsewhere"], "policy": "cdt@20",
         "cost_return_mean": [20.0, np.nan, 20.0], "normalized_cost": 7.0, "cost_limit": 3.0}
    )  # fmt: skip
    everywhere = at_cost_limit(rows, 0)
    assert everywhere["normalized_cost"].tolist()[::2] == [21.0, 21.0]
    limits = limits_by_task(rows["task"].tolist(), None)
    assert set(limits) == {"OfflineBallRun-v0", "BoatNavigation-v0"}
    own = at_cost_limit(rows, limits)
    assert own["normalized_cost"].tolist() == [20.0 / limits["OfflineBallRun-v0"], 7.0, 7.0]
    assert own["cost_limit"].tolist()[1:] == [3.0, 3.0]
    assert at_cost_limit(rows, limits, keep_own=True)["normalized_cost"].tolist() == [7.0] * 3
    assert acts_to_own_limit(pandas.Series(["cdt@20", "cdt", None])).tolist() == [
        True, False, False,
    ]  # fmt: skip
    assert rows["normalized_cost"].tolist() == [7.0] * 3
