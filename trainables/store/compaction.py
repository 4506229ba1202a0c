"""Merging the small parts of a store into large ones while others read and write.

A reader must never see a row twice or miss one, whatever tool it is. So the folder of a partition
(`evaluations/sweep=first`) is not changed but replaced: a second folder is prepared beside the
tables, with the merged part and hard links to everything else, and the two are exchanged in one
step of the file system (`renameat2`). Whoever lists the partition sees the old parts or the new
ones, never some of each.

- A writer that puts parts into place holds the store's lock shared; the exchange holds it
  exclusive, and links in what has come since the merge began.
- A reader that listed the old folder finds no file behind the names and has to list again, as
  `safesweep.ResultStore` does. The old folder is kept for some seconds, so that a listing that is
  under way ends whole.
- Killed at any moment, what is left is a whole folder in place and one to be thrown away under
  `.partial`, which the next compaction does.

Only trials that have finished are merged: a failed run is tried again, a stopped one may be trained
on, and its part is then replaced.
`runs` goes first, because its merged part is what says that a trial is compacted
(`ResultWriter.is_compacted`); the other tables then follow for the trials in it.
"""

import contextlib
import ctypes
import errno
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safesweep.search_spaces.validation import InvalidInput, one_line, require_choice
from safesweep.trainables.store import file_lock, run_index
from safesweep.trainables.store.identity import trial_id
from safesweep.trainables.store.older_names import RENAMED_COLUMNS, with_current_names
from safesweep.trainables.store.part_checksums import (
    TRAILER_BYTES,
    footer_bytes,
    gather,
    leave_room,
    sound_file,
    stated_footer,
)
from safesweep.trainables.store.schema import (
    HYPERPARAMETERS_KEY,
    SCHEMA_VERSION,
    TABLES,
    TRIAL_TABLES,
    TRIALS_KEY,
    VERSION_KEY,
)
from safesweep.trainables.store.writer import (
    ARROW_TYPES,
    COMPACTED_PREFIX,
    PARTIAL_FOLDER,
    StoreProblem,
    common_type,
    compacted_trials,
    compactions_path,
    hyperparameter_types,
    storage_location,
    store_lock,
    store_problems,
    type_names,
)

_log = logging.getLogger("safesweep")

SMALL_PART_BYTES = 64 * 2**20
"""Parts up to this size are merged."""
MERGED_PART_BYTES = 256 * 2**20
"""Small parts are merged into one until their sizes add up to this."""
ROWS_PER_GROUP = 131_072
GRACE_SECONDS = 2.0
MANY_PARTS = 500
"""Of a sweep in `runs`, which a run merges when it ends."""
_WORTH_THREADS = 2**20
"""Bytes of a part that is read by several threads: in smaller ones they wait for each other."""
UNFINISHED = frozenset({"failed", "stopped"})
_STAGING_PREFIX = "compaction-"
_AT_CURRENT_FOLDER, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True)
class Compaction:
    """What became of one partition of a table.

    Attributes:
        table: runs, evaluations, episodes, metrics or hyperparameters.
        sweep: the partition.
        parts_before: files that it had.
        parts_after: files that it has.
        rows: rows in the parts that were merged.
    """

    table: str
    sweep: str
    parts_before: int
    parts_after: int
    rows: int


@dataclass(frozen=True)
class _Source:
    """A part to be merged, as it was when it was read."""

    path: Path
    identity: tuple[int, int, int]
    trials: tuple[str, ...]
    with_columns: bool
    """Whether it has a column for each hyperparameter, as parts of older versions do: those are
    merged with their like, so that the others keep the columns of the table."""
    schema: pa.Schema


class _DamagedSource(Exception):
    """A part that is damaged within; readers leave it out, and so does a compaction."""

    def __init__(self, source: _Source, problem: Exception) -> None:
        super().__init__(f"{source.path}, a damaged part ({one_line(problem)})")
        self.source = source


@dataclass(frozen=True)
class _Merge:
    """A partition with its replacement, which holds the merged parts so far."""

    partition: Path
    replacement: Path
    sources: tuple[_Source, ...]
    rows: int


def compact(
    storage: str,
    sweep: str | Sequence[str] | None = None,
    grace_seconds: float | None = None,
) -> list[Compaction]:
    """Merge the small parts of a store on a local disk; others may read and write meanwhile.

    Args:
        storage: folder of the store.
        sweep: only this partition, or these.
        grace_seconds: how long the replaced folders outlive their replacement; GRACE_SECONDS
            when None.

    Returns:
        One entry per partition of a table that was changed; none where there was nothing to do.

    Raises:
        InvalidInput: no such store or sweep, not a local one, or another compaction is at work.
        StoreProblem: it cannot be read or written, such as on a full disk; it is as it was.
    """
    root = _local_root(storage)
    sweeps = sorted({path.name[6:] for path in root.glob("runs/sweep=*")})
    if sweep is not None:
        wanted = [sweep] if isinstance(sweep, str) else list(dict.fromkeys(sweep))
        sweeps = [require_choice("sweep", name, sweeps) for name in wanted]
    with _only_compaction(root, storage), store_problems(storage, "compacted"):
        staging_root = root / PARTIAL_FOLDER
        for stale in staging_root.glob(f"{_STAGING_PREFIX}*"):
            shutil.rmtree(stale)
        staging = staging_root / f"{_STAGING_PREFIX}{uuid.uuid4().hex}"
        staging.mkdir(parents=True)
        try:
            done = []
            for tables in (TRIAL_TABLES[:1], TRIAL_TABLES[1:]):
                merges = [
                    merge
                    for table in tables
                    for name in sweeps
                    if (merge := _merge(root, table, name, staging)) is not None
                ]
                done += _exchange_all(root, merges, storage)
            if done:
                run_index.prune(root)
                time.sleep(GRACE_SECONDS if grace_seconds is None else grace_seconds)
        finally:
            shutil.rmtree(staging)
    return done


def compact_if_many(storage: str, sweep: str, many: int = MANY_PARTS) -> None:
    """Merge a sweep's parts where there are so many that reading them takes long; a store that
    cannot be compacted, or is being compacted, stays as it is."""
    if "://" in storage:
        return
    folder = Path(storage_location(storage), "runs", f"sweep={sweep}")
    if sum(1 for _ in folder.glob("*.parquet")) >= many:
        with contextlib.suppress(InvalidInput, StoreProblem):
            compact(storage, sweep)


def _local_root(storage: str) -> Path:
    location = storage_location(storage).removeprefix("file://")
    if "://" in location:
        raise InvalidInput(
            f"storage: {storage!r} cannot be compacted; it must be a folder of this machine"
        )
    root = Path(location)
    if not root.is_dir():
        raise InvalidInput(f"storage: there is no result store at {storage!r}")
    return root


@contextlib.contextmanager
def _only_compaction(root: Path, storage: str) -> Iterator[None]:
    folder = root / PARTIAL_FOLDER
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(store_lock(folder, file_lock.LOCK_EX | file_lock.LOCK_NB))
        except BlockingIOError as problem:
            raise InvalidInput(
                f"storage: {storage!r} is being compacted by another process"
            ) from problem
        except OSError as problem:
            raise InvalidInput(
                f"storage: {storage!r} cannot be compacted; its file system must have locks"
            ) from problem
        yield


def _merge(root: Path, table: str, sweep: str, staging: Path) -> _Merge | None:
    """Write the merged parts of one partition into its replacement; None: nothing to merge."""
    partition = root / table / f"sweep={sweep}"
    if not partition.is_dir() or any(entry.is_dir() for entry in partition.iterdir()):
        return None
    runs = root / "runs" / f"sweep={sweep}"
    sources = _sources(partition, _finished_trials(runs, compacted_only=table != "runs"))
    replacement = staging / table / partition.name
    merged: list[_Source] = []
    rows = 0
    for group in _groups(sources):
        while len(group) > 1:
            replacement.mkdir(parents=True, exist_ok=True)
            try:
                rows += _write_merged(table, group, replacement)
            except _DamagedSource as problem:
                _merged_path(group, replacement).unlink()
                group.remove(problem.source)
                _log.warning("storage: left as it is %s", problem)
                continue
            merged += group
            break
    return _Merge(partition, replacement, tuple(merged), rows) if merged else None


def _finished_trials(runs: Path, compacted_only: bool) -> set[str]:
    """Trials whose runs are all finished, or only those of them whose rows of `runs` are merged."""
    finished: set[str] = set()
    for path in runs.glob("*.parquet"):
        with contextlib.suppress(OSError, pa.ArrowException):
            if path.name.startswith(COMPACTED_PREFIX):
                finished.update(compacted_trials(pq.read_schema(path)))
            elif not compacted_only:
                statuses = pq.ParquetFile(path).read(columns=["status"])["status"].to_pylist()
                if statuses and UNFINISHED.isdisjoint(statuses):
                    finished.add(path.stem)
    return finished


def _sources(partition: Path, finished: set[str]) -> list[_Source]:
    sources = []
    for path in sorted(partition.glob("*.parquet")):
        compacted = path.name.startswith(COMPACTED_PREFIX)
        if path.name.startswith(".") or not (compacted or path.stem in finished):
            continue
        try:
            state = path.stat()
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowException):
            # Gone, or not whole; readers leave the latter out with a warning.
            continue
        trials = tuple(compacted_trials(schema)) if compacted else (path.stem,)
        if state.st_size <= SMALL_PART_BYTES and finished.issuperset(trials):
            old = any(name.startswith("hp_") for name in schema.names)
            sources.append(_Source(path, _identity(state), trials, old, schema))
    return sorted(sources, key=lambda source: source.with_columns)


def _identity(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_ino, state.st_mtime_ns, state.st_size


def _groups(sources: Sequence[_Source]) -> Iterator[list[_Source]]:
    """Runs of sources that make one merged part each."""
    group: list[_Source] = []
    size = 0
    for source in sources:
        full = size + source.identity[2] > MERGED_PART_BYTES
        if group and (full or source.with_columns != group[-1].with_columns):
            yield group
            group, size = [], 0
        group.append(source)
        size += source.identity[2]
    if group:
        yield group


def _write_merged(table: str, sources: Sequence[_Source], folder: Path) -> int:
    """Write one part with the rows of all sources, in their order; returns how many."""
    trials = sorted({trial for source in sources for trial in source.trials})
    schema, hyperparameters = _merged_schema(table, sources)
    metadata = {VERSION_KEY: str(SCHEMA_VERSION), TRIALS_KEY: json.dumps(trials)}
    if table == "runs":
        metadata[HYPERPARAMETERS_KEY] = json.dumps(hyperparameters, sort_keys=True)
    schema = schema.with_metadata(metadata)
    path = _merged_path(sources, folder)
    rows = 0
    with (
        path.open("wb") as stream,
        pq.ParquetWriter(stream, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        waiting: list[pa.Table] = []
        written = 0
        for source in sources:
            part = with_current_names(table, _read_whole(source))
            waiting.append(_conformed(part, schema))
            gather(waiting)
            rows += part.num_rows
            if rows - written >= ROWS_PER_GROUP:
                _write_groups(writer, waiting)
                written = rows
        _write_groups(writer, waiting)
        leave_room(writer)
    _state_checksum(path)
    return rows


def _state_checksum(path: Path) -> None:
    """Fill in a merged part's checksum, and see to it that the part is on the disk."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size - TRAILER_BYTES)
        start = size - footer_bytes(file.read())
        file.seek(0)
        checksum, left = 0, start
        while left:
            chunk = file.read(min(left, 2**20))
            checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
        footer = file.read()
        file.seek(start)
        file.write(stated_footer(footer, start, checksum))
        file.flush()
        os.fsync(file.fileno())


def _merged_path(sources: Sequence[_Source], folder: Path) -> Path:
    trials = sorted({trial for source in sources for trial in source.trials})
    return folder / f"{COMPACTED_PREFIX}{trial_id(trials)}.parquet"


def _read_whole(source: _Source) -> pa.Table:
    try:
        content = source.path.read_bytes()
        return sound_file(content).read(use_threads=len(content) > _WORTH_THREADS)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as problem:
        raise _DamagedSource(source, problem) from problem


def _write_groups(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> None:
    if waiting:
        writer.write_table(pa.concat_tables(waiting), row_group_size=ROWS_PER_GROUP)
        waiting.clear()


def _merged_schema(table: str, sources: Sequence[_Source]) -> tuple[pa.Schema, dict[str, str]]:
    """The table's own columns, then what the parts add, by name; and the types of the
    hyperparameters that the parts speak of."""
    columns = {name: ARROW_TYPES[kind] for name, kind in TABLES[table].items()}
    renamed = RENAMED_COLUMNS.get(table, {})
    added: dict[str, pa.DataType] = {}
    types: dict[str, pa.DataType] = {}
    for source in sources:
        for field in source.schema:
            if field.name not in columns and field.name not in renamed:
                added[field.name] = common_type(added.get(field.name), field.type)
        for name, kind in hyperparameter_types(source.schema).items():
            types[name] = common_type(types.get(name), kind)
    return pa.schema([*columns.items(), *sorted(added.items())]), type_names(types)


def _conformed(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """The part with exactly the columns of `schema`, null where it has none."""
    if part.schema.equals(schema):
        return part.replace_schema_metadata(schema.metadata)
    arrays = [
        part[field.name].cast(field.type)
        if field.name in part.column_names
        else pa.nulls(part.num_rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _exchange_all(root: Path, merges: Sequence[_Merge], storage: str) -> list[Compaction]:
    done: list[Compaction] = []
    for merge in merges:
        with store_lock(root, file_lock.LOCK_EX):
            before = sum(1 for _ in merge.partition.glob("*.parquet"))
            try:
                if not _complete(merge):
                    continue
                if merge.partition.parent.name == "runs":
                    _record(root, merge)
                after = sum(1 for _ in merge.replacement.glob("*.parquet"))
                _exchange(merge.partition, merge.replacement)
            except OSError as problem:
                raise InvalidInput(
                    f"storage: {storage!r} cannot be compacted; its file system must be able to "
                    f"exchange two folders ({os.strerror(problem.errno or 0)})"
                ) from problem
            _sync_folder(merge.partition.parent)
        sweep = merge.partition.name.removeprefix("sweep=")
        table = merge.partition.parent.name
        done.append(Compaction(table, sweep, before, after, merge.rows))
    return done


def _record(root: Path, merge: _Merge) -> None:
    """Say which merged parts the partition may hold, before it does: writers ask at each trial
    (`ResultWriter.is_compacted`)."""
    sweep = merge.partition.name.removeprefix("sweep=")
    names = {path.name for folder in (merge.partition, merge.replacement)
             for path in folder.glob(f"{COMPACTED_PREFIX}*.parquet")}  # fmt: skip
    target = root / compactions_path(sweep)
    target.parent.mkdir(exist_ok=True)
    partial = root / PARTIAL_FOLDER / uuid.uuid4().hex
    partial.write_text(json.dumps(sorted(names)), encoding="utf-8")
    partial.replace(target)


def _complete(merge: _Merge) -> bool:
    """Link into the replacement what was not merged; False if a merged part has changed since."""
    merged = {source.path.name: source for source in merge.sources}
    unchanged = 0
    for entry in os.scandir(merge.partition):
        source = merged.get(entry.name)
        if source is None:
            os.link(entry.path, merge.replacement / entry.name)
        elif _identity(os.stat(entry.path)) == source.identity:
            unchanged += 1
    shutil.copystat(merge.partition, merge.replacement)
    return unchanged == len(merged)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step, so that neither name is ever without one.

    Raises:
        OSError: the file system, or the operating system, cannot.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "renameat2"):
        raise OSError(errno.ENOSYS, "renameat2")
    here = _AT_CURRENT_FOLDER
    names = os.fsencode(one), os.fsencode(other)
    if library.renameat2(here, names[0], here, names[1], _RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
