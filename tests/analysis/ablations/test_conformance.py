"""What every ablation has to do, whoever wrote it."""

from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from safesweep.analysis import reproduction
from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.claims import (
    CONTRADICTED,
    DATASETS,
    NOT_TESTED,
    PRINT,
    QUANTIFIERS,
    RESULTS,
    SUPPORTED,
    Claim,
    score,
)
from safesweep.analysis.published import load_published
from safesweep.analysis.reproduction import ABLATIONS, missing_measurements, missing_runs, reproduce
from safesweep.analysis.store.reader import ResultStore
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.data.sources import find_dataset
from safesweep.trainables.tasks.registry import TASKS
from tests.quick import slow_but

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
    "flp-table2",
    "safefql-results",
    "safefql-latency",
    "safefql-coverage",
    "safefql-candidates",
]

PRINTED = {
    "flrp-table1",
    "flrp-table2",
    "flrp-table3",
    "flrp-table7",
    "flrp-table8",
    "flrp-table9a",
    "flrp-table9b",
    "lspc-table1",
    "lspc-timing",
    "r2pac-table1",
    "r2pac-table2",
    "r2pac-table3",
    "r2pac-table6",
    "r2pac-table7",
    "r2pac-table8",
    "flp-table1",
    "flp-table1-ogbench",
    "flp-table2",
    "safefql-results",
    "safefql-candidates",
}

# Of each kind of figure and table one: all take half a minute.
DRAWN_BY_DEFAULT = (
    "flrp-table2", "flrp-table8", "flrp-fig2", "lspc-fig3", "lspc-table1", "r2pac-fig8", "flp-fig2",
    "safefql-coverage", "published-defects", "safesweep-tradeoff",
)  # fmt: skip
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
    assert len(IDS) == 49
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
        assert ablation.sweeps[scale] or ablation.datasets or ablation.measurements
    assert len(names) == len(set(names))


@every_ablation
def test_what_the_paper_prints_is_there(ablation: Ablation) -> None:
    printed = ablation.published()
    assert (len(printed) > 0) == (ablation.id in PRINTED)
    assert not printed[["task", "metric", "value"]].isna().any().any()


def test_the_exhibits_with_printed_numbers_are_those_of_the_published_tables() -> None:
    names = {
        "lspc-timing": "lspc textA.3.4",
        "safefql-results": "safefql results-figure",
        "safefql-candidates": "safefql computation-figure",
        "flp-table1-ogbench": "flp table1",
    }
    every = load_published()
    exhibits = set(every["paper"] + " " + every["exhibit"])
    for name in ABLATIONS:
        exhibit = names.get(name, name.replace("-", " ", 1))
        assert (exhibit in exhibits) == (name in PRINTED), name


@every_ablation
def test_every_claim_says_what_it_is_about(ablation: Ablation) -> None:
    assert len({claim.name for claim in ablation.claims}) == len(ablation.claims)
    for claim in ablation.claims:
        assert claim.quantifier in QUANTIFIERS
        assert claim.about in (RESULTS, PRINT, DATASETS)
        assert set(claim.tasks) <= set(TASKS)
        assert claim.estimand
        if claim.about != PRINT:
            low, high = claim.margin
            assert low < high and (low, high) != (-float("inf"), float("inf"))


@every_ablation
def test_no_results_decide_nothing(ablation: Ablation, tmp_path: Path) -> None:
    empty = ablation.collect(ResultStore(tmp_path), ()) if not ablation.datasets else None
    if empty is None:
        return
    claims = [claim for claim in ablation.claims if claim.about == RESULTS]
    card = score(claims, empty)
    assert set(card["claim_verdict"]) == {NOT_TESTED}


@pytest.mark.parametrize(
    ("ablation", "claim"),
    [
        pytest.param(ablation.id, claim, id=f"{ablation.id} {claim.name}")
        for ablation in ABLATIONS.values()
        for claim in ablation.claims
        if claim.about == PRINT
    ],
)
def test_claims_about_print_are_decided(ablation: str, claim: Claim) -> None:
    card = score([claim], pandas.DataFrame())
    assert set(card["claim_verdict"]) <= {SUPPORTED, CONTRADICTED}
    # What is read off has a verdict on every task, and one that fails is enough.
    fails = CONTRADICTED in set(card["verdict"])
    assert (card["claim_verdict"].iloc[0] == CONTRADICTED) == fails


@pytest.mark.parametrize("name", slow_but(DRAWN_BY_DEFAULT, ABLATIONS))
def test_it_is_drawn_compared_and_scored(
    name: str, write_ablation, boat_data: Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SAFESWEEP_DATA_DIR", str(boat_data))
    ablation = ABLATIONS[name]
    store = write_ablation(ablation)
    assert missing_runs(store, ablation, "smoke") == []
    assert missing_measurements(store, ablation, "smoke") == []
    drawn: list[Figure] = []

    def draw(results: pandas.DataFrame, published: pandas.DataFrame, scale: str) -> Figure:
        drawn.append(ablation.draw(results, published, scale))
        return drawn[0]

    def laid_out(figure: Figure, folder: Path, *_: object) -> list[Path]:
        """In place of writing the images, which `test_figures` tests and takes twice as long."""
        figure.draw_without_rendering()
        folder.mkdir()
        return []

    monkeypatch.setattr(reproduction, "save_with_data", laid_out)
    watched = replace(ablation, draw=draw)
    done = reproduce(watched, store, "smoke", tmp_path / "figures", "the command")
    visible = [axes for axes in drawn[0].axes if axes.get_visible()]
    assert visible
    assert all(
        axes.has_data() or axes.get_images() or axes.collections or axes.texts for axes in visible
    )
    for legend in drawn[0].legends:
        looks = [
            (line.get_color(), line.get_marker(), line.get_linestyle(), line.get_markerfacecolor())
            for line in legend.legend_handles
            if isinstance(line, Line2D)
        ]
        assert len(set(looks)) == len(looks), [text.get_text() for text in legend.get_texts()]
    assert {"task", "ours", "spread", "published"} <= set(done.comparison.columns)
    judged = done.scorecard[done.scorecard["about"] == RESULTS]
    if ablation is not ABLATIONS["flrp-table8"]:
        assert (judged["effect"].notna()).all(), judged[["claim", "remark"]]
