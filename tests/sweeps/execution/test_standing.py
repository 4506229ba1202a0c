import io
from collections import Counter
from typing import TextIO

import pyte
import pytest
from rich.console import Console

from safesweep.sweeps.execution.standing import SweepStanding, TaskStanding, short_number

BEST = (
    "reward 0.512 at cost 0.40 with feasibility_expectile=0.95, refinement_steps=3, "
    "learning_rate=0.0003, critic_loss=huber"
)
TASKS = [
    TaskStanding("safefql", "OfflineMetadrive-mediumdense-v0", 1530, 24,
                 Counter(completed=310, failed=12, diverged=3), BEST, 123456.0, 7890.0),
    TaskStanding("flrp", "OfflineBallRun-v0", 1530),
]  # fmt: skip
STANDING = SweepStanding("night", "running", TASKS, 9000.0, "run by process 77 on node-1")


def drawn(standing: SweepStanding, width: int, height: int = 24) -> list[str]:
    """The lines of a terminal of this size, as an emulator shows them."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, force_terminal=True)
    console.print(standing)
    screen = pyte.Screen(width, height)
    pyte.Stream(screen).feed(stream.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in screen.display]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_nothing_is_lost_at_any_width(width: int) -> None:
    lines = drawn(STANDING, width)
    text = " ".join(" ".join(lines).split())
    assert "night: running, 325/3060 runs, 24 running, 310 completed, 3 diverged" in text.replace(
        ", 12 failed", ""
    )
    (row,) = [line for line in lines if "325/1530" in line]
    assert row.split()[0] == "safefql" and "123k" in row and "2.2 h" in row
    numbers = row[row.index("325/1530") :].split()
    assert numbers[1:4] == ["24", "12", "3"]
    (other,) = [line for line in lines if "0/1530" in line and line is not row]
    assert other.split()[0] == "flrp"
    # A name that has no room is folded within its column.
    start = row.index("Offline")
    end = row.index("325/1530")
    below = lines[lines.index(row) + 1]
    name = row[start:end].strip()
    name += "" if name.endswith("-v0") else below[start:end].strip()
    assert name == "OfflineMetadrive-mediumdense-v0"
    if width >= 120:
        place = row.index("reward 0.512")
        words = " ".join(line[place:].strip() for line in lines[lines.index(row) :][:8])
        assert BEST in words
    else:
        assert f"best safe, safefql on OfflineMetadrive-mediumdense-v0: {BEST}" in text
    assert "…" not in text


def test_a_low_terminal_shows_what_runs_and_counts_the_rest() -> None:
    tasks = [TaskStanding("bc", f"Task{n}", 10, int(n == 30), Counter(completed=5))
             for n in range(40)]  # fmt: skip
    lines = drawn(SweepStanding("wide", "running", tasks), 80, 24)
    text = "\n".join(lines)
    assert "Task30" in text and "wide: running" in lines[0]
    (rest,) = [line for line in lines if line.startswith("and ")]
    hidden = int(rest.split()[1])
    shown = sum(line.startswith("Task") for line in lines)
    assert shown + hidden == 40 and f"with {5 * hidden} of {10 * hidden} runs done" in rest


class _Ascii(io.TextIOWrapper):
    """A terminal of an ASCII locale."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [80, 200])
def test_an_ascii_locale_gets_ascii(width: int) -> None:
    raw = io.BytesIO()
    stream: TextIO = _Ascii(raw, encoding="ascii")
    Console(file=stream, width=width, height=40, force_terminal=True).print(STANDING)
    stream.flush()
    assert b"325/1530" in raw.getvalue()


def test_without_colour_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> bool:
        stream = io.StringIO()
        console = Console(file=stream, width=120, force_terminal=True, color_system="standard")
        console.print(STANDING)
        return "\x1b[31m" in stream.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours()


def test_one_line_for_a_log() -> None:
    line = STANDING.line()
    assert line.startswith("night: running, 325/3060 runs, 24 running, 310 completed, 3 diverged")
    assert "12 failed" in line and "about 2.5 h left" in line
    assert f"best safe on OfflineMetadrive-mediumdense-v0 by safefql: {BEST}" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("value", "text"), [(0.5234, "0.52"), (87.2, "87"), (1234.0, "1.23k"), (3.4e6, "3.4M")]
)
def test_rates(value: float, text: str) -> None:
    assert short_number(value) == text
