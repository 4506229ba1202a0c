"""Quantiles against numpy's."""

import numpy as np
import pytest
import torch
from torch.func import vmap

from safesweep.trainables.components.quantiles import masked_quantile, quantile


@pytest.mark.parametrize("level", [0.0, 0.25, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_the_quantile_is_numpys(level: float, count: int) -> None:
    values = torch.randn(count, generator=torch.Generator().manual_seed(count))
    expected = np.quantile(values.numpy(), level)
    assert float(quantile(values, torch.tensor(level))) == pytest.approx(expected, abs=1e-5)


def test_each_member_has_its_own_quantile() -> None:
    levels = torch.tensor([0.1, 0.5, 1.0])
    together = vmap(quantile, in_dims=(None, 0))(torch.arange(11.0), levels)
    torch.testing.assert_close(together, torch.tensor([1.0, 5.0, 10.0]))


def test_the_masked_quantile_is_numpys_over_the_marked_values() -> None:
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=201), rng.random(201) < 0.4
    for level in (0.0, 0.25, 0.75, 1.0):
        found = masked_quantile(
            torch.tensor(values), torch.tensor(mask.astype(float)), torch.tensor(level)
        )
        expected = np.quantile(values[mask], level, method="inverted_cdf")
        assert float(found) == pytest.approx(expected)
    empty = masked_quantile(torch.tensor(values), torch.zeros(201), torch.tensor(0.5))
    assert float(empty) == 0.0
