"""A tabular benchmark of safe hyperparameter search: runs that were trained, and their replay.

    safesweep run tests/benchmarks/boat_r2pac.yaml --storage results/boat-runs
    safesweep run tests/benchmarks/boat_flp.yaml --storage results/boat-runs
    python -m tests.benchmarks.real_runs export --storage results/boat-runs

trains R2PAC and constrained FLP on the coarse boat (a command that was interrupted is run again to
resume), and writes what their runs scored at the end to `boat_runs.parquet`: a row for each
configuration and seed, with the method, what it searched, the normalised reward and cost, 1 for the
limit. Configurations that lack a seed are left out, and counted.

    python -m tests.benchmarks.real_runs replay [--method r2pac] [--with-replacement]
        [--strategy budget] [--runs 120] [--sweeps 100] [--json FILE] [--read FILE] [--figure FILE]

replays it with the strategies of `tests.benchmarks.fewest_runs`, which says what is printed. A
strategy trains the configuration of the table that is nearest to what it asks for, by the distance
that the estimates go by (`UnitSpace.features`): a search the nearest one that it has not tried, a
budget the nearest one of all, again if need be. A search takes what came of it for what came of its
suggestion; a budget knows what was trained. The mean of all seeds of a configuration counts as the
truth, so the best safe configuration is known.

A sweep draws the seeds of a configuration from the table without replacement, in an order of its
own, and with replacement once it has had all. So whoever gives a configuration ten seeds knows its
truth, which flatters strategies with ten fixed seeds; with `--with-replacement` every seed is drawn
from all, so that ten say of the truth what ten fresh ones would.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from safesweep.search_spaces.space import Hyperparameter, SearchSpace, Value
from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX
from tests.benchmarks.fewest_runs import (
    FloatArray,
    Noise,
    Point,
    Problem,
    Seeds,
    Truth,
    add_options,
    compare,
    mild,
)
from tests.benchmarks.measurement import print_table

HERE = Path(__file__).parent
TABLE = HERE / "boat_runs.parquet"
SWEEPS = {"r2pac": HERE / "boat_r2pac.yaml", "flp": HERE / "boat_flp.yaml"}
SCORES = ("normalized_reward", "normalized_cost")
MODULE = "python -m tests.benchmarks.real_runs"
MADE_BY = "".join(
    f"{command}\n"
    for command in (
        *(
            f"safesweep run tests/benchmarks/{file.name} --storage STORE"
            for file in SWEEPS.values()
        ),
        f"{MODULE} export --storage STORE",
    )
)
"""In the table's metadata."""


@dataclass(frozen=True)
class TableProblem(Problem):
    """Configurations that were trained, `points`, and their seeds' rewards and costs [n, s]."""

    points: tuple[Point, ...]
    rewards: FloatArray
    costs: FloatArray
    replacement: bool = False

    @property
    def size(self) -> float:
        return len(self.points)

    @cached_property
    def best(self) -> float:
        """The highest mean reward of a configuration whose mean cost is within the limit."""
        safe = self.costs.mean(axis=1) <= 1
        return float(np.where(safe, self.rewards.mean(axis=1), -np.inf).max())

    def nearest(self, point: Point, taken: Sequence[Point] = ()) -> Point | None:
        away = self._features - self.unit.features(self.unit.position(point)[None])
        squares = (away**2).sum(axis=1)
        squares[[self._index[_key(other)] for other in taken]] = np.inf
        place = int(squares.argmin())
        return self.points[place] if np.isfinite(squares[place]) else None

    def seeds(self, noise: Noise, generator: np.random.Generator) -> Seeds:
        count = self.rewards.shape[1]
        orders = generator.permuted(np.tile(np.arange(count), (len(self.points), 1)), axis=1)

        def seed(point: Point, before: int) -> Truth:
            place = self._index[_key(point)]
            again = self.replacement or before >= count
            drawn = generator.integers(count) if again else orders[place, before]
            return float(self.rewards[place, drawn]), float(self.costs[place, drawn])

        return seed

    @cached_property
    def _features(self) -> FloatArray:
        return self.unit.features(np.array([self.unit.position(point) for point in self.points]))

    @cached_property
    def _index(self) -> dict[tuple[object, ...], int]:
        return {_key(point): place for place, point in enumerate(self.points)}


def _key(point: Point) -> tuple[object, ...]:
    return tuple(sorted(point.items()))


def table_problem(
    table: pandas.DataFrame, method: str, entries: Sequence[Hyperparameter], replacement: bool
) -> TableProblem:
    """The problem of one method's rows of a table.

    Args:
        entries: what was searched, each a column.
        replacement: whether every seed is drawn from all.
    """
    rows = table[table["algorithm"] == method].sort_values(["config_id", "seed"])
    groups = [group for _, group in rows.groupby("config_id", sort=True)]
    if not groups:
        raise InvalidInput(f"method: the table has no runs of {method!r}")
    rewards, costs = (np.array([group[score] for group in groups], np.float64) for score in SCORES)
    points = tuple(
        {entry.name: _value(entry, group[entry.name].iloc[0]) for entry in entries}
        for group in groups
    )
    means = {
        _key(point): (float(reward), float(cost))
        for point, reward, cost in zip(
            points, rewards.mean(axis=1), costs.mean(axis=1), strict=True
        )
    }
    return TableProblem(
        SearchSpace(method, entries),
        lambda point: means[_key(point)],
        points,
        rewards,
        costs,
        replacement,
    )


def _value(entry: Hyperparameter, stored: Any) -> Value:
    """A value as the space has it: columns of two methods hold floats where there are gaps."""
    if entry.choices:
        return entry.choices[entry.choices.index(stored)]
    return int(stored) if entry.integer else float(stored)


def searched_entries(method: str) -> list[Hyperparameter]:
    """What the sweep of a method searched."""
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    return list(SweepSpec.load(SWEEPS[method]).space_for(method).entries.values())


def whole_rows(finals: pandas.DataFrame, seeds: int) -> pandas.DataFrame:
    """The rows of the configurations that have so many finite seeds."""
    finite = finals[np.isfinite(finals[list(SCORES)]).all(axis=1)]
    counts = finite.groupby(["algorithm", "config_id"])["seed"].transform("nunique")
    return pandas.DataFrame(finite[counts == seeds])


def export(storage: str, path: Path) -> list[dict[str, object]]:
    """Write the table of what a store holds of the sweeps, and say of each method what is in it."""
    import pyarrow
    from pyarrow import parquet

    from safesweep.analysis.store.reader import ResultStore
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    store, tables, said = ResultStore(storage), [], []
    for method, file in SWEEPS.items():
        spec = SweepSpec.load(file)
        if spec.name not in set(store.sweeps()["sweep"]):
            print(f"{method}: the store has no sweep {spec.name!r}", file=sys.stderr)
            continue
        finals = store.finals(sweep=spec.name).rename(
            columns=lambda name: name.removeprefix(HYPERPARAMETER_PREFIX)
        )
        whole = whole_rows(finals[finals["step"] == finals["step"].max()], len(spec.seeds))
        count = int(whole["config_id"].nunique())
        if not count:
            print(f"{method}: no configuration has all of its seeds yet", file=sys.stderr)
            continue
        entries = searched_entries(method)
        names = [entry.name for entry in entries]
        tables.append(whole[["algorithm", "config_id", "seed", *SCORES, *names]])
        said.append(
            {
                "method": method,
                "configurations": count,
                "left out": (spec.search.num_configs or count) - count,
                **summary(table_problem(whole, method, entries, False)),
            }
        )
    if not tables:
        raise InvalidInput(f"storage: {storage!r} has no finished runs of these sweeps")
    rows = pandas.concat(tables, ignore_index=True)
    rows = rows.sort_values(["algorithm", "config_id", "seed"], ignore_index=True)
    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({"made by": MADE_BY})
    parquet.write_table(table, path, compression="zstd")
    return said


def summary(problem: TableProblem) -> dict[str, object]:
    """What a table is like: the share of safe configurations, the best safe reward, and how seeds
    vary: medians over configurations within and near the limit (0.2 to 3 times)."""
    costs = problem.costs.mean(axis=1)
    near = (costs > 0.2) & (costs < 3)
    variations = problem.costs.std(axis=1, ddof=1)[near] / costs[near]
    spreads = problem.rewards.std(axis=1, ddof=1)
    return {
        "seeds": problem.costs.shape[1],
        "truly safe": f"{np.mean(costs <= 1):.0%}",
        "best safe reward": f"{problem.best:.3f}",
        "best reward": f"{problem.rewards.mean(axis=1).max():.3f}",
        "reward deviation of a seed": f"{np.median(spreads):.3f}",
        "cost variation of a seed": f"{np.median(variations):.2f}" if near.any() else "",
        "seeds without a cost": f"{np.mean(problem.costs <= 0):.0%}",
    }


def replayed(
    methods: Sequence[str], replacement: bool, path: Path = TABLE
) -> Mapping[str, TableProblem]:
    """The problem of each method of the table."""
    table = pandas.read_parquet(path)
    present = set(table["algorithm"])
    return {
        method: table_problem(table, method, searched_entries(method), replacement)
        for method in methods or [name for name in SWEEPS if name in present]
    }


def main() -> None:
    """Write the table, or replay it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("export", help="write the table of a store's runs")
    writing.add_argument("--storage", required=True)
    writing.add_argument("--table", type=Path, default=TABLE)
    replaying = commands.add_parser("replay", help="simulate sweeps on the table")
    replaying.add_argument("--table", type=Path, default=TABLE)
    replaying.add_argument("--method", choices=SWEEPS, action="append")
    replaying.add_argument("--with-replacement", action="store_true")
    add_options(replaying)
    arguments = parser.parse_args()
    try:
        if arguments.command == "export":
            print_table(export(arguments.storage, arguments.table))
            return
        problems = (
            {}
            if arguments.read
            else replayed(arguments.method, arguments.with_replacement, arguments.table)
        )
        # The seeds are the table's own: no model of their noise is asked for.
        cells = [(method, problem, "", mild) for method, problem in problems.items()]
        compare(arguments, cells, f"{MODULE} replay")
    except InvalidInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
