"""`safesweep run`: runs a sweep, or prints its plan."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.sweeps.commands.results import add_storage_option, plain
from safesweep.sweeps.execution.interruption import exit_code
from safesweep.sweeps.output import add_format_option, print_table, say

if TYPE_CHECKING:
    import pandas

    from safesweep.sweeps.execution.scheduler import SweepPlan, SweepSummary
    from safesweep.sweeps.planning.plan import MethodTaskPlan
    from safesweep.sweeps.planning.trials import PlannedTrial
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

UNKNOWN_DATASET = "unknown"
MOST_SHOWN = 12
"""Configurations that a plan lists for a reader."""


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command `run`."""
    parser = commands.add_parser(
        "run",
        help="run a sweep; run it again to resume it",
        description="Runs what the store still lacks of a sweep. Exit code 0: all runs complete; "
        "1: some failed or diverged; 2: bad input, or a store that cannot be read or written; "
        "130: interrupted by Ctrl-C; 143: by SIGTERM.",
    )
    parser.add_argument("spec", help="a sweep file (YAML), or the name of one that ships")
    add_storage_option(parser)
    parser.add_argument(
        "--address",
        help="a Ray cluster; 'auto' finds one (default: $RAY_ADDRESS if set, else this machine)",
    )
    parser.add_argument("--num-cpus", type=_count, help="CPUs to use here (default: all)")
    parser.add_argument("--num-gpus", type=_count, help="GPUs to use here (default: all)")
    parser.add_argument(
        "-o",
        "--override",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a key of the sweep file, dotted and in YAML: -o search.num_configs=8",
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="end the sweep at the first run that fails"
    )
    parser.add_argument(
        "--on-end",
        metavar="COMMAND_OR_URL",
        help="when the sweep has ended, however: run a command, which finds SAFESWEEP_SWEEP, "
        "SAFESWEEP_STORAGE and SAFESWEEP_EXIT_CODE, or send these as JSON to a webhook (default: "
        "on_end of the sweep file)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    add_format_option(parser)
    parser.set_defaults(handler=run)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run or plan the sweep; returns the exit code."""
    if sys.stderr.isatty():  # What follows loads torch, which takes seconds.
        say(f"{arguments.spec}: reading the sweep")
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    spec = SweepSpec.load(arguments.spec, arguments.override)
    if arguments.num_cpus is not None and arguments.num_cpus < spec.cpu:
        raise InvalidInput(
            f"resources.cpu: {spec.cpu:g} is not allowed; --num-cpus is {arguments.num_cpus}"
        )
    if arguments.dry_run:
        return _print_plan(spec, arguments)
    return _launch(spec, arguments)


def _launch(spec: "SweepSpec", arguments: argparse.Namespace) -> int:
    """Run the sweep; returns the exit code."""
    from safesweep.sweeps.execution.failures import FirstFailure
    from safesweep.sweeps.execution.ray_tune import run_sweep
    from safesweep.trainables.store.compaction import compact_if_many
    from safesweep.trainables.store.writer import StoreProblem

    try:
        summary = run_sweep(
            spec,
            arguments.storage,
            arguments.address,
            arguments.num_cpus,
            arguments.num_gpus,
            fail_fast=arguments.fail_fast,
            on_end=arguments.on_end,
        )
    except FirstFailure as failure:
        say(f"safesweep: {failure}")
        return 1
    except KeyboardInterrupt as interrupt:
        say("safesweep: interrupted; the same command resumes the sweep")
        return exit_code(interrupt)
    except StoreProblem as problem:
        resume = "once it can, the same command resumes the sweep"
        raise StoreProblem(f"{problem}; {resume}") from problem
    print_table(summary_table(summary), arguments.format)
    from safesweep.sweeps.execution.standing import duration

    say(
        f"{summary.sweep}: {summary.trials} trials in {duration(summary.seconds)}; "
        f"store: {summary.storage}"
    )
    compact_if_many(arguments.storage, spec.name)
    return summary.exit_code


def summary_table(summary: "SweepSummary") -> "pandas.DataFrame":
    """Runs by status, in the order of the statuses."""
    import pandas

    counts = {
        name: getattr(summary, name) for name in ("completed", "stopped", "diverged", "failed")
    }
    return pandas.DataFrame(
        {"sweep": summary.sweep, "status": list(counts), "runs": list(counts.values())}
    )


def _print_plan(spec: "SweepSpec", arguments: argparse.Namespace) -> int:
    from safesweep.sweeps.evaluation import with_episodes
    from safesweep.sweeps.execution.population_size import as_begun
    from safesweep.sweeps.execution.scheduler import make_plan, previous_spec

    previous = previous_spec(arguments.storage, spec.name)
    spec, episodes = with_episodes(as_begun(spec, previous), arguments.storage, previous)
    dataset_ids = {task: _local_dataset_id(task, spec.dataset_of(task)) for task in spec.tasks}
    plan = make_plan(spec, arguments.storage, dataset_ids)
    missing = [task for task, identifier in dataset_ids.items() if identifier == UNKNOWN_DATASET]
    planned = planned_trials(plan)
    table, skipped, reasons = plan_table(plan, planned)
    table.loc[table["task"].isin(missing), "trial_id"] = None
    if arguments.format == "table":
        print_table(table)
        _print_configurations(plan)
    else:
        table["values"] = [_values_of(entry) for entry in planned]
        print_table(table, arguments.format)
    steps = int(table["gradient_steps"].sum())
    for reason, trials in reasons.items():
        say(f"{spec.name}: trained from the start, not continued: {trials} trials ({reason})")
    say(
        f"{spec.name}: {int(table['trials'].sum())} trials, {int(table['runs'].sum())} runs and "
        f"{steps:,} gradient steps to do; {skipped} runs are in the store"
    )
    shortfalls = [
        task_plan.shortfall for task_plan in plan.task_plans if task_plan.shortfall is not None
    ]
    times = _expected_time(plan, planned, arguments)
    rounds = describe_rounds(plan)
    warm_starts = [
        task_plan.warm_start.describe()
        for task_plan in plan.task_plans
        if task_plan.warm_start is not None and task_plan.task not in missing
    ]
    for line in [*episodes, *warm_starts, *shortfalls, *describe_rungs(plan), *rounds, *times]:
        say(f"{spec.name}: {line}")
    if spec.auto_population:
        say(
            f"{spec.name}: configs_per_trial is measured when the sweep begins; until then it is "
            "planned as 1"
        )
    if missing:
        say(
            f"{spec.name}: the data of {', '.join(missing)} are not here yet (the run gets them), "
            "so trial ids, and what the store may hold of them, are not known"
        )
    return 0


def describe_rungs(plan: "SweepPlan") -> list[str]:
    """What early stopping does to each method on each task: a line for its rungs and its cost."""
    from safesweep.sweeps.planning.early_stopping import bracket_sizes, expected_share, make_rungs

    spec = plan.spec
    if spec.early_stopping is None:
        return []
    lines = []
    for task_plan in plan.task_plans:
        sizes = bracket_sizes(spec, task_plan.configurations)
        brackets = f" in {len(sizes)} brackets" if len(sizes) > 1 else ""
        rungs = [
            f"{rung.keep} of {sizes[0]} go on after step {rung.step:,}"
            for rung in make_rungs(spec.early_stopping, spec.steps, sizes[0])
        ]
        share = expected_share(spec, task_plan.configurations)
        steps = task_plan.configurations * len(spec.seeds) * spec.steps
        lines.append(
            f"{task_plan.algorithm} on {task_plan.task}: "
            f"{task_plan.configurations} configurations{brackets}; "
            f"{', '.join(rungs) or 'nothing to stop'}; from the beginning {share * steps:,.0f} of "
            f"{steps:,} gradient steps ({share:.0%})"
        )
    return lines


def describe_rounds(plan: "SweepPlan") -> list[str]:
    """What each method on each task takes where that follows from results: least and most."""
    spec, lines = plan.spec, []
    for task_plan in plan.task_plans:
        name = f"{task_plan.algorithm} on {task_plan.task}"
        if spec.budget_runs is not None:
            runs = spec.budget_runs
            lines.append(
                f"{name}: a budget of {runs} runs, {runs * spec.steps:,} gradient steps, on as "
                "many configurations and seeds as the results call for"
            )
        elif spec.most_seeds is not None:
            configurations = task_plan.configurations
            least, most = (configurations * n for n in (len(spec.seeds), spec.most_seeds))
            lines.append(
                f"{name}: from {least} to {most} runs, {least * spec.steps:,} to "
                f"{most * spec.steps:,} gradient steps: {len(spec.seeds)} seeds of "
                f"{configurations} configurations, and up to {spec.most_seeds} of those that may "
                "still be chosen"
            )
    return lines


def _local_dataset_id(task_name: str, source: str) -> str:
    """The digest of a task's data if they are on this machine; nothing is fetched or collected."""
    from safesweep.trainables.data.dataset import read_dataset
    from safesweep.trainables.data.sources import local_dataset
    from safesweep.trainables.tasks.registry import get_task

    task = get_task(task_name)
    path = local_dataset(task, source)
    if path is None:
        return UNKNOWN_DATASET
    data = read_dataset(path, task)
    for line in data.warnings:
        say(f"{task.name}: warning: {line}")
    return data.dataset_id


class Planned(NamedTuple):
    """A trial that a plan hands out; `trial` is None for what an adaptive search will suggest.

    Attributes:
        configurations: how many it comprises.
        gradient_steps: of its runs, at the most.
    """

    task_plan: "MethodTaskPlan"
    trial: "PlannedTrial | None"
    configurations: int
    gradient_steps: int


def planned_trials(plan: "SweepPlan") -> list[Planned]:
    """Everything that a plan hands out; what it will do later once results are there comes as one
    entry a method and task."""
    spec, found = plan.spec, []
    for task_plan in plan.task_plans:
        while (trial := task_plan.next_trial()) is not None:
            steps = len(trial.runs) * (spec.steps - trial.from_step)
            found.append(Planned(task_plan, trial, len(trial.config_ids), steps))
        later = task_plan.configurations - len(task_plan.suggested)
        if spec.budget_runs is not None:
            later = task_plan.planned_runs - len(task_plan.run_ids)
        if not task_plan.search.exhausted and later > 0:
            found.append(Planned(task_plan, None, later, later * len(spec.seeds) * spec.steps))
    return found


def plan_table(
    plan: "SweepPlan", planned: "Sequence[Planned]"
) -> tuple["pandas.DataFrame", int, Counter[str]]:
    """One row per trial, how many of the runs the store holds, and why how many trials are trained
    anew though it holds shorter runs of theirs.

    What an adaptive search will suggest later stands in one row without a trial_id, as does the
    rest of a budget, as if each run were another configuration. With early
    stopping `gradient_steps` are the most that a trial can take and `expected_steps` what it takes
    on average; a trial that waits at a rung has no row.
    """
    import pandas

    from safesweep.sweeps.planning.early_stopping import expected_share

    reasons: Counter[str] = Counter()
    spec = plan.spec
    rows: list[dict[str, Any]] = []
    for task_plan, trial, configurations, steps in planned:
        if trial is not None and trial.continuation.reason:
            reasons[trial.continuation.reason] += 1
        rows.append(
            {
                "trial_id": None if trial is None else trial.trial_id,
                "algorithm": task_plan.algorithm,
                "task": task_plan.task,
                "trials": 1 if trial is not None else -(-configurations // spec.configs_per_trial),
                "configurations": configurations,
                "seeds": len(spec.seeds) if trial is None else len(trial.seeds),
                "runs": configurations * len(spec.seeds) if trial is None else len(trial.runs),
                "cpu": spec.cpu,
                "gpu": spec.gpu,
                "from_step": 0 if trial is None else trial.from_step,
                "gradient_steps": steps,
            }
        )
    columns = [
        "trial_id",
        "algorithm",
        "task",
        "trials",
        "configurations",
        "seeds",
        "runs",
        "cpu",
        "gpu",
        "from_step",
        "gradient_steps",
    ]
    skipped = sum(len(task_plan.skipped) for task_plan in plan.task_plans)
    table = pandas.DataFrame(rows, columns=columns)
    if spec.early_stopping is not None:
        share = expected_share(spec, max(task_plan.configurations for task_plan in plan.task_plans))
        table["expected_steps"] = (table["gradient_steps"] * share).round().astype("int64")
    return table, skipped, reasons


def _settings_of(task_plan: "MethodTaskPlan", config: "Mapping[str, Any]") -> dict[str, Any]:
    """The values of a configuration that the search varies."""
    return dict(task_plan.search.space.active(config))


def _values_of(planned: Planned) -> str | None:
    """The values that vary, of each configuration of a trial; None where they are not chosen."""
    if planned.trial is None:
        return None
    configs = {run.config_id: run.config for run in planned.trial.runs}
    return "; ".join(
        ", ".join(
            f"{name}={plain(value)}" for name, value in _settings_of(planned.task_plan, c).items()
        )
        for c in configs.values()
    )


def _print_configurations(plan: "SweepPlan") -> None:
    """The configurations of each method by the values that vary: the first of them, and how many
    more there are."""
    import pandas

    for algorithm in plan.spec.algorithms:
        found: dict[tuple[tuple[str, Any], ...], None] = {}
        task_plans = [one for one in plan.task_plans if one.algorithm == algorithm]
        for task_plan in task_plans:
            for runs in task_plan.suggested:
                found[tuple(_settings_of(task_plan, runs[0].config).items())] = None
        later = max(one.configurations - len(one.suggested) for one in task_plans)
        if all(not values for values in found) and not later:
            print(f"\none configuration of {algorithm}, in which nothing varies")
            continue
        print(f"\nconfigurations of {algorithm}:")
        # As objects, so that what does not take part in one is empty and not a number.
        rows = pandas.DataFrame([dict(values) for values in found][:MOST_SHOWN], dtype=object)
        print_table(rows.map(lambda value: "" if is_missing(value) else plain(value)))
        if len(found) > MOST_SHOWN:
            print(f"... and {len(found) - MOST_SHOWN:,} more (--format csv has all)")
        if later > 0:
            print(f"... and {later:,} that the search chooses by results")


def _expected_time(
    plan: "SweepPlan", planned: "Sequence[Planned]", arguments: argparse.Namespace
) -> list[str]:
    """How long it may take, in lines."""
    from safesweep.sweeps.estimate import Work, describe_time
    from safesweep.sweeps.execution.population_size import trials_at_a_time
    from safesweep.sweeps.planning.early_stopping import expected_share
    from safesweep.trainables.methods.configs import config_class_of
    from safesweep.trainables.store.reader import StoreReader
    from safesweep.trainables.training.devices import pick_device

    spec = plan.spec
    works: dict[tuple[Any, ...], Work] = {}
    for task_plan, trial, configurations, steps in planned:
        share = expected_share(spec, task_plan.configurations)
        config = spec.resolve(task_plan.algorithm, {}) if trial is None else trial.runs[0].config
        static = config_class_of(task_plan.algorithm).field_names("static")
        sizes = {name: config[name] for name in static}
        runs = configurations * len(spec.seeds) if trial is None else len(trial.runs)
        population = min(runs, spec.configs_per_trial * len(spec.seeds))
        key = (task_plan.algorithm, task_plan.task, population, *sizes.values())
        known = works.get(key)
        episodes = steps / spec.evaluate_every * spec.episodes_of(task_plan.task)
        works[key] = Work(
            task_plan.algorithm,
            task_plan.task,
            population,
            sizes,
            steps * share + (known.steps if known else 0.0),
            episodes * share + (known.episodes if known else 0.0),
        )
    if not works:
        return []
    try:
        store = StoreReader(arguments.storage)
    except InvalidInput:  # There is none yet.
        store = None
    # Of another cluster nothing is known here.
    at_a_time = 1
    if arguments.address is None:
        device = pick_device("auto") if spec.gpu and arguments.num_gpus != 0 else "cpu"
        at_a_time = trials_at_a_time(spec, arguments.num_cpus, arguments.num_gpus, device)
    trials = sum(1 if entry.trial else entry.configurations for entry in planned)
    return describe_time(store, list(works.values()), min(at_a_time, trials))
