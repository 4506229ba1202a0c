"""Flow matching: straight lines, Euler's method there and back, guidance."""

import pytest
import torch
from torch import Tensor

from safesweep.trainables.components.flow_matching import (
    flow_matching_error,
    generate,
    guided_velocity,
    init_velocity_field,
    integrate,
    integrate_inverse,
    interpolate,
    invert,
    velocity,
)
from safesweep.trainables.components.networks import Layers


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_field(value_dim: int, condition_dim: int, gain: float = 1.0) -> Layers:
    field = init_velocity_field(torch.Generator().manual_seed(0), value_dim, condition_dim, 32, 2)
    field[-1]["weight"] *= gain
    return field


def test_lines_run_from_noise_to_data() -> None:
    start, data = normal(5, 3), normal(5, 3, seed=1)
    torch.testing.assert_close(interpolate(start, data, torch.zeros(5)), start)
    torch.testing.assert_close(interpolate(start, data, torch.ones(5)), data)
    quarter = interpolate(start, data, torch.full((5,), 0.25))
    torch.testing.assert_close(quarter, 0.75 * start + 0.25 * data)


def test_the_error_of_a_constant_field_is_known() -> None:
    field = [{"weight": torch.zeros(2 + 1 + 1, 2), "bias": torch.tensor([1.0, -2.0])}]
    data, start = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    error = flow_matching_error(field, data, start, torch.tensor([0.3]), torch.zeros(1, 1))
    # The line's velocity is (2, -1): off by (-1, -1).
    torch.testing.assert_close(error, torch.tensor([2.0]))


def test_the_field_is_asked_at_the_lines_point_and_time() -> None:
    weight = torch.tensor([[1.0], [10.0], [100.0]])
    field = [{"weight": weight, "bias": torch.zeros(1)}]
    data, start, condition = torch.tensor([[4.0]]), torch.tensor([[2.0]]), torch.tensor([[3.0]])
    error = flow_matching_error(field, data, start, torch.tensor([0.5]), condition)
    # v = x + 10 i + 100 c at x = 3, i = 0.5, c = 3, against the velocity 2.
    torch.testing.assert_close(error, torch.tensor([(3.0 + 5.0 + 300.0 - 2.0) ** 2]))


def test_candidates_share_the_condition() -> None:
    field, values, condition = random_field(3, 2), normal(7, 5, 3), normal(5, 2, seed=1)
    together = velocity(field, values, 0.4, condition)
    for candidate in range(7):
        alone = velocity(field, values[candidate], torch.full((5,), 0.4), condition)
        torch.testing.assert_close(together[candidate], alone)


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_euler_steps_are_one_over_their_number(steps: int) -> None:
    """Algorithm 2 prints steps of n / N, which would sum to (N - 1) / 2 instead of 1."""
    start = normal(6, 2)
    end = integrate(lambda value, _: torch.ones_like(value), start, steps)
    torch.testing.assert_close(end, start + 1)
    times: list[float] = []

    def field(value: Tensor, time: float) -> Tensor:
        times.append(time)
        return torch.full_like(value, time)

    end = integrate(field, start, steps)
    assert times == pytest.approx([index / steps for index in range(steps)])
    torch.testing.assert_close(end, start + (steps - 1) / (2 * steps))


def test_euler_converges_to_the_solution() -> None:
    start = normal(6, 2)
    errors = [
        float((integrate(lambda value, _: -value, start, n) - start * torch.e**-1).abs().max())
        for n in (8, 16, 32)
    ]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)
    assert errors[2] == pytest.approx(errors[1] / 2, rel=0.1)


def test_the_inversion_returns_to_the_noise() -> None:
    weights, start, condition = random_field(3, 2, gain=16.0), normal(64, 3), normal(64, 2, seed=1)

    def field(value: Tensor, time: float) -> Tensor:
        return velocity(weights, value, time, condition)

    def gap(steps: int, corrections: int) -> float:
        end = integrate(field, start, steps)
        return float((integrate_inverse(field, end, steps, corrections) - start).abs().max())

    assert float((integrate(field, start, 16) - start).abs().mean()) > 0.3
    # Plainly backwards errs in the order of a step; corrected, it is the exact inverse.
    assert gap(64, 0) < 0.4 * gap(16, 0)
    assert gap(16, 0) > 1e-3
    assert gap(16, 20) < 1e-5
    assert gap(1, 0) > gap(4, 0)


def test_guidance_interpolates_and_overshoots() -> None:
    field, value = random_field(2, 3), normal(9, 2)
    condition, null = normal(9, 3, seed=1), torch.zeros(9, 3)
    free = velocity(field, value, 0.5, null)
    conditional = velocity(field, value, 0.5, condition)

    def guided(scale: float) -> Tensor:
        return guided_velocity(field, value, 0.5, condition, null, torch.tensor(scale))

    torch.testing.assert_close(guided(0.0), free)
    torch.testing.assert_close(guided(1.0), conditional)
    torch.testing.assert_close(guided(2.0), 2 * conditional - free)
    assert (conditional - free).abs().max() > 1e-2


def test_a_trained_field_keeps_two_modes_apart() -> None:
    """Data at -1 and +1 without a condition, and at the sign that the condition names."""
    torch.manual_seed(0)
    field = init_velocity_field(torch.Generator().manual_seed(0), 1, 2, 32, 2)
    leaves = [leaf.requires_grad_(True) for layer in field for leaf in layer.values()]
    optimizer = torch.optim.Adam(leaves, lr=5e-3)
    for _ in range(800):
        sign = torch.randint(0, 2, (256,))
        data = (2.0 * sign - 1).unsqueeze(-1)
        condition = torch.nn.functional.one_hot(sign, 2).float() * (torch.rand(256, 1) < 0.5)
        error = flow_matching_error(field, data, torch.randn(256, 1), torch.rand(256), condition)
        optimizer.zero_grad()
        error.mean().backward()
        optimizer.step()

    def sample(condition: Tensor) -> Tensor:
        with torch.no_grad():
            return integrate(
                lambda x, i: velocity(field, x, i, condition), torch.randn(500, 1), 32
            ).squeeze(-1)

    free = sample(torch.zeros(500, 2))
    assert ((free.abs() - 1).abs() < 0.3).float().mean() > 0.85
    assert 0.35 < (free > 0).float().mean() < 0.65
    positive = sample(torch.tensor([0.0, 1.0]).expand(500, 2))
    assert ((positive - 1).abs() < 0.3).float().mean() > 0.95


def test_generating_is_integrating_under_a_condition_and_inverting_undoes_it() -> None:
    field = init_velocity_field(torch.Generator().manual_seed(0), 2, 3, 16, 2)
    start, condition = torch.randn(6, 2), torch.randn(6, 3)
    made = generate(field, start, condition, 8, torch.nn.functional.gelu)
    by_hand = start
    for step in range(8):
        move = velocity(field, by_hand, step / 8, condition, torch.nn.functional.gelu)
        by_hand = by_hand + move / 8
    torch.testing.assert_close(made, by_hand)
    back = invert(field, made, condition, 8, 20, torch.nn.functional.gelu)
    torch.testing.assert_close(back, start, rtol=0, atol=1e-4)
