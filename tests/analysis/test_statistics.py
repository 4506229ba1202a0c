import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from safesweep.analysis.intervals import mean_interval
from safesweep.analysis.selection.choice import select
from safesweep.analysis.statistics import (
    compare,
    estimate,
    optimism,
    performance_profile,
    probability_of_improvement,
    probability_safe,
    rows_of_choice,
    run_scores,
    summarize,
    with_confirmations,
)
from safesweep.search_spaces.validation import InvalidInput
from tests.benchmarks.interval_coverage import coverage

SCORES = {"a": [0.1, 0.4, 0.7, 0.8], "b": [0.2, 0.2, 0.9, 1.3]}


def frame_of(scores: dict[str, dict[str, list[float]]], **constant: object) -> pandas.DataFrame:
    """`scores`: algorithm -> task -> one a seed, which is both reward and cost."""
    return pandas.DataFrame(
        [
            {
                "algorithm": algorithm, "task": task, "config_id": f"{algorithm}-{task}",
                "seed": seed, "normalized_reward": value, "normalized_cost": value, **constant,
            }
            for algorithm, tasks in scores.items()
            for task, values in tasks.items()
            for seed, value in enumerate(values)
        ]
    )  # fmt: skip


def test_the_statistics_are_those_of_the_literature() -> None:
    pooled = np.array([*SCORES["a"], *SCORES["b"]])
    assert estimate(SCORES, "mean").value == pytest.approx(pooled.mean())
    assert estimate(SCORES, "iqm").value == pytest.approx(np.sort(pooled)[2:6].mean())
    three = {**SCORES, "c": [9.0] * 4}
    assert estimate(three, "median").value == pytest.approx(np.mean(SCORES["b"]))
    assert estimate({"a": SCORES["a"]}, "median").value == pytest.approx(0.55)
    # Tasks weigh the same in the mean, however many seeds they have.
    assert estimate({"a": [0.0], "b": [1.0] * 9}, "mean").value == pytest.approx(0.5)


def test_the_interval_depends_on_the_seed_given_and_on_nothing_else() -> None:
    np.random.seed(1)  # noqa: NPY002 (global state must not matter)
    one = estimate(SCORES, seed=3)
    np.random.seed(2)  # noqa: NPY002
    shuffled = {"b": SCORES["b"][::-1], "a": SCORES["a"][::-1]}
    assert estimate(shuffled, seed=3) == one
    fine = {"a": np.random.default_rng(0).normal(size=20)}
    assert estimate(fine, seed=4) != estimate(fine, seed=3)
    assert one.low < one.value < one.high


def test_of_a_mean_it_is_the_interval_of_confirm_and_of_claims() -> None:
    sample = np.random.default_rng(0).normal(size=12)
    ours = estimate({"a": sample}, "mean")
    theirs = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    # Scores are sorted before they are summed, so that the last digit may differ.
    expected = pytest.approx(mean_interval(sample), rel=1e-12)
    assert (ours.value, ours.low, ours.high) == expected
    # The two runs of which the percentile bootstrap said [0.18, 1.20].
    assert estimate({"a": [0.18, 1.20]}, "mean").low == pytest.approx(-5.79, abs=0.01)


def test_over_tasks_a_mean_has_welchs_interval() -> None:
    # One task against the negative of another: twice the mean over the two is their difference.
    one, other = np.array([1.0, 2.0, 4.0]), np.array([0.0, 5.0, 6.0, 2.5])
    found = estimate({"a": one, "b": -other}, "mean")
    welch = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert (2 * found.low, 2 * found.high) == pytest.approx((welch.low, welch.high))


@pytest.mark.parametrize("statistic", ["mean", "iqm", "median"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("tasks", [1, 4])
def test_intervals_of_few_seeds_cover_the_truth(statistic: str, seeds: int, tasks: int) -> None:
    found = coverage("normal", statistic, tasks, seeds, 120)
    assert found >= 0.95 - 0.025 - 3 * np.sqrt(0.95 * 0.05 / 120)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    cases, hits = 300, 0
    for case in range(cases):
        # Tasks differ much and seeds little: only a stratified interval can be this narrow.
        tasks = {str(level): level + 0.1 * generator.normal(size=10) for level in range(8)}
        found = estimate(tasks, "mean", samples=400, seed=case)
        assert found.high - found.low < 0.1
        hits += found.low <= 3.5 <= found.high
    assert hits / cases > 0.95 - 0.02 - 3 * np.sqrt(0.95 * 0.05 / cases)


def test_drawing_the_tasks_too_widens_the_interval() -> None:
    tasks = {"a": [0.0, 0.01], "b": [1.0, 1.01], "c": [2.0, 2.01]}
    fixed, drawn = (estimate(tasks, "mean", tasks=draw, samples=500) for draw in (False, True))
    assert drawn.high - drawn.low > 20 * (fixed.high - fixed.low)
    single = estimate({"a": [0.0], "b": [1.0]}, "mean")
    assert (single.value, np.isnan(single.low), np.isnan(single.high)) == (0.5, True, True)
    # Two tasks say next to nothing of others.
    assert estimate({"a": [0.0], "b": [1.0]}, "mean", tasks=True).low < -3


@given(
    st.dictionaries(
        st.sampled_from("abc"),
        st.lists(st.floats(-2, 2), min_size=1, max_size=4),
        min_size=1,
    ),
    st.sampled_from(["mean", "iqm", "median"]),
    st.floats(-3, 3),
    st.floats(0.1, 5),
)
def test_statistics_follow_a_change_of_scale(scores, statistic, shift, factor) -> None:
    moved = {task: [factor * value + shift for value in values] for task, values in scores.items()}
    one, other = (estimate(s, statistic, samples=100) for s in (scores, moved))
    for name in ("value", "low", "high"):
        expected = factor * getattr(one, name) + shift
        assert getattr(other, name) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_summary_has_a_row_per_group_metric_and_statistic() -> None:
    frame = frame_of({"flrp": SCORES, "lspc": {"a": [0.5, 0.5]}})
    summary = summarize(frame)
    assert len(summary) == 2 * 2 * 3
    row = summary.set_index(["algorithm", "metric", "statistic"]).loc[
        ("flrp", "normalized_cost", "mean")
    ]
    assert row["value"] == pytest.approx(np.mean([*SCORES["a"], *SCORES["b"]]))
    assert (row["tasks"], row["seeds"]) == (2, 8)
    each = summarize(frame, by=("algorithm", "task", "config_id"), statistics=("median",))
    assert len(each) == 3 * 2
    alone = summarize(frame[frame["algorithm"] == "flrp"])
    pandas.testing.assert_frame_equal(
        alone, summary[summary["algorithm"] == "flrp"].reset_index(drop=True)
    )


def test_data_that_are_not_as_one_would_wish() -> None:
    frame = frame_of({"flrp": SCORES})
    doubled = pandas.concat([frame, frame.iloc[[0, 0]]])
    pandas.testing.assert_frame_equal(summarize(doubled), summarize(frame))
    missing = frame.assign(normalized_reward=[np.nan, *frame["normalized_reward"][1:]])
    summary = summarize(missing, metrics=("normalized_reward",))
    assert set(summary["seeds"]) == {7}
    assert summarize(frame.iloc[:0]).empty
    with pytest.raises(InvalidInput, match="a run has several steps"):
        summarize(pandas.concat([frame.assign(step=1), frame.assign(step=2)]))
    with pytest.raises(InvalidInput, match="missing column config_id"):
        summarize(frame.drop(columns="config_id"))
    two = pandas.concat([frame.assign(policy="s"), frame.assign(policy="o")])
    assert len(run_scores(two, ("algorithm",), "normalized_cost")[("flrp",)]["a"]) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistic": "men"}, "did you mean 'mean'"),
        ({"confidence": 1.0}, "confidence: 1.0"),
        ({"samples": 1}, "samples: 1"),
        ({"scores": {}}, "scores: a task has none"),
        ({"scores": {"a": []}}, "scores: a task has none"),
        ({"scores": {"a": [np.nan]}}, "not all are finite"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refusal:
        estimate(**{"scores": SCORES, **options})  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_a_profile_is_the_share_of_safe_runs_above_each_threshold() -> None:
    # The reward is the cost: the run of 1.3 is above the limit, and so below every threshold.
    profile = performance_profile(frame_of({"flrp": SCORES}), [-1.0, 0.3, 0.8, 2.0])
    assert profile["value"].tolist() == pytest.approx([7 / 8, 4 / 8, 1 / 8, 0.0])
    assert set(profile["metric"]) == {"safe_reward"}
    assert (profile["low"] <= profile["value"]).all()
    assert (profile["value"] <= profile["high"]).all()
    assert profile["value"].is_monotonic_decreasing
    costs = performance_profile(frame_of({"flrp": SCORES}), [1.0], metric="normalized_cost")
    assert costs["value"].tolist() == [1 / 8]


def test_two_runs_that_agree_are_no_certainty() -> None:
    frame = frame_of({"flrp": {"a": [0.5, 0.6]}})
    row = performance_profile(frame, [0.1]).iloc[0]
    assert (row["value"], row["high"]) == (1.0, 1.0)
    assert row["low"] == pytest.approx(0.025**0.5)
    better = probability_of_improvement({"a": [0.5, 0.6]}, {"a": [0.1, 0.2]})
    assert (better.value, better.low) == (1.0, pytest.approx(0.025**0.5))


def test_an_unsafe_score_is_no_improvement() -> None:
    frame = frame_of({"wild": {"a": [0.0] * 5}, "calm": {"a": [0.0] * 5}, "mad": {"a": [0.0] * 5}})
    wild, mad = frame["algorithm"] == "wild", frame["algorithm"] == "mad"
    frame.loc[wild, ["normalized_reward", "normalized_cost"]] = [1.0, 20.0]
    frame.loc[mad, ["normalized_reward", "normalized_cost"]] = [2.0, 2.0]
    frame.loc[~wild & ~mad, ["normalized_reward", "normalized_cost"]] = [0.5, 0.9]
    found = compare(frame).set_index(["one", "other"])["value"]
    assert found["calm", "wild"] == 1.0 and found["wild", "calm"] == 0.0
    assert found["mad", "wild"] == 0.5
    assert performance_profile(frame[wild], [-100.0])["value"].tolist() == [0.0]
    with pytest.raises(InvalidInput, match="missing column normalized_cost"):
        compare(frame.drop(columns="normalized_cost"))


@pytest.mark.parametrize("seeds", [4, 5])
def test_fewer_than_five_seeds_are_flagged_everywhere(seeds: int) -> None:
    rng = np.random.default_rng(0)
    frame = frame_of({name: {"a": rng.random(seeds), "b": rng.random(9)} for name in "xy"})
    tables = (
        summarize(frame), compare(frame), probability_safe(frame),
        performance_profile(frame, [0.1]),
    )  # fmt: skip
    for table in tables:
        assert set(table["few_seeds"]) == {seeds < 5}


def test_probability_of_improvement_is_mann_whitneys() -> None:
    one, other = {"a": [0.1, 0.5, 0.9]}, {"a": [0.5, 0.2, 0.3, 0.05]}
    expected = stats.mannwhitneyu(one["a"], other["a"]).statistic / 12
    found = probability_of_improvement(one, other)
    assert found.value == pytest.approx(expected)
    assert probability_of_improvement(other, one).value == pytest.approx(1 - expected)
    assert found.low <= found.value <= found.high
    assert probability_of_improvement(one, other) == found
    tasks = {"a": [1.0], "b": [0.0], "c": [5.0]}
    against = {"a": [0.0], "b": [1.0], "d": [9.0]}
    assert probability_of_improvement(tasks, against).value == 0.5
    assert probability_of_improvement(tasks, against).low == pytest.approx(0.0126, abs=1e-4)
    assert probability_of_improvement(tasks, against, tasks=True).high == 1.0
    with pytest.raises(InvalidInput, match="none in common"):
        probability_of_improvement({"a": [1.0]}, {"b": [1.0]})


def test_probability_of_being_safe() -> None:
    frame = frame_of({"flrp": {"a": [0.5, 0.9, 1.0, 1.2]}, "safe": {"a": [0.1] * 3, "b": [0.2]}})
    found = probability_safe(frame).set_index("algorithm")
    exact = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert found.loc["flrp", ["value", "low", "high"]].tolist() == pytest.approx(
        [0.75, exact.low, exact.high]
    )
    # Four safe runs of four do not make it certain.
    assert found.loc["safe", "value"] == 1.0
    # One seed of the second task is what it hangs on: as good as three runs in all.
    assert found.loc["safe", "low"] == pytest.approx(0.025 ** (1 / 3))
    assert found.loc["safe", ["safe_runs", "runs", "tasks"]].tolist() == [4, 4, 2]
    mixed = probability_safe(frame_of({"x": {"a": [0.5, 1.5], "b": [0.5] * 8}})).iloc[0]
    assert mixed["value"] == pytest.approx(0.75)
    assert mixed["low"] <= 0.75 <= mixed["high"]


def test_the_rows_behind_a_choice() -> None:
    frame = pandas.concat([frame_of({"flrp": SCORES}, step=step, policy="flrp") for step in (1, 2)])
    rows = rows_of_choice(frame, select(frame, step=1))
    assert set(rows["step"]) == {1}
    assert len(rows) == 8


def test_confirmations_stand_in_for_what_a_choice_was_made_by() -> None:
    rows = pandas.DataFrame(
        [{"algorithm": "bc", "task": "a", "policy": "bc", "config_id": name, "seed": seed,
          "step": 9, "normalized_reward": 0.9, "normalized_cost": 0.5, "cost_limit": 10.0}
         for name in ("seeds", "episodes", "neither") for seed in (0, 1)]
    )  # fmt: skip
    again = [
        {"task": "a", "policy": "bc", "config_id": name, "seed": seed, "kind": kind,
         "normalized_reward": 0.4, "cost_return_mean": 8.0, "normalized_cost": 99.0}
        for name, kind, seed in (
            ("seeds", "evaluated", 0), ("seeds", "retrained", 7), ("seeds", "retrained", 8),
            ("episodes", "evaluated", 0), ("episodes", "evaluated", 1),
        )
    ]  # fmt: skip
    found = with_confirmations(rows, pandas.DataFrame(again)).set_index("config_id")
    assert found.loc["seeds", "seed"].tolist() == [7, 8]
    assert set(found.loc["seeds", "evidence"]) == {"fresh seeds"}
    assert set(found.loc["episodes", "evidence"]) == {"fresh episodes"}
    assert set(found.loc["neither", "evidence"]) == {"as chosen"}
    assert found.loc["episodes", "normalized_cost"].tolist() == [0.8, 0.8]
    assert found.loc["neither", "normalized_cost"].tolist() == [0.5, 0.5]
    assert set(found["algorithm"]) == {"bc"} and set(found["step"]) == {9}
    nothing = with_confirmations(rows, pandas.DataFrame())
    assert set(nothing["evidence"]) == {"as chosen"} and len(nothing) == 6


def test_optimism_is_what_the_choice_promised_more_than_it_kept() -> None:
    keys = {"algorithm": "flrp", "task": "a", "policy": "flrp", "config_id": "c"}
    selected = pandas.DataFrame(
        [{**keys, "seed": s, "normalized_reward": 0.8 + s / 10, "normalized_cost": 0.5}
         for s in range(3)]
    )  # fmt: skip
    again = selected.assign(normalized_reward=lambda f: f["normalized_reward"] - 0.1,
                            normalized_cost=[0.6, 0.8, 1.0], kind="evaluated")  # fmt: skip
    retrained = again.assign(seed=[7, 8, 9], kind="retrained")
    table = optimism(selected, pandas.concat([again, retrained])).set_index(["kind", "metric"])
    paired = table.loc[("evaluated", "normalized_reward")]
    assert paired["selected"] == pytest.approx(0.9)
    assert paired["confirmed"] == pytest.approx(0.8)
    # The seeds lose exactly the same, which only a paired comparison can see.
    assert paired[["optimism", "optimism_low", "optimism_high"]].tolist() == pytest.approx(
        [0.1, 0.1, 0.1]
    )
    cost = table.loc[("evaluated", "normalized_cost")]
    assert cost["optimism"] == pytest.approx(0.3)
    assert cost["optimism_low"] < 0.3 < cost["optimism_high"]
    free = table.loc[("retrained", "normalized_reward")]
    assert free["optimism_low"] < 0 < 0.2 < free["optimism_high"]
    welch = stats.ttest_ind([0.8, 0.9, 1.0], [0.7, 0.8, 0.9], equal_var=False)
    assert [free["optimism_low"], free["optimism_high"]] == pytest.approx(
        list(welch.confidence_interval(0.95))
    )
    constant = again.assign(seed=[7, 8, 9], kind="retrained", normalized_cost=0.75)
    same = optimism(selected, constant).set_index("metric").loc["normalized_cost"]
    assert same[["optimism", "optimism_low", "optimism_high"]].tolist() == [0.25] * 3
    single = optimism(selected[:1], again[:1]).iloc[0]
    assert np.isnan(single["optimism_low"])
    assert optimism(selected, again.iloc[:0]).empty


def test_choosing_the_best_of_many_is_optimistic_and_confirming_shows_by_how_much() -> None:
    """60 equal configurations: the best looks better than it is by its noise's largest value."""
    generator = np.random.default_rng(0)
    gaps = []
    for _ in range(40):
        noise = generator.normal(0, 0.1, (60, 3))
        frame = pandas.DataFrame(
            {
                "algorithm": "flrp", "task": "a", "policy": "flrp",
                "config_id": np.repeat([f"c{i:02d}" for i in range(60)], 3),
                "seed": np.tile([0, 1, 2], 60),
                "normalized_reward": 0.5 + noise.reshape(-1), "normalized_cost": 0.5,
            }
        )  # fmt: skip
        rows = rows_of_choice(frame, select(frame))
        again = rows.assign(normalized_reward=0.5 + generator.normal(0, 0.1, 3), kind="evaluated")
        table = optimism(rows, again).set_index("metric")
        gaps.append(table.loc["normalized_reward", "optimism"])
    expected = 0.1 / np.sqrt(3) * 2.32  # the largest of 60 standard normal numbers
    assert np.mean(gaps) == pytest.approx(expected, rel=0.15)
