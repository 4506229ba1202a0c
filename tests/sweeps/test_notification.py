import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from safesweep.sweeps.commands import run
from safesweep.sweeps.notification import tell_end
from safesweep.trainables.store.writer import StoreProblem


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """An address of this machine, and what is sent there; `/refuse` answers 500."""
    taken: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path.startswith("/refuse") else 200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", taken
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_sent_how_it_ended(
    webhook: tuple[str, list[dict[str, object]]], capfd: pytest.CaptureFixture[str]
) -> None:
    address, taken = webhook
    assert tell_end(address, "s", "store", 1)
    assert taken == [{"sweep": "s", "storage": "store", "exit_code": 1}]
    assert not tell_end(f"{address}/refuse?token=secret", "s", "store", 0)
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1 and "500" in error and "secret" not in error


def test_nobody_at_the_webhook_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert not tell_end("http://127.0.0.1:1/hook", "s", "store", 0)
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_command_is_run_however_the_sweep_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    note = tmp_path / "note"
    command = f"echo $SAFESWEEP_SWEEP $SAFESWEEP_EXIT_CODE > {note}; exit 3"
    words = ["run", "demo", "--storage", str(tmp_path / "store"), "--on-end", command]
    monkeypatch.setattr(run, "_launch", lambda spec, arguments: 1)
    assert main(words) == 1
    assert note.read_text().split() == ["demo", "1"]
    assert "on-end: the command ended with exit code 3" in capfd.readouterr().err

    def fail(spec: object, arguments: object) -> int:
        raise StoreProblem("storage: is gone")

    monkeypatch.setattr(run, "_launch", fail)
    assert main(words) == 2
    assert note.read_text().split() == ["demo", "2"]
    note.unlink()
    assert main([*words, "--dry-run"]) == 0
    assert not note.exists()
