"""How this process comes to a Ray cluster: whether that asks for a token, where its files lie, and
how long to wait for it. Decided here for the driver; the cluster files decide likewise.

Ray 2.60 asks for a token where RAY_AUTH_MODE says `token`. Where that is unset it depends on the
command and on whether somebody has left a token in the home directory: `ray.init` makes one and
asks for it, `ray start --head` asks for it from then on, `ray status`, `ray start --address` and a
driver with an address do not send it. So nothing is left unset here: Ray that we start asks for a
token of its own, which no file holds, and a cluster that we join is asked what it wants.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from safesweep.search_spaces.validation import InvalidInput, Problem, one_line, shown
from safesweep.sweeps.output import say

AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
AUTH_MODES = ("disabled", "token")
_AUTH_VARIABLES = (AUTH_MODE, AUTH_TOKEN, AUTH_TOKEN_PATH)

CONNECT_SECONDS = 15.0
"""How long to wait for a cluster that does not answer."""

START_SECONDS = 180.0
"""How long Ray that is started here may take."""

HEAD_SECONDS, HEAD_INTERVAL_SECONDS = 20.0, 2.0
"""How long the head of a cluster may not answer until it counts as lost (Ray itself ends the
process, with a log of its own, after 60 s), and how often it is asked."""

UNWIND_SECONDS = 20.0
"""How long a driver whose cluster was lost may take to end; some calls of Ray's never return."""

PROBE_SECONDS = 20.0
"""How long to wait for a process that imports Ray and asks one question."""

_LONGEST_SOCKET = 107
_SOCKET = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1"
_FREE_BYTES = 64 * 2**20
_TOKEN_PLACES = f"{AUTH_TOKEN}, a file that {AUTH_TOKEN_PATH} names, or ~/.ray/auth_token"


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that answers: its address as `host:port`, whether it asks for a token (a mode
    of `AUTH_MODES`), and how many of its nodes are alive."""

    address: str
    mode: str
    nodes: int = 1


def wanted_address(address: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The cluster to join, as Ray's own programs choose it: the one that was asked for, else that
    of RAY_ADDRESS; None for Ray on this machine."""
    chosen = address or environment.get("RAY_ADDRESS", "").strip() or None
    return None if chosen == "local" else chosen


def require_possible(address: str | None, num_cpus: int | None, num_gpus: int | None) -> None:
    """What can be told without asking the cluster, before anything is loaded or started.

    Raises:
        InvalidInput: the address is none, or processors are counted for a cluster, which has its
            own.
    """
    wanted = wanted_address(address)
    if wanted is None:
        return
    source = "" if address else " (RAY_ADDRESS)"
    if wanted != "auto":
        _resolved(wanted)
    for name, count in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if count is not None:
            raise InvalidInput(
                f"{name}: {count} is not allowed with the cluster at {wanted!r}{source}, whose "
                "nodes say themselves what they have"
            )


def require_loopback(seconds: float = 5.0) -> None:
    """Before Ray is started here, whose processes wait for each other without an end where this
    machine does not reach itself.

    Raises:
        InvalidInput: it does not, as in a network namespace whose loopback device is down.
    """
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname(), timeout=seconds),
        ):
            pass
    except OSError as problem:
        raise InvalidInput(
            f"Ray cannot be started here: this machine does not reach itself at 127.0.0.1 "
            f"({problem.strerror or problem}); bring its loopback device up (`ip link set lo up`)"
        ) from problem


@contextlib.contextmanager
def bounded(seconds: float, what: str) -> Iterator[None]:
    """Within it the main thread may take so many seconds; others are not interrupted.

    Raises:
        TimeoutError: they are over; says what was waited for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{what} took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    # Again after that, since Ray may keep the first one to itself.
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class HeadLost(Problem):
    """The head of the Ray cluster is gone; what had ended is in the store."""


@contextlib.contextmanager
def head_watched(address: str) -> Iterator[threading.Event]:
    """Within it, the main thread is interrupted when the head of a cluster does not answer any
    more; yields an event that says so.

    Raises:
        HeadLost: it was lost.
    """
    lost, over = threading.Event(), threading.Event()
    problem = HeadLost(
        f"address: the Ray cluster at {shown(address)} has not answered for {HEAD_SECONDS:g} s; "
        "what had ended is in the store, and the same command resumes the sweep"
    )

    def watch() -> None:
        heard = time.monotonic()
        while not over.wait(HEAD_INTERVAL_SECONDS):
            try:
                _knock(address, HEAD_SECONDS)
                heard = time.monotonic()
            except OSError:
                if time.monotonic() - heard < HEAD_SECONDS:
                    continue
                lost.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                if not over.wait(UNWIND_SECONDS):
                    say(f"safesweep: {one_line(problem)}")
                    os._exit(2)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield lost
    except BaseException as raised:
        # Ray's own errors may come before it counts as lost. Who ends the command ends Ray too.
        failed = isinstance(raised, Exception) and not isinstance(raised, Problem)
        if lost.is_set() or (failed and not _answers(address)):
            lost.set()
            raise problem from raised
        raise
    finally:
        over.set()


def find_cluster(address: str, seconds: float = CONNECT_SECONDS, nodes: int = 1) -> Cluster:
    """The cluster at an address, once so many of its nodes are there.

    Args:
        address: `host:port` of its head, or "auto" for the one on this machine (or in RAY_ADDRESS).
        seconds: how long to wait for it.

    Raises:
        InvalidInput: there is none, it does not answer in time, or wants another token. The line
            holds the last error.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            place = _resolved(address)
            _knock(place, max(1.0, deadline - time.monotonic()))
            found = _ask(place)
            if found.nodes >= nodes:
                return found
            reason = f"{found.nodes} of {nodes} nodes are there"
        except (OSError, ConnectionError) as problem:
            reason = str(problem) or type(problem).__name__
        if time.monotonic() >= deadline:
            raise InvalidInput(
                f"address: {shown(address)} cannot be reached within {seconds:g} s ({reason})"
            )
        time.sleep(min(1.0, max(0.1, deadline - time.monotonic())))


def _resolved(address: str) -> str:
    """An address as `host:port`.

    Raises:
        InvalidInput: it is none that a driver can join.
        ConnectionError: "auto", and there is no cluster.
    """
    if address == "auto":
        from ray._private.services import canonicalize_bootstrap_address_or_die

        try:
            return str(canonicalize_bootstrap_address_or_die("auto"))
        except ValueError as problem:
            raise InvalidInput(f"RAY_ADDRESS: {problem}") from problem
    if "://" in address:
        raise InvalidInput(
            f"address: {shown(address)} is not allowed: a sweep runs on a node of the cluster; "
            "give host:port of its head, or auto"
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidInput(f"address: {shown(address)} is neither host:port nor auto")
    return address


def _knock(address: str, seconds: float) -> None:
    """Open and close a connection.

    Raises:
        OSError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
        pass


def _answers(address: str) -> bool:
    """Whether somebody listens there now."""
    try:
        _knock(address, 1.0)
    except OSError:
        return False
    return True


def _ask(address: str) -> Cluster:
    """What a cluster says of itself, asked by a process of its own: Ray's client neither gives up
    nor is silent, and can end its process.

    Raises:
        ConnectionError: it does not answer, or not as Ray does.
        InvalidInput: it wants another token.
    """
    try:
        done = subprocess.run(
            # -P: a folder `sweeps` of the user's, where the command is given, is not meant.
            [sys.executable, "-P", "-m", str(__spec__ and __spec__.name), "--ask", address],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as late:
        raise ConnectionError(
            f"what listens there did not answer as Ray does in {PROBE_SECONDS:g} s"
        ) from late
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ConnectionError(last)
    answer = json.loads(lines[-1])
    if "refused" in answer:
        raise InvalidInput(f"address: {shown(address)} {answer['refused']}")
    if "error" in answer:
        raise ConnectionError(answer["error"])
    return Cluster(address, answer["mode"], answer["nodes"])


def _answer(address: str) -> dict[str, object]:
    """In a process of its own: how a cluster wants to be spoken to."""
    from ray.exceptions import AuthenticationError, RayError

    def nodes(mode: str) -> int:
        os.environ[AUTH_MODE] = mode
        _reread_authentication()
        found = _raylet().GcsClient(address=address).get_all_node_info(timeout=10)
        return sum(1 for node in found.values() if node.state == 0)

    try:
        # One that wants no token takes any, so that it is asked without one first.
        with contextlib.suppress(AuthenticationError):
            return {"mode": "disabled", "nodes": nodes("disabled")}
        if not _raylet().AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            return {"refused": f"asks for a token, and there is none: put it in {_TOKEN_PLACES}"}
        try:
            return {"mode": "token", "nodes": nodes("token")}
        except AuthenticationError:
            return {"refused": f"asks for another token than the one in {_TOKEN_PLACES}"}
    except RayError as problem:
        return {"error": str(problem).splitlines()[0]}


@contextlib.contextmanager
def authentication(cluster: Cluster | None) -> Iterator[None]:
    """Within it Ray speaks to a cluster as that wants it, or to Ray that is started here with a
    token of its own; Ray's variables are what they were afterwards.

    A mode or a token that the user has set for Ray started here is kept.

    Raises:
        InvalidInput: what the user has set cannot be.
    """
    before = {name: os.environ.get(name) for name in _AUTH_VARIABLES}
    if cluster is not None:
        os.environ[AUTH_MODE] = cluster.mode
    else:
        mode = os.environ.setdefault(AUTH_MODE, "token")
        if mode.lower() not in AUTH_MODES:
            raise InvalidInput(f"{AUTH_MODE}: {shown(mode)} is none of {', '.join(AUTH_MODES)}")
        if mode.lower() == "token" and not os.environ.get(AUTH_TOKEN):
            path = os.environ.get(AUTH_TOKEN_PATH)
            if path:
                _require_token_file(path)
            else:
                os.environ[AUTH_TOKEN] = secrets.token_hex(32)
    _reread_authentication()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _reread_authentication()


def _require_token_file(path: str) -> None:
    """Ray ends the process where it cannot read the file."""
    try:
        token = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, RuntimeError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise InvalidInput(
            f"{AUTH_TOKEN_PATH}: {shown(path)} cannot be read: {reason}"
        ) from problem
    if not token:
        raise InvalidInput(f"{AUTH_TOKEN_PATH}: {shown(path)} is empty")


def _reread_authentication() -> None:
    """Ray keeps the mode and the token that it has read once."""
    _raylet().Config.initialize("")
    _raylet().AuthenticationTokenLoader.instance().reset_cache()


def _raylet() -> Any:
    """Ray's compiled part, which has no types."""
    return import_module("ray._raylet")


def session_folder(environment: Mapping[str, str] = os.environ) -> str:
    """A folder for the files of Ray that is started here, with a path that its sockets' leave room
    for, which is `ray` in RAY_TMPDIR, TMPDIR or /tmp where that can be; says so where it cannot.

    Raises:
        InvalidInput: RAY_TMPDIR cannot be used, or nothing can.
    """
    asked = [name for name in ("RAY_TMPDIR", "TMPDIR") if environment.get(name)]
    refusal = ""
    for name in asked:
        folder, problem = _session_folder_in(environment[name])
        if folder is None and name == "RAY_TMPDIR":
            raise InvalidInput(f"RAY_TMPDIR: {shown(environment[name])} {problem}")
        if folder is not None:
            return folder
        refusal = f"TMPDIR: {shown(environment[name])} {problem}"
    for place in ("/tmp", "/var/tmp", "/dev/shm"):
        folder, problem = _session_folder_in(place)
        if folder is not None:
            if refusal:
                say(f"{refusal}; Ray's files go to {folder}")
            return folder
        refusal = refusal or f"TMPDIR: {place!r} {problem}"
    raise InvalidInput(f"{refusal}; set RAY_TMPDIR to a short folder that can be written")


def _session_folder_in(place: str) -> tuple[str | None, str]:
    """A folder for Ray in an existing one; or None, and what is wrong with it."""
    own = f"ray-{os.getuid()}"
    if len(os.fsencode(f"{os.path.abspath(place)}/{own}{_SOCKET}")) > _LONGEST_SOCKET:
        return None, "is too long a path for Ray's sockets"
    try:
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(bytes(4096))
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as problem:
        return None, f"cannot be written ({problem.strerror or problem})"
    if free < _FREE_BYTES:
        return None, f"is full ({free / 2**20:.0f} MiB are free)"
    for name in ("ray", own):
        folder = os.path.join(os.path.abspath(place), name)
        if not os.path.lexists(folder) or (
            os.path.isdir(folder) and os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        ):
            return folder, ""
    return None, f"has a folder {own!r} that cannot be written"


def main() -> int:
    """Wait for the nodes of a cluster, for the scripts that start one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("address", help="host:port of its head")
    parser.add_argument("--nodes", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--seconds", type=float, default=CONNECT_SECONDS, help="for how long")
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        print(json.dumps(_answer(arguments.address)))
        return 0
    try:
        find_cluster(arguments.address, arguments.seconds, arguments.nodes)
    except InvalidInput as problem:
        say(one_line(problem))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
