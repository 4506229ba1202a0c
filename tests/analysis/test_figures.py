from pathlib import Path

import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from safesweep.analysis.figures import (
    BLUE,
    METHOD_STYLES,
    ORANGE,
    PIXELS_PER_INCH,
    draw_published,
    draw_series,
    figure_style,
    save_with_data,
    styles_of,
)

RESULTS = pandas.DataFrame(
    {"x": [0.6, 0.6, 0.9, 0.9], "seed": [0, 1, 0, 1], "y": [0.2, 0.4, 0.6, 0.6]}
)


def make_figure() -> Figure:
    with figure_style():
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        draw_series(axes, RESULTS, "x", "y", color=BLUE, marker="o")
        draw_published(axes, [0.6, 0.9], [0.3, 0.5], color=BLUE, marker="o")
    return figure


def test_a_series_is_the_mean_with_a_band_over_seeds() -> None:
    axes = make_figure().axes[0]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([0.3, 0.6])
    band = axes.collections[0].get_paths()[0].vertices
    deviation = 0.2 / 2**0.5
    assert band[:, 1].min() == pytest.approx(0.3 - deviation)
    assert band[:, 1].max() == pytest.approx(0.6)


def test_a_band_ends_at_the_floor() -> None:
    axes = Figure().subplots()
    draw_series(axes, RESULTS, "x", "y", color=BLUE, marker="o", floor=0.25)
    assert axes.collections[0].get_paths()[0].vertices[:, 1].min() == 0.25


def test_every_method_has_its_own_style() -> None:
    own = {name: style for name, style in METHOD_STYLES.items() if name != "LSPC"}
    assert len({(style.color, style.marker) for style in own.values()}) == len(own)


def test_styles_are_the_same_whatever_stands_beside_and_never_shared() -> None:
    names = [*METHOD_STYLES, *(f"setting {place}" for place in range(30))]
    names.remove("LSPC")
    styles = styles_of(names)
    assert list(styles) != [] and set(styles) == set(names)
    assert len({(style.color, style.marker) for style in styles.values()}) == len(names)
    assert styles_of(["FISOR", "x", "CPQ"])["FISOR"] == styles_of(["FISOR"])["FISOR"]


def test_one_seed_has_no_band() -> None:
    axes = Figure().subplots()
    draw_series(axes, RESULTS[RESULTS["seed"] == 0], "x", "y", color=BLUE, marker="o")
    assert len(axes.collections) == 0


def test_published_numbers_are_hollow_markers_without_a_line() -> None:
    line = make_figure().axes[0].lines[1]
    assert line.get_markerfacecolor() == "none"
    assert line.get_linestyle() == "None"


def test_a_figure_is_saved_with_its_data_and_the_command(tmp_path: Path) -> None:
    paths = save_with_data(
        make_figure(), tmp_path / "new", "name", RESULTS, "safesweep reproduce x"
    )
    assert [path.name for path in paths] == ["name.png", "name.svg", "name.csv"]
    assert imread(paths[0]).shape[:2] == (400, 400)
    assert b"safesweep reproduce x" in paths[0].read_bytes()
    assert "safesweep reproduce x" in paths[1].read_text()
    pandas.testing.assert_frame_equal(pandas.read_csv(paths[2]), RESULTS)


def test_an_image_keeps_its_colours_in_a_palette(tmp_path: Path) -> None:
    with figure_style():
        figure = Figure(figsize=(2, 2))
        axes = figure.subplots()
        axes.imshow(np.linspace(0, 1, 64).reshape(8, 8), cmap="viridis")
        axes.plot([0, 7], [0, 7], color=ORANGE, linewidth=0.5)
    png = save_with_data(figure, tmp_path, "name", RESULTS, "command")[0]
    with figure_style():
        figure.savefig(tmp_path / "whole.png", dpi=PIXELS_PER_INCH)
    found, whole = imread(png)[..., :3], imread(tmp_path / "whole.png")[..., :3]
    assert np.abs(found - whole).max() <= 16 / 255
    assert png.stat().st_size < (tmp_path / "whole.png").stat().st_size
    assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 256


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    one = save_with_data(make_figure(), tmp_path / "one", "name", RESULTS, "command")
    other = save_with_data(make_figure(), tmp_path / "other", "name", RESULTS, "command")
    for first, second in zip(one, other, strict=True):
        assert first.read_bytes() == second.read_bytes()
