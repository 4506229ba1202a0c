"""Every method on the same tasks and budget scale."""

from safesweep.analysis.ablations.engine.claim_builders import larger, value_within, within_limit
from safesweep.analysis.ablations.engine.plots import draw_by_task
from safesweep.analysis.ablations.engine.settings import (
    COST,
    REWARD,
    AblationSetting,
    settings_ablation,
)
from safesweep.trainables.tasks.registry import TASKS

_SAFE = ("FLRP", "LSPC-O", "R2PAC", "FLP", "SafeFQL")
# The boats, whose truth is known, and a simulator that both cores of a laptop can afford.
_SMALL_TASKS = ("BoatNavigation", "BallRun")
_CLONING = "BC"

METHODS = settings_ablation(
    "safesweep-methods",
    "Every method beside behaviour cloning",
    "the method; FLP with its cost constraint",
    (
        AblationSetting(_CLONING, "bc"),
        AblationSetting("FLRP", "flrp"),
        AblationSetting("LSPC-O", "lspc"),
        AblationSetting("R2PAC", "r2pac"),
        AblationSetting("FLP", "flp", {"safety": "lagrangian"}),
        AblationSetting("SafeFQL", "safefql"),
    ),
    {
        "smoke": ("BoatNavigation",),
        "small": _SMALL_TASKS,
        "paper": tuple(name for name, task in TASKS.items() if task.suite == "bullet"),
    },
    draw_by_task("Every method, our own runs"),
    (
        within_limit("safe", "Each safe method keeps its mean cost within the limit.", _SAFE),
        *(
            larger(
                f"{name.lower()}-costs-less", f"{name} costs less than cloning.",
                COST, _CLONING, name,
            )
            for name in _SAFE
        ),
        value_within(
            "reward",
            "Each safe method's normalised reward is above 0: on the boats a random policy's, "
            "elsewhere the poorest episode's of DSRL's data.",
            _SAFE, REWARD, low=0.0,
        ),
    ),
)  # fmt: skip
