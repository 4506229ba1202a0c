"""Who trains which runs of a store: several drivers share the work, and no run is trained twice.

Every driver of a sweep has one file beside the tables, `leases/<token>.json`. It says who the
driver is (host, process, sweep), since when, when it last wrote the file, and which trials it
holds, each with its runs. It is written anew every `RENEW_SECONDS` and removed at the end. A trial
is handed to a worker once its driver holds all of its runs; what another holds is waited for.

**Taken by one alone.** A driver only ever writes its own file, so that nothing has to be exchanged
atomically, which local disks, shared folders and object stores offer in three ways or not at all.
It takes runs in two steps: it writes that it wants them, then reads what all others have written.
Of two drivers that want the same, whichever reads last sees the other (every store that shows a
file as soon as its writing has ended has this: local disks; network file systems, whose clients
look anew into a folder that they have changed; S3 since 2020, Google's and Azure's stores). Where
another holds one of the runs, the driver withdraws; where another wants one, the driver with the
higher token withdraws and the other waits until that is done (Lamport, Communications of the ACM
17(8), 1974, orders processes by tickets likewise).

**Nobody's again.** A driver that was killed is recognised on the same machine at once, by its
process, and from elsewhere after `EXPIRY_SECONDS` without a change of its file, by the reader's own
clock. What it held can then be taken, unless a worker of its still trains (its heartbeat says so).
A driver that was only stopped finds that it has not renewed in time, asks for all its runs anew
before it goes on, and leaves those that others have taken meanwhile.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from safesweep.trainables.store.heartbeats import (
    EXPIRY_SECONDS,
    RENEW_SECONDS,
    condition,
    parse_heartbeat,
    worker_of,
)
from safesweep.trainables.store.process_identity import ProcessIdentity
from safesweep.trainables.store.writer import ResultWriter, StoreProblem, heartbeat_path

FORGOTTEN_SECONDS = 24 * 3600.0
"""Leases that nobody has renewed for so long are removed."""

DECIDE_SECONDS = 5.0
"""How long a driver waits for another that wants the same at the same moment."""

FOLDER = "leases"
ENDED = f"{FOLDER}/ended"
"""Names the driver that ended last: whoever plans by an older look at the store looks again."""

_HELD: set[str] = set()
"""The leases that drivers in this process hold, by token."""


class LeaseLost(Exception):
    """The runs of a trial have been taken by another driver."""


@dataclass(frozen=True)
class Holder:
    """A driver, as its file says.

    Attributes:
        trials: what it holds: run ids by trial.
        wanted: what it has asked for, likewise.
    """

    token: str
    sweep: str
    host: str
    process: int
    process_start: str
    machine: str
    since: str
    renewed: float
    trials: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    wanted: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def identity(self) -> ProcessIdentity:
        """Its process."""
        return ProcessIdentity(self.host, self.process, self.process_start, self.machine)

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this machine that is no more, or a driver in this process
        that has ended while the store could not be written."""
        if self.identity.is_gone:
            return True
        own = self.identity.is_here and self.process == os.getpid()
        return own and self.token not in _HELD

    @property
    def seems_alive(self) -> bool:
        """Whether it renewed its lease lately, by this machine's clock."""
        return not self.is_dead and abs(time.time() - self.renewed) < EXPIRY_SECONDS

    @property
    def condition(self) -> str:
        """`running`, `stalled` where its process is there and says nothing, or `dead`."""
        if self.seems_alive:
            return "running"
        return "stalled" if self.identity.is_here and not self.is_dead else "dead"

    def runs(self) -> set[str]:
        """All that it holds."""
        return {run for runs in self.trials.values() for run in runs}

    def wanted_runs(self) -> set[str]:
        """All that it has asked for."""
        return {run for runs in self.wanted.values() for run in runs}

    def __str__(self) -> str:
        return f"process {self.process} on {self.host} (sweep {self.sweep!r})"


def lease_path(token: str) -> str:
    """Where a driver's lease lies within a store."""
    return f"{FOLDER}/{token}.json"


def parse_lease(content: bytes | None) -> Holder | None:
    """Who holds a lease; None where there is none, or it cannot be understood."""
    if content is None:
        return None
    try:
        values = json.loads(content)
        known = {entry.name: values[entry.name] for entry in fields(Holder)}
        for name in ("trials", "wanted"):
            known[name] = {str(key): tuple(map(str, runs)) for key, runs in known[name].items()}
        known["renewed"], known["process"] = float(known["renewed"]), int(known["process"])
        return Holder(**known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def exclusive(sweep: str) -> str:
    """What a driver takes in the place of a trial to have a sweep to itself."""
    return f"sweep {sweep}"


class _Watch:
    """Whether what others renew is renewed, judged by this process's clock alone."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float, bool]] = {}

    def is_renewed(self, name: str, renewed: float) -> bool:
        """Whether something that says it was renewed then still is, as far as is known.

        Clocks differ, so that what looks old at first sight is watched for twice the time in which
        it has to be renewed.
        """
        now = time.monotonic()
        before = self._seen.get(name)
        if before is None or before[0] != renewed:
            fresh = before is not None or abs(time.time() - renewed) < EXPIRY_SECONDS
            self._seen[name] = (renewed, now, fresh)
            return True
        _, since, fresh = before
        return now - since < (EXPIRY_SECONDS if fresh else 2 * RENEW_SECONDS)


class Lease:
    """What one driver of a sweep holds of a store.

    Every method raises StoreProblem where the store cannot be read or written, but for `release`.

    Attributes:
        token: names it.
        news: whether another driver was there, or has ended, since this one began: what the store
            held then may not be all.
        lost: trials that were taken from this driver, which had not renewed its lease in time.
    """

    def __init__(self, writer: ResultWriter) -> None:
        self._writer = writer
        self.token = uuid.uuid4().hex
        self._identity = ProcessIdentity.own()
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._held: dict[str, tuple[str, ...]] = {}
        self._wanted: dict[str, tuple[str, ...]] = {}
        self._watch = _Watch()
        self._mutex = threading.RLock()
        self._soon, self._over = threading.Event(), False
        self._renewed_at = float("-inf")
        self._renewing: threading.Thread | None = None
        self._ended: bytes | None = None
        self.news = False
        self.lost: dict[str, Holder] = {}

    def acquire(self) -> None:
        """Begin to hold, and to renew."""
        self._ended = self._writer.read_bytes(ENDED)
        _HELD.add(self.token)
        try:
            self._write()
        except BaseException:
            _HELD.discard(self.token)
            raise
        self._renewing = threading.Thread(target=self._renew, daemon=True)
        self._renewing.start()

    def release(self) -> None:
        """Give back all that is held."""
        if self._renewing is None:
            return
        self._over = True
        self._soon.set()
        self._renewing.join()
        self._renewing = None
        _HELD.discard(self.token)
        # A store that fails now lets it run out.
        with contextlib.suppress(StoreProblem):
            self._writer.write_bytes(ENDED, self.token.encode())
            self._writer.remove(lease_path(self.token))

    def claim(self, trial: str, runs: Collection[str]) -> dict[str, Holder]:
        """Take a trial's runs, all or none.

        Returns:
            who has which of them; empty where they are this driver's from now on.
        """
        with self._mutex:
            self.confirm()
            own = {run for held in self._held.values() for run in held}
            if own.issuperset(runs):
                self._held[trial] = tuple(runs)
                self._soon.set()
                return {}
            self._wanted = {trial: tuple(runs)}
            try:
                self._write()
                found = self._contested(set(runs) - own)
            except BaseException:
                self._wanted = {}
                raise
            self._wanted = {}
            if not found:
                self._held[trial] = tuple(runs)
                self.lost.pop(trial, None)
            if self.news:
                self._write()  # Others see at once what was decided.
            else:
                self._soon.set()
            return found

    def free(self, trial: str) -> None:
        """Let others take a trial's runs."""
        with self._mutex:
            self._held.pop(trial, None)
            self.lost.pop(trial, None)
            self._soon.set()

    def elsewhere(self) -> dict[str, Holder]:
        """Who else holds which runs now."""
        with self._mutex:
            others = self._others()
        return {run: other for other in others for run in other.runs() | other.wanted_runs()}

    def shares(self) -> bool:
        """Whether another driver runs the same sweep now."""
        with self._mutex:
            return any(other.sweep == self._writer.sweep for other in self._others())

    def confirm(self) -> None:
        """Where the lease was not renewed in time, ask for all that it holds anew; what others have
        taken is in `lost` then."""
        with self._mutex:
            if self._renewing is None or not self._lapsed:
                return
            self._wanted, self._held = {**self._held, **self._wanted}, {}
            asked = {trial: runs for trial, runs in self._wanted.items()}
            self._write()
            taken = self.elsewhere()
            for trial, runs in asked.items():
                holders = [taken[run] for run in runs if run in taken]
                if holders:
                    self.lost[trial] = holders[0]
                else:
                    self._held[trial] = runs
            self._wanted = {}
            self._write()

    @property
    def _lapsed(self) -> bool:
        """Whether others may think by now that the driver is no more."""
        return time.monotonic() - self._renewed_at > EXPIRY_SECONDS - RENEW_SECONDS

    def _contested(self, runs: set[str]) -> dict[str, Holder]:
        """Who has runs that this driver has written that it wants; empty where it has won them."""
        deadline = time.monotonic() + DECIDE_SECONDS
        while True:
            others = self._others()
            held = {run: other for other in others for run in other.runs() & runs}
            wanted = {run: other for other in others for run in other.wanted_runs() & runs}
            first = all(self.token < other.token for other in wanted.values())
            if held or not wanted:
                return {**wanted, **held}
            if not first or time.monotonic() > deadline:
                return wanted
            time.sleep(0.05)

    def _others(self) -> list[Holder]:
        """Drivers that are alive, and workers that are though their driver is not; what the dead
        have left of their leases is removed."""
        ended = self._writer.read_bytes(ENDED)
        self.news = self.news or ended != self._ended
        found = []
        for name in self._writer.names(FOLDER):
            token = name.removesuffix(".json")
            if token == self.token or not name.endswith(".json"):
                continue
            holder = parse_lease(self._writer.read_bytes(lease_path(token)))
            if holder is None:
                continue
            self.news = True
            if holder.is_dead:
                self._writer.remove(lease_path(token))
            elif self._watch.is_renewed(token, holder.renewed):
                found.append(holder)
            elif time.time() - holder.renewed > FORGOTTEN_SECONDS:
                # Not sooner: one that is stopped, and goes on, must be seen at once.
                self._writer.remove(lease_path(token))
        orphans = self._orphans(found)
        self.news = self.news or bool(orphans)
        return [*found, *orphans]

    def _orphans(self, drivers: Iterable[Holder]) -> list[Holder]:
        """Workers that train for a driver which is no more, as if they were drivers."""
        in_charge = {self.token, *(driver.token for driver in drivers)}
        known = {*self._held, *self._wanted, *(trial for one in drivers for trial in one.trials)}
        found = []
        for name in self._writer.names("heartbeats"):
            trial = name.removesuffix(".json")
            if not name.endswith(".json") or (trial in known and trial not in self._wanted):
                continue
            try:
                beat = parse_heartbeat(self._writer.read_bytes(heartbeat_path(trial)) or b"")
            except ValueError:
                continue
            worker = worker_of(beat)
            if beat["lease"] in in_charge or beat["waiting"] or worker.is_gone:
                continue
            # One of an older release says nothing by time.
            if beat["renewed"] and self._watch.is_renewed(f"worker of {trial}", beat["renewed"]):
                found.append(
                    Holder(
                        token="",
                        sweep=beat["sweep"],
                        since=beat["time"],
                        renewed=beat["renewed"],
                        trials={trial: tuple(beat["run_ids"])},
                        **vars(worker),
                    )
                )
        return found

    def _renew(self) -> None:
        while True:
            self._soon.wait(RENEW_SECONDS)
            if self._over:
                return
            self._soon.clear()
            # A store that fails for a moment is no reason to end; one that stays away ends trials.
            with contextlib.suppress(StoreProblem), self._mutex:
                if self._lapsed:
                    self.confirm()
                else:
                    self._write()

    def _write(self) -> None:
        now = time.monotonic()
        content: dict[str, Any] = {
            "token": self.token,
            "sweep": self._writer.sweep,
            **vars(self._identity),
            "since": self._since,
            "renewed": time.time(),
            "trials": self._held,
            "wanted": self._wanted,
        }
        self._writer.write_bytes(lease_path(self.token), json.dumps(content).encode())
        self._renewed_at = now


def sweep_state(
    sweep: str, recorded: str, drivers: Iterable[Holder], beats: Iterable[Mapping[str, Any]]
) -> str:
    """How a sweep is, by what its drivers and trials say and how long ago.

    | state | when |
    |---|---|
    | `running` | a trial of it comes further, or its driver is about to hand one out |
    | `waiting` | its trials wait for the others of their rung, or its drivers for other drivers |
    | `stalled` | its trials, or its drivers, are there and do not come further |
    | `dead` | it was recorded as running, and its drivers are no more |

    With no driver, and not recorded as running, it is what was recorded when it ended.

    Args:
        drivers: of the store, those that are known to be dead excepted.
        beats: the heartbeats of the store.
    """
    own = [driver for driver in drivers if driver.sweep == sweep]
    if not own:
        return "dead" if recorded == "running" else recorded
    alive = [driver for driver in own if driver.condition == "running"]
    if not alive:
        return "stalled"
    tokens = {driver.token for driver in alive}
    found = {condition(beat, tokens) for beat in beats if beat["sweep"] == sweep}
    for state in ("running", "stalled", "waiting"):
        if state in found:
            return state
    return "running" if any(driver.trials for driver in alive) else "waiting"


def require_own(writer: ResultWriter, token: str | None, runs: Collection[str]) -> None:
    """Before the rows of runs are written that were trained under a driver's lease.

    Raises:
        LeaseLost: another driver has taken them, since that one was not heard of for long.
        StoreProblem: the store cannot be read.
    """
    if token is None:
        return
    for name in writer.names(FOLDER):
        if not name.endswith(".json") or name == f"{token}.json":
            continue
        holder = parse_lease(writer.read_bytes(f"{FOLDER}/{name}"))
        if holder is not None and holder.seems_alive and holder.runs().intersection(runs):
            raise LeaseLost(f"its runs are trained by {holder} now")
