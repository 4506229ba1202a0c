"""R2PAC's figures: chunk length (2 and 5), threshold (4), extraction (9), cost metric (10), and the
data (6 and 7)."""

import numpy as np
import pandas

from safesweep.analysis.ablations.engine.claim_builders import (
    at_most_better,
    close,
    larger,
    rises,
    within_limit,
)
from safesweep.analysis.ablations.engine.episode_scatter import dataset_ablation, unsafe_share_claim
from safesweep.analysis.ablations.engine.plots import draw_along, draw_curves
from safesweep.analysis.ablations.engine.settings import (
    COST,
    REWARD,
    AblationSetting,
    along,
    settings_ablation,
)
from safesweep.analysis.ablations.r2pac.components import SMALL_TASKS, SMOKE_TASKS
from safesweep.analysis.claims import ON_AVERAGE, RESULTS, Claim, Finding, judge_trend

REWARD_Q, SAFETY_Q = "reward_q_mean", "safety_q_mean"
CHUNKS = (1, 3, 5, 7, 10, 15)
_EXTRACTION_TASKS = ("DroneRun", "DroneCircle", "CarGoal1", "CarGoal2", "CarPush1", "CarPush2")


def unsettled(results: pandas.DataFrame, task: str, metric: str) -> pandas.DataFrame:
    """How far a curve is from where it ends, on average along training and relative to where it
    ends: [seeds, settings], 0 for a curve that is there from the first point on."""
    rows = results[(results["task"] == task) & (results["metric"] == metric)]
    curves = rows.pivot_table(index=["seed", "x"], columns="step", values="value")
    end = curves.ffill(axis=1).iloc[:, -1]
    distance = curves.sub(end, axis=0).abs().mean(axis=1)
    return (distance / end.abs().where(end != 0)).unstack("x")


def _faster(name: str, statement: str, metric: str) -> Claim:
    def judge(results: pandas.DataFrame) -> list[Finding]:
        findings = []
        for task in dict.fromkeys(results.loc[results["metric"] == metric, "task"]):
            table = unsettled(results, task, metric)
            settings = [float(value) for value in table.columns]
            findings.append(judge_trend(task, table.to_numpy(np.float64), settings, rising=False))
        return findings

    estimand = "change of the distance along the settings (fitted line)"
    return Claim(name, statement, judge, RESULTS, ON_AVERAGE, estimand, (-np.inf, 0.0))


FIGURE_2 = settings_ablation(
    "r2pac-fig2",
    "How fast critics of longer chunks settle",
    "h (chunk_length) in 1, 3, 5, 7, 10, 15, with the vanilla value; the paper names only 1",
    along("r2pac", "chunk_length", CHUNKS, beside={"value": "vanilla", "critic_share": 0.95}),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("BallRun",)},
    draw_curves(
        "R2PAC figure 2",
        (REWARD_Q, SAFETY_Q),
        note="Means of the critics over minibatches. Settings: steps in a chunk.",
    ),
    (
        _faster(
            "reward-settles-sooner",
            "Q_r is nearer to where it ends, on average along training, the longer the chunk.",
            REWARD_Q,
        ),
        _faster(
            "cost-settles-sooner",
            "Q_c is nearer to where it ends, on average along training, the longer the chunk.",
            SAFETY_Q,
        ),
    ),
    metrics=(REWARD_Q, SAFETY_Q),
    curves=True,
    evaluations=20,
    # At a third of these steps the critics of long chunks have not settled.
    steps={"small": 7500},
    seeds={"small": range(6)},
)


QUANTILES = (0.25, 0.5, 0.9)

FIGURE_4 = settings_ablation(
    "r2pac-fig4",
    "The quantile that divides safe from unsafe",
    "alpha (quantile) in 0.25, 0.5, 0.9; of three values the paper prints 0.5",
    along("r2pac", "quantile", QUANTILES),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("BallRun",)},
    draw_curves("R2PAC figure 4", note="Settings: alpha."),
    (
        larger(
            "more-is-better-below",
            "alpha = 0.5 has a higher reward than 0.25.",
            REWARD,
            "0.5",
            "0.25",
        ),
        larger(
            "less-is-better-above", "alpha = 0.9 has a lower reward than 0.5.", REWARD, "0.5", "0.9"
        ),
        larger("above-costs-more", "alpha = 0.9 costs more than 0.5.", COST, "0.9", "0.5"),
    ),
    curves=True,
)


FIGURE_5 = settings_ablation(
    "r2pac-fig5",
    "The length of a chunk",
    "h (chunk_length) in 1, 3, 5, 7 (BallRun) and 1, 5, 10, 15 (CarGoal2): here all of them",
    along("r2pac", "chunk_length", CHUNKS),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": ("BallRun", "CarGoal2")},
    draw_along("R2PAC figure 5", "chunk length $h$"),
    (
        rises("reward-rises", "Reward rises with h.", REWARD),
        rises("cost-falls", "Cost falls as h grows.", COST, falls=True),
        larger(
            "chunks-have-higher-reward", "h = 5 has a higher reward than h = 1.", REWARD, "5", "1"
        ),
    ),
)


_BULLET = (
    "AntRun",
    "BallRun",
    "CarRun",
    "DroneRun",
    "AntCircle",
    "BallCircle",
    "CarCircle",
    "DroneCircle",
)
_GYMNASIUM = (
    "CarButton1",
    "CarButton2",
    "CarPush1",
    "CarPush2",
    "CarGoal1",
    "CarGoal2",
    "AntVelocity",
    "HalfCheetahVelocity",
    "SwimmerVelocity",
)
_DATA_CLAIMS = (
    unsafe_share_claim("many-unsafe", "At least a quarter of the episodes is unsafe.", 0.25),
    unsafe_share_claim("most-unsafe", "Most episodes are unsafe.", 0.5),
)

FIGURE_6 = dataset_ablation(
    "r2pac-fig6",
    "R2PAC figure 6: episodes of Bullet's datasets",
    {"smoke": SMOKE_TASKS, "small": ("CarRun", "BallRun"), "paper": _BULLET},
    _DATA_CLAIMS,
)

FIGURE_7 = dataset_ablation(
    "r2pac-fig7",
    "R2PAC figure 7: episodes of Safety-Gymnasium's datasets",
    {
        "smoke": SMOKE_TASKS,
        "small": ("BoatNavigation", "BoatNavigationHard", "SwimmerVelocity"),
        "paper": _GYMNASIUM,
    },
    _DATA_CLAIMS,
    note="Beside the boats, which stand for navigation below the paper's scale.",
)


FIGURE_9 = settings_ablation(
    "r2pac-fig9",
    "Two ways to extract the policy",
    "actor in cfg (ours by the paper), awr_flow",
    (
        AblationSetting("guidance", "r2pac", {"actor": "cfg"}),
        AblationSetting("AWR flow", "r2pac", {"actor": "awr_flow"}),
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": _EXTRACTION_TASKS},
    draw_curves("R2PAC figure 9"),
    (
        within_limit("both-are-safe", "Both are within the limit.", ["guidance", "AWR flow"]),
        close(
            "same-reward",
            "They earn the same, to 0.1 either way.",
            REWARD,
            "AWR flow",
            "guidance",
            0.1,
        ),
    ),
    curves=True,
)

FIGURE_10 = settings_ablation(
    "r2pac-fig10",
    "Cost value or feasibility as the measure of safety",
    "safety_metric in cost (ours by the paper), feasibility",
    (
        AblationSetting("cost value", "r2pac", {"safety_metric": "cost"}),
        AblationSetting("feasibility", "r2pac", {"safety_metric": "feasibility"}),
    ),
    {"smoke": SMOKE_TASKS, "small": SMALL_TASKS, "paper": _EXTRACTION_TASKS},
    draw_curves("R2PAC figure 10"),
    (
        within_limit("feasibility-is-safe", "Feasibility is within the limit.", ["feasibility"]),
        larger(
            "feasibility-has-lower-reward",
            "Feasibility has a lower reward.",
            REWARD,
            "cost value",
            "feasibility",
        ),
        at_most_better(
            "slightly-less",
            "Feasibility has a lower reward by at most 0.15.",
            REWARD,
            "feasibility",
            "cost value",
            low=-0.15,
        ),
    ),
    curves=True,
)

CURVES = (FIGURE_2, FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_7, FIGURE_9, FIGURE_10)
