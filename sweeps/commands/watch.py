"""`safesweep watch`: how a sweep stands, again and again, from its store alone."""

import argparse
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

from safesweep.search_spaces.validation import Problem, one_line
from safesweep.sweeps.commands.results import (
    add_storage_option,
    add_sweeps,
    open_store,
    require_one,
)
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from safesweep.sweeps.execution.standing import SweepStanding

INTERVAL_SECONDS = 5.0
LINE_INTERVAL_SECONDS = 60.0


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `watch`."""
    parser = commands.add_parser(
        "watch",
        help="follow a sweep that runs, here or elsewhere, from its store",
        description="Shows how a sweep stands until it ends: a table that is drawn anew in a "
        "terminal, else a line a minute. It reads the store and nothing else.",
    )
    add_sweeps(parser, "the sweep to follow")
    parser.add_argument("--once", action="store_true", help="show it once and end")
    add_storage_option(parser)
    parser.set_defaults(handler=watch)


def watch(arguments: argparse.Namespace) -> int:
    """Show the sweep until it has ended, or once.

    Raises:
        InvalidInput: no such store, or no such sweep in it, at the beginning. A store that goes
            away later is said, and waited for.
    """
    sweep = require_one(arguments)
    if sys.stdout.isatty():
        say(f"{sweep}: reading {arguments.storage}")
    from safesweep.sweeps.execution.watching import SweepWatch

    watched = SweepWatch(open_store(arguments), sweep)
    standing = watched.standing()
    if arguments.once or not standing.is_live:
        _print_table(standing)
        return 0
    return follow(watched.standing, standing, INTERVAL_SECONDS)


def follow(look: "Callable[[], SweepStanding]", standing: "SweepStanding", interval: float) -> int:
    """Show what `look` says until the sweep runs no more."""
    from rich.console import Console
    from rich.live import Live

    console, pause = Console(), interval
    if not console.is_terminal:
        said = time.monotonic()
        print(standing.line(), flush=True)
        while standing.is_live:
            time.sleep(pause)
            standing, pause = _looked(look, standing, interval)
            if time.monotonic() - said >= LINE_INTERVAL_SECONDS or not standing.is_live:
                said = time.monotonic()
                print(standing.line(), flush=True)
        return 0
    with Live(standing, console=console, auto_refresh=False, transient=True) as live:
        while standing.is_live:
            time.sleep(pause)
            standing, pause = _looked(look, standing, interval)
            live.update(standing, refresh=True)
    _print_table(standing)
    return 0


def _looked(
    look: "Callable[[], SweepStanding]", last: "SweepStanding", interval: float
) -> tuple["SweepStanding", float]:
    """How it stands, and for how long to wait then; where the store cannot be read, how it stood,
    with a remark."""
    from safesweep.sweeps.execution.watching import pause_after

    used = time.process_time()
    try:
        return look(), pause_after(time.process_time() - used, interval)
    except (Problem, OSError) as problem:
        moment = datetime.now().strftime("%H:%M:%S")
        reason = one_line(problem)
        last.remark = f"the store cannot be read at {moment} ({reason}); looking again"
        return last, interval


def _print_table(standing: "SweepStanding") -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:  # A pipe has no width; nothing is folded there.
        console = Console(width=200)
    console.print(standing)
