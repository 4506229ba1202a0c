import socket
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from safesweep.sweeps.commands.serve import address, is_loopback, listen


def test_a_taken_port_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, "--storage", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"port: {port}" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--port", "0", "--storage", "/no/store"], "/no/store"),
        (["--port", "http"], "0 to 65535"),
        (["--port", "70000"], "0 to 65535"),
        (["--port", "0", "--host", "no.such.host.invalid"], "host"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1


def test_addresses() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address(listening, "127.0.0.1", None) == f"http://127.0.0.1:{port}/"
        assert address(listening, "::1", "t") == f"http://[::1]:{port}/?token=t"
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.1")
            ] == [True, True, True, False, False]  # fmt: skip
