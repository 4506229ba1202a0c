"""Which rows of a store count: those of the runs that `runs` speaks of, and of each run once.

A trial writes its rows of `runs` last, so that one which was killed in between leaves rows of which
`runs` does not speak; and where two drivers came to train the same run, or parts were copied by
hand, a run may stand in several trials. Whatever lies on the disk, a reader counts the rows of
known runs alone, each from one trial.

What nearly always holds is seen from names: every trial in a part is known, and none of its runs
stands elsewhere. Only other parts are looked into.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas
import pyarrow as pa

from safesweep.trainables.store.completeness import Part

PLACE = "__filename"
"""The column in which Arrow says from which part a row is."""

ROW_KEYS: Mapping[str, tuple[str, ...]] = {
    "runs": ("run_id",),
    "evaluations": ("run_id", "step", "policy"),
    "episodes": ("run_id", "step", "policy", "episode"),
    "metrics": ("run_id", "step", "name"),
}
"""What a row of a table is of: it stands there once."""

OWNER_COLUMNS = ("run_id", "config_id", "trial_id", "sweep", "status", "steps")
"""What of `runs` has to be known."""

Trial = tuple[str, str]
"""A sweep that trained, and a trial of it."""

_TRIAL_ID = re.compile("[0-9a-f]{12}")
_RANKS = {"completed": 0, "stopped": 1, "diverged": 2}


@dataclass(frozen=True)
class RunOwners:
    """The trials of a store, and whose rows of a run count.

    Attributes:
        runs: `OWNER_COLUMNS` and `PLACE` of every row of `runs`.
    """

    runs: pandas.DataFrame

    @cached_property
    def trials(self) -> frozenset[Trial]:
        """Those of which there are rows in `runs`, by their ids and by their parts' names."""
        names = [_name(path) for path in self.runs[PLACE]]
        return frozenset(self._trial_of_rows) | frozenset(
            zip(self.runs["sweep"], names, strict=True)
        )

    @cached_property
    def _trial_of_rows(self) -> list[Trial]:
        columns = (self.runs[name] for name in ("sweep", "trial_id", PLACE))
        return [
            (sweep, trial if isinstance(trial, str) else _name(path))
            for sweep, trial, path in zip(*columns, strict=True)
        ]

    @cached_property
    def _doubled(self) -> pandas.DataFrame:
        """The rows of runs that stand in several, the one that counts first."""
        trials = pandas.Series(self._trial_of_rows, index=self.runs.index, dtype=object)
        rows = self.runs.assign(trial=trials)
        rows = rows[rows["run_id"].duplicated(keep=False)]
        rank = rows["status"].map(_RANKS).fillna(len(_RANKS))
        steps = -rows["steps"].fillna(0)
        rows = rows.assign(rank=rank, steps=steps)
        return rows.sort_values(["run_id", "rank", "steps", "trial", PLACE])

    @cached_property
    def winners(self) -> dict[str, Trial]:
        """For each run that stands in several trials the one whose rows count: that in which it
        got furthest, and of equals the first by name."""
        first = self._doubled.drop_duplicates("run_id")
        return dict(zip(first["run_id"], first["trial"], strict=True))

    @cached_property
    def _affected(self) -> frozenset[Trial]:
        rows = self._doubled
        names = [_name(path) for path in rows[PLACE]]
        return frozenset(rows["trial"]) | frozenset(zip(rows["sweep"], names, strict=True))

    @property
    def doubled_runs(self) -> pandas.DataFrame:
        """`run_id, sweep, trial_id` of runs that stand in several trials; which one `counts`."""
        rows = self._doubled
        return rows[["run_id", "sweep"]].assign(
            trial_id=[trial for _, trial in rows["trial"]], counts=~rows["run_id"].duplicated()
        )

    @property
    def counted_runs(self) -> pandas.DataFrame:
        """The rows of `runs`, each run once."""
        if not len(self._doubled):
            return self.runs
        return self.runs.drop(index=self._doubled.index[self._doubled["run_id"].duplicated()])

    def counts_whole(self, part: Part, trials: Sequence[str]) -> bool:
        """Whether every row of a part counts.

        Args:
            trials: those in it, where it is compacted.
        """
        keys = [(part.sweep, trial) for trial in (trials if part.compacted else [part.name])]
        return self.trials.issuperset(keys) and self._affected.isdisjoint(keys)

    def counted(
        self, table: str, rows: pa.Table, trials: Mapping[str, Sequence[str]]
    ) -> "pandas.Series[bool]":
        """Which rows of some parts count.

        Args:
            rows: with `PLACE`, and what `ROW_KEYS` says.
            trials: by the path of a part, those in it.
        """
        if table == "hyperparameters":
            found = rows.select([PLACE, "sweep", "config_id"]).to_pandas()
            counted: pandas.Series[bool] = found["config_id"].isin(self.runs["config_id"])
            counted &= ~self._left_behind(found)
            return counted
        keys = list(ROW_KEYS[table])
        more = ["trial_id"] if table == "runs" else []
        found = rows.select([PLACE, "sweep", *keys, *more]).to_pandas()
        counted = found["run_id"].isin(self.runs["run_id"])
        counted &= ~self._left_behind(found)
        twofold = found[found["run_id"].isin(self.winners)]
        columns = [twofold[name] for name in (PLACE, "sweep", "run_id")]
        own = twofold["trial_id"] if more else [None] * len(twofold)
        chosen: dict[tuple[str, str, str, object], bool] = {}
        verdicts = []
        for key in zip(*columns, own, strict=True):
            if key not in chosen:
                path, sweep, run, trial = key
                there = [trial] if isinstance(trial, str) else trials.get(path) or [_name(path)]
                chosen[key] = self.winners[run] in [(sweep, name) for name in there]
            verdicts.append(chosen[key])
        counted[twofold.index] &= pandas.Series(verdicts, index=twofold.index, dtype=bool)
        repeated = found.loc[counted, keys].duplicated()
        counted[repeated.index[repeated]] = False
        return counted

    def _left_behind(self, rows: pandas.DataFrame) -> "pandas.Series[bool]":
        """Rows in parts of trials that have none in `runs`: killed in between. Parts that others
        made have other names, and are judged by their runs alone."""
        known = {
            path: _TRIAL_ID.fullmatch(_name(path)) is None or (sweep, _name(path)) in self.trials
            for path, sweep in set(zip(rows[PLACE], rows["sweep"], strict=True))
        }
        left = [not known[path] for path in rows[PLACE]]
        return pandas.Series(left, index=rows.index, dtype=bool)


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1].removesuffix(".parquet")
