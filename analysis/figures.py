"""One style for all figures, and how they are saved: PNG, SVG, and the data as CSV beside them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common colour-vision deficiency.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#E69F00", "#666666"

COLUMN_INCHES = 3.4
PIXELS_PER_INCH = 200

_STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e0e0e0",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "safesweep",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Within it, figures are made in the common style."""
    with rc_context(_STYLE):
        yield


def draw_series(
    axes: Axes,
    results: pandas.DataFrame,
    x: str,
    y: str,
    *,
    color: str,
    marker: str,
    linestyle: str = "-",
    label: str = "",
) -> None:
    """Mean over rows at each `x` as a line, one standard deviation to each side as a band.

    `results` has one row per (x, seed). With one seed there is a line and no band.
    """
    groups = results.groupby(x, sort=True)[y]
    mean, deviation = groups.mean(), groups.std(ddof=1)
    places = mean.index.to_numpy(np.float64)
    axes.plot(places, mean, color=color, marker=marker, linestyle=linestyle, label=label)
    if deviation.notna().any():
        spread = deviation.fillna(0.0)
        axes.fill_between(
            places, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0
        )


def draw_published(
    axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, *, color: str, marker: str, label: str = ""
) -> None:
    """Printed numbers: hollow markers, without a line."""
    axes.plot(
        x,
        y,
        color=color,
        marker=marker,
        linestyle="none",
        markerfacecolor="none",
        markersize=7,
        label=label,
    )


def save_figure(
    figure: Figure, folder: Path, name: str, data: pandas.DataFrame, command: str
) -> list[Path]:
    """Write `<name>.png`, `.svg` and `.csv` (what is drawn) into `folder`; returns their paths.

    The command that made the figure stands in the metadata of both images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png, svg, csv = (folder / f"{name}.{kind}" for kind in ("png", "svg", "csv"))
    figure.savefig(
        png, dpi=PIXELS_PER_INCH, metadata={"Description": command, "Software": "safesweep"}
    )
    with rc_context(_STYLE):
        figure.savefig(svg, metadata={"Description": command, "Creator": "safesweep", "Date": None})
    data.to_csv(csv, index=False, lineterminator="\n")
    return [png, svg, csv]
