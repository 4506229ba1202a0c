import numpy as np
import pandas

from safesweep.analysis.plots.measures import best_safe_by_budget, importance


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
