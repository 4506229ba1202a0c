"""h(s) from costs and from margins."""

import torch

from safesweep.trainables.methods.safety_signals import SafetySignalConfig, safety_signal


def test_the_signal_is_two_levels_or_the_margin() -> None:
    config = SafetySignalConfig()
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    hp = config.hyperparameters_type()(**values)
    batch = {"costs": torch.tensor([0.0, 0.3, 1.0]), "safety_margins": torch.tensor([-2.0, 0, 7.0])}
    assert safety_signal("sparse", batch, hp).tolist() == [-1.0, 25.0, 25.0]
    assert safety_signal("exact", batch, hp).tolist() == [-2.0, 0.0, 7.0]
