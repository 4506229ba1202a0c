"""R2PAC's own facts: its threshold, its penalty, its labels, and what it executes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from safesweep.trainables.components.action_chunks import chunk_target
from safesweep.trainables.components.critics import (
    discounted_cost_limit,
    evaluate_ensemble,
    state_value,
)
from safesweep.trainables.components.flow_matching import flow_matching_error, integrate, velocity
from safesweep.trainables.components.networks import gaussian_log_density
from safesweep.trainables.data.dataset import Dataset
from safesweep.trainables.methods import r2pac
from safesweep.trainables.methods.method import ProblemSpec
from safesweep.trainables.methods.r2pac import (
    NULL,
    OPTIMAL,
    POOR,
    R2PAC,
    gaussian_chunk,
    labelled,
)
from safesweep.trainables.methods.r2pac_config import R2PACConfig
from safesweep.trainables.tasks.registry import Task
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(observation_dim=3, action_dim=2, horizon=100, reward_scale=1.0, cost_limit=10.0)
BATCH, LENGTH = 16, 3
SMALL = {"hidden_dim": 16, "hidden_layers": 2, "batch_size": BATCH, "h": LENGTH}
ONE_STEP: dict[str, Any] = {
    "hidden_dim": 32, "hidden_layers": 2, "batch_size": 64, "h": 1, "learning_rate": 6e-3,
    "target_update_rate": 0.1, "flow_steps": 4, "candidates": 4, "gamma": 0.9,
}  # fmt: skip


def method_and_state(**changes: Any) -> tuple[R2PAC, dict[str, Any], Any]:
    config = R2PACConfig.resolve({**SMALL, **changes})
    method = R2PAC(config, SPEC)
    method.chunks = BATCH
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    state = method.init(torch.Generator().manual_seed(0))
    return method, state, config.hyperparameters_type()(**values)


def actor_loss(
    method: R2PAC, state: dict[str, Any], batch: dict[str, Tensor], hp: Any, noise: Any
) -> Tensor:
    """The actor's loss where every chunk of the data is in the minibatch."""
    judged = method.judge(state, batch["observations"], batch["actions"])
    concluded = {**state, **judged._asdict()}
    rows = {**batch, "row": torch.arange(BATCH)}
    inputs = step_inputs(state["params"], concluded, rows, hp, noise)
    loss = method.actor_loss(inputs).losses
    assert isinstance(loss, Tensor)
    return loss


def minibatch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    dones = torch.zeros(BATCH, LENGTH)
    dones[:4, 1] = 1
    return {
        "observations": normal(BATCH, 3),
        "next_observations": normal(BATCH, 3),
        "actions": torch.tanh(normal(BATCH, 2 * LENGTH)),
        "rewards": normal(BATCH, LENGTH),
        "costs": (normal(BATCH, LENGTH) > 1).float(),
        "dones": dones,
        "lowest_reward": torch.full((BATCH,), -2.0),
    }


def constant(layers: list[dict[str, Tensor]], value: float) -> list[dict[str, Tensor]]:
    """The same network, answering `value` everywhere."""
    flat = [{name: torch.zeros_like(leaf) for name, leaf in layer.items()} for layer in layers]
    flat[-1]["bias"] += value
    return flat


def with_values(state: dict[str, Any], **values: float) -> dict[str, Any]:
    """The state with critics that answer one number each, their target copies too."""
    params, target = dict(state["params"]), dict(state["target"])
    for name, value in values.items():
        params[name] = constant(params[name], value)
        if name in target:
            target[name] = params[name]
    return {**state, "params": params, "target": target}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alpha": 0.75}, None),
        ({"threshold": "cost_limit"}, 10 * (1 - 0.99**100) / (0.01 * 100)),
        ({"safety_metric": "feasibility"}, 0.0),
    ],
)
def test_the_threshold_is_fixed_when_the_critics_are_done(
    changes: dict[str, Any], expected: float | None
) -> None:
    method, state, hp = method_and_state(**changes)
    generator = torch.Generator().manual_seed(1)
    observations = torch.randn(500, 3, generator=generator)
    actions = torch.randn(500, 2 * LENGTH, generator=generator)
    data = {"observations": observations, "actions": actions}
    done = method.finish_phase("critics", state, data, hp)
    assert [phase.concludes for phase in method.phases] == [True, False]
    if expected is None:
        # By definition of the quantile, that share of the states is safe.
        values = method.feasibility_value(done, observations, hp)
        assert float((values <= 0).float().mean()) == pytest.approx(0.75, abs=0.005)
    else:
        assert float(done["threshold"]) == pytest.approx(expected, rel=1e-4)


def test_every_chunk_is_judged_when_the_critics_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    method, state, hp = method_and_state(alpha=0.5)
    monkeypatch.setattr(r2pac, "JUDGED_AT_ONCE", 5)
    data = minibatch()
    done = method.finish_phase("critics", state, data, hp)
    advantage, unsafe = method.judge(done, data["observations"], data["actions"])
    assert 0 < int(unsafe.sum()) < BATCH
    rows = torch.tensor([3, 3, BATCH - 1])
    found = method.judged(done, {"row": rows})
    torch.testing.assert_close(found.advantage, advantage[rows])
    assert torch.equal(found.unsafe, unsafe[rows])


@pytest.mark.parametrize(
    ("changes", "next_cost", "unsafe", "absorbed"),
    [
        ({}, 9.0, True, -2.0 - 3.0),
        ({"penalty_base": "zero"}, 9.0, True, -3.0),
        ({"value": "vanilla"}, 9.0, True, None),
        ({}, 5.0, False, -2.0 - 3.0),
        ({"safety_metric": "feasibility"}, 5.0, True, -2.0 - 3.0),
        ({"safety_metric": "feasibility"}, -0.5, False, -2.0 - 3.0),
    ],
)
def test_chunks_that_end_in_unsafe_states_lead_to_the_absorbing_state(
    changes: dict[str, Any], next_cost: float, unsafe: bool, absorbed: float | None
) -> None:
    """Eq. 15 against a hand-made target; eq. 42's threshold is 6.34 here.

    The first four chunks are done: two without a cost, two with one of 10 in each step.
    """
    method, state, hp = method_and_state(threshold="cost_limit", C=3.0, **changes)
    assert float(discounted_cost_limit(10.0, 100, hp.discount)) == pytest.approx(6.34, abs=0.01)
    batch = minibatch()
    batch["costs"][:4] = torch.tensor([0.0, 0.0, 10.0, 10.0]).unsqueeze(-1)
    state = with_values(state, safety_v=next_cost, reward_v=7.0, reward_q=0.0)
    metrics = method.critic_loss(step_inputs(state["params"], state, batch, hp, {})).metrics
    target = chunk_target(batch["rewards"], torch.full((BATCH,), 7.0), batch["dones"], hp.discount)
    if absorbed is not None:
        target[2:4] = absorbed / (1 - 0.99)
        if unsafe:
            target[4:] = absorbed / (1 - 0.99)
    expected = 2 * target.square().mean()
    torch.testing.assert_close(metrics["loss/reward_q"], expected, rtol=1e-4, atol=1e-4)


def test_the_cost_value_is_not_penalized_and_leans_to_the_safest() -> None:
    method, state, hp = method_and_state()
    batch = minibatch()
    state = with_values(state, safety_v=4.0, safety_q=1.0)
    metrics = method.critic_loss(step_inputs(state["params"], state, batch, hp, {})).metrics
    target = chunk_target(batch["costs"], torch.full((BATCH,), 4.0), batch["dones"], hp.discount)
    torch.testing.assert_close(
        metrics["loss/safety_q"], 2 * (target - 1).square().mean(), rtol=1e-4, atol=1e-4
    )
    # Q_c below V_c: the expectile's heavy side (eq. 11), 0.9 * 3^2.
    assert float(metrics["loss/safety_v"]) == pytest.approx(0.9 * 9, rel=1e-4)
    state = with_values(state, safety_v=1.0, safety_q=4.0)
    metrics = method.critic_loss(step_inputs(state["params"], state, batch, hp, {})).metrics
    assert float(metrics["loss/safety_v"]) == pytest.approx(0.1 * 9, rel=1e-4)


def actor_noise(method: R2PAC, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn if noise.distribution == "normal" else torch.rand)(
            *noise.shape, generator=generator
        )
        for name, noise in method.noise("actor").items()
    }


# (V_c, Q_c, V_r, Q_r) and whether the pair is labelled optimal; the threshold is 0.
LABELS = [
    ((-1.0, 5.0, 1.0, 2.0), "cost_value", True),  # safe: only the reward counts
    ((-1.0, -5.0, 2.0, 1.0), "cost_value", False),
    ((-1.0, 5.0, 1.0, 1.0), "cost_value", True),  # an advantage of 0 is optimal
    ((1.0, 0.5, 2.0, 1.0), "cost_value", True),  # unsafe: only the cost counts
    ((1.0, 1.5, 1.0, 2.0), "cost_value", False),
    ((1.0, 1.0, 2.0, 1.0), "cost_value", True),
    ((1.0, 0.5, 2.0, 1.0), "none", False),  # without V_c, the reward everywhere
    ((1.0, 1.5, 1.0, 2.0), "none", True),
]


@pytest.mark.parametrize(("values", "objective", "optimal"), LABELS)
def test_labels_follow_reward_where_safe_and_cost_where_not(
    values: tuple[float, ...], objective: str, optimal: bool
) -> None:
    """Eq. 18, by the flow's error under the label that it implies."""
    method, state, hp = method_and_state(unsafe_objective=objective, unconditional_share=0.0)
    names = ("safety_v", "safety_q", "reward_v", "reward_q")
    state = with_values(state, **dict(zip(names, values, strict=True)))
    batch, noise = minibatch(), actor_noise(method)

    def error(label: int) -> float:
        condition = labelled(batch["observations"], torch.full((BATCH,), label))
        return float(
            flow_matching_error(
                state["params"]["actor"], batch["actions"], noise["start"], noise["time"],
                condition, torch.nn.functional.gelu,
            ).mean()
        )  # fmt: skip

    loss = actor_loss(method, state, batch, hp, noise)
    assert float(loss) == pytest.approx(error(OPTIMAL if optimal else POOR), rel=1e-5)
    assert error(OPTIMAL) != pytest.approx(error(POOR), rel=1e-5)
    all_free = hp._replace(unconditional_share=torch.tensor(1.0))
    loss = actor_loss(method, state, batch, all_free, noise)
    assert float(loss) == pytest.approx(error(NULL), rel=1e-5)


@pytest.mark.parametrize("actor", ["awr_gaussian", "awr_flow"])
@pytest.mark.parametrize(
    ("values", "weight"),
    [
        ((-1.0, 0.0, 1.0, 1.5), np.exp(6.0 * 0.5)),  # safe: alpha (Q_r - V_r)
        ((1.0, 0.8, 1.0, 9.0), np.exp(2.0 * 0.2)),  # unsafe: beta (V_c - Q_c)
        ((-1.0, 0.0, 1.0, 1e6), 100.0),
    ],
)
def test_regression_weights_are_exponential_advantages(
    actor: str, values: tuple[float, ...], weight: float
) -> None:
    """Eq. 40 and 41."""
    method, state, hp = method_and_state(actor=actor, beta=2.0)
    names = ("safety_v", "safety_q", "reward_v", "reward_q")
    state = with_values(state, **dict(zip(names, values, strict=True)))
    batch, noise = minibatch(), actor_noise(method)
    if actor == "awr_gaussian":
        mean, log_std = gaussian_chunk(state["params"], batch["observations"])
        error = -gaussian_log_density(batch["actions"], mean, log_std)
    else:
        error = flow_matching_error(
            state["params"]["actor"], batch["actions"], noise["start"], noise["time"],
            batch["observations"], torch.nn.functional.gelu,
        )  # fmt: skip
    loss = actor_loss(method, state, batch, hp, noise)
    assert float(loss) == pytest.approx(weight * float(error.mean()), rel=1e-3)


@pytest.mark.parametrize("actor", ["cfg", "awr_gaussian", "awr_flow"])
def test_the_first_action_of_the_cheapest_chunk_is_executed(actor: str) -> None:
    method, state, hp = method_and_state(actor=actor, candidates=6)
    observations = torch.randn(10, 3, generator=torch.Generator().manual_seed(2))
    start = 3 * torch.randn(10, 6, 2 * LENGTH, generator=torch.Generator().manual_seed(3))
    acted = method.act("r2pac", state, observations, hp, {"start": start})
    assert acted.shape == (10, 2)
    executed = set()
    for row in range(10):
        state_row = observations[row : row + 1]
        chunks = torch.cat(
            [
                method.propose(state["params"], state_row, start[row, n : n + 1].unsqueeze(0), hp)
                for n in range(6)
            ]
        ).squeeze(1).clamp(-1, 1)  # fmt: skip
        costs = evaluate_ensemble(
            state["target"]["safety_q"], state_row.expand(6, -1), chunks, functional.gelu
        )
        chosen = int(costs.amax(0).argmin())
        torch.testing.assert_close(acted[row], chunks[chosen, :2], rtol=1e-4, atol=1e-5)
        executed.add(chosen)
    assert len(executed) > 1


def test_guidance_at_zero_is_the_behaviour_and_at_one_the_optimal_policy() -> None:
    method, state, hp = method_and_state()
    observations, start = torch.randn(10, 3), torch.randn(4, 10, 2 * LENGTH)

    def chunks(label: int) -> Tensor:
        condition = labelled(observations, torch.full((10,), label))
        return integrate(
            lambda x, i: velocity(
                state["params"]["actor"], x, i, condition, torch.nn.functional.gelu
            ),
            start,
            32,
        )

    for scale, label in ((0.0, NULL), (1.0, OPTIMAL)):
        scaled = hp._replace(guidance_scale=torch.tensor(scale))
        proposed = method.propose(state["params"], observations, start, scaled)
        torch.testing.assert_close(proposed, chunks(label), rtol=1e-4, atol=1e-5)
    assert (chunks(NULL) - chunks(OPTIMAL)).abs().max() > 1e-2


def made_dataset(columns: dict[str, np.ndarray]) -> Dataset:
    count = len(columns["rewards"])
    filled = {
        "next_observations": columns["observations"],
        "terminals": np.zeros(count, dtype=bool),
        "timeouts": np.zeros(count, dtype=bool),
        "costs": np.zeros(count, dtype=np.float32),
        **columns,
    }
    return Dataset(task="BoatNavigation-v0", dataset_id="made", safety_margins=None, **filled)


@pytest.mark.parametrize(
    ("done_signal", "value"),
    [
        ("terminals", 2.0),
        # Half of the chunks lead on, V = 1.75 + V / 8; the others stop after 3, 2 and 1 steps.
        ("terminals_and_timeouts", (3 * 1.75 + 1.75 + 1.5 + 1) / (6 - 3 / 8)),
    ],
)
def test_a_constant_reward_is_worth_its_discounted_sum(
    boat_task: Task, done_signal: str, value: float
) -> None:
    """Reward 1 a step at discount 1/2, with time-outs each 6 steps, in chunks of 3."""
    count = 600
    scale = boat_task.horizon / (boat_task.max_return - boat_task.min_return)
    rng = np.random.default_rng(0)
    dataset = made_dataset(
        {
            "observations": np.zeros((count, 2), dtype=np.float32),
            "actions": rng.uniform(-1, 1, size=(count, 2)).astype(np.float32),
            "rewards": np.full(count, 1 / scale, dtype=np.float32),
            "timeouts": np.arange(count) % 6 == 5,
        }
    )
    config = R2PACConfig.resolve(
        {**ONE_STEP, "h": 3, "done_signal": done_signal, "tau": 0.5, "gamma": 0.5}
    )
    population = make_population(R2PAC, [config], [0], boat_task, dataset, 300, 1.0)
    population.advance(150)
    reward_v = population.member_state(0)["params"]["reward_v"]
    assert float(state_value(reward_v, torch.zeros(1, 2), functional.gelu)) == pytest.approx(
        value, rel=0.04
    )


def fork(rng: np.random.Generator, episodes: int = 300) -> Dataset:
    """Two steps: at 0 go left (reward 0) or right (reward 1); to the right a cost is certain."""
    right = rng.random(episodes) < 0.5
    sign = np.where(right, 1.0, -1.0)
    zeros = np.zeros(episodes)
    first = sign * rng.uniform(0.4, 0.9, size=episodes)
    states = np.stack([zeros, sign], axis=1).reshape(-1)
    following = np.stack([sign, 2 * sign], axis=1).reshape(-1)
    actions = np.stack([first, rng.uniform(-1, 1, size=episodes)], axis=1).reshape(-1)

    def plane(values: np.ndarray) -> np.ndarray:
        return np.stack([values, np.zeros_like(values)], axis=1).astype(np.float32)

    return made_dataset(
        {
            "observations": plane(states),
            "next_observations": plane(following),
            "actions": plane(actions),
            "rewards": np.stack([right, zeros], axis=1).reshape(-1).astype(np.float32),
            "costs": np.stack([zeros, right], axis=1).reshape(-1).astype(np.float32),
            "terminals": np.arange(2 * episodes) % 2 == 1,
        }
    )


@pytest.mark.parametrize(
    ("changes", "goes_right"),
    [
        ({}, False),
        pytest.param({"h": 2}, False, marks=pytest.mark.slow),
        pytest.param({"actor": "awr_flow"}, False, marks=pytest.mark.slow),
        pytest.param({"actor": "awr_gaussian"}, False, marks=pytest.mark.slow),
        ({"safety_metric": "feasibility"}, False),
        ({"value": "vanilla", "unsafe_objective": "none"}, True),
        pytest.param(
            {"value": "vanilla", "unsafe_objective": "none", "actor": "awr_flow"},
            True,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_penalty_turns_from_the_rich_but_unsafe_side(
    boat_task: Task, changes: dict[str, Any], goes_right: bool
) -> None:
    """One candidate, so that the penalty alone decides and not the choice of the lowest Q_c."""
    dataset = fork(np.random.default_rng(0))
    config = R2PACConfig.resolve({**ONE_STEP, "alpha": 0.7, "candidates": 1, **changes})
    population = make_population(R2PAC, [config], [0], boat_task, dataset, 200, 1.0)
    population.advance(200)
    actions = population.policy("r2pac", 200)(np.zeros((1, 200, 2), dtype=np.float32), 0)
    right = float((actions[0, :, 0] > 0).mean())
    # The data go right half of the time.
    assert right > 0.75 if goes_right else right < 0.25
