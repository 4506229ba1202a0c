"""Writing a result store: whole Parquet parts, or none.

A store is a local folder or any location that pyarrow's filesystems reach. On a local disk a part
is written beside the tables and renamed into place; an object store shows an object only once it
is complete. Where that fails (the disk is full, the store has become read-only, its server is gone)
it is a `StoreProblem`, not a result.

On a local disk writers hold a shared lock while they put parts into place, so that
`trainables.store.compaction` can swap a folder at a moment when nobody does. Readers lock nothing.
"""

import contextlib
import json
import logging
import math
import os
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from safesweep.search_spaces.validation import (
    InvalidInput,
    Problem,
    one_line,
    shown,
    without_secrets,
)
from safesweep.trainables.store import file_lock, run_index
from safesweep.trainables.store.identity import code_version
from safesweep.trainables.store.part_checksums import parquet_content, sound_file
from safesweep.trainables.store.schema import (
    COUNT_COLUMNS,
    HYPERPARAMETERS_KEY,
    SCHEMA_VERSION,
    SEALS_KEY,
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
SET_ASIDE_FOLDER = "set-aside"
"""Where damaged files of a store are moved to; nothing reads them there."""

# How pyarrow is to use an object store, by the scheme of its buckets.
_BUCKET_OPTIONS = {
    "s3": ("allow_delayed_open", "true"),
    "gs": ("retry_limit_seconds", "60"),
    "gcs": ("retry_limit_seconds", "60"),
}

_log = logging.getLogger("safesweep")

# A merged part, by its path, length and time: the trials in it, or None where it is damaged.
_MERGED: dict[tuple[str, int, int], frozenset[str] | None] = {}
# The merged parts of partitions that were last compacted before compactions were recorded.
_UNRECORDED: dict[str, tuple[str, ...]] = {}


def storage_location(storage: str) -> str:
    """The absolute path of a local store, or the URI as given.

    Raises:
        InvalidInput: it is empty, no folder can be called so, it names no bucket, or it begins with
            the home folder of a user whom this machine does not know.
    """
    if not storage.strip():
        raise InvalidInput("storage: is empty; it must be a folder or a URI")
    try:
        storage.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"storage: {shown(storage)} is not UTF-8 text") from None
    scheme, separator, place = storage.partition("://")
    if separator:
        bucket = place.partition("?")[0].rpartition("@")[2]
        if scheme in _BUCKET_OPTIONS and not bucket.partition("/")[0].strip():
            raise InvalidInput(f"storage: '{scheme}://' names no bucket; write {scheme}://BUCKET")
        return storage
    try:
        return str(Path(storage).expanduser().resolve())
    except RuntimeError:
        user = Path(storage).parts[0]
        if not user.startswith("~"):
            raise InvalidInput(f"storage: {storage!r} is a loop of symbolic links") from None
        raise InvalidInput(
            f"storage: {storage!r} begins with the home folder of an unknown user, {user}; write "
            f"./{storage} for a folder of that name"
        ) from None
    except (ValueError, OSError) as error:
        raise InvalidInput(f"storage: {storage!r} is no folder's name ({error})") from error


class StoreProblem(Problem):
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
        named = without_secrets(storage)
        reason = (str(error).replace(storage, named).splitlines() or [""])[0]
        raise StoreProblem(f"storage: {named!r} cannot be {action} ({reason})") from error


class ResultWriter:
    """Writes one sweep's parts of a store. Each of its methods raises StoreProblem.

    Args:
        probe: try whether the store can be written.

    Raises:
        StoreProblem: the store cannot be reached or written.
    """

    def __init__(self, storage: str, sweep: str, probe: bool = True) -> None:
        self.storage, self.sweep = storage_location(storage), sweep
        with store_problems(self.storage, "written"):
            self.filesystem, self.root = open_file_system(self.storage)
            self.local = isinstance(self.filesystem, fs.LocalFileSystem)
            if self.local:
                Path(self.root).mkdir(parents=True, exist_ok=True)
        if probe:
            probed = f"heartbeats/.probe-{uuid.uuid4().hex}"
            self.write_bytes(probed, b"")
            self.remove(probed)

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
                    content: bytes = stream.read()
                    return content
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

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in `<store>/<folder>`; none where there is no such folder."""
        selector = fs.FileSelector(f"{self.root}/{folder}", allow_not_found=True)
        with store_problems(self.storage, "read"):
            found = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == fs.FileType.Directory)

    def exists(self, relative: str) -> bool:
        """Whether there is a file `<store>/<relative>`."""
        with store_problems(self.storage, "read"):
            info = self.filesystem.get_file_info(f"{self.root}/{relative}")
        return bool(info.type == fs.FileType.File)

    def remove(self, relative: str) -> bool:
        """Remove a file if it is there; whether it was."""
        path = f"{self.root}/{relative}"
        # Another process may remove it at the same moment.
        there = False
        with store_problems(self.storage, "written"), contextlib.suppress(FileNotFoundError):
            there = bool(self.filesystem.get_file_info(path).type == fs.FileType.File)
            if there:
                self.filesystem.delete_file(path)
        return there

    def set_aside(self, relative: str, reason: object) -> str:
        """Move a damaged file to where nothing reads it, so that what it held can be made again;
        where it lies now, within the store."""
        moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        target = f"{SET_ASIDE_FOLDER}/{moment}-{uuid.uuid4().hex[:6]}/{relative}"
        with store_problems(self.storage, "written"):
            if self.local:
                Path(self.root, target).parent.mkdir(parents=True, exist_ok=True)
            self.filesystem.move(f"{self.root}/{relative}", f"{self.root}/{target}")
        _log.warning(
            "storage: set aside %s as %s, damaged (%s)", relative, target, one_line(reason)
        )
        return target

    def _set_aside_damaged(self, relative: str) -> None:
        """Keep a part that would be replaced or removed, if it is damaged: it may be the only trace
        of what happened."""
        # Objects of a store behind a URI are whole or not there, and asking costs a request.
        if not self.local or not os.path.exists(f"{self.root}/{relative}"):
            return
        content = self.read_bytes(relative)
        try:
            if content is not None:
                _read_part(content)
        except (pa.ArrowException, OSError) as problem:
            self.set_aside(relative, problem)

    def _drop(self, relative: str) -> None:
        """Remove a part; one that is damaged is set aside."""
        self._set_aside_damaged(relative)
        self.remove(relative)

    def remove_partial(self) -> None:
        """Remove what writers that were killed had begun to write in a local store.

        Whoever writes holds the store's lock shared, so that nobody does while it is held
        exclusively. Where the file system has no locks, nothing is removed.
        """
        if not self.local:
            return
        folder = Path(self.root, PARTIAL_FOLDER)
        with contextlib.suppress(OSError), store_lock(Path(self.root), file_lock.LOCK_EX):
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

        A row of `runs` carries `config` as a mapping; it becomes the JSON column and the rows of
        `hyperparameters`. How many rows each run has is recorded with it. A trial that has been
        compacted has finished, and its rows follow from its identity: they are not written again.
        """
        others: dict[str, Sequence[Row]] = {
            "episodes": episodes,
            "metrics": metrics,
            "hyperparameters": hyperparameter_rows(runs),
            "evaluations": evaluations,
        }
        contents = {table: _content(table, rows) for table, rows in others.items() if rows}
        metadata = {
            HYPERPARAMETERS_KEY: json.dumps(_hyperparameter_types(runs), sort_keys=True),
            SEALS_KEY: _seals(contents),
        }
        rows = _with_counts(runs, others)
        content = _content("runs", rows, metadata)
        with self._placing():
            if self.is_compacted(trial_id):
                return
            for table in others:
                self._place(table, trial_id, contents.get(table))
            self._place("runs", trial_id, content if runs else None)
            if runs:
                self._index(trial_id, rows, metadata[SEALS_KEY])

    def _index(self, trial_id: str, runs: Sequence[Row], seals: str) -> None:
        """Say in the index what the trial's part of `runs` holds; a part without a line is only
        slower to read."""
        if not self.local:
            return
        place = f"sweep={self.sweep}/{trial_id}.parquet"
        with contextlib.suppress(OSError):
            state = os.stat(f"{self.root}/runs/{place}")
            values = [[row.get(name) for name in run_index.COLUMNS] for row in runs]
            run_index.append_line(
                Path(self.root),
                run_index.IndexedPart(
                    place, state.st_size, state.st_mtime_ns, json.loads(seals), values
                ),
            )

    def write_confirmation(self, confirmation_id: str, rows: Sequence[Row]) -> None:
        """Write one confirmation: a part of its own."""
        with self._placing():
            self._write_part("confirmations", confirmation_id, rows)

    def write_measurements(self, name: str, trial_id: str | None, rows: Sequence[Row]) -> None:
        """Write what was measured under a name on the runs of a trial, or on none: a part of its
        own, which replaces the one that was there. A value that is no number is null."""
        named = [
            {**row, "name": name, "value": None if math.isnan(row["value"]) else row["value"]}
            for row in rows
        ]
        with self._placing():
            self._write_part("measurements", f"{name}-{trial_id}" if trial_id else name, named)

    def is_compacted(self, trial_id: str) -> bool:
        """Whether the trial's rows lie in a part that holds several trials.

        Only a local store is compacted (`trainables.store.compaction`).
        """
        if not self.local:
            return False
        folder = f"runs/sweep={self.sweep}"
        return any(
            trial_id in (self._merged_trials(f"{folder}/{name}") or ())
            for name in self._merged_parts(folder)
        )

    def _merged_parts(self, folder: str) -> Sequence[str]:
        """Names of the merged parts that may be in a partition, which is not listed for it: it may
        hold a hundred thousand."""
        recorded = self.read_bytes(compactions_path(self.sweep))
        if recorded is not None:
            with contextlib.suppress(ValueError):
                return [name for name in json.loads(recorded) if isinstance(name, str)]
        path = f"{self.root}/{folder}"
        if path not in _UNRECORDED or recorded is not None:
            names = self.names(folder)
            _UNRECORDED[path] = tuple(n for n in names if n.startswith(COMPACTED_PREFIX))
        return _UNRECORDED[path]

    def _merged_trials(self, relative: str) -> frozenset[str] | None:
        """The trials in a merged part; none where there is no such part, None where it is damaged,
        which readers leave out."""
        path = f"{self.root}/{relative}"
        with store_problems(self.storage, "read"):
            try:
                state = os.stat(path)
            except FileNotFoundError:
                return frozenset()
            key = (path, state.st_size, state.st_mtime_ns)
            if key not in _MERGED:
                try:
                    content = Path(path).read_bytes()
                    _MERGED[key] = frozenset(compacted_trials(_read_part(content).schema))
                except FileNotFoundError:
                    return frozenset()
                except (pa.ArrowException, ValueError):
                    _MERGED[key] = None
            return _MERGED[key]

    @contextlib.contextmanager
    def _placing(self) -> Iterator[None]:
        """Keep a compaction from swapping folders, and `remove_partial` from its work, within."""
        if not self.local:
            yield
            return
        with contextlib.ExitStack() as held:
            with store_problems(self.storage, "written"):
                held.enter_context(store_lock(Path(self.root), file_lock.LOCK_SH))
            yield

    def remove_trials(self, trial_ids: Iterable[str]) -> None:
        """Remove the parts, checkpoints, heartbeats and logs of trials, `runs` first."""
        with self._placing():
            for trial in trial_ids:
                for table in TRIAL_TABLES:
                    self._drop(self._part(table, trial))
                self.remove(checkpoint_path(trial))
                self.remove(heartbeat_path(trial))
                self.remove(log_path(trial))

    def remove_runs(self, trial_id: str, run_ids: Iterable[str]) -> None:
        """Remove the rows of some runs from a trial's parts, from `runs` first; with them go those
        of which its part of `runs` does not speak, as an interrupted removal leaves them."""
        removed = pa.array(sorted(run_ids), pa.string())
        with self._placing():
            kept: dict[str, pa.Table] = {}
            contents: dict[str, bytes] = {}
            for table in TRIAL_TABLES:
                self._set_aside_damaged(self._part(table, trial_id))
                content = self.read_bytes(self._part(table, trial_id))
                if content is None:
                    continue
                part = _read_part(content)
                if table == "hyperparameters":
                    runs = kept.get("runs")
                    ids = runs["config_id"] if runs is not None else pa.array([], pa.string())
                    rest = part.filter(pc.is_in(part["config_id"], value_set=_values(ids)))
                else:
                    gone = pc.is_in(part["run_id"], value_set=removed)
                    if "runs" in kept:
                        there = _values(kept["runs"]["run_id"])
                        known = pc.is_in(part["run_id"], value_set=there)
                        gone = pc.or_(gone, pc.invert(known))
                    rest = part.filter(pc.invert(gone))
                kept[table] = rest
                if table != "runs" and rest.num_rows:
                    contents[table] = parquet_content(rest)
            for table, rest in kept.items():
                if table == "runs" and rest.num_rows:
                    said = {**(rest.schema.metadata or {}), SEALS_KEY.encode(): _seals(contents)}
                    contents["runs"] = parquet_content(rest.replace_schema_metadata(said))
                self._place(table, trial_id, contents.get(table))

    def remove_compacted(self, trial_ids: Iterable[str] = (), run_ids: Iterable[str] = ()) -> None:
        """Remove trials, and single runs of others, from the parts that hold several trials, from
        `runs` first, so that the trials' rows can be written again (`write_trial`).

        With them goes what `runs` does not speak of; what is damaged is set aside.
        """
        removed, removed_runs = _values(trial_ids), _values(run_ids)
        if not self.local:
            return
        with self._placing():
            kept: dict[str, set[str]] = {"trial_id": set(), "run_id": set(), "config_id": set()}
            known: set[str] = set()
            for table in TRIAL_TABLES:
                folder = f"{table}/sweep={self.sweep}"
                for name in self.names(folder):
                    if not name.startswith(COMPACTED_PREFIX):
                        continue
                    self._set_aside_damaged(f"{folder}/{name}")
                    content = self.read_bytes(f"{folder}/{name}")
                    if content is None:
                        continue
                    part = _read_part(content)
                    if table == "runs":
                        gone = pc.or_(
                            pc.is_in(part["trial_id"], value_set=removed),
                            pc.is_in(part["run_id"], value_set=removed_runs),
                        )
                        rest = part.filter(pc.invert(gone))
                        for column, values in kept.items():
                            values.update(rest[column].to_pylist())
                    else:
                        owner = _owner(table)
                        rest = part.filter(pc.is_in(part[owner], value_set=_values(kept[owner])))
                    trials = compacted_trials(part.schema)
                    left = sorted(kept["trial_id"].intersection(trials))
                    known.update(trials if table == "runs" else ())
                    if not rest.num_rows and not known.issuperset(trials):
                        self.set_aside(f"{folder}/{name}", "`runs` says nothing of its rows")
                    elif not rest.num_rows:
                        self.remove(f"{folder}/{name}")
                    elif len(left) < len(trials) or rest.num_rows < part.num_rows:
                        said = {**part.schema.metadata, TRIALS_KEY.encode(): json.dumps(left)}
                        self._put(
                            f"{folder}/{name}", parquet_content(rest.replace_schema_metadata(said))
                        )

    def remove_stray_compacted(self) -> None:
        """Remove rows from merged parts of which the merged parts of `runs` say nothing, and merged
        parts that are damaged; their trials are trained again, and the rows would be there twice.
        """
        known: set[str] = set()
        for table in TRIAL_TABLES if self.local else ():
            folder = f"{table}/sweep={self.sweep}"
            for name in self.names(folder):
                if not name.startswith(COMPACTED_PREFIX):
                    continue
                trials = self._merged_trials(f"{folder}/{name}")
                if trials is None:
                    self.remove_compacted()
                    return
                if table == "runs":
                    known.update(trials)
                elif not known.issuperset(trials):
                    self.remove_compacted()
                    return

    def remove_orphans(self) -> None:
        """Remove parts of trials that no part of `runs` speaks of.

        A trial that was killed while it wrote its rows may leave some. Where its runs are trained
        again in another population, their rows would be there twice.
        """
        known = {name.removesuffix(".parquet") for name in self.names(f"runs/sweep={self.sweep}")}
        for table in TRIAL_TABLES[1:]:
            for name in self.names(f"{table}/sweep={self.sweep}"):
                trial = name.removesuffix(".parquet")
                if (
                    trial not in known
                    and not name.startswith((COMPACTED_PREFIX, "."))
                    and not self.is_compacted(trial)
                ):
                    with self._placing():
                        self._drop(self._part(table, trial))

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

    def write_labels(
        self, tags: Sequence[str], note: str | None, archived: bool, deleted: bool
    ) -> None:
        """Write what is noted down of the sweep; see `trainables.store.labels`."""
        row = {"tags": list(tags), "note": note, "archived": archived, "deleted": deleted}
        with self._placing():
            self._write_part("labels", "labels", [row])

    def remove_table(self, table: str) -> None:
        """Remove all of the sweep's parts of a table, and whatever else lies in their folder."""
        folder = f"{table}/sweep={self.sweep}"
        with self._placing():
            for name in self.names(folder):
                self.remove(f"{folder}/{name}")

    def remove_rows(self, table: str, run_ids: Iterable[str]) -> None:
        """Remove the rows of all other runs from the sweep's parts of a table, which are none of a
        trial's; what is damaged is set aside.

        Args:
            run_ids: the runs whose rows stay.
        """
        kept, folder = _values(run_ids), f"{table}/sweep={self.sweep}"
        for name in self.names(folder):
            self._set_aside_damaged(f"{folder}/{name}")
            found = self.read_bytes(f"{folder}/{name}")
            if found is None:
                continue
            part = _read_part(found)
            rest = part.filter(pc.is_in(part["run_id"], value_set=kept))
            if rest.num_rows < part.num_rows:
                content = parquet_content(rest) if rest.num_rows else None
                with self._placing():
                    self._place(table, name.removesuffix(".parquet"), content)

    def remove_empty_folders(self) -> None:
        """Remove the sweep's folders in a local store that hold nothing."""
        if not self.local:
            return
        # Whoever puts a part into place holds the lock shared from making its folder on.
        with contextlib.suppress(OSError), store_lock(Path(self.root), file_lock.LOCK_EX):
            for table in TABLES:
                with contextlib.suppress(OSError):
                    Path(self.root, table, f"sweep={self.sweep}").rmdir()

    def _part(self, table: str, name: str) -> str:
        return f"{table}/sweep={self.sweep}/{name}.parquet"

    def _write_part(self, table: str, name: str, rows: Sequence[Row]) -> None:
        self._place(table, name, _content(table, rows) if rows else None)

    def _place(self, table: str, name: str, content: bytes | None) -> None:
        """Put a part into place; one without rows is removed."""
        self._set_aside_damaged(self._part(table, name))
        if content is None:
            self.remove(self._part(table, name))
        else:
            self._put(self._part(table, name), content)


@contextlib.contextmanager
def store_lock(root: Path, kind: int) -> Iterator[None]:
    """Hold the lock of a local store: `LOCK_SH` to place parts, `LOCK_EX` to swap folders.

    The kernel lets go of it when its holder dies. Where the file system has no locks, a shared
    one is taken for granted, and an exclusive one is an error.

    Raises:
        OSError: `LOCK_EX` on a file system without locks, or `LOCK_NB` and the lock is held.
    """
    descriptor = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            file_lock.flock(descriptor, kind)
        except OSError:
            if kind != file_lock.LOCK_SH:
                raise
        yield
    finally:
        os.close(descriptor)


def open_file_system(location: str) -> tuple[fs.FileSystem, str]:
    """The file system of a store (`storage_location`), and the store's place in it.

    On S3 a small file is sent in one request instead of three, and a bucket of Google's that
    cannot be reached is given up within a minute instead of a quarter of an hour. Whatever the
    location says itself holds.

    Raises:
        OSError or pyarrow.ArrowException: there is none, or it cannot be reached.
    """
    scheme, separator, _ = location.partition("://")
    name, value = _BUCKET_OPTIONS.get(scheme if separator else "", ("", ""))
    if name and f"{name}=" not in location:
        location = f"{location}{'&' if '?' in location else '?'}{name}={value}"
    found: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(location)
    return found


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


def compactions_path(sweep: str) -> str:
    """Where the names of a partition's merged parts are recorded, which compactions made."""
    return f"compactions/{sweep}.json"


def heartbeat_path(trial_id: str) -> str:
    """Where a running trial says how far it is."""
    return f"heartbeats/{trial_id}.json"


def hyperparameter_rows(runs: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows of `hyperparameters` for some runs: numbers and truth values in `number`, what else
    there is in `text`; the same value of a configuration once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in runs:
        for name, value in row["config"].items():
            number = float(value) if isinstance(value, int | float) else None
            text = None if number is not None else str(value)
            key = (row.get("config_id", ""), name, repr(value))
            found.setdefault(
                key,
                {"config_id": row.get("config_id"), "name": name, "number": number, "text": text},
            )
    return list(found.values())


def seals_of(schema: pa.Schema) -> dict[str, tuple[int, int]]:
    """By table, bytes and CRC-32 of the parts that belong to a part of `runs`."""
    said = json.loads((schema.metadata or {}).get(SEALS_KEY.encode(), b"{}"))
    return {table: (size, checksum) for table, (size, checksum) in said.items()}


def hyperparameter_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The hyperparameters of a part of `runs`, from its metadata, with their types."""
    said = json.loads((schema.metadata or {}).get(HYPERPARAMETERS_KEY.encode(), b"{}"))
    return {name: ARROW_TYPES[kind] for name, kind in said.items()}


def _hyperparameter_types(runs: Sequence[Row]) -> dict[str, str]:
    found: dict[str, pa.DataType] = {}
    for row in runs:
        for name, value in row["config"].items():
            found[name] = common_type(found.get(name), HYPERPARAMETER_TYPES[type(value)])
    return type_names(found)


def type_names(types: Mapping[str, pa.DataType]) -> dict[str, str]:
    """The types of columns as `TABLES` calls them."""
    called = {kind: name for name, kind in ARROW_TYPES.items()}
    return {name: called[kind] for name, kind in types.items()}


def _with_counts(runs: Sequence[Row], others: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """The rows of `runs`, with how many rows of each table belong to each."""
    counts = {
        column: Counter(row.get(_owner(table)) for row in others[table])
        for table, column in COUNT_COLUMNS.items()
    }
    return [
        {
            **row,
            "config": json.dumps(dict(row["config"]), sort_keys=True),
            **{
                column: counts[column][row.get(_owner(table))]
                for table, column in COUNT_COLUMNS.items()
            },
        }
        for row in runs
    ]


def _owner(table: str) -> str:
    """The column that says whose a row is."""
    return "config_id" if table == "hyperparameters" else "run_id"


def _seals(contents: Mapping[str, bytes]) -> str:
    seals = {table: [len(content), zlib.crc32(content)] for table, content in contents.items()}
    return json.dumps(seals, sort_keys=True)


def _content(table: str, rows: Sequence[Row], metadata: Mapping[str, str] | None = None) -> bytes:
    schema = pa.schema(
        [(name, ARROW_TYPES[kind]) for name, kind in TABLES[table].items()],
        metadata={VERSION_KEY: str(SCHEMA_VERSION), **(metadata or {})},
    )
    return parquet_content(pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def _read_part(content: bytes) -> pa.Table:
    """The rows of a part.

    Raises:
        pa.ArrowException, OSError: it is damaged.
    """
    return sound_file(content).read()


def _values(values: Iterable[str] | pa.ChunkedArray) -> pa.Array:
    listed = values.to_pylist() if isinstance(values, pa.ChunkedArray | pa.Array) else values
    return pa.array(sorted(set(listed)), pa.string())
