"""Action chunks: h consecutive steps of one episode as one sample (R2PAC section 4.2)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.critics import feasible_bellman_target


def chunk_columns(
    data: Mapping[str, Tensor], chunk_length: int, timeouts_are_done: bool
) -> dict[str, Tensor]:
    """Samples of h consecutive steps, one for each step that can start a chunk.

    Chunks never cross the end of an episode. Where the episode is done within fewer than h steps,
    nothing that follows counts: the chunk is filled up with zeros and its value with nothing. Where
    it was only cut off (a time-out, or the end of the data), the missing actions would have
    counted, so that such a step starts no chunk.

    Args:
        data: columns [N, ...] of `Method.prepare`.
        chunk_length: h.
        timeouts_are_done: whether a time-out is done, as a terminal is.

    Returns:
        For K chunks: observations [K, o] and next_observations [K, o] before and after the chunk,
        actions [K, h * a] step by step, rewards, costs and dones [K, h]; `dones` is 1 at the step
        that ends the episode. Without a time-out being done, next_observations of a chunk that ends
        in one is the state reached there, so that its value may be counted.

    Raises:
        InvalidInput: no episode is long enough.
    """
    terminal, timeout = data["terminals"] > 0, data["timeouts"] > 0
    count = len(terminal)
    ends = terminal | timeout
    ends[-1] = True
    done = terminal | timeout if timeouts_are_done else terminal
    end_rows = torch.nonzero(ends).squeeze(-1)
    last = end_rows[torch.searchsorted(end_rows, torch.arange(count))]
    steps = torch.arange(chunk_length)
    whole = torch.arange(count) + chunk_length - 1 <= last
    starts = torch.nonzero(whole | done[last]).squeeze(-1)
    if len(starts) == 0:
        longest = int((last - torch.arange(count)).max()) + 1
        raise InvalidInput(
            f"chunk_length: {chunk_length} is not allowed; the longest episode has {longest} steps"
        )
    wanted = starts.unsqueeze(-1) + steps
    inside = wanted <= last[starts].unsqueeze(-1)
    rows = torch.minimum(wanted, last[starts].unsqueeze(-1))
    actions = data["actions"][rows] * inside.unsqueeze(-1)
    return {
        "observations": data["observations"][starts],
        "next_observations": data["next_observations"][rows[:, -1]],
        "actions": actions.flatten(1),
        "rewards": data["rewards"][rows] * inside,
        "costs": data["costs"][rows] * inside,
        "dones": (done[rows] & inside).float(),
    }


def chunk_target(rewards: Tensor, next_value: Tensor, dones: Tensor, discount: Tensor) -> Tensor:
    """sum_k gamma^k r_{t+k} + gamma^h V(s_{t+h}), without V where the chunk is done: -> [B].

    R2PAC eq. 14 sums gamma^k from k = t; the exponent counts from the chunk's start, as in eq. 15.

    Args:
        rewards: [B, h], or costs.
        next_value: V(s_{t+h}) [B].
        dones: [B, h].
        discount: gamma of one step.
    """
    length = rewards.shape[-1]
    weights = discount ** torch.arange(length, device=rewards.device)
    bootstrap = discount**length * (1 - dones.amax(-1)) * next_value
    return (rewards * weights).sum(-1) + bootstrap


def chunk_feasibility_target(
    safety_signals: Tensor, next_value: Tensor, dones: Tensor, discount: Tensor
) -> Tensor:
    """The one-step target (1 - gamma) h + gamma max(h, V_h) (R2PAC eq. 43) applied h times: -> [B].

    Args:
        safety_signals: h(s_{t+k}) [B, h].
        next_value: V_h(s_{t+h}) [B].
        dones: [B, h].
        discount: gamma of one step.
    """
    value = next_value
    for step in reversed(range(safety_signals.shape[-1])):
        value = feasible_bellman_target(
            safety_signals[..., step], value, dones[..., step], discount
        )
    return value
