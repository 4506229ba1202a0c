"""The hyperparameters of CDT; the defaults are OSRL's, but for what it sets by task."""

from dataclasses import dataclass

from safesweep.trainables.methods.config import MethodConfig, batched, static


@dataclass(frozen=True)
class CDTConfig(MethodConfig):
    """Hyperparameters of CDT. Returns are in the data's unit, as the task's are."""

    summary = "Constrained decision transformer (CDT), one training for every cost limit."
    policies = ("cdt",)

    hidden_dim: int = static(
        128, "numbers of a token; the heads' number divides it", source="OSRL", low=1, high=8192
    )
    hidden_layers: int = static(3, "blocks of the transformer", source="OSRL", low=1, high=16)
    batch_size: int = static(2048, "windows in a minibatch", source="OSRL", low=1, high=65536)
    learning_rate: float = batched(1e-4, "Adam's step size", source="OSRL", low=1e-8, high=1.0)
    discount: float = static(
        1.0, "of the returns and costs to go", source="OSRL: undiscounted", alias="gamma",
        low=0.01, high=1.0,
    )  # fmt: skip
    reward_scaling: str = static(
        "none", "rewards of the task's unit (order one a step), or as the data has them",
        source="OSRL", choices=("normalized", "none"),
    )  # fmt: skip
    reward_scale: float = static(
        0.1, "factor of the rewards, on top of `reward_scaling`", source="OSRL", low=1e-6, high=1e6
    )
    attention_heads: int = static(8, "heads of the attention", source="OSRL", low=1, high=64)
    context_length: int = static(
        10, "steps of a window", source="OSRL", alias="L", low=1, high=1000
    )
    weight_decay: float = batched(
        1e-4, "AdamW's decay of the transformer", source="OSRL", low=0.0, high=10.0
    )
    gradient_norm: float = batched(
        0.25, "largest norm of the transformer's gradient", source="OSRL", low=1e-6, high=1e6
    )
    warmup_steps: float = batched(
        500.0, "steps in which the transformer's step size rises", source="OSRL", low=1.0, high=1e6
    )
    cost_prediction_weight: float = batched(
        0.02, "weight of predicting which steps cost", source="OSRL", low=0.0, high=100.0
    )
    initial_temperature: float = batched(
        0.1, "weight of the entropy at first", source="OSRL", low=1e-6, high=100.0
    )
    entropy_target: str = static(
        "per_dimension", "minus 1 a dimension, or minus their number where a mean is compared",
        source="published: OSRL", choices=("per_dimension", "published"),
    )  # fmt: skip
    cost_token_offset: float = static(
        50.0, "from which the cost to go is subtracted", source="OSRL", low=0.0, high=1e6
    )
    sampling_cost_bound: float = static(
        70.0, "episodes are drawn by how far their cost is below it; 0: all alike", source="OSRL",
        low=0.0, high=1e6,
    )  # fmt: skip
    augmented_share: float = static(
        0.2, "augmented episodes, as a share of the data's thinned ones", source="OSRL",
        low=0.0, high=10.0,
    )  # fmt: skip
    front_degree: int = static(
        2, "degree of the polynomial that is fitted to the Pareto front", source="OSRL, by task",
        low=0, high=10,
    )  # fmt: skip
    augmented_gain: float = static(
        1.0, "how far above the front augmented returns begin", source="OSRL", low=0.0, high=1e6
    )
    highest_augmented_return: float = static(
        0.0, "where augmented returns end; 0: at the data's highest", source="OSRL, by task",
        low=0.0, high=1e6,
    )  # fmt: skip
    largest_return_decrease: float = static(
        0.0, "how much less return an episode drawn in another's place has; 0: a tenth of the "
        "data's range", source="OSRL, by task", low=0.0, high=1e6,
    )  # fmt: skip
    targets: str = static(
        "data", "the wanted return: the best of the data's episodes within the limit, or given",
        source="ours; OSRL's are given, by task and limit", choices=("data", "given"),
    )  # fmt: skip
    target_return: float = static(
        0.0, "the return that is wanted at the task's lowest cost limit", source="OSRL, by task",
        low=-1e6, high=1e6,
    )  # fmt: skip
    second_target_return: float = static(
        0.0, "at its second limit", source="OSRL, by task", low=-1e6, high=1e6
    )
    third_target_return: float = static(
        0.0, "at its third limit", source="OSRL, by task", low=-1e6, high=1e6
    )

    @property
    def acts_to_cost_limit(self) -> bool:
        return True
