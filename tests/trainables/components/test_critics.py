"""Critic losses and operators where the answer is known."""

import numpy as np
import pytest
import torch

from safesweep.trainables.components.critics import (
    bellman_target,
    expectile_loss,
    feasible_bellman_target,
    reversed_expectile_loss,
)


def minimizer(loss: object, sample: torch.Tensor, expectile: float) -> float:
    value = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([value], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        out = loss(sample - value, torch.tensor(expectile))
        out.backward()
        return out

    optimizer.step(closure)
    return float(value)


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
