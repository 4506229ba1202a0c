import numpy as np
import pandas
from hypothesis import given
from hypothesis import strategies as st

from safesweep.analysis.plots.measures import best_safe_by_budget, importance, non_dominated


def test_the_front_of_known_points() -> None:
    rows = pandas.DataFrame(
        {"reward": [1.0, 2.0, 2.0, 0.5, 3.0, np.nan], "cost": [0.0, 1.0, 2.0, 0.5, 4.0, 0.0]},
        index=list("abcdef"),
    )
    # c has no more reward than b at more cost; d less than a at more cost; f has none.
    assert list(non_dominated(rows["reward"], rows["cost"])) == ["a", "b", "e"]


def test_costs_that_differ_by_rounding_are_equal() -> None:
    reward = pandas.Series([0.62, 0.72])
    assert list(non_dominated(reward, pandas.Series([0.44999999999999996, 0.45]))) == [1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30))
def test_no_point_of_the_front_is_beaten_and_every_other_one_is(
    points: list[tuple[int, int]],
) -> None:
    rows = pandas.DataFrame(points, columns=["reward", "cost"]).astype(float)
    front = rows.loc[non_dominated(rows["reward"], rows["cost"])]
    assert len(front) >= 1
    for reward, cost in points:
        better = (front["reward"] >= reward) & (front["cost"] <= cost)
        assert better.any()
    for row in front.itertuples():
        beats = (rows["reward"] >= row.reward) & (rows["cost"] <= row.cost)
        beats &= (rows["reward"] > row.reward) | (rows["cost"] < row.cost)
        assert not beats.any()


def made_up(count: int = 40) -> pandas.DataFrame:
    generator = np.random.default_rng(0)
    rate, expectile = 10 ** generator.uniform(-5, -2, count), generator.uniform(0.5, 1, count)
    return pandas.DataFrame(
        {
            "config_id": [f"c{number:02d}" for number in range(count)],
            "hp_rate": rate,
            "hp_expectile": expectile,
            "hp_loss": generator.choice(["huber", "squared"], count),
            "hp_constant": 3,
            "reward": -abs(np.log10(rate) + 3),
            "cost": 2 * (1 - expectile),
        }
    )


def test_what_decides_a_score_is_the_most_important() -> None:
    found = importance(made_up(), ["rate", "expectile", "loss", "constant"]).set_index("name")
    assert set(found.index) == {"rate", "expectile", "loss"}
    assert found["reward"].idxmax() == "rate" and found.loc["rate", "reward"] > 0.6
    assert found["cost"].idxmax() == "expectile" and found.loc["expectile", "cost"] > 0.6
    np.testing.assert_allclose(found.sum(), 1.0)


def test_importance_repeats_and_is_silent_about_too_few() -> None:
    rows = made_up()
    again = importance(rows.sample(frac=1, random_state=1), ["rate", "expectile"])
    pandas.testing.assert_frame_equal(importance(rows, ["rate", "expectile"]), again)
    assert importance(made_up(7), ["rate"]).empty
    assert importance(rows, ["constant"]).empty


def test_the_best_safe_reward_by_budget() -> None:
    configurations = pandas.DataFrame(
        {
            "config_id": ["late", "unsafe", "first", "lost", "best"],
            "reward": [0.3, 0.9, 0.5, 0.8, 0.7],
            "safe": [True, False, True, True, True],
            "whole": [True, True, True, False, True],
        }
    )
    order = ["unsafe", "first", "late", "lost", "best"]
    runs = pandas.DataFrame(
        [
            {"config_id": name, "steps": 100, "train_seconds": 1800.0, "evaluate_seconds": None,
             "finished_at": pandas.Timestamp(f"2026-01-0{day}", tz="UTC")}
            for day, name in enumerate(order, start=1)
            for _ in range(2)
        ]
    )  # fmt: skip
    found = best_safe_by_budget(configurations, runs)
    assert found["gradient_steps"].tolist() == [200, 400, 600, 800, 1000]
    assert found["hours"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(found["reward"], [np.nan, 0.5, 0.5, 0.5, 0.7])
    assert found["config_id"].tolist() == [None, "first", "first", "first", "best"]
