"""Windows: a sample is some successive steps of one episode, gathered from flat columns.

Made when a minibatch is, since windows of every step would take as many times the memory of the
data as they are long.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def steps_left(terminals: Tensor, timeouts: Tensor) -> Tensor:
    """Steps from each one to the end of its episode, itself included: [N] -> float32 [N].

    Data that stop without an end end there.
    """
    count = len(terminals)
    steps = torch.arange(count)
    ends = (terminals > 0) | (timeouts > 0)
    # The end at or after each step; the last step where there is none.
    following = torch.where(ends, steps, count - 1).flip(0).cummin(0).values.flip(0)
    return (following - steps + 1).float()


def sums_to_go(values: Tensor, left: Tensor, discount: float = 1.0) -> Tensor:
    """sum_k discount^k v_{t + k} to the end of each step's episode: [N] -> [N].

    Args:
        left: what `steps_left` made.
    """
    steps = left.long()
    sums = values.double()
    # All last steps, all last but one, and so on; those of a length are few or none.
    counts = torch.bincount(steps)[1:].tolist()
    for rows in torch.split(steps.argsort(), counts)[1:]:
        sums[rows] += discount * sums[rows + 1]
    return sums.to(values.dtype)


def windows(
    columns: Mapping[str, Tensor], rows: Tensor, length: int, left: str = "steps_left"
) -> dict[str, Tensor]:
    """Of each of the rows [..., B] the window that begins there: columns [..., B, K, ...].

    `mask` [..., B, K] is 1 at steps of the row's episode and 0 beyond its end, where every column
    is 0.

    Args:
        columns: flat [N, ...], in time order.
        length: K.
        left: the column that `steps_left` made.
    """
    offsets = torch.arange(length, device=rows.device)
    steps = rows.unsqueeze(-1) + offsets
    mask = offsets < columns[left][rows].unsqueeze(-1)
    steps = steps.clamp(max=len(columns[left]) - 1)
    batch = {}
    for name, column in columns.items():
        values = column[steps]
        shown = mask.reshape(*mask.shape, *[1] * (column.dim() - 1))
        batch[name] = torch.where(shown, values, torch.zeros_like(values))
    return {**batch, "mask": mask.float()}
