from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from safesweep.analysis.figures import figure_style
from safesweep.analysis.plots.figures import PLOTS, draw_hyperparameter, positions
from safesweep.analysis.plots.sweep_results import SweepResults, read_results
from safesweep.analysis.selection.choice import choose
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.validation import InvalidInput
from tests.conftest import WriteSweep
from tests.large_sweep import write_large_sweep


@cache
def results_of(store: Path, sweep: str) -> SweepResults:
    opened = ResultStore(store)
    return read_results(opened, sweep, choose(opened, sweep=sweep))


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> SweepResults:
    folder = tmp_path_factory.mktemp("made-up")
    write_large_sweep(folder, configurations=30, seeds=2, evaluations=3)
    return results_of(folder, "large")


def test_means_marks_and_curves_of_a_known_sweep(write_sweep: WriteSweep, tmp_path: Path) -> None:
    levels = (0.6, 0.9, 0.99)
    write_sweep("first", [{"feasibility_expectile": level} for level in levels])
    found = results_of(tmp_path / "store", "first")
    rows = found.configurations.set_index("hp_feasibility_expectile")
    # Reward is 100 tau_h + seed over 100; cost 20 (tau_h - 0.5) + 1.5 at a limit of 10.
    np.testing.assert_allclose(rows.loc[list(levels), "reward"], [0.61, 0.91, 1.0])
    np.testing.assert_allclose(rows.loc[list(levels), "cost"], [0.35, 0.95, 1.13])
    assert rows["safe"].to_dict() == {0.6: True, 0.9: True, 0.99: False}
    assert rows["chosen"].to_dict() == {0.6: False, 0.9: True, 0.99: False}
    assert rows["front"].all() and rows["whole"].all()
    assert found.hyperparameters == ["feasibility_expectile"]
    curve = found.curves[found.curves["config_id"] == rows.loc[0.9, "config_id"]]
    assert curve["step"].tolist() == [1000, 2000] and (curve["seeds"] == 3).all()
    np.testing.assert_allclose(curve["reward_deviation"], 0.01)


def test_a_configuration_that_lost_a_seed_is_on_no_front(made_up: SweepResults) -> None:
    rows = made_up.configurations
    assert not rows["whole"].all() and rows["front"].any()
    assert rows.loc[rows["front"] | rows["chosen"], "whole"].all()


@pytest.mark.parametrize("kind", [kind for kind in PLOTS if kind != "hyperparameter"])
@pytest.mark.parametrize("sweep", ["methods", "troubled", "elsewhere"])
def test_every_kind_is_drawn_of_every_sweep_or_says_why_not(
    full_store: Path, kind: str, sweep: str
) -> None:
    found = results_of(full_store, sweep)
    if kind == "importance":
        with pytest.raises(InvalidInput, match="configurations"):
            PLOTS[kind](found)
        return
    axes = PLOTS[kind](found).axes
    assert axes
    with figure_style():  # whose titles fit above a panel
        size = matplotlib.rcParams["axes.titlesize"]
    assert all(panel.title.get_fontsize() == size for panel in axes)


def test_importance_and_one_hyperparameter_are_drawn(made_up: SweepResults) -> None:
    bars = PLOTS["importance"](made_up).axes[0].patches
    assert len(bars) == 2 * len(made_up.hyperparameters)
    for name in made_up.hyperparameters:
        reward, cost = draw_hyperparameter(made_up, name).axes
        assert cost.get_xlabel() == name and reward.get_ylabel() == "normalized reward"
    assert draw_hyperparameter(made_up, "learning_rate").axes[0].get_xscale() == "log"
    with pytest.raises(InvalidInput, match="learning_rate"):
        draw_hyperparameter(made_up, "learning_rat")


def test_positions_on_an_axis_of_their_own(made_up: SweepResults) -> None:
    import pandas

    assert positions(pandas.Series([1.0, 10.0, 100.0])).tolist() == [0.0, 0.5, 1.0]
    assert positions(pandas.Series(["b", None, "a"])).tolist()[::2] == [1.0, 0.0]
    assert positions(pandas.Series([2.0, 2.0])).tolist() == [0.5, 0.5]


def test_objects_show_themselves(write_sweep: WriteSweep, tmp_path: Path) -> None:
    write_sweep("a<b")
    store = ResultStore(tmp_path / "store")
    for shown in (store, choose(store, sweep="a<b"), results_of(tmp_path / "store", "a<b")):
        text = shown._repr_html_()
        assert "<table" in text and "a<b" not in text
    figure = PLOTS["front"](results_of(tmp_path / "store", "a<b"))
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
