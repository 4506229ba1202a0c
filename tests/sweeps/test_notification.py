import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from safesweep.sweeps.execution import ray_tune
from safesweep.sweeps.execution.failures import FirstFailure
from safesweep.sweeps.execution.interruption import Terminated
from safesweep.sweeps.execution.scheduler import SweepSummary
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


def test_what_cannot_be_started_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("nothing-of-that-name", "a\0b", "x" * 3_000_000):
        assert not tell_end(command, "s", "store", 0)
        said = [line for line in capfd.readouterr().err.splitlines() if "on-end" in line]
        assert len(said) == 1 and said[0].startswith("s: on-end: the command ")


SPEC = """
name: demo
algorithm: bc
tasks: [BoatNavigation-v0]
steps: 4
space: {learning_rate: [0.001]}
"""


@pytest.mark.parametrize("in_file", [False, True])
def test_a_command_is_run_however_the_sweep_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    in_file: bool,
) -> None:
    note, path = tmp_path / "note", tmp_path / "sweep.yaml"
    command = f"echo $SAFESWEEP_SWEEP $SAFESWEEP_EXIT_CODE > {note}; exit 3"
    path.write_text(SPEC + (f"on_end: '{command}'\n" if in_file else "on_end: echo\n"))
    words = ["run", str(path), "--storage", str(tmp_path / "store")]
    words += [] if in_file else ["--on-end", command]
    ended = SweepSummary("demo", "store", 1, 0, 0, 1, 0, 1, 1.0)
    monkeypatch.setattr(ray_tune, "run_sweeps", lambda *given, **named: [ended])
    assert main(words) == 1
    assert note.read_text().split() == ["demo", "1"]
    assert "on-end: the command ended with exit code 3" in capfd.readouterr().err

    problems: list[tuple[BaseException, int]] = [
        (StoreProblem("storage: is gone"), 2), (KeyboardInterrupt(), 130), (Terminated(), 143),
        (FirstFailure("a run has failed"), 1),
    ]  # fmt: skip
    for problem, code in problems:

        def fail(*given: object, problem: BaseException = problem, **named: object) -> None:
            raise problem

        monkeypatch.setattr(ray_tune, "run_sweeps", fail)
        assert main(words) == code
        assert note.read_text().split() == ["demo", str(code)]
    note.unlink()
    assert main([*words, "--dry-run"]) == 0
    assert not note.exists()
