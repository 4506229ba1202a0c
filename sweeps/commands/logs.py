"""`safesweep logs`: why a run failed, and what its worker printed last."""

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import InvalidInput, is_missing, listed, shown
from safesweep.sweeps.commands.results import add_storage_option, add_sweeps
from safesweep.sweeps.output import add_format_option, print_table

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.store.reader import ResultStore

_COLUMNS = (
    "run_id", "sweep", "trial_id", "algorithm", "task", "seed", "status", "error", "traceback",
)  # fmt: skip
_NAMED = 5


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `logs`."""
    parser = commands.add_parser(
        "logs",
        help="show why a run failed: its error, traceback and its worker's last output",
        description="Shows a run's error, its whole traceback and the end of what the worker of "
        "its trial printed, from the store; json is one object.",
    )
    parser.add_argument("run", help="the run's id, or its beginning")
    add_sweeps(parser, named=False)
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=print_log)


def print_log(arguments: argparse.Namespace) -> int:
    """Print what is known of how one run ended."""
    import pandas

    from safesweep.analysis.store.reader import ResultStore

    store = ResultStore(arguments.storage)
    found = find_run(store, arguments.run, arguments.sweeps)
    found["output"] = worker_output(store, str(found["trial_id"]))
    if arguments.format == "json":
        print(json.dumps(found, indent=1))
    elif arguments.format == "table":
        print(_as_text(found))
    else:
        print_table(pandas.DataFrame([found]), arguments.format)
    return 0


def find_run(store: "ResultStore", beginning: str, sweeps: Sequence[str] = ()) -> dict[str, Any]:
    """The row of the one run whose id is, or begins like, this; None where it says nothing.

    Raises:
        InvalidInput: no run, or several.
    """
    filters = {"sweep": list(sweeps)} if sweeps else {}
    names = store.runs(["run_id"], **filters)["run_id"].drop_duplicates()
    matching = sorted(name for name in names if name.startswith(beginning))
    if beginning in matching:
        matching = [beginning]
    if not matching or not beginning:
        where = f"sweep {listed(map(repr, sweeps))}" if sweeps else f"the store at {store.uri!r}"
        raise InvalidInput(f"run: no run of {where} that has ended begins with {shown(beginning)}")
    if len(matching) > 1:
        named = ", ".join(matching[:_NAMED]) + (", ..." if len(matching) > _NAMED else "")
        raise InvalidInput(
            f"run: {shown(beginning)} is the beginning of {len(matching)} runs ({named})"
        )
    rows = store.runs(**filters, run_id=matching[0])
    row: pandas.Series[Any] = rows.iloc[-1]
    return {name: _plain(row.get(name)) for name in _COLUMNS}


def worker_output(store: "ResultStore", trial_id: str) -> str | None:
    """The end of what the worker of a failed trial printed; None where nothing was kept."""
    from safesweep.trainables.store.writer import log_path

    content = store.file(log_path(trial_id))
    return None if content is None else content.decode("utf-8", errors="replace")


def _plain(value: Any) -> Any:
    if is_missing(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _as_text(found: dict[str, Any]) -> str:
    lines = [
        f"run {found['run_id']}: {found['status']}",
        f"{found['algorithm']} on {found['task']}, seed {found['seed']}; sweep {found['sweep']}, "
        f"trial {found['trial_id']}",
        f"error: {found['error'] or 'none'}",
    ]
    for name, title in (("traceback", "traceback"), ("output", "last output of its worker")):
        lines += ["", f"{title}:" if found[name] else f"{title}: none was kept"]
        lines += [printable(found[name])] if found[name] else []
    return "\n".join(lines)


def printable(text: str) -> str:
    """A text without what would steer a terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    ).rstrip()
