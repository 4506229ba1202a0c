"""A run's policy from its checkpoint in a store."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map, tree_unflatten

from safesweep.search_spaces.validation import InvalidInput, is_missing, shown
from safesweep.trainables.measurements.confirmation import require_policy
from safesweep.trainables.methods.method import LastStep, Method, policy_cost_limit
from safesweep.trainables.methods.registry import find_method
from safesweep.trainables.policies.policy import Policy
from safesweep.trainables.store.reader import StoreReader
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.training.acting import looked_at, task_problem
from safesweep.trainables.training.checkpoints import run_state
from safesweep.trainables.training.population import STREAMS

Choice = Mapping[str, Any]


class ActingNetwork(torch.nn.Module):
    """What a policy needs of its run, as one module: the tensors that it looks at, as buffers.

    Args:
        state: of the run, without an axis of members; what `looked_at` found.
        hp: the batched hyperparameters, each [].
    """

    def __init__(self, method: Method, policy: str, state: Any, hp: Any) -> None:
        super().__init__()
        self._method, self._policy = method, policy
        found, self._structure = tree_flatten_with_path((state, hp))
        self._names = []
        for place, (path, leaf) in enumerate(found):
            buffer = f"tensor{place}"
            # Of its own: a slice would bring the whole population along.
            self.register_buffer(buffer, leaf.clone())
            self._names.append((buffer, _readable(keystr(path))))
        self.eval()

    def forward(
        self,
        observations: Tensor,
        noise: dict[str, Tensor],
        memory: dict[str, Tensor],
        last: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actions [E, a] within [-1, 1], and the memory for the next step."""
        leaves = [getattr(self, buffer) for buffer, _ in self._names]
        state, hp = tree_unflatten(leaves, self._structure)
        step = LastStep(last[0], last[1])
        actions, after = self._method.act_with_memory(
            self._policy, state, observations, hp, noise, memory, step
        )
        return torch.nan_to_num(actions).clamp(-1, 1), after

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by readable names, such as `params.policy.0.weight`."""
        return {name: getattr(self, buffer) for buffer, name in self._names}


def _readable(path: str) -> str:
    """`[0]['params']['policy'][0]['weight']` as `params.policy.0.weight`."""
    words = path.replace("'", "").replace("]", "").replace(".", "[").split("[")[1:]
    return ".".join(words[1:] if words[0] == "0" else ["hyperparameters", *words[1:]])


def find_row(store: StoreReader, run: str | Choice) -> dict[str, Any]:
    """The row of `runs` of a run, or of the first completed seed of a chosen configuration.

    Raises:
        InvalidInput: an unknown run, or a choice that names no configuration.
    """
    if isinstance(run, str):
        found, words = store.runs(run_id=run), f"run {shown(run)}"
    else:
        config_id = run.get("config_id")
        if is_missing(config_id):
            raise InvalidInput("run: nothing was chosen; the choice names no configuration")
        found = store.runs(config_id=config_id, status="completed").sort_values("seed")
        words = f"a completed run of configuration {shown(config_id)}"
    if found.empty:
        raise InvalidInput(f"run: the store at {store.uri!r} does not hold {words}")
    return {str(name): value for name, value in found.iloc[0].to_dict().items()}


def load_policy(
    store: str | Path | StoreReader, run: str | Choice, policy: str | None = None
) -> Policy:
    """A trained policy: `load_policy(store, run).act(observation)`.

    Args:
        store: the store, or where it is.
        run: a run's id, or a row of `safesweep.select`, of whose configuration the first seed is
            taken.
        policy: one of the method's; by default the chosen one, or that by which it is judged.

    Raises:
        InvalidInput: an unknown run or policy, or a run without a checkpoint.
    """
    network, description = acting_network(store, run, policy)
    return Policy(network, description)


def acting_network(
    store: str | Path | StoreReader, run: str | Choice, policy: str | None = None
) -> tuple[ActingNetwork, dict[str, Any]]:
    """The network of a policy, and the description that `Policy` needs. See `load_policy`."""
    reader = store if isinstance(store, StoreReader) else StoreReader(store)
    if not isinstance(run, str):
        run = {str(name): value for name, value in dict(run).items()}
        policy = policy or run.get("policy")
    row = find_row(reader, run)
    if is_missing(row["config"]):
        raise InvalidInput(f"run: {row['run_id']} was not trained here, and has no policy to load")
    method_class, task = find_method(str(row["algorithm"])), get_task(str(row["task"]))
    values = json.loads(row["config"])
    config = method_class.config_class.resolve(values)
    limit = _cost_limit(reader, str(row["run_id"]), task.cost_limit)
    method = method_class(config, task_problem(task, limit))
    name = policy or method.evaluated_policies[0]
    require_policy(method_class, values, name)
    writer = ResultWriter(reader.location, str(row["sweep"]))
    stacked, step = run_state(writer, str(row["trial_id"]), str(row["run_id"]))
    state = tree_map(lambda leaf: leaf[0] if isinstance(leaf, Tensor) else leaf, stacked)
    hp = config.hyperparameters_type()(
        **{key: torch.tensor(float(value)) for key, value in config.batched_values().items()}
    )
    needed = looked_at(method, name, state, hp).looked_up(state)
    network = ActingNetwork(method, name, needed, hp)
    description = {
        "run_id": row["run_id"],
        "config_id": row["config_id"],
        "sweep": row["sweep"],
        "algorithm": row["algorithm"],
        "policy": name,
        "task": task.name,
        "seed": int(row["seed"]),
        "step": step,
        "dataset_id": row["dataset_id"],
        "code_version": row["code_version"],
        "cost_limit": policy_cost_limit(name, limit),
        "observation_dim": task.observation_dim,
        "action_dim": task.action_dim,
        "hyperparameters": config.to_dict(),
        "noise": {
            key: {"shape": list(noise.shape), "distribution": noise.distribution}
            for key, noise in method.act_noise(name).items()
        },
        "memory": {
            key: {"value": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
            for key, value in method.begin_episode(name, hp).items()
        },
        # The stream of the run's last evaluation (`Population.policy`).
        "noise_entropy": [int(row["seed"]), STREAMS["act"], step],
    }
    return network, description


def _cost_limit(store: StoreReader, run_id: str, otherwise: float) -> float:
    """The limit by which the run was judged."""
    limits = store.evaluations(["cost_limit"], run_id=run_id)["cost_limit"].dropna()
    return float(limits.iloc[0]) if len(limits) else otherwise
