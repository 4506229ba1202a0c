"""The hyperparameters of behaviour cloning."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import MethodConfig, batched, static


@dataclass(frozen=True)
class BehaviorCloningConfig(MethodConfig):
    """Hyperparameters of behaviour cloning; the defaults are OSRL's."""

    summary = "A deterministic policy fitted by least squares, in OSRL's setting."
    policies = ("bc",)

    batch_size: int = static(512, "transitions in a minibatch", source="OSRL", low=1, high=65536)
    learning_rate: float = batched(1e-3, "Adam's step size", source="OSRL", low=1e-8, high=1.0)
    discount: float = static(
        1.0, "discount of the episode costs that `data: safe` looks at", source="OSRL",
        alias="gamma", low=0.0, high=1.0,
    )  # fmt: skip
    data: str = static(
        "all", "every episode, or those whose cost is within the limit", source="OSRL",
        choices=("all", "safe"),
    )  # fmt: skip

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.data == "safe"
