"""What all figures are made of, those of sweeps, ablations and notebooks: style, labels, panels,
means with their bands, the limit, the legend; and how they are saved.

What draws is imported when something is drawn: ablations are listed without it."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas

from safesweep.search_spaces.validation import InvalidInput

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

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
PANELS_A_ROW = 3
FILE_KINDS = (".png", ".svg", ".pdf")

_LABELS = {
    "act_latency_ms": "time of an action, ms",
    "train_ms_per_step": "time of a training\nstep, ms",
    "reward_return_mean": "return of an episode",
    "cost_return_mean": "cost of an episode",
    "reward_q_mean": "mean of the reward\ncritic $Q_r$",
    "safety_q_mean": "mean of the cost\ncritic $Q_c$",
    "true_recall": "feasible states\nrecognised, share",
    "true_precision": "declared states that\nare feasible, share",
    "true_specificity": "infeasible states\nrecognised, share",
    "true_infeasible_recall": "states past saving\nrecognised, share",
    "success_rate": "success, % of\nepisodes",
}

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
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def metric_label(metric: str) -> str:
    """A quantity on an axis: normalised costs are in limits."""
    return _LABELS.get(metric, metric.replace("_", " "))


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, whose panels are arranged so that nothing overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def make_panels(
    rows: int, columns: int, *, panel: tuple[float, float], extra: float = 0.9, **options: Any
) -> "tuple[Figure, npt.NDArray[Any]]":
    """A figure of rows and columns of panels in the common style.

    Args:
        panel: width and height of one, in inches.
        extra: height in inches for what stands above and below them.
        options: as matplotlib's `subplots` takes them.
    """
    with figure_style():
        size = (max(COLUMN_INCHES, panel[0] * columns), panel[1] * rows + extra)
        figure = new_figure(*size)
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def draw_panels(
    count: int, width: float = 2.3, height: float = 2.0, columns: int = PANELS_A_ROW, **options: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure of so many panels in rows; places that are left over stay empty."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure, panels = make_panels(rows, columns, panel=(width, height), **options)
    flat: list[Axes] = list(panels.ravel())
    hide_empty(flat[count:])
    return figure, flat[:count]


def hide_empty(panels: "Iterable[Axes]") -> None:
    """Hide the panels on which nothing is drawn."""
    for axes in panels:
        if not axes.has_data():
            axes.set_visible(False)


def draw_limit(axes: "Axes", *, upright: bool = False) -> None:
    """The cost limit, 1 in normalised costs."""
    draw = axes.axvline if upright else axes.axhline
    draw(1.0, color=GREY, linestyle=":", linewidth=1.0)


def legend_handle(**options: Any) -> "Line2D":
    """A line or a marker in a legend, of nothing that is drawn. `options`: as a `Line2D` takes
    them."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **options)


def limit_handle() -> "Line2D":
    """The cost limit in a legend."""
    return legend_handle(color=GREY, linestyle=":", label="cost limit")


def legend_below(
    figure: "Figure", handles: "Sequence[Artist]", note: str = "", **options: Any
) -> None:
    """A legend below the panels, as many columns as fit, with a note above it."""
    width = figure.get_size_inches()[0]
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = int(max(1, min(len(handles), width / (0.45 + 0.062 * longest))))
    arranged = {"ncols": columns, "columnspacing": 1.0, "handletextpad": 0.4} | options
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        title=note or None,
        title_fontsize=6.5,
        **arranged,
    )


def draw_series(
    axes: "Axes",
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
    draw_band(axes, places, mean, deviation, color=color, floor=floor)


def draw_band(
    axes: "Axes",
    places: npt.ArrayLike,
    mean: "pandas.Series[float]",
    deviation: "pandas.Series[float]",
    *,
    color: str,
    floor: float = -np.inf,
) -> None:
    """One deviation to each side of a mean, no lower than `floor`; nothing where there is none."""
    if deviation.notna().any():
        spread = deviation.fillna(0.0)
        low, high = np.maximum(mean - spread, floor), mean + spread
        axes.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)


def draw_published(
    axes: "Axes", x: npt.ArrayLike, y: npt.ArrayLike, *, color: str, marker: str, label: str = ""
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


def _save_png(figure: "Figure", path: Path, metadata: dict[str, Any]) -> None:
    """A PNG of at most 256 colours: a third of the size, and no colour is off by more than the eye
    tells apart (15 of 255 in any figure of the papers)."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

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


def save_figure(figure: "Figure", path: Path, command: str) -> None:
    """Write a figure as what its name ends in; the command that made it stands in the metadata.

    Raises:
        InvalidInput: another ending, or a place that cannot be written.
    """
    kind = path.suffix.lower()
    if kind not in FILE_KINDS:
        raise InvalidInput(
            f"out: {str(path)!r} must end in {', '.join(FILE_KINDS[:-1])} or {FILE_KINDS[-1]}"
        )
    try:
        with figure_style():
            if kind == ".png":
                _save_png(figure, path, {"Description": command, "Software": "safesweep"})
            elif kind == ".svg":
                metadata = {"Description": command, "Creator": "safesweep", "Date": None}
                figure.savefig(path, metadata=metadata)
            else:
                metadata = {"Subject": command, "Creator": "safesweep", "CreationDate": None}
                figure.savefig(path, metadata=metadata)
    except OSError as problem:
        raise InvalidInput(f"out: {str(path)!r} cannot be written ({problem.strerror})") from None


def save_with_data(
    figure: "Figure", folder: Path, name: str, data: pandas.DataFrame, command: str
) -> list[Path]:
    """Write `<name>.png`, `.svg` and `.csv` (what is drawn) into `folder`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg, csv = (folder / f"{name}.{kind}" for kind in ("png", "svg", "csv"))
    for image in (png, svg):
        save_figure(figure, image, command)
    data.to_csv(csv, index=False, lineterminator="\n")
    return [png, svg, csv]
