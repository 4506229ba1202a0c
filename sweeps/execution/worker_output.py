"""What a worker printed last: Ray keeps it in two files on the worker's node, for as long as its
session; that of a failed trial is copied to the store."""

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

LONGEST_OUTPUT = 32 * 2**10
"""Bytes that are kept of each of a worker's two streams."""

LOST_SECONDS = 15.0
"""How long to wait for another node's answer."""

_STREAMS = {1: "standard output", 2: "standard error"}
_RAYS_OWN = re.compile(r"^:(job_id|actor_name|task_name):.*\n?", re.MULTILINE)


def output_so_far() -> dict[int, int]:
    """How much this process has printed to each stream, where that goes to a file."""
    return {stream: os.fstat(stream).st_size for stream in _files()}


def output_since(before: Mapping[int, int]) -> str:
    """What this process has printed since, or the end of it."""
    sys.stdout.flush()
    sys.stderr.flush()
    return _joined(
        (_STREAMS[stream], _end(path, before.get(stream, 0))) for stream, path in _files().items()
    )


def output_of_lost_worker(message: str) -> str:
    """The last output of a worker that has died, by what Ray says of it; empty where its files are
    out of reach."""
    pid = re.search(r"^\s*pid: (\d+)$", message, re.MULTILINE)
    host = re.search(r"^\s*ip: (\S+)$", message, re.MULTILINE)
    if pid is None or host is None:
        return ""
    session = os.path.basename(os.path.dirname(_logs_folder()))
    found = on_node(host[1], _worker_files_of, session, int(pid[1]))
    return found if isinstance(found, str) else ""


def on_node(host: str, ask: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns on the node at an address of the cluster; None where that does not
    answer, since it may be gone with its worker."""
    import ray

    if host == ray.util.get_node_ip_address():  # type: ignore[no-untyped-call]
        return ask(*arguments)
    remote = ray.remote(num_cpus=0, resources={f"node:{host}": 0.001})(ask)
    try:
        return ray.get(remote.remote(*arguments), timeout=LOST_SECONDS)
    except Exception:  # whatever Ray raises of a node that has died
        return None


def _worker_files_of(session: str, pid: int) -> str:
    folder = _logs_folder()
    same = os.path.basename(os.path.dirname(folder)) == session
    return worker_files(folder, pid) if same else ""


def _logs_folder() -> str:
    """Where Ray's processes of this node log."""
    import ray

    node: Any = ray._private.worker._global_node
    return str(node.get_logs_dir_path())


def worker_files(folder: str, pid: int) -> str:
    """The end of what a process printed, in a folder of Ray's."""
    found = {}
    for stream, ending in ((1, "out"), (2, "err")):
        for path in glob.glob(f"{glob.escape(folder)}/worker-*-{pid}.{ending}"):
            found[stream] = path
    return _joined((_STREAMS[stream], _end(path, 0)) for stream, path in found.items())


def _files() -> dict[int, str]:
    """The files that the streams go to, by descriptor."""
    found = {}
    for stream in _STREAMS:
        try:
            path = os.readlink(f"/proc/self/fd/{stream}")
        except OSError:
            continue
        if os.path.isfile(path):
            found[stream] = path
    return found


def _end(path: str, start: int) -> str:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = max(start, size - LONGEST_OUTPUT)
            file.seek(first)
            content = file.read(LONGEST_OUTPUT)
    except OSError:
        return ""
    text = _RAYS_OWN.sub("", content.decode("utf-8", errors="replace"))
    return text if first == start else f"...{text}"


def _joined(parts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"[{name}]\n{text.rstrip()}" for name, text in parts if text.strip())
