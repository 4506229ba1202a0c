from pathlib import Path

import pytest

from safesweep.analysis.plots.figures import PLOTS
from safesweep.sweeps.cli import main
from safesweep.sweeps.commands.plot import KINDS
from tests.conftest import WriteSweep


@pytest.fixture
def storage(write_sweep: WriteSweep, tmp_path: Path) -> list[str]:
    write_sweep("first", [{"feasibility_expectile": level} for level in (0.6, 0.9)])
    return ["--sweep", "first", "--storage", str(tmp_path / "store")]


def test_the_command_knows_every_kind() -> None:
    assert tuple(PLOTS) == KINDS


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_figure_is_written_with_its_command(
    storage: list[str], tmp_path: Path, ending: str, begins: bytes
) -> None:
    path = tmp_path / f"figure.{ending}"
    assert main(["plot", "front", *storage, "--out", str(path)]) == 0
    content = path.read_bytes()
    assert content.startswith(begins)
    assert b"safesweep plot front --sweep first --rule max_reward_safe" in content


def test_one_hyperparameter_by_its_name(storage: list[str], tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    words = ["plot", "hyperparameter", "--hyperparameter", "feasibility_expectile"]
    assert main([*words, *storage, "--out", str(path)]) == 0
    assert path.exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["frnt"], "front"),
        (["hyperparameter"], "--hyperparameter NAME"),
        (["hyperparameter", "--hyperparameter", "tau"], "feasibility_expectile"),
        (["front", "--hyperparameter", "feasibility_expectile"], "no other kind"),
        (["front", "--out", "figure.gif"], ".svg"),
        (["front", "--out", "/no/such/folder/figure.png"], "cannot be written"),
        (["importance"], "8 evaluated configurations"),
        (["front", "--task", "nowhere"], "OfflineBallRun-v0"),
    ],
)
def test_bad_input_is_one_line(
    storage: list[str], words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", *words, *storage]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1
