"""R2PAC's maps say what places the states."""

import numpy as np
import pandas
import pytest

from safesweep.analysis.ablations.engine.measured import COLUMNS
from safesweep.analysis.ablations.r2pac.maps import FIGURE_8, PENALIZED, VANILLA

VALUES = ("reward_v", "safety_v", "unsafe", "place_1", "place_2")


def points(task: str, quantities: tuple[str, ...]) -> pandas.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        (task, setting, 0, "states", point, quantity, generator.standard_normal())
        for setting in (VANILLA, PENALIZED)
        for point in range(10)
        for quantity in quantities
    ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


@pytest.mark.parametrize(
    ("task", "quantities", "named"),
    [
        ("OfflineBallRun-v0", (*VALUES, "umap_1", "umap_2"), "BallRun: UMAP"),
        ("OfflineBallRun-v0", VALUES, "BallRun: principal components"),
        ("BoatNavigation-v0", VALUES, "BoatNavigation: its two coordinates"),
    ],
)
def test_the_title_says_what_the_axes_are(
    task: str, quantities: tuple[str, ...], named: str
) -> None:
    results = points(task, quantities)
    figure = FIGURE_8.draw(results, FIGURE_8.published(), "small")
    assert figure.get_suptitle().endswith(named)
    shown = results[(results["setting"] == VANILLA) & (results["seed"] == 0)]
    first = "umap_1" if "umap_1" in quantities else "place_1"
    expected = shown.loc[shown["quantity"] == first, "value"].to_numpy()
    drawn = np.asarray(figure.axes[0].collections[0].get_offsets())[:, 0]
    np.testing.assert_allclose(drawn, expected)
