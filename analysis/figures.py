"""One style for all figures, and how they are saved: PNG, SVG, and the data as CSV beside them."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

# Okabe and Ito's palette, told apart with every common colour-vision deficiency.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#E69F00", "#666666"

COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, GREY, "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
Line = Literal["-", "--", "-.", ":"]
LINES: tuple[Line, ...] = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Style:
    """How a method or a setting is drawn."""

    color: str
    marker: str
    line: Line = "-"


# Every method, ours and printed, has one style in all figures.
METHOD_STYLES = {
    "FLRP": Style(BLUE, "o"),
    "LSPC-O": Style(ORANGE, "s"),
    "LSPC": Style(ORANGE, "s"),
    "LSPC-S": Style(YELLOW, "s", "--"),
    "CVAE": Style(GREY, "s", ":"),
    "R2PAC": Style(GREEN, "^"),
    "FLP": Style(PURPLE, "D"),
    "SafeFQL+CP": Style("#000000", "P"),
    "SafeFQL": Style(SKY, "P", "--"),
    "BC": Style(GREY, "X", "-."),
    "BC-Safe": Style("#000000", "X", "-."),
    "FISOR": Style(SKY, "v"),
    "CPQ": Style(YELLOW, "^"),
    "CDT": Style(PURPLE, "v"),
    "BCQL": Style(GREY, "D"),
    "BEAR-Lag": Style(GREY, "v"),
    "COptiDICE": Style("#000000", "v"),
    "CAPS(IQL)": Style(ORANGE, "D"),
    "TREBI": Style(BLUE, "*"),
    "SafeIFQL": Style(GREEN, "P"),
    "C2IQL": Style(ORANGE, "*"),
    "IQL": Style(GREEN, "o"),
    "ReBRAC": Style(ORANGE, "o"),
    "IDQL": Style(SKY, "o"),
    "SRPO": Style(YELLOW, "o"),
    "CAC": Style(BLUE, "s"),
    "FAWAC": Style(GREEN, "s"),
    "FBRAC": Style(BLUE, "^"),
    "IFQL": Style(SKY, "^"),
    "FQL": Style("#000000", "*"),
}
"""By name. LSPC is LSPC-O, its main policy; a figure shows one of the two names."""


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """The styles of what a figure compares: a method's own, and for anything else one that no
    other name of the figure has."""
    own = {name: METHOD_STYLES[name] for name in names if name in METHOD_STYLES}
    taken = {(style.color, style.marker) for style in own.values()}
    free = (
        Style(COLORS[i % len(COLORS)], MARKERS[(i + i // len(COLORS)) % len(MARKERS)], line)
        for line in LINES
        for i in range(len(COLORS) * len(MARKERS))
    )
    for name in names:
        if name not in own:
            own[name] = next(style for style in free if (style.color, style.marker) not in taken)
            taken.add((own[name].color, own[name].marker))
    return own


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
    floor: float = -np.inf,
) -> None:
    """Mean over rows at each `x` as a line, one standard deviation to each side as a band.

    `results` has one row per (x, seed). With one seed there is a line and no band. The band ends
    at `floor`, below which there are no values.
    """
    groups = results.groupby(x, sort=True)[y]
    mean, deviation = groups.mean(), groups.std(ddof=1)
    places = mean.index.to_numpy(np.float64)
    axes.plot(places, mean, color=color, marker=marker, linestyle=linestyle, label=label)
    if deviation.notna().any():
        spread = deviation.fillna(0.0)
        axes.fill_between(
            places,
            np.maximum(mean - spread, floor),
            mean + spread,
            color=color,
            alpha=0.18,
            linewidth=0,
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


def _save_png(figure: Figure, path: Path, metadata: dict[str, str]) -> None:
    """A PNG of at most 256 colours: a third of the size, and no colour is off by more than the eye
    tells apart (15 of 255 in any figure of the papers)."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=PIXELS_PER_INCH)
    information = PngInfo()
    for name, text in metadata.items():
        information.add_text(name, text)
    # The colours that are farthest from one another, so that no thin line loses its own.
    image = (
        Image.open(drawn)
        .convert("RGB")
        .quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    dpi = (PIXELS_PER_INCH, PIXELS_PER_INCH)
    image.save(path, optimize=True, pnginfo=information, dpi=dpi)


def save_figure(
    figure: Figure, folder: Path, name: str, data: pandas.DataFrame, command: str
) -> list[Path]:
    """Write `<name>.png`, `.svg` and `.csv` (what is drawn) into `folder`; returns their paths.

    The command that made the figure stands in the metadata of both images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    png, svg, csv = (folder / f"{name}.{kind}" for kind in ("png", "svg", "csv"))
    _save_png(figure, png, {"Description": command, "Software": "safesweep"})
    with rc_context(_STYLE):
        figure.savefig(svg, metadata={"Description": command, "Creator": "safesweep", "Date": None})
    data.to_csv(csv, index=False, lineterminator="\n")
    return [png, svg, csv]
