from collections import Counter

import pytest

from safesweep.sweeps.execution import progress as progress_module
from safesweep.sweeps.execution.progress import (
    DataProgress,
    Progress,
    Tally,
    TaskTally,
    describe_best,
)
from safesweep.sweeps.execution.standing import duration


def test_time_left_follows_the_work_done() -> None:
    tally = Tally(
        "example",
        total_steps=1000.0,
        tasks=[
            TaskTally("bc", "Task", ended_steps=150.0, running_steps={"a": 50.0}),
            TaskTally("bc", "Other", ended_steps=50.0),
        ],
    )
    assert tally.fraction == 0.25
    assert tally.remaining_seconds(60.0) == 180.0
    assert Tally("example", total_steps=10.0).remaining_seconds(60.0) is None
    assert Tally("example", total_steps=0.0).fraction == 1.0


def test_the_line_says_what_there_is() -> None:
    tally = Tally("example", 100.0, trials_done=1, trials_total=4, trials_running=2)
    tally.tasks = [
        TaskTally("bc", "Task", statuses=Counter(completed=2, stopped=0), ended_steps=50.0),
        TaskTally("bc", "Other", statuses=Counter(completed=1, failed=1)),
    ]
    tally.skipped = 2
    tally.best["BoatNavigation-v0"] = describe_best(
        {"normalized_reward": 0.51234, "normalized_cost": 0.4}, "normalized_reward", {"tau": 0.9}
    )
    assert tally.line(60.0) == (
        "example: 1/4 trials, 2 running, 3 completed, 1 failed, 2 already there, "
        "best safe on BoatNavigation-v0: reward 0.512 at cost 0.40 with tau=0.9, "
        "about 60 s left"
    )


def test_the_rate_of_a_method_on_a_task_is_its_own() -> None:
    task = TaskTally("bc", "Task", planned=10, steps_to_do=1000.0, ended_steps=150.0)
    task.running_steps = {"a": 30.0, "b": 20.0}
    task.measure(50.0)
    assert (task.steps_per_second, task.seconds_left) == (4.0, 200.0)
    task.statuses["completed"] = 10
    task.measure(60.0)
    assert (task.steps_per_second, task.seconds_left) == (None, None)
    other = TaskTally("bc", "Other", planned=10, steps_to_do=1000.0)
    other.measure(60.0)
    assert (other.steps_per_second, other.seconds_left) == (None, None)


def test_what_is_drawn_is_how_the_sweep_stands() -> None:
    tally = Tally("example", 100.0, tasks=[TaskTally("bc", "Task", planned=4, running=2)])
    assert tally.standing().heading == "example: preparing, 0/4 runs, 2 running"
    tally.trials_running, tally.tasks[0].ended_steps = 1, 50.0
    assert tally.standing().heading.startswith("example: running, 0/4 runs, 2 running, about ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (600.0, "10 min"), (9000.0, "2.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_go_to_standard_error_at_intervals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally("example", 100.0, trials_total=3)
    with Progress() as progress:
        progress.add(tally)
        for done in range(3):
            tally.trials_done = done
            progress.update()
        tally.trials_done = 3
        progress.remove(tally)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["example: 0/3 trials", "example: 3/3 trials"]


def test_each_sweep_has_its_line_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_module, "LINE_INTERVAL_SECONDS", 0.0)
    first, second = Tally("first", 100.0), Tally("second", 100.0)
    never_begun = Tally("third", 100.0)
    with Progress() as progress:
        progress.add(first)
        progress.add(second)
        progress.update()
        first.trials_done = 1
        progress.remove(first)
        progress.remove(never_begun)
        first.trials_done, second.trials_done = 7, 2
        progress.update()
    assert capsys.readouterr().err.splitlines() == [
        "first: 0/0 trials",
        "second: 0/0 trials",
        "first: 1/0 trials",
        "second: 2/0 trials",
    ]


def test_progress_can_be_silent(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("example", 1.0)
    with Progress(enabled=False) as progress:
        progress.add(tally)
        progress.update()
        progress.note("something happened")
        progress.remove(tally)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_live_display(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tally = Tally("example", 100.0, trials_total=3)
    tally.tasks = [TaskTally("bc", "Task", ended_steps=40.0)]
    with Progress() as progress:
        progress.add(tally)
        progress.update()
        tally.trials_done = 3
        progress.remove(tally)
    assert "example: 3/3 trials" in capsys.readouterr().err


def test_getting_data_is_reported_at_intervals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = DataProgress("BoatNavigation-v0")
    report(1, 10)
    monkeypatch.setattr(progress_module, "DATA_INTERVAL_SECONDS", 0.0)
    report(5, 10)
    assert capsys.readouterr().err == "BoatNavigation-v0: getting its data, 50%\n"
