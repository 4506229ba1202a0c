"""On what a population is trained."""

from safesweep.search_spaces.validation import require_choice
from safesweep.trainables.training.request import DEVICES


def pick_device(device: str) -> str:
    """`device`, or for "auto" the GPU when there is one."""
    require_choice("device", device, DEVICES)
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
