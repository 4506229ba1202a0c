"""`safesweep table`: methods beside each other, as papers print them."""

import argparse

from safesweep.sweeps.commands.results import (
    add_selection_options,
    add_storage_option,
    choose,
    open_store,
)
from safesweep.sweeps.output import FORMATS, print_table

TEXTS = ("markdown", "latex")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `table`."""
    parser = commands.add_parser(
        "table",
        help="print a comparison of methods as papers do, in LaTeX or Markdown",
        description="Of each method the configuration that the rule chooses, task by task, with "
        "averages of each suite. Bold: safe, a normalized cost of at most 1. Blue: the safe one of "
        "the highest reward. Grey: unsafe.",
    )
    add_selection_options(parser)
    parser.add_argument(
        "--deviations", action="store_true", help="with standard deviations over seeds"
    )
    add_storage_option(parser)
    parser.add_argument(
        "--format",
        choices=(*TEXTS, *FORMATS),
        default="markdown",
        help="markdown (default) or latex; or its cells, a row each: table, csv, json, parquet",
    )
    parser.set_defaults(handler=print_comparison)


def print_comparison(arguments: argparse.Namespace) -> int:
    """Print the table.

    Raises:
        InvalidInput: an unknown sweep or rule, or nothing that could be compared.
    """
    from safesweep.analysis.comparison_table import as_latex, as_markdown, comparison

    choice = choose(open_store(arguments), arguments, "last")
    table = comparison(choice.evaluations, choice.chosen)
    if arguments.format in FORMATS:
        print_table(table, arguments.format)
    else:
        draw = as_latex if arguments.format == "latex" else as_markdown
        print(draw(table, arguments.deviations))
    return 0
