"""Confirming what was chosen: its runs on fresh episodes, and the same under fresh seeds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safesweep.search_spaces.validation import InvalidInput, is_missing
from safesweep.sweeps.output import say

if TYPE_CHECKING:
    import pandas

    from safesweep.analysis.selection.choice import Choice
    from safesweep.analysis.store.reader import ResultStore
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

LONGEST_NAME = 70
"""Characters of a sweep's name that the name of its confirmation keeps."""


@dataclass(frozen=True)
class Terms:
    """How confirmations are made.

    Attributes:
        storage: the store.
        episodes: of each run.
        episode_seed: another number gives other episodes.
        rule: by which was chosen, for the record.
        address: of a Ray cluster, for fresh seeds.
    """

    storage: str
    episodes: int
    episode_seed: int
    rule: str
    address: str | None = None


@dataclass(frozen=True)
class Attempt:
    """One candidate that was confirmed by fresh seeds.

    Attributes:
        choice: its row of `analysis.selection.choice.select`.
        rows: a row of `confirmations` a fresh seed that completed.
        seeds: how many fresh seeds were asked for.
        subject_to: the limits, by score, that their means must keep.
    """

    choice: Mapping[str, Any]
    rows: list[dict[str, Any]]
    seeds: int
    subject_to: Mapping[str, float]

    @property
    def lost(self) -> int:
        """Fresh seeds that diverged or failed."""
        return self.seeds - len(self.rows)

    @property
    def kept(self) -> bool:
        """Whether every fresh seed completed and their means keep the limits."""
        from safesweep.trainables.store.scores import total_excess

        means = {
            name: sum(row[name] for row in self.rows) / max(1, len(self.rows))
            for name in self.subject_to
        }
        return not self.lost and float(total_excess(means, self.subject_to)) == 0


def evaluate_runs(
    store: "ResultStore",
    terms: Terms,
    choice: Mapping[str, Any],
    runs: "pandas.DataFrame",
    limit: float,
    kind: str = "evaluated",
) -> list[dict[str, Any]]:
    """The rows of a chosen configuration's runs on fresh episodes; what is in the store is read.

    Raises:
        InvalidInput: a run has no readable checkpoint.
    """
    from safesweep.trainables.measurements.confirmation import (
        ChosenRun,
        confirmation_id,
        evaluate_again,
    )
    from safesweep.trainables.store.writer import ResultWriter

    found: list[dict[str, Any]] = []
    for sweep, members in runs.sort_values("seed").groupby("sweep", sort=True):
        chosen = [
            ChosenRun(
                run["run_id"], run["config_id"], run["trial_id"], run["seed"],
                json.loads(run["config"]),
            )
            for run in members.to_dict("records")
        ]  # fmt: skip
        identifier = confirmation_id(
            chosen, choice["policy"], terms.episodes, terms.episode_seed, limit
        )
        known = store.confirmations(confirmation_id=identifier)
        if len(known):
            found += [{str(k): v for k, v in entry.items()} for entry in known.to_dict("records")]
            continue
        say(f"confirm: {choice['algorithm']} {choice['task']}: {len(chosen)} runs, "
            f"{terms.episodes} episodes each")  # fmt: skip
        found += evaluate_again(
            ResultWriter(terms.storage, str(sweep)),
            choice["algorithm"],
            choice["task"],
            chosen,
            choice["policy"],
            terms.episodes,
            terms.episode_seed,
            limit,
            terms.rule,
            kind,
        )
    return found


def sweep_of_choice(store: "ResultStore", choice: Mapping[str, Any], sweeps: Sequence[str]) -> str:
    """The first of some sweeps that comprises a chosen configuration."""
    for sweep in sweeps[:-1]:
        if len(store.runs(["config_id"], sweep=sweep, config_id=choice["config_id"])):
            return sweep
    return sweeps[-1]


def why_not_trainable(
    store: "ResultStore", choice: Mapping[str, Any], sweeps: Sequence[str]
) -> str | None:
    """Why no fresh seeds of a choice of some sweeps can be trained, in words; None where they
    can."""
    from safesweep.trainables.methods.registry import ALGORITHMS
    from safesweep.trainables.tasks.registry import get_task

    if choice["algorithm"] not in ALGORITHMS:
        return f"{choice['algorithm']} is no method of ours"
    sweep = sweep_of_choice(store, choice, sweeps)
    try:
        get_task(choice["task"])
        _spec_of(store, sweep)
    except InvalidInput as problem:
        reason = "; ".join(problem.lines)
        return f"sweep {sweep} cannot be trained here, as an import cannot ({reason})"
    return None


def train_fresh_seeds(
    store: "ResultStore",
    terms: Terms,
    choice: Mapping[str, Any],
    run: Mapping[str, Any],
    sweep: str,
    seeds: int,
    limit: float,
) -> list[dict[str, Any]]:
    """The rows of a chosen configuration under fresh seeds, trained where they are missing.

    The seeds follow those of the sweep. They are trained as it trains, in a sweep of their own,
    and evaluated on the episodes of confirmations, which neither sweep has seen. A seed that
    diverged or failed has no row.

    Args:
        run: the row of `runs` of one of the configuration's runs.
        sweep: of which the configuration was chosen.
        seeds: how many.

    Raises:
        InvalidInput: the sweep cannot be trained again.
    """
    from safesweep.sweeps.execution.ray_tune import run_sweep

    original = _spec_of(store, sweep)
    first = max(int(store.runs(sweep=sweep)["seed"].max()), *original.seeds) + 1
    content = fresh_seeds_sweep(original, choice, run, range(first, first + seeds), terms.episodes)
    run_sweep(content, terms.storage, terms.address)
    runs = store.runs(sweep=content["name"], seed=content["seeds"], status="completed")
    return evaluate_runs(store, terms, choice, runs, limit, "retrained") if len(runs) else []


def fresh_seeds_sweep(
    original: "SweepSpec",
    choice: Mapping[str, Any],
    run: Mapping[str, Any],
    seeds: Sequence[int],
    episodes: int,
) -> dict[str, Any]:
    """The sweep that trains one configuration of another sweep under other seeds, and evaluates
    each run once."""
    config = json.loads(run["config"])
    varied = next(iter(config))
    task, steps = choice["task"], int(run["steps"])
    content = {
        **original.to_mapping(),
        "name": f"{original.name[:LONGEST_NAME]}-confirm-{choice['config_id']}",
        "algorithm": choice["algorithm"],
        "tasks": [task],
        "dataset": original.dataset_of(task),
        "seeds": list(seeds),
        "search": {"method": "grid"},
        "space": {varied: [config.pop(varied)]},
        "fixed": config,
        "steps": steps,
        "evaluate": {"every": steps, "episodes": episodes},
        "configs_per_trial": 1,
    }
    # What the sweep says of other methods, of its own course and of whom to tell is not for this.
    for key in ("methods", "budget", "early_stopping", "on_end"):
        content.pop(key, None)
    return content


def _spec_of(store: "ResultStore", sweep: str) -> "SweepSpec":
    from safesweep.sweeps.spec.sweep_spec import SweepSpec

    plans = store.sweeps(sweep=sweep)
    if plans.empty:
        raise InvalidInput(f"sweep: {sweep!r} has no plan in the store")
    return SweepSpec.from_yaml(plans.iloc[-1]["spec"], origin=f"sweep {sweep}")


def confirm_in_order(
    store: "ResultStore",
    terms: Terms,
    choice: "Choice",
    first: Mapping[str, Any],
    sweeps: Sequence[str],
    seeds: int,
    most: int,
) -> Iterator[Attempt]:
    """Confirm one candidate after the other by fresh seeds, until one keeps the limit.

    Args:
        choice: what was chosen of the sweeps.
        first: the row of it to begin with; then candidates come in the rule's order, until the
            mean cost of one is not within its limit.
        most: candidates that are tried at the most.
    """
    from safesweep.trainables.store.scores import total_excess

    limits = choice.goal.subject_to
    costs = {name: limit for name, limit in limits.items() if name == "normalized_cost"}
    for number, entry in enumerate(choice.in_order(first)):
        if number == most or is_missing(entry["config_id"]):
            return
        if float(total_excess({"normalized_cost": entry["normalized_cost"]}, costs)) > 0:
            return
        sweep = sweep_of_choice(store, entry, sweeps)
        runs = store.runs(sweep=sweep, config_id=entry["config_id"])
        run = {str(name): value for name, value in runs.iloc[0].to_dict().items()}
        judged = choice.evaluations
        limit = one_limit(judged[judged["config_id"] == entry["config_id"]])
        rows = train_fresh_seeds(store, terms, entry, run, sweep, seeds, limit)
        attempt = Attempt(entry, rows, seeds, limits)
        yield attempt
        if attempt.kept:
            return


def one_limit(rows: "pandas.DataFrame") -> float:
    """The one cost limit of rows of evaluations.

    Raises:
        InvalidInput: there are several, or none.
    """
    limits = rows["cost_limit"].dropna().unique()
    if len(limits) == 0:
        raise InvalidInput(
            "cost_limit: the store does not say by which limit the chosen runs were judged, as an "
            "import may not; give one with --cost-limit"
        )
    if len(limits) > 1:
        raise InvalidInput(
            f"cost_limit: the chosen runs were judged by {len(limits)} limits; give one with "
            "--cost-limit"
        )
    return float(limits[0])
