"""What is trained together: runs, and the trials that comprise them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from safesweep.search_spaces.plugins import plugin_sources
from safesweep.search_spaces.space import SearchSpace, Value
from safesweep.sweeps.planning.continuation import (
    NOTHING_SHORTER,
    Continuation,
)
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store import identity
from safesweep.trainables.training.request import ContinuedTrial, TrialRequest

Config = dict[str, Any]


def configuration_id(
    spec: SweepSpec, algorithm: str, task: str, dataset_id: str, config: Config, steps: int
) -> str:
    """Identity of a configuration of one method on one task under a sweep's cost limit."""
    from safesweep.trainables.methods.configs import config_class_of
    from safesweep.trainables.tasks.registry import get_task

    resolved, known = config_class_of(algorithm).resolve(config), get_task(task)
    limit = resolved.cost_limit_in_identity(spec.cost_limit_of(task), known.cost_limits)
    return identity.config_id(algorithm, config, known.identity, dataset_id, steps, limit)


def point_of(space: SearchSpace, config: Config) -> Mapping[str, Value] | None:
    """What a configuration is in a space; None where it lies outside."""
    try:
        point = space.active(config)
    except KeyError:
        return None
    return point if space.contains(point) else None


def lies_in(spec: SweepSpec, algorithm: str, config: Config) -> bool:
    """Whether a sweep's space and fixed values allow a configuration."""
    point = point_of(spec.space_for(algorithm), config)
    return point is not None and spec.resolve(algorithm, point) == config


@dataclass(frozen=True)
class PlannedRun:
    """One configuration with one seed."""

    run_id: str
    config_id: str
    seed: int
    config: Config


@dataclass(frozen=True)
class PlannedTrial:
    """One population: runs of one method on one dataset that agree in every static field.

    `memory_splits` counts how often it was halved because memory had run out.

    With early stopping it is trained from rung to rung: at the step `since` the runs in `stop` (by
    run_id, with the reason) end, and the others train on to the step `until`, or to their end.
    """

    algorithm: str
    task: str
    runs: tuple[PlannedRun, ...]
    memory_splits: int = 0
    since: int = 0
    until: int | None = None
    stop: Mapping[str, str] = field(default_factory=dict, hash=False)
    continuation: Continuation = NOTHING_SHORTER

    @cached_property
    def trial_id(self) -> str:
        """Identity of the population, from its members."""
        return identity.trial_id(run.run_id for run in self.runs)

    @property
    def going(self) -> "PlannedTrial":
        """The population that is left when the runs in `stop` have ended."""
        runs = tuple(run for run in self.runs if run.run_id not in self.stop)
        return PlannedTrial(self.algorithm, self.task, runs, self.memory_splits)

    @property
    def stopping(self) -> "PlannedTrial":
        """The runs in `stop`."""
        runs = tuple(run for run in self.runs if run.run_id in self.stop)
        return PlannedTrial(self.algorithm, self.task, runs, self.memory_splits)

    def steps_to(self, step: int) -> int:
        """Gradient steps of all runs until the trial is at `step`, or where it pauses before."""
        reached = step if self.until is None else min(step, self.until)
        return max(0, reached - self.since) * (len(self.runs) - len(self.stop))

    @property
    def from_step(self) -> int:
        """The step from which it is trained: 0, or the end of the shorter trial that it carries
        on."""
        return self.continuation.trial.steps if self.continuation.trial else 0

    @property
    def config_ids(self) -> tuple[str, ...]:
        """The configurations, each once."""
        return tuple(dict.fromkeys(run.config_id for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each once."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def request(
        self, spec: SweepSpec, storage: str, gpu: float, lease: str | None = None
    ) -> TrialRequest:
        """What a worker is asked to do.

        Args:
            gpu: the share of a GPU that it has; 0 where there is none.
            lease: of the driver that asks.
        """
        shorter = self.continuation.trial
        return TrialRequest(
            algorithm=self.algorithm,
            task=self.task,
            configs=[run.config for run in self.runs],
            seeds=[run.seed for run in self.runs],
            steps=spec.steps,
            evaluate_every=spec.evaluate_every,
            episodes=spec.episodes_of(self.task),
            cost_limit=spec.cost_limit,
            device="auto" if gpu else "cpu",
            compiled=spec.compiled,
            run_ids=[run.run_id for run in self.runs],
            memory_splits=self.memory_splits,
            continue_from=None
            if shorter is None
            else ContinuedTrial(shorter.trial_id, tuple(shorter.run_ids)),
            until=self.until,
            stop=self.stop,
            stop_at=self.since,
            storage=storage,
            sweep=spec.name,
            lease=lease,
            threads=spec.threads,
            gpu=gpu,
            plugins=plugin_sources(),
        )

    def halves(self) -> tuple["PlannedTrial", "PlannedTrial"]:
        """Two populations of half the size; the seeds of a configuration stay together if they can.

        Raises:
            ValueError: there is only one run.
        """
        if len(self.runs) == 1:
            raise ValueError("a population of one run has no halves")
        if len(self.config_ids) > 1:
            first = set(self.config_ids[: (len(self.config_ids) + 1) // 2])
            middle = sum(run.config_id in first for run in self.runs)
        else:
            middle = (len(self.runs) + 1) // 2
        one, other = (
            replace(
                self, runs=runs, memory_splits=self.memory_splits + 1, continuation=NOTHING_SHORTER
            )
            for runs in (self.runs[:middle], self.runs[middle:])
        )
        return one, other
