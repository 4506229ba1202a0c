"""Claims over results whose truth is known."""

import numpy as np
import pandas
import pytest

from safesweep.analysis.ablations.engine.claim_builders import (
    at_most_better,
    beyond_limit,
    close,
    deviation_smaller,
    larger,
    printed_count,
    printed_equal,
    printed_larger,
    printed_within,
    ratio_within,
    rises,
    within_limit,
)
from safesweep.analysis.ablations.engine.settings import COST, REWARD
from safesweep.analysis.claims import (
    ALL_TASKS,
    CONTRADICTED,
    EVERY_TASK,
    NOT_TESTED,
    SUPPORTED,
    UNDECIDED,
    Claim,
    decide,
    score,
)

SEED_NOISE = (0.0, 0.012, -0.01)


def results(
    values: dict[str, float], metric: str = REWARD, task: str = "task", noise: float = 1.0
) -> pandas.DataFrame:
    """One value a setting, with a little noise that differs by setting and seed; and an earlier
    step that must not count."""
    rows = []
    for place, (setting, value) in enumerate(values.items()):
        for seed in range(3):
            shift = noise * SEED_NOISE[(seed + place) % 3]
            for step, level in ((1, -9.0), (2, value + shift)):
                rows.append((task, "", setting, float(place), seed, step, metric, level))
    columns = ["task", "series", "setting", "x", "seed", "step", "metric", "value"]
    return pandas.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({"a": 0.8, "b": 0.2}, SUPPORTED),
        ({"a": 0.2, "b": 0.8}, CONTRADICTED),
        ({"a": 0.5, "b": 0.5}, UNDECIDED),
    ],
)
def test_larger(values: dict[str, float], verdict: str) -> None:
    claim = larger("name", "statement", REWARD, "a", "b")
    (finding,) = claim.judge(results(values))
    assert finding.verdict == verdict
    assert finding.effect == pytest.approx(values["a"] - values["b"], abs=0.02)


def test_several_tasks_are_judged_by_their_mean_unless_the_claim_is_about_every_one() -> None:
    both = pandas.concat(
        [results({"a": 0.8, "b": 0.2}), results({"a": 0.5, "b": 0.5}, task="other")]
    )
    card = score([larger("name", "statement", REWARD, "a", "b")], both)
    assert card["task"].tolist() == ["task", "other", ALL_TASKS]
    assert card["verdict"].tolist() == [SUPPORTED, UNDECIDED, SUPPORTED]
    assert set(card["claim_verdict"]) == {SUPPORTED}
    every = larger("name", "statement", REWARD, "a", "b", quantifier=EVERY_TASK)
    assert set(score([every], both)["claim_verdict"]) == {UNDECIDED}


def test_a_claim_about_named_tasks_is_not_tested_on_others() -> None:
    claim = larger("name", "statement", REWARD, "a", "b", tasks=("CarRun",))
    assert verdict_of(claim, results({"a": 0.8, "b": 0.2})) == NOT_TESTED
    frame = results({"a": 0.8, "b": 0.2}, task="OfflineCarRun-v0")
    assert verdict_of(claim, frame) == SUPPORTED


def verdict_of(claim: Claim, frame: pandas.DataFrame) -> str:
    return decide(claim, claim.judge(frame)).verdict


def test_results_without_a_setting_do_not_bear_on_it() -> None:
    frame = results({"a": 0.8})
    assert larger("name", "statement", REWARD, "a", "b").judge(frame) == []
    assert close("name", "statement", REWARD, "a", "b", 0.1).judge(frame) == []
    assert within_limit("name", "statement", ["b"]).judge(frame) == []
    assert ratio_within("name", "statement", REWARD, "a", "b", 1, 2).judge(frame) == []
    assert deviation_smaller("name", "statement", REWARD, "a", "b").judge(frame) == []


@pytest.mark.parametrize(
    ("gap", "verdict"), [(0.0, SUPPORTED), (0.5, CONTRADICTED), (0.1, UNDECIDED)]
)
def test_close_is_an_equivalence_test(gap: float, verdict: str) -> None:
    claim = close("name", "statement", REWARD, "a", "b", 0.1)
    assert claim.judge(results({"a": 0.3 + gap, "b": 0.3}))[0].verdict == verdict


@pytest.mark.parametrize(
    ("gap", "verdict"), [(-0.5, CONTRADICTED), (0.0, SUPPORTED), (0.5, SUPPORTED)]
)
def test_a_one_sided_margin(gap: float, verdict: str) -> None:
    claim = at_most_better("name", "statement", REWARD, "a", "b", low=-0.1)
    assert claim.judge(results({"a": 0.3 + gap, "b": 0.3}))[0].verdict == verdict


@pytest.mark.parametrize(
    ("cost", "verdict"), [(0.5, SUPPORTED), (1.5, CONTRADICTED), (1.0, UNDECIDED)]
)
def test_the_cost_limit(cost: float, verdict: str) -> None:
    frame = results({"a": cost}, COST)
    opposite = {SUPPORTED: CONTRADICTED, CONTRADICTED: SUPPORTED, UNDECIDED: UNDECIDED}
    assert within_limit("name", "statement", ["a"]).judge(frame)[0].verdict == verdict
    assert beyond_limit("name", "statement", "a").judge(frame)[0].verdict == opposite[verdict]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.1, 0.3, 0.5, 0.7], SUPPORTED),
        ([0.7, 0.5, 0.3, 0.1], CONTRADICTED),
        ([0.3, 0.3, 0.3, 0.3], UNDECIDED),
    ],
)
def test_trends(values: list[float], verdict: str) -> None:
    frame = results({f"{place}": value for place, value in enumerate(values)})
    assert rises("name", "statement", REWARD).judge(frame)[0].verdict == verdict
    falling = rises("name", "statement", REWARD, falls=True).judge(frame)[0].verdict
    assert (falling == SUPPORTED) == (verdict == CONTRADICTED)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.6, SUPPORTED), (4.0, CONTRADICTED), (2.0, UNDECIDED)]
)
def test_ratios(ratio: float, verdict: str) -> None:
    claim = ratio_within("name", "statement", REWARD, "a", "b", 1.3, 2.0)
    assert claim.judge(results({"a": ratio, "b": 1.0}))[0].verdict == verdict


def test_deviations_are_compared() -> None:
    frames = [
        results({"a": 0.5 + 0.01 * seed}).assign(seed=seed, value=0.5 + 0.01 * seed)
        for seed in range(12)
    ]
    frames += [frame.assign(setting="b", value=20 * frame["value"]) for frame in frames]
    frame = pandas.concat(frames).drop_duplicates(["seed", "setting", "step"])
    assert verdict_of(deviation_smaller("name", "statement", REWARD, "a", "b"), frame) == SUPPORTED
    opposite = deviation_smaller("name", "statement", REWARD, "b", "a")
    assert verdict_of(opposite, frame) == CONTRADICTED


def printed() -> pandas.DataFrame:
    cells = [("one", "a", 0.5), ("one", "b", 0.4), ("two", "a", 0.3), ("two", "b", 0.3)]
    frame = pandas.DataFrame(cells, columns=["task", "setting", "value"])
    return frame.assign(metric=COST, series="", x=np.nan)


def test_printed_numbers_are_read_off() -> None:
    strict = printed_larger("name", "statement", printed, COST, "a", "b")
    assert [f.verdict for f in strict.judge(pandas.DataFrame())] == [SUPPORTED, CONTRADICTED]
    loose = printed_larger("name", "statement", printed, COST, "a", "b", or_equal=True)
    assert {f.verdict for f in loose.judge(pandas.DataFrame())} == {SUPPORTED}
    assert strict.about == "print"
    assert strict.statement.startswith("Printed: ")
    inside = printed_within("name", "statement", printed, "a", high=0.4)
    (finding,) = inside.judge(pandas.DataFrame())
    assert finding.verdict == CONTRADICTED
    assert finding.remark == "holds in 1 of 2; not one 0.5"
    assert printed_count(3, 5, needed=3).verdict == SUPPORTED
    equal = printed_equal("name", "statement", 0.33, lambda: {"x": 0.328, "y": 0.2967})
    assert [f.verdict for f in equal.judge(pandas.DataFrame())] == [SUPPORTED, CONTRADICTED]
