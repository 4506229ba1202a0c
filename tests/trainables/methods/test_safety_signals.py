"""h(s) from costs and from margins."""

import torch

from safesweep.trainables.components.critics import feasible_bellman_target
from safesweep.trainables.methods.common_options import SafetySignalConfig
from safesweep.trainables.methods.safety_signals import safety_signal


def test_the_signal_is_two_levels_or_the_margin() -> None:
    config = SafetySignalConfig()
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    hp = config.hyperparameters_type()(**values)
    batch = {"costs": torch.tensor([0.0, 0.3, 1.0]), "safety_margins": torch.tensor([-2.0, 0, 7.0])}
    assert safety_signal("sparse", batch, hp).tolist() == [-1.0, 25.0, 25.0]
    assert safety_signal("exact", batch, hp).tolist() == [-2.0, 0.0, 7.0]


def test_a_margin_shifts_reachability_values_by_itself() -> None:
    """So that the threshold 0 asks values to be below minus the margin."""
    signal, following = torch.tensor([-1.0, -0.2, 25.0]), torch.tensor([-0.5, 0.3, -1.0])
    terminal, discount = torch.tensor([0.0, 0.0, 1.0]), torch.tensor(0.97)
    plain = feasible_bellman_target(signal, following, terminal, discount)
    shifted = feasible_bellman_target(signal + 0.3, following + 0.3, terminal, discount)
    torch.testing.assert_close(shifted, plain + 0.3)
    config = SafetySignalConfig(safety_margin=0.3)
    values = {name: torch.tensor(value) for name, value in config.batched_values().items()}
    batch = {"costs": torch.tensor([0.0, 1.0])}
    found = safety_signal("sparse", batch, config.hyperparameters_type()(**values))
    torch.testing.assert_close(found, torch.tensor([-0.7, 25.3]))
