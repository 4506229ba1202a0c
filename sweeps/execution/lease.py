"""Who runs a sweep of a store: one driver at a time.

A driver writes `leases/<sweep>.json` beside the tables, renews it while it runs and removes it when
it ends. Another one finds it and is told who has the sweep. What a driver left that was killed is
recognised on the same machine at once, by its process, and from elsewhere because nobody renews it.

On a local disk a lease is taken by one driver alone, under a lock of the file system. An object
store has no such operation that pyarrow offers: there a driver looks again after a pause
whether the lease is still its own, and at every renewal; of two that began within that pause one
goes on.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.store import file_lock
from safesweep.trainables.store.writer import ResultWriter, StoreProblem, store_problems

RENEW_SECONDS = 10.0
EXPIRY_SECONDS = 60.0
"""A lease that nobody has renewed for so long is nobody's."""

SETTLE_SECONDS = 2.0
"""How long two drivers that begin at the same moment may take to see each other."""


_HELD: set[str] = set()
"""The leases that drivers in this process hold, by token."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease. `machine` and `process_start` tell processes apart that share a number:
    the boot of a kernel and its process namespace, and the process's start in clock ticks."""

    token: str
    host: str
    process: int
    process_start: str
    machine: str
    since: str
    renewed: float

    @classmethod
    def here(cls) -> "Holder":
        """This process, from now on."""
        return cls(
            token=uuid.uuid4().hex,
            host=socket.gethostname(),
            process=os.getpid(),
            process_start=process_start(os.getpid()),
            machine=machine(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            renewed=time.time(),
        )

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine that is no more, or a driver in this process
        that has ended while the store could not be written."""
        if not self.machine or self.machine != machine():
            return False
        if process_start(self.process) != self.process_start:
            return True
        return self.process == os.getpid() and self.token not in _HELD

    @property
    def seems_alive(self) -> bool:
        """Whether it renewed the lease lately, by this machine's clock."""
        return abs(time.time() - self.renewed) < EXPIRY_SECONDS


def process_start(process: int) -> str:
    """When a process began, in clock ticks since the machine did; empty where there is none."""
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = content.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]


def machine() -> str:
    """This kernel since its boot, and the namespace in which its processes are numbered."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def lease_path(sweep: str) -> str:
    """Where a sweep's lease lies within a store."""
    return f"leases/{sweep}.json"


class Lease:
    """The right to run a sweep.

    Attributes:
        taken_by: who has taken it from this driver, which had not renewed it in time; else None.
    """

    def __init__(
        self, writer: ResultWriter, refused: Callable[[str, Holder], str] | None = None
    ) -> None:
        """
        Args:
            refused: why it cannot be had while somebody holds it, in one line.
        """
        self._writer, self._path = writer, lease_path(writer.sweep)
        self._refused = refused or refusal
        self._own = Holder.here()
        self._over = threading.Event()
        self._renewing: threading.Thread | None = None
        self.taken_by: Holder | None = None

    def acquire(self) -> None:
        """Take it, and keep it until `release`.

        Raises:
            InvalidInput: another driver holds it; the line says who.
            StoreProblem: the store cannot be read or written.
        """
        _HELD.add(self._own.token)
        try:
            while True:
                content, holder = self._read()
                if holder is not None and not self._is_free(holder):
                    raise InvalidInput(self._refused(self._writer.sweep, holder))
                if self._take(content):
                    break
        except BaseException:
            _HELD.discard(self._own.token)
            raise
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    def release(self) -> None:
        """Give it back, where it is held."""
        if self._renewing is None:
            return
        self._over.set()
        self._renewing.join()
        self._renewing = None
        _HELD.discard(self._own.token)
        # A store that fails now lets it run out.
        with contextlib.suppress(StoreProblem):
            _, holder = self._read()
            if holder is not None and holder.token == self._own.token:
                self._writer.remove(self._path)

    def require_free(self) -> None:
        """Without taking it.

        Raises:
            InvalidInput: a driver holds it, which renewed it lately.
        """
        _, holder = self._read()
        if holder is not None and not holder.is_dead and holder.seems_alive:
            raise InvalidInput(self._refused(self._writer.sweep, holder))

    def _is_free(self, holder: Holder) -> bool:
        """Whether a lease is nobody's: its driver is dead, or does not renew it. Clocks may differ,
        so that one which looks old is watched first."""
        if holder.is_dead:
            return True
        if holder.seems_alive:
            return False
        deadline = time.monotonic() + 2 * RENEW_SECONDS
        while time.monotonic() < deadline:
            time.sleep(RENEW_SECONDS / 10)
            if self._read()[1] != holder:
                return False
        return True

    def _take(self, former: bytes | None) -> bool:
        """Put our own lease in the place of a former one; whether it is ours then."""
        if self._writer.local:
            with store_problems(self._writer.storage, "written"):
                target = Path(self._writer.root, self._path)
                target.parent.mkdir(parents=True, exist_ok=True)
                return _replace_same(target, former, self._renewed())
        self._writer.write_bytes(self._path, self._renewed())
        time.sleep(SETTLE_SECONDS)
        _, holder = self._read()
        return holder is not None and holder.token == self._own.token

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            # A store that fails for a moment is no reason to end; one that stays away ends trials.
            with contextlib.suppress(StoreProblem):
                _, holder = self._read()
                if holder is not None and holder.token != self._own.token:
                    self.taken_by = holder
                    return
                self._writer.write_bytes(self._path, self._renewed())

    def _renewed(self) -> bytes:
        self._own = replace(self._own, renewed=time.time())
        return json.dumps(asdict(self._own)).encode()

    def _read(self) -> tuple[bytes | None, Holder | None]:
        """The lease that is there, and who holds it: nobody where it cannot be understood."""
        content = self._writer.read_bytes(self._path)
        return content, holder_in(content)


def holder_in(content: bytes | None) -> Holder | None:
    """Who holds a lease, from its file; None where there is none, or it cannot be understood."""
    try:
        return None if content is None else Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def running_sweeps(writer: ResultWriter) -> dict[str, Holder]:
    """The sweeps of a store that a driver runs now, with who it is.

    Raises:
        StoreProblem: the store cannot be read.
    """
    folder, suffix = lease_path("").rsplit("/", 1)
    found = {}
    for name in writer.names(folder):
        sweep = name.removesuffix(suffix)
        holder = holder_in(writer.read_bytes(lease_path(sweep)))
        # Hidden ones are no sweep's.
        if name.startswith(".") or holder is None or holder.is_dead:
            continue
        if holder.seems_alive:
            found[sweep] = holder
    return found


def refusal(sweep: str, holder: Holder) -> str:
    """Why a sweep cannot be run now, in one line."""
    ago = max(0.0, time.time() - holder.renewed)
    return (
        f"sweep: {sweep!r} is being run by process {holder.process} on {holder.host} since "
        f"{holder.since} (last heard of {ago:.0f} s ago); wait until that has ended, or end it"
    )


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Change a lease while nobody else does. Where the file system has no locks, two drivers that
    find the same dead one within milliseconds may both go on, until one renews its lease."""
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            file_lock.flock(descriptor, file_lock.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace_same(target: Path, former: bytes | None, content: bytes) -> bool:
    """Put a file whole in the place of what was read there; whether that was there still."""
    with _alone(target):
        try:
            found = target.read_bytes()
        except FileNotFoundError:
            found = None
        if found != former:
            return False
        partial = target.with_name(f".{uuid.uuid4().hex}")
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return True
