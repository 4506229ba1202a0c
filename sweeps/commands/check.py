"""`safesweep check`: whether a store is whole, and what is to be made again."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safesweep.search_spaces.validation import InvalidInput, listed
from safesweep.sweeps.commands.results import add_storage_option
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    from safesweep.trainables.store.checking import Finding


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `check`."""
    parser = commands.add_parser(
        "check",
        help="verify a whole store: every part, checkpoint and checksum",
        description="Reads all of a store: every part by its checksums, columns and rows, whether "
        "the rows of every run are there, each once, and every checkpoint. A line for each thing "
        "that is wrong. Exit code 0: nothing is; 1: something is; 2: there is no store.",
    )
    parser.add_argument(
        "--repair",
        action="store_true",
        help="move what is damaged into the folder set-aside of the store, where nothing reads it, "
        "so that the next run of its sweep makes it again",
    )
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=check)


def check(arguments: argparse.Namespace) -> int:
    """Print what is wrong, and with `--repair` set it aside; 1 where anything is."""
    import pandas

    from safesweep.trainables.store.checking import check_files, check_tables

    findings = check_tables(arguments.storage)
    findings += check_files(arguments.storage, _problem_of_checkpoint)
    moved: dict[str, str] = {}
    if arguments.repair and findings:
        moved = _set_aside(arguments.storage, findings)
    if arguments.format == "table":
        for finding in findings:
            print(finding.line)
    else:
        rows = [(found.place, found.problem, found.sweep) for found in findings]
        print_table(pandas.DataFrame(rows, columns=["place", "problem", "sweep"]), arguments.format)
    if not findings:
        say("check: nothing is wrong")
        return 0
    for place, target in moved.items():
        say(f"check: set aside {place} as {target}")
    _say_what_to_do(arguments, findings)
    return 1


def _problem_of_checkpoint(content: bytes, place: str) -> str | None:
    """What is wrong with a checkpoint. One that is as it was sealed is what a worker wrote; only
    others are opened, which takes torch."""
    from safesweep.trainables.store.seal import is_as_sealed

    if is_as_sealed(content):
        return None
    from safesweep.trainables.training.checkpoints import problem_of_checkpoint

    return problem_of_checkpoint(content, place)


def _set_aside(storage: str, findings: Sequence["Finding"]) -> dict[str, str]:
    """Move the files of the findings out of the way; where they are then."""
    from safesweep.trainables.store.reader import StoreReader
    from safesweep.trainables.store.writer import ResultWriter

    drivers = StoreReader(storage).drivers()
    if drivers:
        raise InvalidInput(
            f"repair: the store is in use by {drivers[0]}; wait until that has ended"
        )
    writer = ResultWriter(storage, "")
    moved = {}
    for finding in findings:
        for place in finding.set_aside:
            if place not in moved and writer.exists(place):
                moved[place] = writer.set_aside(place, finding.problem)
    return moved


def _say_what_to_do(arguments: argparse.Namespace, findings: Sequence["Finding"]) -> None:
    from safesweep.trainables.store.reader import StoreReader

    store = StoreReader(arguments.storage)
    states = store.run_states()
    finished = set(states.loc[states["lacks"].isna() & (states["status"] != "failed"), "run_id"])
    plans = store.sweeps(["sweep", "run_ids"])
    lacking = {
        str(sweep)
        for sweep, run_ids in zip(plans["sweep"], plans["run_ids"], strict=True)
        if not finished.issuperset(run_ids)
    }
    lacking |= {finding.sweep for finding in findings} - {""} - set(plans["sweep"])
    if lacking:
        say(f"check: `safesweep run` makes what is missing of {listed(sorted(lacking), 20)}")
    if not arguments.repair and any(finding.set_aside for finding in findings):
        say("check: --repair sets aside what is damaged")
