"""The schedule of the learning rate, over each phase's own steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from safesweep.trainables.methods.method import (
    Losses,
    MethodConfig,
    Phase,
    StepInputs,
    StepOutputs,
    batched,
    jointly,
)
from safesweep.trainables.tasks.registry import Task
from safesweep.trainables.training.continuation import reason_to_train_anew
from tests.trainables.conformance.extended_methods import OneNumber
from tests.trainables.conftest import MakeDataset
from tests.trainables.populations import make_population

STEPS, RATE = 100, 0.01


@dataclass(frozen=True)
class SlopesConfig(MethodConfig):
    learning_rate: float = batched(RATE, source="test", low=0.0, high=1.0)


class Slopes(OneNumber):
    """The gradient of each number is 1: Adam moves it by the learning rate in every step."""

    name = "slopes"
    config_class = SlopesConfig
    start: ClassVar[Mapping[str, float]] = {"early": 0.0, "late": 0.0}

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("first", 0.4, ("early",)), Phase("second", 0.6, ("late",)))

    @property
    def losses(self) -> Losses:
        return {"first": self.slope, "second": self.slope}

    def slope(self, inputs: StepInputs) -> StepOutputs:
        """The sum of both numbers."""
        values: list[Tensor] = [network["value"] for network in inputs.params.values()]
        return jointly({"loss/sum": torch.stack(values).sum()})


@pytest.mark.parametrize("rates", [(RATE,), (RATE, 2 * RATE)], ids=["alone", "together"])
def test_the_rate_falls_by_half_a_cosine_in_every_phase(
    rates: tuple[float, ...], boat_task: Task, make_dataset: MakeDataset
) -> None:
    """Half a cosine from 1 to 0 sums to half the steps, and half a step more."""

    def moved(schedule: str) -> dict[str, list[float]]:
        configs = [SlopesConfig(learning_rate=r, learning_rate_schedule=schedule) for r in rates]
        seeds = list(range(len(rates)))
        population = make_population(
            Slopes, configs, seeds, boat_task, make_dataset(boat_task), STEPS, 1.0
        )
        population.advance(STEPS)
        return {name: n["value"].tolist() for name, n in population.state["params"].items()}

    for schedule, shift in (("constant", 0.0), ("cosine", 0.5)):
        share = 1.0 if schedule == "constant" else 0.5
        for name, steps in (("early", 40), ("late", 60)):
            expected = [-rate * (share * steps + shift) for rate in rates]
            assert moved(schedule)[name] == pytest.approx(expected, rel=1e-3)


def test_a_longer_run_under_a_schedule_is_another_run() -> None:
    constant, cosine = SlopesConfig(), SlopesConfig(learning_rate_schedule="cosine")
    assert cosine.looks_at_budget and not constant.looks_at_budget
    reason = reason_to_train_anew(Slopes, cosine, 100, cosine, 200)
    assert reason == "it trains to its budget, which was 100 and is 200"
