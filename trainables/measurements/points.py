"""Points for two-dimensional figures, measured on the networks that a sweep has trained.

A view takes one run, loaded from its checkpoint, and gives rows (view, point, quantity, value).
"""

import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas
import torch
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError
from torch import Tensor
from torch.utils._pytree import tree_map

from safesweep.search_spaces.validation import require_choice
from safesweep.trainables.components.critics import evaluate_ensemble
from safesweep.trainables.components.latent_refiner import EXPERTS
from safesweep.trainables.components.networks import gaussian_log_density, mlp
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.data.sources import load_dataset
from safesweep.trainables.measurements.bandit import bandit_dataset, bandit_task
from safesweep.trainables.measurements.point_tables import COLUMNS, PointRequest, write_points
from safesweep.trainables.methods.flrp import decode_base
from safesweep.trainables.methods.registry import ALGORITHMS
from safesweep.trainables.store.writer import ResultWriter
from safesweep.trainables.tasks.registry import get_task
from safesweep.trainables.tasks.rollout import rollout
from safesweep.trainables.training.checkpoints import load_run
from safesweep.trainables.training.population import Population

Row = tuple[str, int, str, float]
View = Callable[[Population, Dataset, PointRequest], Iterator[Row]]
Array = NDArray[np.floating[Any]]

GRID = 31
DRAWS = 200
EXPERT_STEPS = 3
# Steps and weights of the toy of FLP's figure 2, which prints neither.
BANDIT_STRENGTHS = {"flp": (0.01, 0.1, 1.0, 10.0), "safefql": (0.1, 1.0, 10.0, 100.0)}
_STREAM = 200


def measure_points(storage: str, request: PointRequest, runs: pandas.DataFrame) -> None:
    """Measure a view and write its table.

    Args:
        storage: the store, which holds the runs' checkpoints.
        runs: rows of the table `runs`; those that are not completed are left out.

    Raises:
        InvalidInput: no such view, a checkpoint is missing or is another run's, or the data is not
            that of the runs.
    """
    if request.view == "bandit":
        write_points(storage, request.name, _bandit_points(request))
        return
    view = VIEWS[require_choice("view", request.view, VIEWS)]
    writer = ResultWriter(storage, request.sweep)
    rows: list[dict[str, Any]] = []
    datasets: dict[str, Dataset] = {}
    for run in runs[runs["status"] == "completed"].to_dict("records"):
        task = str(run["task"])
        if task not in datasets:
            datasets[task] = load_dataset(task, request.source)
        population = load_run(writer, run, datasets[task])
        keys = {"run_id": run["run_id"], "seed": run["seed"], "task": task}
        with torch.no_grad():
            rows += [
                {**keys, "view": name, "point": point, "quantity": quantity, "value": value}
                for name, point, quantity, value in view(population, datasets[task], request)
            ]
    write_points(storage, request.name, pandas.DataFrame(rows, columns=list(COLUMNS)))


def _one(population: Population) -> tuple[Any, Any]:
    """State and hyperparameters of the single member, without the population axis."""
    state = tree_map(lambda leaf: leaf[0], population.state)
    return state, tree_map(lambda value: value[0], population.hp)


def _some_states(dataset: Dataset, count: int) -> Tensor:
    chosen = np.unique(np.linspace(0, len(dataset) - 1, count).astype(int))
    return torch.as_tensor(dataset.observations[chosen])


def _draws(population: Population, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(_STREAM + population.seeds[0])
    return torch.randn(shape, generator=generator)


def _plane(centre: Tensor) -> Tensor:
    """Actions [GRID^2, a] over the first two dimensions, the others as in `centre` [a]."""
    axis = torch.linspace(-1, 1, GRID)
    first, second = torch.meshgrid(axis, axis, indexing="ij")
    actions = centre.expand(GRID * GRID, -1).clone()
    actions[:, 0], actions[:, 1] = first.reshape(-1), second.reshape(-1)
    return actions


def _rows(view: str, **columns: Tensor | Array) -> Iterator[Row]:
    for quantity, values in columns.items():
        for point, value in enumerate(np.asarray(values, dtype=np.float64)):
            yield view, point, quantity, float(value)


def flrp_refinement(
    population: Population, dataset: Dataset, request: PointRequest
) -> Iterator[Row]:
    """FLRP's figure 2: values and density over the action plane of one state, and what each expert
    does alone, there step by step and at `size` states on average.

    The state is the feasible one of the data that is nearest to the border of the feasible set.
    """
    state, hp = _one(population)
    params = state["params"]
    experts: Any = population.method
    states = _some_states(dataset, request.size)
    values = experts.feasibility_value(state, states, hp)
    feasible = torch.where(values <= 0, values, -torch.inf)
    here = states[int(feasible.argmax())]
    latents = _draws(population, DRAWS, experts.static.latent_dim)

    means = decode_base(params, here.expand(DRAWS, -1), latents)
    actions = _plane(means.mean(0))
    yield from _rows("plane", action_1=actions[:, 0], action_2=actions[:, 1])
    yield from _rows("plane", **_flrp_values(experts, params, here, actions, latents))
    for name in EXPERTS:
        if f"{name}_expert" not in params:
            continue
        base = latents[:8]
        for step in range(EXPERT_STEPS + 1):
            path = decode_base(params, here.expand(len(base), -1), base)
            yield from _rows(f"{name} step {step}", action_1=path[:, 0], action_2=path[:, 1])
            base = _moved(params, name, here, base)
        changes: dict[str, list[float]] = {}
        for observation in states:
            start = latents[:32]
            moved = start
            for _ in range(EXPERT_STEPS):
                moved = _moved(params, name, observation, moved)
            places = [decode_base(params, observation.expand(32, -1), u) for u in (start, moved)]
            ends = [_flrp_values(experts, params, observation, a, latents) for a in places]
            for quantity, before in ends[0].items():
                change = (ends[1][quantity] - before).mean()
                changes.setdefault(quantity, []).append(float(change))
        yield from _rows(
            f"{name} change", **{key: np.array(found) for key, found in changes.items()}
        )


def _moved(params: Any, expert: str, observation: Tensor, base: Tensor) -> Tensor:
    inputs = torch.cat((observation.expand(len(base), -1), base), dim=-1)
    return base + mlp(params[f"{expert}_expert"], inputs)


def _flrp_values(
    method: Any, params: Any, observation: Tensor, actions: Tensor, latents: Tensor
) -> dict[str, Tensor]:
    """Q_r, Q_h and the log density of the unrefined policy at actions [n, a] in one state; the
    density is the mean over the latents, which is a lower bound on average."""
    states = observation.expand(len(actions), -1)
    means = decode_base(params, observation.expand(len(latents), -1), latents)
    log_std = method.decoder_log_std(params)
    by_latent = gaussian_log_density(actions[:, None], means[None], log_std)
    return {
        "reward_q": evaluate_ensemble(params["reward_q"], states, actions).amin(0),
        "safety_q": evaluate_ensemble(params["feasibility_q"], states, actions).amax(0),
        "log_density": by_latent.logsumexp(1) - np.log(len(latents)),
    }


def lspc_actions(population: Population, dataset: Dataset, request: PointRequest) -> Iterator[Row]:
    """LSPC's figure 3: actions of the three policies and Q_r over the action plane of one state,
    and at `size` states the share of LSPC-O's actions within the hull of LSPC-S's (of their first
    two dimensions), and how much more Q_r they promise.

    The state is the one of the data with the largest spread of LSPC-S's actions.
    """
    state, hp = _one(population)
    method: Any = population.method
    states = _some_states(dataset, request.size)
    noise = {"latent": _draws(population, DRAWS, method.static.latent_dim)}
    drawn = {
        policy: torch.stack(
            [method.act(policy, state, s.expand(DRAWS, -1), hp, noise) for s in states]
        )
        for policy in method.policies
    }
    spread = drawn["lspc_s"].var(1).sum(-1)
    place = int(spread.argmax())
    target = state["target"]
    actions = _plane(drawn["lspc_s"][place].mean(0))
    here = states[place].expand(len(actions), -1)
    yield from _rows(
        "plane",
        action_1=actions[:, 0],
        action_2=actions[:, 1],
        reward_q=evaluate_ensemble(target["reward_q"], here, actions).amin(0),
        cost_q=evaluate_ensemble(target["cost_q"], here, actions).amax(0),
    )
    for policy, found in drawn.items():
        chosen = found[place]
        yield from _rows(policy, action_1=chosen[:, 0], action_2=chosen[:, 1])
    inside, gain = [], []
    for index, observation in enumerate(states):
        ours, safe = drawn["lspc_o"][index], drawn["lspc_s"][index]
        inside.append(share_in_hull(ours[:, :2].numpy(), safe[:, :2].numpy()))
        values = [
            evaluate_ensemble(target["reward_q"], observation.expand(DRAWS, -1), a).amin(0).mean()
            for a in (ours, safe)
        ]
        gain.append(float(values[0] - values[1]))
    yield from _rows("states", inside_share=np.array(inside), reward_q_gain=np.array(gain))


def share_in_hull(points: Array, corners: Array) -> float:
    """Share of points [n, 2] in the convex hull of others [m, 2]; NaN where they have no area."""
    try:
        hull = Delaunay(corners)
    except QhullError:
        return float("nan")
    return float((hull.find_simplex(points) >= 0).mean())


def r2pac_values(population: Population, dataset: Dataset, request: PointRequest) -> Iterator[Row]:
    """R2PAC's figures 3 and 8: V_r, V_c and the threshold at `size` states of the data, with the
    states' place on their first two principal components (their own coordinates if they have two),
    and `umap_*` where the extra `umap` is installed and they have more.
    """
    state, hp = _one(population)
    states = _some_states(dataset, request.size)
    value = mlp(state["params"]["reward_v"], states, torch.nn.functional.gelu).squeeze(-1)
    margin = population.method.feasibility_value(state, states, hp)
    assert margin is not None
    places = principal_components(states.numpy())
    yield from _rows(
        "states",
        place_1=places[:, 0],
        place_2=places[:, 1],
        reward_v=value,
        safety_v=margin + state["threshold"],
        unsafe=(margin > 0).double(),
    )
    embedded = umap_places(states.numpy())
    if embedded is not None:
        yield from _rows("states", umap_1=embedded[:, 0], umap_2=embedded[:, 1])


def principal_components(states: Array) -> Array:
    """Scores [n, 2] on the first two principal components of standardised columns [n, o]."""
    if states.shape[1] == 2:
        return states
    left, scales, _ = np.linalg.svd(_standardised(states), full_matrices=False)
    scores: Array = left[:, :2] * scales[:2]
    return scores


def umap_places(states: Array) -> Array | None:
    """Places [n, 2] of standardised columns [n, o] by UMAP (McInnes et al., 2018) with its defaults
    and a fixed seed; None where the extra `umap` is not installed or states have two columns."""
    if states.shape[1] == 2 or find_spec("umap") is None:
        return None
    columns = np.ascontiguousarray(_standardised(states), dtype=np.float32)
    return _embedded(columns.tobytes(), columns.shape[1]).copy()


@lru_cache(maxsize=4)
def _embedded(content: bytes, columns: int) -> Array:
    """Runs of a task share its states, and an embedding takes seconds."""
    from umap import UMAP

    with warnings.catch_warnings():
        # A seed rules out threads, which it says each time.
        warnings.simplefilter("ignore", UserWarning)
        model = UMAP(n_components=2, random_state=0)
        places: Array = model.fit_transform(np.frombuffer(content, np.float32).reshape(-1, columns))
    return places


def _standardised(states: Array) -> Array:
    deviation = states.std(axis=0)
    scaled: Array = (states - states.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled


def transfer(population: Population, dataset: Dataset, request: PointRequest) -> Iterator[Row]:
    """Returns and costs of `size` episodes in each target task, without further training."""
    policy = population.method.evaluated_policies[0]
    seeds = np.random.SeedSequence([population.seeds[0], _STREAM]).generate_state(request.size)
    for name in request.target_tasks:
        task = get_task(name)
        outcome = rollout(task, population.policy(policy, request.size), 1, seeds[None])
        rewards, costs = outcome.reward_returns[0], outcome.cost_returns[0]
        yield from _rows(task.name, reward=task.normalize_reward(rewards), cost=costs)


def _bandit_points(request: PointRequest) -> pandas.DataFrame:
    """FLP's figure 2 on the toy of `trainables.measurements.bandit`: actions of FLP for several KL
    coefficients, and of FQL's one-step actor for several weights of distillation.

    The actor is SafeFQL's, which is FQL's where nothing costs. Rows have no run; the view is the
    method and the strength of its regularization.
    """
    dataset, task = bandit_dataset(), bandit_task()
    seeds = [0, 1, 2]
    rows: list[dict[str, Any]] = []
    strengths = {"flp": "kl_coefficient", "safefql": "distillation_weight"}
    for algorithm, hyperparameter in strengths.items():
        method = ALGORITHMS[algorithm]
        levels = BANDIT_STRENGTHS[algorithm]
        configs = [
            method.config_class.resolve(
                {"hidden_dim": 64, "batch_size": 128, "learning_rate": 1e-3, hyperparameter: level}
            )
            for level in levels
        ]
        population = Population(
            method,
            [config for config in configs for _ in seeds],
            [seed for _ in configs for seed in seeds],
            task,
            dataset,
            request.size,
            1.0,
        )
        population.advance(request.size)
        act = population.policy(method.policies[0], DRAWS)
        actions = act(np.zeros((population.size, DRAWS, 1), dtype=np.float32), 0)
        for member in range(population.size):
            level = levels[member // len(seeds)]
            keys = {"run_id": "", "seed": population.seeds[member], "task": task.name}
            rows += [
                {**keys, "view": view, "point": point, "quantity": quantity, "value": value}
                for view, point, quantity, value in _rows(
                    f"{algorithm} {level:g}",
                    action_1=actions[member, :, 0],
                    action_2=actions[member, :, 1],
                )
            ]
    return pandas.DataFrame(rows, columns=list(COLUMNS))


VIEWS: dict[str, View] = {
    "flrp_refinement": flrp_refinement,
    "lspc_actions": lspc_actions,
    "r2pac_values": r2pac_values,
    "transfer": transfer,
}
