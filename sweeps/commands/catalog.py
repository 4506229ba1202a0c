"""`safesweep algorithms`, `space` and `schema`: what there is to sweep."""

import argparse
import json
from typing import Any

from safesweep.sweeps.output import add_format_option, print_table, say

NARROW_COLUMNS = ("hyperparameter", "symbol", "default", "allowed", "searched")
CELL = 18
"""Characters of a cell of a table that fits 100 columns."""
SYMBOL = 12
"""Of a cell with a symbol."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `algorithms`, `space` and `schema`."""
    parser = commands.add_parser("algorithms", help="list the methods")
    add_format_option(parser)
    parser.set_defaults(handler=print_algorithms)
    parser = commands.add_parser(
        "space",
        help="print the hyperparameters of a method",
        description="Each hyperparameter: its paper symbol, type, default, allowed and searched "
        "range, whether runs of one population may differ in it (batched) or not (static), and "
        "where it comes from.",
    )
    parser.add_argument("algorithm")
    parser.add_argument(
        "--wide", action="store_true", help="with conditions, sources and descriptions in the table"
    )
    add_format_option(parser)
    parser.set_defaults(handler=print_space)
    parser = commands.add_parser(
        "schema",
        help="print the JSON schema of a sweep file, for editors",
        description="Editors that know JSON schemas complete and check sweep files with it, "
        "hyperparameters included: safesweep schema > sweep.schema.json",
    )
    parser.set_defaults(handler=print_schema)


def print_algorithms(arguments: argparse.Namespace) -> int:
    """One row per method."""
    import pandas

    from safesweep.search_spaces import SEARCH_SPACES
    from safesweep.trainables.methods.configs import described_methods

    rows = [
        {
            "algorithm": name,
            "description": method.summary,
            "policies": ", ".join(method.policies),
            "hyperparameters": len(method.config_class.field_names()),
            "searched": len(SEARCH_SPACES[name].entries) if name in SEARCH_SPACES else 0,
        }
        for name, method in described_methods().items()
    ]
    print_table(pandas.DataFrame(rows), arguments.format)
    return 0


def print_space(arguments: argparse.Namespace) -> int:
    """One row per hyperparameter of the method, searched or not."""
    import pandas

    from safesweep.search_spaces import SEARCH_SPACES
    from safesweep.trainables.methods.configs import config_class_of

    name = arguments.algorithm
    config_class = config_class_of(name)
    space = SEARCH_SPACES.get(name)
    entries = space.entries if space else {}
    rows = []
    for field in config_class.describe():
        entry = entries.get(field["name"])
        condition = ""
        if entry and entry.when:
            choices = ", ".join(str(choice) for choice in entry.when[1])
            condition = f"{entry.when[0]} in {{{choices}}}"
        rows.append(
            {
                "hyperparameter": field["name"],
                "symbol": field["alias"] or "",
                "kind": field["kind"],
                "type": field["type"],
                "default": str(_default(field["default"])),
                "allowed": _allowed(field),
                "searched": entry.describe() if entry else "",
                "when": condition,
                "source": entry.source if entry and entry.source else field["source"],
                "description": field["description"],
            }
        )
    table = pandas.DataFrame(rows)
    if arguments.format == "table" and not arguments.wide:
        table = table[list(NARROW_COLUMNS)]
        table[list(NARROW_COLUMNS[2:])] = table[list(NARROW_COLUMNS[2:])].map(_cut)
        table["symbol"] = [_cut(symbol, SYMBOL) for symbol in table["symbol"]]
        say("--wide has all of it: when, source, description, and cells in full")
    print_table(table, arguments.format)
    return 0


def _cut(cell: str, longest: int = CELL) -> str:
    return cell if len(cell) <= longest else f"{cell[: longest - 3]}..."


def print_schema(arguments: argparse.Namespace) -> int:
    """The JSON schema of a sweep file."""
    from safesweep.sweeps.spec.schema import sweep_file_schema

    print(json.dumps(sweep_file_schema(), indent=1))
    return 0


def _default(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _allowed(field: dict[str, Any]) -> str:
    if field["choices"]:
        return "{" + ", ".join(field["choices"]) + "}"
    if field["type"] == "bool":
        return "{True, False}"
    low, high = field["low"], field["high"]
    ends = ["-inf" if low is None else f"{low:g}", "inf" if high is None else f"{high:g}"]
    return f"[{', '.join(ends)}]"
