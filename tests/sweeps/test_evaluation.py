from pathlib import Path

import numpy as np
import pytest

from safesweep.analysis.store.reader import ResultStore
from safesweep.analysis.variance import episode_variances, noise_share
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps import evaluation
from safesweep.sweeps.evaluation import (
    DEFAULT,
    FEWEST,
    Variance,
    choose_episodes,
    episodes_for,
    measured_variances,
    with_episodes,
)
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.writer import ResultWriter

BALL, BOAT = "OfflineBallRun-v0", "BoatNavigation-v0"
CONTENT = {
    "name": "s", "algorithm": "bc", "tasks": [BALL, BOAT], "steps": 4,
    "space": {"learning_rate": [0.001]},
}  # fmt: skip


def spec_of(episodes: object, **changes: object) -> SweepSpec:
    return SweepSpec.from_mapping({**CONTENT, "evaluate": {"episodes": episodes}, **changes})


def write_runs(storage: Path, task: str, within: float, between: float, shared: float) -> None:
    """Twelve runs of 200 episodes whose costs are a run's level, a start's, and noise."""
    generator = np.random.default_rng(0)
    levels, starts = (
        between * generator.standard_normal(12),
        shared * generator.standard_normal(200),
    )
    runs, evaluations, episodes = [], [], []
    for seed, level in enumerate(levels):
        returns = 100 + level + starts + within * generator.standard_normal(200)
        row = {"run_id": f"a-{seed}", "config_id": "a", "algorithm": "bc", "task": task,
               "seed": seed}  # fmt: skip
        runs.append({**row, "status": "completed", "steps": 4, "trial_id": "t", "config": {}})
        evaluations.append({**row, "step": 4, "policy": "bc", "episodes": 200})
        episodes += [
            {"run_id": f"a-{seed}", "step": 4, "policy": "bc", "episode": number,
             "reward_return": 1.0, "cost_return": cost, "length": 9}
            for number, cost in enumerate(returns)
        ]  # fmt: skip
    ResultWriter(str(storage), "s").write_trial("t", runs, evaluations, episodes)


@pytest.mark.parametrize("shared", [0.0, 20.0])
def test_the_variances_are_found_whether_starts_are_common_or_not(
    tmp_path: Path, shared: float
) -> None:
    write_runs(tmp_path, BALL, within=3.0, between=2.0, shared=shared)
    found = episode_variances(ResultStore(tmp_path)).set_index("metric")
    assert found.loc["cost", "within"] == pytest.approx(9, rel=0.1)
    assert found.loc["cost", "between"] == pytest.approx(4, rel=0.6)
    assert found.loc["reward", ["within", "between"]].tolist() == [0, 0]
    assert found["runs"].tolist() == [12, 12] and found["episodes"].tolist() == [2400, 2400]
    assert episode_variances(ResultStore(tmp_path), [BOAT]).empty


def test_the_share_of_noise_falls_with_the_episodes() -> None:
    assert noise_share(8, 2, 1) == 0.8
    assert noise_share(8, 2, 4) == 0.5
    assert noise_share(0, 0, 4) == 0
    assert noise_share(8, 0, 300) == 1
    with pytest.raises(InvalidInput, match="episodes: 0"):
        noise_share(1, 1, 0)


def test_episodes_make_up_a_tenth_of_the_variance_between_runs() -> None:
    chosen, why = episodes_for((Variance("cost", 9, 4, 12), Variance("reward", 0, 1, 12)), 50, "x")
    assert chosen == 23  # 9 / 23 is the first below 4 / 10
    assert "the variance of the cost is 2.25 times the variance between runs (x: 12 runs)" in why
    assert episodes_for((Variance("cost", 9, 0.1, 12),), 50, "x")[0] == 50
    assert episodes_for((Variance("cost", 9, 0, 12),), 300, "x")[0] == 300
    assert episodes_for((Variance("cost", 0.1, 9, 12),), 50, "x")[0] == FEWEST
    assert episodes_for((Variance("cost", 0, 0, 12),), 50, "x")[0] == FEWEST


def test_what_ships_comes_before_the_store_and_the_store_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(tmp_path, BALL, within=3.0, between=2.0, shared=0.0)
    shipped = {BOAT: (Variance("cost", 8, 1, 60),)}
    monkeypatch.setattr(evaluation, "measured_variances", lambda: shipped)
    assert choose_episodes(BOAT, str(tmp_path))[1].startswith("within a run")
    chosen, why = choose_episodes(BALL, str(tmp_path))
    assert 10 < chosen < 50 and "in this store: 12 runs" in why
    assert choose_episodes("OfflineCarRun-v0", str(tmp_path))[0] == DEFAULT
    chosen, why = choose_episodes(BALL, str(tmp_path / "nothing"))
    assert chosen == DEFAULT and "has not been measured" in why


def test_a_number_once_chosen_stays(tmp_path: Path) -> None:
    settled, lines = with_episodes(spec_of("auto"), str(tmp_path), None)
    assert len(lines) == 2 and lines[0].startswith("evaluate.episodes")
    assert settled.episodes_of(BOAT) == choose_episodes(BOAT, str(tmp_path))[0]
    recorded = spec_of({BALL: 7, BOAT: 9}).to_yaml()
    again, lines = with_episodes(spec_of("auto"), str(tmp_path), recorded)
    assert (again.episodes_of(BALL), again.episodes_of(BOAT)) == (7, 9)
    assert all("as this sweep began" in line for line in lines)
    # A task that was added gets a number of its own.
    before = spec_of(5, tasks=[BALL]).to_yaml()
    added, _ = with_episodes(spec_of("auto"), str(tmp_path), before)
    assert added.episodes_of(BALL) == 5
    assert added.episodes_of(BOAT) == settled.episodes_of(BOAT)
    fixed = spec_of(5)
    assert with_episodes(fixed, str(tmp_path), recorded) == (fixed, [])


def test_the_shipped_measurements_are_whole() -> None:
    found = measured_variances()
    assert {BOAT, BALL} <= set(found)
    for variances in found.values():
        assert {one.metric for one in variances} == {"reward", "cost"}
        assert all(one.within >= 0 and one.between >= 0 and one.runs >= 12 for one in variances)
    assert choose_episodes(BOAT, "nowhere")[0] > 100
    assert choose_episodes(BALL, "nowhere")[0] <= 5


def test_the_numbers_are_written_and_read_again() -> None:
    for episodes in (7, "auto", {BALL: 3, BOAT: 300}):
        spec = spec_of(episodes)
        assert spec.to_mapping()["evaluate"]["episodes"] == episodes
        assert SweepSpec.from_yaml(spec.to_yaml()) == spec
    assert spec_of({"BallRun": 3, BOAT: 300}).episodes_of(BALL) == 3
    with pytest.raises(InvalidInput, match="auto has not been settled"):
        spec_of("auto").episodes_of(BALL)


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ("atuo", "evaluate.episodes: 'atuo' is not allowed; it must be a whole number"),
        (0, r"evaluate.episodes: 0 is not allowed; it must be a whole number in \[1, 10000\]"),
        (2.5, "evaluate.episodes: 2.5"),
        (True, "evaluate.episodes: True"),
        ([3, 4], r"evaluate.episodes: \[3, 4\]"),
        (None, "evaluate.episodes: None"),
        ({BALL: 3}, "evaluate.episodes.BoatNavigation-v0: is missing"),
        ({BALL: 0, BOAT: 3}, "evaluate.episodes.OfflineBallRun-v0: 0"),
        ({BALL: "auto", BOAT: 3}, "evaluate.episodes.OfflineBallRun-v0: 'auto'"),
        ({BALL: 1, "BallRun": 2, BOAT: 3}, "evaluate.episodes.BallRun: .*given twice"),
        ({BALL: 1, BOAT: 3, "CarRun": 2}, "evaluate.episodes.CarRun: is not a task of the sweep"),
        ({BALL: 1, BOAT: 3, "CarRum": 2}, "evaluate.episodes: .*CarRum"),
        ({3: 1}, "evaluate.episodes: the key 3 is not text"),
    ],
)
def test_bad_episodes_are_one_line(episodes: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as problem:
        spec_of(episodes)
    assert "\n" not in str(problem.value)
