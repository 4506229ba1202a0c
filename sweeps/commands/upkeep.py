"""`safesweep delete`, `archive`, `note` and `tag`: keeping a store of many sweeps in order."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from safesweep.search_spaces.validation import InvalidInput, listed
from safesweep.sweeps.commands.results import add_storage_option, add_sweeps, require_named
from safesweep.sweeps.output import add_format_option, print_table, say


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `delete`, `archive`, `note` and `tag`."""
    parser = commands.add_parser(
        "delete",
        help="remove sweeps and their runs from a store",
        description="Removes the runs' rows, checkpoints and logs. Runs that other sweeps ask for "
        "stay, and are read as before. What an interruption leaves, the next delete or archive "
        "does, or the next run of a sweep.",
    )
    add_sweeps(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=delete)

    parser = commands.add_parser(
        "archive",
        help="have `list` leave out sweeps",
        description="`list --archived` shows them, and whoever names them finds them as before. "
        "With --drop-checkpoints the checkpoints of their runs are removed, which take most of a "
        "store's space: such a run can be neither continued, confirmed nor exported any more. "
        "Those of runs that other sweeps ask for stay.",
    )
    add_sweeps(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--undo", action="store_true", help="have `list` show them again")
    kind.add_argument(
        "--drop-checkpoints", action="store_true", help="remove the checkpoints of their runs"
    )
    add_storage_option(parser)
    parser.set_defaults(handler=archive)

    parser = commands.add_parser("note", help="note down a text of a sweep, which `list` shows")
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("text", nargs="?", help="the note; '' removes it (default: print it)")
    add_storage_option(parser)
    parser.set_defaults(handler=note)

    parser = commands.add_parser("tag", help="give a sweep tags, by which `list --tag` finds it")
    parser.add_argument("sweep", help="name of the sweep")
    parser.add_argument("tags", nargs="*", metavar="tag", help="to add (default: print them)")
    parser.add_argument(
        "--remove", action="append", default=[], metavar="TAG", help="to take away (repeatable)"
    )
    add_storage_option(parser)
    parser.set_defaults(handler=tag)


def delete(arguments: argparse.Namespace) -> int:
    """Delete the sweeps, once that was confirmed; prints what goes and what stays.

    Raises:
        InvalidInput: no sweep or an unknown one, nobody who could be asked, or a sweep of the store
            is being run.
    """
    import pandas

    from safesweep.sweeps.upkeep import delete_sweeps, plan_deletion

    names = require_named(arguments)
    rows = plan_deletion(arguments.storage, names)
    runs = sum(row.runs for row in rows)
    if arguments.dry_run or not arguments.yes:
        if not arguments.dry_run and not sys.stdin.isatty():
            raise InvalidInput(
                f"delete: removes {runs:,} runs of {listed(names)} for good; give --yes, or "
                "--dry-run to see what would be removed"
            )
        print_table(pandas.DataFrame(map(asdict, rows)), arguments.format)
        if arguments.dry_run or not _agreed(names, runs):
            return 0 if arguments.dry_run else 1
    rows = delete_sweeps(arguments.storage, names)
    if arguments.yes:
        print_table(pandas.DataFrame(map(asdict, rows)), arguments.format)
    say(f"deleted {listed(names)}")
    return 0


def _agreed(names: Sequence[str], runs: int) -> bool:
    say(f"delete {listed(names)} with {runs:,} runs for good? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def archive(arguments: argparse.Namespace) -> int:
    """Archive the sweeps, or bring them back.

    Raises:
        InvalidInput: no sweep, an unknown one, or one that is being run.
    """
    from safesweep.sweeps.upkeep import archive_sweeps

    names = require_named(arguments)
    dropped = archive_sweeps(
        arguments.storage,
        names,
        restore=arguments.undo,
        drop_checkpoints=arguments.drop_checkpoints,
    )
    if arguments.drop_checkpoints:
        say(f"archived {listed(names)}, and removed {dropped:,} checkpoints")
    else:
        say(f"{'brought back' if arguments.undo else 'archived'} {listed(names)}")
    return 0


def note(arguments: argparse.Namespace) -> int:
    """Write a sweep's note, or print it.

    Raises:
        InvalidInput: an unknown sweep, or a note that is too long.
    """
    from safesweep.trainables.store.labels import labels_of, note_sweep

    if arguments.text is None:
        print(labels_of(arguments.storage, arguments.sweep).note)
    else:
        note_sweep(arguments.storage, arguments.sweep, arguments.text)
    return 0


def tag(arguments: argparse.Namespace) -> int:
    """Change a sweep's tags, and print which it has.

    Raises:
        InvalidInput: an unknown sweep, text that cannot be a tag, or a tag to remove that the sweep
            does not have.
    """
    from safesweep.trainables.store.labels import tag_sweep

    for one in tag_sweep(arguments.storage, arguments.sweep, arguments.tags, arguments.remove):
        print(one)
    return 0
