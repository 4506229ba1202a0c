"""`safesweep reproduce`: an ablation of a paper, run, drawn, and its claims scored."""

import argparse
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safesweep.search_spaces.validation import (
    InvalidInput,
    expanded,
    is_missing,
    require_choice,
    shown,
    without_secrets,
)
from safesweep.sweeps.commands.results import add_storage_option, add_sweeps, default_storage
from safesweep.sweeps.execution.interruption import exit_code
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.ablations.engine.ablation import Ablation
    from safesweep.analysis.reproduction import Reproduction
    from safesweep.analysis.scorecard import Remarks
    from safesweep.analysis.store.reader import ResultStore


WIDTH = 100
"""Columns of a terminal that a table for it fits."""
_BETWEEN = 3


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `reproduce`."""
    parser = commands.add_parser(
        "reproduce",
        help="run and draw ablations of the papers, and score their claims",
        description="Runs what the store still lacks, draws the figure, prints ours beside the "
        "published numbers, and says which claims the data support, contradict or leave undecided.",
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="such as flrp-table8; or all")
    parser.add_argument(
        "--scale",
        default="small",
        help="smoke: seconds, proves the path; small (default): minutes on two cores; paper: the "
        "paper's own tasks and steps",
    )
    parser.add_argument(
        "--figure-only", action="store_true", help="draw from the store, and run nothing"
    )
    add_sweeps(
        parser,
        "draw from this sweep of the store instead of the scale's own (repeatable); runs nothing",
        named=False,
    )
    parser.add_argument(
        "--page",
        metavar="FOLDER",
        help="also write one page of all figures and verdicts there, with the remarks on claims "
        "that it finds in FOLDER/remarks.csv",
    )
    parser.add_argument(
        "--data",
        metavar="FILE.zip",
        help="also write the tables behind the figures, the printed numbers beside ours, and the "
        "claims, as CSV in one archive",
    )
    parser.add_argument("--list", action="store_true", help="list the ablations")
    parser.add_argument(
        "--wide", action="store_true", help="with --list: with what each varies, claims and takes"
    )
    parser.add_argument("--address", help="a Ray cluster; 'auto' finds one (default: this machine)")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_reproduction)


def run_reproduction(arguments: argparse.Namespace) -> int:
    """Reproduce the ablations asked for; 1 when a run of theirs failed or diverged, or when one of
    several could not be reproduced."""
    from safesweep.analysis.ablations.engine.ablation import SCALES
    from safesweep.analysis.reproduction import ABLATIONS, find_ablation

    if arguments.wide and not arguments.list:
        raise InvalidInput("wide: goes with --list")
    if arguments.list:
        _print_list(arguments.format, arguments.wide)
        return 0
    if not arguments.ids:
        raise InvalidInput("reproduce: name an ablation (--list shows them), or all")
    require_choice("scale", arguments.scale, SCALES)
    if arguments.data and Path(arguments.data).suffix != ".zip":
        raise InvalidInput(f"data: {shown(arguments.data)} is not allowed; it must end in .zip")
    names = list(ABLATIONS) if arguments.ids == ["all"] else arguments.ids
    ablations = [find_ablation(name) for name in names]
    try:
        return _reproduce_all(ablations, arguments)
    except KeyboardInterrupt as interrupt:
        say("safesweep: interrupted; the same command goes on where it stopped")
        return exit_code(interrupt)


def _reproduce_all(ablations: "Sequence[Ablation]", arguments: argparse.Namespace) -> int:
    from safesweep.analysis.store.reader import ResultStore

    remarks = _remarks(arguments)
    unable: dict[str, InvalidInput] = {}
    if not (arguments.sweeps or arguments.figure_only):
        unable = _run_missing(ablations, arguments)
        if "://" not in arguments.storage:
            # An ablation of datasets alone may be the first thing that a store sees.
            expanded(arguments.storage).mkdir(parents=True, exist_ok=True)
    store = ResultStore(arguments.storage)
    done: list[Reproduction] = []
    for ablation in ablations:
        try:
            if ablation.id in unable:
                raise unable[ablation.id]
            done.append(_reproduce(ablation, store, arguments))
        except InvalidInput as problem:
            if len(ablations) == 1:
                raise
            say(str(problem))
            continue
        if arguments.format == "table":
            _print_readable(done[-1])
    if not done:
        raise InvalidInput(f"reproduce: none of {len(ablations)} ablations could be reproduced")
    from safesweep.analysis.scorecard import all_findings

    findings = all_findings(done)
    if arguments.format != "table":
        print_table(findings, arguments.format)
    if len(ablations) > 1:
        _report_scorecard(findings, done[0].label, arguments)
    if arguments.page:
        _write_page(done, store, remarks, arguments)
    if arguments.data:
        from safesweep.analysis.scorecard import write_data

        count = write_data(done, expanded(arguments.data))
        say(f"reproduce: {count} tables in {arguments.data}")
    incomplete = any(entry.missing for entry in done)
    return 1 if incomplete or len(done) < len(ablations) else 0


def _remarks(arguments: argparse.Namespace) -> "Remarks":
    """The remarks of a page that is there already: read first, so that bad ones cost no runs."""
    if not arguments.page:
        return {}
    from safesweep.analysis.scorecard import load_remarks

    return load_remarks(expanded(arguments.page))


def _run_missing(
    ablations: "Sequence[Ablation]", arguments: argparse.Namespace
) -> dict[str, InvalidInput]:
    """Run what the store lacks of all sweeps together; why a sweep could not be started, by
    ablation."""
    unable = _refused(ablations, arguments.scale)
    sweeps = {
        sweep["name"]: (ablation.id, sweep)
        for ablation in ablations
        if ablation.id not in unable
        for sweep in ablation.sweeps[arguments.scale]
    }
    if not sweeps:
        return unable
    from safesweep.sweeps.execution.ray_tune import run_sweeps

    specs = [sweep for _, sweep in sweeps.values()]
    summaries = run_sweeps(specs, arguments.storage, arguments.address)
    return unable | {
        ablation: summary
        for (ablation, _), summary in zip(sweeps.values(), summaries, strict=True)
        if isinstance(summary, InvalidInput)
    }


def _refused(ablations: "Sequence[Ablation]", scale: str) -> dict[str, InvalidInput]:
    """Why sweeps of ablations from outside are refused, by ablation; the others are run."""
    from safesweep.analysis.reproduction import from_outside
    from safesweep.search_spaces.plugins import fault
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    refused = {}
    for ablation in filter(from_outside, ablations):
        try:
            for sweep in ablation.sweeps[scale]:
                SweepSpec.from_mapping(sweep)
        except Exception as problem:
            refused[ablation.id] = fault("ABLATIONS", ablation.id, problem)
    return refused


def _reproduce(
    ablation: "Ablation", store: "ResultStore", arguments: argparse.Namespace
) -> "Reproduction":
    from safesweep.analysis.reproduction import named_faults, reproduce

    with named_faults(ablation):
        if not (arguments.sweeps or arguments.figure_only):
            _measure(store, ablation, arguments)
        return reproduce(
            ablation,
            store,
            arguments.scale,
            figure_folder(arguments.storage, ablation.id),
            _command([ablation.id], arguments),
            arguments.sweeps,
            incomplete=not arguments.figure_only,
        )


def _measure(store: "ResultStore", ablation: "Ablation", arguments: argparse.Namespace) -> None:
    """Measure on the trained networks what the ablation wants and the store lacks."""
    from safesweep.analysis.reproduction import missing_measurements, unmeasured_runs

    wanted = missing_measurements(store, ablation, arguments.scale)
    if not wanted:
        return
    from safesweep.trainables.measurements.registry import measure

    for request in wanted:
        say(f"{ablation.id}: measuring {request.measurement} of {request.name}")
        measure(arguments.storage, request, unmeasured_runs(store, request))


def _report_scorecard(
    findings: "pandas.DataFrame", label: str, arguments: argparse.Namespace
) -> None:
    """Claims by verdict, paper by paper; in full as CSV beside the figures."""
    from safesweep.analysis.reproduction import paper_scorecard

    card = paper_scorecard(findings)
    folder = figure_folder(arguments.storage, "scorecard")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, frame in (("papers", card), ("findings", findings)):
        path = folder / f"{name}-{label}.csv"
        frame.to_csv(path, index=False, lineterminator="\n")
        paths.append(path)
    if arguments.format == "table":
        print(f"Claims by verdict, {label}")
        print()
        print_table(card)
        for path in paths:
            print(path)


def _write_page(
    done: "Sequence[Reproduction]",
    store: "ResultStore",
    remarks: "Remarks",
    arguments: argparse.Namespace,
) -> None:
    from safesweep.analysis.scorecard import unexplained, write_page

    folder = expanded(arguments.page)
    command = _command(arguments.ids, arguments)
    paths = write_page(done, store, remarks, folder, command)
    say(f"reproduce: {len(paths)} files in {folder}")
    silent = unexplained(done, remarks)
    if silent:
        named = ", ".join(" ".join(pair) for pair in silent[:3])
        more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
        say(f"reproduce: no remark on claims that are not supported: {named}{more}")


def figure_folder(storage: str, name: str) -> Path:
    """`figures/<name>` in a local store; in the working folder for a store behind a URI."""
    local = storage.removeprefix("file://")
    root = Path() if "://" in local else expanded(local)
    return root / "figures" / name


def _command(names: Sequence[str], arguments: argparse.Namespace) -> str:
    words = ["safesweep", "reproduce", *names]
    for sweep in arguments.sweeps:
        words += ["--sweep", sweep]
    if not arguments.sweeps:
        words += ["--scale", arguments.scale]
    if arguments.storage != default_storage():
        words += ["--storage", without_secrets(arguments.storage)]
    if arguments.figure_only:
        words.append("--figure-only")
    if arguments.page:
        words += ["--page", arguments.page]
    if arguments.data:
        words += ["--data", arguments.data]
    return shlex.join(words)


def _print_list(format: str, wide: bool) -> None:
    """The ablations: a line each for a terminal, or everything about each of them."""
    import pandas

    from safesweep.analysis.ablations.engine.ablation import SCALES
    from safesweep.analysis.reproduction import ABLATIONS

    rows = [
        {
            "id": ablation.id,
            "title": ablation.title,
            "varies": ablation.varies,
            "claims": [claim.statement for claim in ablation.claims],
            **{scale: ablation.costs[scale] for scale in SCALES},
        }
        for ablation in ABLATIONS.values()
    ]
    if format != "table":
        print_table(pandas.DataFrame(rows), format)
        return
    if not wide:
        table = pandas.DataFrame(rows)[["id", "title", "claims"]]
        table["claims"] = table["claims"].map(len)
        room = WIDTH - table["id"].map(len).max() - len("claims") - 2 * _BETWEEN
        table["title"] = [
            textwrap.shorten(title, room, placeholder="...") for title in table["title"]
        ]
        say("--wide says what each varies, claims and takes")
        print_table(table)
        return
    for ablation in ABLATIONS.values():
        print(f"{ablation.id}: {ablation.title}")
        print(f"  varies {ablation.varies}")
        for scale in SCALES:
            print(f"  {scale}: {ablation.costs[scale]}")
        print("  claims")
        for claim in ablation.claims:
            print(f"    {claim.name}: {claim.statement}")


def _print_readable(reproduction: "Reproduction") -> None:
    from safesweep.analysis.claims import INTERVAL_LEVEL, LEVEL, claim_verdicts
    from safesweep.analysis.scorecard import all_findings

    ablation = reproduction.ablation
    print(f"{ablation.id}, {reproduction.label}: ours beside the published numbers")
    print()
    print_table(_side_by_side(reproduction.comparison))
    print()
    print("Claims")
    print()
    card = reproduction.scorecard
    shown = card.assign(task=[_short_name(task) for task in card["task"]])
    columns = ["claim", "task", "part", "verdict", "effect", "low", "high", "p_value"]
    print_table(shown[columns] if shown["part"].any() else shown[columns].drop(columns="part"))
    print()
    print(
        f"Verdicts, after Holm's correction over these claims at {LEVEL:.0%}; intervals above are "
        f"of {INTERVAL_LEVEL:.0%}"
    )
    print()
    verdicts = claim_verdicts(all_findings([reproduction]))
    print_table(verdicts[["claim", "quantifier", "verdict", "p_value", "p_against"]])
    print()
    for (claim, statement), rows in card.groupby(["claim", "statement"], sort=False):
        print(textwrap.fill(f"{claim}: {statement}", 100, subsequent_indent="  "))
        for row in rows.to_dict("records"):
            found = ", ".join(filter(None, [_short_name(row["task"]), row["remark"]]))
            print(textwrap.fill(found, 100, initial_indent="  ", subsequent_indent="    "))
    print()
    if reproduction.missing:
        count, first = len(reproduction.missing), reproduction.missing[0]
        say(f"{ablation.id}: {count} runs are not completed, the first: {first}")
    if reproduction.degenerate:
        count, first = len(reproduction.degenerate), reproduction.degenerate[0]
        say(f"{ablation.id}: {count} runs degenerated, the first: {first} (`show` says how)")
    for path in reproduction.paths:
        print(path)


def _side_by_side(comparison: "pandas.DataFrame") -> "pandas.DataFrame":
    """One row for ours, its spread and the printed numbers, one column per setting.

    The last column before `ours` holds the settings. A column that says nothing is left out.
    """
    import pandas

    keys = list(comparison.columns[: list(comparison.columns).index("ours")])
    *names, setting = keys
    rows = []
    for group, lines in comparison.groupby(names, sort=False):
        for source in ("ours", "spread", "published"):
            if lines[source].isna().all():
                continue
            values = zip(lines[setting], lines[source], strict=True)
            rows.append(
                {
                    **dict(zip(names, group, strict=True)),
                    "source": source,
                    **{
                        place if isinstance(place, str) else f"{place:g}": ""
                        if is_missing(value)
                        else f"{value:.2f}"
                        for place, value in values
                    },
                }
            )
    frame = pandas.DataFrame(rows).fillna("")
    silent = [name for name in names if (frame[name] == "").all()]
    frame = frame.drop(columns=silent)
    return frame.assign(task=[_short_name(task) for task in frame["task"]])


def _short_name(task: str) -> str:
    from safesweep.trainables.tasks.registry import TASKS

    return TASKS[task].key if task in TASKS else task
