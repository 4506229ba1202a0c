import json
import re
import signal
from pathlib import Path
from typing import Any

import pandas
import pytest

from safesweep.analysis.ablations.flrp import EXPECTILES, TABLE_8
from safesweep.analysis.reproduction import ABLATIONS
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.cli import main
from safesweep.sweeps.commands.reproduce import figure_folder
from safesweep.sweeps.execution import ray_tune as launch

SMOKE = TABLE_8.sweeps["smoke"][0]


def write_smoke(write_sweep, storage: Path) -> None:
    write_sweep(
        SMOKE["name"],
        [{"feasibility_expectile": level} for level in EXPECTILES],
        task="BoatNavigation-v0",
        seeds=SMOKE["seeds"],
        steps=(SMOKE["steps"],),
        storage=storage,
        metrics=lambda config, seed: {
            "feasible_recall": config["feasibility_expectile"],
            "feasible_precision": 1 - config["feasibility_expectile"],
            "true_recall": config["feasibility_expectile"],
        },
    )


def test_figure_only_draws_from_the_store(write_sweep, tmp_path: Path, capfd) -> None:
    write_smoke(write_sweep, tmp_path / "my store")
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--figure-only"]
    assert main([*words, "--storage", str(tmp_path / "my store")]) == 0
    out = capfd.readouterr().out
    figure = tmp_path / "my store/figures/flrp-table8/flrp-table8-smoke.png"
    assert str(figure) in out
    assert re.search(r"recall-rises +BoatNavigation +undecided", out)
    assert re.search(r"CarRun +feasible_recall +published +0.32 +0.39 +0.54 +0.76 +0.85", out)
    assert re.search(r"BoatNavigation +feasible_recall +ours +0.60 +0.70 +0.80 +0.90 +0.95", out)
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= 105
    command = f"safesweep reproduce flrp-table8 --scale smoke --storage '{tmp_path}/my store'"
    assert f"{command} --figure-only".encode() in figure.read_bytes()


def test_other_formats_print_the_scorecard_alone(write_sweep, tmp_path: Path, capfd) -> None:
    write_smoke(write_sweep, tmp_path)
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--figure-only", "--format", "json"]
    assert main([*words, "--storage", str(tmp_path)]) == 0
    card = json.loads(capfd.readouterr().out)
    assert {row["ablation"] for row in card} == {"flrp-table8"}
    assert {"claim", "task", "verdict", "effect", "low", "high", "p_value", "statement"} <= set(
        card[0]
    )


def test_what_the_store_lacks_is_run_first(write_sweep, tmp_path: Path, capfd, monkeypatch) -> None:
    asked: list[Any] = []

    def run_sweeps(specs: Any, storage: str, address: str | None = None) -> list[None]:
        asked.append((specs, storage, address))
        write_smoke(write_sweep, tmp_path)
        return [None]

    monkeypatch.setattr(launch, "run_sweeps", run_sweeps)
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--storage", str(tmp_path)]
    assert main(words) == 0
    assert asked == [([SMOKE], str(tmp_path), None)]
    assert (tmp_path / "figures/flrp-table8/flrp-table8-smoke.svg").is_file()


def test_runs_that_did_not_complete_are_said_and_exit_1(
    write_sweep, tmp_path: Path, capfd, monkeypatch
) -> None:
    def run_sweeps(specs: Any, storage: str, address: str | None = None) -> list[None]:
        write_smoke(write_sweep, tmp_path)
        next((tmp_path / "runs").rglob("*.parquet")).unlink()
        write_sweep(
            SMOKE["name"],
            [{"feasibility_expectile": 0.9}],
            task="BoatNavigation-v0",
            seeds=SMOKE["seeds"],
            steps=(SMOKE["steps"],),
            storage=tmp_path,
            metrics=lambda config, seed: {"feasible_recall": 0.5},
            statuses={1: "diverged"},
        )
        return [None]

    monkeypatch.setattr(launch, "run_sweeps", run_sweeps)
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--storage", str(tmp_path)]
    assert main(words) == 1
    assert "flrp-table8: 9 runs are not completed" in capfd.readouterr().err


def test_a_sweep_that_cannot_be_started_does_not_stop_the_others(
    write_sweep, tmp_path: Path, capfd, monkeypatch
) -> None:
    def run_sweeps(specs: Any, storage: str, address: str | None = None) -> list[Any]:
        write_smoke(write_sweep, tmp_path)
        lost = InvalidInput("dataset: nowhere to be found")
        return [None if spec == SMOKE else lost for spec in specs]

    monkeypatch.setattr(launch, "run_sweeps", run_sweeps)
    words = ["--scale", "smoke", "--storage", str(tmp_path)]
    assert main(["reproduce", "flrp-table8", "flrp-table2", *words]) == 1
    captured = capfd.readouterr()
    assert "flrp-table8-smoke.png" in captured.out
    assert captured.err.count("dataset: nowhere to be found\n") == 1
    assert main(["reproduce", "flrp-table2", *words]) == 2
    assert capfd.readouterr().err == "safesweep: dataset: nowhere to be found\n"


def test_a_scheduler_may_stop_it_and_learns_how_to_go_on(
    tmp_path: Path, capfd, monkeypatch
) -> None:
    def run_sweeps(*_: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the signal did not interrupt")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(launch, "run_sweeps", run_sweeps)
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--storage", str(tmp_path)]
    assert main(words) == 143
    assert "the same command goes on where it stopped" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_list_shows_ids_claims_and_costs(capfd) -> None:
    assert main(["reproduce", "--list", "--wide"]) == 0
    out = capfd.readouterr().out
    for ablation in ABLATIONS.values():
        assert f"{ablation.id}: {ablation.title}\n" in out
        assert f"  smoke: {ablation.costs['smoke']}\n" in out
        for claim in ablation.claims:
            assert claim.statement in out
    assert main(["reproduce", "--list", "--format", "json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["id"] for row in rows] == list(ABLATIONS)
    assert all(row["claims"] and row["smoke"] and row["small"] and row["paper"] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flrp-tabel8", "--figure-only"], "did you mean 'flrp-table8'"),
        (["flp-fig2", "--figure-only"], "lacks the measurement 'flp-fig2-small'"),
        (["flrp-table8", "--sweep", "nothing"], "sweep: 'nothing' is not one of"),
        (["flrp-table8", "--scale", "smal"], "scale: 'smal' .*did you mean 'small'"),
        (
            ["flrp-table8", "--figure-only"],
            r"lacks 30 runs of scale 'small' \(the first: task Boat",
        ),
        ([], "name an ablation"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, capfd, words: list[str], message: str) -> None:
    assert main(["reproduce", *words, "--storage", str(tmp_path)]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert re.search(message, captured.err)
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "figures").exists()


def test_several_end_in_a_scorecard_and_what_cannot_be_drawn_is_said(
    write_sweep, tmp_path: Path, capfd
) -> None:
    write_smoke(write_sweep, tmp_path)
    words = ["reproduce", "flrp-table8", "flrp-table2", "--scale", "smoke", "--figure-only"]
    assert main([*words, "--storage", str(tmp_path)]) == 1
    captured = capfd.readouterr()
    assert "flrp-table2: the store" in captured.err
    assert "Claims by verdict, smoke" in captured.out
    assert re.search(r"flrp +results +6 ", captured.out)
    card = pandas.read_csv(tmp_path / "figures/scorecard/papers-smoke.csv")
    assert card["claims"].sum() == len(TABLE_8.claims)
    findings = pandas.read_csv(tmp_path / "figures/scorecard/findings-smoke.csv")
    assert set(findings["ablation"]) == {"flrp-table8"}


def test_a_page_is_written_and_says_what_is_unexplained(write_sweep, tmp_path: Path, capfd) -> None:
    write_smoke(write_sweep, tmp_path)
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--figure-only"]
    words += ["--storage", str(tmp_path), "--page", str(tmp_path / "my page")]
    assert main(words) == 0
    assert "no remark on claims that are not supported: flrp-table8 " in capfd.readouterr().err
    text = (tmp_path / "my page/README.md").read_text(encoding="utf-8")
    assert f"`safesweep reproduce flrp-table8 --scale smoke --storage {tmp_path}" in text
    assert f"--page '{tmp_path}/my page'`" in text


def test_bad_remarks_cost_no_runs(tmp_path: Path, capfd, monkeypatch) -> None:
    monkeypatch.setattr(launch, "run_sweeps", lambda *_: pytest.fail("ran before it read"))
    (tmp_path / "remarks.csv").write_text("claim\n", encoding="utf-8")
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--storage", str(tmp_path / "store")]
    assert main([*words, "--page", str(tmp_path)]) == 2
    assert "columns are not ablation, claim, remark" in capfd.readouterr().err


def test_nothing_that_can_be_drawn_is_bad_input(tmp_path: Path, capfd) -> None:
    words = ["reproduce", "flrp-table2", "flrp-table3", "--figure-only", "--storage", str(tmp_path)]
    assert main(words) == 2
    assert "none of 2 ablations could be reproduced" in capfd.readouterr().err


@pytest.mark.slow
def test_what_needs_no_runs_is_measured_once(tmp_path: Path, capfd) -> None:
    words = ["reproduce", "flp-fig2", "--scale", "smoke", "--storage", str(tmp_path)]
    assert main(words) == 0
    part = tmp_path / "measurements/sweep=flp-fig2-smoke/flp-fig2-smoke.parquet"
    written = part.stat().st_mtime_ns
    assert main([*words, "--figure-only"]) == 0
    assert main(words) == 0
    assert part.stat().st_mtime_ns == written
    assert "flp-fig2-smoke.png" in capfd.readouterr().out


def test_figures_of_a_remote_store_stay_here() -> None:
    assert figure_folder("s3://bucket/store", "x") == Path("figures/x")
    assert figure_folder("file:///data/store", "x") == Path("/data/store/figures/x")
    assert figure_folder("results", "x") == Path("results/figures/x")


@pytest.mark.slow
@pytest.mark.ray
def test_the_smoke_scale_runs_to_the_end(tmp_path: Path, capfd) -> None:
    words = ["reproduce", "flrp-table8", "--scale", "smoke", "--storage", str(tmp_path)]
    assert main(words) == 0
    assert "flrp-table8-smoke.png" in capfd.readouterr().out
    assert main([*words, "--figure-only"]) == 0
