"""What a method's losses are given, where a test has no population."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from safesweep.trainables.methods.method import Progress, StepInputs


def step_inputs(
    params: Any, state: Any, batch: Mapping[str, Tensor], hp: Any, noise: Mapping[str, Tensor]
) -> StepInputs:
    """The inputs of a phase's first step."""
    return StepInputs(params, state, batch, hp, noise, Progress(torch.zeros(()), None))
