from pathlib import Path

import pytest

from safesweep.analysis.ablations.engine.ablation import SCALES
from safesweep.analysis.ablations.engine.budgets import (
    EVALUATED,
    SECONDS_PER_1000_STEPS,
    SMALL_ON_BOATS,
    SMALL_STEPS_COMMON,
    SMALL_STEPS_ON_BOATS,
    configurations,
    cost_limits,
    describe_cost,
    describe_seconds,
    estimate_seconds,
    make_sweeps,
    method_settings,
    task_settings,
)
from safesweep.analysis.reproduction import ABLATIONS
from safesweep.search_spaces.plugins import load_plugin, plugins_forgotten_after
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.identity import config_id

EXAMPLE = Path(__file__).parents[3] / "plugins" / "example_plugin.py"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_method_has_settings_that_it_knows(algorithm: str) -> None:
    for scale in ("smoke", "small", "paper"):
        ALGORITHMS[algorithm].config_class.resolve(method_settings(scale, algorithm))
    assert method_settings("paper", algorithm) == EVALUATED.get(algorithm, {})


def test_a_method_from_outside_has_a_budget_at_every_scale() -> None:
    with plugins_forgotten_after():
        load_plugin(str(EXAMPLE))
        for scale in SCALES:
            (sweep,) = make_sweeps(
                "own", scale, "own", "td3bc_cost", ["BoatNavigation-v0"],
                {"cost_weight": [0.1, 1.0]}, {},
            )  # fmt: skip
            assert SweepSpec.from_mapping(sweep).algorithms == ("td3bc_cost",)
            assert "on two cores" in describe_cost(scale, [sweep])


def test_the_papers_limits() -> None:
    assert cost_limits("flrp", "OfflineCarRun-v0") == (10.0,)
    assert cost_limits("r2pac", "OfflineCarRun-v0") == (5.0,)
    assert cost_limits("r2pac", "OfflineCarGoal1Gymnasium-v0") == (10.0,)
    assert cost_limits("lspc", "OfflineCarRun-v0") == (10.0, 20.0, 40.0)
    assert cost_limits("safefql", "OfflineHopperVelocityGymnasium-v1") == (20.0,)
    assert cost_limits("flrp", "BoatNavigation-v0") == (1.0,)


def test_paper_scale_has_what_the_paper_prints_of_the_task() -> None:
    assert task_settings("paper", "lspc", "OfflineCarRun-v0")["restriction"] == 0.6
    assert task_settings("paper", "lspc", "OfflineAntRun-v0")["restriction"] == 0.25
    assert task_settings("paper", "lspc", "OfflineMetadrive-hardmean-v0")["safety_mask"]
    ball = task_settings("paper", "r2pac", "OfflineBallRun-v0")
    assert (ball["quantile"], ball["penalty"], ball["reward_scale"]) == (0.5, 1.0, 1.0)
    assert "quantile" not in task_settings("paper", "r2pac", "OfflinePointGoal1Gymnasium-v0")
    assert task_settings("small", "lspc", "OfflineCarRun-v0") == {}


def test_a_papers_protocol_at_paper_scale() -> None:
    tasks = ["cube-single-play-singletask-v0"]
    (sweep,) = make_sweeps("x", "paper", "flp", "flp", tasks, {}, {})
    assert sweep["seeds"] == list(range(8))
    assert (sweep["steps"], sweep["evaluate"]) == (1_000_000, {"every": 100_000, "episodes": 50})
    (own,) = make_sweeps("x", "paper", "r2pac", "r2pac", ["OfflineCarRun-v0"], {}, {})
    assert (own["steps"], len(own["seeds"]), own["evaluate"]["episodes"]) == (600_000, 3, 20)
    (boat,) = make_sweeps("x", "paper", "safefql", "safefql", ["BoatNavigation-v0"], {}, {})
    assert (boat["steps"], len(boat["seeds"]), boat["evaluate"]["episodes"]) == (300_003, 5, 500)
    (small,) = make_sweeps("x", "small", "flp", "flp", ["OfflineCarRun-v0"], {}, {})
    assert (len(small["seeds"]), small["evaluate"]["episodes"]) == (3, 10)


def test_at_paper_scale_a_sweep_holds_tasks_of_one_limit_and_one_setting() -> None:
    tasks = ["OfflineBallRun-v0", "OfflineAntRun-v0", "OfflineDroneRun-v0"]
    first, second = make_sweeps("x", "paper", "r2pac", "r2pac", tasks, {"quantile": [0.5]}, {})
    assert first["tasks"] == ["OfflineBallRun-v0"]
    assert second["tasks"] == ["OfflineAntRun-v0", "OfflineDroneRun-v0"]
    assert (first["name"], second["name"]) == ("x-paper-1", "x-paper-2")
    assert first["cost_limit"] == 5.0
    # What is varied is no longer fixed.
    assert "quantile" not in second["fixed"] and second["fixed"]["penalty"] == 1.0
    (small,) = make_sweeps("x", "small", "r2pac", "r2pac", tasks, {}, {})
    assert "cost_limit" not in small and small["dataset"] == "collect"


def test_at_small_scale_the_boats_have_settings_and_steps_of_their_own() -> None:
    tasks = ["BoatNavigation-v0", "OfflineBallRun-v0", "BoatNavigationHard-v0"]
    boats, ball = make_sweeps("x", "small", "r2pac", "r2pac", tasks, {}, {"penalty": 2.0})
    assert boats["tasks"] == ["BoatNavigation-v0", "BoatNavigationHard-v0"]
    assert (boats["fixed"]["chunk_length"], boats["steps"]) == (10, SMALL_STEPS_ON_BOATS["r2pac"])
    # What an ablation sets goes first.
    assert boats["fixed"]["penalty"] == 2.0
    assert "chunk_length" not in ball["fixed"] and ball["steps"] == SMALL_STEPS_COMMON
    for algorithm, values in SMALL_ON_BOATS.items():
        ALGORITHMS[algorithm].config_class.resolve(values)


def test_the_default_configuration_is_the_same_run_in_every_ablation() -> None:
    identities: dict[str, set[str]] = {}
    for name in ("flrp-table2", "flrp-table3", "flrp-fig3", "flrp-fig4", "flrp-fig7"):
        found = set()
        for sweep in ABLATIONS[name].sweeps["small"]:
            spec = SweepSpec.from_mapping(sweep)
            for values in spec.space_for("flrp").grid():
                config = spec.resolve("flrp", values)
                found.add(config_id("flrp", config, "OfflineCarRun-v0", "data", spec.steps))
        identities[name] = found
    assert len(set.intersection(*identities.values())) == 1


def test_the_cost_counts_runs_and_steps() -> None:
    sweeps = make_sweeps("x", "small", "flrp", "bc", ["BoatNavigation-v0"],
                         {"hidden_layers": [1, 2]}, {}, steps=100)  # fmt: skip
    assert describe_cost("small", sweeps).startswith(
        "6 runs, 600 gradient steps in all, on BoatNavigation"
    )
    assert describe_cost("small", []).startswith("no runs")


def test_a_sweep_trains_its_points_or_every_combination() -> None:
    space = {"hidden_layers": [1, 2], "learning_rate": [0.01, 0.1]}
    points = [
        {"hidden_layers": 1, "learning_rate": 0.1},
        {"hidden_layers": 2, "learning_rate": 0.01},
    ]
    tasks = ["BoatNavigation-v0"]
    (grid,) = make_sweeps("x", "small", "flrp", "bc", tasks, space, {}, steps=100)
    (chosen,) = make_sweeps("x", "small", "flrp", "bc", tasks, space, {}, steps=100, points=points)
    assert len(configurations(grid)) == 4
    assert configurations(chosen) == points
    assert SweepSpec.from_mapping(chosen).points_for("bc") == points
    assert describe_cost("small", [chosen]).startswith("6 runs, 600 gradient steps in all")


def test_the_time_follows_from_the_rates() -> None:
    assert all(set(rates) == set(ALGORITHMS) for rates in SECONDS_PER_1000_STEPS.values())
    assert all(min(rates.values()) > 0 for rates in SECONDS_PER_1000_STEPS.values())
    tasks = ["BoatNavigation-v0", "BoatNavigationHard-v0"]
    space = {"hidden_layers": [1, 2]}
    sweeps = make_sweeps("x", "small", "flrp", "bc", tasks, space, {}, steps=5000)
    # Two configurations, three seeds, two tasks; two cores.
    expected = 2 * 3 * 2 * 5 * SECONDS_PER_1000_STEPS["small"]["bc"] / 2
    assert estimate_seconds("small", sweeps) == pytest.approx(expected)
    paper = make_sweeps("x", "paper", "flrp", "bc", tasks[:1], {}, {})
    expected = 3 * 1000 * SECONDS_PER_1000_STEPS["paper"]["bc"]
    assert estimate_seconds("paper", paper) == pytest.approx(expected)
    assert "about 5.1 hours on two cores without a GPU" in describe_cost("paper", paper)
    assert "about 2 min on two cores" in describe_cost("small", sweeps, 120)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (59.5, "60 s"),
        (90, "1.5 min"),
        (754, "13 min"),
        (7200, "2 hours"),
        (200_000, "2.3 days"),
        (1e9, "32 years"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert describe_seconds(seconds) == words
