import pandas
import pytest

from safesweep.analysis.ablations.engine.settings import mean_of_last


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
