"""Each method's feasible set {V_h <= 0} against the true one of the boats.

Methods without a value of feasibility (LSPC, FLP, cloning) have no such set.
"""

from safesweep.analysis.ablations.engine.claim_builders import larger, value_within
from safesweep.analysis.ablations.engine.plots import draw_by_task
from safesweep.analysis.ablations.engine.settings import AblationSetting, settings_ablation
from safesweep.analysis.ablations.safefql.comparisons import (
    CALIBRATED,
    CALIBRATED_VALUES,
    NOMINAL,
    NOMINAL_VALUES,
    SMALL_TASKS,
    SMOKE_TASKS,
)

RECALL, PRECISION = "true_recall", "true_precision"
SPECIFICITY, DOOMED = "true_specificity", "true_infeasible_recall"

_FLRP, _FLRP_COST = "FLRP", "FLRP, cost value"
_R2PAC, _R2PAC_REACH = "R2PAC", "R2PAC, feasibility"
_SETTINGS = (
    AblationSetting(_FLRP, "flrp", {"feasibility": "hj"}),
    AblationSetting(_FLRP_COST, "flrp", {"feasibility": "cost_quantile"}),
    AblationSetting(_R2PAC, "r2pac", {"safety_metric": "cost"}),
    AblationSetting(_R2PAC_REACH, "r2pac", {"safety_metric": "feasibility"}),
    AblationSetting(NOMINAL, "safefql", NOMINAL_VALUES),
    AblationSetting(CALIBRATED, "safefql", CALIBRATED_VALUES),
)
_NAMES = [setting.name for setting in _SETTINGS]

FEASIBILITY = settings_ablation(
    "safesweep-feasibility",
    "What each method holds to be feasible, against the truth",
    "the method; FLRP with a quantile of the cost value in place of reachability, R2PAC with "
    "reachability in place of the cost value, SafeFQL with and without calibration",
    _SETTINGS,
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": SMALL_TASKS},
    draw_by_task(
        "The feasible set against the true one",
        (RECALL, PRECISION, SPECIFICITY, DOOMED),
        note="Over a uniform grid of states. Recall: truly feasible states that are declared so. "
        "Precision: declared states that are truly feasible. Specificity: infeasible states that "
        "are recognised; doomed are those of them that lie outside every obstacle.",
    ),
    (
        value_within(
            "finds-the-feasible",
            "Each method declares at least 90 % of the truly feasible states feasible.",
            _NAMES, RECALL, low=0.9,
        ),
        value_within(
            "declares-few-wrongly",
            "At least 95 % of the states that a method declares feasible are so.",
            _NAMES, PRECISION, low=0.95,
        ),
        larger(
            "reachability-sees-more-flrp",
            "FLRP recognises more of the doomed states by reachability than by a quantile of the "
            "cost value.",
            DOOMED, _FLRP, _FLRP_COST,
        ),
        larger(
            "reachability-sees-more-r2pac",
            "R2PAC recognises more of the doomed states by reachability than by its cost value.",
            DOOMED, _R2PAC_REACH, _R2PAC,
        ),
        larger(
            "calibration-sees-more",
            "Calibrated, SafeFQL recognises more of the doomed states.",
            DOOMED, CALIBRATED, NOMINAL,
        ),
        larger(
            "calibration-gives-up-states",
            "Calibrated, SafeFQL declares fewer of the truly feasible states feasible.",
            RECALL, NOMINAL, CALIBRATED,
        ),
    ),
    metrics=(RECALL, PRECISION, SPECIFICITY, DOOMED),
)  # fmt: skip
