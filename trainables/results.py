"""Writing a result store: whole Parquet parts, or none.

A store is a local folder or any location that pyarrow's filesystems reach. On a local disk a part
is written beside the tables and renamed into place; an object store shows an object only once it
is complete.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from search_spaces.validation import InvalidInput
from trainables.identity import code_version
from trainables.tables import SCHEMA_VERSION, TABLES

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


def storage_location(storage: str) -> str:
    """The absolute path of a local store, or the URI as given."""
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


class ResultWriter:
    """Writes one sweep's parts of a store.

    Raises:
        InvalidInput: the store cannot be reached or written.
    """

    def __init__(self, storage: str, sweep: str) -> None:
        self.storage, self.sweep = storage_location(storage), sweep
        try:
            self.filesystem, self.root = fs.FileSystem.from_uri(self.storage)
            self.local = isinstance(self.filesystem, fs.LocalFileSystem)
            probe = f"heartbeats/.probe-{uuid.uuid4().hex}"
            self.write_bytes(probe, b"")
            self.remove(probe)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInput(f"storage: {storage!r} cannot be written ({reason})") from error

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Put a file whole at `<store>/<relative>`, replacing the one there."""
        target = f"{self.root}/{relative}"
        if not self.local:
            with self.filesystem.open_output_stream(target) as stream:
                stream.write(content)
            return
        partial = Path(self.root, PARTIAL_FOLDER, uuid.uuid4().hex)
        partial.parent.mkdir(parents=True, exist_ok=True)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
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
        if self.filesystem.get_file_info(path).type != fs.FileType.File:
            return None
        with self.filesystem.open_input_stream(path) as stream:
            return stream.read()

    def remove(self, relative: str) -> None:
        """Remove a file if it is there."""
        path = f"{self.root}/{relative}"
        if self.filesystem.get_file_info(path).type == fs.FileType.File:
            self.filesystem.delete_file(path)

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
        `hp_` columns.
        """
        self._write_part("episodes", trial_id, episodes)
        self._write_part("metrics", trial_id, metrics)
        self._write_part("evaluations", trial_id, evaluations)
        self._write_part("runs", trial_id, [_expand_config(row) for row in runs])

    def remove_trials(self, trial_ids: Iterable[str]) -> None:
        """Remove the parts, checkpoints and heartbeats of trials, `runs` first."""
        for trial in trial_ids:
            for table in ("runs", "evaluations", "metrics", "episodes"):
                self.remove(self._part(table, trial))
            self.remove(checkpoint_path(trial))
            self.remove(heartbeat_path(trial))

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
        self._write_part("sweeps", "plan", [row])

    def _part(self, table: str, name: str) -> str:
        return f"{table}/sweep={self.sweep}/{name}.parquet"

    def _write_part(self, table: str, name: str, rows: Sequence[Row]) -> None:
        if not rows:
            self.remove(self._part(table, name))
            return
        sink = pa.BufferOutputStream()
        pq.write_table(_arrow_table(table, rows), sink, compression="zstd")
        self.write_bytes(self._part(table, name), sink.getvalue().to_pybytes())


def checkpoint_path(trial_id: str) -> str:
    """Where a trial's checkpoint lies within a store."""
    return f"checkpoints/{trial_id}/latest.pt"


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
    metadata = {"safesweep.schema_version": str(SCHEMA_VERSION)}
    schema = pa.schema(list(columns.items()), metadata=metadata)
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
