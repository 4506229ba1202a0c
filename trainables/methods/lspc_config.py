"""The hyperparameters of LSPC: what the paper prints, and what its public code does."""

from dataclasses import dataclass

from safesweep.trainables.methods.common_options import NetworkConfig, ValueConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class LSPCConfig(ValueConfig, NetworkConfig):
    """Hyperparameters of LSPC.

    Where paper and public code differ or the paper is silent: rewards are not scaled and negative
    cost values are read as 0 (the public code's choices); time-outs are bootstrapped (ours; the
    public code ends the episode there). On the Bullet tasks but AntRun the paper takes epsilon 0.6
    for LSPC-O, and the public code for LSPC-S as well (`trainables.methods.paper_settings`).
    """

    summary = "Latent safety-prioritized constraints (LSPC sections 2.3, 3 and A.3, algorithm 2)."
    policies = ("lspc_o", "lspc_s", "cvae")

    batch_size: int = static(
        1024, "transitions in a minibatch", source="table 2", low=1, high=65536
    )
    target_update_rate: float = batched(
        0.005, "Polyak rate of the target Q networks", source="table 2", low=1e-6, high=1.0
    )
    expectile: float = batched(
        0.7, "expectile of V_r, V_c", source="eq. 39, 41, table 2", alias="xi", low=0.5, high=0.999
    )
    cost_inverse_temperature: float = batched(
        2.0, "sharpness of w_c", source="eq. 43, table 2", alias="lambda", low=0.0, high=1e3
    )
    reward_inverse_temperature: float = batched(
        2.0, "sharpness of w_r", source="eq. 44, table 2", alias="zeta", low=0.0, high=1e3
    )
    weight_clip: float = static(
        200.0, "largest weight of a pair", source="table 2", low=1e-3, high=1e6
    )
    latent_dim: int = static(32, "dimensions of z", source="A.3.1", low=1, high=512)
    kl_coefficient: float = batched(
        0.5, "weight of the CVAE's divergence", source="A.3.1", low=0.0, high=1e3
    )
    kl_reduction: str = static(
        "mean", "divergence over the latent dimensions: their mean or eq. 43's sum",
        source="public code", choices=("mean", "sum"),
    )  # fmt: skip
    restriction: float = batched(
        0.25, "half width of LSPC-O's box", source="A.3.1", alias="epsilon", low=1e-3, high=10.0
    )
    safe_restriction: float = batched(
        0.25, "half width of LSPC-S's box; 0: LSPC-O's", source="A.3.1", low=0.0, high=10.0
    )
    prior_restriction: str = static(
        "clamp", "how the prior is brought into the box of LSPC-S: clamped or truncated",
        source="public code", choices=("clamp", "truncate"),
    )  # fmt: skip
    safety_mask: bool = static(
        False, "leave out pairs with a cost value above the threshold", source="A.3, MetaDrive"
    )
    cost_threshold: float = batched(
        0.02, "cost value above which the cost weight is 0", source="A.3", low=0.0, high=1e6
    )
    role: str = static(
        "normal", "safe CVAE, or the converse", source="figure 5", choices=("normal", "converse")
    )
    clamp_costs: bool = static(True, "read negative cost values as 0", source="public code")
    clamp_in_regression: bool = static(
        False, "and inside V_c's own regression, where a negative value then learns nothing",
        source="public code; left out by ours",
    )  # fmt: skip
    done_signal: str = static(
        "terminals", "steps after which nothing follows",
        source="ours; public code: both", choices=("terminals", "terminals_and_timeouts"),
    )  # fmt: skip
    reward_scaling: str = static(
        "none", "rewards as they are, or of order one a step",
        source="public code; normalized is FISOR's", choices=("none", "normalized"),
    )  # fmt: skip
