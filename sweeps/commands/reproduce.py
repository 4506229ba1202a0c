"""`safesweep reproduce`: an ablation of a paper, run, drawn, and its claims scored."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.validation import InvalidInput, require_choice
from sweeps.commands.results import DEFAULT_STORAGE, add_storage_option
from sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

    from analysis.ablations import Ablation
    from analysis.reproduction import Reproduction


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
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        help="draw from this sweep of the store instead of the scale's own (repeatable); "
        "runs nothing",
    )
    parser.add_argument("--list", action="store_true", help="list the ablations and their claims")
    parser.add_argument("--address", help="a Ray cluster; 'auto' finds one (default: this machine)")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_reproduction)


def run_reproduction(arguments: argparse.Namespace) -> int:
    """Reproduce the ablations asked for; 1 when a run of theirs failed or diverged."""
    from analysis.ablations import SCALES
    from analysis.reproduction import ABLATIONS, find_ablation

    if arguments.list:
        _print_list(arguments.format)
        return 0
    if not arguments.ids:
        raise InvalidInput(f"reproduce: name an ablation ({', '.join(ABLATIONS)}), or all")
    require_choice("scale", arguments.scale, SCALES)
    names = list(ABLATIONS) if arguments.ids == ["all"] else arguments.ids
    ablations = [find_ablation(name) for name in names]
    done = [_reproduce(ablation, arguments) for ablation in ablations]
    if arguments.format == "table":
        for reproduction in done:
            _print_readable(reproduction)
    else:
        import pandas

        cards = [entry.scorecard.assign(ablation=entry.ablation.id) for entry in done]
        print_table(pandas.concat(cards, ignore_index=True), arguments.format)
    return 1 if any(entry.missing for entry in done) else 0


def _reproduce(ablation: "Ablation", arguments: argparse.Namespace) -> "Reproduction":
    from analysis.reproduction import missing_runs, reproduce
    from analysis.store import ResultStore

    if arguments.sweep:
        store = ResultStore(arguments.storage)
    elif arguments.figure_only:
        store = ResultStore(arguments.storage)
        missing = missing_runs(store, ablation, arguments.scale)
        if missing:
            total = len(missing)
            raise InvalidInput(
                f"{ablation.id}: the store {arguments.storage!r} lacks {total} runs of scale "
                f"{arguments.scale!r} (the first: {missing[0]}); run it without --figure-only"
            )
    else:
        from sweeps.launch import run_sweep

        for sweep in ablation.sweeps[arguments.scale]:
            run_sweep(sweep, arguments.storage, arguments.address)
        store = ResultStore(arguments.storage)
    folder = figure_folder(arguments.storage, ablation.id)
    command = _command(ablation.id, arguments)
    return reproduce(ablation, store, arguments.scale, folder, command, arguments.sweep)


def figure_folder(storage: str, name: str) -> Path:
    """`figures/<name>` in a local store; in the working folder for a store behind a URI."""
    local = storage.removeprefix("file://")
    root = Path() if "://" in local else Path(local).expanduser()
    return root / "figures" / name


def _command(name: str, arguments: argparse.Namespace) -> str:
    words = ["safesweep", "reproduce", name]
    for sweep in arguments.sweep:
        words += ["--sweep", sweep]
    if not arguments.sweep:
        words += ["--scale", arguments.scale]
    if arguments.storage != DEFAULT_STORAGE:
        words += ["--storage", arguments.storage]
    if arguments.figure_only:
        words.append("--figure-only")
    return shlex.join(words)


def _print_list(format: str) -> None:
    import pandas

    from analysis.ablations import SCALES
    from analysis.reproduction import ABLATIONS

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
    for ablation in ABLATIONS.values():
        print(f"{ablation.id}: {ablation.title}")
        print(f"  varies {ablation.varies}")
        for scale in SCALES:
            print(f"  {scale}: {ablation.costs[scale]}")
        print("  claims")
        for claim in ablation.claims:
            print(f"    {claim.name}: {claim.statement}")


def _print_readable(reproduction: "Reproduction") -> None:
    ablation = reproduction.ablation
    print(f"{ablation.id}, {reproduction.scale}: ours beside the published numbers")
    print()
    print_table(_side_by_side(reproduction.comparison))
    print()
    print("Claims")
    print()
    card = reproduction.scorecard
    shown = card.assign(task=[_short_name(task) for task in card["task"]])
    print_table(shown[["claim", "task", "verdict", "effect", "low", "high", "p_value"]])
    print()
    for (claim, statement), rows in card.groupby(["claim", "statement"], sort=False):
        print(f"{claim}: {statement}")
        for row in rows.to_dict("records"):
            print("  " + ", ".join(filter(None, [_short_name(row["task"]), row["remark"]])))
    print()
    if reproduction.missing:
        count, first = len(reproduction.missing), reproduction.missing[0]
        say(f"{ablation.id}: {count} runs are not completed, the first: {first}")
    for path in reproduction.paths:
        print(path)


def _side_by_side(comparison: "pandas.DataFrame") -> "pandas.DataFrame":
    """One row for ours, its spread and the printed numbers, one column per setting.

    The last column before `ours` holds the settings.
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
                    **{f"{place:g}": "" if value != value else f"{value:.2f}"
                       for place, value in values},
                }
            )  # fmt: skip
    frame = pandas.DataFrame(rows)
    return frame.assign(task=[_short_name(task) for task in frame["task"]])


def _short_name(task: str) -> str:
    from trainables.tasks import TASKS

    return TASKS[task].key if task in TASKS else task
