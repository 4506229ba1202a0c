from collections import Counter
from pathlib import Path

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.commands import watch
from safesweep.sweeps.execution.standing import SweepStanding, TaskStanding
from tests.conftest import WriteSweep


def test_a_sweep_that_has_ended_is_shown_once(
    write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep("first")
    assert main(["watch", "first", "--storage", str(tmp_path / "store")]) == 0
    out = capsys.readouterr().out
    assert "first: completed, 3/3 runs" in out and "OfflineBallRun-v0" in out
    assert "reward 0.910" in out and "\x1b" not in out


@pytest.mark.parametrize(
    ("words", "named"), [(["frist"], "first"), (["first", "--storage", "/no/store"], "/no/store")]
)
def test_bad_input_is_one_line(
    write_sweep: WriteSweep,
    tmp_path: Path,
    words: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_sweep("first")
    storage = [] if "--storage" in words else ["--storage", str(tmp_path / "store")]
    assert main(["watch", *words, *storage]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1


def standing(done: int, state: str = "running") -> SweepStanding:
    return SweepStanding(
        "night", state, [TaskStanding("bc", "Task", 4, statuses=Counter(completed=done))]
    )


def test_a_store_that_goes_away_is_said_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watch, "LINE_INTERVAL_SECONDS", 0.0)
    seen = iter([InvalidInput("storage: no store\nhere"), standing(3), standing(4, "completed")])

    def look() -> SweepStanding:
        found = next(seen)
        if isinstance(found, Exception):
            raise found
        return found

    assert watch.follow(look, standing(2), 0.0) == 0
    first, gone, back, last = capsys.readouterr().out.splitlines()
    assert first == "night: running, 2/4 runs, 2 completed"
    assert gone.startswith(first) and "cannot be read" in gone and "no store here" in gone
    assert back == "night: running, 3/4 runs, 3 completed"
    assert last == "night: completed, 4/4 runs, 4 completed"
