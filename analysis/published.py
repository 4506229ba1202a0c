"""The numbers that the papers print, as one tidy table.

Read from the tables of FLRP, LSPC, R2PAC and FLP, and from the public plotting scripts of
SafeFQL's authors. `value` is what is printed, even where it is doubtful: `note` then says
`ambiguous: ...` (and the column `ambiguous` is true) or `average mismatch: ...`.

Costs of different papers do not compare: each normalises by the limits in `cost_limits`
(several limits: the printed cost is the mean over them; empty: not stated).
"""

from functools import cache
from importlib.resources import files

import pandas

from safesweep.search_spaces.validation import InvalidInput, require_choice

PAPERS = ("flrp", "lspc", "r2pac", "flp", "safefql")

COLUMNS: dict[str, str] = {
    "paper": "string",
    "exhibit": "string",
    "task": "string",
    "printed_task": "string",
    "suite": "string",
    "method": "string",
    "variant": "string",
    "parameter": "string",
    "parameter_value": "string",
    "metric": "string",
    "value": "float64",
    "standard_deviation": "float64",
    "unit": "string",
    "cost_limits": "string",
    "note": "string",
}
"""Column -> type, as stored; `load_published` adds `ambiguous` (bool).

`task` is our id where we have the task, the printed name where we do not, and `average` for the
mean over a suite. Text that a paper does not give is null.
"""

_NUMBERS = ("value", "standard_deviation")


def _none_if_empty(text: str) -> str | None:
    return text or None


@cache
def _read(name: str) -> pandas.DataFrame:
    with (
        files("safesweep.analysis")
        .joinpath("published")
        .joinpath(f"{name}.csv")
        .open("rb") as stream
    ):
        return pandas.read_csv(stream, dtype=str, keep_default_na=False)


def load_published(paper: str | None = None, exhibit: str | None = None) -> pandas.DataFrame:
    """The published numbers, one row per printed number.

    Args:
        paper: one of `PAPERS`; all of them by default.
        exhibit: a table or figure of that paper, such as `table8`.

    Raises:
        InvalidInput: no such paper or exhibit.
    """
    papers = PAPERS if paper is None else (require_choice("paper", paper, PAPERS),)
    frame = pandas.concat([_read(name) for name in papers], ignore_index=True)
    if exhibit is not None:
        require_choice("exhibit", exhibit, sorted(set(frame["exhibit"])))
        frame = frame[frame["exhibit"] == exhibit].reset_index(drop=True)
    for column in COLUMNS:
        if column in _NUMBERS:
            frame[column] = pandas.to_numeric(frame[column])
        else:
            frame[column] = frame[column].map(_none_if_empty)
    frame["ambiguous"] = frame["note"].fillna("").str.contains("ambiguous")
    return frame


def load_hyperparameters(paper: str | None = None) -> pandas.DataFrame:
    """The hyperparameters that the papers print: `paper, exhibit, method, task, parameter, value,
    note`, all text as printed.

    Raises:
        InvalidInput: no such paper.
    """
    frame = _read("hyperparameters").copy()
    if paper is not None:
        require_choice("paper", paper, sorted(set(frame["paper"])))
        frame = frame[frame["paper"] == paper].reset_index(drop=True)
    return frame.map(_none_if_empty)


def load_marks(paper: str, exhibit: str) -> pandas.DataFrame:
    """Which numbers of a table are printed bold: `task, method, metric`, one row each.

    Known for FLRP's table 1 and LSPC's tables 3 to 5. Colours are not in the texts that the
    tables were read from.

    Raises:
        InvalidInput: the marks of that table are not known.
    """
    frame = _read("marks")
    names = (frame["paper"] + " " + frame["exhibit"]).unique()
    require_choice("exhibit", f"{paper} {exhibit}", names)
    found = frame[(frame["paper"] == paper) & (frame["exhibit"] == exhibit)]
    return found[["task", "method", "metric"]].reset_index(drop=True)


def methods_as_candidates(paper: str, exhibit: str, ambiguous: bool = False) -> pandas.DataFrame:
    """A printed comparison of methods in the form that `analysis.selection.choice.select` takes.

    The methods of the table stand as the configurations (`config_id`) of one algorithm named
    after the paper, with one seed each. Averages over suites are left out, and so are ambiguous
    cells unless `ambiguous` asks for them as they are printed; a method that then lacks its
    reward or its cost on a task is absent from that task.

    Raises:
        InvalidInput: no such paper or exhibit, or one without normalised rewards and costs.
    """
    frame = load_published(paper, exhibit)
    scores = ["normalized_reward", "normalized_cost"]
    frame = frame[frame["metric"].isin(scores) & (frame["task"] != "average")]
    if not ambiguous:
        frame = frame[~frame["ambiguous"]]
    if frame.empty:
        raise InvalidInput(
            f"exhibit: {exhibit!r} of {paper} prints no normalised rewards and costs per task"
        )
    frame = frame.assign(
        config_id=[
            ": ".join(filter(None, [method, variant or value]))
            for method, variant, value in zip(
                frame["method"], frame["variant"], frame["parameter_value"], strict=True
            )
        ]
    )
    wide = frame.pivot(index=["task", "config_id"], columns="metric", values="value")
    wide = wide.dropna(subset=scores).reset_index().rename_axis(columns=None)
    return wide.assign(algorithm=paper, seed=0)[["algorithm", "task", "config_id", "seed", *scores]]
