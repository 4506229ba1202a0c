"""The hyperparameters of FLRP: what the paper prints, and what it leaves open."""

from dataclasses import dataclass

from safesweep.search_spaces.validation import InvalidInput
from safesweep.trainables.components.choices import REFINED_POLICIES, REFINEMENT_ORDERS
from safesweep.trainables.methods.common_options import SafetySignalConfig
from safesweep.trainables.methods.config import batched, static


@dataclass(frozen=True)
class FLRPConfig(SafetySignalConfig):
    """Hyperparameters of FLRP. "ours" marks what the paper does not print.

    `beta_r` and `beta_h` are the inverses of FISOR's temperatures 3 and 5, whose clips FLRP
    prints; its "target temperature 3" and "value temperature 5" are read as T_q and T_v.

    Density shaping (eq. 12) and the KL of eq. 11 pull on the same latents: of the encoded data
    E|u|^2 / d settles near beta w / (beta w + 2 shaping_weight W), with w and W their mean weights.
    With the 1 of eq. 13 that is 0.1 and less, and samples of the prior, of which it is 1, decode to
    actions that are in no data; a twentieth of beta leaves 0.8 to 1. With beta = 1 latents say
    next to nothing of actions (a divergence of 0.04 nats on BallRun), and there is nothing to
    refine.
    """

    summary = "Flow-guided latent refiner policies (FLRP sections 3.1 to 3.4, algorithm 1)."
    policies = ("flrp",)
    further_policies = tuple(REFINED_POLICIES)
    phase_shares = ("pretrain_share",)

    batch_size: int = static(512, "transitions in a minibatch", source="table 5", low=1, high=65536)
    feasibility_expectile: float = batched(
        0.9, "expectile of V_h", source="eq. 8, table 6", alias="tau_h", low=0.5, high=0.999
    )
    reward_expectile: float = batched(
        0.9, "expectile of V_r", source="eq. 21, table 6", alias="tau_r", low=0.5, high=0.999
    )
    target_update_rate: float = batched(
        0.001, "Polyak rate of the target networks", source="table 5", low=1e-6, high=1.0
    )
    feasibility: str = static(
        "hj", "Hamilton-Jacobi values, or cost values below a quantile (w/o HJ)", source="table 2",
        choices=("hj", "cost_quantile"),
    )  # fmt: skip
    feasible_quantile: float = batched(
        0.75, "quantile of zero-violation samples' cost values that bounds the feasible set",
        source="table 2", low=0.0, high=1.0,
    )  # fmt: skip
    prior: str = static(
        "flow", "flow prior, or z = u", source="tables 3 and 7", choices=("flow", "gaussian")
    )
    latent_dim: int = static(8, "dimensions of u and z", source="ours", low=2, high=512)
    coupling_layers: int = static(4, "coupling layers of a flow", source="ours", low=1, high=64)
    decoder_log_std_low: float = static(
        -3.0, "least log deviation of the decoder", source="ours", low=-20.0, high=2.0
    )
    decoder_log_std_high: float = static(
        0.0, "largest log deviation of the decoder", source="ours", low=-20.0, high=2.0
    )
    posterior_samples: int = static(
        1, "samples of z for the expectation over q", source="eq. 11", low=1, high=256
    )
    q_temperature: float = batched(
        3.0, "temperature of Q_h in w", source="eq. 11, table 6", alias="T_q", low=1e-3, high=1e3
    )
    v_temperature: float = batched(
        5.0, "temperature of V_h in w", source="eq. 11, table 6", alias="T_v", low=1e-3, high=1e3
    )
    kl_coefficient: float = batched(
        0.1, "weight of KL(q || p)", source="eq. 11; value ours", alias="beta", low=0.0, high=1e3
    )
    shaping_weight: float = batched(
        0.005, "weight of density shaping", source="eq. 13 has 1; value ours", low=0.0, high=1e3
    )
    reward_temperature: float = batched(
        1 / 3, "of the reward advantage", source="eq. 12, 15; value FISOR's",
        alias="beta_r", low=1e-3, high=1e3,
    )  # fmt: skip
    reward_weight_clip: float = static(
        100.0, "largest weight by reward", source="eq. 12, 15, table 6", low=1e-3, high=1e6
    )
    safety_temperature: float = batched(
        1 / 5, "of the safety advantage", source="eq. 14; value FISOR's",
        alias="beta_h", low=1e-3, high=1e3,
    )  # fmt: skip
    safety_weight_clip: float = static(
        150.0, "largest weight by safety", source="eq. 14, table 6", low=1e-3, high=1e6
    )
    entropy_weight: float = batched(
        0.1, "weight of the entropy floor", source="eq. 13; value ours",
        alias="lambda_H", low=0.0, high=1e3,
    )  # fmt: skip
    entropy_floor: float = batched(
        0.0, "least posterior entropy, nats a latent dimension", source="eq. 13; value ours",
        alias="H_0", low=-10.0, high=10.0,
    )  # fmt: skip
    refinement_steps: int = static(
        3, "refinement updates; 0 samples the prior", source="section 3.3, table 6",
        alias="T", low=0, high=64,
    )  # fmt: skip
    refiner_losses: str = static(
        "each_step", "of u after one step from wherever experts lead, or of u_T alone",
        source="eq. 14 to 16 are of u_T; figure 4 acts with other T",
        choices=("each_step", "last_step"),
    )  # fmt: skip
    evaluated_steps: str = static(
        "trained", "steps of refinement in evaluations: T, or 0, 1, 2, 5 and 10 as well",
        source="figures 3 and 4", choices=("trained", "several"),
    )  # fmt: skip
    refiner: str = static(
        "decoupled", "experts in turn, one network for the summed loss, or the experts' mean step",
        source="table 9b", choices=("decoupled", "unified", "averaged"),
    )  # fmt: skip
    refinement_order: str = static(
        "safety-reward-shared", "the last acts last, the first two alternate; random draws each",
        source="figure 3", choices=REFINEMENT_ORDERS,
    )  # fmt: skip
    decoder: str = static(
        "frozen", "in phase 2: frozen, or trained in turn with the refiner",
        source="table 9a", choices=("frozen", "alternating"),
    )  # fmt: skip
    reward_weight: float = batched(
        1.0, "weight of L_r", source="eq. 17, table 6", alias="lambda_r", low=0.0, high=1e3
    )
    safety_weight: float = batched(
        1.0, "weight of L_h", source="eq. 17, table 6", alias="lambda_h", low=0.0, high=1e3
    )
    shared_weight: float = batched(
        0.5, "weight of L_sh", source="eq. 17, table 6", alias="lambda_sh", low=0.0, high=1e3
    )
    pretrain_share: float = static(
        0.75, "part of the gradient steps in phase 1", source="ours", low=0.05, high=0.95
    )

    def __post_init__(self) -> None:
        low, high = self.decoder_log_std_low, self.decoder_log_std_high
        if low > high:
            raise InvalidInput(
                f"decoder_log_std_low: {low:g} is not allowed; it must be <= decoder_log_std_high, "
                f"which is {high:g}"
            )
