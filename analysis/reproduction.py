"""Reproducing the ablations of the papers from a result store."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from safesweep.analysis.ablations import cross_method, flrp, lspc, r2pac
from safesweep.analysis.ablations.engine.ablation import SCALES, Ablation
from safesweep.analysis.ablations.engine.budgets import configurations
from safesweep.analysis.ablations.flp import comparisons as flp
from safesweep.analysis.ablations.safefql import comparisons as safefql
from safesweep.analysis.claims import (
    ALL_TASKS,
    OUR_DATA,
    PRINT,
    RESULTS,
    VERDICTS,
    claim_verdicts,
    score,
)
from safesweep.analysis.figures import figure_style, save_with_data
from safesweep.analysis.store.reader import ResultStore
from safesweep.search_spaces.plugins import (
    Entries,
    extended_by_plugins,
    fault,
    load_installed_plugins,
)
from safesweep.search_spaces.validation import InvalidInput, require_choice, shown
from safesweep.trainables.measurements.request import MeasurementRequest

ABLATIONS: dict[str, Ablation] = {
    ablation.id: ablation
    for paper in (flrp, lspc, r2pac, flp, safefql, cross_method)
    for ablation in paper.ABLATIONS
}


def _accept(name: str, value: Any, plugin: Entries) -> Ablation:
    if not isinstance(value, Ablation):
        raise InvalidInput(f"must be an Ablation, not {shown(value)}")
    if value.id != name:
        raise InvalidInput(f"calls itself {shown(value.id)}")
    absent = [scale for scale in SCALES if scale not in value.sweeps or scale not in value.costs]
    if absent:
        raise InvalidInput(f"lacks the scale {', '.join(absent)}")
    for scale, sweeps in value.sweeps.items():
        if any(not isinstance(sweep, Mapping) or "name" not in sweep for sweep in sweeps):
            raise InvalidInput(f"a sweep of scale {scale!r} is no mapping with a name")
    return value


_OWN = frozenset(ABLATIONS)
extended_by_plugins("ABLATIONS", ABLATIONS, _accept)


@dataclass(frozen=True)
class Reproduction:
    """What came of an ablation.

    Attributes:
        ablation: which one.
        scale: smoke, small or paper; None where other sweeps of the store were drawn.
        sweeps: those that were drawn, the scale's own or others.
        label: what was drawn, in a file's name.
        paths: the figure as PNG and SVG, its data, the comparison and the scorecard as CSV.
        comparison: ours beside the printed numbers.
        scorecard: one row per claim and task.
        missing: runs that the scale comprises and that are not completed.
        degenerate: run_ids of runs that completed and degenerated; the remarks of claims that are
            judged by them say so.
    """

    ablation: Ablation
    scale: str | None
    sweeps: tuple[str, ...]
    label: str
    paths: list[Path]
    comparison: pandas.DataFrame
    scorecard: pandas.DataFrame
    missing: list[str]
    degenerate: list[str] = field(default_factory=list)


def register_ablation(ablation: Ablation) -> Ablation:
    """Make an ablation known by its id.

    Raises:
        InvalidInput: the id is taken, or a scale is missing.
    """
    if ABLATIONS.get(ablation.id, ablation) is not ablation:
        raise InvalidInput(f"ablation: {ablation.id!r} is registered already")
    absent = [scale for scale in SCALES if scale not in ablation.sweeps]
    if absent:
        raise InvalidInput(f"ablation: {ablation.id!r} lacks the scale {', '.join(absent)}")
    ABLATIONS[ablation.id] = ablation
    return ablation


def find_ablation(name: str) -> Ablation:
    """The ablation of that id.

    Raises:
        InvalidInput: there is none; names the nearest.
    """
    if name not in ABLATIONS:
        load_installed_plugins()
    return ABLATIONS[require_choice("ablation", name, ABLATIONS)]


def from_outside(ablation: Ablation) -> bool:
    """Whether it is no ablation of the product's own."""
    return ablation.id not in _OWN


@contextmanager
def named_faults(ablation: Ablation) -> Iterator[None]:
    """What an ablation from outside raises within becomes one line that names it and its plugin.

    Raises:
        InvalidInput: it did.
    """
    try:
        yield
    except InvalidInput:
        raise
    except Exception as problem:
        if not from_outside(ablation):
            raise
        raise fault("ABLATIONS", ablation.id, problem) from problem


def missing_runs(store: ResultStore, ablation: Ablation, scale: str) -> list[str]:
    """The runs of a scale that the store has not completed, each in words."""
    missing: list[str] = []
    sweeps = ablation.sweeps[require_choice("scale", scale, SCALES)]
    if not sweeps:
        return missing
    plans = store.sweeps()
    members = dict(zip(plans["sweep"], plans["run_ids"], strict=True))
    runs = store.runs(status="completed")
    for sweep in sweeps:
        completed = _completed(runs[runs["run_id"].isin(members.get(sweep["name"], ()))], sweep)
        missing += [
            ", ".join(f"{name} {value}" for name, value in wanted.items())
            for wanted in _wanted(sweep)
            if tuple(wanted.values()) not in completed
        ]
    return missing


def missing_measurements(
    store: ResultStore, ablation: Ablation, scale: str
) -> list[MeasurementRequest]:
    """The measurements of a scale that the store lacks, or of which it lacks a run's."""
    wanted = ablation.measurements.get(require_choice("scale", scale, SCALES), ())
    return [
        request
        for request in wanted
        if (
            len(unmeasured_runs(store, request))
            if request.sweep
            else store.measurements(["name"], name=request.name).empty
        )
    ]


def unmeasured_runs(store: ResultStore, request: MeasurementRequest) -> pandas.DataFrame:
    """The completed runs of a measurement's sweep in trials that have not been measured whole;
    their rows of `runs`. None where the measurement needs no runs, or the store has no such sweep.
    """
    if request.sweep not in set(store.sweeps(["sweep"])["sweep"]):
        return store.runs(run_id=[])
    runs = store.runs(sweep=request.sweep, status="completed")
    measured = set(store.measurements(["run_id"], name=request.name)["run_id"])
    trials = set(runs.loc[~runs["run_id"].isin(measured), "trial_id"])
    return runs[runs["trial_id"].isin(trials)]


def degenerate_runs(store: ResultStore, sweeps: Sequence[str]) -> pandas.DataFrame:
    """The completed runs of some sweeps that degenerated: run_id, task, and how (`error`)."""
    runs = store.runs(["run_id", "task", "error"], sweep=list(sweeps), status="completed")
    return runs[runs["error"].notna()]


def with_degenerate(scorecard: pandas.DataFrame, degenerate: pandas.DataFrame) -> pandas.DataFrame:
    """A scorecard whose remarks say how many of the runs on a task degenerated; claims about print
    are left alone."""
    if degenerate.empty or scorecard.empty:
        return scorecard
    counts = degenerate["task"].value_counts()

    def remark(row: Any) -> str:
        count = sum(counts) if row["task"] == ALL_TASKS else int(counts.get(row["task"], 0))
        if not count or row["about"] == PRINT:
            return str(row["remark"])
        said = f"{count} of its runs degenerated"
        return f"{row['remark']}; {said}" if row["remark"] else said

    return scorecard.assign(remark=scorecard.apply(remark, axis=1))


def paper_scorecard(findings: pandas.DataFrame) -> pandas.DataFrame:
    """Claims by verdict (`analysis.claims.claim_verdicts`): a row for each paper, and for claims
    about results, about our own data and about print.

    Args:
        findings: scorecards of ablations with the columns `paper` and `ablation`.
    """
    claims = claim_verdicts(findings)
    card = [
        {
            "paper": paper,
            "about": about,
            "claims": len(rows),
            **{verdict: int((rows["verdict"] == verdict).sum()) for verdict in VERDICTS},
        }
        for (paper, about), rows in claims.groupby(["paper", "about"], sort=False)
    ]
    order = {about: place for place, about in enumerate((RESULTS, OUR_DATA, PRINT))}
    frame = pandas.DataFrame(card)
    frame = frame.assign(place=frame["about"].map(order)).sort_values(["place", "paper"])
    return frame.drop(columns="place").reset_index(drop=True)


def _require_complete(
    store: ResultStore, ablation: Ablation, scale: str, missing: Sequence[str]
) -> None:
    lacks = f"{ablation.id}: the store {store.uri!r} lacks"
    remedy = "run it without --figure-only"
    if missing:
        raise InvalidInput(
            f"{lacks} {len(missing)} runs of scale {scale!r} (the first: {missing[0]}); {remedy}"
        )
    unmeasured = missing_measurements(store, ablation, scale)
    if unmeasured:
        raise InvalidInput(f"{lacks} the measurement {unmeasured[0].name!r}; {remedy}")


def _wanted(sweep: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Task, seed and settings of every run of a sweep."""
    chosen = configurations(sweep)
    for task, seed, values in itertools.product(sweep["tasks"], sweep["seeds"], chosen):
        yield {"task": task, "seed": seed, **{name: values[name] for name in sweep["space"]}}


def _completed(runs: pandas.DataFrame, sweep: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    columns = ["task", "seed", *(f"hp_{name}" for name in sweep["space"])]
    if any(column not in runs for column in columns):
        return set()
    # A store may hold results of other sizes under the same name: only this budget counts.
    runs = runs[runs["steps"] == sweep["steps"]]
    return set(runs[columns].itertuples(index=False, name=None))


def reproduce(
    ablation: Ablation,
    store: ResultStore,
    scale: str,
    folder: Path,
    command: str,
    sweeps: Sequence[str] = (),
    incomplete: bool = True,
) -> Reproduction:
    """Draw an ablation from what the store holds, compare it and score its claims.

    Args:
        ablation: which one.
        store: where its runs are.
        scale: smoke, small or paper.
        folder: where the figure and the tables go, under `<id>-<scale>`.
        command: what the user typed, for the metadata of the figure.
        sweeps: draw these sweeps of the store instead of the scale's own.
        incomplete: draw also where the store lacks runs or measurements of the scale.

    Raises:
        InvalidInput: no such scale or sweep, or the store holds no run of it, or not all.
    """
    missing = [] if sweeps else missing_runs(store, ablation, scale)
    if not (sweeps or incomplete):
        _require_complete(store, ablation, scale, missing)
    names = tuple(sweeps) or tuple(str(sweep["name"]) for sweep in ablation.sweeps[scale])
    trained = names
    known = set(store.sweeps()["sweep"])
    for name in sweeps:
        require_choice("sweep", name, sorted(known))
    absent = [name for name in names if name not in known]
    if ablation.datasets:
        if sweeps:
            raise InvalidInput(f"{ablation.id}: looks at datasets, not at sweeps")
        names, absent = ablation.datasets[scale], []
    if ablation.measurements and not sweeps:
        names = tuple(request.name for request in ablation.measurements[scale])
    results = pandas.DataFrame() if absent else ablation.collect(store, names)
    if results.empty:
        wanted = f"of sweep {', '.join(sweeps)}" if sweeps else f"at scale {scale!r}"
        raise InvalidInput(
            f"{ablation.id}: the store {store.uri!r} holds no completed run {wanted}"
        )
    published = ablation.published()
    comparison = ablation.compare(results, published)
    degenerate = degenerate_runs(store, [name for name in trained if name in known])
    scorecard = with_degenerate(score(ablation.claims, results), degenerate)
    label = "+".join(sweeps) or scale
    name = f"{ablation.id}-{label}"
    with figure_style():
        figure = ablation.draw(results, published, " and ".join(sweeps) or scale)
    paths = save_with_data(figure, folder, name, results, command)
    for kind, frame in (("published", comparison), ("claims", scorecard)):
        path = folder / f"{name}-{kind}.csv"
        frame.to_csv(path, index=False, lineterminator="\n")
        paths.append(path)
    return Reproduction(
        ablation,
        None if sweeps else scale,
        trained,
        label,
        paths,
        comparison,
        scorecard,
        missing,
        list(degenerate["run_id"]),
    )
