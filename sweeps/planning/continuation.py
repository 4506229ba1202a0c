"""Shorter trials in the store that a planned one carries on.

A longer run that goes on from a shorter one has to be the run that training from scratch would
give, row by row. So it carries on a trial of exactly its members, made by the same code, and
evaluated at the same steps under the same terms; everything else is trained from the start.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from safesweep.search_spaces.validation import is_missing
from safesweep.sweeps.planning.history import StoreHistory
from safesweep.sweeps.spec.sweep_spec import SweepSpec
from safesweep.trainables.store.source_digest import code_digest

ENDED_BY_ITSELF = {"completed", "diverged"}


@dataclass(frozen=True)
class Member:
    """One run of a trial: its identity and what it was trained with."""

    run_id: str
    seed: int
    config: dict[str, Any]


@dataclass(frozen=True)
class ShorterTrial:
    """A trial of the store, its members in the order of the planned trial that carries it on."""

    trial_id: str
    steps: int
    task: str
    code_digest: str | None
    members: tuple[Member, ...]

    @property
    def run_ids(self) -> list[str]:
        """Its runs."""
        return [member.run_id for member in self.members]


@dataclass(frozen=True)
class Continuation:
    """What a planned trial finds: a shorter trial to carry on, or why it is trained from the start.

    Both are None where the store holds no shorter trial of its runs.
    """

    trial: ShorterTrial | None = None
    reason: str | None = None


NOTHING_SHORTER = Continuation()


class ShorterTrials:
    """The trials of one method on one dataset that a store holds with fewer steps than planned."""

    def __init__(
        self, kept: StoreHistory, spec: SweepSpec, algorithm: str, dataset_id: str
    ) -> None:
        self.kept, self.spec = kept, spec
        self.algorithm, self.dataset_id = algorithm, dataset_id

    @property
    def budgets(self) -> list[int]:
        """Their steps, each number once."""
        return sorted({trial.steps for trial in self._trials})

    def find(self, members: Sequence[Member]) -> Continuation:
        """What the trial of these members can carry on: the longest that fits."""
        wanted = [self._key(member) for member in members]
        reasons = []
        for trial in sorted(self._by_key.get(wanted[0], ()), key=lambda trial: -trial.steps):
            at = {self._key(member): member for member in trial.members}
            if set(at) != set(wanted):
                reasons.append(f"its runs were not trained together for {trial.steps} steps")
                continue
            same_order = tuple(at[key] for key in wanted)
            ordered = replace(trial, members=same_order)
            reason = self._reason(ordered, members)
            if reason is None:
                return Continuation(ordered)
            reasons.append(reason)
        return Continuation(reason=reasons[0] if reasons else None)

    @cached_property
    def _method(self) -> Any:
        from safesweep.trainables.methods.registry import ALGORITHMS

        return ALGORITHMS[self.algorithm]

    @cached_property
    def _trials(self) -> list[ShorterTrial]:
        runs = self.kept.runs()
        same = (runs["algorithm"] == self.algorithm) & (runs["dataset_id"] == self.dataset_id)
        runs = runs[same]
        found = []
        for trial_id, rows in runs.groupby("trial_id") if len(runs) else ():
            steps = set(rows.loc[rows["status"] == "completed", "steps"])
            if not set(rows["status"]) <= ENDED_BY_ITSELF or len(steps) != 1:
                continue
            budget = int(steps.pop())
            if budget < self.spec.steps:
                columns = zip(rows["run_id"], rows["seed"], rows["config"], strict=True)
                members = tuple(
                    Member(run, int(seed), json.loads(config)) for run, seed, config in columns
                )
                digest = rows["code_digest"].iloc[0]
                code = None if is_missing(digest) else str(digest)
                task = str(rows["task"].iloc[0])
                found.append(ShorterTrial(str(trial_id), budget, task, code, members))
        return found

    @cached_property
    def _by_key(self) -> dict[str, list[ShorterTrial]]:
        found: dict[str, list[ShorterTrial]] = {}
        for trial in self._trials:
            for member in trial.members:
                found.setdefault(self._key(member), []).append(trial)
        return found

    def _key(self, member: Member) -> str:
        from safesweep.trainables.training.continuation import shared_values

        config = self._method.config_class.resolve(member.config)
        return json.dumps([shared_values(config), member.seed], sort_keys=True)

    def _reason(self, trial: ShorterTrial, members: Sequence[Member]) -> str | None:
        from safesweep.trainables.training.continuation import reason_to_train_anew

        resolve = self._method.config_class.resolve
        for old, new in zip(trial.members, members, strict=True):
            reason = reason_to_train_anew(
                self._method, resolve(old.config), trial.steps, resolve(new.config), self.spec.steps
            )
            if reason is not None:
                return reason
        if trial.code_digest != code_digest(self.algorithm, trial.task):
            return f"the code has changed since the run of {trial.steps} steps"
        return self._reason_of_rows(trial) or self._reason_of_checkpoint(trial)

    def _reason_of_rows(self, trial: ShorterTrial) -> str | None:
        """Whether the evaluations so far are those that the longer run makes."""
        from safesweep.trainables.training.trial import evaluation_steps

        rows = self.kept.store.evaluations(run_id=trial.run_ids)
        rungs = evaluation_steps(self.spec.steps, self.spec.evaluate_every)
        if sorted(set(rows["step"])) != [step for step in rungs if step <= trial.steps] or (
            trial.steps not in rungs
        ):
            return f"the run of {trial.steps} steps was evaluated at other steps"
        limits = {self.spec.cost_limit_of(task) for task in rows["task"].unique()}
        episodes = {self.spec.episodes_of(task) for task in rows["task"].unique()}
        if set(rows["episodes"]) != episodes or set(rows["cost_limit"]) != limits:
            return f"the run of {trial.steps} steps was evaluated on other terms"
        return None

    def _reason_of_checkpoint(self, trial: ShorterTrial) -> str | None:
        from safesweep.trainables.store.writer import checkpoint_path

        if not self.kept.store.has_file(checkpoint_path(trial.trial_id)):
            return f"the run of {trial.steps} steps has no checkpoint"
        return None
