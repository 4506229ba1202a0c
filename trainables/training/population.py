"""A population: runs of one method that share shapes, trained together in one process.

`torch.func.vmap` lifts the method's pure functions over a leading axis of members. Minibatch
indices and noise come from generators that each run owns and that are seeded by (seed, stream,
block), so a run's result does not depend on who shares its population, and any step can be
resumed without generator state.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.networks import is_large, matmul_precision
from safesweep.trainables.components.schedules import cosine
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods.method import (
    Method,
    Optimization,
    Phase,
    ProblemSpec,
    Progress,
    StepInputs,
    StepOutputs,
)
from safesweep.trainables.methods.registry import find_method
from safesweep.trainables.tasks.processes import worthwhile_processes
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.tasks.simulator import Episodes
from safesweep.trainables.training.acting import (
    Policy,
    draw_noise,
    looked_at,
    over_members,
    task_problem,
)
from safesweep.trainables.training.devices import pick_device
from safesweep.trainables.training.online import collect_transitions
from safesweep.trainables.training.optimizer import (
    adam_,
    adam_of_some_,
    clipped,
    decay_,
    differentiable,
    gradients_of,
    init_adam,
    one_a_leaf,
    polyak_,
)
from safesweep.trainables.training.request import TrialRequest

BLOCK_STEPS = 32
DIVERGENCE_BOUND = 1e12
EMPTY_SHARE = 0.01
"""Below it a feasible set counts as empty."""
DEGENERATION_PAIRS = 4000
CHEAP_TO_ACT = 200e6
"""Floating-point operations of all policies for one observation each, some milliseconds' work."""
STREAMS = {"init": 0, "train": 1, "act": 2, "episodes": 3, "diagnose": 4, "online": 5}


_log = logging.getLogger("safesweep")


def seeded_generator(seed: int, stream: str, *index: int) -> torch.Generator:
    """A generator that depends on nothing but its arguments."""
    sequence = np.random.SeedSequence([seed, STREAMS[stream], *index])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]) >> 1)


def problem_spec(task: Task, dataset: Dataset, cost_limit: float) -> ProblemSpec:
    """What a method is told of its problem where it learns from a dataset."""
    return replace(
        task_problem(task, cost_limit),
        observation_dim=dataset.observations.shape[1],
        action_dim=dataset.actions.shape[1],
    )


def dataset_tensors(dataset: Dataset) -> dict[str, Tensor]:
    """The dataset's columns as float32 tensors, with `safe_episodes` marking zero-cost episodes."""
    columns = {
        name: getattr(dataset, name)
        for name in (
            "observations", "next_observations", "actions", "rewards", "costs",
            "terminals", "timeouts",
        )
    }  # fmt: skip
    if dataset.safety_margins is not None:
        columns["safety_margins"] = dataset.safety_margins
    columns["safe_episodes"] = np.repeat(dataset.cost_returns() == 0, dataset.episode_lengths)
    return {name: torch.tensor(np.asarray(v, dtype=np.float32)) for name, v in columns.items()}


def training_rows(data: Mapping[str, Tensor]) -> Tensor:
    """Rows that minibatches are drawn from: all but those whose `held_out` is not zero."""
    if "held_out" in data:
        return torch.nonzero(data["held_out"] == 0).squeeze(-1)
    return torch.arange(len(next(iter(data.values()))))


class Members(NamedTuple):
    """Members that step together, or a single one without the members' axis (`size` is None).

    Tensors are those of the population, or views of them: training writes into them.
    """

    state: Any
    optimizer: dict[str, Any]
    hp: Any
    size: int | None


class Population:
    """Members train in lockstep; `advance`, `evaluate` and `state_dict` are all one needs.

    Args:
        request: the members: their configurations, which agree in the static fields, and seeds;
            and the whole budget in gradient steps, which the phases divide.
        task: the one that the request names.
        dataset: what the members learn from.
        method_class: the method, where it is not registered under the request's name.
    """

    def __init__(
        self,
        request: TrialRequest,
        task: Task,
        dataset: Dataset,
        method_class: type[Method] | None = None,
    ) -> None:
        method_class = method_class or find_method(request.algorithm)
        configs = [method_class.config_class.resolve(dict(values)) for values in request.configs]
        if len({tuple(c.static_values().items()) for c in configs}) != 1:
            raise ValueError("members of a population must share their static hyperparameters")
        self.configs, self.seeds, self.task = configs, list(request.seeds), task
        self.steps, self.step = request.steps, 0
        self.device = torch.device(pick_device(request.device))
        cost_limit = task.limit_or_own(request.cost_limit)
        self.method = method_class(configs[0], problem_spec(task, dataset, cost_limit))
        columns = dataset_tensors(dataset)
        self._safe_share = float(columns["safe_episodes"].mean())
        tensors = self.method.prepare(columns)
        self.data = {name: column.to(self.device) for name, column in tensors.items()}
        self.training_rows = training_rows(tensors)
        self._sampling = sampling_bounds(tensors, self.training_rows)
        self.hp = configs[0].hyperparameters_type()(
            **{
                name: torch.tensor([float(getattr(c, name)) for c in configs], device=self.device)
                for name in configs[0].field_names("batched")
            }
        )
        states = [self.method.init(seeded_generator(seed, "init")) for seed in self.seeds]
        self.state = tree_map(lambda *leaves: torch.stack(leaves).to(self.device), *states)
        if type(self.method).begin is not Method.begin:
            begun = over_members(self.method.begin, self.size)(self.state, self.hp)
            # Training writes into the state: no two entries may share memory.
            self.state = tree_map(_copy, begun)
        self.optimizers = {
            phase.name: init_adam(self._trained(phase)) for phase in self.method.phases
        }
        self.diverged_at: list[int | None] = [None] * self.size
        self.degenerations: list[str | None] = [None] * self.size
        self._metric_sums: dict[str, Tensor] = {}
        self._metric_steps = 0
        self._known_flops: dict[tuple[str, int], int] = {}
        self._block: tuple[tuple[int, int], dict[str, Tensor]] | None = None
        self._compiled = request.compiled
        self._compiled_step: Callable[..., dict[str, Tensor]] | None = None
        self._boundaries = phase_boundaries(self.method, self.steps)
        self._parts = self.method.minibatch_parts if self.device.type == "cpu" else 1
        noisy = any(self.method.noise(phase.name) for phase in self.method.phases)
        if self._parts > 1 and (noisy or self.state.get("moving")):
            raise ValueError(
                f"{self.method.name}: minibatch_parts: {self._parts} is not allowed of losses with "
                "noise or with numbers that move without a gradient"
            )

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.seeds)

    @property
    def active(self) -> list[bool]:
        """Which members have not diverged."""
        return [step is None for step in self.diverged_at]

    def advance(self, until: int) -> None:
        """Train up to gradient step `until` of the budget."""
        until = min(until, self.steps)
        while self.step < until and any(self.active):
            phase, start, end = next(b for b in self._boundaries if self.step < b[2])
            block, offset = divmod(self.step - start, BLOCK_STEPS)
            stop = min(until, end, start + (block + 1) * BLOCK_STEPS)
            if phase.online:
                round_, taken = divmod(self.step - start, self.task.horizon)
                if taken == 0:
                    self._collect(start, min(self.task.horizon, end - self.step))
                stop = min(stop, start + (round_ + 1) * self.task.horizon)
            self._run_block(phase, start, block, offset, stop - self.step)
            if stop == end:
                if phase.concludes:
                    self._finish_phase(phase)
                self._note_empty_feasible_sets(phase)
        self.step = max(self.step, until)

    def _collect(self, start: int, steps: int) -> None:
        """Have every run act in the environment, and take in what it saw."""

        def seed_of(member: int, begun: int) -> int:
            sequence = [self.seeds[member], STREAMS["online"], start, self.step, begun]
            return int(np.random.SeedSequence(sequence).generate_state(1)[0])

        act = self.policy(self.method.evaluated_policies[0], 1)
        found = collect_transitions(self.task, act, self.size, steps, seed_of)
        columns = {
            name: torch.as_tensor(np.asarray(values, dtype=np.float32), device=self.device)
            for name, values in found.items()
        }

        def of(member: int, tree: Any) -> Any:
            return tree_map(lambda leaf: leaf[member], tree)

        with torch.no_grad():
            states = [
                self.method.take_in(of(m, self.state), of(m, columns), of(m, self.hp))
                for m in range(self.size)
            ]
            self.state = tree_map(lambda *leaves: torch.stack(leaves), *states)

    def _run_block(self, phase: Phase, start: int, block: int, offset: int, count: int) -> None:
        before = tree_map(_copy, self._changing(phase))
        draws = self._draw(phase.name, start, block)
        steps = range(offset, offset + count)
        progress = self._progress(start, block, steps)
        if self.use_vmap:
            members = Members(self.state, self.optimizers[phase.name], self.hp, self.size)
            sums = self._train(phase, members, draws, steps, progress)
        else:
            sums = self.train_separately(phase, draws, steps, progress)
            self.optimizers[phase.name]["count"] += count
        self.step += count
        self.freeze_diverged(phase, before, sums, count)

    def _changing(self, phase: Phase) -> tuple[Any, ...]:
        """What a gradient step writes to."""
        target = self.state.get("target", {})
        slow = {name: target[name] for name in phase.trains if name in target}
        moving = self.state.get("moving", {})
        return self._trained(phase), slow, moving, self.optimizers[phase.name]

    def _progress(self, start: int, block: int, steps: range) -> list[Progress]:
        """How far the phase that begins at `start` is before each of a block's steps."""
        first = block * BLOCK_STEPS + steps.start
        taken = torch.arange(first, first + len(steps), dtype=torch.float32, device=self.device)
        length = None
        if self.configs[0].looks_at_budget:
            end = next(end for _, begin, end in self._boundaries if begin == start)
            length = torch.tensor(float(end - start), device=self.device)
        return [Progress(step, length) for step in taken]

    @property
    def use_vmap(self) -> bool:
        """Whether one `vmap` steps all members, or each steps by itself.

        Together they pay for each operation's start once. On a CPU it is the other way round where
        an operation of one member is work enough: then its results stay in the cache, and members
        can run side by side.
        """
        static = self.method.static
        large = is_large(static.batch_size, static.hidden_dim) and self.device.type == "cpu"
        return (self.size > 1 or self._compiled) and not large and self._parts == 1

    def train_separately(
        self, phase: Phase, draws: dict[str, Tensor], steps: range, progress: list[Progress]
    ) -> dict[str, Tensor]:
        """Train each member by itself, as many at a time as there are threads.

        A minibatch that is worked on in parts keeps all threads busy: there one member at a time is
        as fast, and a member's intermediate results, gigabytes, are there once.
        """

        def train(member: int) -> dict[str, Tensor]:
            own = {name: draw[:, member] for name, draw in draws.items()}
            return self._train(phase, self._member(phase, member), own, steps, progress)

        active = [member for member, well in enumerate(self.active) if well]
        threads = torch.get_num_threads()
        if threads == 1 or len(active) == 1 or self._parts > 1:
            results = [train(member) for member in active]
        else:
            torch.set_num_threads(1)
            try:
                with ThreadPoolExecutor(threads) as pool:
                    results = list(pool.map(train, active))
            finally:
                torch.set_num_threads(threads)
        sums = {}
        for name, example in results[0].items():
            sums[name] = torch.zeros(self.size, device=example.device)
            sums[name][active] = torch.stack([result[name] for result in results])
        return sums

    def _member(self, phase: Phase, member: int) -> "Members":
        def own(leaf: Any) -> Any:
            return leaf[member] if isinstance(leaf, Tensor) else leaf

        state, optimizer, hp = tree_map(own, (self.state, self.optimizers[phase.name], self.hp))
        return Members(state, optimizer, hp, None)

    def _train(
        self,
        phase: Phase,
        members: "Members",
        draws: dict[str, Tensor],
        steps: range,
        progress: list[Progress],
    ) -> dict[str, Tensor]:
        """Gradient steps in place; returns the sums of their metrics."""
        sums: dict[str, Tensor] = {}
        gradient_step = self._step_of(members)
        for index, so_far in zip(steps, progress, strict=True):
            batch = self.method.gather(self.data, draws["indices"][index])
            noise = {name: draw[index] for name, draw in draws.items() if name != "indices"}
            for name, value in gradient_step(phase, members, batch, noise, so_far).items():
                sums[name] = sums[name] + value if name in sums else value
        return sums

    def _step_of(self, members: "Members") -> Callable[..., dict[str, Tensor]]:
        """`_gradient_step`, or what it was compiled to."""
        if not self._compiled or members.size is None:
            return self._gradient_step
        if self._compiled_step is None:
            from safesweep.trainables.training.compilation import (
                compiled,  # takes seconds to import
            )

            self._compiled_step = compiled(self._gradient_step)
        return self._compiled_step

    def _gradient_step(
        self,
        phase: Phase,
        members: "Members",
        batch: dict[str, Tensor],
        noise: dict[str, Tensor],
        progress: Progress,
    ) -> dict[str, Tensor]:
        """One step of some members; metrics [P], or [] of a single one, still on the device."""

        def loss(params: Any, state: Any, batch: Any, hp: Any, noise: Any) -> StepOutputs:
            inputs = StepInputs(params, state, batch, hp, noise, progress)
            return self.method.losses[phase.name](inputs)

        state, hp = members.state, members.hp
        trained = {name: state["params"][name] for name in phase.trains}
        networks = differentiable(trained)
        params = {**state["params"], **networks}
        lifted = loss if members.size is None else over_members(loss, members.size)
        moving = phase.moving(members.optimizer["count"]) if phase.every else phase.trains
        trained = {name: trained[name] for name in moving}
        gradients: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for part in self._parts_of(batch):
            with matmul_precision(self.device.type, self.method.static.matmul_precision):
                losses, found, moved = lifted(params, state, part, hp, noise)
            if moving:
                more = gradients_of(losses, {name: networks[name] for name in moving})
                gradients = list(map(torch.add, gradients, more)) if gradients else more
            for name, value in found.items():
                before = metrics.get(name)
                metrics[name] = value.detach() if before is None else before + value.detach()
        with torch.no_grad():
            chosen = self._optimization(phase, members, progress)
            factor = self._schedule(progress)
            rate: Any = hp.learning_rate if factor is None else hp.learning_rate * factor
            if chosen.learning_rates:
                own_rates = chosen.learning_rates
                if factor is not None:
                    own_rates = {name: own * factor for name, own in own_rates.items()}
                rate = one_a_leaf(own_rates, trained, rate)
            if chosen.gradient_norms:
                gradients = clipped(gradients, trained, chosen.gradient_norms)
            if chosen.weight_decays:
                decay_(trained, rate, chosen.weight_decays)
            if phase.every:
                adam_of_some_(trained, gradients, members.optimizer, rate, phase.every)
            else:
                adam_(trained, gradients, members.optimizer, rate)
            for name, target in state.get("target", {}).items():
                if name in trained:
                    own = chosen.target_rates.get(name)
                    polyak_(target, trained[name], hp.target_update_rate if own is None else own)
            for name, value in moved.items():
                state["moving"][name].copy_(value)
        return metrics

    def _parts_of(self, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
        """The minibatch of one member, in the parts in which it is worked on."""
        if self._parts == 1:
            return [batch]
        parts = [column.tensor_split(self._parts) for column in batch.values()]
        return [dict(zip(batch, part, strict=True)) for part in zip(*parts, strict=True)]

    def _schedule(self, progress: Progress) -> Tensor | None:
        """What multiplies every learning rate in this step; None where nothing does."""
        if self.method.static.learning_rate_schedule == "constant":
            return None
        assert progress.steps is not None
        return cosine(progress.step, progress.steps)

    def _optimization(self, phase: Phase, members: "Members", progress: Progress) -> Optimization:
        """How the networks of each member move."""
        if type(self.method).optimization is Method.optimization:
            return Optimization()

        def optimization(hp: Any) -> Optimization:
            return self.method.optimization(phase.name, hp, progress)

        if members.size is None:
            return optimization(members.hp)
        found: Optimization = over_members(optimization, members.size)(members.hp)
        return found

    def _trained(self, phase: Phase) -> dict[str, Any]:
        return {name: self.state["params"][name] for name in phase.trains}

    def _finish_phase(self, phase: Phase) -> None:
        def finish(state: Any, hp: Any) -> Any:
            return self.method.finish_phase(phase.name, state, self.data, hp)

        with torch.no_grad():
            self.state = over_members(finish, self.size)(self.state, self.hp)

    def _note_empty_feasible_sets(self, phase: Phase) -> None:
        """Say once of which members hardly any pair of the data is feasible: what they learn from
        feasible pairs alone, they do not learn."""
        count = len(self.data["observations"])
        chosen = torch.linspace(0, count - 1, min(count, DEGENERATION_PAIRS)).long()
        some = {name: column[chosen.to(self.device)] for name, column in self.data.items()}
        one = {name: column[:1] for name, column in some.items()}
        first, probe = (tree_map(lambda leaf: leaf[0], whole) for whole in (self.state, self.hp))
        with torch.no_grad():
            if self.method.feasible_pairs(first, one, probe) is None:
                return

            def share(state: Any, hp: Any) -> Tensor:
                feasible = self.method.feasible_pairs(state, some, hp)
                assert feasible is not None
                return feasible.float().mean()

            shares = over_members(share, self.size)(self.state, self.hp).tolist()
        fresh = []
        for member, value in enumerate(shares):
            if value < EMPTY_SHARE and self.active[member] and not self.degenerations[member]:
                fresh.append(self.seeds[member])
                self.degenerations[member] = (
                    f"degenerate: at the end of phase {phase.name} (step {self.step}) "
                    f"{value:.2%} of the data's pairs are feasible by its critic; "
                    f"{self._safe_share:.0%} lie in episodes without cost"
                )
        if fresh:
            _log.warning(
                "%s on %s: hardly any pair of the data is feasible at the end of phase %s, for %d "
                "of %d runs (seeds %s)",
                self.method.name, self.task.name, phase.name, len(fresh), self.size,
                ", ".join(map(str, sorted(set(fresh)))),
            )  # fmt: skip

    def freeze_diverged(
        self, phase: Phase, before: Any, sums: dict[str, Tensor], count: int
    ) -> None:
        """Freeze the members that left the numbers' range, and take in the block's metrics."""
        if self._metric_sums.keys() != sums.keys():
            self._metric_sums, self._metric_steps = {}, 0
        for name, value in sums.items():
            self._metric_sums[name] = self._metric_sums.get(name, 0) + value
        self._metric_steps += count
        watched = torch.stack([value for name, value in sums.items() if name.startswith("loss/")])
        healthy = torch.isfinite(watched) & (watched.abs() < DIVERGENCE_BOUND * count)
        keep = healthy.all(0).cpu() & torch.tensor(self.active)
        for member, well in enumerate(keep.tolist()):
            if not well and self.diverged_at[member] is None:
                self.diverged_at[member] = self.step
        if not bool(keep.all()):
            self._restore(phase, ~keep.to(self.device), before)

    def _restore(self, phase: Phase, chosen: Tensor, before: Any) -> None:
        """Put the chosen members back to where they were; step counts stay the population's."""
        leaves = zip(tree_leaves(self._changing(phase)), tree_leaves(before), strict=True)
        for new, old in leaves:
            if isinstance(new, Tensor):
                new[chosen] = old[chosen]

    def _draw(self, phase: str, start: int, block: int) -> dict[str, Tensor]:
        """Indices [K, P, B] and noise [K, P, ...] of a block, each member's from its own seed."""
        if self._block is not None and self._block[0] == (start, block):
            return self._block[1]
        wanted = self.method.noise(phase)
        batch = (BLOCK_STEPS, self.method.static.batch_size)
        members = []
        for seed in self.seeds:
            generator = seeded_generator(seed, "train", start, block)
            picks = draw_rows(self.training_rows, self._sampling, batch, generator)
            draw = {"indices": picks}
            for name, noise in wanted.items():
                draw[name] = draw_noise(noise, (BLOCK_STEPS,), generator)
            members.append(draw)
        draws = {
            name: torch.stack([m[name] for m in members], dim=1).to(self.device)
            for name in members[0]
        }
        self._block = ((start, block), draws)
        return draws

    def take_metrics(self) -> dict[str, NDArray[Any]]:
        """Means [P] of the losses since the last call."""
        steps = max(self._metric_steps, 1)
        taken = {name: (v / steps).cpu().numpy() for name, v in self._metric_sums.items()}
        self._metric_sums, self._metric_steps = {}, 0
        return taken

    def policy(self, name: str, episodes: int) -> Policy:
        """`act(observations [M, E, o], step, members, chosen) -> actions [M, E, a]`, at once for
        all members or a slice of them, and for all episodes or the chosen slice of them."""
        wanted = self.method.act_noise(name)

        def draw(step: int, members: slice, chosen: slice) -> dict[str, Tensor]:
            if not wanted:
                return {}
            seeds = self.seeds[members]
            generators = [seeded_generator(seed, "act", self.step, step) for seed in seeds]
            return {
                key: torch.stack([draw_noise(n, (episodes,), g)[chosen] for g in generators])
                for key, n in wanted.items()
            }

        state = self._state_for_acting(name)
        return Policy(self.method, name, state, self.hp, draw, self.device)

    def _state_for_acting(self, policy: str) -> Any:
        """The part of the members' state that a policy looks at.

        What `vmap` is given it takes apart and puts together at every call, and most of the state
        is for training: with all of it, that is more than half of the time of an action.
        """
        first, hp = tree_map(lambda leaf: leaf[0], (self.state, self.hp))
        return looked_at(self.method, policy, first, hp).looked_up(self.state)

    def evaluate(self, policy: str, episodes: int) -> Episodes:
        """Roll every member's policy out in the task's simulator: arrays [P, episodes].

        Every run of every sweep meets the same starts, so that runs differ by what they learned
        and not by where they were put down. A policy's noise is its own.
        """
        seeds = np.random.SeedSequence([STREAMS["episodes"]]).generate_state(episodes)
        act = self.policy(policy, episodes)
        # A trial's CPUs train and simulate in turn.
        threads = torch.get_num_threads()
        processes = worthwhile_processes(self.task, self.size * episodes, threads)
        if processes > 1 and self._flops_to_act(policy, act) < CHEAP_TO_ACT:
            # Several threads stay awake for the next operation, where others have to simulate.
            torch.set_num_threads(1)
        try:
            return rollout(self.task, act, self.size, seeds, processes, spread=True)
        finally:
            torch.set_num_threads(threads)

    def _flops_to_act(self, policy: str, act: Any) -> int:
        """Floating-point operations of a policy of all members for one observation each."""
        from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

        key = policy, self.size
        if key not in self._known_flops:
            observations = np.zeros((self.size, 1, self.task.observation_dim), dtype=np.float32)
            with FlopCounterMode(display=False) as counter:
                act(observations, 0, slice(None), slice(0, 1))
            self._known_flops[key] = counter.get_total_flops()
        return self._known_flops[key]

    def feasibility_values(self, observations: NDArray[Any]) -> NDArray[Any] | None:
        """V_h [P, E] of every member at the same `observations` [E, o]."""
        shared = torch.as_tensor(np.asarray(observations, dtype=np.float32), device=self.device)
        first = tree_map(lambda leaf: leaf[0], self.state)
        probe = tree_map(lambda value: value[0], self.hp)
        with torch.no_grad():
            if self.method.feasibility_value(first, shared[:1], probe) is None:
                return None

            def one(state: Any, hp: Any) -> Tensor:
                value = self.method.feasibility_value(state, shared, hp)
                assert value is not None
                return value

            values: Tensor = over_members(one, self.size)(self.state, self.hp)
            return values.cpu().numpy()

    def diagnose(self, observations: NDArray[Any], draws: int) -> dict[str, NDArray[Any]]:
        """The method's own diagnostics [P] at `observations` [S, o], with `draws` a state."""
        states = torch.as_tensor(observations, device=self.device)
        wanted = self.method.act_noise(self.method.evaluated_policies[0])
        generators = [seeded_generator(seed, "diagnose", self.step) for seed in self.seeds]
        noise = {
            name: torch.stack([draw_noise(n, (len(states), draws), g) for g in generators])
            for name, n in wanted.items()
        }

        def one(state: Any, hp: Any, noise: Any) -> Any:
            return self.method.diagnose(state, states, hp, noise)

        with torch.no_grad():
            found = over_members(one, self.size)(
                self.state, self.hp, tree_map(lambda v: v.to(self.device), noise)
            )
        return {name: value.cpu().numpy() for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs, as tensors and plain values."""
        return {
            "state": self.state,
            "optimizers": self.optimizers,
            "step": self.step,
            "diverged_at": list(self.diverged_at),
            "degenerations": list(self.degenerations),
            "metric_sums": self._metric_sums,
            "metric_steps": self._metric_steps,
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.state, self.optimizers = tree_map(
            lambda leaf: leaf.to(self.device) if isinstance(leaf, Tensor) else leaf,
            (saved["state"], saved["optimizers"]),
        )
        self.step, self.diverged_at = saved["step"], list(saved["diverged_at"])
        # Checkpoints of older versions have none.
        self.degenerations = list(saved.get("degenerations", [None] * self.size))
        self._metric_sums, self._metric_steps = (dict(saved["metric_sums"]), saved["metric_steps"])

    def part(self, members: Sequence[int]) -> Self:
        """A population of some of the members, as far as they are trained; it shares the data."""
        index = torch.tensor(members, device=self.device)

        def pick(leaf: Any) -> Any:
            return leaf.index_select(0, index) if isinstance(leaf, Tensor) else leaf

        part = copy.copy(self)
        part.configs = [self.configs[member] for member in members]
        part.seeds = [self.seeds[member] for member in members]
        part.diverged_at = [self.diverged_at[member] for member in members]
        part.degenerations = [self.degenerations[member] for member in members]
        part.hp, part.state, part.optimizers, part._metric_sums = tree_map(
            pick, (self.hp, self.state, self.optimizers, self._metric_sums)
        )
        part._block = part._compiled_step = None
        return part

    def member_state(self, member: int) -> Any:
        """One run's plain state, without the population axis."""
        return tree_map(lambda leaf: leaf[member].clone(), self.state)


def sampling_bounds(data: Mapping[str, Tensor], rows: Tensor) -> Tensor | None:
    """Of rows with a `sampling_weight`, the upper ends of their shares of [0, 1], float64; None
    where all are equally likely.

    Raises:
        InvalidInput: a weight is negative or not finite, or none is positive.
    """
    if "sampling_weight" not in data:
        return None
    weights = data["sampling_weight"][rows].double()
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise InvalidInput(
            "sampling_weight: weights must be finite and not negative, and some positive; they are "
            f"between {float(weights.min()):g} and {float(weights.max()):g}"
        )
    bounds = weights.cumsum(0)
    return bounds / bounds[-1]


def draw_rows(
    rows: Tensor, bounds: Tensor | None, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Rows [*shape], with replacement: equally likely, or as likely as their shares say."""
    if bounds is None:
        return rows[torch.randint(len(rows), shape, generator=generator)]
    # A row whose share is empty is never drawn: the first upper end above the number is another's.
    uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
    return rows[torch.searchsorted(bounds, uniform, right=True)]


def _copy(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def phase_boundaries(method: Method, steps: int) -> list[tuple[Phase, int, int]]:
    """(phase, first step, end) along the budget, by the phases' shares, each at least one step."""
    phases = method.phases
    boundaries, start, share = [], 0, 0.0
    for index, phase in enumerate(phases):
        share += phase.share
        after = len(phases) - 1 - index
        end = steps if after == 0 else math.floor(share * steps + 0.5)
        end = min(max(end, start + 1), steps - after)
        if end <= start:
            raise InvalidInput(f"steps: {steps!r} is not allowed; it must be >= {len(phases)}")
        boundaries.append((phase, start, end))
        start = end
    return boundaries
