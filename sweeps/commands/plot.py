"""`safesweep plot`: one figure of a sweep, as a file."""

import argparse
import shlex
from pathlib import Path

from safesweep.search_spaces.validation import InvalidInput
from safesweep.sweeps.commands.results import (
    add_selection_options,
    add_storage_option,
    choose,
    open_store,
    require_named,
    selection_words,
)
from safesweep.sweeps.output import say

KINDS = ("curves", "front", "importance", "parallel-coordinates", "hyperparameter", "budget")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `plot`."""
    parser = commands.add_parser(
        "plot",
        help="draw one figure of a sweep",
        description="curves: reward and cost against gradient steps. front: reward against cost. "
        "importance: of each hyperparameter (PED-ANOVA). parallel-coordinates: every configuration "
        "a line. hyperparameter: scores against one of them. budget: the best safe reward against "
        "the gradient steps spent.",
    )
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--hyperparameter", metavar="NAME", help="the one to draw, for the kind hyperparameter"
    )
    parser.add_argument(
        "--out", type=Path, help="a .png, .svg or .pdf file (default: <sweep>-<kind>.png)"
    )
    add_selection_options(parser)
    add_storage_option(parser)
    parser.set_defaults(handler=draw_plot)


def draw_plot(arguments: argparse.Namespace) -> int:
    """Draw the figure, of several sweeps as of one, and say where it lies.

    Raises:
        InvalidInput: an unknown sweep, rule or hyperparameter, a sweep that has too little to draw,
            or a place that cannot be written.
    """
    sweeps = require_named(arguments)
    if (arguments.kind == "hyperparameter") != (arguments.hyperparameter is not None):
        raise InvalidInput(
            "hyperparameter: the kind hyperparameter needs --hyperparameter NAME, and no other "
            "kind takes it"
        )
    from safesweep.analysis.figures import save_figure
    from safesweep.analysis.plots.figures import PLOTS
    from safesweep.analysis.plots.sweep_results import read_results

    store = open_store(arguments)
    choice = choose(store, arguments, "last")
    results = read_results(store, sweeps, choice)
    named = [] if arguments.hyperparameter is None else [arguments.hyperparameter]
    figure = PLOTS[arguments.kind](results, *named)
    path = arguments.out or Path(f"{'-'.join(sweeps)}-{arguments.kind}.png")
    words = ["safesweep", "plot", arguments.kind]
    words += [word for sweep in sweeps for word in ("--sweep", sweep)]
    words += [word for name in named for word in ("--hyperparameter", name)]
    for name in ("algorithm", "task"):
        value = getattr(arguments, name)
        words += [] if value is None else [f"--{name}", value]
    save_figure(figure, path, shlex.join([*words, *selection_words(arguments, choice.rule)]))
    say(f"wrote {path}")
    return 0
