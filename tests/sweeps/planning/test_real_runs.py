from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from pyarrow import parquet

from safesweep.search_spaces.space import Hyperparameter, SearchSpace
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.collect import collect_dataset
from safesweep.trainables.data.dataset import read_dataset
from safesweep.trainables.tasks.registry import get_task
from tests.benchmarks.fewest_runs import STRATEGIES, Sweep, mild, searched
from tests.benchmarks.real_runs import (
    MADE_BY,
    SWEEPS,
    TABLE,
    TableProblem,
    export,
    replayed,
    searched_entries,
    table_problem,
    whole_rows,
)
from tests.fixture_store import train_sweep

ENTRIES = [
    Hyperparameter("rate", low=0.0, high=1.0),
    Hyperparameter("candidates", choices=(1, 4, 16)),
]
SEEDS = 4


TASK = "BoatNavigationCoarse-v0"


def made_up(configurations: int = 9) -> pandas.DataFrame:
    """Seeds of configuration i: reward i + seed / 100, cost i / 5 + seed / 100."""
    return pandas.DataFrame(
        {
            "algorithm": "flp",
            "config_id": f"c{i}",
            "seed": seed,
            "normalized_reward": i + seed / 100,
            "normalized_cost": i / 5 + seed / 100,
            "rate": i / 10,
            "candidates": float((1, 4, 16)[i % 3]),
        }
        for i in range(configurations)
        for seed in range(SEEDS)
    )


def problem(replacement: bool = False) -> TableProblem:
    return table_problem(made_up(), "flp", ENTRIES, replacement)


def test_the_truth_is_the_mean_of_all_seeds_and_the_best_is_safe() -> None:
    table = problem()
    assert table.truth(table.points[2]) == pytest.approx((2.015, 0.415))
    # Configuration 4 costs 0.815, configuration 5 more than the limit.
    assert table.best == pytest.approx(4.015)


def test_values_are_those_of_the_space() -> None:
    first = problem().points[0]
    assert first == {"rate": 0.0, "candidates": 1}
    assert isinstance(first["candidates"], int)


def test_what_is_asked_for_is_the_nearest_of_the_table() -> None:
    table = problem()
    for point in table.points:
        assert table.nearest(point) == point
    assert table.nearest({"rate": 0.29, "candidates": 1}) == table.points[3]
    assert table.nearest({"rate": 0.29, "candidates": 1}, [table.points[3]]) == table.points[0]
    assert table.nearest(table.points[0], table.points) is None


def test_seeds_are_drawn_without_replacement_until_all_were_drawn() -> None:
    table = problem()
    sweep = Sweep(table, mild, np.random.default_rng(0))
    sweep.train(sweep.add(table.points[5]), 3 * SEEDS)
    rewards = [reward for reward, _ in sweep.scores[0]]
    own = [5.0, 5.01, 5.02, 5.03]
    assert sorted(rewards[:SEEDS]) == own
    assert set(rewards) == set(own)
    assert [cost for _, cost in sweep.scores[0]] == pytest.approx([r - 4 for r in rewards])


def test_the_order_of_seeds_is_a_sweeps_own() -> None:
    table = problem()
    orders = set()
    for seed in range(20):
        sweep = Sweep(table, mild, np.random.default_rng(seed))
        sweep.train(sweep.add(table.points[5]), SEEDS)
        orders.add(tuple(sweep.scores[0]))
    assert len(orders) > 5


def test_with_replacement_a_seed_may_come_twice() -> None:
    table = problem(replacement=True)
    firsts = []
    for seed in range(20):
        sweep = Sweep(table, mild, np.random.default_rng(seed))
        sweep.train(sweep.add(table.points[5]), SEEDS)
        firsts.append(len(set(sweep.scores[0])))
    assert min(firsts) < SEEDS


@pytest.mark.parametrize("method", ["random", "tpe", "cmaes", "nsga2", "gp"])
def test_a_search_stays_in_the_table_and_tries_none_twice(method: str) -> None:
    table = problem()
    sweep = searched(table, mild, method, 100, 2, seed=0)
    assert sorted(point["rate"] for point in sweep.points) == [i / 10 for i in range(9)]
    assert all(point in table.points for point in sweep.points)


@pytest.mark.parametrize("method", ["tpe", "cmaes"])
def test_a_search_learns_from_the_table(method: str) -> None:
    """Reward and cost rise with the rate, nearly all of which is beyond the limit."""
    table = table_problem(made_up(100), "flp", ENTRIES, False)
    wide = replace(table, space=SearchSpace("wide", [replace(ENTRIES[0], high=9.9), ENTRIES[1]]))

    def rates(name: str) -> float:
        found = [searched(wide, mild, name, 40, 1, seed).points[20:] for seed in range(6)]
        return float(np.mean([[point["rate"] for point in points] for points in found]))

    assert rates(method) < 0.8 * rates("random")


def test_generations_follow_from_the_table() -> None:
    table = table_problem(made_up(60), "flp", ENTRIES, False)
    evolved, drawn = (searched(table, mild, name, 40, 1, 0).points for name in ("nsga2", "random"))
    # Ten make the first generation, and four more are open when it is complete.
    assert evolved[:10] == drawn[:10]
    assert evolved[14:] != drawn[14:]


@pytest.mark.parametrize("strategy", ["budget", "tpe-race", "cmaes-bound"])
def test_a_choice_is_one_of_the_table(strategy: str) -> None:
    table = problem()
    truths = [table.truth(point) for point in table.points]
    assert STRATEGIES[strategy](table, mild, 24, 0).truth in truths


def test_a_configuration_that_lacks_a_seed_is_left_out() -> None:
    table = made_up(3)
    table.loc[1, "normalized_cost"] = np.nan
    table = table.drop(index=SEEDS)
    assert set(whole_rows(table, SEEDS)["config_id"]) == {"c2"}


def test_a_method_that_the_table_lacks_is_named() -> None:
    with pytest.raises(InvalidInput, match="r2pac"):
        table_problem(made_up(), "r2pac", ENTRIES, False)


@pytest.mark.parametrize("method", SWEEPS)
def test_the_sweep_that_makes_the_table_trains_as_much_as_it_should(method: str) -> None:
    spec = SweepSpec.load(SWEEPS[method])
    assert (spec.search.num_configs or 0) * len(spec.seeds) >= 1000
    assert spec.evaluate.episodes == 100
    assert len(searched_entries(method)) >= 6


def test_what_a_store_holds_becomes_a_table_that_is_replayed(tmp_path: Path) -> None:
    data, storage, path = tmp_path / "data.hdf5", tmp_path / "store", tmp_path / "table.parquet"
    collect_dataset(get_task(TASK), episodes=3, path=data)
    short = ["search.num_configs=3", "steps=4", "evaluate.episodes=1", f"dataset={data}"]
    small = ["fixed.hidden_dim=8", "fixed.batch_size=4"]
    spec = SweepSpec.load(SWEEPS["flp"], [*short, *small])
    train_sweep(spec, storage, {TASK: read_dataset(data, TASK)})
    (said,) = export(str(storage), path)
    assert (said["method"], said["configurations"], said["left out"]) == ("flp", 3, 97)
    assert parquet.read_schema(path).metadata[b"made by"].decode() == MADE_BY
    table = pandas.read_parquet(path)
    assert len(table) == 3 * 10
    (replay,) = replayed([], False, path).values()
    assert replay.size == 3
    finals = table.groupby("config_id")[["normalized_reward", "normalized_cost"]].mean()
    found = sorted(replay.truth(point) for point in replay.points)
    assert found == pytest.approx(sorted(map(tuple, finals.to_numpy())))
    assert STRATEGIES["budget"](replay, mild, 35, 0).truth in found


def test_a_store_without_these_sweeps_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no finished runs"):
        export(str(tmp_path), tmp_path / "table.parquet")


@pytest.mark.skipif(not TABLE.exists(), reason="the table of real runs is not made yet")
def test_the_table_is_small_and_whole() -> None:
    table = pandas.read_parquet(TABLE)
    assert TABLE.stat().st_size < 2e6
    counts = table.groupby(["algorithm", "config_id"])["seed"].nunique()
    assert set(counts) == {10}
