"""When longer training is shorter training carried on: step by step the same.

A run's minibatches and noise follow from its seed, its phase's first step and the step within the
phase. So two budgets train alike for as long as their phases do. Where the budget moves the end of
an earlier phase (a share of it, for most methods with two phases), a longer run is another run from
there on, and has to be trained anew.
"""

from typing import Any

from safesweep.trainables.methods.method import Method, MethodConfig, ProblemSpec
from safesweep.trainables.training.population import phase_boundaries


def shared_values(config: MethodConfig) -> dict[str, Any]:
    """The configuration without the fields that only say how phases divide the budget."""
    return {
        name: value for name, value in config.to_dict().items() if name not in config.phase_shares
    }


def reason_to_train_anew(
    method_class: type[Method],
    earlier: MethodConfig,
    earlier_steps: int,
    config: MethodConfig,
    steps: int,
) -> str | None:
    """Why a run of `steps` is not one of `earlier_steps` carried on; None where it is exactly.

    Args:
        earlier: the shorter run's configuration; it may differ from `config` in the shares of the
            phases, as long as every phase but the last ends at the same step.
    """
    if shared_values(earlier) != shared_values(config):
        return "the configurations differ"
    if config.looks_at_budget:
        return f"it trains to its budget, which was {earlier_steps} and is {steps}"
    # What a method knows of its problem does not reach its phases.
    problem = ProblemSpec(1, 1, 1, 1.0, 1.0)
    before = phase_boundaries(method_class(earlier, problem), earlier_steps)
    after = phase_boundaries(method_class(config, problem), steps)
    for (old, _, old_end), (new, _, new_end) in zip(before[:-1], after[:-1], strict=True):
        if (old.name, old_end) != (new.name, new_end):
            return (
                f"phase {old.name!r} ends at step {old_end} of {earlier_steps}, and at {new_end} "
                f"of {steps}"
            )
    if before[-1][0].concludes:
        return f"phase {before[-1][0].name!r} was concluded at step {earlier_steps}"
    return None
