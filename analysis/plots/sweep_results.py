"""What pictures of a sweep are drawn from: its configurations, curves and choice, as tables."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas

from safesweep.analysis.selection.choice import Choice
from safesweep.analysis.selection.front import non_dominated
from safesweep.analysis.store.reader import ResultStore, hyperparameter_columns, with_incomplete
from safesweep.trainables.store.reader import HYPERPARAMETER_PREFIX, as_list
from safesweep.trainables.store.scores import at_cost_limit, within_limit

GROUP = ["algorithm", "task", "policy"]
"""What is compared within: configurations of one method and policy on one task."""
KEYS = [*GROUP, "config_id"]

_CURVE_COLUMNS = (
    "run_id", *KEYS, "seed", "step", "normalized_reward", "normalized_cost", "cost_return_mean",
    "cost_limit",
)  # fmt: skip

_OVER_SEEDS = {
    "seeds": ("seed", "nunique"),
    "reward": ("normalized_reward", "mean"),
    "reward_deviation": ("normalized_reward", "std"),
    "cost": ("normalized_cost", "mean"),
    "cost_deviation": ("normalized_cost", "std"),
}


@dataclass(frozen=True)
class SweepResults:
    """A sweep as pictures show it; costs are at the limit by which the choice was made.

    Attributes:
        runs: `ResultStore.runs`, where those that lack rows are `incomplete`.
        evaluations: of each run the evaluation that the choice judged.
        configurations: see `summarize`; also `whole` (every run of it completed), `safe` (its mean
            normalised cost is at most 1), `front` (whole, and no other one of its group has more
            reward at no more cost) and `chosen`.
        curves: columns `KEYS`, `step`, `seeds`, and mean and standard deviation over seeds as
            `reward, reward_deviation, cost, cost_deviation`.
    """

    sweep: str
    choice: Choice
    runs: pandas.DataFrame
    evaluations: pandas.DataFrame
    configurations: pandas.DataFrame
    curves: pandas.DataFrame

    @property
    def hyperparameters(self) -> list[str]:
        """Names of those that vary within some method, task and policy."""
        return sorted({name for _, rows in self.groups() for name in varying(rows)})

    def groups(self) -> list[tuple[tuple[str, str, str], pandas.DataFrame]]:
        """The configurations of each method, task and policy."""
        return [
            ((str(key[0]), str(key[1]), str(key[2])), rows)
            for key, rows in self.configurations.groupby(GROUP, sort=True, dropna=False)
        ]

    def _repr_html_(self) -> str:
        table = self.configurations.sort_values(
            ["task", "algorithm", "chosen", "reward"], ascending=[True, True, False, False]
        )
        shown: str = table.head(20).to_html(index=False, float_format="{:.3g}".format)
        return f"<h4>{html.escape(self.sweep)}</h4>{shown}"


def read_results(store: ResultStore, sweep: str | Sequence[str], choice: Choice) -> SweepResults:
    """Everything that pictures of a sweep, or several, need, of the methods and tasks of a choice.

    Raises:
        InvalidInput: the store does not know the sweep.
    """
    runs = with_incomplete(store.runs(sweep=sweep), choice.incomplete)
    evaluations = choice.evaluations
    if len(evaluations):
        present = evaluations[["algorithm", "task"]].drop_duplicates()
        curves = store.evaluations(
            columns=list(_CURVE_COLUMNS),
            sweep=sweep,
            algorithm=sorted(present["algorithm"].unique()),
            task=sorted(present["task"].unique()),
        )
    else:
        curves = store.evaluations(columns=list(_CURVE_COLUMNS), sweep=sweep).iloc[:0]
    limit = choice.options.get("cost_limit")
    if limit is not None and len(curves):
        curves = at_cost_limit(curves, limit, keep_own=True)
    return SweepResults(
        " + ".join(as_list(sweep)),
        choice,
        runs,
        evaluations,
        _with_marks(summarize(evaluations, runs), runs, choice.chosen),
        mean_curves(curves),
    )


def summarize(evaluations: pandas.DataFrame, runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row a configuration and policy: `KEYS`, `seeds`, means and standard deviations over
    seeds as `reward, reward_deviation, cost, cost_deviation`, and `hp_<name>` of those
    hyperparameters that vary; per task the cheaper first."""
    rows = evaluations.groupby(KEYS, sort=False).agg(**_OVER_SEEDS).reset_index()
    names = [name for name in hyperparameter_columns(runs) if runs[name].nunique(dropna=False) > 1]
    values = runs.drop_duplicates("config_id").set_index("config_id")[names]
    joined = rows.join(values, on="config_id")
    return joined.sort_values(["task", "algorithm", "policy", "cost"], ignore_index=True)


def rows_of(frame: pandas.DataFrame, key: tuple[str, str, str]) -> pandas.DataFrame:
    """The rows of one method, task and policy."""
    wanted = np.logical_and.reduce(
        [frame[name].to_numpy() == value for name, value in zip(GROUP, key, strict=True)]
    )
    rows: pandas.DataFrame = frame[wanted]
    return rows


def mean_curves(evaluations: pandas.DataFrame) -> pandas.DataFrame:
    """Means and deviations over seeds at each step; see `SweepResults.curves`."""
    return evaluations.groupby([*KEYS, "step"], sort=True).agg(**_OVER_SEEDS).reset_index()


def _with_marks(
    configurations: pandas.DataFrame, runs: pandas.DataFrame, chosen: pandas.DataFrame
) -> pandas.DataFrame:
    completed = (runs["status"] == "completed").groupby(runs["config_id"]).all()
    picked = set(_keys(chosen[chosen["config_id"].notna()]))
    marked = configurations.assign(
        whole=configurations["config_id"].map(completed).fillna(False).astype(bool),
        safe=within_limit(configurations["cost"].to_numpy(np.float64)),
        chosen=[key in picked for key in _keys(configurations)],
        front=False,
    )
    for _, rows in marked[marked["whole"]].groupby(GROUP, dropna=False):
        scores = (rows[name].to_numpy(np.float64) for name in ("reward", "cost"))
        marked.loc[rows.index[non_dominated(*scores)], "front"] = True
    return marked


def _keys(frame: pandas.DataFrame) -> list[tuple[str, ...]]:
    names = [name for name in KEYS if name in frame]
    return [tuple(map(str, key)) for key in frame[names].itertuples(index=False, name=None)]


def varying(configurations: pandas.DataFrame) -> list[str]:
    """Names of the hyperparameters that take several values among these configurations."""
    return [
        name.removeprefix(HYPERPARAMETER_PREFIX) for name in hyperparameter_columns(configurations)
    ]
