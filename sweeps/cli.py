"""The command `safesweep`: parses, dispatches, says what is wrong with bad input (exit code 2)."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn

from safesweep.search_spaces.plugins import load_plugins
from safesweep.search_spaces.validation import (
    InvalidInput,
    Problem,
    require_choice,
    shortened,
    shown,
)
from safesweep.sweeps.commands.results import take_sweep_names
from safesweep.sweeps.execution.interruption import exit_code, termination_as_interrupt
from safesweep.sweeps.output import fit_streams, say

COMMAND_MODULES = (
    "run", "watch", "logs", "results", "table", "plot", "confirm", "report", "serve", "export",
    "store", "check", "upkeep", "reproduce", "data", "catalog", "policies", "completion",
)  # fmt: skip


class StoreOnce(argparse.Action):
    """Stores a value. An option that is given again with another one is refused: of two sweeps or
    two limits one would be ignored in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        # Not in the namespace's own attributes, of which a default cannot be told from a value.
        given = vars(namespace).setdefault("_given", {})
        if given.setdefault(self.dest, values) != values:
            raise InvalidInput(
                f"{'/'.join(self.option_strings)}: is given twice, as "
                f"{shown(given[self.dest])} and {shown(values)}"
            )
        setattr(namespace, self.dest, values)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are `InvalidInput`, with the nearest valid choice."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.register("action", None, StoreOnce)
        self.register("action", "store", StoreOnce)

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but that names of sweeps may also stand behind options."""
        found, rest = super().parse_known_args(args, namespace)
        if "sweep_names" in found and not any(word.startswith("-") for word in rest):
            found.sweep_names = [*found.sweep_names, *rest]
            rest = []
        return found, rest

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None:
            name = "/".join(action.option_strings) or str(action.metavar or action.dest)
            require_choice(name, value, [str(choice) for choice in action.choices])


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = CommandParser(
        prog="safesweep",
        description="Hyperparameter sweeps and ablations for offline safe reinforcement learning.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(metavar="command", dest="command", title="commands")
    for name in COMMAND_MODULES:
        import_module(f"safesweep.sweeps.commands.{name}").register(commands)
    _add_plugin_option(commands)
    return parser


def _add_plugin_option(commands: Any) -> None:
    """Give every command `--plugin`: what comes from outside may be needed by any of them."""
    for parser in set(commands.choices.values()):
        inner = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for actions in inner:
            _add_plugin_option(actions)
        if not inner:
            parser.add_argument(
                "--plugin",
                action="append",
                default=[],
                metavar="MODULE_OR_FILE",
                help="load methods, tasks, rules and more from a module, a .py file or a task's "
                ".yaml file (repeatable)",
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code (0 done, 1 some runs failed, 2 bad input)."""
    fit_streams()
    try:
        parser = build_parser()
        _require_text(sys.argv[1:] if argv is None else argv)
        arguments = parser.parse_args(argv)
        if arguments.version:
            print(_version())
            return 0
        if arguments.command is None:
            parser.print_help()
            return 0
        take_sweep_names(arguments)
        load_plugins(arguments.plugin)
        with termination_as_interrupt():
            code = int(arguments.handler(arguments))
        sys.stdout.flush()
        return code
    except Problem as problem:
        for line in problem.lines:
            say(shortened(f"safesweep: {' '.join(line.split())}"))
        return 2
    except KeyboardInterrupt as interrupt:
        say("safesweep: interrupted")
        return exit_code(interrupt)
    except BrokenPipeError:
        # The reader of a pipe (head, less) left early. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _require_text(argv: Sequence[str]) -> None:
    """Refuse bytes that are no text in the encoding of this system: no store, no table and no
    message could hold them."""
    for word in argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InvalidInput(f"{shown(word)} is not UTF-8 text") from None


def _version() -> str:
    try:
        return version("safesweep-rl")
    except PackageNotFoundError:
        return "unknown"
