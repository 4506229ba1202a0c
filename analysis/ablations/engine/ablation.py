"""An ablation as data: what it needs, how it is drawn, what it claims."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safesweep.analysis.claims import Claim
from safesweep.trainables.measurements.request import MeasurementRequest

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from safesweep.analysis.store.reader import ResultStore

SCALES = ("smoke", "small", "paper")


@dataclass(frozen=True)
class Ablation:
    """One table or figure of a paper: what it needs, how it is drawn, what it claims.

    Attributes:
        id: `<paper>-<exhibit>`, such as "flrp-table8".
        title: what it shows.
        paper: the paper, as in `analysis.published.PAPERS`.
        varies: what is varied, in words.
        sweeps: scale -> the sweeps that it needs, each the content of a sweep file; hyperparameters
            under their full names.
        costs: scale -> what it takes, in words.
        collect: store, sweep names (or the names of datasets) -> results in a tidy form, one row
            per (task, setting, seed, quantity); no rows where the store has none.
        published: the printed numbers, in the columns of the results as far as they apply.
        compare: results, printed numbers -> ours beside theirs.
        draw: results, printed numbers, scale -> figure.
        claims: what is claimed.
        measurements: scale -> what is measured on the trained networks once the runs are complete
            (values over the action plane, say); the command `reproduce` measures what is missing.
        datasets: scale -> datasets that are all that the ablation looks at, as `source:task`.
    """

    id: str
    title: str
    paper: str
    varies: str
    sweeps: Mapping[str, tuple[Mapping[str, Any], ...]]
    costs: Mapping[str, str]
    collect: "Callable[[ResultStore, tuple[str, ...]], pandas.DataFrame]"
    published: "Callable[[], pandas.DataFrame]"
    compare: "Callable[[pandas.DataFrame, pandas.DataFrame], pandas.DataFrame]"
    draw: "Callable[[pandas.DataFrame, pandas.DataFrame, str], Figure]"
    claims: tuple[Claim, ...]
    measurements: Mapping[str, tuple[MeasurementRequest, ...]] = field(default_factory=dict)
    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
