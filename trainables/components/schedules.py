"""Learning-rate schedules, as factors of a rate, for one run: functions of the step.

A step is the number of gradient steps taken before, a scalar tensor, so that a compiled gradient
step takes it as an input. A factor is in [0, 1] and a scalar tensor as well.
"""

import math

import torch
from torch import Tensor


def constant(step: Tensor) -> Tensor:
    """1 at every step."""
    return torch.ones_like(step)


def cosine(step: Tensor, steps: Tensor | float) -> Tensor:
    """Half a cosine: from 1 at step 0 to 0 at `steps`, where it stays (Loshchilov and Hutter,
    2017, without restarts)."""
    share = (step / steps).clamp(max=1.0)
    return 0.5 * (1 + torch.cos(math.pi * share))


def linear_warmup(step: Tensor, steps: Tensor | float) -> Tensor:
    """A straight line to 1, which the `steps`-th step has; the first has 1 / steps, and those
    after it stay at 1. It multiplies another schedule, or stands alone."""
    return ((step + 1) / steps).clamp(max=1.0)
