"""Successive halving: which configurations go on after a rung, and which are stopped there.

Synchronous: a rung is decided once every configuration of a bracket has reached it, so a decision
follows from the scores at that rung and from nothing else; not from timing, and not from what an
earlier launch decided. A launch that is killed takes the same decisions again, and a run that an
earlier one stopped trains on where the scores, or another sweep file, now let it.

A bracket is what competes: every configuration of a search that is known in advance, and as many
suggestions in a row as `search.parallel` says of one that follows results. The seeds of a
configuration are judged together, by their means, and stopped together.

Source: Jamieson and Talwalkar (2016), "Non-stochastic Best Arm Identification and Hyperparameter
Optimization". The order is ours: what is safe comes before what is not.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safesweep.sweeps.planning.history import RunOutcome
from safesweep.sweeps.spec.sweep_spec import EarlyStoppingOptions, SweepSpec
from safesweep.trainables.store.scores import rounded, safe_first, total_excess

if TYPE_CHECKING:
    from safesweep.sweeps.planning.trials import PlannedRun, PlannedTrial

ENDED = ("completed", "diverged", "failed")
LOST = ("diverged", "failed", "paused")


@dataclass(frozen=True)
class Rung:
    """A gradient step after which at most `keep` configurations go on."""

    step: int
    keep: int


@dataclass(frozen=True)
class Standing:
    """Means over the seeds of a configuration at a rung.

    `excess` is the sum of what the constraints are exceeded by: 0 for a safe configuration.
    """

    objective: float
    excess: float


@dataclass(frozen=True)
class Decision:
    """What a rung decides: the configurations that go on, and why the others do not."""

    going: tuple[str, ...]
    stopped: Mapping[str, str]


def make_rungs(options: EarlyStoppingOptions, steps: int, configurations: int) -> tuple[Rung, ...]:
    """The rungs of a bracket: one configuration in `reduction` goes on, and at least one.

    Args:
        options: of the sweep.
        steps: gradient steps of a run that is not stopped.
        configurations: how many there are at the beginning.
    """
    rungs: list[Rung] = []
    step, keep = options.min_steps, configurations
    while step < steps and keep > 1:
        keep = max(1, keep // options.reduction)
        rungs.append(Rung(step, keep))
        step *= options.reduction
    return tuple(rungs)


def expected_steps(rungs: Sequence[Rung], steps: int, configurations: int) -> int:
    """Gradient steps that a bracket spends on one seed of each configuration."""
    spent, before, remaining = 0, 0, configurations
    for rung in rungs:
        spent += remaining * (rung.step - before)
        before, remaining = rung.step, rung.keep
    return spent + remaining * (steps - before)


def bracket_sizes(spec: SweepSpec, configurations: int) -> list[int]:
    """Configurations of each bracket of a method on a task."""
    size = spec.search.parallel or configurations
    full, rest = divmod(configurations, max(1, size))
    return [size] * full + [rest] * (rest > 0)


def expected_share(spec: SweepSpec, configurations: int) -> float:
    """The share of the gradient steps of `configurations` that is spent, if none is lost."""
    if spec.early_stopping is None or configurations == 0:
        return 1.0
    spent = 0
    for size in bracket_sizes(spec, configurations):
        rungs = make_rungs(spec.early_stopping, spec.steps, size)
        spent += expected_steps(rungs, spec.steps, size)
    return spent / (configurations * spec.steps)


def standing(
    seeds: Iterable[Mapping[str, float]], maximize: str, subject_to: Mapping[str, float]
) -> Standing | None:
    """Where a configuration stands by the scores of its seeds; None if one is not a number."""
    scores = list(seeds)
    means = {name: _mean(score[name] for score in scores) for name in (maximize, *subject_to)}
    if not all(math.isfinite(value) for value in means.values()):
        return None
    return Standing(means[maximize], float(total_excess(means, subject_to)))


def _mean(values: Iterable[float]) -> float:
    """To 12 significant digits, as the selection rules compare."""
    numbers = list(values)
    return float(rounded(math.fsum(numbers) / len(numbers)))


def rank(standings: Mapping[str, Standing], step: int, seed: int) -> list[str]:
    """Configurations, the best first: safe before unsafe, then by reward, or by excess cost.

    What is tied is ordered at random, by `seed`, the step and the configuration's own name, so that
    the order in which configurations arrive decides nothing.
    """

    def key(name: str) -> tuple[float, float, bytes]:
        place = standings[name]
        lot = hashlib.sha256(f"{seed}/{step}/{name}".encode()).digest()
        return *safe_first(place.excess, place.objective), lot

    return sorted(standings, key=key)


def decide(rung: Rung, standings: Mapping[str, Standing | None], seed: int) -> Decision:
    """The decision of a rung.

    Args:
        standings: by configuration; None for one that lost a seed, which never goes on: no rule
            could choose it in the end.
        seed: breaks ties.
    """
    judged = {name: place for name, place in standings.items() if place is not None}
    ranking = rank(judged, rung.step, seed)
    going = ranking[: rung.keep]
    stopped = {
        name: f"rank {position} of {len(ranking)} at step {rung.step}, where {len(going)} went on"
        for position, name in enumerate(ranking, 1)
        if position > rung.keep
    }
    lost = {
        name: f"its configuration had lost a seed by step {rung.step}"
        for name, place in standings.items()
        if place is None
    }
    return Decision(tuple(going), {**stopped, **lost})


class Bracket:
    """Configurations that compete, how far their runs are, and which of their trials wait.

    It is fed with runs (`enter`), with populations of them (`add`), and with how far they come
    (`record`, `wait`); `advance` then takes the decisions that can be taken.
    """

    def __init__(self, spec: SweepSpec) -> None:
        assert spec.early_stopping is not None
        self.spec, self.options = spec, spec.early_stopping
        self.closed = False
        self.waiting: list[PlannedTrial] = []
        self._configs: dict[str, Sequence[PlannedRun]] = {}
        self._contenders: list[str] = []
        self._outcomes: dict[str, RunOutcome] = {}
        self._decided = 0

    @property
    def size(self) -> int:
        """How many configurations compete."""
        return len(self._configs)

    @property
    def done(self) -> bool:
        """Whether every rung is decided, and no trial waits for one."""
        return self.closed and not self._rungs and not self.waiting

    def enter(self, runs: Sequence["PlannedRun"], known: Mapping[str, RunOutcome]) -> None:
        """Add a configuration, all of its seeds, with what the store knows of them."""
        name = runs[0].config_id
        self._configs[name] = runs
        self._contenders.append(name)
        for run in runs:
            if run.run_id in known:
                self._outcomes[run.run_id] = known[run.run_id]

    def record(self, outcome: RunOutcome) -> None:
        """A run has come to a rung, or to its end."""
        self._outcomes[outcome.run_id] = outcome

    def add(self, trial: "PlannedTrial") -> "PlannedTrial | None":
        """Take a population in: the trial that brings it to the first rung, if it is not there."""
        if not self._arrived(trial.runs, self.options.min_steps):
            return replace(trial, until=self.options.min_steps)
        self.waiting.append(trial)
        return None

    def advance(self) -> tuple[list["PlannedTrial"], list[RunOutcome]]:
        """Decide what can be decided.

        Returns:
            trials to train next, and runs that stay as an earlier launch stopped them.
        """
        trials: list[PlannedTrial] = []
        left: list[RunOutcome] = []
        while self.closed and self._rungs and self._complete(self._rungs[0].step):
            rung = self._rungs[0]
            decision = decide(rung, self._standings(rung.step), self.spec.search.seed)
            self._decided += 1
            self._contenders = [name for name in self._contenders if name not in decision.stopped]
            waiting, self.waiting = self.waiting, []
            for trial in waiting:
                self._send_on(trial, rung.step, decision, trials, left)
        if self.closed and not self._rungs:
            since = self.options.min_steps
            trials += [replace(trial, since=since, until=None) for trial in self.waiting]
            self.waiting = []
        return trials, left

    def _send_on(
        self,
        trial: "PlannedTrial",
        step: int,
        decision: Decision,
        trials: list["PlannedTrial"],
        left: list[RunOutcome],
    ) -> None:
        """Stop those of a waiting trial's runs that the decision stops, and train the others."""
        stop = {
            run.run_id: decision.stopped[run.config_id]
            for run in trial.runs
            if run.config_id in decision.stopped
        }
        going = tuple(run for run in trial.runs if run.run_id not in stop)
        until = self._rungs[0].step if self._rungs else None
        arrived = until is not None and self._arrived(going, until)
        stored = all(self._outcomes[run.run_id].status == "stopped" for run in trial.runs)
        if stored and (not going or arrived):
            left += [self._outcomes[run_id] for run_id in stop]
        elif stop or not arrived:
            trials.append(replace(trial, since=step, until=until, stop=stop))
            return
        if going:
            self.waiting.append(replace(trial, runs=going))

    @property
    def _rungs(self) -> tuple[Rung, ...]:
        """The rungs that are not decided; they follow from the size, so not before it is known."""
        return make_rungs(self.options, self.spec.steps, self.size)[self._decided :]

    def _complete(self, step: int) -> bool:
        return all(self._arrived(self._configs[name], step) for name in self._contenders)

    def _arrived(self, runs: Iterable["PlannedRun"], step: int) -> bool:
        known = [self._outcomes.get(run.run_id) for run in runs]
        return all(
            outcome is not None and (outcome.status in ENDED or outcome.steps >= step)
            for outcome in known
        )

    def _standings(self, step: int) -> dict[str, Standing | None]:
        """By configuration; one that was evaluated at other steps only cannot be judged here, and
        goes on."""
        found: dict[str, Standing | None] = {}
        for name in self._contenders:
            outcomes = [self._outcomes[run.run_id] for run in self._configs[name]]
            scores = [outcome.rungs[step] for outcome in outcomes if step in outcome.rungs]
            lost = any(step not in outcome.rungs and outcome.status in LOST for outcome in outcomes)
            if lost:
                found[name] = None
            elif scores:
                found[name] = standing(scores, self.spec.maximize, self.spec.subject_to)
        return found
