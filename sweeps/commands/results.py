"""`safesweep list`, `show`, `query` and `select`: what a store holds."""

import argparse
import inspect
import os
import textwrap
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import (
    InvalidInput,
    is_missing,
    listed,
    require_number,
)
from safesweep.sweeps.execution.process_memory import data_limited
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.selection.choice import Choice
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.trainables.store.leases import Holder

DEFAULT_STORAGE = "./results"

RULE = "max_reward_safe"

CONFIDENCE = 0.95

_SLACK_BYTES = 2**30
"""What a query's process may take beyond the query and its answer."""

_WIDE_COLUMNS = (
    "step_choice", "seeds", "candidates", "safe_candidates", "runner_up", "margin", "few_seeds",
    "online_episodes", "budget",
)  # fmt: skip


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    """Add `--storage URI` (default: $SAFESWEEP_STORAGE, or ./results) to a command."""
    parser.add_argument(
        "--storage",
        metavar="URI",
        default=default_storage(),
        help=f"folder or URI of the result store (default: $SAFESWEEP_STORAGE, or "
        f"{DEFAULT_STORAGE})",
    )


def default_storage() -> str:
    """The store of commands that are not told one."""
    return os.environ.get("SAFESWEEP_STORAGE") or DEFAULT_STORAGE


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `list`, `show`, `query` and `select`."""
    parser = commands.add_parser("list", help="list the sweeps of a store, with runs by status")
    parser.add_argument("--archived", action="store_true", help="those that are archived")
    parser.add_argument("--all", action="store_true", help="those that are archived, too")
    parser.add_argument(
        "--tag", action="append", default=[], help="only sweeps with this tag (repeatable: any)"
    )
    _common(parser)
    parser.set_defaults(handler=print_sweeps)

    parser = commands.add_parser(
        "show",
        help="show a sweep: its plan, progress, best configurations and failures",
        description="With --format other than table: a row a run.",
    )
    add_sweeps(parser)
    _common(parser)
    parser.set_defaults(handler=print_named_sweeps)

    parser = commands.add_parser(
        "query",
        help="answer a SQL query over a store",
        description="DuckDB SQL over the views runs, finals, evaluations, episodes, metrics, "
        "hyperparameters, sweeps, labels, confirmations, measurements and published. Read-only; "
        "other files, settings and extensions are out of reach.",
    )
    parser.add_argument("sql", help="one SELECT")
    add_sweeps(parser, "the views hold the runs of this sweep alone (repeatable)", named=False)
    parser.add_argument(
        "--memory",
        type=float,
        default=4096,
        metavar="MIB",
        help="mebibytes that the query may take, and its answer again (default: 4096)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="how long it may take (default: 600)",
    )
    _common(parser)
    parser.set_defaults(handler=print_query)

    parser = commands.add_parser(
        "select",
        help="choose the best safe configuration per algorithm and task",
        description="A configuration with a diverged or failed seed is left out, as is one whose "
        "seeds were not all evaluated at the step.",
    )
    add_selection_options(parser)
    parser.add_argument(
        "--step",
        type=_step,
        default="last",
        help="evaluation to judge by: last (default), a number, or best, which is online "
        "checkpoint selection",
    )
    parser.add_argument(
        "--min-seeds", type=int, default=1, help="leave out configurations with fewer (default: 1)"
    )
    parser.add_argument(
        "--confirm",
        type=int,
        nargs="?",
        const=3,
        metavar="SEEDS",
        help="train the choice with so many fresh seeds (default: 3), and where their mean cost "
        "breaks the limit the runner-up, and so on; needs --sweep",
    )
    parser.add_argument(
        "--confirm-up-to",
        type=int,
        metavar="N",
        help="with --confirm: try so many configurations at the most (default: 3)",
    )
    parser.add_argument(
        "--episodes", type=int, metavar="N", help="with --confirm: episodes a run (default: 50)"
    )
    parser.add_argument("--address", help="with --confirm: a Ray cluster; 'auto' finds one")
    _common(parser)
    parser.set_defaults(handler=print_selection)


def add_sweeps(
    parser: argparse.ArgumentParser,
    help: str = "only the runs of this sweep (repeatable)",
    named: bool = True,
) -> None:
    """Let a command be told its sweeps by `--sweep`, as often as there are, and by their names
    alone; they are `arguments.sweeps`.

    Args:
        named: whether their names alone do, too.
    """
    if named:
        parser.add_argument("sweep_names", nargs="*", metavar="sweep", help="the same as --sweep")
    parser.add_argument(
        "--sweep", action="append", default=[], dest="sweeps", metavar="NAME", help=help
    )


def take_sweep_names(arguments: argparse.Namespace) -> None:
    """Put the names that `add_sweeps` was given where `--sweep` puts them, each once."""
    named = vars(arguments).pop("sweep_names", [])
    if "sweeps" in arguments:
        arguments.sweeps = list(dict.fromkeys([*named, *arguments.sweeps]))


def require_named(arguments: argparse.Namespace) -> list[str]:
    """The sweeps that a command was told.

    Raises:
        InvalidInput: there is none.
    """
    if not arguments.sweeps:
        raise InvalidInput("sweep: is missing; name one, or several")
    return list(arguments.sweeps)


def require_one(arguments: argparse.Namespace) -> str:
    """The one sweep that a command was told.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    name, *others = require_named(arguments)
    if others:
        raise InvalidInput(f"sweep: {listed([name, *others])} are given; this takes one at a time")
    return name


def add_selection_options(parser: argparse.ArgumentParser, filters: bool = True) -> None:
    """Add what says which configurations are chosen: the filters, the rule and its options."""
    if filters:
        add_sweeps(parser)
        parser.add_argument("--algorithm", help="only this method")
        parser.add_argument("--task", help="only this task")
    parser.add_argument(
        "--rule",
        help="selection rule (default: budget where --sweep has one that has ended, else "
        f"{RULE}); `select --rule list` shows them",
    )
    parser.add_argument(
        "--cost-limit",
        type=float,
        help="judge by this limit on the episode cost (default: that of --sweep)",
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=CONFIDENCE,
        help=f"level of confidence rules (default: {CONFIDENCE})",
    )
    parser.add_argument(
        "--maximize",
        metavar="SCORE",
        help="choose by this score (default: the objective of --sweep, or normalized_reward)",
    )
    parser.add_argument(
        "--subject-to",
        action="append",
        default=[],
        metavar="SCORE=LIMIT",
        help="constraint on a mean, repeatable; none for no constraint (default: those of --sweep, "
        "or normalized_cost=1)",
    )
    parser.add_argument(
        "--unsafe-share",
        type=float,
        help="confident_safe: the share of seeds above the limit that is tolerable (default: 0.25)",
    )
    parser.add_argument(
        "--worst-cost",
        type=float,
        metavar="TIMES",
        help="confident_safe, instead: the most that a seed can cost, as a multiple of the limit",
    )


def _common(parser: argparse.ArgumentParser) -> None:
    add_storage_option(parser)
    add_format_option(parser)


def _step(text: str) -> str | int:
    return int(text) if text.lstrip("-").isdigit() else text


def print_query(arguments: argparse.Namespace) -> int:
    """Print the answer to one SQL query."""
    memory = require_number("memory", arguments.memory, 16, 2**30)
    seconds = require_number("timeout", arguments.timeout, 0.001, 2**20)
    store = open_store(arguments)
    limit = int(memory * 2**20)
    try:
        with data_limited(2 * limit + _SLACK_BYTES):
            answer = store.sql(arguments.sql, limit, seconds, arguments.sweeps)
            print_table(answer, arguments.format)
    except MemoryError:
        raise InvalidInput(
            f"query: takes more memory than its limit of {memory:,.0f} MiB (--memory)"
        ) from None
    return 0


def print_sweeps(arguments: argparse.Namespace) -> int:
    """One row per sweep: planned runs, those that ended by status, and what is noted down of it."""
    import pandas

    from safesweep.trainables.store.labels import Labels, read_labels
    from safesweep.trainables.store.leases import sweep_state

    store = open_store(arguments)
    runs = store.run_states()
    _warn_of_incomplete(runs[runs["lacks"].notna()])
    statuses = dict(runs[["run_id", "status"]].itertuples(index=False, name=None))
    labels = read_labels(store)
    rows = []
    plans = store.sweeps().sort_values("created_at")
    drivers = store.drivers()
    beats = store.heartbeats() if drivers else []
    for plan in plans.to_dict("records"):
        counts = _counts(list(plan["run_ids"]), statuses)
        rows.append(
            {
                "sweep": plan["sweep"],
                "status": sweep_state(plan["sweep"], plan["status"], drivers, beats),
                **counts,
                "created_at": plan["created_at"],
            }
        )  # fmt: skip
    for sweep in store.unplanned_sweeps():
        say(f"{sweep}: its plan is missing; `safesweep run` of the same file writes it again")
        counts = _counts(list(runs.loc[runs["sweep"] == sweep, "run_id"]), statuses)
        rows.append({"sweep": sweep, "status": "unplanned", **counts, "created_at": None})
    shown, hidden = [], 0
    for row in rows:
        own = labels.get(row["sweep"], Labels())
        if arguments.tag and not set(arguments.tag).intersection(own.tags):
            continue
        if not arguments.all and own.archived != arguments.archived:
            hidden += own.archived
            continue
        shown.append(
            {**row, "tags": ", ".join(own.tags), "note": own.note, "archived": own.archived}
        )
    columns = ["sweep", "status", "runs", *_STATUS_COLUMNS, "created_at", "tags", "note",
               "archived"]  # fmt: skip
    frame = pandas.DataFrame(shown, columns=columns)
    if arguments.format == "table":
        frame["created_at"] = [
            "" if is_missing(moment) else f"{moment:%Y-%m-%d %H:%M}"
            for moment in frame["created_at"]
        ]
        silent = [
            name for name in ("tags", "note", "archived") if not frame[name].astype(bool).any()
        ]
        if not arguments.all:
            silent.append("archived")
        frame = frame.drop(columns=list(set(silent)))
        if hidden:
            sweeps = "sweep is" if hidden == 1 else "sweeps are"
            say(f"{hidden} archived {sweeps} left out; --all shows them")
    print_table(frame, arguments.format)
    return 0


_STATUS_COLUMNS = ("completed", "stopped", "diverged", "failed", "open")
_INCOMPLETE = "incomplete"


def _counts(run_ids: list[str], statuses: dict[str, str]) -> dict[str, int]:
    """How many of these runs ended how; `open`: not yet, or rows of theirs are missing."""
    counts = {"runs": len(run_ids), **dict.fromkeys(_STATUS_COLUMNS, 0)}
    for run_id in run_ids:
        status = statuses.get(run_id, "open")
        counts["open" if status == _INCOMPLETE else status] += 1
    return counts


def _warn_of_incomplete(lacking: "pandas.DataFrame", consequence: str = "") -> None:
    """Say of which sweeps parts were cut or lost."""
    for (sweep, lacks), runs in lacking.groupby(["sweep", "lacks"]):
        remedy = consequence or "`safesweep run` of the sweep restores them"
        say(f"{sweep}: {lacks} for {len(runs):,} of its runs; {remedy}")


def print_named_sweeps(arguments: argparse.Namespace) -> int:
    """Each sweep's plan, counts, hyperparameters, best configurations and failures.

    With `--format` other than `table`: one row per run of the sweeps.
    """
    names = require_named(arguments)
    store = open_store(arguments)
    if arguments.format != "table":
        runs = _runs_as_found(store, names)
        print_table(runs, arguments.format)
        return 0
    store.require_sweeps(names)
    for number, name in enumerate(names):
        if number:
            print()
        _print_sweep(store, name)
    return 0


def _runs_as_found(store: "ResultStore", sweeps: list[str]) -> "pandas.DataFrame":
    """The runs of some sweeps; of those that lack rows it is said, and they are `incomplete`."""
    from safesweep.analysis.store.reader import with_incomplete

    runs = store.runs(sweep=sweeps)
    lacking = store.incomplete()
    lacking = lacking[lacking["run_id"].isin(runs["run_id"])]
    _warn_of_incomplete(lacking)
    return with_incomplete(runs, lacking)


def _print_sweep(store: "ResultStore", sweep: str) -> None:
    runs = _runs_as_found(store, [sweep])
    drivers = store.drivers()
    beats = [beat for beat in store.heartbeats() if beat["sweep"] == sweep]
    _print_plan(store, sweep, runs, drivers, beats)
    if not runs.empty:
        print_table(_progress(runs))
        _print_best(store, sweep)
    for line in [
        *_warm_starts(store, sweep),
        *_spent_and_chosen(store, sweep),
        *_evaluation_noise(store, sweep),
    ]:
        print(_wrapped(line))
    for driver in drivers:
        if driver.sweep == sweep:
            held = len(driver.runs())
            say(f"{driver.condition}: driver, process {driver.process} on {driver.host}, since "
                f"{driver.since}, with {held} runs in hand")  # fmt: skip
    for beat in beats:
        say(_describe_trial(beat, {driver.token for driver in drivers}))
    columns = ["run_id", "task", "status", "steps", "error"]
    for statuses in (["diverged", "failed", _INCOMPLETE], ["stopped"]):
        ended = runs[runs["status"].isin(statuses)]
        if not ended.empty:
            print()
            print_table(ended[columns].sort_values(["steps", "run_id"]))
    degenerate = runs[(runs["status"] == "completed") & runs["error"].notna()]
    if not degenerate.empty:
        print(f"\n{len(degenerate):,} completed runs degenerated:")
        print_table(degenerate[columns].sort_values(["steps", "run_id"]))


def _print_best(store: "ResultStore", sweep: str) -> None:
    """The best safe configuration of each method, task and policy, with the settings that vary:
    by what its budget chose or the field's rule, the sweep's own objective and its own limit."""
    from safesweep.analysis.selection.choice import choose
    from safesweep.analysis.selection.goal import goal_of_sweep

    choice = choose(store, sweep=sweep)
    own = goal_of_sweep(store, sweep)
    limit = None if own is None else own.cost_limit
    cost = "each task's own cost limit" if limit is None else f"a cost limit of {limit:g}"
    print()
    print(_wrapped(f"best safe configurations, by {choice.rule} ({choice.goal}; {cost}):"))
    varying = [str(name) for name in choice.chosen if str(name).startswith("hp_")]
    rows, lines = [], []
    for row in choice.chosen.to_dict("records"):
        entry = {str(name): value for name, value in row.items()}
        policy = entry.get("policy")
        named = [entry["algorithm"], entry["task"]]
        named += [] if is_missing(policy) or policy == entry["algorithm"] else [policy]
        if not entry["safe"]:
            lines.append(f"{' '.join(map(str, named))}: none; {entry['reason']}")
            continue
        settings = settings_line(entry, varying)
        if settings:
            lines.append(f"{entry['config_id']}: {settings}")
        rows.append(
            {
                "best": " ".join(map(str, named)),
                "config_id": entry["config_id"],
                "reward": entry["normalized_reward"],
                "cost": entry["normalized_cost"],
                "seeds": entry["seeds"],
            }
        )
    if rows:
        import pandas

        print_table(pandas.DataFrame(rows))
    for line in dict.fromkeys(lines):
        print(_wrapped(line))
    if choice.chosen.empty:
        print("none yet: there are no evaluations to choose from")


def _describe_trial(beat: Mapping[str, Any], drivers: Collection[str]) -> str:
    """What a trial does, in one line."""
    from safesweep.trainables.store.heartbeats import condition

    found = condition(beat, drivers)
    doing = {"running": beat["phase"] or "training", "waiting": "waiting at a rung"}.get(
        found, found
    )
    progress = f"step {beat['step']} of {beat['steps']}, {len(beat['run_ids'])} runs"
    rate = f", {beat['rate']:.3g} steps/s" if beat["rate"] else ""
    process = f", process {beat['process']}" if beat["process"] else ""
    return (
        f"{doing}: {beat['task']}, {progress}{rate}, on {beat['host']}{process} at {beat['time']}"
    )


def _print_plan(
    store: "ResultStore",
    sweep: str,
    runs: "pandas.DataFrame",
    drivers: Iterable["Holder"],
    beats: Iterable[Mapping[str, Any]],
) -> None:
    from safesweep.analysis.store.reader import varying_values
    from safesweep.trainables.store.leases import sweep_state

    plans = store.sweeps(sweep=sweep)
    if not plans.empty:
        plan = plans.iloc[-1]
        statuses = dict(runs[["run_id", "status"]].itertuples(index=False, name=None))
        counts = _counts(list(plan["run_ids"]), statuses)
        ended = ", ".join(f"{counts[name]} {name}" for name in _STATUS_COLUMNS if counts[name])
        state = sweep_state(sweep, plan["status"], drivers, beats)
        print(f"{sweep}: {state}, created {plan['created_at']:%Y-%m-%d %H:%M} UTC")
        print(f"{counts['runs']} runs: {ended or 'none planned yet'}")
        print()
        print(plan["spec"].rstrip())
        print()
    varying = varying_values(runs)
    for column in varying:
        values = sorted(
            varying[column].dropna().unique(), key=lambda value: (str(type(value)), value)
        )
        shown = ", ".join(plain(value) for value in values[:12])
        more = f", ... ({len(values)} values)" if len(values) > 12 else ""
        print(f"{column}: {shown}{more}")
    if len(varying.columns):
        print()


def _spent_and_chosen(store: "ResultStore", sweep: str) -> list[str]:
    """Per method and task, what its runs were for and what they ended in, where that follows from
    results."""
    from safesweep.sweeps.execution.standing import planned_tasks
    from safesweep.trainables.store.planned import planned_path

    lines = []
    for task in planned_tasks(store.file(planned_path(sweep))):
        said = [words for words in (task.spent, task.choice) if words]
        lines += [f"{task.algorithm} on {task.task}: {words}" for words in said]
    return ["", *lines] if lines else []


def _warm_starts(store: "ResultStore", sweep: str) -> list[str]:
    """Per method and task, what the search was told before it began."""
    from safesweep.trainables.store.recorded_sweep import read_recorded_sweep

    plans = store.sweeps(["spec"], sweep=sweep)
    recorded = None if plans.empty else read_recorded_sweep(plans.iloc[-1]["spec"])
    if recorded is None or not recorded.warm_start:
        return []
    from safesweep.sweeps.planning.warm_start import read_warm_starts, warm_start_path

    found = read_warm_starts(store.file(warm_start_path(sweep)), sweep)
    lines = [one.describe() for one in found]
    return ["", *lines] if lines else []


def _evaluation_noise(store: "ResultStore", sweep: str) -> list[str]:
    """Per task, how much of what sets the runs of a configuration apart is their episodes."""
    from safesweep.analysis.variance import episode_variances, noise_share

    found = episode_variances(store, sweep=sweep)
    lines = []
    for task, rows in found.groupby("task", sort=True):
        episodes = round(rows["episodes"].iloc[0] / rows["runs"].iloc[0])
        shares = ", ".join(
            f"{noise_share(within, between, episodes):.0%} of the {metric}'s"
            for metric, within, between in rows[["metric", "within", "between"]].itertuples(
                index=False
            )
        )
        lines.append(
            f"{task}: {episodes} episodes an evaluation, which make {shares} variance over seeds"
        )
    return ["", *lines] if lines else []


def _progress(runs: "pandas.DataFrame") -> "pandas.DataFrame":
    """One row per algorithm and task: configurations, seeds, statuses, time spent."""
    import pandas

    rows = []
    for (algorithm, task), group in runs.groupby(["algorithm", "task"], sort=True):
        counts = group["status"].value_counts()
        rows.append(
            {
                "algorithm": algorithm,
                "task": task,
                "configs": group["config_id"].nunique(),
                "seeds": group["seed"].nunique(),
                **{name: int(counts.get(name, 0)) for name in _STATUS_COLUMNS[:-1]},
                "minutes": _seconds(group) / 60,
            }
        )
    frame = pandas.DataFrame(rows)
    unused = [name for name in _STATUS_COLUMNS[1:-1] if not frame[name].any()]
    return frame.drop(columns=unused)


def _seconds(runs: "pandas.DataFrame") -> float:
    """Time in training and evaluation; of a population's each member carries its share."""
    return float((runs["train_seconds"] + runs["evaluate_seconds"]).sum())


def print_selection(arguments: argparse.Namespace) -> int:
    """The chosen configuration per algorithm and task, with the reason; with `--confirm` what
    became of it under fresh seeds, and 1 where nothing could be confirmed."""
    _check_confirmation(arguments)
    if arguments.rule == "list":
        return _print_rules(arguments.format)
    store = open_store(arguments)
    choice = choose(store, arguments, arguments.step, arguments.min_seeds)
    if arguments.confirm is None or arguments.format == "table":
        if arguments.format == "table":
            _print_readable(choice, arguments)
        else:
            print_table(choice.chosen, arguments.format)
    return 0 if arguments.confirm is None else _confirm(store, choice, arguments)


def _print_rules(format: str) -> int:
    """The selection rules, each with what its documentation begins with."""
    import pandas

    from safesweep.analysis.selection.rules import RULES

    rows = [
        {"rule": name, "description": (inspect.getdoc(rule) or "").split("\n\n")[0]}
        for name, rule in RULES.items()
    ]
    table = pandas.DataFrame(rows)
    table["description"] = table["description"].str.replace("\n", " ")
    print_table(table, format)
    return 0


def _check_confirmation(arguments: argparse.Namespace) -> None:
    """Refuse options of `--confirm` that nothing would come of."""
    if arguments.confirm is None:
        for name in ("confirm_up_to", "episodes", "address"):
            if getattr(arguments, name) is not None:
                raise InvalidInput(f"{name}: says how to confirm; give --confirm, too")
        return
    require_number("confirm", arguments.confirm, 1, 1000, integer=True)
    for name, default in (("confirm_up_to", 3), ("episodes", 50)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        require_number(name, getattr(arguments, name), 1, 10_000, integer=True)
    if not arguments.sweeps:
        raise InvalidInput("confirm: fresh seeds are trained as a sweep trains; give --sweep")


def _confirm(store: "ResultStore", choice: "Choice", arguments: argparse.Namespace) -> int:
    """Confirm each choice by fresh seeds, and where it fails the next one; print what was tried."""
    import pandas

    from safesweep.analysis.intervals import mean_interval
    from safesweep.sweeps.confirmation import Terms, confirm_in_order, why_not_trainable

    sweeps = arguments.sweeps

    terms = Terms(arguments.storage, arguments.episodes, 1, choice.rule, arguments.address)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    confirmed = True
    for entry in choice.chosen.to_dict("records"):
        first = {str(name): value for name, value in entry.items()}
        group = f"{first['algorithm']} {first['task']} {first['policy']}"
        problem = why_not_trainable(store, first, sweeps)
        if problem is not None:
            lines.append(f"{group}: cannot be confirmed: {problem}")
            confirmed = False
            continue
        kept = None
        tried = 0
        for attempt in confirm_in_order(
            store, terms, choice, first, sweeps, arguments.confirm, arguments.confirm_up_to
        ):
            tried += 1
            kept = attempt if attempt.kept else kept
            scores: dict[str, float] = {}
            for name in ("normalized_reward", "normalized_cost"):
                values = [row[name] for row in attempt.rows]
                interval = mean_interval(values) if values else (float("nan"),) * 3
                ends = (f"confirmed_{name}{end}" for end in ("", "_low", "_high"))
                scores |= dict(zip(ends, interval, strict=True))
            rows.append(
                {
                    **{name: first[name] for name in ("algorithm", "task", "policy")},
                    "tried": tried,
                    "config_id": attempt.choice["config_id"],
                    "selected_reward": attempt.choice["normalized_reward"],
                    "selected_cost": attempt.choice["normalized_cost"],
                    **scores,
                    "fresh_seeds": len(attempt.rows),
                    "lost_seeds": attempt.lost,
                    "confirmed": attempt.kept,
                    "select_episodes": first["online_episodes"],
                    "confirm_episodes": len(attempt.rows) * arguments.episodes,
                }
            )
        confirmed &= kept is not None
        lines.append(f"{group}: {_confirmation_line(kept, tried, arguments)}")
    table = pandas.DataFrame(rows, columns=_CONFIRMED_COLUMNS)
    if arguments.format != "table":
        print_table(table, arguments.format)
        for line in lines:
            say(line)
        return 0 if confirmed else 1
    print()
    if len(table):
        print_table(_readable_confirmations(table))
        print()
    for line in lines:
        print(line)
    total = table["confirm_episodes"].sum()
    print(f"confirming took {total:,} online episodes more")
    return 0 if confirmed else 1


_CONFIRMED_COLUMNS = (
    "algorithm", "task", "policy", "tried", "config_id", "selected_reward", "selected_cost",
    "confirmed_normalized_reward", "confirmed_normalized_reward_low",
    "confirmed_normalized_reward_high", "confirmed_normalized_cost",
    "confirmed_normalized_cost_low", "confirmed_normalized_cost_high", "fresh_seeds", "lost_seeds",
    "confirmed", "select_episodes", "confirm_episodes",
)  # fmt: skip


def _confirmation_line(kept: Any, tried: int, arguments: argparse.Namespace) -> str:
    if tried == 0:
        return "nothing to confirm: no candidate's mean cost is within the limit"
    if kept is None:
        return f"not confirmed: {tried} tried, and none kept the limit with fresh seeds"
    few = "; few seeds" if arguments.confirm < 5 else ""
    return f"confirmed {kept.choice['config_id']}, the {_ordinal(tried)} tried{few}"


def _ordinal(number: int) -> str:
    words = ("first", "second", "third")
    return words[number - 1] if number <= len(words) else f"{number}th"


def _readable_confirmations(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Each confirmed score with its interval in one cell."""
    names = ["algorithm", "task", "policy", "tried", "config_id", "selected_reward",
             "selected_cost"]  # fmt: skip
    shown = table[names].copy()
    for name in ("reward", "cost"):
        columns = [f"confirmed_normalized_{name}{end}" for end in ("", "_low", "_high")]
        shown[f"confirmed_{name}"] = [
            f"{mean:.2f}" if is_missing(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
            for mean, low, high in table[columns].itertuples(index=False)
        ]
    shown["seeds"] = [
        f"{seeds}, {lost} lost" if lost else f"{seeds}"
        for seeds, lost in zip(table["fresh_seeds"], table["lost_seeds"], strict=True)
    ]
    shown["kept"] = ["yes" if kept else "no" for kept in table["confirmed"]]
    return shown


def choose(
    store: "ResultStore", arguments: argparse.Namespace, step: str | int, min_seeds: int = 1
) -> "Choice":
    """What `analysis.selection.choice.choose` chooses by the options of `add_selection_options`;
    says what it left out since rows are missing, and whether it spans several codes."""
    from safesweep.analysis.selection import choice
    from safesweep.analysis.selection.goal import parse_limits

    chosen = choice.choose(
        store,
        sweep=arguments.sweeps or None,
        algorithm=arguments.algorithm,
        task=arguments.task,
        rule=arguments.rule,
        step=step,
        cost_limit=arguments.cost_limit,
        confidence=arguments.confidence,
        unsafe_share=arguments.unsafe_share,
        worst_cost=arguments.worst_cost,
        min_seeds=min_seeds,
        maximize=arguments.maximize,
        subject_to=parse_limits(arguments.subject_to) if arguments.subject_to else None,
    )
    _warn_of_incomplete(
        chosen.incomplete, "they are left out, until `safesweep run` of the sweep restores them"
    )
    if chosen.codes is not None:
        say(f"select: {chosen.codes}")
    return chosen


def selection_words(arguments: argparse.Namespace, rule: str) -> list[str]:
    """The options of `add_selection_options` beside the filters, as they were given, with the rule
    that was followed."""
    words = ["--rule", rule]
    if arguments.confidence != CONFIDENCE:
        words += ["--confidence", f"{arguments.confidence:g}"]
    for name in ("cost_limit", "unsafe_share", "worst_cost"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", f"{value:g}"]
    if arguments.maximize is not None:
        words += ["--maximize", arguments.maximize]
    for limit in arguments.subject_to:
        words += ["--subject-to", limit]
    return words


def describe_step(step: str | int) -> str:
    """What the choice of a step means for what is chosen, in words.

    Whatever the step, scores come from episodes in the simulator: no choice by them is offline.
    """
    online = "chosen online, by episodes in the simulator"
    if step == "best":
        return (
            "step best: each configuration at the step that the rule prefers. This is online "
            f"checkpoint selection, which an offline method does not have; {online}"
        )
    if step == "last":
        return f"step last: each configuration at its last evaluation; {online}"
    return f"step {step}: each configuration at that evaluation; {online}"


def _print_readable(choice: "Choice", arguments: argparse.Namespace) -> None:
    """A narrow table, then for each row a sentence with what it has no room for."""
    chosen = choice.chosen
    if chosen.empty:
        say("select: no evaluations to choose from")
    shown = chosen.drop(columns=[*_WIDE_COLUMNS, "reason", "front"], errors="ignore")
    if "policy" in shown and shown.groupby("algorithm")["policy"].nunique().max() == 1:
        shown = shown.drop(columns="policy")
    if shown["algorithm"].nunique() == 1:
        shown = shown.drop(columns="algorithm")
    varying = [str(name) for name in shown if str(name).startswith("hp_")]
    settings = [settings_line(chosen.iloc[row], varying) for row in range(len(chosen))]
    shown = shown.drop(columns=varying).dropna(axis="columns", how="all")
    print(describe_step(arguments.step))
    if not choice.goal.usual:
        print(f"{choice.goal}")
    print()
    print_table(shown.rename(columns={"normalized_reward": "reward", "normalized_cost": "cost"}))
    print()
    for row in range(len(chosen)):
        entry = chosen.iloc[row]
        policy = entry.get("policy")
        named = "" if is_missing(policy) or policy == entry["algorithm"] else f" {policy}"
        print(_wrapped(f"{entry['algorithm']} {entry['task']}{named}: {entry['reason']}"))
        print(f"  {entry['budget']}")
        if settings[row]:
            print(f"  {settings[row]}")
        if choice.rule == "pareto" and len(entry["front"]):
            print(f"  front, lowest cost first: {', '.join(map(str, entry['front']))}")


def _wrapped(sentence: str) -> str:
    """In lines of at most 100 characters, those after the first indented."""
    return textwrap.fill(sentence, 100, subsequent_indent="  ", break_on_hyphens=False)


def settings_line(row: "Mapping[str, Any] | pandas.Series[Any]", names: list[str]) -> str:
    """`name=value` of the hyperparameters that a chosen configuration has."""
    shown = []
    for name in names:
        value = row[name]
        if not is_missing(value):
            shown.append(f"{name.removeprefix('hp_')}={plain(value)}")
    return ", ".join(shown)


def plain(value: object) -> str:
    """A value of a hyperparameter, for a reader."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def open_store(arguments: argparse.Namespace) -> "ResultStore":
    """The store that `--storage` names."""
    from safesweep.analysis.store.reader import ResultStore

    return ResultStore(arguments.storage)
