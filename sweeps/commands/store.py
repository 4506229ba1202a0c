"""`safesweep compact` and `import`: what changes a store other than a sweep."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from safesweep.search_spaces.validation import InvalidInput, listed, shown
from safesweep.sweeps.commands.results import add_storage_option, add_sweeps
from safesweep.sweeps.output import add_format_option, print_table, say

NOTES = 20
"""Lines about what an import left out that are printed."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `compact` and `import`."""
    parser = commands.add_parser(
        "compact",
        help="merge the small parts of a store into large ones",
        description="Others may read and write the store meanwhile: nobody sees a row twice, or "
        "misses one. Trials with a failed run are left alone, because they are tried again.",
    )
    add_sweeps(parser, "only the runs that this sweep trained (repeatable)")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_compaction)

    parser = commands.add_parser(
        "import",
        help="take in tables of results from elsewhere",
        description="Each row is one evaluation: algorithm, task, seed, normalized_reward or "
        "reward_return_mean, normalized_cost or cost_return_mean; optionally config_id, "
        "hp_<name>, step, policy, cost_limit, status and the other columns of evaluations. What is "
        "left out (rows that are incomplete, columns that mean nothing to us) is said.",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="file",
        help="CSV (any separator), or Parquet",
    )
    parser.add_argument("--sweep", required=True, help="a new name for what is imported")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="take our column OURS from the table's column THEIRS (repeatable); one of theirs may "
        "be several of ours",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="a column that the table lacks, the same in every row (repeatable)",
    )
    parser.add_argument(
        "--set-from-name",
        metavar="PATTERN",
        help="columns from the name of each file: 'bcql-{task}-seed{seed}.txt'; with slashes also "
        "from its folders; {} is anything",
    )
    parser.add_argument(
        "--preset",
        help="what columns are called by osrl (progress.txt, and config.yaml beside it) or wandb "
        "(its table of runs); --column and --set come first",
    )
    parser.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="THEIRS",
        help="a column of theirs that is not to be taken (repeatable)",
    )
    parser.add_argument(
        "--last-row",
        choices=("check", "keep"),
        default="check",
        help="a last row that no line break ends may be cut: left out where it cannot be told "
        "(check), or taken as it stands (keep)",
    )
    parser.add_argument(
        "--resumed",
        action="store_true",
        help="later rows of a step take the place of earlier ones, also where a log starts over",
    )
    parser.add_argument(
        "--cost-limit", type=float, help="limit on the episode cost (default: the task's own)"
    )
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_import)


def run_compaction(arguments: argparse.Namespace) -> int:
    """Compact, and print which partitions changed."""
    import pandas

    from safesweep.trainables.store.compaction import compact

    done = compact(arguments.storage, arguments.sweeps or None)
    columns = ["table", "sweep", "parts_before", "parts_after", "rows"]
    if done or arguments.format != "table":
        rows = [[getattr(entry, name) for name in columns] for entry in done]
        print_table(pandas.DataFrame(rows, columns=columns), arguments.format)
    else:
        say("compact: there is nothing to merge")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Import files, and print how much they held."""
    import pandas

    from safesweep.trainables.store.import_columns import as_value
    from safesweep.trainables.store.imports import import_files

    constants = _pairs("set", arguments.set)
    summary = import_files(
        arguments.files,
        arguments.storage,
        arguments.sweep,
        _pairs("column", arguments.column),
        {name: as_value(text) for name, text in constants.items()},
        arguments.cost_limit,
        name_pattern=arguments.set_from_name,
        preset=arguments.preset,
        last_row=arguments.last_row,
        leave_out=arguments.leave_out,
        resumed=arguments.resumed,
    )
    for line in summary.notes[:NOTES]:
        say(f"import: {line}")
    if len(summary.notes) > NOTES:
        say(f"import: and {len(summary.notes) - NOTES:,} more like these")
    if summary.ignored:
        say(f"import: left aside the columns {listed(summary.ignored, 40)}")
    row = {"sweep": summary.sweep, "runs": summary.runs, "evaluations": summary.evaluations}
    print_table(pandas.DataFrame([row]), arguments.format)
    return 0


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, each name once."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise InvalidInput(f"--{option}: {shown(text)} is not allowed; it must be NAME=VALUE")
        if name in pairs:
            raise InvalidInput(
                f"--{option}: {name} is given twice, as {shown(pairs[name])} and {shown(value)}"
            )
        pairs[name] = value
    return pairs
