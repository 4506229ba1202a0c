"""Schedules at the steps where their values are known."""

import pytest
import torch

from safesweep.trainables.components.schedules import constant, cosine, linear_warmup


def test_a_cosine_is_one_half_and_zero() -> None:
    steps = torch.tensor(100.0)
    found = [float(cosine(torch.tensor(float(step)), steps)) for step in (0, 50, 100, 150)]
    assert found == pytest.approx([1.0, 0.5, 0.0, 0.0], abs=1e-7)


def test_a_warmup_is_a_line_to_one() -> None:
    found = [float(linear_warmup(torch.tensor(float(step)), 4)) for step in range(6)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert float(constant(torch.tensor(7.0))) == 1.0
