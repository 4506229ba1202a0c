"""LSPC keeps to what a plain reading of its paper came to, step by step (`tests.benchmarks.parity`
recorded it: same start, minibatches and noise; at most 2e-6 apart over 100 steps)."""

import json

import pytest
import torch

from tests.benchmarks.parity import RECORDED, Values, method_values, population

# Another processor rounds otherwise; a change of a loss shows itself within some steps.
TOLERANCE = 1e-4


def method_by_step(steps: int) -> list[Values]:
    """The losses of each step, and the mean size of what each network says after it."""
    run, found = population(steps), []
    for step in range(steps):
        run.advance(step + 1)
        losses = {name: float(value[0]) for name, value in run.take_metrics().items()}
        sizes = {n: float(v.double().abs().mean()) for n, v in method_values(run).items()}
        found.append({**losses, **sizes})
    return found


def test_every_step_is_the_papers() -> None:
    recorded: list[Values] = json.loads(RECORDED.read_text())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = method_by_step(len(recorded))
    finally:
        torch.set_num_threads(threads)
    assert len(recorded) == 100
    for step, expected in enumerate(recorded):
        for name, value in expected.items():
            assert found[step][name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), (
                step,
                name,
            )
