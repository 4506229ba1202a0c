"""The hyperparameters of FQL; the defaults are those of its public code."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import batched, static
from safesweep.trainables.methods.fql_options import FQLComparisonConfig


@dataclass(frozen=True)
class FQLConfig(FQLComparisonConfig):
    """Hyperparameters of FQL; the defaults are those of its public code."""

    summary = "Flow Q-learning; FBRAC and FAWAC are options of it. Knows no costs."
    policies = ("fql",)

    actor: str = static(
        "one_step", "what acts: a one-step network (FQL), the flow that climbs the critic (FBRAC) "
        "or one whose data are weighted (FAWAC)", source="FQL's comparison",
        choices=("one_step", "flow", "weighted_flow"),
    )  # fmt: skip
    behavior_weight: float = batched(
        10.0, "weight of the distillation, or of FBRAC's flow matching, beside the critic",
        source="public code; by task 10 to 1000", alias="alpha", low=0.0, high=1e5,
    )  # fmt: skip
    advantage_weight: float = batched(
        1.0, "factor of the advantage in FAWAC's exponent", source="ours", low=0.0, high=1e3
    )
    critic_aggregation: str = static(
        "mean", "how two target critics count", source="public code; AntMaze: minimum",
        choices=("mean", "minimum"),
    )  # fmt: skip
    normalize_q: bool = static(
        False, "divide the actor's reward term by the batch's mean |Q|", source="public code"
    )
    flow_steps: int = static(10, "Euler steps of the flow", source="public code", low=1, high=256)
