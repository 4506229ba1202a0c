"""What the papers print of their hyperparameters, row by row, is what a field is by default.

Where it is not, the row gives the reason, and the default must indeed be another: a reason that is
no longer needed fails. Rows that no field answers to say what does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from safesweep.trainables.methods.registry import ALGORITHMS


@dataclass(frozen=True)
class Row:
    """One printed number: of which method, where, under which name, and how much.

    Attributes:
        field: what answers to it; empty where nothing does.
        reason: why the default is another, or why no field answers.
    """

    method: str
    where: str
    printed: str
    value: Any
    field: str = ""
    reason: str = ""


BUDGET = "the budget is the sweep's `steps`"
SEEDS = "seeds are the sweep's `seeds`"
EPISODES = "episodes are the sweep's `evaluate.episodes`"
LIMIT = "the limit is the sweep's or the task's `cost_limit`"
BUILT_IN = "the method is built so"
BY_TASK = "the paper sets it by task"

FLRP = [
    Row("flrp", "table 5", "training steps", 1_000_000, reason=BUDGET),
    Row("flrp", "table 5", "batch size", 512, "batch_size"),
    Row("flrp", "table 5", "discount factor", 0.99, "discount"),
    Row("flrp", "table 5", "activation function", "ReLU", reason=BUILT_IN),
    Row("flrp", "table 5", "hidden layer size", 256, "hidden_dim"),
    Row("flrp", "table 5", "soft update rate", 0.001, "target_update_rate"),
    Row("flrp", "table 5", "cost limit", None, reason="printed as a dash; it trains to none"),
    Row("flrp", "table 5", "actor learning rate", 3e-4, "learning_rate"),
    Row("flrp", "table 5", "critic learning rate", 3e-4, "learning_rate"),
    Row("flrp", "table 6", "expectile tau", 0.9, "reward_expectile"),
    Row("flrp", "table 6", "asymmetric L2 loss coefficient", 0.9, "feasibility_expectile"),
    Row("flrp", "table 6", "target temperature", 3.0, "q_temperature"),
    Row("flrp", "table 6", "value temperature", 5.0, "v_temperature"),
    Row("flrp", "table 6", "advantage weight clip (reward)", 100.0, "reward_weight_clip"),
    Row("flrp", "table 6", "advantage weight clip (cost)", 150.0, "safety_weight_clip"),
    Row("flrp", "table 6", "refine steps T", 3, "refinement_steps"),
    Row("flrp", "table 6", "refiner loss weight lambda_r", 1.0, "reward_weight"),
    Row("flrp", "table 6", "refiner loss weight lambda_h", 1.0, "safety_weight"),
    Row("flrp", "table 6", "refiner loss weight lambda_sh", 0.5, "shared_weight"),
    Row("flrp", "section 4, D.4, D.5", "cost limit kappa", 10, reason=LIMIT),
    Row("flrp", "D.5", "random seeds", 3, reason=SEEDS),
    Row("flrp", "D.5", "evaluation episodes per seed", 10, reason=EPISODES),
    Row("flrp", "section 5", "quantile of the variant without HJ", 0.75, "feasible_quantile"),
    Row("flrp", "D.5", "GPU", "8 RTX 6000 Ada", reason="a machine's, not a method's"),
]

LSPC_IN_FLRP = [
    Row("lspc", "FLRP table 5", "training steps", 1_000_000, reason=BUDGET),
    Row(
        "lspc", "FLRP table 5", "batch size", 512, "batch_size",
        "FLRP's setting of its baseline; LSPC's own table 2 prints 1024",
    ),
    Row("lspc", "FLRP table 5", "discount factor", 0.99, "discount"),
    Row("lspc", "FLRP table 5", "activation function", "ReLU", reason=BUILT_IN),
    Row("lspc", "FLRP table 5", "hidden layer size", 256, "hidden_dim"),
    Row("lspc", "FLRP table 5", "soft update rate", 0.005, "target_update_rate"),
    Row("lspc", "FLRP table 5", "cost limit", None, reason="printed as a dash; it trains to none"),
    Row("lspc", "FLRP table 5", "actor learning rate", 3e-4, "learning_rate"),
    Row("lspc", "FLRP table 5", "critic learning rate", 3e-4, "learning_rate"),
]  # fmt: skip

LSPC = [
    Row("lspc", "table 2", "batch size", 1024, "batch_size"),
    Row("lspc", "table 2", "discount factor", 0.99, "discount"),
    Row("lspc", "table 2", "soft update rate for Q-networks", 0.005, "target_update_rate"),
    Row("lspc", "table 2", "inverse temperature for reward", 2.0, "reward_inverse_temperature"),
    Row("lspc", "table 2", "inverse temperature for cost", 2.0, "cost_inverse_temperature"),
    Row("lspc", "table 2", "learning rates for all parameters", 3e-4, "learning_rate"),
    Row("lspc", "table 2", "asymmetric L2 loss coefficient xi", 0.7, "expectile"),
    Row("lspc", "table 2", "maximal weight, cost and reward", 200.0, "weight_clip"),
    Row("lspc", "A.3.1", "KL divergence coefficient", 0.5, "kl_coefficient"),
    Row("lspc", "A.3.1", "dimension of the latent space", 32, "latent_dim"),
    Row("lspc", "A.3.1", "restriction of LSPC-S", 0.25, "safe_restriction"),
    Row("lspc", "A.3.1", "restriction of LSPC-O", 0.25, "restriction"),
    Row("lspc", "A.3.1", "restriction of LSPC-O, Bullet", 0.6, "restriction", BY_TASK),
    Row("lspc", "A.3", "cost threshold of the mask", 0.02, "cost_threshold"),
    Row("lspc", "A.4", "cost limits, MetaDrive and Bullet", (10, 20, 40), reason=LIMIT),
    Row("lspc", "A.4", "cost limits, Safety-Gymnasium", (20, 40, 80), reason=LIMIT),
    Row("lspc", "section 5", "random seeds", 3, reason=SEEDS),
    Row("lspc", "figure 12", "episodes, transfer", 20, reason=EPISODES),
    Row("lspc", "A.3.4", "gradient steps", 1_000_000, reason=BUDGET),
    Row("lspc", "A.3.2", "gradient steps, role reversal", 300_000, reason=BUDGET),
]

# Table 5: alpha, the quantile of V_c, and C, the penalty, of every task that it lists.
R2PAC_TASKS = {
    "AntRun": (0.7, 1.0), "BallRun": (0.5, 1.0), "CarRun": (0.95, 1.0), "DroneRun": (0.7, 1.0),
    "AntCircle": (0.7, 1.0), "BallCircle": (0.85, 1.0), "CarCircle": (0.9, 1.0),
    "DroneCircle": (0.7, 1.0), "CarPush1": (0.9, 10.0), "CarPush2": (0.9, 10.0),
    "CarGoal1": (0.9, 10.0), "CarGoal2": (0.9, 10.0), "CarButton1": (0.8, 10.0),
    "CarButton2": (0.5, 10.0), "AntVelocity": (0.95, 1.0), "HalfCheetahVelocity": (0.99, 1.0),
    "SwimmerVelocity": (0.7, 1.0),
}  # fmt: skip

R2PAC = [
    Row("r2pac", "table 4", "learning rate", 3e-4, "learning_rate"),
    Row("r2pac", "table 4", "optimizer", "Adam", reason=BUILT_IN),
    Row("r2pac", "table 4", "gradient steps", 600_000, reason=BUDGET),
    Row("r2pac", "table 4", "minibatch size", 1024, "batch_size"),
    Row("r2pac", "table 4", "MLP dimensions, width", 512, "hidden_dim"),
    Row("r2pac", "table 4", "MLP dimensions, depth", 4, "hidden_layers"),
    Row("r2pac", "table 4", "nonlinearity", "gelu", "activation"),
    Row("r2pac", "table 4", "flow steps", 32, "flow_steps"),
    Row("r2pac", "table 4", "flow time distribution", "uniform", reason=BUILT_IN),
    Row("r2pac", "table 4", "guidance scale", 2.0, "guidance_scale"),
    Row("r2pac", "table 4", "generated candidates", 16, "candidates"),
    Row("r2pac", "table 4", "chunk length, HalfCheetahVelocity", 1, "chunk_length", BY_TASK),
    Row("r2pac", "table 4", "chunk length, all others", 5, "chunk_length"),
    Row("r2pac", "table 4", "expectile tau", 0.9, "expectile"),
    Row("r2pac", "table 4", "discount factor", 0.99, "discount"),
    Row("r2pac", "table 4", "target critic soft update", 0.005, "target_update_rate"),
    Row(
        "r2pac", "table 4", "reward scale, Car tasks of Safety-Gymnasium", 200.0,
        reason="rewards are scaled by the task's range of returns",
    ),
    Row(
        "r2pac", "table 4", "reward scale, all others", 1.0,
        reason="rewards are scaled by the task's range of returns",
    ),
    Row("r2pac", "table 4", "cost scale", 1.0, reason="costs are taken as they are"),
    Row("r2pac", "section 5.1", "cost limit, Safety-Gymnasium", 10, reason=LIMIT),
    Row("r2pac", "section 5.1", "cost limit, Bullet", 5, reason=LIMIT),
    Row("r2pac", "table 1", "random seeds", 3, reason=SEEDS),
    Row("r2pac", "table 1", "evaluation episodes", 20, reason=EPISODES),
    Row("r2pac", "section 4.3", "executed actions of a chunk", 1, reason=BUILT_IN),
    Row("r2pac", "algorithm 1", "share without a label", 0.1, "unconditional_share"),
    Row("r2pac", "E.2", "AWR temperature alpha", 6.0, "reward_temperature"),
    Row("r2pac", "E.2", "AWR temperature beta", 6.0, "cost_temperature"),
]  # fmt: skip
for task, (alpha, penalty) in R2PAC_TASKS.items():
    for field, printed in (("quantile", alpha), ("penalty", penalty)):
        usual = {"quantile": 0.9, "penalty": 1.0}[field]
        reason = "" if printed == usual else BY_TASK
        R2PAC.append(Row("r2pac", "table 5", f"{field}, {task}", printed, field, reason))

FLP = [
    Row("flp", "experimental setup", "best of N", 4, "candidates"),
    Row("flp", "main results", "alpha of the KL", 1.0, "kl_coefficient"),
    Row("flp", "evaluation protocol", "offline training steps", 1_000_000, reason=BUDGET),
    Row(
        "flp", "evaluation protocol", "online fine-tuning steps", 1_000_000,
        reason="`online_share` of the sweep's `steps`: half of flp-table2's",
    ),
    Row("flp", "table 1", "random seeds", 8, reason=SEEDS),
    Row("flp", "table 1", "evaluation rollouts", 50, reason=EPISODES),
    Row(
        "flp", "table 1", "evaluations averaged", (800_000, 900_000, 1_000_000),
        reason="the sweep's `evaluate.every` records them; what reads the tables averages",
    ),
]  # fmt: skip

PRINTED = [*FLRP, *LSPC_IN_FLRP, *LSPC, *R2PAC, *FLP]
"""SafeFQL's text at hand prints none, and behaviour cloning has no paper here."""


@pytest.mark.parametrize(
    "row", PRINTED, ids=lambda row: f"{row.method}, {row.where}, {row.printed}"
)
def test_a_printed_number_is_a_default_or_says_why_not(row: Row) -> None:
    config = ALGORITHMS[row.method].config_class
    defaults: Mapping[str, Any] = {entry["name"]: entry["default"] for entry in config.describe()}
    if not row.field:
        assert row.reason
    elif row.reason:
        assert defaults[row.field] != row.value, "the reason is no longer needed"
        config.resolve({row.field: row.value})
    else:
        assert defaults[row.field] == row.value


def test_a_default_that_the_paper_sets_by_task_is_one_of_the_printed() -> None:
    by_task = [(row.method, row.field) for row in PRINTED if row.reason == BY_TASK]
    for method, field in sorted(set(by_task)):
        printed = [r.value for r in PRINTED if (r.method, r.field) == (method, field)]
        assert ALGORITHMS[method].config_class().to_dict()[field] in printed


def test_a_field_that_names_a_table_is_in_it() -> None:
    """The other way round: what a field says of its source is printed there, with its value."""
    tables = {"table 2", "table 4", "table 5", "table 6"}
    missing = []
    for method in ("flrp", "lspc", "r2pac"):
        own = [row for row in PRINTED if row.method == method and row.where in tables]
        for entry in ALGORITHMS[method].config_class.describe():
            named = {table for table in tables if table in entry["source"]}
            ablation = method == "r2pac" and entry["name"] in R2PAC_ABLATED
            ablation = ablation or (method == "flrp" and entry["name"] in FLRP_ABLATED)
            rows = [row for row in own if row.field == entry["name"] and row.where in named]
            if named and not ablation and not rows:
                missing.append(f"{method}.{entry['name']}: {entry['source']}")
    assert not missing


# Tables 2 and 6 of R2PAC, and 2 of FLRP, compare variants; their fields choose among these.
R2PAC_ABLATED = ("value", "unsafe_objective")
FLRP_ABLATED = ("feasibility", "feasible_quantile")
