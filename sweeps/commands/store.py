"""`safesweep compact` and `import`: what changes a store other than a sweep."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.validation import InvalidInput
from sweeps.commands.results import add_storage_option
from sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `compact` and `import`."""
    parser = commands.add_parser(
        "compact",
        help="merge the small parts of a store into large ones",
        description="Others may read and write the store meanwhile: nobody sees a row twice, or "
        "misses one. Trials with a failed run are left alone, because they are tried again.",
    )
    parser.add_argument("--sweep", help="only the runs that this sweep trained")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_compaction)

    parser = commands.add_parser(
        "import",
        help="take in a table of results from elsewhere",
        description="Each row is one evaluation: algorithm, task, seed, normalized_reward or "
        "reward_return_mean, normalized_cost or cost_return_mean; optionally config_id, "
        "hp_<name>, step, policy, cost_limit and the other columns of evaluations.",
    )
    parser.add_argument("file", type=Path, help="CSV (any separator), or Parquet")
    parser.add_argument("--sweep", required=True, help="a new name for what is imported")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        help="take our column OURS from the table's column THEIRS (repeatable)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="a column that the table lacks, the same in every row (repeatable)",
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

    from trainables.compaction import compact

    done = compact(arguments.storage, arguments.sweep)
    columns = ["table", "sweep", "parts_before", "parts_after", "rows"]
    if done or arguments.format != "table":
        rows = [[getattr(entry, name) for name in columns] for entry in done]
        print_table(pandas.DataFrame(rows, columns=columns), arguments.format)
    else:
        say("compact: there is nothing to merge")
    return 0


def run_import(arguments: argparse.Namespace) -> int:
    """Import one file, and print how much it held."""
    import pandas

    from trainables.imports import import_evaluations

    columns = dict(_pair("column", text) for text in arguments.column)
    constants = {name: _value(text) for name, text in (_pair("set", t) for t in arguments.set)}
    summary = import_evaluations(
        _read_table(arguments.file),
        arguments.storage,
        arguments.sweep,
        columns,
        constants,
        arguments.cost_limit,
        source=str(arguments.file.name),
    )
    if summary.ignored:
        say(f"import: left aside the columns {', '.join(summary.ignored)}")
    row = {"sweep": summary.sweep, "runs": summary.runs, "evaluations": summary.evaluations}
    print_table(pandas.DataFrame([row]), arguments.format)
    return 0


def _pair(option: str, text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name or not value:
        raise InvalidInput(f"--{option}: {text!r} is not allowed; it must be NAME=VALUE")
    return name, value


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _read_table(path: Path) -> "pandas.DataFrame":
    import pandas

    try:
        if path.suffix == ".parquet":
            return pandas.read_parquet(path)
        # The Python parser finds out what separates the columns: commas, tabs, semicolons.
        return pandas.read_csv(path, sep=None, engine="python")
    except Exception as problem:
        # pandas raises many kinds of error for a file that is no table.
        reason = " ".join(str(problem).split())
        raise InvalidInput(f"file: {str(path)!r} cannot be read as a table ({reason})") from problem
