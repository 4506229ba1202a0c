"""`safesweep serve`: the pages of a store in a browser."""

import argparse
import ipaddress
import secrets
import socket

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.results import add_storage_option
from safesweep.sweeps.output import say

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8600


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `serve`."""
    parser = commands.add_parser(
        "serve",
        help="show a store in a browser: its sweeps as they run, and runs",
        description="Serves the pages of a store, read-only, to this machine alone. Bound "
        "elsewhere with --host it asks for the token in the address that it prints, over plain "
        "HTTP.",
    )
    parser.add_argument(
        "--port", type=_port, default=DEFAULT_PORT,
        help=f"where to listen; 0 for any that is free (default: {DEFAULT_PORT})",
    )  # fmt: skip
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=f"address to listen at (default: {DEFAULT_HOST})"
    )
    add_storage_option(parser)
    parser.set_defaults(handler=serve)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 65535")
    return int(text)


def serve(arguments: argparse.Namespace) -> int:
    """Serve until it is interrupted.

    Raises:
        InvalidInput: no such store, or an address that cannot be listened at.
    """
    listening = listen(arguments.host, arguments.port)
    with listening:
        import uvicorn

        from safesweep.sweeps.serving.app import LOOPBACK_NAMES, make_app

        open_to_others = not is_loopback(arguments.host)
        token = secrets.token_urlsafe(24) if open_to_others else None
        names = () if open_to_others else LOOPBACK_NAMES
        app = make_app(arguments.storage, host_names=names, token=token)
        say(f"{arguments.storage}: {address(listening, arguments.host, token)} (Ctrl-C ends it)")
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        InvalidInput: the port is taken, or the address is none of this machine.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as problem:
        raise InvalidInput(f"host: {host!r} is no address ({problem.strerror})") from None
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(place)
        made.listen()
    except OSError as problem:
        made.close()
        raise InvalidInput(
            f"port: {port} cannot be listened at on {host} ({problem.strerror}); --port 0 takes a "
            "free one"
        ) from None
    return made


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(listening: socket.socket, host: str, token: str | None) -> str:
    """What to open in a browser."""
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
