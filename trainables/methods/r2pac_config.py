"""The hyperparameters of R2PAC: what the paper prints, and what it leaves open."""

from dataclasses import dataclass

from safesweep.trainables.components.choices import ACTIVATION_NAMES
from safesweep.trainables.methods.common_options import NetworkConfig, ValueConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class R2PACConfig(ValueConfig, NetworkConfig):
    """Hyperparameters of R2PAC. "ours" marks what the paper does not print."""

    summary = "Region-based reward penalty over action chunks (R2PAC section 4, algorithms 1 to 3)."
    policies = ("r2pac",)
    phase_shares = ("critic_share",)

    hidden_dim: int = static(512, "units of a hidden layer", source="table 4", low=1, high=8192)
    hidden_layers: int = static(
        4, "hidden layers of critics and flow", source="table 4", low=1, high=16
    )
    activation: str = static(
        "gelu", "activation of hidden layers", source="table 4", choices=ACTIVATION_NAMES
    )
    batch_size: int = static(1024, "chunks in a minibatch", source="table 4", low=1, high=65536)
    chunk_length: int = static(
        5, "steps in a chunk", source="eq. 14, table 4", alias="h", low=1, high=100
    )
    done_signal: str = static(
        "terminals", "what ends an episode for the critics", source="appendix E.5, table 8",
        choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    expectile: float = batched(
        0.9, "expectile of V_r and V_c", source="eq. 11, 16, table 4",
        alias="tau", low=0.5, high=0.999,
    )  # fmt: skip
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target networks", source="table 4", low=1e-6, high=1.0
    )
    safety_metric: str = static(
        "cost", "what divides states into safe and unsafe", source="appendix E.6, eq. 43",
        choices=("cost", "feasibility"),
    )  # fmt: skip
    safety_margin: float = batched(
        0.0, "added to h(s) where the metric is feasibility", source="ours", low=0.0, high=1e3
    )
    threshold: str = static(
        "quantile", "l of the cost value: quantile in the data, or from the cost limit",
        source="section 4.3, eq. 42", choices=("quantile", "cost_limit"),
    )  # fmt: skip
    quantile: float = batched(
        0.9, "share of the data's states that V_c <= l calls safe", source="section 4.3, table 5",
        alias="alpha", low=0.0, high=1.0,
    )  # fmt: skip
    value: str = static(
        "penalized", "reward value: with the penalty, or without", source="eq. 15, table 2",
        choices=("penalized", "vanilla"),
    )  # fmt: skip
    penalty: float = batched(
        1.0, "penalty a step in the absorbing state, in scaled reward", source="eq. 7, table 5",
        alias="C", low=0.0, high=1e3,
    )  # fmt: skip
    penalty_base: str = static(
        "lowest_reward", "where the penalty counts from; zero is eq. 7 as printed", source="ours",
        choices=("lowest_reward", "zero"),
    )  # fmt: skip
    actor: str = static(
        "cfg", "policy and its loss", source="section 4.3, appendix E.2",
        choices=("cfg", "awr_gaussian", "awr_flow"),
    )  # fmt: skip
    unsafe_objective: str = static(
        "cost_value", "what the actor follows in unsafe states: V_c, or V_r as elsewhere",
        source="eq. 17, table 2", choices=("cost_value", "none"),
    )  # fmt: skip
    guidance_scale: float = batched(
        2.0, "guidance of `cfg`; 0 is the behaviour policy", source="eq. 21, table 4",
        alias="omega", low=0.0, high=20.0,
    )  # fmt: skip
    unconditional_share: float = batched(
        0.1, "share of samples that train `cfg` without its label", source="algorithm 1",
        low=0.0, high=1.0,
    )  # fmt: skip
    reward_temperature: float = batched(
        6.0, "factor of the reward advantage in `awr_*` exponents", source="eq. 40, appendix E.2",
        low=0.0, high=1e3,
    )  # fmt: skip
    cost_temperature: float = batched(
        6.0, "factor of the cost advantage in `awr_*` exponents", source="eq. 40, appendix E.2",
        alias="beta", low=0.0, high=1e3,
    )  # fmt: skip
    flow_steps: int = static(32, "Euler steps of the flow", source="table 4", low=1, high=1000)
    candidates: int = static(
        16, "chunks to choose the lowest Q_c from", source="table 4, table 6", low=1, high=1024
    )
    critic_share: float = static(
        0.5, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )

    @property
    def trains_to_cost_limit(self) -> bool:
        return self.safety_metric == "cost" and self.threshold == "cost_limit"
