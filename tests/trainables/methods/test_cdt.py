"""CDT's own facts: what it learns from, its window in acting, its targets, its losses; and one
training at three limits."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.methods import cdt
from safesweep.trainables.methods.cdt import CDT
from safesweep.trainables.methods.cdt_config import CDTConfig
from safesweep.trainables.methods.method import LastStep, Noise, ProblemSpec
from safesweep.trainables.training.population import Population
from tests.trainables.conformance.analytic_problems import (
    GAP,
    analytic_dataset,
    analytic_task,
    points,
)
from tests.trainables.methods.step_inputs import step_inputs
from tests.trainables.populations import make_population

SPEC = ProblemSpec(
    observation_dim=3, action_dim=2, horizon=20, reward_scale=1.0, cost_limit=1.0,
    cost_limits=(1.0, 2.0, 4.0),
)  # fmt: skip
SIZES = {"hidden_dim": 8, "hidden_layers": 1, "attention_heads": 2, "context_length": 4}
GIVEN = {
    "targets": "given", "target_return": 3.0, "second_target_return": 5.0,
    "third_target_return": 6.0,
}  # fmt: skip
# Episodes of 3 and 2 steps; returns 6 and 9, costs 3 and 1.
DATA = {
    "observations": torch.arange(15.0).reshape(5, 3),
    "actions": torch.linspace(-1, 1, 10).reshape(5, 2),
    "rewards": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
    "costs": torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0]),
    "terminals": torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]),
    "timeouts": torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]),
}


def prepared(**changes: Any) -> tuple[CDT, dict[str, Tensor], dict[str, Any], Any]:
    config = CDTConfig.resolve({**SIZES, "augmented_share": 0.0, **changes})
    method = CDT(config, SPEC)
    columns = method.prepare(DATA)
    state = method.init(torch.Generator().manual_seed(0))
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    hp = config.hyperparameters_type()(**values)
    return method, columns, method.begin(state, hp), hp


def test_what_is_still_to_come_at_each_step() -> None:
    _, columns, _, _ = prepared()
    assert columns["returns_to_go"].tolist() == pytest.approx([0.6, 0.5, 0.3, 0.9, 0.5])
    assert columns["costs_to_go"].tolist() == [3, 2, 2, 1, 1]
    assert columns["steps"].tolist() == [0, 1, 2, 0, 1]


def test_windows_are_drawn_by_the_cost_of_their_episode() -> None:
    _, columns, _, _ = prepared(sampling_cost_bound=4.0)
    assert columns["sampling_weight"].tolist() == pytest.approx([1 / 3] * 3 + [3 / 2] * 2)
    _, columns, _, _ = prepared(sampling_cost_bound=0.0)
    assert columns["sampling_weight"].tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    with pytest.raises(InvalidInput, match=r"sampling_cost_bound: 1 leaves nothing .* costs 1$"):
        prepared(sampling_cost_bound=1.0)


def test_augmented_episodes_follow_with_other_sums_to_go() -> None:
    """Pairs at costs 1, 2 and 3: the cheap episode is the front, of return 9."""
    _, columns, _, _ = prepared(
        augmented_share=1.5, front_degree=0, augmented_gain=1.0, highest_augmented_return=10.0
    )
    assert len(columns["observations"]) in range(11, 15)
    first = torch.nonzero(columns["steps"] == 0).squeeze(-1)[2:]
    assert columns["costs_to_go"][first].tolist() == [1, 2, 3]
    assert columns["returns_to_go"][first].tolist() == pytest.approx([1.0, 1.0, 1.0])
    rows = int(first[0])
    assert torch.equal(columns["observations"][rows], DATA["observations"][3])
    # What is to come after the first step falls by what was earned and spent.
    assert float(columns["returns_to_go"][rows + 1]) == pytest.approx(1.0 - 0.4)


def test_acting_step_by_step_is_predicting_from_the_window() -> None:
    method, _, state, hp = prepared(**GIVEN)
    generator = torch.Generator().manual_seed(1)
    state["params"]["transformer"] = torch.utils._pytree.tree_map(
        lambda leaf: leaf + 0.3 * torch.randn(leaf.shape, generator=generator),
        state["params"]["transformer"],
    )
    steps, policy = 7, "cdt@2"
    observations = torch.randn(steps, 1, 3, generator=generator)
    rewards, costs = torch.randn(2, steps, 1, generator=generator)
    memory = {name: value.unsqueeze(0) for name, value in method.begin_episode(policy, hp).items()}
    returns, allowed, actions = [0.5], [2.0], []
    last = LastStep(torch.zeros(1), torch.zeros(1))
    for step in range(steps):
        action, memory = method.act_with_memory(
            policy, state, observations[step], hp, {}, memory, last
        )
        begin = max(0, step - 3)
        window = {
            "observations": observations[begin : step + 1].transpose(0, 1),
            "actions": torch.stack([*actions[begin:], torch.zeros(1, 2)], dim=1),
            "returns_to_go": torch.tensor([returns[begin:]]),
            "costs_to_go": torch.tensor([allowed[begin:]]),
            "steps": torch.arange(begin, step + 1.0).unsqueeze(0),
        }
        expected = method.predict(state["params"]["transformer"], window).mean[:, -1].clamp(-1, 1)
        torch.testing.assert_close(action, expected, rtol=1e-4, atol=1e-5)
        actions.append(action)
        returns.append(returns[-1] - 0.1 * float(rewards[step]))
        allowed.append(allowed[-1] - float(costs[step]))
        last = LastStep(rewards[step], costs[step])
    assert torch.cat(actions).std() > 0.01


def test_the_wanted_return_is_the_best_within_the_limit_or_given() -> None:
    method, _, state, _ = prepared()
    state["front"] = {
        "costs": torch.tensor([0.5, 1.5, 3.0]), "returns": torch.tensor([2.0, 7.0, 9.0])
    }  # fmt: skip
    found = [float(method.wanted_return(f"cdt@{limit}", state)) for limit in (0.1, 1, 2, 40)]
    assert found == [2.0, 2.0, 7.0, 9.0]
    method, _, state, _ = prepared(**GIVEN)
    assert [float(method.wanted_return(p, state)) for p in method.evaluated_policies] == [3, 5, 6]


def test_targets_beyond_the_data_are_warned_of() -> None:
    method, *_ = prepared(**{**GIVEN, "second_target_return": 12.5})
    assert [line for line in method.warnings if "return" in line] == [
        f"targets: the return {target} that is wanted at the cost limit {limit} is beyond the "
        "data, whose episodes return 6 to 9"
        for target, limit in ((3, 1), (12.5, 2))
    ]


def test_cost_limits_beyond_the_data_are_warned_of() -> None:
    costs = np.array([1.0, 3.0])
    method, *_ = prepared()
    assert method.targets_beyond(np.zeros(2), costs) == [
        "targets: the cost limit 4 is beyond the data, whose episodes cost 1 to 3"
    ]
    assert not method.targets_beyond(np.zeros(2), np.array([0.0, 9.0]))


def test_a_limit_without_a_given_return_is_refused() -> None:
    method, _, _, hp = prepared(**GIVEN)
    with pytest.raises(InvalidInput, match=r"policy: 'cdt@3' .* cost limits 1, 2, 4 alone$"):
        method.begin_episode("cdt@3", hp)
    config = CDTConfig.resolve({**SIZES, **GIVEN})
    with pytest.raises(InvalidInput, match=r"policy: 'cdt@9' is not allowed"):
        CDT(config, replace(SPEC, cost_limit=9.0))


def test_heads_divide_the_width() -> None:
    with pytest.raises(InvalidInput, match=r"attention_heads: 3 is not allowed; .* hidden_dim, 8"):
        prepared(attention_heads=3)


def test_losses_of_a_model_that_predicts_nothing() -> None:
    """Mean 0, deviation 1, both classes alike: known whatever the window."""
    method, columns, state, hp = prepared()
    transformer = state["params"]["transformer"]
    for head in ("mean", "log_std", "costs"):
        transformer[head][0]["weight"].zero_()
    batch = method.gather(columns, torch.tensor([0, 1, 4]))
    assert batch["mask"].sum() == 3 + 2 + 1
    losses, metrics, _ = method.loss(step_inputs(state["params"], state, batch, hp, {}))
    assert isinstance(losses, dict)
    shown = batch["actions"][batch["mask"] > 0]
    likelihood = float(-0.5 * shown.square().mean() - 0.5 * math.log(2 * math.pi))
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert float(metrics["log_likelihood"]) == pytest.approx(likelihood, rel=1e-4)
    assert float(metrics["entropy"]) == pytest.approx(entropy)
    assert float(metrics["temperature"]) == pytest.approx(0.1)
    # Steps beyond the episode's end count in the mean over places.
    assert float(metrics["loss/costs"]) == pytest.approx(math.log(2) * 6 / 12)
    assert float(losses["transformer"]) == pytest.approx(
        -(likelihood + 0.1 * entropy) + 0.02 * math.log(2) / 2, rel=1e-4
    )
    assert float(losses["temperature"]) == pytest.approx(0.1 * (entropy + 1))
    published, _, state, hp = prepared(entropy_target="published")
    state["params"]["transformer"] = transformer
    losses, _, _ = published.loss(step_inputs(state["params"], state, batch, hp, {}))
    assert isinstance(losses, dict)
    assert float(losses["temperature"]) == pytest.approx(0.1 * (entropy + 2))


PARTLY = {**SIZES, "batch_size": 50, "learning_rate": 3e-3, "warmup_steps": 5}


def in_parts(
    size: int, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...] = (0, 1), to: int = 40
) -> Population:
    """Trained members whose tokens are to be `size` numbers at a time."""
    monkeypatch.setattr(cdt, "PART_SIZE", size)
    configs = [CDTConfig.resolve({**PARTLY, "weight_decay": 10.0**-seed}) for seed in seeds]
    population = make_population(CDT, configs, seeds, analytic_task(), analytic_dataset(), 40, 0.0)
    population.advance(to)
    assert all(population.active)
    return population


def test_a_minibatch_worked_on_in_parts_teaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minibatch's tokens are 50 x 4 x 4 x 8 numbers; its last part is a smaller one."""
    whole, parts = in_parts(2**20, monkeypatch), in_parts(1000, monkeypatch)
    assert (whole._parts, parts._parts) == (1, 7)
    for one, other in zip(tree_leaves(whole.state), tree_leaves(parts.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    metrics = whole.take_metrics()
    for name, found in parts.take_metrics().items():
        assert found == pytest.approx(metrics[name], rel=1e-4), name


def test_in_parts_a_run_is_the_same_alone_and_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    company = in_parts(1000, monkeypatch)
    alone = in_parts(1000, monkeypatch, seeds=(1,))
    resumed = in_parts(1000, monkeypatch, seeds=(1,), to=0)
    begun = in_parts(1000, monkeypatch, seeds=(1,), to=13)
    resumed.load_state_dict(begun.state_dict())
    resumed.advance(40)
    states = company.member_state(1), alone.member_state(0), resumed.member_state(0)
    for one, *others in zip(*map(tree_leaves, states), strict=True):
        assert all(torch.equal(one, other) for other in others)


def test_losses_with_noise_are_not_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CDT, "noise", lambda self, phase: {"some": Noise((50,))})
    in_parts(2**20, monkeypatch, to=1)
    with pytest.raises(ValueError, match="cdt: minibatch_parts: 7 is not allowed of losses with"):
        in_parts(1000, monkeypatch, to=1)


@pytest.mark.slow
def test_one_training_spends_more_where_the_limit_is_higher() -> None:
    """At the fork the rich action leads to a cost of 1, which limits of 1 and 2 have room for."""
    task = replace(analytic_task(), cost_limits=(0.0, 1.0, 2.0))
    config = CDTConfig.resolve(
        {
            **SIZES, "hidden_dim": 32, "context_length": 2, "batch_size": 128,
            "learning_rate": 3e-3, "warmup_steps": 50, "reward_scale": 1.0,
            "sampling_cost_bound": 0, "augmented_share": 0, "targets": "given",
            "target_return": 0, "second_target_return": 1, "third_target_return": 1,
        }
    )  # fmt: skip
    steps = 600
    population = make_population(CDT, [config], [0], task, analytic_dataset(), steps, 0.0)
    population.advance(steps)
    assert population.method.evaluated_policies == ("cdt@0", "cdt@1", "cdt@2")
    observations = points(["fork"])[None]
    rich = [
        float(population.policy(policy, 1)(observations, 0)[0, 0, 0])
        for policy in population.method.evaluated_policies
    ]
    assert rich[0] < -GAP and rich[1] > GAP and rich[2] > GAP
    assert np.argmin(rich) == 0
