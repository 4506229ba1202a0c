"""One driver at a time has a sweep: whose lease counts, and when it is nobody's."""

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution import lease
from safesweep.sweeps.execution.lease import Holder, Lease, lease_path, process_start
from safesweep.trainables.store.writer import ResultWriter, StoreProblem
from tests.sweeps.object_store import BUCKET, object_store

OTHER = replace(Holder.here(), host="elsewhere", machine="another kernel", token="theirs")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 2.0)
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.3)


@pytest.fixture
def writer(tmp_path: Path) -> ResultWriter:
    return ResultWriter(str(tmp_path), "example")


def leave(writer: ResultWriter, holder: Holder) -> None:
    """A lease as another driver would have written it."""
    writer.write_bytes(lease_path(writer.sweep), json.dumps(asdict(holder)).encode())


def test_a_second_driver_is_told_who_has_the_sweep(writer: ResultWriter) -> None:
    first, second = Lease(writer), Lease(writer)
    first.acquire()
    with pytest.raises(InvalidInput, match=rf"'example' is being run by process {os.getpid()} on"):
        second.acquire()
    with pytest.raises(InvalidInput, match="is being run by"):
        second.require_free()
    first.release()
    second.require_free()
    second.acquire()
    second.release()
    assert writer.names("leases") == []


def test_a_lease_is_renewed_for_as_long_as_it_is_held(writer: ResultWriter) -> None:
    first = Lease(writer)
    first.acquire()
    time.sleep(2.5)
    with pytest.raises(InvalidInput, match=r"last heard of \d+ s ago"):
        Lease(writer).acquire()
    first.release()


def test_the_lease_of_a_process_that_was_killed_is_nobodys_at_once(writer: ResultWriter) -> None:
    code = (
        "import sys, os, signal\n"
        "from safesweep.sweeps.execution.lease import Lease\n"
        "from safesweep.trainables.store.writer import ResultWriter\n"
        "Lease(ResultWriter(sys.argv[1], 'example')).acquire()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, writer.storage], check=False)
    assert writer.names("leases") == ["example.json"]
    started = time.monotonic()
    following = Lease(writer)
    following.require_free()
    following.acquire()
    assert time.monotonic() - started < 1
    following.release()


def test_a_driver_that_could_not_give_its_lease_back_blocks_nobody_in_its_process(
    writer: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lease(writer)
    first.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(writer, "remove", failing)
        first.release()
    assert writer.names("leases") == ["example.json"]
    following = Lease(writer)
    following.require_free()
    following.acquire()
    following.release()
    assert writer.names("leases") == []


def failing(relative: str) -> None:
    raise StoreProblem(f"storage: {relative!r} cannot be written (read-only)")


def test_a_process_number_that_another_process_has_now_is_not_the_driver(
    writer: ResultWriter,
) -> None:
    leave(writer, replace(Holder.here(), process_start="1"))
    following = Lease(writer)
    following.acquire()
    following.release()


def test_elsewhere_a_lease_counts_until_nobody_has_renewed_it(writer: ResultWriter) -> None:
    leave(writer, replace(OTHER, renewed=time.time()))
    with pytest.raises(InvalidInput, match="on elsewhere since"):
        Lease(writer).acquire()
    leave(writer, replace(OTHER, renewed=time.time() - 60))
    following = Lease(writer)
    following.acquire()
    following.release()


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_a_driver_whose_clock_is_wrong_keeps_its_lease(writer: ResultWriter, ahead: float) -> None:
    over = threading.Event()

    def renew() -> None:
        while not over.is_set():
            leave(writer, replace(OTHER, renewed=time.time() + ahead))
            time.sleep(0.1)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        time.sleep(0.2)
        with pytest.raises(InvalidInput, match="on elsewhere since"):
            Lease(writer).acquire()
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": 1}', b"\xff"])
def test_what_is_no_lease_stops_nobody(writer: ResultWriter, content: bytes) -> None:
    writer.write_bytes(lease_path("example"), content)
    following = Lease(writer)
    following.acquire()
    following.release()
    assert writer.names("leases") == []


def test_of_many_that_begin_at_once_one_goes_on(writer: ResultWriter) -> None:
    leave(writer, replace(Holder.here(), process_start="1"))  # whose driver is dead
    together, got = threading.Barrier(8), []

    def begin() -> None:
        mine = Lease(writer)
        together.wait()
        try:
            mine.acquire()
        except InvalidInput:
            return
        got.append(mine)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    got[0].release()


def test_a_driver_learns_that_its_lease_was_taken_and_leaves_it(writer: ResultWriter) -> None:
    first = Lease(writer)
    first.acquire()
    theirs = replace(OTHER, renewed=time.time())
    leave(writer, theirs)
    deadline = time.monotonic() + 5
    while first.taken_by is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert first.taken_by == theirs
    first.release()
    assert writer.names("leases") == ["example.json"]


def test_a_bucket_has_leases_too() -> None:
    with object_store():
        storage = f"s3://{BUCKET}/some/store"
        first = Lease(ResultWriter(storage, "example"))
        first.acquire()
        with pytest.raises(InvalidInput, match="is being run by"):
            Lease(ResultWriter(storage, "example")).acquire()
        first.release()

        two = [Lease(ResultWriter(storage, "example")) for _ in range(2)]
        refused: list[InvalidInput] = []

        def begin(mine: Lease) -> None:
            try:
                mine.acquire()
            except InvalidInput as problem:
                refused.append(problem)

        threads = [threading.Thread(target=begin, args=(mine,)) for mine in two]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        for mine in two:
            mine.release()
        assert ResultWriter(storage, "example").names("leases") == []


def test_other_sweeps_of_the_store_are_free(writer: ResultWriter) -> None:
    first, other = Lease(writer), Lease(ResultWriter(writer.storage, "other"))
    first.acquire()
    other.acquire()
    for held in (first, other):
        held.release()


def test_processes_are_told_apart_by_their_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(child.pid) not in ("", process_start(os.getpid()))
    child.kill()
    while process_start(child.pid):  # a zombie is none
        time.sleep(0.05)
    child.wait()
    assert process_start(child.pid) == ""
