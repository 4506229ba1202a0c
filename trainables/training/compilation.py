"""Compiling a population's gradient step: fewer and larger operations, for minutes of compiling."""

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo

# A method has some phases, and each is compiled twice: with Adam's step count as a constant, and
# with any.
GRAPHS = 64


def compiled(step: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """`step` as one graph for each phase, made when it is first called.

    Raises:
        Exception: later, on the first call, by torch: the step is not one graph, or there is no
            compiler on this machine.
    """
    # What was compiled for another population is of no use: graphs hold its networks' shapes.
    torch._dynamo.reset()
    # The step takes gradients itself.
    torch._dynamo.config.trace_autograd_ops = True
    torch._dynamo.config.recompile_limit = GRAPHS
    return torch.compile(step, fullgraph=True, backend=backend)
