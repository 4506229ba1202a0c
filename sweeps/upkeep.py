"""Deleting and archiving sweeps of a store.

What is to be done stands in a journal beside the tables before anything is done, and until all of
it is: whatever is interrupted, the next delete, archive or launch of a sweep finishes it first. One
process at a time changes a store in this way, and none while a sweep is being run: its driver
counts on what it has found in the store.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from safesweep.search_spaces.validation import InvalidInput, listed, without_secrets
from safesweep.trainables.store import deletion
from safesweep.trainables.store.labels import Labels, read_labels, write_labels
from safesweep.trainables.store.leases import Holder, Lease, exclusive
from safesweep.trainables.store.planned import planned_path
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.writer import ResultWriter

CHANGES = ".changes"
"""What stands for the store in place of a sweep's name, in the lease of whoever changes it."""
JOURNAL = "journal/change.json"


@dataclass(frozen=True)
class Change:
    """What is to be done with sweeps, as the journal says it.

    Attributes:
        action: delete, archive, or restore (bring back what is archived).
        sweeps: their names.
        drop_checkpoints: of what is archived, where no other sweep asks for the runs.
        trials: folder and id of the trials of which runs are removed.
    """

    action: Literal["delete", "archive", "restore"]
    sweeps: tuple[str, ...]
    drop_checkpoints: bool = False
    trials: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DeletedSweep:
    """What deleting a sweep does.

    Attributes:
        sweep: its name.
        runs: that are removed.
        kept: runs that stay, since other sweeps ask for them.
    """

    sweep: str
    runs: int
    kept: int


def plan_deletion(storage: str, sweeps: Sequence[str]) -> list[DeletedSweep]:
    """What `delete_sweeps` would do, a row a sweep; nothing is changed.

    Raises:
        InvalidInput: an unknown sweep.
        StoreProblem: the store cannot be read.
    """
    store, names = StoreReader(storage), list(dict.fromkeys(sweeps))
    _require_known(store, names)
    found = deletion.leftovers(store, names)
    planned = store.sweeps(["sweep", "run_ids"])
    members = {
        str(sweep): set(run_ids)
        for sweep, run_ids in zip(planned["sweep"], planned["run_ids"], strict=True)
    }
    known = set(store.places_of_runs()["run_id"])
    rows = []
    for name in names:
        of_folder = found.runs[found.runs["sweep"] == name]
        removed = set(of_folder.loc[~of_folder["kept"], "run_id"])
        asked = {*members.get(name, ()), *of_folder["run_id"]}
        # What it asked for of a sweep that was deleted earlier.
        left = found.runs[found.runs["run_id"].isin(asked) & ~found.runs["sweep"].isin(names)]
        removed |= set(left.loc[~left["kept"], "run_id"])
        rows.append(DeletedSweep(name, len(removed), len((asked & known) - removed)))
    return rows


def delete_sweeps(storage: str, sweeps: Sequence[str]) -> list[DeletedSweep]:
    """Remove sweeps and their runs from a store; runs that other sweeps ask for stay.

    Gone are a run's rows of every table, its checkpoint and its log. What stays is read as before,
    as runs of the sweeps that ask for it.

    Returns:
        What was done, a row a sweep.

    Raises:
        InvalidInput: an unknown sweep, or any sweep of the store is being run: its driver may count
            on the runs.
        StoreProblem: the store cannot be read or written. What is missing then, the next call does.
    """
    _require_known(StoreReader(storage), sweeps)
    with _alone(storage) as writer:
        rows = plan_deletion(storage, sweeps)
        _require_idle(writer)
        finished = _finish(writer)
        gone = finished.sweeps if finished is not None and finished.action == "delete" else ()
        names = tuple(row.sweep for row in rows if row.sweep not in gone)
        if names:
            _begin(writer, Change("delete", names))
    return rows


def archive_sweeps(
    storage: str, sweeps: Sequence[str], *, restore: bool = False, drop_checkpoints: bool = False
) -> int:
    """Have lists leave out sweeps, or with `restore` show them again. Their runs stay.

    Args:
        drop_checkpoints: remove the checkpoints of their runs, which take most of a store's space
            and without which a run can be neither continued, confirmed nor exported. Those of
            runs that other sweeps ask for stay.

    Returns:
        How many checkpoints were dropped.

    Raises:
        InvalidInput: an unknown sweep or one that is being run; to drop checkpoints, any of the
            store that is.
        StoreProblem: the store cannot be read or written. What is missing then, the next call does.
    """
    if restore and drop_checkpoints:
        raise InvalidInput(
            "drop_checkpoints: goes with archiving; what was dropped does not return"
        )
    StoreReader(storage).require_sweeps(sweeps)
    names = tuple(dict.fromkeys(sweeps))
    with _alone(storage) as writer:
        _finish(writer)
        StoreReader(storage).require_sweeps(names)
        _require_idle(writer, None if drop_checkpoints else names)
        action: Literal["archive", "restore"] = "restore" if restore else "archive"
        return _begin(writer, Change(action, names, drop_checkpoints))


def finish_interrupted(storage: str) -> str | None:
    """Finish what an interrupted delete or archive has left, before a sweep is run; what that was,
    in one line, or None where there was nothing.

    Raises:
        InvalidInput: another process deletes or archives sweeps at this moment.
        StoreProblem: the store cannot be read or written.
    """
    writer = ResultWriter(storage, CHANGES)
    for driver in StoreReader(storage).drivers():
        if driver.sweep == CHANGES:
            raise InvalidInput(_refusal(driver))
    if writer.read_bytes(JOURNAL) is None:
        return None
    with _alone(storage):
        change = _finish(writer)
    if change is None:
        return None
    return f"finished an interrupted {change.action} of {listed(change.sweeps)}"


def forget_deletion(writer: ResultWriter) -> None:
    """A sweep that was deleted, and of whose folder others ask for something, is run again."""
    labels = read_labels(StoreReader(writer.storage)).get(writer.sweep, Labels())
    if labels.deleted:
        write_labels(writer, replace(labels, deleted=False))


@contextmanager
def _alone(storage: str) -> Iterator[ResultWriter]:
    """Keep other processes from changing the store in this way, and sweeps from being started."""
    writer = ResultWriter(storage, CHANGES)
    lease, taken = Lease(writer), exclusive(CHANGES)
    lease.acquire()
    try:
        holders = lease.claim(taken, [taken])
        if holders:
            raise InvalidInput(_refusal(holders[taken]))
        yield writer
    finally:
        lease.release()


def _require_idle(writer: ResultWriter, sweeps: Sequence[str] | None = None) -> None:
    """Raise an InvalidInput where a driver runs one of some sweeps, or any of the store."""
    for driver in StoreReader(writer.storage).drivers():
        if driver.sweep != CHANGES and (sweeps is None or driver.sweep in sweeps):
            raise InvalidInput(
                f"sweep: {driver.sweep!r} is being run by process {driver.process} on "
                f"{driver.host} since {driver.since}; wait until that has ended, or end it"
            )


def _refusal(holder: Holder) -> str:
    return (
        f"storage: process {holder.process} on {holder.host} deletes or archives sweeps of it "
        f"since {holder.since}; wait until that has ended, or end it"
    )


def _require_known(store: StoreReader, sweeps: Sequence[str]) -> None:
    """Raise an InvalidInput where the store does not know a sweep, which may be half deleted."""
    content = store.file(JOURNAL)
    pending = None if content is None else _read_journal(store.uri, content)
    half = pending.sweeps if pending is not None and pending.action == "delete" else ()
    store.require_sweeps([sweep for sweep in sweeps if sweep not in half])


def _begin(writer: ResultWriter, change: Change) -> int:
    _write_journal(writer, change)
    return _carry_out(writer, change)


def _finish(writer: ResultWriter) -> Change | None:
    """Carry out what the journal says, if anything; returns it."""
    content = writer.read_bytes(JOURNAL)
    if content is None:
        return None
    change = _read_journal(writer.storage, content)
    _carry_out(writer, change)
    return change


def _carry_out(writer: ResultWriter, change: Change) -> int:
    """Do all of a change, from whatever step on; returns how many checkpoints were dropped."""
    dropped = 0
    if change.action == "delete":
        _delete(writer, change)
    else:
        dropped = _archive(writer, change)
    writer.remove(JOURNAL)
    return dropped


def _delete(writer: ResultWriter, change: Change) -> None:
    from safesweep.sweeps.planning.study import study_path
    from safesweep.sweeps.planning.warm_start import warm_start_path

    storage = writer.storage
    for sweep in change.sweeps:
        deletion.mark_deleted(storage, sweep)
    store = StoreReader(storage)
    found = deletion.leftovers(store, change.sweeps)
    # Those that an earlier attempt had named may have left files, though no row speaks of them.
    trials = tuple(dict.fromkeys([*change.trials, *found.touched_trials]))
    if trials != change.trials:
        _write_journal(writer, replace(change, trials=trials))
    deletion.remove_leftovers(storage, found, change.trials)
    for sweep in change.sweeps:
        for path in (planned_path(sweep), study_path(sweep), warm_start_path(sweep)):
            writer.remove(path)


def _archive(writer: ResultWriter, change: Change) -> int:
    storage = writer.storage
    store = StoreReader(storage)
    known = read_labels(store)
    archived = change.action == "archive"
    for sweep in change.sweeps:
        labels = known.get(sweep, Labels())
        if labels.archived != archived:
            write_labels(
                ResultWriter(storage, sweep), replace(labels, archived=archived, deleted=False)
            )
    if not change.drop_checkpoints:
        return 0
    dropped = 0
    for trial in deletion.droppable_checkpoints(store, change.sweeps):
        dropped += deletion.drop_checkpoint(writer, trial)
    return dropped


def _write_journal(writer: ResultWriter, change: Change) -> None:
    content: dict[str, Any] = {
        "action": change.action,
        "sweeps": change.sweeps,
        "drop_checkpoints": change.drop_checkpoints,
        "trials": change.trials,
    }
    writer.write_bytes(JOURNAL, json.dumps(content).encode())


def _read_journal(storage: str, content: bytes) -> Change:
    try:
        said = json.loads(content)
        if said["action"] not in ("delete", "archive", "restore"):
            raise ValueError(said["action"])
        trials = tuple((str(folder), str(trial)) for folder, trial in said["trials"])
        names = tuple(map(str, said["sweeps"]))
        return Change(said["action"], names, bool(said["drop_checkpoints"]), trials)
    except (ValueError, TypeError, KeyError) as problem:
        raise InvalidInput(
            f"storage: the journal {JOURNAL} of {without_secrets(storage)!r} cannot be understood "
            f"({problem!r}); remove it, and delete or archive again"
        ) from problem
