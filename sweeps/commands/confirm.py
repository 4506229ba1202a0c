"""`safesweep confirm` and `statistics`: how far what was chosen can be believed."""

import argparse
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import (
    InvalidInput,
    is_missing,
    require_choice,
    require_number,
)
from safesweep.sweeps.commands.results import (
    add_selection_options,
    add_storage_option,
    choose,
    describe_step,
    open_store,
)
from safesweep.sweeps.confirmation import (
    Terms,
    evaluate_runs,
    one_limit,
    sweep_of_choice,
    train_fresh_seeds,
)
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

REPORTS = ("summary", "safety", "improvement", "profile")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `confirm` and `statistics`."""
    parser = commands.add_parser(
        "confirm",
        help="evaluate the chosen configurations again, on fresh episodes and seeds",
        description="The best of many looks better than it is. What a rule chooses at the last "
        "step is evaluated again from its checkpoints on episodes that nobody has seen, and with "
        "--seeds trained again under fresh seeds. Optimism: how much better it had looked.",
    )
    add_selection_options(parser)
    parser.add_argument("--episodes", type=int, default=50, help="episodes a run (default: 50)")
    parser.add_argument(
        "--episode-seed", type=int, default=1, help="another number: other episodes (default: 1)"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=0,
        metavar="N",
        help="also train each chosen configuration with N fresh seeds (default: 0); needs --sweep",
    )
    parser.add_argument("--address", help="a Ray cluster for --seeds; 'auto' finds one")
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=run_confirmation)

    parser = commands.add_parser(
        "statistics",
        help="means, profiles and comparisons of what was chosen, with intervals",
        description="Of each method the configurations that the rule chooses, over tasks and "
        "seeds; with --every-configuration, of each configuration.",
    )
    parser.add_argument(
        "--show",
        choices=REPORTS,
        default="summary",
        help="summary (default): mean, interquartile mean, median; safety: probability of keeping "
        "the limit; improvement: of one method scoring higher than another; profile: share of "
        "runs above each reward. In the last two a run that breaks the limit is below all that "
        "keep it",
    )
    add_selection_options(parser)
    parser.add_argument(
        "--every-configuration", action="store_true", help="a row per configuration, not per method"
    )
    parser.add_argument(
        "--samples", type=int, default=2000, help="bootstrap resamples (default: 2000)"
    )
    parser.add_argument("--random-seed", type=int, default=0, help="of the resampling (default: 0)")
    parser.add_argument(
        "--resample-tasks",
        action="store_true",
        help="draw the tasks as well as the seeds: intervals for tasks like these",
    )
    add_storage_option(parser)
    add_format_option(parser)
    parser.set_defaults(handler=print_statistics)


def run_confirmation(arguments: argparse.Namespace) -> int:
    """Confirm what the rule chooses; 1 when a run could not be confirmed."""
    import pandas

    from safesweep.analysis.statistics import optimism, rows_of_choice

    require_number("episodes", arguments.episodes, 1, integer=True)
    require_number("episode_seed", arguments.episode_seed, 0, integer=True)
    require_number("seeds", arguments.seeds, 0, integer=True)
    if arguments.seeds and not arguments.sweeps:
        raise InvalidInput("seeds: fresh ones are trained as a sweep trains; give --sweep")
    if arguments.address is not None and not arguments.seeds:
        raise InvalidInput("address: is where fresh seeds are trained; give --seeds, too")
    store = open_store(arguments)
    choice = choose(store, arguments, "last")
    chosen = choice.chosen[choice.chosen["config_id"].notna()]
    if chosen.empty:
        say("confirm: there is nothing that could be chosen")
        return 0
    selected = rows_of_choice(choice.evaluations, chosen)
    terms = Terms(
        arguments.storage, arguments.episodes, arguments.episode_seed, choice.rule,
        arguments.address,
    )  # fmt: skip
    confirmed: list[dict[str, Any]] = []
    for row in ({str(name): value for name, value in entry.items()}
                for entry in chosen.to_dict("records")):  # fmt: skip
        judged = _chosen_rows(row, selected)
        runs, limit = store.runs(run_id=judged["run_id"].unique()), one_limit(judged)
        confirmed += evaluate_runs(store, terms, row, runs, limit)
        if arguments.seeds:
            run = {str(name): value for name, value in runs.iloc[0].to_dict().items()}
            sweep = sweep_of_choice(store, row, arguments.sweeps)
            fresh = train_fresh_seeds(store, terms, row, run, sweep, arguments.seeds, limit)
            if len(fresh) < arguments.seeds:
                say(f"confirm: {arguments.seeds - len(fresh)} fresh seeds did not complete")
            confirmed += fresh
    table = optimism(selected, pandas.DataFrame(confirmed), arguments.confidence)
    print_table(_readable(table) if arguments.format == "table" else table, arguments.format)
    return 0


def _chosen_rows(row: dict[Any, Any], selected: "pandas.DataFrame") -> "pandas.DataFrame":
    """Of the rows behind the choice those of one chosen configuration and policy."""
    same = (selected["config_id"] == row["config_id"]) & (selected["task"] == row["task"])
    chosen: pandas.DataFrame = selected[same & (selected["policy"] == row["policy"])]
    return chosen


def _readable(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Each number with its interval in one cell."""
    shown = table.drop(columns=[name for name in table if str(name).endswith(("_low", "_high"))])
    for name in ("selected", "confirmed", "optimism"):
        cells = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        shown[name] = [_with_interval(*cell) for cell in cells]
    shown["metric"] = [name.removeprefix("normalized_") for name in shown["metric"]]
    seeds = zip(shown.pop("selected_seeds"), shown.pop("confirmed_seeds"), strict=True)
    shown["seeds"] = [f"{before} / {after}" for before, after in seeds]
    if shown["policy"].equals(shown["algorithm"]):
        shown = shown.drop(columns="policy")
    return shown


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f}" if is_missing(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def print_statistics(arguments: argparse.Namespace) -> int:
    """Statistics of what the rule chooses, or of every configuration, at the last step.

    What was chosen is judged by its confirmations where the store has them: a choice looks better
    on what it was made by than it is.
    """
    from safesweep.analysis.statistics import EVIDENCE, rows_of_choice, with_confirmations
    from safesweep.trainables.store.scores import last_evaluations

    require_choice("show", arguments.show, REPORTS)
    require_number("random_seed", arguments.random_seed, 0, integer=True)
    if arguments.every_configuration and "rule" in vars(arguments).get("_given", {}):
        raise InvalidInput("rule: chooses, and --every-configuration takes all; leave one out")
    store = open_store(arguments)
    choice = choose(store, arguments, "last")
    by = ["algorithm"]
    if arguments.every_configuration:
        rows = last_evaluations(choice.evaluations, ("config_id",))
        by += ["task", "config_id"]
    else:
        chosen = rows_of_choice(choice.evaluations, choice.chosen)
        confirmations = store.confirmations(config_id=chosen["config_id"].unique())
        rows = with_confirmations(chosen, confirmations)
    if "policy" in rows and (rows.groupby("algorithm")["policy"].nunique() > 1).any():
        by.insert(1, "policy")
    table = _statistics(arguments, rows, by)
    if not arguments.every_configuration:
        table["evidence"] = [_evidence(rows, by, row) for row in table.to_dict("records")]
    if arguments.format == "table":
        print(describe_step("last"))
        if not arguments.every_configuration:
            said = sorted(rows["evidence"].unique(), key=EVIDENCE.index)
            print(f"scores: {', '.join(said) or 'none'}")
            if EVIDENCE[0] in said:
                say(
                    "statistics: scores that a choice was made by are optimistic about it; "
                    "`safesweep confirm` makes fresh ones"
                )
        print()
        few = table.pop("few_seeds")
        if few.any():
            table["note"] = ["few seeds" if flag else "" for flag in few]
    print_table(table, arguments.format)
    return 0


def _evidence(rows: "pandas.DataFrame", by: list[str], entry: dict[Any, Any]) -> str:
    """What the scores of one line of a table are from."""
    from safesweep.analysis.statistics import EVIDENCE

    if "one" in entry:
        names = rows[by].astype(str).agg(" ".join, axis=1)
        said = rows.loc[names.isin([entry["one"], entry["other"]]), "evidence"]
    else:
        said = rows.loc[(rows[by] == [entry[name] for name in by]).all(axis=1), "evidence"]
    return ", ".join(sorted(said.unique(), key=EVIDENCE.index))


def _statistics(
    arguments: argparse.Namespace, rows: "pandas.DataFrame", by: list[str]
) -> "pandas.DataFrame":
    import numpy as np

    from safesweep.analysis import statistics

    options: dict[str, Any] = {
        "confidence": arguments.confidence,
        "samples": arguments.samples,
        "seed": arguments.random_seed,
        "tasks": arguments.resample_tasks,
    }
    if arguments.show == "summary":
        return statistics.summarize(rows, by, **options)
    if arguments.show == "safety":
        return statistics.probability_safe(rows, by, **options)
    if arguments.show == "profile":
        return statistics.performance_profile(rows, np.linspace(0, 1, 11), by, **options)
    return statistics.compare(rows, by, **options)
