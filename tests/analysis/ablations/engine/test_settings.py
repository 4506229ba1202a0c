from typing import Any, cast

import pandas
import pytest

from safesweep.analysis.ablations.engine.settings import (
    AblationSetting,
    collect_settings,
    mean_of_last,
)
from safesweep.analysis.store.reader import ResultStore


def test_the_last_evaluations_are_averaged_by_run_policy_and_metric() -> None:
    """FLP reports the mean of 800,000, 900,000 and 1,000,000 steps."""
    steps = [700, 800, 900, 1000]
    rows = [
        (run, policy, step, metric, value)
        for run, policy, metric, values in (
            ("a", "flp", "normalized_reward", [9.0, 0.1, 0.2, 0.6]),
            ("a", "", "inversion_error", [9.0, 1.0, 2.0, 3.0]),
            ("b", "flp", "normalized_reward", [9.0, 0.0, 0.0, 0.3]),
        )
        for step, value in zip(steps, values, strict=True)
    ]
    long = pandas.DataFrame(rows, columns=["run_id", "policy", "step", "metric", "value"])
    found = mean_of_last(long.sample(frac=1, random_state=0), 3).set_index(["run_id", "policy"])
    assert found["value"].to_dict() == pytest.approx(
        {("a", ""): 2.0, ("a", "flp"): 0.3, ("b", "flp"): 0.1}
    )
    assert set(found["step"]) == {1000}


class OneRun:
    """A store of one run of CDT on BallRun, whose episodes cost 20 whatever its limit."""

    def runs(self, **_: Any) -> pandas.DataFrame:
        return pandas.DataFrame(
            {"run_id": ["a"], "algorithm": ["cdt"], "task": ["OfflineBallRun-v0"], "seed": [0]}
        )

    def evaluations(self, **_: Any) -> pandas.DataFrame:
        limits = [10, 20, 40]
        return pandas.DataFrame(
            {
                "run_id": "a",
                "task": "OfflineBallRun-v0",
                "policy": [f"cdt@{limit}" for limit in limits],
                "step": 100,
                "cost_return_mean": 20.0,
                "normalized_reward": [0.1, 0.2, 0.6],
            }
        )

    def metrics(self, **_: Any) -> pandas.DataFrame:
        return pandas.DataFrame(columns=["run_id", "policy", "step", "name", "value"])


@pytest.mark.parametrize(
    ("paper", "reward", "cost"), [("flrp", 0.1, 2.0), ("lspc", 0.3, (2 + 1 + 0.5) / 3)]
)
def test_of_policies_with_a_limit_each_those_of_the_paper_s_limits_count(
    paper: str, reward: float, cost: float
) -> None:
    """FLRP takes the limit 10, LSPC the mean of the suite's three."""
    setting = AblationSetting("CDT", "cdt")
    found = collect_settings(cast(ResultStore, OneRun()), ["any"], [setting], paper)
    values = found.set_index("metric")["value"].to_dict()
    assert values == pytest.approx({"normalized_reward": reward, "normalized_cost": cost})
    assert set(found["setting"]) == {"CDT"} and len(found) == 2
