"""Several drivers share a store: each run is one driver's, and nobody's once that has died."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from safesweep.trainables.store import leases
from safesweep.trainables.store.leases import (
    Holder,
    Lease,
    LeaseLost,
    exclusive,
    lease_path,
    parse_lease,
    require_own,
    sweep_state,
)
from safesweep.trainables.store.process_identity import ProcessIdentity, process_start
from safesweep.trainables.store.writer import ResultWriter, StoreProblem, heartbeat_path
from tests.sweeps.object_store import BUCKET, object_store

ELSEWHERE = ProcessIdentity("elsewhere", 17, "1", "another kernel")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 2.0)


@pytest.fixture
def writer(tmp_path: Path) -> ResultWriter:
    return ResultWriter(str(tmp_path), "example")


@pytest.fixture
def drivers(writer: ResultWriter) -> Iterator[list[Lease]]:
    """Three, of one sweep."""
    made = [Lease(ResultWriter(writer.storage, writer.sweep)) for _ in range(3)]
    for one in made:
        one.acquire()
    yield made
    for one in made:
        one.release()


def leave(
    writer: ResultWriter, runs: tuple[str, ...] = ("a-0",), token: str = "theirs", **changes: object
) -> bytes:
    """A lease as a driver on another machine would have written it; also returned."""
    content = {"token": token, "sweep": "example", **vars(ELSEWHERE), "since": "then",
               "renewed": time.time(), "trials": {"t": runs}, "wanted": {}, **changes}  # fmt: skip
    encoded = json.dumps(content).encode()
    writer.write_bytes(lease_path(token), encoded)
    return encoded


def files(writer: ResultWriter) -> list[str]:
    """The leases in the store."""
    return [name for name in writer.names("leases") if name.endswith(".json")]


def test_runs_are_one_drivers_until_it_frees_them(drivers: list[Lease]) -> None:
    first, second, _ = drivers
    assert first.claim("t", ["a-0", "a-1"]) == {}
    assert first.claim("t", ["a-0", "a-1"]) == {}  # again
    taken = second.claim("u", ["a-1", "b-0"])
    assert {run: holder.token for run, holder in taken.items()} == {"a-1": first.token}
    assert second.claim("v", ["b-0"]) == {}
    assert set(first.elsewhere()) == {"b-0"}
    first.free("t")
    deadline = time.monotonic() + 5
    while second.elsewhere() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert second.claim("u", ["a-1", "b-0"]) == {}


def test_what_a_driver_holds_is_kept_when_it_is_grouped_anew(drivers: list[Lease]) -> None:
    first, second, _ = drivers
    assert first.claim("whole", ["a-0", "a-1"]) == {}
    assert first.claim("half", ["a-0"]) == {}
    first.free("whole")
    deadline = time.monotonic() + 5
    while "a-1" in second.elsewhere() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(second.elsewhere()) == {"a-0"}


def test_a_driver_that_ended_leaves_nothing_but_news(
    writer: ResultWriter, drivers: list[Lease]
) -> None:
    following = Lease(writer)
    following.acquire()
    assert not following.news
    for one in drivers:
        one.release()
    assert following.claim("t", ["a-0"]) == {}
    assert following.news
    following.release()
    assert files(writer) == []


def test_alone_there_is_no_news(writer: ResultWriter) -> None:
    one = Lease(writer)
    one.acquire()
    assert one.claim("t", ["a-0"]) == {} and not one.news and not one.shares()
    one.release()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_of_many_that_begin_at_once_each_run_is_taken_once(writer: ResultWriter, seed: int) -> None:
    """Eight drivers take overlapping trials until none is left; nobody ever holds what another
    does."""
    trials = {f"t{n}": [f"r{(n + k) % 12}" for k in range(1 + n % 3)] for n in range(12)}
    together = threading.Barrier(8)
    owner: dict[str, str] = {}
    faults: list[str] = []
    guard = threading.Lock()

    def drive(number: int) -> None:
        order = random.Random(100 * seed + number)
        lease = Lease(ResultWriter(writer.storage, "example"))
        lease.acquire()
        together.wait()
        try:
            for trial in order.sample(sorted(trials), 6):
                if lease.claim(trial, trials[trial]):
                    continue
                with guard:
                    faults.extend(run for run in trials[trial] if run in owner)
                    owner.update(dict.fromkeys(trials[trial], lease.token))
                time.sleep(order.uniform(0, 0.02))
                with guard:
                    for run in trials[trial]:
                        owner.pop(run, None)
                lease.free(trial)
        finally:
            lease.release()

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert files(writer) == []


def test_a_lease_is_renewed_for_as_long_as_it_is_held(drivers: list[Lease]) -> None:
    first, second, _ = drivers
    assert first.claim("t", ["a-0"]) == {}
    time.sleep(2.5)
    assert set(second.claim("u", ["a-0"])) == {"a-0"}
    assert first.lost == {}


def test_what_a_process_held_that_was_killed_is_nobodys_at_once(writer: ResultWriter) -> None:
    code = (
        "import sys, os, signal, time\n"
        "from safesweep.trainables.store.leases import Lease\n"
        "from safesweep.trainables.store.writer import ResultWriter\n"
        "one = Lease(ResultWriter(sys.argv[1], 'example'))\n"
        "one.acquire(); one.claim('t', ['a-0']); time.sleep(0.2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, writer.storage], check=False)
    (name,) = files(writer)
    holder = parse_lease(writer.read_bytes(f"leases/{name}"))
    assert holder is not None and holder.runs() == {"a-0"} and holder.condition == "dead"
    following = Lease(writer)
    following.acquire()
    started = time.monotonic()
    assert following.claim("t", ["a-0"]) == {}
    assert time.monotonic() - started < 1
    following.release()
    assert files(writer) == []


def test_a_driver_that_could_not_give_its_lease_back_blocks_nobody_in_its_process(
    writer: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lease(writer)
    first.acquire()
    first.claim("t", ["a-0"])
    with monkeypatch.context() as patch:
        patch.setattr(writer, "remove", failing)
        first.release()
    assert len(files(writer)) == 1
    following = Lease(writer)
    following.acquire()
    assert following.claim("t", ["a-0"]) == {}
    following.release()


def failing(relative: str) -> None:
    raise StoreProblem(f"storage: {relative!r} cannot be written (read-only)")


def test_a_process_number_that_another_process_has_now_is_not_the_driver(
    writer: ResultWriter, drivers: list[Lease]
) -> None:
    leave(writer, **{**vars(ProcessIdentity.own()), "process_start": "1"})
    assert drivers[0].claim("t", ["a-0"]) == {}


def test_elsewhere_a_lease_counts_until_nobody_renews_it_whatever_the_clocks_say(
    writer: ResultWriter, drivers: list[Lease]
) -> None:
    clocks = {"late": -3600.0, "right": 0.0, "early": 3600.0}
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        for name, ahead in clocks.items():
            leave(writer, (f"{name}-0",), name, renewed=time.time() + ahead)
        for name in clocks:
            assert set(drivers[0].claim(name, [f"{name}-0"])) == {f"{name}-0"}
        time.sleep(0.1)
    ended, freed = time.monotonic(), dict[str, float]()
    while len(freed) < len(clocks):
        for name in set(clocks) - set(freed):
            if not drivers[0].claim(name, [f"{name}-0"]):
                freed[name] = time.monotonic() - ended
        assert time.monotonic() - ended < 5
        time.sleep(0.05)
    assert min(freed.values()) > 1.5


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"host": 1}', b"\xff", b"[" * 100_000, b'{"trials": []}']
)
def test_what_is_no_lease_stops_nobody(
    writer: ResultWriter, drivers: list[Lease], content: bytes
) -> None:
    writer.write_bytes(lease_path("bad"), content)
    assert parse_lease(content) is None
    assert drivers[0].claim("t", ["a-0"]) == {}


def test_a_driver_that_was_stopped_leaves_what_others_have_taken(
    writer: ResultWriter, drivers: list[Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = drivers
    assert first.claim("t", ["a-0"]) == {} and first.claim("u", ["b-0"]) == {}
    write = first._write
    monkeypatch.setattr(first, "_write", lambda: None)  # as if it were stopped
    deadline = time.monotonic() + 5
    while second.claim("t", ["a-0"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(LeaseLost, match="are trained by process"):
        require_own(writer, first.token, ["a-0"])
    require_own(writer, first.token, ["b-0"])
    require_own(writer, None, ["a-0"])
    monkeypatch.setattr(first, "_write", write)
    first.confirm()
    assert set(first.lost) == {"t"} and first.lost["t"].token == second.token
    assert set(second.elsewhere()) == {"b-0"}


def test_a_worker_keeps_its_runs_though_its_driver_is_stopped_or_dead(
    writer: ResultWriter, drivers: list[Lease]
) -> None:
    beat = {"trial_id": "t", "sweep": "example", "task": "Boat", "run_ids": ["a-0"], "step": 1,
            "steps": 2, **vars(ELSEWHERE), "lease": "gone"}  # fmt: skip
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        content = json.dumps({**beat, "renewed": time.time()}).encode()
        writer.write_bytes(heartbeat_path("t"), content)
        assert set(drivers[0].claim("t", ["a-0"])) == {"a-0"}
        time.sleep(0.2)
    deadline = time.monotonic() + 5
    while drivers[0].claim("t", ["a-0"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_bucket_has_leases_too() -> None:
    with object_store():
        storage = f"s3://{BUCKET}/some/store"
        two = [Lease(ResultWriter(storage, "example")) for _ in range(2)]
        for one in two:
            one.acquire()
        taken: list[bool] = []

        def take(mine: Lease) -> None:
            taken.append(not mine.claim("t", ["a-0"]))

        threads = [threading.Thread(target=take, args=(mine,)) for mine in two]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(taken) <= 1
        assert sum(not mine.claim("t", ["a-0"]) for mine in two) == 1
        for one in two:
            one.release()
        assert files(ResultWriter(storage, "example")) == []


def test_a_sweep_may_be_taken_whole(drivers: list[Lease]) -> None:
    first, second, _ = drivers
    taken = exclusive("example")
    assert first.claim(taken, [taken]) == {}
    assert set(second.claim(taken, [taken])) == {taken}
    assert second.shares()


def test_processes_are_told_apart_by_their_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(child.pid) not in ("", process_start(os.getpid()))
    child.kill()
    while process_start(child.pid):  # a zombie is none
        time.sleep(0.05)
    child.wait()
    assert process_start(child.pid) == ""


def holder(**changes: object) -> Holder:
    values = {"token": "d", "sweep": "example", **vars(ELSEWHERE), "since": "then",
              "renewed": time.time(), "trials": {"t": ("a-0",)}, "wanted": {}}  # fmt: skip
    return Holder(**{**values, **changes})  # type: ignore[arg-type]


def beat(**changes: object) -> dict[str, object]:
    from safesweep.trainables.store.heartbeats import parse_heartbeat

    content = {"trial_id": "t", "sweep": "example", "task": "Boat", "run_ids": ["a-0"], "step": 1,
               "steps": 2, **vars(ELSEWHERE), "lease": "d", "renewed": time.time(),
               "progressed": time.time(), "patience": 300.0, **changes}  # fmt: skip
    return parse_heartbeat(json.dumps(content).encode())


@pytest.mark.parametrize(
    ("recorded", "drivers", "beats", "state"),
    [
        ("completed", [], [], "completed"),
        ("interrupted", [], [{}], "interrupted"),
        ("running", [], [{}], "dead"),
        ("running", [{"sweep": "other"}], [{}], "dead"),
        ("running", [{}], [{}], "running"),
        ("running", [{}], [], "running"),
        ("running", [{"trials": {}}], [], "waiting"),
        ("running", [{}], [{"waiting": True}], "waiting"),
        ("running", [{}], [{"waiting": True}, {}], "running"),
        ("running", [{}], [{"progressed": time.time() - 1000}], "stalled"),
        ("running", [{}], [{"progressed": time.time() - 1000}, {}], "running"),
        ("running", [{**vars(ProcessIdentity.own()), "process": os.getppid(),
                      "process_start": process_start(os.getppid()), "renewed": 1.0}], [],
         "stalled"),
    ],
)  # fmt: skip
def test_the_state_of_a_sweep(
    recorded: str, drivers: list[dict[str, object]], beats: list[dict[str, object]], state: str
) -> None:
    found = sweep_state(
        "example", recorded, [holder(**one) for one in drivers], [beat(**one) for one in beats]
    )
    assert found == state


def test_a_stopped_process_of_this_machine_is_stalled_and_a_dead_one_dead() -> None:
    from safesweep.trainables.store.heartbeats import condition

    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    own = vars(ProcessIdentity.own())
    theirs = {**own, "process": child.pid, "process_start": process_start(child.pid)}
    child.send_signal(signal.SIGSTOP)
    assert condition(beat(**theirs)) == "running"
    assert condition(beat(**theirs, renewed=time.time() - 100)) == "stalled"
    assert condition(beat(renewed=time.time() - 100)) == "dead"  # it is of another machine
    child.kill()
    child.wait()
    assert condition(beat(**theirs)) == "dead"
    assert condition(beat(waiting=True), ["d"]) == "waiting"
    assert condition(beat(waiting=True), []) == "dead"
