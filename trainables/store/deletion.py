"""Removing the runs of sweeps that were deleted, but for those that other sweeps ask for.

A run lies in the folder of the sweep that trained it (`runs/sweep=first`), and any sweep may ask
for it (`sweeps.run_ids`). So deleting a sweep removes its row, marks its folder as that of a
deleted sweep (`trainables.store.labels`), and then removes from it what nobody asks for: now, and
once more whenever another sweep is deleted. What others ask for stays where it is, and is read as
before.

Every step may be the last one before a kill. All of them follow from what the store holds, but for
checkpoints and logs of trials whose rows are gone already: these trials are named beforehand, by
who keeps the journal (`sweeps.upkeep`).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import pandas

from safesweep.trainables.store.labels import Labels, read_labels, write_labels
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.schema import TABLES
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path, compactions_path

BESIDE_RUNS = ("confirmations", "measurements")
"""Tables whose parts are no trial's, with a run in each row."""


@dataclass(frozen=True)
class Leftovers:
    """What lies in the folders of deleted sweeps.

    Attributes:
        runs: `run_id, trial_id, sweep, compacted` of each run, and `kept`: another sweep asks for
            it.
        sweeps: the deleted sweeps.
    """

    runs: pandas.DataFrame
    sweeps: tuple[str, ...]

    @property
    def touched_trials(self) -> list[tuple[str, str]]:
        """Folder and id of the trials of which something is not kept."""
        rest = self.runs[~self.runs["kept"]].drop_duplicates(["sweep", "trial_id"])
        return [
            (str(sweep), str(trial))
            for sweep, trial in zip(rest["sweep"], rest["trial_id"], strict=True)
        ]


def leftovers(store: StoreReader, deleted: Collection[str]) -> Leftovers:
    """What is in the folders of deleted sweeps, and whether another sweep asks for it.

    Args:
        deleted: sweeps that count as deleted beside those that the store marks so.
    """
    plans = store.sweeps(["sweep", "run_ids"])
    plans = plans[~plans["sweep"].isin(list(deleted))]
    marked = {name for name, labels in read_labels(store).items() if labels.deleted}
    gone = sorted({*deleted, *marked.difference(plans["sweep"])})
    wanted = {run for run_ids in plans["run_ids"] for run in run_ids}
    runs = store.places_of_runs()
    runs = runs[runs["sweep"].isin(gone)].reset_index(drop=True)
    return Leftovers(runs.assign(kept=runs["run_id"].isin(wanted)), tuple(gone))


def mark_deleted(storage: str, sweep: str) -> None:
    """Remove a sweep's row, so that it is no more; first its folder is marked."""
    writer = ResultWriter(storage, sweep)
    write_labels(writer, Labels(deleted=True))
    writer.remove_table("sweeps")


def remove_leftovers(storage: str, found: Leftovers, beforehand: Iterable[tuple[str, str]]) -> None:
    """Remove from the folders of deleted sweeps what nobody asks for.

    Args:
        found: what there is (`leftovers`).
        beforehand: folder and id of trials of which an earlier attempt, which was interrupted, may
            have removed something.
    """
    earlier = list(beforehand)
    touched = sorted({*found.touched_trials, *earlier})
    for sweep in found.sweeps:
        writer, rows = ResultWriter(storage, sweep), found.runs[found.runs["sweep"] == sweep]
        kept, removed = rows[rows["kept"]], rows[~rows["kept"]]
        merged = removed.loc[removed["compacted"], "run_id"]
        if len(merged) or (earlier and rows["compacted"].any()):
            writer.remove_compacted(run_ids=merged)
        with_rest = set(kept["trial_id"])
        partial = set(kept.loc[~kept["compacted"], "trial_id"])
        own = [trial for folder, trial in touched if folder == sweep]
        for trial in own:
            if trial in partial:
                writer.remove_runs(trial, removed.loc[removed["trial_id"] == trial, "run_id"])
        writer.remove_trials(trial for trial in own if trial not in with_rest)
        writer.remove_orphans()
        writer.remove_stray_compacted()
        for table in BESIDE_RUNS:
            writer.remove_rows(table, kept["run_id"])
        if kept.empty:
            for table in TABLES:
                writer.remove_table(table)
            writer.remove(compactions_path(sweep))
            writer.remove_empty_folders()


def droppable_checkpoints(store: StoreReader, sweeps: Collection[str]) -> list[str]:
    """The trials that some sweeps trained, and of which no other sweep asks for a run."""
    plans = store.sweeps(["sweep", "run_ids"])
    others = plans.loc[~plans["sweep"].isin(list(sweeps)), "run_ids"]
    wanted = {run for run_ids in others for run in run_ids}
    runs = store.places_of_runs()
    asked = runs["run_id"].isin(wanted).groupby(runs["trial_id"]).any()
    own = runs.loc[runs["sweep"].isin(list(sweeps)), "trial_id"].unique()
    return sorted(str(trial) for trial in own if not asked[trial])


def drop_checkpoint(writer: ResultWriter, trial: str) -> bool:
    """Remove the checkpoint of a trial, whose rows stay; whether there was one."""
    return writer.remove(checkpoint_path(trial))
