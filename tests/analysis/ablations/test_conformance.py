"""What every ablation has to do, whoever wrote it."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from matplotlib.figure import Figure

from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.claims import CONTRADICTED, SUPPORTED, UNDECIDED, score
from safesweep.analysis.published import load_published
from safesweep.analysis.reproduction import ABLATIONS, missing_points, missing_runs, reproduce
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.sources import find_dataset

IDS = [
    "flrp-table1",
    "flrp-table2",
    "flrp-table3",
    "flrp-table7",
    "flrp-table8",
    "flrp-table9a",
    "flrp-table9b",
    "flrp-fig2",
    "flrp-fig3",
    "flrp-fig4",
    "flrp-fig6",
    "flrp-fig7",
    "lspc-table1",
    "lspc-fig2",
    "lspc-fig3",
    "lspc-fig4",
    "lspc-fig5",
    "lspc-fig6",
    "lspc-fig7a",
    "lspc-fig7b",
    "lspc-fig8",
    "lspc-fig10",
    "lspc-fig12",
    "lspc-timing",
    "r2pac-table1",
    "r2pac-table2",
    "r2pac-table3",
    "r2pac-table6",
    "r2pac-table7",
    "r2pac-table8",
    "r2pac-fig2",
    "r2pac-fig3",
    "r2pac-fig4",
    "r2pac-fig5",
    "r2pac-fig6",
    "r2pac-fig7",
    "r2pac-fig8",
    "r2pac-fig9",
    "r2pac-fig10",
    "flp-fig2",
    "flp-fig3",
    "flp-fig4",
    "flp-fig5",
    "flp-table1",
    "safefql-results",
    "safefql-latency",
    "safefql-coverage",
    "safefql-candidates",
]

every_ablation = pytest.mark.parametrize("ablation", ABLATIONS.values(), ids=ABLATIONS.keys())


@pytest.fixture(scope="session")
def boat_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the boats' collected data, for the ablations of datasets."""
    folder = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAFESWEEP_DATA_DIR", str(folder))
        find_dataset("BoatNavigation-v0", "collect")
    return folder


def test_every_exhibit_of_the_papers_is_there() -> None:
    assert len(IDS) == 48
    assert set(IDS) <= set(ABLATIONS)


@every_ablation
def test_every_scale_is_a_valid_sweep_and_says_what_it_costs(ablation: Ablation) -> None:
    names = []
    for scale in SCALES:
        cost = ablation.costs[scale]
        assert ("steps in all" in cost and "on two cores" in cost) or cost.startswith("no runs")
        for content in ablation.sweeps[scale]:
            spec = SweepSpec.from_mapping(content)
            assert spec.name.startswith(ablation.id)
            names.append(spec.name)
        assert ablation.sweeps[scale] or ablation.datasets or ablation.points
    assert len(names) == len(set(names))


@every_ablation
def test_what_the_paper_prints_is_there(ablation: Ablation) -> None:
    exhibit = {"lspc-timing": "textA.3.4", "safefql-results": "results-figure"}.get(
        ablation.id, ablation.id.split("-", 1)[1]
    )
    printed = ablation.published()
    every = load_published()
    if exhibit in set(every.loc[every["paper"] == ablation.paper, "exhibit"]):
        assert len(printed) > 0
        assert not printed[["task", "metric", "value"]].isna().any().any()
    assert len({claim.name for claim in ablation.claims}) == len(ablation.claims)


@every_ablation
def test_no_results_decide_nothing(ablation: Ablation, tmp_path: Path) -> None:
    empty = ablation.collect(ResultStore(tmp_path), ()) if not ablation.datasets else None
    if empty is None:
        return
    claims = [claim for claim in ablation.claims if claim.about == "results"]
    card = score(claims, empty)
    assert set(card["verdict"]) == {UNDECIDED}


@every_ablation
def test_claims_about_print_are_decided(ablation: Ablation) -> None:
    claims = [claim for claim in ablation.claims if claim.about == "print"]
    if claims:
        assert set(score(claims, pandas.DataFrame())["verdict"]) <= {SUPPORTED, CONTRADICTED}


@every_ablation
def test_it_is_drawn_compared_and_scored(
    ablation: Ablation, write_ablation, boat_data: Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(boat_data))
    store = write_ablation(ablation)
    assert missing_runs(store, ablation, "smoke") == []
    assert missing_points(store, ablation, "smoke") == []
    drawn: list[Figure] = []

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> Figure:
        drawn.append(ablation.draw(results, published, scale))
        return drawn[0]

    watched = replace(ablation, draw=draw)
    done = reproduce(watched, store, "smoke", tmp_path / "figures", "the command")
    visible = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert visible
    assert all(axes.has_data() or axes.get_images() or axes.collections for axes in visible)
    assert all(path.stat().st_size > 50 for path in done.paths)
    assert {"task", "ours", "spread", "published"} <= set(done.comparison.columns)
    judged = done.scorecard[done.scorecard["about"] == "results"]
    small_ones_miss = {"flrp-fig6", "flrp-table8", "r2pac-fig6", "r2pac-fig7"}
    if ablation.id not in small_ones_miss:
        assert (judged["effect"].notna()).all(), judged[["claim", "remark"]]
