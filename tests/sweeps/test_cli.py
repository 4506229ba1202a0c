import re
import subprocess
import sys
from pathlib import Path

import pytest

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps import cli
from safesweep.sweeps.commands import catalog, run
from safesweep.sweeps.execution.interruption import Terminated


def failing(problem: BaseException) -> object:
    def handler(arguments: object) -> int:
        raise problem

    return handler


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "safesweep: command: 'rnu' is not one of"),
        (["run"], "safesweep: the following arguments are required: spec"),
        (["run", "demo", "--formt", "json"], "safesweep: unrecognized arguments: --formt json"),
        (["run", "demo", "--format", "jsn"], "safesweep: --format: 'jsn' is not one of"),
        (["run", "demo", "--num-cpus", "-1"], "safesweep: argument --num-cpus"),
        (["run", "demo", "--num-cpus", "0"], "safesweep: resources.cpu: 1 is not allowed"),
        (["run", "no-such-file.yaml"], "safesweep: spec: no file 'no-such-file.yaml'"),
        (["run", "demo", "-o", "stepz=3"], "safesweep: stepz: unknown key"),
        (["run", "demo", "-o", "steps=-1"], "safesweep: steps: -1 is not allowed"),
        (
            ["run", "flrp-ball-run", "-o", "fixed.tau_r=1.2"],
            "safesweep: fixed.tau_r: 1.2 is not allowed",
        ),
        (["run", "demo", "-o", "tasks=[Boat]"], "safesweep: task: 'Boat' is unknown"),
        (["space", "flrpp"], "safesweep: algorithm: 'flrpp' is not one of flrp"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert one_line(capsys).startswith(message)


@pytest.mark.parametrize("storage", ["", " ", "a\0b", "~no-such-user/results"])
@pytest.mark.parametrize("command", [["list"], ["compact"], ["run", "demo"], ["select"]])
def test_a_store_that_no_folder_can_be_is_bad_input(
    command: list[str], storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--storage", storage]) == 2
    assert one_line(capsys).startswith("safesweep: storage: ")


def test_the_nearest_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rnu"]) == 2
    assert one_line(capsys).endswith("did you mean 'run'?")


def test_an_unwritable_store_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert cli.main(["run", "demo", "--storage", str(occupied / "store")]) == 2
    assert one_line(capsys).startswith("safesweep: storage: ")


@pytest.mark.parametrize(
    ("problem", "code", "line"),
    [
        (InvalidInput("first\n  second"), 2, "safesweep: first second"),
        (KeyboardInterrupt(), 130, "safesweep: interrupted"),
        (Terminated(), 143, "safesweep: interrupted"),
    ],
)
def test_exceptions_become_exit_codes(
    problem: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(catalog, "print_algorithms", failing(problem))
    assert cli.main(["algorithms"]) == code
    assert one_line(capsys) == line


def test_errors_of_ours_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "demo"])


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "run a sweep" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip()
    with pytest.raises(SystemExit) as end:
        cli.main(["--help"])
    assert end.value.code == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from safesweep.sweeps.cli import build_parser; build_parser();"
        "print([m for m in ('ray', 'torch', 'pandas', 'optuna', 'numpy', 'duckdb', 'matplotlib') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "safesweep", "space", "flrpp"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m safesweep space flrp --format json | head -c 1; "
        "echo ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words",
    [
        ["select", "--cost-limit", "1", "--cost-limit", "2"],
        ["select", "--rule", "min_cost", "--rule", "pareto"],
        ["run", "demo", "--storage", "a", "--storage", "b"],
        ["data", "collect", "BallRun", "--seed", "1", "--seed", "2"],
        ["list", "--format", "csv", "--format=json"],
    ],
)
def test_an_option_that_is_given_twice_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"safesweep: --[a-z-]+: is given twice, as .* and .*\n", captured.err)


def test_the_same_value_twice_is_no_contradiction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(tmp_path / "none")]
    assert cli.main(["list", *storage, *storage]) == 2
    assert "there is no result store" in capsys.readouterr().err


def test_no_message_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["no-such-command" + "x" * 100_000]) == 2
    captured = capsys.readouterr().err
    assert len(captured) <= 601
    assert captured.count("\n") == 1
    assert "..." in captured
