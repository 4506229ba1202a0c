"""Fetching DSRL's published files from their mirrors: resumed, verified, put in place at once."""

import contextlib
import hashlib
import http.client
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.data.cache import cache_folder
from safesweep.trainables.data.dataset import Progress, read_dataset, write_dataset
from safesweep.trainables.tasks.registry import get_task, simulator_versions, suite_of
from safesweep.trainables.tasks.suite import Arrays
from safesweep.trainables.tasks.task import Task

TIMEOUT = 20.0
"""Seconds without an answer after which a mirror is given up."""

QUICK_TIMEOUT = 4.0
"""The same where something else can be done instead."""

_BLOCK = 1 << 20
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


class FetchFailed(InvalidInput):
    """No mirror gave the file; the message says which hosts were tried and what to do."""


class _Rejected(Exception):
    """A mirror answered with something that is not the file."""


_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _SecureRedirects(HTTPRedirectHandler):
    """Follows a mirror to other places, but to none where anyone on the way could answer."""

    def redirect_request(self, *arguments: Any, **options: Any) -> Request | None:
        """The request to follow with.

        Raises:
            _Rejected: its place is not one of https.
        """
        request = super().redirect_request(*arguments, **options)
        if request is not None:
            _require_secure(request.full_url)
        return request


def _require_secure(url: str) -> None:
    """What comes from this machine needs no certificate."""
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise _Rejected(f"{parts.scheme}://{parts.hostname} is not https")


def fetch_dataset(
    task: Task | str, progress: Progress | None = None, timeout: float = TIMEOUT
) -> Path:
    """Fetch the published file of `task` into the cache folder and check it.

    Mirrors are tried in order. A download that broke off is continued where it stopped, also in a
    later call. The file appears under its name only after it was read, its episodes counted, and
    its SHA-256 compared with that of the first file that was fetched under this name, which is kept
    beside it (`<name>.sha256`, as `sha256sum` writes it).

    Args:
        progress: called with (bytes so far, bytes in all, 0 when unknown).
        timeout: seconds to wait for a mirror to answer.

    Returns:
        The file's path.

    Raises:
        FetchFailed: no mirror gave a file that passes, or the task has no published file.
        InvalidInput: unknown task, or the cache folder is not writable.
    """
    task = get_task(task) if isinstance(task, str) else task
    if task.dataset_file is None:
        raise FetchFailed(
            f"fetch: {task.name} has no published dataset; "
            f"make one with: safesweep data collect {task.name}"
        )
    destination = cache_folder() / task.dataset_file
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InvalidInput(
            f"cache: {str(destination.parent)!r} cannot be made: {problem.strerror}"
        ) from problem
    fetch = suite_of(task).fetch
    if fetch is not None:
        return _fetch_by_suite(fetch, task, destination)
    tried = []
    for url in task.dataset_urls:
        # Each mirror has its own partial file: what two hosts serve may differ.
        host = urlsplit(url).netloc
        partial = destination.with_name(f".{destination.name}.{host.replace(':', '-')}.partial")
        try:
            _require_secure(url)
            _download(url, partial, progress, timeout)
            _verify(partial, task)
            _require_known(partial, destination)
        except (OSError, http.client.HTTPException, _Rejected) as problem:
            tried.append(f"{host} ({_reason(problem)})")
            continue
        os.replace(partial, destination)
        _validator_file(partial).unlink(missing_ok=True)
        return destination
    raise FetchFailed(
        f"fetch: no mirror gave {task.dataset_file}; tried {', '.join(tried)}; "
        f"without a network, use data from the simulator (safesweep data collect {task.name}) "
        "or a file from elsewhere (dataset: path.hdf5)"
    )


def _fetch_by_suite(
    fetch: Callable[[Task, Path], tuple[Arrays, Mapping[str, object]]],
    task: Task,
    destination: Path,
) -> Path:
    """A suite's own download, kept in its folder of the cache, in our layout."""
    versions = simulator_versions(task)
    try:
        arrays, provenance = fetch(task, destination.parent / task.suite)
    except OSError as problem:
        host = urlsplit(task.dataset_urls[0]).netloc
        raise FetchFailed(
            f"fetch: {task.suite}'s download of {task.name} from {host} failed ({_reason(problem)})"
        ) from problem
    return write_dataset(destination, arrays, {**provenance, "simulator": versions})


def _download(url: str, partial: Path, progress: Progress | None, timeout: float) -> None:
    """Download into `partial`, continuing what is there already."""
    present = partial.stat().st_size if partial.exists() else 0
    validator = _validator_file(partial)
    request = Request(url, headers={"User-Agent": "safesweep", "Accept-Encoding": "identity"})
    if present:
        request.add_header("Range", f"bytes={present}-")
        # Of a file that has changed since, all is sent.
        with contextlib.suppress(FileNotFoundError):
            request.add_header("If-Range", validator.read_text(encoding="latin-1"))
    try:
        answer = build_opener(_SecureRedirects).open(request, timeout=timeout)
    except HTTPError as problem:
        if present and problem.code == _RANGE_NOT_SATISFIABLE:
            if problem.headers.get("Content-Range") == f"bytes */{present}":
                return  # complete already
            partial.unlink()
            return _download(url, partial, progress, timeout)
        raise
    with answer:
        resumed = answer.status == _PARTIAL_CONTENT
        if resumed and not (answer.headers.get("Content-Range") or "").startswith(
            f"bytes {present}-"
        ):
            raise _Rejected("it sent another part than was asked for")
        start = present if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        if total and shutil.disk_usage(partial.parent).free < total - start:
            raise InvalidInput(
                f"cache: {str(partial.parent)!r} has too little space for {total >> 20} MiB"
            )
        done = start
        if not resumed:
            _keep_validator(validator, answer.headers)
        with open(partial, "r+b" if resumed else "wb") as file:
            file.seek(start)
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
    if total and done != total:
        raise _Rejected(f"it broke off after {done} of {total} bytes")


def _validator_file(partial: Path) -> Path:
    """Where the mirror's name of the version is kept of which `partial` is the beginning."""
    return partial.with_name(f"{partial.name}.version")


def _keep_validator(path: Path, headers: Any) -> None:
    stated = headers.get("ETag") or headers.get("Last-Modified")
    # A weak one says that two files mean the same, not that their bytes are.
    if stated and not stated.startswith("W/"):
        path.write_text(stated, encoding="latin-1")
    else:
        path.unlink(missing_ok=True)


def _require_known(partial: Path, destination: Path) -> None:
    """Whether a file is the one that was fetched first under this name, which is recorded.

    Raises:
        _Rejected: it is another one; it is removed.
    """
    with open(partial, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = destination.with_name(f"{destination.name}.sha256")
    try:
        known = record.read_text(encoding="ascii").split()[0]
    except (FileNotFoundError, IndexError):
        record.write_text(f"{digest}  {destination.name}\n", encoding="ascii")
        return
    if digest != known:
        partial.unlink()
        raise _Rejected(
            f"its SHA-256 is {digest[:12]}..., but the file that was fetched first had "
            f"{known[:12]}... ({record.name})"
        )


def _verify(partial: Path, task: Task) -> None:
    """Read the file as any other, and count its episodes.

    A file that fails is removed: nothing that continues it could pass.
    """
    try:
        dataset = read_dataset(partial, task)
        episodes = len(dataset.episode_ends)
        if episodes != task.trajectories:
            raise _Rejected(f"its file has {episodes} episodes instead of {task.trajectories}")
    except InvalidInput as problem:
        partial.unlink()
        raise _Rejected(str(problem).replace(str(partial), partial.name)) from problem
    except _Rejected:
        partial.unlink()
        raise


def _reason(problem: Exception) -> str:
    if isinstance(problem, HTTPError):
        return f"HTTP {problem.code}"
    if isinstance(problem, URLError):
        problem_text = str(getattr(problem.reason, "strerror", None) or problem.reason)
    elif isinstance(problem, TimeoutError):
        problem_text = "no answer in time"
    else:
        problem_text = str(problem) or type(problem).__name__
    return " ".join(problem_text.split())
