"""How Ray is come to: which cluster, with which token, with its files where."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.execution import ray_connection
from safesweep.sweeps.execution.ray_connection import (
    AUTH_MODE,
    AUTH_TOKEN,
    AUTH_TOKEN_PATH,
    Cluster,
    HeadLost,
    authentication,
    bounded,
    find_cluster,
    head_watched,
    require_loopback,
    require_possible,
    session_folder,
    wanted_address,
)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH, "RAY_ADDRESS", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's."""
    folder = Path("/tmp") / f"rc{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("address", "environment", "expected"),
    [
        (None, {}, None),
        (None, {"RAY_ADDRESS": ""}, None),
        (None, {"RAY_ADDRESS": " "}, None),
        (None, {"RAY_ADDRESS": "local"}, None),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.1:6379"),
        ("10.0.0.2:6379", {"RAY_ADDRESS": "10.0.0.1:6379"}, "10.0.0.2:6379"),
        ("local", {"RAY_ADDRESS": "10.0.0.1:6379"}, None),
        ("auto", {}, "auto"),
    ],
)
def test_which_cluster_is_wanted(
    address: str | None, environment: dict[str, str], expected: str | None
) -> None:
    assert wanted_address(address, environment) == expected


@pytest.mark.parametrize(
    "address", ["nonsense", ":6379", "host:", "host:0", "host:65536", "host:port", ""]
)
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(InvalidInput, match="is neither host:port nor auto"):
        find_cluster(address, seconds=60)


def test_what_cannot_be_is_known_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    require_possible(None, 2, 1)
    require_possible("auto", None, None)
    require_possible("10.0.0.1:6379", None, None)
    with pytest.raises(InvalidInput, match="'nonsense' is neither host:port nor auto"):
        require_possible("nonsense", None, None)
    with pytest.raises(InvalidInput, match="num_gpus: 1 is not allowed with the cluster at 'auto'"):
        require_possible("auto", None, 1)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(InvalidInput, match=r"num_cpus: 2 .* at '10\.0\.0\.1:6379' \(RAY_ADDRESS\)"):
        require_possible(None, 2, None)


def test_a_client_address_is_refused_with_what_to_give() -> None:
    with pytest.raises(InvalidInput, match="give host:port of its head, or auto"):
        find_cluster("ray://127.0.0.1:10001", seconds=60)


def test_an_address_where_nobody_listens_is_given_up_with_the_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InvalidInput, match=r"within 0\.5 s \(.*Connection refused\)"):
            find_cluster(address, seconds=0.5)


def test_a_host_that_nobody_knows_is_given_up_with_the_reason() -> None:
    with pytest.raises(InvalidInput, match=r"'no\.such\.host\.invalid:6379' cannot be reached"):
        find_cluster("no.such.host.invalid:6379", seconds=0.5)


@pytest.mark.ray
def test_what_listens_but_is_not_ray_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "PROBE_SECONDS", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InvalidInput, match="did not answer as Ray does"):
            find_cluster(address, seconds=0.5)


def test_it_waits_for_a_cluster_that_is_still_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = iter([1, 1, 2])
    monkeypatch.setattr(
        ray_connection, "_ask", lambda address: Cluster(address, "token", next(nodes))
    )
    servers: list[socket.socket] = []
    timer = threading.Timer(0.5, lambda: servers.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    found = find_cluster(f"127.0.0.1:{port}", seconds=30, nodes=2)
    assert found == Cluster(f"127.0.0.1:{port}", "token", 2)
    servers[0].close()


def test_nodes_that_do_not_come_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_connection, "_knock", lambda *_: None)
    monkeypatch.setattr(ray_connection, "_ask", lambda address: Cluster(address, "token", 3))
    with pytest.raises(InvalidInput, match=r"within 0\.2 s \(3 of 4 nodes are there\)"):
        find_cluster("10.0.0.1:6379", seconds=0.2, nodes=4)


def variables() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in (AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH)}


def test_ray_that_is_started_asks_for_a_token_that_is_in_no_file(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(short))
    tokens = set()
    for _ in range(2):
        with authentication(None):
            assert os.environ[AUTH_MODE] == "token"
            tokens.add(os.environ[AUTH_TOKEN])
    assert len(tokens) == 2 and min(map(len, tokens)) == 64
    assert variables() == {AUTH_MODE: None, AUTH_TOKEN: None, AUTH_TOKEN_PATH: None}
    assert list(short.iterdir()) == []


def test_what_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(AUTH_TOKEN, "mine")
    with authentication(None):
        assert variables() == {AUTH_MODE: "token", AUTH_TOKEN: "mine", AUTH_TOKEN_PATH: None}
    monkeypatch.delenv(AUTH_TOKEN)
    monkeypatch.setenv(AUTH_MODE, "disabled")
    with authentication(None):
        assert variables() == {AUTH_MODE: "disabled", AUTH_TOKEN: None, AUTH_TOKEN_PATH: None}


@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_cluster_is_spoken_to_as_it_wants(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"disabled": "token", "token": "disabled"}[mode]
    monkeypatch.setenv(AUTH_MODE, other)
    monkeypatch.setenv(AUTH_TOKEN, "mine")
    with authentication(Cluster("10.0.0.1:6379", mode)):
        assert os.environ[AUTH_MODE] == mode
    assert os.environ[AUTH_MODE] == other


def test_tokens_and_modes_that_cannot_be_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTH_MODE, "kerberos")
    with pytest.raises(InvalidInput, match="RAY_AUTH_MODE: 'kerberos' is none of disabled, token"):
        authentication(None).__enter__()
    monkeypatch.setenv(AUTH_MODE, "token")
    monkeypatch.setenv(AUTH_TOKEN_PATH, str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match=r"RAY_AUTH_TOKEN_PATH: .* cannot be read: No such file"):
        authentication(None).__enter__()
    (tmp_path / "none").write_text("\n")
    with pytest.raises(InvalidInput, match=r"RAY_AUTH_TOKEN_PATH: .* is empty"):
        authentication(None).__enter__()


def test_files_lie_where_ray_would_put_them(short: Path) -> None:
    assert session_folder({"TMPDIR": str(short)}) == f"{short}/ray"
    assert session_folder({"RAY_TMPDIR": str(short), "TMPDIR": "/"}) == f"{short}/ray"
    assert session_folder({}).startswith("/tmp/ray")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a" * 60, "is too long a path"), ("none", "cannot be written (No such file")],
)
def test_a_folder_that_cannot_be_is_passed_over_and_said(
    name: str, reason: str, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(name) > 10:
        (short / name).mkdir()
    place = str(short / name)
    assert session_folder({"TMPDIR": place}).startswith("/tmp/ray")
    said = capsys.readouterr().err
    assert said.startswith(f"TMPDIR: '{place}' {reason}")
    assert said.endswith("Ray's files go to /tmp/ray\n")
    with pytest.raises(InvalidInput, match="RAY_TMPDIR: "):
        session_folder({"RAY_TMPDIR": place})


def test_a_full_disk_is_passed_over_and_said(
    short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(
        ray_connection.shutil,
        "disk_usage",
        lambda place: SimpleNamespace(free=2**20) if place == str(short) else real(place),
    )
    session_folder({"TMPDIR": str(short)})
    assert "is full (1 MiB are free); Ray's files go to /tmp/ray" in capsys.readouterr().err


def test_where_nothing_can_be_written_the_line_has_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        ray_connection, "_session_folder_in", lambda place: (None, "cannot be written (x)")
    )
    with pytest.raises(InvalidInput, match="set RAY_TMPDIR to a short folder"):
        session_folder({"TMPDIR": "/scratch"})


def test_another_users_folder_is_left_alone(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short / "ray").mkdir()
    real = os.access
    monkeypatch.setattr(
        ray_connection.os,
        "access",
        lambda path, mode: str(path) != str(short / "ray") and real(path, mode),
    )
    assert session_folder({"TMPDIR": str(short)}) == f"{short}/ray-{os.getuid()}"


def test_scripts_wait_by_the_same_rule() -> None:
    command = [sys.executable, "-P", "-m", "safesweep.sweeps.execution.ray_connection"]
    done = subprocess.run(
        [*command, "nonsense", "--nodes", "2", "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "address: 'nonsense' is neither host:port nor auto\n"


def test_a_machine_that_does_not_reach_itself_is_told_before_ray_waits_for_ever() -> None:
    code = (
        "from safesweep.search_spaces.validation import InvalidInput\n"
        "from safesweep.sweeps.execution.ray_connection import require_loopback\n"
        "try:\n    require_loopback()\nexcept InvalidInput as problem:\n    print(problem)\n"
    )
    alone = ["unshare", "--map-root-user", "--net", sys.executable, "-c", code]
    done = subprocess.run(alone, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip("no network namespace can be made here")
    (line,) = done.stdout.splitlines()
    assert line.startswith("Ray cannot be started here: this machine does not reach itself")
    require_loopback()


def test_a_wait_is_bounded_and_what_was_set_before_is_set_again() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(TimeoutError, match=r"its start took more than 0\.05 s"),
        bounded(0.05, "its start"),
    ):
        time.sleep(10)
    assert signal.getsignal(signal.SIGALRM) is before
    with bounded(60, "nothing"):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ray_connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(ray_connection, "HEAD_INTERVAL_SECONDS", 0.05)
    # As in a command; a process of xdist ignores it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("impatient")
def test_a_head_that_is_lost_ends_what_waits_for_it_in_one_line() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{server.getsockname()[1]}"
    said = r"has not answered for .* the same command resumes"
    with pytest.raises(HeadLost, match=said), head_watched(address) as lost:
        time.sleep(0.5)
        assert not lost.is_set()
        server.close()
        time.sleep(20)


@pytest.mark.usefixtures("impatient")
def test_an_error_while_the_head_is_gone_is_its_loss_and_others_are_what_they_are() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for problem in (ValueError("bad"), OSError("disk"), KeyboardInterrupt(), InvalidInput("x")):
            with pytest.raises(type(problem)), head_watched(address):
                raise problem
    with pytest.raises(HeadLost), head_watched(address):
        raise ValueError("some call of Ray's failed")
    with pytest.raises(InvalidInput), head_watched(address):
        raise InvalidInput("x")
