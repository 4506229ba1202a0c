"""A trial: one population from its first gradient step to its rows in the store."""

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from safesweep.search_spaces.validation import InvalidInput, require_number
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.methods.method import policy_cost_limit
from safesweep.trainables.methods.registry import find_method
from safesweep.trainables.store import identity
from safesweep.trainables.store.leases import require_own
from safesweep.trainables.store.process_identity import ProcessIdentity
from safesweep.trainables.store.source_digest import code_digest
from safesweep.trainables.store.writer import ResultWriter, checkpoint_path, heartbeat_path
from safesweep.trainables.tasks.registry import Task, get_task, simulator_versions
from safesweep.trainables.tasks.simulator import Episodes
from safesweep.trainables.training.checkpoints import (
    DamagedCheckpoint,
    checkpoint_content,
    loaded_checkpoint,
    read_checkpoint,
)
from safesweep.trainables.training.diagnostics import feasibility_diagnostics, method_diagnostics
from safesweep.trainables.training.observers import (
    ObservedTrial,
    Observers,
    Rows,
    TrialRows,
)
from safesweep.trainables.training.population import Population
from safesweep.trainables.training.pulse import Pulse
from safesweep.trainables.training.request import ContinuedTrial, TrialRequest

LATENCY_CALLS = 20

_log = logging.getLogger("safesweep")


class Trial:
    """Trains, evaluates and records the members (configuration, seed) of one population.

    With a `writer` it also keeps a checkpoint and a heartbeat in the store, resumes from that
    checkpoint, and writes its rows when it ends.

    Args:
        request: what is to be trained.
        task: the one that the request names.
        dataset: what the runs learn from, transitions of that task.

    Attributes:
        problems: what whoever runs the trial should hear of, a line each.

    Raises:
        InvalidInput: the data is of another task, or the runs that come of the request are not
            those that were planned.
    """

    def __init__(
        self,
        request: TrialRequest,
        task: Task,
        dataset: Dataset,
        writer: ResultWriter | None = None,
    ) -> None:
        if dataset.task != task.name:
            raise InvalidInput(
                f"dataset: holds transitions of {dataset.task}, and cannot be used for {task.name}"
            )
        self.request, self.task, self.dataset, self.writer = request, task, dataset, writer
        self.algorithm, self.memory_splits = request.algorithm, request.memory_splits
        self.steps, self.episodes = request.steps, request.episodes
        self.cost_limit = task.limit_or_own(request.cost_limit)
        self.rungs = evaluation_steps(self.steps, request.evaluate_every or self.steps)
        self.population = Population(request, task, dataset)
        self.config_ids = [
            identity.config_id(
                self.algorithm,
                c.to_dict(),
                task.identity,
                dataset.dataset_id,
                self.steps,
                c.cost_limit_in_identity(self.cost_limit, task.cost_limits),
            )
            for c in self.population.configs
        ]
        self.run_ids = [
            identity.run_id(c, seed) for c, seed in zip(self.config_ids, request.seeds, strict=True)
        ]
        if request.run_ids is not None and list(request.run_ids) != self.run_ids:
            raise InvalidInput(
                f"run_ids: {', '.join(request.run_ids)} were planned, but these configurations on "
                f"this data are {', '.join(self.run_ids)}"
            )
        self.trial_id = identity.trial_id(self.run_ids)
        self.rows = TrialRows()
        # Each member's share; the population may become smaller.
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self.started_at = datetime.now(UTC)
        self.continued_from: list[str] | None = None
        self.problems = list(self.population.method.warnings)
        self.code_version: str | None = identity.code_version()
        self.code_digest: str | None = code_digest(self.algorithm, task.name)
        self.pulse = Pulse()
        self.observers, self._announced = Observers(writer), False
        if not self._resume() and request.continue_from is not None:
            self._carry_on(request.continue_from)
        if self.population.step >= self.steps:
            self.finish()

    @property
    def done(self) -> bool:
        """Whether the whole budget is spent, or every run was stopped."""
        return bool(self.rows.runs)

    def advance(self) -> None:
        """Train to the next evaluation, evaluate, and keep what a resume needs."""
        rung = next(step for step in self.rungs if step > self.population.step)
        self.pulse.begin(self.population.step)
        self._announce()
        self._heartbeat()
        with self.pulse.beating(lambda: self.population.step, self._heartbeat):
            started = time.perf_counter()
            self.population.advance(rung)
            trained = time.perf_counter()
            self.pulse.phase = "evaluating"
            self._record_metrics()
            for policy in self.population.method.evaluated_policies:
                self._evaluate(policy)
        size = self.population.size
        self.seconds["train"] += (trained - started) / size
        self.seconds["evaluate"] += (time.perf_counter() - trained) / size
        if rung < self.steps:
            self._checkpoint()
        self.observers.on_evaluation(self._observed(), self.rows)
        if rung == self.steps:
            self.finish()

    def stop(self, reasons: Mapping[str, str]) -> None:
        """End some runs here, for the reasons given by run_id; the others can train on.

        The rows of those runs say `stopped`. Both parts are trials of their own from here on, named
        after their members, each with a checkpoint, so that what was stopped can be continued.
        """
        members = range(self.population.size)
        stopped = [member for member in members if self.run_ids[member] in reasons]
        others = [member for member in members if self.run_ids[member] not in reasons]
        if not others:
            self.finish(reasons)
        elif stopped:
            # Killed in between, the checkpoint of the whole is there until both parts have theirs.
            whole, going = self.trial_id, self._part(others)
            going._checkpoint()
            going._heartbeat()
            self._part(stopped).finish(reasons)
            if self.writer is not None:
                self.writer.remove(checkpoint_path(whole))
                self.writer.remove(heartbeat_path(whole))
            self.__dict__.update(going.__dict__)

    def pause(self) -> None:
        """Say in the store that the trial waits at its last evaluation."""
        self._heartbeat(waiting=True)

    def _part(self, members: Sequence[int]) -> Self:
        part = copy.copy(self)
        part.population = self.population.part(members)
        part.config_ids = [self.config_ids[member] for member in members]
        part.run_ids = [self.run_ids[member] for member in members]
        part.trial_id = identity.trial_id(part.run_ids)
        chosen = set(part.run_ids)
        part.rows = TrialRows(
            *(
                [row for row in rows if row["run_id"] in chosen]
                for rows in (self.rows.evaluations, self.rows.episodes, self.rows.metrics)
            )
        )
        part.seconds = dict(self.seconds)
        return part

    def finish(self, stopped: Mapping[str, str] | None = None) -> None:
        """Hand out the rows of every run; a run that diverged, or was `stopped`, says so.

        Raises:
            LeaseLost: another driver trains the runs by now.
        """
        if self.writer is not None:
            require_own(self.writer, self.request.lease, self.run_ids)
        self._announce()
        self.rows.runs = self._run_rows(stopped or {})
        self._checkpoint()
        self.observers.on_end(self._observed(), self.rows)

    def _announce(self) -> None:
        """Tell the observers that the runs begin, once: Tune may set up a trial in an actor that it
        then does not use."""
        if not self._announced:
            self._announced = True
            self.observers.on_start(self._observed())

    def _observed(self) -> ObservedTrial:
        return ObservedTrial(
            trial_id=self.trial_id,
            sweep=self.writer.sweep if self.writer else None,
            storage=self.writer.storage if self.writer else None,
            algorithm=self.algorithm,
            task=self.task.name,
            run_ids=list(self.run_ids),
            config_ids=list(self.config_ids),
            seeds=list(self.population.seeds),
            configs=[config.to_dict() for config in self.population.configs],
            step=self.population.step,
            steps=self.steps,
        )

    def latest(self) -> Rows:
        """The evaluation rows of the last rung."""
        return [r for r in self.rows.evaluations if r["step"] == self.population.step]

    def _run_rows(self, stopped: Mapping[str, str]) -> Rows:
        rows = []
        for member in range(self.population.size):
            status, steps, reason = "completed", self.steps, None
            diverged_at = self.population.diverged_at[member]
            if diverged_at is not None:
                status, steps = "diverged", diverged_at
                reason = f"a loss was not finite or beyond its bound by step {diverged_at}"
            elif self.run_ids[member] in stopped:
                status, steps = "stopped", self.population.step
                reason = stopped[self.run_ids[member]]
            else:
                reason = self.population.degenerations[member]
            rows.append(
                {
                    "run_id": self.run_ids[member],
                    "config_id": self.config_ids[member],
                    "trial_id": self.trial_id,
                    "algorithm": self.algorithm,
                    "task": self.task.name,
                    "seed": self.population.seeds[member],
                    "status": status,
                    "steps": steps,
                    "train_seconds": self.seconds["train"],
                    "evaluate_seconds": self.seconds["evaluate"],
                    "device": str(self.population.device),
                    "population": self.population.size,
                    "memory_splits": self.memory_splits,
                    "dataset_id": self.dataset.dataset_id,
                    "code_version": self.code_version,
                    "code_digest": self.code_digest,
                    "started_at": self.started_at,
                    "finished_at": datetime.now(UTC),
                    "error": reason,
                    "continued_from": self.continued_from and self.continued_from[member],
                    "config": self.population.configs[member].to_dict(),
                }
            )
        return rows

    def _record_metrics(self) -> None:
        step = self.population.step
        named = [
            {name: float(values[member]) for name, values in losses.items()}
            for losses in [self.population.take_metrics()]
            for member in range(self.population.size)
        ]
        feasibility = feasibility_diagnostics(self.population, self.task, self.dataset)
        own = method_diagnostics(self.population, self.dataset)
        for member, active in enumerate(self.population.active):
            if not active:
                continue
            for name, value in {**named[member], **feasibility[member], **own[member]}.items():
                self.rows.metrics.append(
                    {"run_id": self.run_ids[member], "step": step, "name": name, "value": value}
                )

    def _evaluate(self, policy: str) -> None:
        outcome = self.population.evaluate(policy, self.episodes)
        latency = self._act_latency_ms(policy)
        for member, active in enumerate(self.population.active):
            if active:
                self._record_evaluation(policy, member, outcome, latency)

    def _record_evaluation(
        self, policy: str, member: int, outcome: Episodes, latency: float
    ) -> None:
        step, run = self.population.step, self.run_ids[member]
        rewards = outcome.reward_returns[member]
        costs, lengths = outcome.cost_returns[member], outcome.lengths[member]
        limit = policy_cost_limit(policy, self.cost_limit)
        self.rows.evaluations.append(
            {
                "run_id": run,
                "config_id": self.config_ids[member],
                "algorithm": self.algorithm,
                "task": self.task.name,
                "seed": self.population.seeds[member],
                "step": step,
                "policy": policy,
                "reward_return_mean": float(rewards.mean()),
                "cost_return_mean": float(costs.mean()),
                "normalized_reward": float(self.task.normalize_reward(rewards.mean())),
                "normalized_cost": float(self.task.normalize_cost(costs.mean(), limit)),
                "cost_limit": limit,
                "violation_rate": float((costs > limit).mean()),
                "zero_cost_rate": float((costs == 0).mean()),
                "episode_length_mean": float(lengths.mean()),
                "episodes": len(costs),
                "act_latency_ms": latency,
            }
        )
        for episode, (reward, cost, length) in enumerate(zip(rewards, costs, lengths, strict=True)):
            self.rows.episodes.append(
                {
                    "run_id": run,
                    "step": step,
                    "policy": policy,
                    "episode": episode,
                    "reward_return": float(reward),
                    "cost_return": float(cost),
                    "length": int(length),
                }
            )

    def _act_latency_ms(self, policy: str) -> float:
        """Median wall time of one call that acts once for every member, in milliseconds."""
        act = self.population.policy(policy, 1)
        observation = np.repeat(
            self.dataset.observations[None, :1], self.population.size, axis=0
        ).astype(np.float32)
        times = []
        for step in range(LATENCY_CALLS):
            started = time.perf_counter()
            act(observation, step)
            times.append(time.perf_counter() - started)
        return float(np.median(times) * 1000)

    def _heartbeat(self, waiting: bool = False) -> None:
        if self.writer is None:
            return
        beat = {
            "trial_id": self.trial_id,
            "sweep": self.writer.sweep,
            "algorithm": self.algorithm,
            "task": self.task.name,
            "run_ids": self.run_ids,
            "step": self.population.step,
            "steps": self.steps,
            "seconds": (self.seconds["train"] + self.seconds["evaluate"]) * self.population.size,
            "waiting": waiting,
            "time": datetime.now(UTC).isoformat(),
            "lease": self.request.lease or "",
            **vars(ProcessIdentity.own()),
            **self.pulse.said(self.population.step),
        }
        self.writer.write_bytes(heartbeat_path(self.trial_id), json.dumps(beat).encode())

    def _checkpoint(self) -> None:
        if self.writer is not None:
            self.writer.write_bytes(checkpoint_path(self.trial_id), self.snapshot())

    def snapshot(self) -> bytes:
        """All that going on from here needs: the content of a checkpoint."""
        rows = {name: getattr(self.rows, name) for name in ("evaluations", "episodes", "metrics")}
        return checkpoint_content(
            {
                "population": self.population.state_dict(),
                "run_ids": self.run_ids,
                "rows": json.dumps(rows),
                "seconds": self.seconds,
                "continued_from": self.continued_from,
                "started_at": self.started_at.isoformat(),
                "code_version": self.code_version,
                "code_digest": self.code_digest,
            }
        )

    def restore(self, content: bytes) -> None:
        """Go on from a snapshot, of this trial or of one with as many runs and the same networks.

        The hyperparameters remain those of this trial, as population based training wants it
        (Jaderberg et al., 2017); the rows up to there become rows of these runs.

        Raises:
            InvalidInput: the snapshot is of other runs and this trial writes to a store, where a
                run is what its configuration says.
            DamagedCheckpoint: it cannot be read.
        """
        saved = loaded_checkpoint(content, "the snapshot")
        others = saved["run_ids"] != self.run_ids
        if others and self.writer is not None:
            raise InvalidInput(
                "checkpoint: is of other runs, and a run in a store is what its configuration "
                "says; leave config.storage out to train on with other hyperparameters"
            )
        if len(saved["run_ids"]) != len(self.run_ids):
            raise InvalidInput(
                f"checkpoint: holds {len(saved['run_ids'])} runs, and this trial "
                f"{len(self.run_ids)}"
            )
        self._take(saved)
        if self.population.step >= self.steps:
            self.finish()

    def _take(self, saved: Mapping[str, Any]) -> None:
        self.population.load_state_dict(saved["population"])
        members = {run: number for number, run in enumerate(saved["run_ids"])}
        self.rows = TrialRows()
        for name, entries in json.loads(saved["rows"]).items():
            setattr(self.rows, name, [self._as_own(row, members) for row in entries])
        self.seconds = saved["seconds"]
        self.started_at = datetime.fromisoformat(saved["started_at"])
        self.continued_from = saved.get("continued_from")
        # Of rows that were lost the code is the one that made them.
        self.code_version = saved.get("code_version")
        self.code_digest = saved.get("code_digest")

    def _as_own(self, row: dict[str, Any], members: Mapping[str, int]) -> dict[str, Any]:
        """A row of another trial's run as one of the run in its place."""
        member = members[row["run_id"]]
        own = {"config_id": self.config_ids[member]} if "config_id" in row else {}
        return {**row, "run_id": self.run_ids[member], **own}

    def _resume(self) -> bool:
        """Go on from this trial's own checkpoint; False where there is none, or other code has
        trained to there. One at its end holds the rows of the runs, whatever code that was."""
        saved = self._saved(self.trial_id)
        if saved is None or saved["run_ids"] != self.run_ids:
            return False
        if saved["population"]["step"] < self.steps and not self._is_of_this_code(saved):
            return False
        self._take(saved)
        return True

    def _carry_on(self, shorter: ContinuedTrial) -> None:
        """Go on from a shorter trial's last checkpoint, if it is what was planned.

        The rows up to there become rows of these runs; the time that they took does not, so that
        times add up over the runs of a store.
        """
        saved = self._saved(shorter.trial_id)
        if saved is None or saved["run_ids"] != list(shorter.run_ids):
            return
        if not self._is_of_this_code(saved):
            return
        rows = json.loads(saved["rows"])
        step = saved["population"]["step"]
        evaluated = sorted({row["step"] for row in rows["evaluations"]})
        if evaluated != [rung for rung in self.rungs if rung <= step] or step not in evaluated:
            return
        self.population.load_state_dict(saved["population"])
        members = {run: number for number, run in enumerate(saved["run_ids"])}
        for name, entries in rows.items():
            setattr(self.rows, name, [self._as_own(row, members) for row in entries])
        self.continued_from = saved["run_ids"]

    def _is_of_this_code(self, saved: Mapping[str, Any]) -> bool:
        """Whether the code that trained to a checkpoint is this one; says so where it is not."""
        if saved.get("code_digest") == self.code_digest:
            return True
        step = saved["population"]["step"]
        self._note(
            f"checkpoint: other code has trained {self.trial_id} to step {step} "
            f"({saved.get('code_digest') or 'it does not say which'}, this is {self.code_digest}); "
            "the trial is trained from the start"
        )
        return False

    def _note(self, line: str) -> None:
        self.problems.append(line)
        _log.warning(line)

    def _saved(self, trial_id: str) -> dict[str, Any] | None:
        """The content of a trial's checkpoint; None where there is none, or it is damaged, and set
        aside then."""
        if self.writer is None:
            return None
        try:
            return read_checkpoint(self.writer, trial_id)
        except DamagedCheckpoint as problem:
            place = self.writer.set_aside(checkpoint_path(trial_id), problem)
            self._note(f"{problem}; it is set aside as {place}, and the trial trained without it")
            return None


def evaluation_steps(steps: int, evaluate_every: int) -> list[int]:
    """Every multiple of `evaluate_every` within the budget, and the last step."""
    return sorted({*range(evaluate_every, steps, evaluate_every), steps})


def train(
    algorithm: str,
    task: str,
    configs: Sequence[Mapping[str, Any]] = ({},),
    seeds: Sequence[int] = (0,),
    *,
    steps: int,
    dataset: Dataset | str = "auto",
    evaluate_every: int | None = None,
    episodes: int = 20,
    cost_limit: float | None = None,
    device: str = "auto",
    on_evaluation: Callable[[Rows], None] | None = None,
) -> TrialRows:
    """Train every configuration with every seed as one population, without Ray or a store.

    Args:
        algorithm: a name in ALGORITHMS.
        task: a name in TASKS.
        configs: hyperparameters by name or alias; they must agree in the static ones.
        steps: gradient steps of each run.
        dataset: a loaded one, or where to get it (auto, fetch, collect or a path).
        cost_limit: of an episode; the task's own when not given.
        device: auto, cpu or cuda.
        on_evaluation: called with the rows of each evaluation.

    Raises:
        InvalidInput: an unknown name or a value out of range.
    """
    method = find_method(algorithm)
    found = get_task(task)
    simulator_versions(found)
    require_number("steps", steps, low=1, integer=True)
    require_number("episodes", episodes, low=1, integer=True)
    data = dataset if isinstance(dataset, Dataset) else load_dataset(found.name, dataset)
    resolved = [method.config_class.resolve(values) for values in configs]
    if len({tuple(c.static_values().items()) for c in resolved}) != 1:
        raise InvalidInput("configs: they differ in static hyperparameters; train them separately")
    request = TrialRequest(
        algorithm,
        found.name,
        [c.to_dict() for c in resolved for _ in seeds],
        [seed for _ in resolved for seed in seeds],
        steps,
        evaluate_every,
        episodes,
        cost_limit,
        device,
    )
    trial = Trial(request, found, data)
    while not trial.done:
        trial.advance()
        if on_evaluation is not None:
            on_evaluation(trial.latest())
    return trial.rows
