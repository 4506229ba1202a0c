"""The mean discrepancy of sets whose kernels are known."""

import math

import pytest
import torch

from safesweep.trainables.components.mean_discrepancy import SMALLEST_SQUARE, mean_discrepancy


def test_a_set_does_not_differ_from_itself() -> None:
    samples = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0))
    found = mean_discrepancy(samples, samples[torch.randperm(5)], torch.tensor(2.0))
    torch.testing.assert_close(
        found, torch.full((3,), math.sqrt(SMALLEST_SQUARE)), rtol=0.2, atol=0
    )


@pytest.mark.parametrize(
    ("kernel", "distance"), [("gaussian", 3.0**2 + 4.0**2), ("laplacian", 3.0 + 4.0)]
)
def test_of_two_points_it_is_known(kernel: str, distance: float) -> None:
    """Of point sets k(x, x) = 1, so that the square is 2 - 2 exp(-distance / (2 sigma))."""
    one = torch.tensor([[[0.0, 0.0]]])
    other = torch.tensor([[[3.0, -4.0]]])
    found = mean_discrepancy(one, other, torch.tensor(10.0), kernel)
    square = 2 - 2 * math.exp(-distance / 20) + SMALLEST_SQUARE
    assert float(found) == pytest.approx(math.sqrt(square))


def test_each_state_has_its_own() -> None:
    one, other = torch.zeros(2, 2, 1), torch.zeros(3, 2, 1)
    other[:, 1] = 5.0
    near, far = mean_discrepancy(one, other, torch.tensor(1.0)).tolist()
    assert near == pytest.approx(math.sqrt(SMALLEST_SQUARE)) and far > 1.0
