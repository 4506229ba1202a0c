"""The hyperparameters of behaviour cloning."""

import math
from dataclasses import dataclass

from safesweep.trainables.methods.config import MethodConfig, batched, static

# Episodes that are cloned by what they cost, as multiples of the limit: above the first one (or
# equal to it, for risky ones), and at most the second one.
BY_LIMIT = {
    "safe": (-math.inf, 1.0),
    "boundary": (0.5, 1.5),
    "risky": (2.0, math.inf),
}
DATA = ("all", *BY_LIMIT, "frontier", "multi_task")


@dataclass(frozen=True)
class BehaviorCloningConfig(MethodConfig):
    """Hyperparameters of behaviour cloning; the defaults are OSRL's."""

    summary = "A deterministic policy fitted by least squares, in OSRL's setting."
    policies = ("bc",)

    batch_size: int = static(512, "transitions in a minibatch", source="OSRL", low=1, high=65536)
    learning_rate: float = batched(1e-3, "Adam's step size", source="OSRL", low=1e-8, high=1.0)
    discount: float = static(
        1.0, "discount of the episode costs that `data` looks at", source="OSRL",
        alias="gamma", low=0.0, high=1.0,
    )  # fmt: skip
    data: str = static(
        "all", "episodes to clone: every one; safe: those within the cost limit; boundary: those "
        "that cost 0.5 to 1.5 times as much; risky: at least twice as much; frontier: those whose "
        "return is near the best for their cost; multi_task: every one, and the policy is told "
        "what its episode costs", source="OSRL", choices=DATA,
    )  # fmt: skip
    frontier_degree: int = static(
        2, "degree of the polynomial through the best returns by cost", source="OSRL, by task",
        low=0, high=8,
    )  # fmt: skip
    frontier_range: float = static(
        0.2, "largest distance from it, as a share of the range of returns", source="OSRL",
        low=0.0, high=1.0,
    )  # fmt: skip

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.data in BY_LIMIT

    @property
    def acts_to_cost_limit(self) -> bool:
        return self.data == "multi_task"
