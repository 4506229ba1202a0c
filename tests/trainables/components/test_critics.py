"""Critic losses and operators where the answer is known."""

import numpy as np
import pytest
import torch

from safesweep.trainables.components.critics import (
    bellman_target,
    discounted_cost_limit,
    evaluate_candidates,
    expectile_loss,
    feasible_bellman_target,
    in_sample_critic,
    in_sample_losses,
    reversed_expectile_loss,
)
from safesweep.trainables.components.networks import ensemble_mlp, init_mlp, mlp


def minimizer(loss: object, sample: torch.Tensor, expectile: float) -> float:
    value = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([value], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        out = loss(sample - value, torch.tensor(expectile))
        out.backward()
        return out

    optimizer.step(closure)
    return float(value.detach())


SAMPLE = torch.tensor([-3.0, -1.0, 0.5, 2.0, 6.0])


def test_expectile_one_half_is_the_mean() -> None:
    assert minimizer(expectile_loss, SAMPLE, 0.5) == pytest.approx(float(SAMPLE.mean()), abs=1e-4)


def test_expectile_towards_one_is_the_maximum_and_reversed_the_minimum() -> None:
    assert minimizer(expectile_loss, SAMPLE, 0.99999) == pytest.approx(6.0, abs=1e-2)
    assert minimizer(reversed_expectile_loss, SAMPLE, 0.99999) == pytest.approx(-3.0, abs=1e-2)


def test_expectiles_grow_with_tau_and_reversed_ones_shrink() -> None:
    taus = [0.5, 0.7, 0.9, 0.99]
    plain = [minimizer(expectile_loss, SAMPLE, tau) for tau in taus]
    reverse = [minimizer(reversed_expectile_loss, SAMPLE, tau) for tau in taus]
    assert plain == sorted(plain)
    assert reverse == sorted(reverse, reverse=True)


def test_time_outs_are_bootstrapped_and_terminals_are_not() -> None:
    target = bellman_target(
        torch.tensor([1.0, 1.0]), torch.tensor([10.0, 10.0]), torch.tensor([0.0, 1.0]),
        torch.tensor(0.9),
    )  # fmt: skip
    torch.testing.assert_close(target, torch.tensor([10.0, 1.0]))


# A corridor of states 0..4; action 0 stays, action 1 moves right; state 4 is the violation.
STATES, DISCOUNT = 5, 0.9
SIGNAL = np.array([-1.0, -1.0, -1.0, -1.0, 1.0])
NEXT = np.array([[s, min(s + 1, STATES - 1)] for s in range(STATES)])


def apply_operator(q: np.ndarray) -> np.ndarray:
    values = torch.tensor(q.min(axis=1))
    out = [
        feasible_bellman_target(
            torch.tensor(SIGNAL), values[NEXT[:, action]], torch.zeros(STATES),
            torch.tensor(DISCOUNT),
        )
        for action in range(2)
    ]  # fmt: skip
    return torch.stack(out, dim=1).numpy()


def test_feasible_bellman_operator_contracts_by_the_discount() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        first, second = rng.normal(size=(2, STATES, 2)) * 5
        before = np.abs(first - second).max()
        after = np.abs(apply_operator(first) - apply_operator(second)).max()
        assert after <= DISCOUNT * before + 1e-6


def test_feasible_bellman_fixed_point_is_the_known_answer() -> None:
    q = np.zeros((STATES, 2))
    for _ in range(400):
        q = apply_operator(q)
    # Staying left of the violation is safe for ever; in it, h = 1 for ever.
    np.testing.assert_allclose(q[:4, 0], -1.0, atol=1e-6)
    np.testing.assert_allclose(q[4], 1.0, atol=1e-6)
    # Moving into it from state 3: (1 - gamma)(-1) + gamma * 1; from further off staying is open.
    np.testing.assert_allclose(q[3, 1], -(1 - DISCOUNT) + DISCOUNT, atol=1e-6)
    np.testing.assert_allclose(q[:3, 1], -1.0, atol=1e-6)


def test_terminal_state_takes_its_own_signal() -> None:
    target = feasible_bellman_target(
        torch.tensor([-1.0]), torch.tensor([5.0]), torch.tensor([1.0]), torch.tensor(0.9)
    )
    torch.testing.assert_close(target, torch.tensor([-1.0]))


def test_the_cost_limit_as_a_discounted_value() -> None:
    half = discounted_cost_limit(10.0, 2, torch.tensor(0.5))
    assert float(half) == pytest.approx(7.5)  # 10 (1 - 1/4) / (1/2 * 2)
    assert float(discounted_cost_limit(10.0, 5, torch.tensor(0.0))) == pytest.approx(2.0)
    # Without discount it is the limit itself.
    nearly_one = torch.tensor(1 - 1e-7, dtype=torch.float64)
    assert float(discounted_cost_limit(10.0, 2, nearly_one)) == pytest.approx(10.0, rel=1e-4)


def test_values_of_many_latents_are_those_of_each() -> None:
    critic = init_mlp(torch.Generator().manual_seed(0), [5, 8, 1], ensemble=2)
    observations, latents = torch.randn(16, 3), torch.randn(4, 16, 2)
    together = evaluate_candidates(critic, observations, latents)
    assert together.shape == (2, 4, 16)
    for index in range(4):
        one = evaluate_candidates(critic, observations, latents[index])
        torch.testing.assert_close(together[:, index], one)


def test_an_in_sample_critic_judges_by_its_slow_copies() -> None:
    """The smaller of two reward values and the larger of two costs; losses of both by hand."""
    generator = torch.Generator().manual_seed(0)
    params = {
        "signal_q": init_mlp(generator, [5, 8, 1], ensemble=2),
        "signal_v": init_mlp(generator, [3, 8, 1]),
    }
    target = {"signal_q": init_mlp(generator, [5, 8, 1], ensemble=2)}
    batch = {
        "observations": torch.randn(6, 3, generator=generator),
        "next_observations": torch.randn(6, 3, generator=generator),
        "actions": torch.randn(6, 2, generator=generator),
    }
    pair = torch.cat((batch["observations"], batch["actions"]), dim=-1)
    slow = ensemble_mlp(target["signal_q"], pair).squeeze(-1)
    goal, expectile = torch.randn(6, generator=generator), torch.tensor(0.8)
    for lowest in (False, True):
        critic = in_sample_critic("signal", params, target, batch, lowest)
        judged = slow.amax(0) if lowest else slow.amin(0)
        torch.testing.assert_close(critic.judged, judged)
        value = mlp(params["signal_v"], batch["next_observations"]).squeeze(-1)
        torch.testing.assert_close(critic.next_v, value)
        losses = in_sample_losses("signal", critic, goal, expectile, lowest)
        residual = judged - mlp(params["signal_v"], batch["observations"]).squeeze(-1)
        better = residual < 0 if lowest else residual > 0
        weight = torch.where(better, 0.8, 0.2)
        torch.testing.assert_close(losses["loss/signal_v"], (weight * residual**2).mean())
        error = (ensemble_mlp(params["signal_q"], pair).squeeze(-1) - goal).square().mean(1).sum()
        torch.testing.assert_close(losses["loss/signal_q"], error)
