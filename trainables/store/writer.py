"""Writing a result store: whole Parquet parts, or none.

A store is a local folder or any location that pyarrow's filesystems reach. On a local disk a part
is written beside the tables and renamed into place; an object store shows an object only once it
is complete. Where that fails (the disk is full, the store has become read-only, its server is gone)
it is a `StoreProblem`, not a result.

On a local disk writers hold a shared lock while they put parts into place, so that
`trainables.store.compaction` can swap a folder at a moment when nobody does. Readers lock nothing.
"""

import contextlib
import fcntl
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store.identity import code_version
from safesweep.trainables.store.schema import (
    SCHEMA_VERSION,
    TABLES,
    TRIAL_TABLES,
    TRIALS_KEY,
    VERSION_KEY,
)

Row = Mapping[str, Any]
ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
}
HYPERPARAMETER_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
PARTIAL_FOLDER = ".partial"
LOCK_FILE = ".lock"
COMPACTED_PREFIX = "compacted-"


def storage_location(storage: str) -> str:
    """The absolute path of a local store, or the URI as given."""
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


class StoreProblem(InvalidInput):
    """A store that cannot be reached, read or written now; a sweep goes on once it can."""


@contextlib.contextmanager
def store_problems(storage: str, action: str) -> Iterator[None]:
    """Turn what a file system raises into one line that names the store.

    Args:
        storage: the store's location; a password in it is not shown.
        action: "read" or "written".

    Raises:
        StoreProblem: for every OSError and error of pyarrow within.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        shown = re.sub(r"(?<=://)[^/@]*@", "", storage)
        reason = str(error).replace(storage, shown).splitlines()[0]
        raise StoreProblem(f"storage: {shown!r} cannot be {action} ({reason})") from error


class ResultWriter:
    """Writes one sweep's parts of a store. Each of its methods raises StoreProblem.

    Raises:
        StoreProblem: the store cannot be reached or written.
    """

    def __init__(self, storage: str, sweep: str) -> None:
        self.storage, self.sweep = storage_location(storage), sweep
        with store_problems(self.storage, "written"):
            self.filesystem, self.root = fs.FileSystem.from_uri(_in_one_request(self.storage))
            self.local = isinstance(self.filesystem, fs.LocalFileSystem)
            if self.local:
                Path(self.root).mkdir(parents=True, exist_ok=True)
        probe = f"heartbeats/.probe-{uuid.uuid4().hex}"
        self.write_bytes(probe, b"")
        self.remove(probe)

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Put a file whole at `<store>/<relative>`, replacing the one there."""
        with self._placing():
            self._put(relative, content)

    def _put(self, relative: str, content: bytes) -> None:
        with store_problems(self.storage, "written"):
            if self.local:
                self._rename_into_place(relative, content)
            else:
                with self.filesystem.open_output_stream(f"{self.root}/{relative}") as stream:
                    stream.write(content)

    def _rename_into_place(self, relative: str, content: bytes) -> None:
        target = Path(self.root, relative)
        partial = Path(self.root, PARTIAL_FOLDER, uuid.uuid4().hex)
        partial.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def read_bytes(self, relative: str) -> bytes | None:
        """The content of `<store>/<relative>`, or None when there is no such file."""
        path = f"{self.root}/{relative}"
        with store_problems(self.storage, "read"), contextlib.suppress(FileNotFoundError):
            if self.filesystem.get_file_info(path).type == fs.FileType.File:
                with self.filesystem.open_input_stream(path) as stream:
                    return stream.read()
        return None

    def names(self, folder: str) -> list[str]:
        """Names of the files in `<store>/<folder>`; none where there is no such folder."""
        if self.local:
            # Without a look at each file, of which there may be a hundred thousand.
            with (
                store_problems(self.storage, "read"),
                contextlib.suppress(FileNotFoundError),
                os.scandir(f"{self.root}/{folder}") as entries,
            ):
                return sorted(entry.name for entry in entries if entry.is_file())
            return []
        selector = fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        with store_problems(self.storage, "read"):
            found = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == fs.FileType.File)

    def remove(self, relative: str) -> None:
        """Remove a file if it is there."""
        path = f"{self.root}/{relative}"
        with store_problems(self.storage, "written"):
            if self.filesystem.get_file_info(path).type == fs.FileType.File:
                self.filesystem.delete_file(path)

    def remove_partial(self) -> None:
        """Remove what writers that were killed had begun to write in a local store.

        Whoever writes holds the store's lock shared, so that nobody does while it is held
        exclusively. Where the file system has no locks, nothing is removed.
        """
        if not self.local:
            return
        folder = Path(self.root, PARTIAL_FOLDER)
        with contextlib.suppress(OSError), store_lock(Path(self.root), fcntl.LOCK_EX):
            for path in folder.iterdir():
                if path.is_file() and path.name != LOCK_FILE:
                    path.unlink()

    def write_trial(
        self,
        trial_id: str,
        runs: Sequence[Row],
        evaluations: Sequence[Row] = (),
        episodes: Sequence[Row] = (),
        metrics: Sequence[Row] = (),
    ) -> None:
        """Write the parts of an ended trial, `runs` last: its row says that the others are there.

        A row of `runs` carries `config` as a mapping; it becomes the JSON column and the typed
        `hp_` columns. A trial that has been compacted has finished, and its rows follow from its
        identity: they are not written again.
        """
        with self._placing():
            if self.is_compacted(trial_id):
                return
            self._write_part("episodes", trial_id, episodes)
            self._write_part("metrics", trial_id, metrics)
            self._write_part("evaluations", trial_id, evaluations)
            self._write_part("runs", trial_id, [_expand_config(row) for row in runs])

    def write_confirmation(self, confirmation_id: str, rows: Sequence[Row]) -> None:
        """Write one confirmation: a part of its own."""
        with self._placing():
            self._write_part("confirmations", confirmation_id, rows)

    def is_compacted(self, trial_id: str) -> bool:
        """Whether the trial's rows lie in a part that holds several trials.

        Only a local store is compacted (`trainables.store.compaction`).
        """
        if not self.local:
            return False
        folder = f"runs/sweep={self.sweep}"
        for name in self.names(folder):
            if name.startswith(COMPACTED_PREFIX):
                # What readers leave out as broken does not count here either.
                with (
                    store_problems(self.storage, "read"),
                    contextlib.suppress(pa.ArrowInvalid),
                    self.filesystem.open_input_file(f"{self.root}/{folder}/{name}") as stream,
                ):
                    if trial_id in compacted_trials(pq.read_schema(stream)):
                        return True
        return False

    @contextlib.contextmanager
    def _placing(self) -> Iterator[None]:
        """Keep a compaction from swapping folders, and `remove_partial` from its work, within."""
        if not self.local:
            yield
            return
        with contextlib.ExitStack() as held:
            with store_problems(self.storage, "written"):
                held.enter_context(store_lock(Path(self.root), fcntl.LOCK_SH))
            yield

    def remove_trials(self, trial_ids: Iterable[str]) -> None:
        """Remove the parts, checkpoints, heartbeats and logs of trials, `runs` first."""
        with self._placing():
            for trial in trial_ids:
                for table in TRIAL_TABLES:
                    self.remove(self._part(table, trial))
                self.remove(checkpoint_path(trial))
                self.remove(heartbeat_path(trial))
                self.remove(log_path(trial))

    def remove_runs(self, trial_id: str, run_ids: Iterable[str]) -> None:
        """Remove the rows of some runs from a trial's parts, from `runs` first."""
        removed = pa.array(sorted(run_ids), pa.string())
        with self._placing():
            for table in TRIAL_TABLES:
                path = self._part(table, trial_id)
                content = self.read_bytes(path)
                if content is None:
                    continue
                part = pq.read_table(pa.BufferReader(content))
                kept = part.filter(pc.invert(pc.is_in(part["run_id"], value_set=removed)))
                if not kept.num_rows:
                    self.remove(path)
                elif kept.num_rows < part.num_rows:
                    sink = pa.BufferOutputStream()
                    pq.write_table(kept, sink, compression="zstd")
                    self._put(path, sink.getvalue().to_pybytes())

    def write_sweep(
        self, spec: str, run_ids: Sequence[str], status: str, created_at: datetime | None = None
    ) -> None:
        """Write the sweep's own row: its specification and the runs that it comprises."""
        row = {
            "spec": spec,
            "status": status,
            "created_at": created_at or datetime.now(UTC),
            "code_version": code_version(),
            "run_ids": list(run_ids),
        }
        with self._placing():
            self._write_part("sweeps", "plan", [row])

    def _part(self, table: str, name: str) -> str:
        return f"{table}/sweep={self.sweep}/{name}.parquet"

    def _write_part(self, table: str, name: str, rows: Sequence[Row]) -> None:
        if not rows:
            self.remove(self._part(table, name))
            return
        sink = pa.BufferOutputStream()
        pq.write_table(_arrow_table(table, rows), sink, compression="zstd")
        self._put(self._part(table, name), sink.getvalue().to_pybytes())


@contextlib.contextmanager
def store_lock(root: Path, kind: int) -> Iterator[None]:
    """Hold the lock of a local store: `fcntl.LOCK_SH` to place parts, `LOCK_EX` to swap folders.

    The kernel lets go of it when its holder dies. Where the file system has no locks, a shared
    one is taken for granted, and an exclusive one is an error.

    Raises:
        OSError: `LOCK_EX` on a file system without locks, or `LOCK_NB` and the lock is held.
    """
    descriptor = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, kind)
        except OSError:
            if kind != fcntl.LOCK_SH:
                raise
        yield
    finally:
        os.close(descriptor)


def _in_one_request(location: str) -> str:
    """An S3 location with which pyarrow sends a small file in one request instead of three."""
    if not location.startswith("s3://"):
        return location
    return f"{location}{'&' if '?' in location else '?'}allow_delayed_open=true"


def compacted_trials(schema: pa.Schema) -> list[str]:
    """The trials in a compacted part, from its schema's metadata; empty for any other part."""
    return list(json.loads((schema.metadata or {}).get(TRIALS_KEY.encode(), b"[]")))


def common_type(one: pa.DataType | None, other: pa.DataType) -> pa.DataType:
    """A type that holds both; text where nothing else does (two methods, one name, two kinds)."""
    if one is None or pa.types.is_null(one):
        return other
    schemas = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowTypeError:
        return pa.string()


def checkpoint_path(trial_id: str) -> str:
    """Where a trial's checkpoint lies within a store."""
    return f"checkpoints/{trial_id}/latest.pt"


def log_path(trial_id: str) -> str:
    """Where the last output of a failed trial's worker lies within a store."""
    return f"logs/{trial_id}.txt"


def heartbeat_path(trial_id: str) -> str:
    """Where a running trial says how far it is."""
    return f"heartbeats/{trial_id}.json"


def _expand_config(row: Row) -> dict[str, Any]:
    config = dict(row["config"])
    columns = {f"hp_{name}": value for name, value in config.items()}
    return {**row, "config": json.dumps(config, sort_keys=True), **columns}


def _arrow_table(table: str, rows: Sequence[Row]) -> pa.Table:
    columns = {name: ARROW_TYPES[kind] for name, kind in TABLES[table].items()}
    for row in rows:
        for name, value in row.items():
            if name.startswith("hp_"):
                columns.setdefault(name, HYPERPARAMETER_TYPES[type(value)])
    schema = pa.schema(list(columns.items()), metadata={VERSION_KEY: str(SCHEMA_VERSION)})
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
