"""`safesweep list`, `show`, `query` and `select`: what a store holds."""

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import InvalidInput, is_missing, require_choice
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.store.reader import ResultStore

DEFAULT_STORAGE = "./results"

STEPS = ("last", "best")

_RUN_COLUMNS = ("run_id", "config_id", "algorithm", "task", "seed", "status")
_WIDE_COLUMNS = ("step_choice", "seeds", "candidates", "safe_candidates", "runner_up", "margin")


def add_storage_option(parser: argparse.ArgumentParser) -> None:
    """Add `--storage URI` (default: ./results) to a command."""
    parser.add_argument(
        "--storage",
        metavar="URI",
        default=DEFAULT_STORAGE,
        help=f"folder or URI of the result store (default: {DEFAULT_STORAGE})",
    )


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `list`, `show`, `query` and `select`."""
    parser = commands.add_parser("list", help="list the sweeps of a store, with runs by status")
    _common(parser)
    parser.set_defaults(handler=print_sweeps)

    parser = commands.add_parser("show", help="show one sweep: its plan, progress and failures")
    parser.add_argument("sweep", help="name of the sweep")
    _common(parser)
    parser.set_defaults(handler=print_sweep)

    parser = commands.add_parser(
        "query",
        help="answer a SQL query over a store",
        description="DuckDB SQL over the views runs, evaluations, episodes, metrics, sweeps and "
        "published. Read-only; other files, settings and extensions are out of reach.",
    )
    parser.add_argument("sql", help="one SELECT")
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
    _common(parser)
    parser.set_defaults(handler=print_selection)


def add_selection_options(parser: argparse.ArgumentParser, filters: bool = True) -> None:
    """Add what says which configurations are chosen: the filters, the rule and its options."""
    if filters:
        parser.add_argument("--sweep", help="only the runs of this sweep")
        parser.add_argument("--algorithm", help="only this method")
        parser.add_argument("--task", help="only this task")
    parser.add_argument(
        "--rule", default="max_reward_safe", help="selection rule (default: max_reward_safe)"
    )
    parser.add_argument(
        "--cost-limit", type=float, help="judge by this limit on the episode cost instead"
    )
    parser.add_argument(
        "--confidence", type=float, default=0.95, help="level of confidence rules (default: 0.95)"
    )


def _common(parser: argparse.ArgumentParser) -> None:
    add_storage_option(parser)
    add_format_option(parser)


def _step(text: str) -> str | int:
    return int(text) if text.lstrip("-").isdigit() else text


def print_query(arguments: argparse.Namespace) -> int:
    """Print the answer to one SQL query."""
    print_table(open_store(arguments).sql(arguments.sql), arguments.format)
    return 0


def print_sweeps(arguments: argparse.Namespace) -> int:
    """One row per sweep: planned runs, and those that ended by status."""
    import pandas

    store = open_store(arguments)
    runs = store.runs(columns=["run_id", "status", "sweep"])
    lacking = store.incomplete()
    _warn_of_incomplete(lacking)
    statuses = dict(runs[["run_id", "status"]].itertuples(index=False, name=None))
    statuses |= dict.fromkeys(lacking["run_id"], _INCOMPLETE)
    rows = []
    plans = store.sweeps().sort_values("created_at")
    for plan in plans.to_dict("records"):
        rows.append(
            {
                "sweep": plan["sweep"],
                "status": plan["status"],
                **_counts(list(plan["run_ids"]), statuses),
                "created_at": plan["created_at"],
            }
        )
    for sweep, group in runs[~runs["sweep"].isin(plans["sweep"])].groupby("sweep"):
        say(f"{sweep}: its plan is missing; `safesweep run` of the same file writes it again")
        counts = _counts(list(group["run_id"]), statuses)
        rows.append({"sweep": sweep, "status": "unplanned", **counts, "created_at": None})
    columns = ["sweep", "status", "runs", *_STATUS_COLUMNS, "created_at"]
    frame = pandas.DataFrame(rows, columns=columns)
    if arguments.format == "table" and rows:
        frame["created_at"] = [
            "" if is_missing(moment) else f"{moment:%Y-%m-%d %H:%M}"
            for moment in frame["created_at"]
        ]
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


def print_sweep(arguments: argparse.Namespace) -> int:
    """The sweep's counts per algorithm and task, its hyperparameters, and its failures.

    With `--format` other than `table`: one row per run of the sweep.
    """
    from safesweep.analysis.store.reader import with_incomplete

    store = open_store(arguments)
    runs = store.runs(sweep=arguments.sweep)
    lacking = store.incomplete()
    lacking = lacking[lacking["run_id"].isin(runs["run_id"])]
    _warn_of_incomplete(lacking)
    runs = with_incomplete(runs, lacking)
    if arguments.format != "table":
        print_table(runs, arguments.format)
        return 0
    _print_plan(store, arguments.sweep, runs)
    if not runs.empty:
        print_table(_progress(runs))
    running = [beat for beat in store.heartbeats() if beat["sweep"] == arguments.sweep]
    for beat in running:
        progress = f"step {beat['step']} of {beat['steps']}, {len(beat['run_ids'])} runs"
        doing = "waiting at a rung" if beat.get("waiting") else "training"
        say(f"{doing}: {beat['task']}, {progress}, on {beat['host']} at {beat['time']}")
    columns = ["run_id", "task", "status", "steps", "error"]
    for statuses in (["diverged", "failed", _INCOMPLETE], ["stopped"]):
        ended = runs[runs["status"].isin(statuses)]
        if not ended.empty:
            print()
            print_table(ended[columns].sort_values(["steps", "run_id"]))
    return 0


def _print_plan(store: "ResultStore", sweep: str, runs: "pandas.DataFrame") -> None:
    from safesweep.analysis.store.reader import hyperparameter_columns

    plans = store.sweeps(sweep=sweep)
    if not plans.empty:
        plan = plans.iloc[-1]
        statuses = dict(runs[["run_id", "status"]].itertuples(index=False, name=None))
        counts = _counts(list(plan["run_ids"]), statuses)
        ended = ", ".join(f"{counts[name]} {name}" for name in _STATUS_COLUMNS if counts[name])
        print(f"{sweep}: {plan['status']}, created {plan['created_at']:%Y-%m-%d %H:%M} UTC")
        print(f"{counts['runs']} runs: {ended or 'none planned yet'}")
        print()
        print(plan["spec"].rstrip())
        print()
    for column in hyperparameter_columns(runs):
        values = sorted(runs[column].dropna().unique(), key=lambda value: (str(type(value)), value))
        shown = ", ".join(_plain(value) for value in values[:12])
        more = f", ... ({len(values)} values)" if len(values) > 12 else ""
        print(f"{column}: {shown}{more}")
    if hyperparameter_columns(runs):
        print()


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
    """The chosen configuration per algorithm and task, with the reason."""
    chosen = choose(open_store(arguments), arguments, arguments.step, arguments.min_seeds).chosen
    if arguments.format == "table":
        _print_readable(chosen, arguments)
    else:
        print_table(chosen, arguments.format)
    return 0


@dataclass(frozen=True)
class Choice:
    """What a rule chose.

    Attributes:
        evaluations: what it judged.
        chosen: a row per algorithm, task and policy, with the hyperparameters that vary.
    """

    evaluations: "pandas.DataFrame"
    chosen: "pandas.DataFrame"


def choose(
    store: "ResultStore", arguments: argparse.Namespace, step: str | int, min_seeds: int = 1
) -> Choice:
    """Apply the rule that the arguments of `add_selection_options` ask for.

    Raises:
        InvalidInput: an unknown rule, sweep, algorithm or task, or an option out of range.
    """
    import pandas

    from safesweep.analysis.selection.choice import LOST_STATUSES, RULES, select, with_lost_runs

    require_choice("rule", arguments.rule, RULES)
    if isinstance(step, str):
        require_choice("step", step, STEPS)
    filters = {
        "sweep": arguments.sweep,
        "algorithm": arguments.algorithm,
        "task": _task_name(arguments.task),
    }
    evaluations = store.to_judge(step, **filters)
    lost = store.runs(columns=_RUN_COLUMNS, status=LOST_STATUSES, **filters)
    configurations = store.configurations(**filters)
    incomplete = _incomplete_runs(store, evaluations, filters)
    evaluations = evaluations[~evaluations["run_id"].isin(incomplete["run_id"])]
    lost = pandas.concat([lost, incomplete])
    for name in ("algorithm", "task"):
        found = evaluations if configurations.empty else configurations
        _require_present(store, name, filters[name], found)
    episodes = None
    if arguments.rule == "zero_violation" and arguments.cost_limit is not None:
        episodes = store.episodes(run_id=evaluations["run_id"].unique())
    chosen = select(
        with_lost_runs(evaluations, lost),
        rule=arguments.rule,
        cost_limit=arguments.cost_limit,
        step=step,
        confidence=arguments.confidence,
        episodes=episodes,
        min_seeds=min_seeds,
    )
    chosen = _with_hyperparameters(chosen, configurations)
    chosen.insert(list(chosen.columns).index("config_id") + 1, "step_choice", str(step))
    return Choice(evaluations, chosen)


def _incomplete_runs(
    store: "ResultStore", evaluations: "pandas.DataFrame", filters: dict[str, str | None]
) -> "pandas.DataFrame":
    """The runs that are not judged by what is left of them: rows of theirs are missing."""
    import pandas

    lacking = store.incomplete()
    known = store.runs(columns=["run_id"], **filters)["run_id"]
    lacking = lacking[lacking["run_id"].isin(known)]
    # Their row of `runs` is what is missing.
    orphans = evaluations[~evaluations["run_id"].isin(known)].drop_duplicates("run_id")
    orphans = orphans.assign(sweep="select", lacks="rows of runs are missing")
    found = pandas.concat([lacking, orphans])[[*_RUN_COLUMNS[:-1], "sweep", "lacks"]]
    _warn_of_incomplete(
        found, "they are left out, until `safesweep run` of the sweep restores them"
    )
    return found.assign(status="failed")[list(_RUN_COLUMNS)]


def _task_name(task: str | None) -> str | None:
    """The canonical id of a task that we know by id or short name; any other text as it is."""
    from safesweep.trainables.tasks.registry import get_task

    if task is None:
        return None
    try:
        return get_task(task).name
    except InvalidInput:
        return task


def _require_present(
    store: "ResultStore", name: str, wanted: str | None, found: "pandas.DataFrame"
) -> None:
    if wanted is None or not found.empty:
        return
    present = sorted(store.runs()[name].unique())
    if present:
        require_choice(name, wanted, present)


def _with_hyperparameters(
    chosen: "pandas.DataFrame", runs: "pandas.DataFrame"
) -> "pandas.DataFrame":
    """Add the hyperparameters that vary among the runs, with the values of the chosen ones."""
    from safesweep.analysis.store.reader import hyperparameter_columns

    names = hyperparameter_columns(runs)
    values = runs.drop_duplicates("config_id").set_index("config_id")[names]
    return chosen.join(values, on="config_id")


def describe_step(step: str | int) -> str:
    """What the choice of a step means for what is chosen, in words."""
    if step == "best":
        return (
            "step best: each configuration at the step that the rule prefers. This is online "
            "checkpoint selection, which an offline method does not have"
        )
    if step == "last":
        return "step last: each configuration at its last evaluation (offline)"
    return f"step {step}: each configuration at that evaluation (offline)"


def _print_readable(chosen: "pandas.DataFrame", arguments: argparse.Namespace) -> None:
    """A narrow table, then for each row a sentence with what it has no room for."""
    if chosen.empty:
        say("select: no evaluations to choose from")
    shown = chosen.drop(columns=[*_WIDE_COLUMNS, "reason", "front"], errors="ignore")
    if "policy" in shown and shown.groupby("algorithm")["policy"].nunique().max() == 1:
        shown = shown.drop(columns="policy")
    if shown["algorithm"].nunique() == 1:
        shown = shown.drop(columns="algorithm")
    varying = [str(name) for name in shown if str(name).startswith("hp_")]
    settings = [_settings(chosen.iloc[row], varying) for row in range(len(chosen))]
    shown = shown.drop(columns=varying).dropna(axis="columns", how="all")
    print(describe_step(arguments.step))
    print()
    print_table(shown.rename(columns={"normalized_reward": "reward", "normalized_cost": "cost"}))
    print()
    for row in range(len(chosen)):
        entry = chosen.iloc[row]
        print(f"{entry['algorithm']} {entry['task']}: {entry['reason']}")
        if settings[row]:
            print(f"  {settings[row]}")
        if arguments.rule == "pareto" and len(entry["front"]):
            print(f"  front, cheapest first: {', '.join(map(str, entry['front']))}")


def _settings(row: Any, names: list[str]) -> str:
    """`name=value` of the hyperparameters that a chosen configuration has."""
    shown = []
    for name in names:
        value = row[name]
        if not is_missing(value):
            shown.append(f"{name.removeprefix('hp_')}={_plain(value)}")
    return ", ".join(shown)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def open_store(arguments: argparse.Namespace) -> "ResultStore":
    """The store that `--storage` names."""
    from safesweep.analysis.store.reader import ResultStore

    return ResultStore(arguments.storage)
