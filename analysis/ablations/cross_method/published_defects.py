"""What the known defects of OSRL's baselines, and of CAPS, do to cost and reward: each method as it
should be, with each of its defects, and as it is published.

What is wrong stands with each method in `trainables.methods`: CPQ's term of unlike actions has no
gradient; COptiDICE compares the cost of a step with the limit of an episode, and acts otherwise
than it fits; BCQ-Lag and BEAR-Lag take the smallest of several cost values; all but COptiDICE
bootstrap costs past the end of an episode. Of CAPS the standard deviations of its heads are not
learned.
"""

from typing import Any

from safesweep.analysis.ablations.engine.claim_builders import (
    difference_within,
    larger,
    within_limit,
)
from safesweep.analysis.ablations.engine.plots import draw_by_task
from safesweep.analysis.ablations.engine.settings import (
    COST,
    REWARD,
    AblationSetting,
    settings_ablation,
)
from safesweep.trainables.tasks.registry import TASKS

_BOTH = "as published"
Defect = tuple[str, str, str, str]
"""A hyperparameter, its right value, its published one, and what is wrong in a word."""

_BOOTSTRAP = ("cost_bootstrap", "done", "published", "costs past the end")
_SMALLEST = ("cost_aggregation", "max", "min", "smallest cost")
_DEFECTS: dict[tuple[str, str], tuple[Defect, Defect]] = {
    ("CPQ", "cpq"): (("ood", "gradient", "published", "no gradient"), _BOOTSTRAP),
    ("COptiDICE", "coptidice"): (
        ("cost_scale_of_limit", "per_step", "published", "loose limit"),
        ("policy_density", "squashed", "published", "other density"),
    ),
    ("BCQL", "bcql"): (_SMALLEST, _BOOTSTRAP),
    ("BEAR-Lag", "bearl"): (_SMALLEST, _BOOTSTRAP),
}


def _settings() -> tuple[AblationSetting, ...]:
    found = []
    for (name, algorithm), (one, other) in _DEFECTS.items():
        for first in (False, True):
            for second in (False, True):
                wrong = [d[3] for d, has in ((one, first), (other, second)) if has]
                label = _BOTH if len(wrong) == 2 else "".join(wrong)
                values: dict[str, Any] = {
                    one[0]: one[2 if first else 1], other[0]: other[2 if second else 1]
                }  # fmt: skip
                found.append(
                    AblationSetting(f"{name}, {label}" if label else name, algorithm, values)
                )
    for label, value in (("CAPS", "learned"), (f"CAPS, {_BOTH}", "published")):
        found.append(AblationSetting(label, "caps", {"deviations": value}))
    return tuple(found)


_CORRECT = [*(name for name, _ in _DEFECTS), "CAPS"]

PUBLISHED_DEFECTS = settings_ablation(
    "published-defects",
    "What the published defects of baselines do to cost and reward",
    "for each method, which of its known defects it has",
    _settings(),
    {
        "smoke": ("BoatNavigation",),
        "small": ("BallRun", "BoatNavigationCoarse"),
        "paper": tuple(name for name, task in TASKS.items() if task.suite == "bullet"),
    },
    draw_by_task("Methods without and with their published defects"),
    (
        within_limit(
            "correct-is-safe",
            "Without its defects each method keeps its mean cost within the limit.",
            _CORRECT,
        ),
        *(
            larger(
                f"{algorithm}-published-costs-more",
                f"As published {name} costs more than without its defects.",
                COST, f"{name}, {_BOTH}", name,
            )
            for name, algorithm in _DEFECTS
        ),
        difference_within(
            "caps-deviations-cost-no-more",
            "CAPS costs no more where the deviations of its heads are learned.",
            COST, ("CAPS", ""), (f"CAPS, {_BOTH}", ""), high=0.0,
        ),
        larger(
            "cpq-gradient-costs-less",
            "CPQ costs more where its term of unlike actions has no gradient.",
            COST, "CPQ, no gradient", "CPQ",
        ),
        larger(
            "coptidice-limit-costs-less",
            "COptiDICE costs more where the limit is an episode's beside the cost of a step.",
            COST, "COptiDICE, loose limit", "COptiDICE",
        ),
        larger(
            "coptidice-density-earns-more",
            "COptiDICE earns more where it acts as it fits.",
            REWARD, "COptiDICE", "COptiDICE, other density",
        ),
        *(
            larger(
                f"{algorithm}-smallest-costs-more",
                f"{name} costs more where the smallest of several cost values counts.",
                COST, f"{name}, smallest cost", name,
            )
            for name, algorithm in list(_DEFECTS)[2:]
        ),
        *(
            difference_within(
                f"{algorithm}-past-the-end-costs-no-more",
                f"Bootstrapping past the end, which makes cost values larger beside their limit, "
                f"does not raise the cost of {name}.",
                COST, (f"{name}, costs past the end", ""), (name, ""), high=0.0,
            )
            for name, algorithm in _DEFECTS
            if name != "COptiDICE"
        ),
    ),
)  # fmt: skip
