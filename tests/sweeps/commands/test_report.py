import shlex
from html.parser import HTMLParser
from pathlib import Path

import pytest

from safesweep.sweeps.cli import main
from tests.conftest import WriteSweep
from tests.html_pages import content_of

VOID = {"meta", "br", "link", "img", "hr"}


class Checker(HTMLParser):
    """Notes what is open and what is linked to; fails on a tag that closes another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.cells = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        self.cells += tag == "td"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def page(write_sweep: WriteSweep, tmp_path: Path) -> str:
    write_sweep(
        configs=[{"feasibility_expectile": level} for level in (0.6, 0.9)],
        statuses={2: "diverged"},
        seeds=(0, 1),
    )
    path = tmp_path / "page.html"
    command = ["report", "first", "--storage", str(tmp_path / "store"), "--output", str(path)]
    assert main(command) == 0
    return path.read_text()


def test_a_page_is_whole_and_needs_nothing_beside_it(page: str) -> None:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert '<link rel="stylesheet"' not in page
    assert checker.links == ["data:,"]
    assert "default-src 'none'" in page


def test_a_page_shows_the_choice_and_every_configuration(page: str) -> None:
    content = content_of(page)
    (group,) = content["groups"]
    # Reward is 100 tau_h + seed, normalised by 100; cost 20 (tau_h - 0.5) + 1.5, limit 10.
    assert group["hyperparameters"]["feasibility_expectile"]["values"] == [0.6, 0.9]
    assert group["reward"] == pytest.approx([0.605, 0.905])
    assert group["cost"] == pytest.approx([0.35, 0.95])
    assert group["seeds"] == [2, 2]
    (choice,) = content["choices"]
    assert choice["settings"] == {"feasibility_expectile": 0.9}
    assert "2 of 2 safe" in choice["reason"]
    assert content["command"].startswith("safesweep report first --rule max_reward_safe")
    assert content["failures"] == []


def test_methods_are_told_apart(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cloned = write_sweep(
        "both", [{"learning_rate": 1e-3}], algorithm="bc", scores=lambda *_: (50.0, [20.0])
    )
    write_sweep("both", also=cloned)
    assert main(["report", "both", "--storage", str(tmp_path / "store")]) == 0
    content = content_of((tmp_path / "both.html").read_text())
    assert [group["algorithm"] for group in content["groups"]] == ["bc", "flrp"]
    assert [sum(group["chosen"]) for group in content["groups"]] == [1, 1]
    assert len({group["task"] for group in content["groups"]}) == 1


def test_runs_that_did_not_complete_are_listed_and_text_is_escaped(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(sweep="odd<i>", statuses={1: "diverged"})
    assert main(["report", "odd<i>", "--storage", str(tmp_path / "store")]) == 0
    page = (tmp_path / "odd<i>.html").read_text()
    (failure,) = content_of(page)["failures"]
    assert (failure["status"], failure["error"]) == ("diverged", "loss is not finite")
    assert content_of(page)["sweep"] == "odd<i>"
    assert "odd<i>" not in page and "odd&lt;i&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["report", "frist"], "first"),
        (["report", "first", "--rule", "best"], "max_reward_safe"),
        (["report", "first", "--output", "/no/such/folder/page.html"], "output"),
    ],
)
def test_bad_input_is_one_line(
    write_sweep: WriteSweep,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    named: str,
) -> None:
    write_sweep()
    assert main([*arguments, "--storage", str(tmp_path / "store")]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.splitlines()) == 1


def test_the_printed_command_makes_the_same_page(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep()
    storage = ["--storage", str(tmp_path / "store")]
    words = ["--rule", "confident_safe", "--confidence", "0.9", "--cost-limit", "20",
             "--unsafe-share", "0.4", "--maximize", "reward_return_mean",
             "--subject-to", "violation_rate=0.2"]  # fmt: skip
    assert main(["report", "first", *words, *storage]) == 0
    page = (tmp_path / "first.html").read_text()
    command = content_of(page)["command"]
    assert main([*shlex.split(command)[1:], *storage]) == 0
    assert (tmp_path / "first.html").read_text() == page
    for word in words:
        assert word in command
    assert main(["report", "first", "--rule", "confident_safe", "--worst-cost", "3", *storage]) == 0
    assert "--worst-cost 3" in (tmp_path / "first.html").read_text()
