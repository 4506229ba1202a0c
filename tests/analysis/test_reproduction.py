import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from safesweep.analysis.ablations.engine.ablation import SCALES
from safesweep.analysis.ablations.flrp import EXPECTILES, TABLE_8
from safesweep.analysis.claims import ALL_TASKS, CONTRADICTED, NOT_TESTED, SUPPORTED
from safesweep.analysis.reproduction import (
    ABLATIONS,
    find_ablation,
    missing_runs,
    register_ablation,
    reproduce,
    unmeasured_runs,
    with_degenerate,
)
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.measurements.request import MeasurementRequest
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import TASKS

CONFIGS = [{"feasibility_expectile": level} for level in EXPECTILES]


def diagnostics(boat: bool) -> Callable[[dict[str, float], int], dict[str, float]]:
    """Recall rises with the expectile, precision and specificity fall, with a seed's noise."""
    generator = random.Random(0)

    def values(config: dict[str, float], seed: int) -> dict[str, float]:
        position = (config["feasibility_expectile"] - 0.6) / 0.35
        noise = generator.gauss(0, 0.002)
        rates = {
            "loss/feasibility": 1.0,
            "feasible_recall": 0.3 + 0.5 * position + noise,
            "feasible_precision": 0.8 - 0.5 * position + noise,
        }
        if boat:
            rates["true_recall"] = 0.7 + 0.2 * position + noise
            rates["true_precision"] = 0.95 - 0.1 * position + noise
            rates["true_specificity"] = 0.95 - 0.3 * position + noise
        return rates

    return values


@pytest.fixture
def small_store(write_sweep, tmp_path: Path) -> ResultStore:
    written: list[str] = []
    sweep = TABLE_8.sweeps["small"][0]
    for task in sweep["tasks"]:
        written += write_sweep(
            sweep["name"],
            CONFIGS,
            task=task,
            steps=(sweep["steps"],),
            metrics=diagnostics(TASKS[task].suite == "boat"),
            also=written,
        )
    return ResultStore(tmp_path / "store")


def test_ablations_are_found_by_id_and_the_nearest_is_named() -> None:
    assert find_ablation("flrp-table8") is TABLE_8
    with pytest.raises(InvalidInput, match="did you mean 'flrp-table8'"):
        find_ablation("flrp-tabel8")


def test_a_user_registers_an_ablation() -> None:
    own = replace(TABLE_8, id="own-figure")
    register_ablation(own)
    try:
        assert find_ablation("own-figure") is own
        with pytest.raises(InvalidInput, match="registered already"):
            register_ablation(replace(own, title="other"))
        with pytest.raises(InvalidInput, match="lacks the scale paper"):
            register_ablation(replace(own, id="other", sweeps={"smoke": (), "small": ()}))
    finally:
        del ABLATIONS["own-figure"]


@pytest.mark.parametrize("ablation", ABLATIONS.values(), ids=ABLATIONS.keys())
def test_every_scale_is_a_valid_sweep_and_has_a_stated_cost(ablation) -> None:
    for scale in SCALES:
        assert ablation.costs[scale]
        for content in ablation.sweeps[scale]:
            spec = SweepSpec.from_mapping(content)
            assert spec.steps == content["steps"]


def test_a_complete_store_lacks_nothing_and_an_incomplete_one_names_what(
    small_store: ResultStore, tmp_path: Path
) -> None:
    assert missing_runs(small_store, TABLE_8, "small") == []
    assert len(missing_runs(small_store, TABLE_8, "paper")) == 30
    parts = sorted((tmp_path / "store/runs").rglob("*.parquet"))
    parts[0].unlink()
    missing = missing_runs(small_store, TABLE_8, "small")
    assert len(missing) == 15
    assert "seed 0, feasibility_expectile 0.6" in missing[0]
    with pytest.raises(InvalidInput, match="scale: 'large'"):
        missing_runs(small_store, TABLE_8, "large")


def test_runs_of_another_length_do_not_count(write_sweep, tmp_path: Path) -> None:
    write_sweep("flrp-table8-small", CONFIGS, task="BoatNavigation-v0", steps=(10,))
    assert len(missing_runs(ResultStore(tmp_path / "store"), TABLE_8, "small")) == 30


def test_an_ablation_is_drawn_compared_and_scored(small_store, tmp_path: Path) -> None:
    done = reproduce(TABLE_8, small_store, "small", tmp_path / "figures", "the command")
    assert [path.name for path in done.paths] == [
        "flrp-table8-small.png",
        "flrp-table8-small.svg",
        "flrp-table8-small.csv",
        "flrp-table8-small-published.csv",
        "flrp-table8-small-claims.csv",
    ]
    assert all(path.stat().st_size > 100 for path in done.paths)
    assert done.missing == []

    data = pandas.read_csv(done.paths[2])
    assert len(data) == 15 * 5 + 15 * 2
    assert "loss/feasibility" not in set(data["metric"])

    row = done.comparison.set_index(["task", "metric", "setting"]).loc[
        ("OfflineCarRun-v0", "feasible_recall", "0.95")
    ]
    assert row["ours"] == pytest.approx(0.8, abs=0.01)
    assert row["published"] == 0.85
    assert row["seeds"] == 3

    verdicts = done.scorecard.groupby("claim")["verdict"].agg(set).to_dict()
    for claim in ("recall-rises", "precision-falls", "true-recall-rises", "true-specificity-falls"):
        assert verdicts[claim] == {SUPPORTED}
    assert verdicts["sharper-on-ant-circle"] == {NOT_TESTED}
    assert verdicts["printed-recall-rises"] == {SUPPORTED}
    assert verdicts["printed-ant-needs-more"] == {CONTRADICTED}


def test_remarks_say_how_many_runs_degenerated() -> None:
    card = pandas.DataFrame(
        [
            ("results", "BallRun", "0.1 against 0.2"),
            ("results", "CarRun", ""),
            ("results", ALL_TASKS, ""),
            ("print", "BallRun", "as printed"),
        ],
        columns=["about", "task", "remark"],
    )
    degenerate = pandas.DataFrame({"run_id": ["a", "b"], "task": ["BallRun", "BallRun"]})
    assert with_degenerate(card, degenerate)["remark"].tolist() == [
        "0.1 against 0.2; 2 of its runs degenerated", "", "2 of its runs degenerated", "as printed",
    ]  # fmt: skip
    assert with_degenerate(card, degenerate[:0]) is card


def test_a_store_without_any_run_of_the_scale_is_one_line(small_store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no completed run at scale 'paper'"):
        reproduce(TABLE_8, small_store, "paper", tmp_path, "the command")


def test_only_trials_that_have_not_been_measured_are_measured(tmp_path: Path) -> None:
    writer = ResultWriter(str(tmp_path), "sweep")
    keys = {"algorithm": "lspc", "task": "BallRun", "seed": 0}
    for trial, status in (("t1", "completed"), ("t2", "completed"), ("t3", "diverged")):
        row = {"run_id": f"{trial}-0", "config_id": trial, "trial_id": trial, "status": status}
        writer.write_trial(trial, [{**keys, **row, "config": {}}])
    writer.write_sweep("", ["t1-0", "t2-0", "t3-0"], "completed")
    store = ResultStore(tmp_path)
    request = MeasurementRequest("sweep", "lspc_actions", "sweep")
    assert set(unmeasured_runs(store, request)["trial_id"]) == {"t1", "t2"}
    number = {"view": "states", "point": 0, "quantity": "inside_share", "value": 1.0}
    writer.write_measurements("sweep", "t1", [{**keys, **number, "run_id": "t1-0"}])
    assert set(unmeasured_runs(store, request)["trial_id"]) == {"t2"}
    assert unmeasured_runs(store, replace(request, sweep="other")).empty
    # A text file of an older store counts.
    (tmp_path / "points").mkdir()
    (tmp_path / "points/sweep.csv").write_text(
        "run_id,seed,task,view,point,quantity,value\nt2-0,0,BallRun,states,0,inside_share,1\n"
    )
    assert unmeasured_runs(store, request).empty
