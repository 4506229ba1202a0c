"""FLRP's refinement of latents: figures 2, 3, 4 and 7."""

import math

import pandas

from safesweep.analysis.ablations.engine.ablation import SCALES
from safesweep.analysis.ablations.engine.budgets import MORE_SEEDS, method_settings
from safesweep.analysis.ablations.engine.claim_builders import (
    at_most_better,
    close,
    deviation_smaller,
    judge_pairs,
    larger,
    rises,
)
from safesweep.analysis.ablations.engine.plots import draw_along, draw_by_task
from safesweep.analysis.ablations.engine.settings import (
    COST,
    REWARD,
    AblationSetting,
    along,
    settings_ablation,
)
from safesweep.analysis.ablations.flrp.comparisons import SMALL_TASKS, SMOKE_TASKS
from safesweep.analysis.claims import ON_AVERAGE, Claim, Finding

SAFETY_FIRST, REWARD_FIRST = "H R SH", "R H SH"
ORDERS = {
    SAFETY_FIRST: "safety-reward-shared",
    REWARD_FIRST: "reward-safety-shared",
    "random": "random",
}
UNREFINED = "unrefined"


def _refined_earn_more(results: pandas.DataFrame) -> list[Finding]:
    findings = []
    for order in ORDERS:
        findings += judge_pairs(results, REWARD, (order, ""), (UNREFINED, ""), low=0.0, part=order)
    return findings


FIGURE_3 = settings_ablation(
    "flrp-fig3",
    "The order in which the experts refine",
    "refinement_order: safety or reward first, a random permutation; and no refinement in acting",
    (
        *(
            AblationSetting(name, "flrp", {"refinement_order": order})
            for name, order in ORDERS.items()
        ),
        AblationSetting(UNREFINED, "flrp", {"refinement_order": ORDERS[SAFETY_FIRST]}, "unrefined"),
    ),
    {
        "smoke": SMOKE_TASKS,
        "small": SMALL_TASKS,
        "paper": ("BallCircle", "CarRun", "AntCircle", "DroneCircle"),
    },
    draw_by_task(
        "FLRP figure 3",
        note="H, R and SH are the safety, reward and shared experts. Unrefined: the run of "
        f"{SAFETY_FIRST} acts on its prior's samples.",
    ),
    (
        Claim(
            "refined-have-higher-reward",
            "Every order of refinement has a higher reward than no refinement.",
            _refined_earn_more,
            quantifier=ON_AVERAGE,
            estimand="mean difference of reward, paired by seed",
            margin=(0.0, math.inf),
        ),
        at_most_better(
            "safety-first-costs-no-more",
            "H, R, SH costs no more than R, H, SH (by at most 0.1 of the limit).",
            COST,
            SAFETY_FIRST,
            REWARD_FIRST,
            high=0.1,
        ),
        larger(
            "reward-first-has-highest-reward",
            "R, H, SH has a higher reward than H, R, SH.",
            REWARD,
            REWARD_FIRST,
            SAFETY_FIRST,
        ),
        larger(
            "reward-first-beats-random",
            "R, H, SH has a higher reward than a random order.",
            REWARD,
            REWARD_FIRST,
            "random",
        ),
        larger(
            "random-beats-safety-first",
            "A random order has a higher reward than H, R, SH.",
            REWARD,
            "random",
            SAFETY_FIRST,
        ),
        deviation_smaller(
            "random-varies-more",
            "A random order's reward varies more over seeds than H, R, SH's.",
            REWARD,
            SAFETY_FIRST,
            "random",
        ),
    ),
    seeds=MORE_SEEDS,
)


STEPS = {1: "refined_1", 2: "refined_2", 3: "flrp", 5: "refined_5", 10: "refined_10"}

FIGURE_4 = settings_ablation(
    "flrp-fig4",
    "The number of refinement steps",
    "T in acting: 1, 2, 3, 5, 10, of runs trained with T = 3; the paper prints no other values",
    tuple(
        AblationSetting(f"{steps}", "flrp", {"refinement_steps": 3}, policy, steps)
        for steps, policy in STEPS.items()
    ),
    {"smoke": SMOKE_TASKS, "small": ("BallRun",), "paper": ("CarCircle",)},
    draw_along(
        "FLRP figure 4", "refinement steps $T$", note="Trained with T = 3; T is set in acting."
    ),
    (
        rises("cost-falls", "Cost falls as T grows.", COST, falls=True),
        deviation_smaller(
            "cost-steadies",
            "With T = 10 cost varies less over seeds than with T = 1.",
            COST,
            "10",
            "1",
        ),
        larger(
            "many-steps-have-lower-reward",
            "T = 10 has a lower reward than T = 3.",
            REWARD,
            "3",
            "10",
        ),
    ),
)


_WEIGHTS = {"reward_weight": 1.0, "safety_weight": 1.0, "shared_weight": 0.5}
_SERIES = {
    "reward_weight": r"$\lambda_r$",
    "safety_weight": r"$\lambda_h$",
    "shared_weight": r"$\lambda_{sh}$",
}
_EXPERT_LEVELS, _SHARED_LEVELS = (0.25, 0.5, 1.0, 2.0, 4.0), (0.1, 0.25, 0.5, 1.0, 4.0)


def _weight_settings(scale: str) -> tuple[AblationSetting, ...]:
    """Each weight along its levels, the others at the scale's defaults."""
    own = method_settings(scale, "flrp")
    defaults = {name: own.get(name, weight) for name, weight in _WEIGHTS.items()}
    settings: tuple[AblationSetting, ...] = ()
    for name in _WEIGHTS:
        levels = _SHARED_LEVELS if name == "shared_weight" else _EXPERT_LEVELS
        # The scale's own value too, which is the run that all ablations share.
        chosen = sorted({*levels, defaults[name]})
        settings += along("flrp", name, chosen, beside=defaults, series=name)
    return settings


def _small_weights() -> str:
    own = method_settings("small", "flrp")
    reward, safety, shared = (f"{own[name]:g}" for name in _WEIGHTS)
    return f"{reward}, {safety} and {shared}"


FIGURE_7 = settings_ablation(
    "flrp-fig7",
    "The weights of the refiner's losses",
    "lambda_r, lambda_h (0.25 to 4) and lambda_sh (0.1 to 4), one at a time around the scale's "
    f"defaults: 1, 1 and 0.5 in the paper, {_small_weights()} at scale small; no others are "
    "printed",
    {scale: _weight_settings(scale) for scale in SCALES},
    {"smoke": SMOKE_TASKS, "small": ("BallRun",), "paper": ("CarRun",)},
    draw_along(
        "FLRP figure 7", "weight, the others at their defaults", series_labels=_SERIES, log=True
    ),
    (
        rises(
            "safety-weight-lowers-cost",
            "Cost falls as lambda_h grows.",
            COST,
            series="safety_weight",
            falls=True,
        ),
        rises(
            "reward-weight-raises-reward",
            "Reward rises with lambda_r.",
            REWARD,
            series="reward_weight",
        ),
        rises("reward-weight-costs", "Cost rises with lambda_r.", COST, series="reward_weight"),
        larger(
            "too-much-sharing-has-lower-reward",
            "lambda_sh = 4 has a lower reward than 0.5.",
            REWARD,
            "0.5",
            "4",
            series="shared_weight",
        ),
        larger(
            "too-much-sharing-costs-more",
            "lambda_sh = 4 costs more than 0.5.",
            COST,
            "4",
            "0.5",
            series="shared_weight",
        ),
        close(
            "reward-weight-is-not-abrupt",
            "Halving lambda_r changes reward by at most 0.1.",
            REWARD,
            "0.5",
            "1",
            0.1,
            series="reward_weight",
        ),
        close(
            "safety-weight-is-not-abrupt",
            "Halving lambda_h changes reward by at most 0.1.",
            REWARD,
            "0.5",
            "1",
            0.1,
            series="safety_weight",
        ),
    ),
)

LATENTS = (FIGURE_3, FIGURE_4, FIGURE_7)
